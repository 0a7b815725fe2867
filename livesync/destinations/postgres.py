"""The ``postgres`` destination: tables of JSONB documents with a full-text index.

A slice is one SQL transaction, and the agent's pointer is written in the same one: whatever
crashes, rows and pointer agree. A record is taken only if its position is equal to or greater than
what the tables have for the object, as a document or as a tombstone.

The slices of all agents that write into the same tables come one after the other: each holds the
lock of the table of pointers, so the rule of positions holds whoever writes. A runner that finds
its pointer moved by another one has lost its agent, and what it brought is rolled back. A runner
that freezes loses its transaction after the option ``idle_timeout_s``, and so its locks.

The rows are the tables', not an agent's: two agents of different audiences would overwrite and
delete each other's documents, so give each tables of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Verdict
from ..delivery.uploader import (
    DELIVERY_OPTIONS,
    FILE_OPTIONS,
    Delivery,
    HeldRow,
    RecordUploader,
    StoredPointer,
)
from ..errors import BatchRefused, DeliveryError, LeaseLost, RetryLater, ServiceRefuses
from ..options import Option
from ._attached import refused_files, verdicts
from ._postgres_files import MAX_VALUE_BYTES, HeldFiles, too_large
from ._postgres_rows import HeldRows
from ._postgres_server import Connection, Server
from ._postgres_tables import Tables

#: How long a statement waits for another writer.
LOCK_TIMEOUT_S: Final = 10.0

#: Everything holds for this transaction only, as a pooler may give the next one another session.
#: "Read committed", since the pointer is to be seen as it is once the lock is held. A constraint
#: that waited for the commit would refuse the slice and not the record.
_BEGIN: Final = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = {lock_ms};
SET LOCAL idle_in_transaction_session_timeout = {idle_ms};
SET CONSTRAINTS ALL IMMEDIATE;
LOCK TABLE {pointers} IN SHARE ROW EXCLUSIVE MODE
"""

_READ_POINTER: Final = "SELECT position, track_id, generation FROM {pointers} WHERE agent_id = %s"

_WRITE_POINTER: Final = """
INSERT INTO {pointers} (agent_id, position, track_id, generation) VALUES (%s, %s, %s, %s)
ON CONFLICT (agent_id) DO UPDATE SET
    position = excluded.position, track_id = excluded.track_id, generation = excluded.generation
"""

#: A right that the role lacks: the table's name and the right.
_LACKING_RIGHTS: Final = """
SELECT name, word FROM unnest(%s::text[]) AS name,
    unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS word
WHERE NOT has_table_privilege(format('%%I.%%I', %s::text, name), word) LIMIT 1
"""


class PostgresUploader(RecordUploader):
    """Carries records into tables of a PostgreSQL database; keeps the agent's pointer there."""

    keeps_pointer = True
    readable = True
    reads_documents = False
    takes_files = True

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self._server = Server.of(values["dsn"])
        self._tables = tables = Tables.of(values["schema"], values["table"])
        self._rows = HeldRows(tables)
        self._files = HeldFiles(tables)
        self._begin_sql = tables.sql(
            _BEGIN, lock_ms=_milliseconds(LOCK_TIMEOUT_S), idle_ms=_milliseconds(values["idle_timeout_s"])
        )
        self._read_pointer_sql = tables.sql(_READ_POINTER)
        self._write_pointer_sql = tables.sql(_WRITE_POINTER)
        self._opened = False
        self._connection: Connection | None = None
        self._in_slice = False
        self._batches_in_slice = 0
        #: What this agent's row of the pointers must be: as it was last read or written here.
        self._pointer: StoredPointer | None = None

    def open(self, delivery: Delivery) -> None:
        """Connect, and make the tables if they are not there.

        Raises:
            OptionError: The password is not where its option says.
            RetryLater: The server cannot be reached, or is not ready.
            ServiceRefuses: It does not let us in, or the tables cannot be made or are not ours.
        """
        self.close()
        super().open(delivery)
        self._opened = True
        try:
            with self._meaning():
                self._tables.make(self._connected(), self._server, self.agent.values["language"])
            self.read_pointer()
        except BaseException:
            self.close()
            raise

    def read_pointer(self) -> StoredPointer | None:
        """Return this agent's row of the pointers."""
        with self._meaning():
            self._pointer = self._stored_pointer(self._connected())
        return self._pointer

    def begin_slice(self, till: int) -> None:
        """Begin a slice; its SQL transaction begins with the first batch."""
        super().begin_slice(till)
        self._roll_back()

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        try:
            with self._meaning(of_a_batch=True):
                answer = self._write(self._begun(), batch)
        except (RetryLater, BatchRefused) as exc:
            self._keep_or_lose_slice(exc)
            raise
        self._batches_in_slice += 1
        return answer

    def end_slice(self, position: int | None) -> None:
        """Commit the slice's rows and, unless ``position`` is None, the pointer.

        Raises:
            LeaseLost: Another runner has moved the pointer since it was read.
        """
        if position is None and not self._in_slice:
            return
        pointer = self._pointer
        with self._whole_transaction() as connection:
            if position is not None:
                who = self.delivery
                pointer = StoredPointer(position, who.track_id, who.generation)
                connection.execute(
                    self._write_pointer_sql, (who.agent_id, position, who.track_id, who.generation)
                )
            self._files.end(connection)
        self._pointer = pointer

    def abandon_slice(self) -> None:
        """Roll the slice's rows back."""
        self._roll_back()

    def probe(self) -> str:
        """Return where the server is and its version, having looked whether the role may write."""
        tables, where = self._tables, self._server.where
        with self._meaning():
            connection = self._connected()
            lacking = connection.execute(_LACKING_RIGHTS, (tables.names, tables.schema)).fetchone()
        if lacking is not None:
            raise ServiceRefuses(
                f"{where}: the role may not {lacking[1]} in {tables.schema}.{lacking[0]}: grant it the right"
            )
        version = connection.info.parameter_status("server_version") or "of an unknown version"
        return f"{where}: PostgreSQL {version}, table {tables.schema}.{tables.table}"

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield the rows by ascending ids; some thousand at a time, as they are when they are read."""
        last = (after or "").partition("\0")[0]  # no row's id has a NUL: the same come after it
        while True:
            with self._meaning():
                page = self._rows.page(self._connected(), last, quick)
            if not page:
                return
            yield from page
            last = page[-1].object_id

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the rows of these objects."""
        with self._meaning():
            return self._rows.some(self._connected(), [key for key in object_ids if "\0" not in key])

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return the contents that neither the table nor the open slice has."""
        with self._meaning():
            return self._files.lacking(self._begun(), digests)

    def sweep(self, before: int) -> int | None:
        """Remove documents older than ``before``, leaving tombstones of that position."""
        with self._whole_transaction() as connection:
            removed = self._rows.sweep(connection, before)
            self._files.sweep(connection)
        return removed

    def close(self) -> None:
        """Close the connection; a slice that is still open is rolled back by the server."""
        self._opened = self._in_slice = False
        self._drop_connection()

    # -- the transaction of a slice --------------------------------------------------------------

    def _begun(self) -> Connection:
        """Return the connection within the slice's transaction: the lock is held, the pointer is ours."""
        if self._in_slice:
            # if it is broken, its next statement says so: a new one would lack the earlier batches
            assert self._connection is not None
            return self._connection
        try:
            connection = self._begin()
            if self._stored_pointer(connection) != self._pointer:
                raise LeaseLost(
                    f"another runner has moved the pointer of agent {self.delivery.agent_id!r} in"
                    f" {self._server.where} meanwhile: this run ends, the other one goes on"
                )
            self._files.begin(connection)
        except BaseException:
            self._roll_back()
            raise
        self._in_slice = True
        return connection

    def _begin(self) -> Connection:
        """Begin a transaction and return its connection: a new one where the last one broke meanwhile."""
        connection = self._connected()
        try:
            connection.execute(self._begin_sql)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
            connection = self._connected()
            connection.execute(self._begin_sql)
        return connection

    @contextmanager
    def _whole_transaction(self) -> Iterator[Connection]:
        """Yield the connection within the slice's transaction, which is committed, or else rolled back."""
        try:
            with self._meaning():
                connection = self._begun()
                yield connection
                ended = connection.execute("COMMIT").statusmessage
            if ended != "COMMIT":
                raise DeliveryError(f"{self._server.where} rolled the slice back, run again")
        except BaseException:
            self._roll_back()
            raise
        self._in_slice, self._batches_in_slice = False, 0

    def _keep_or_lose_slice(self, exc: DeliveryError) -> None:
        """See to the slice after a batch that was not written.

        Raises:
            DeliveryError: The server has rolled back the batches before it too. Were this batch
                alone tried again, the pointer would be moved past what is gone.
        """
        connection = self._connection
        lives = self._in_slice and connection is not None and _status(connection) == TransactionStatus.INTRANS
        earlier = self._batches_in_slice
        if lives and (earlier or isinstance(exc, BatchRefused)):
            return
        self._roll_back()  # nobody is to wait for our locks while we wait for the next try
        if earlier:
            raise DeliveryError(f"{exc}; the slice was rolled back, run again") from exc

    def _roll_back(self) -> None:
        """End the slice's transaction, if there is one; drop the connection if it is broken."""
        self._in_slice, self._batches_in_slice = False, 0
        connection = self._connection
        if connection is None or _status(connection) == TransactionStatus.IDLE:
            return
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        if _status(connection) != TransactionStatus.IDLE:
            self._drop_connection()

    # -- statements ------------------------------------------------------------------------------

    def _write(self, connection: Connection, batch: Batch) -> list[Verdict] | None:
        """Write one batch, all of it or nothing; return the verdicts, None: all accepted."""
        if sum(len(body) for body in batch.bodies if body is not None) > MAX_VALUE_BYTES:
            raise BatchRefused("larger than PostgreSQL takes at once")
        refused = refused_files(batch) | too_large(batch)
        good = batch.only([i for i, record in enumerate(batch) if record.object_id not in refused])
        self._files.bring(connection, good)
        with connection.transaction():  # a savepoint
            written = self._rows.write(connection, good)
            self._files.replace(connection, good, written)
        stale = {record.object_id for record in good} - written
        return verdicts(batch, stale, refused)

    def _stored_pointer(self, connection: Connection) -> StoredPointer | None:
        row = connection.execute(self._read_pointer_sql, (self.delivery.agent_id,)).fetchone()
        return None if row is None else StoredPointer(*row)

    # -- the connection --------------------------------------------------------------------------

    def _connected(self) -> Connection:
        """Return a connection, a new one if the last one broke."""
        if not self._opened:
            raise RuntimeError("open() comes before anything else")
        if self._connection is None or self._connection.closed:
            self._drop_connection()
            self._connection = self._server.connect(
                self.agent.secret("password"), self.agent.values["connect_timeout_s"]
            )
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _meaning(self, of_a_batch: bool = False) -> Iterator[None]:
        """Raise what an error of PostgreSQL means for the delivery."""
        try:
            yield
        except psycopg.Error as exc:
            meant = self._server.meaning(exc)
            if meant is exc:
                raise
            if isinstance(meant, BatchRefused) and not of_a_batch:
                meant = ServiceRefuses(f"{self._server.where}: {meant.reason}")
            raise meant from exc


def _status(connection: Connection) -> TransactionStatus:
    return connection.info.transaction_status


def _milliseconds(seconds: float) -> sql.Literal:
    return sql.Literal(max(1, round(seconds * 1000)))


class PostgresAgent(PushSyncAgent):
    """Keeps PostgreSQL tables with the documents as JSONB, searchable, and their files."""

    options = (
        Option(
            "dsn",
            help="where the database is, as libpq takes it, without a password",
            required=True,
            identifies=True,
        ),
        Option("password", "secret", help="the role's password, unless libpq finds it"),
        Option(
            "schema", help="the tables' schema; made when it is not there", default="public", identifies=True
        ),
        Option(
            "table",
            help="the documents' table, and what the names of the others begin with",
            default="documents",
            identifies=True,
        ),
        Option("language", help="text search configuration of the full text", default="simple"),
        Option("connect_timeout_s", "int", help="seconds to wait for a connection", default=10, minimum=1),
        Option(
            "idle_timeout_s",
            "float",
            help="seconds that the server waits for the next batch before it takes a slice's locks back",
            default=60.0,
            minimum=0.001,
        ),
        *FILE_OPTIONS,
        *DELIVERY_OPTIONS,
    )
    uploader = PostgresUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        Server.of(self.values["dsn"])
        Tables.of(self.values["schema"], self.values["table"])
