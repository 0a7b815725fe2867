"""The ``sqlite`` destination: one file with the documents and a full-text index of them.

A slice is one SQL transaction, and the agent's pointer is written in the same one: whatever
crashes, rows and pointer agree. A record is taken only if its position is equal to or greater than
what the file has for the object, as a document or as a tombstone.

The rows are the file's, not an agent's: two agents of different audiences that share a file would
overwrite and delete each other's documents, so give each a file of its own. (``pointers`` has a
row for each agent all the same: one that is replaced by another leaves its row behind.)
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

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
from ..errors import DeliveryError, LeaseLost
from ..options import Option
from ..words import plural
from ._attached import refused_files, verdicts
from ._sqlite_attached import FileTables, has_file_tables, make_file_tables, sweep_files
from ._sqlite_file import (
    delivery_error,
    open_for_reading,
    open_for_writing,
    refuse_unwritable,
    tie_index,
)
from ._sqlite_reading import read_rows, read_rows_of
from ._sqlite_tables import DocumentTables
from ._text import document_text as document_text

#: Most of a file that is mapped into memory when its rows are read: they lie in another order than
#: their ids, and copying a page for each takes half of the time. The pages are the system's to drop.
_MAPPED_BYTES = 2**31 - 2**16

#: The pointer has not been looked at yet.
_UNREAD = StoredPointer(-2, "", -1)


class SQLiteUploader(RecordUploader):
    """Carries records into an SQLite file; keeps the agent's pointer there."""

    keeps_pointer = True
    readable = True
    takes_files = True

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self.path: str = agent.values["path"]
        self._opened: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._batches_in_slice = 0
        self._documents: DocumentTables | None = None
        self._files: FileTables | None = None
        #: The agent's row of ``pointers`` as this uploader knows it: nobody else may have touched it.
        self._pointer: StoredPointer | None = _UNREAD

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            raise RuntimeError("open() comes before anything else")
        return self._opened

    def open(self, delivery: Delivery) -> None:
        """Open the file, making it if it is not there.

        Raises:
            ServiceRefuses: It cannot be used, or is not ours.
            RetryLater: It cannot be used now.
        """
        super().open(delivery)
        self._pointer = _UNREAD
        self._opened = open_for_writing(self.path)
        if self.agent.values.get("files"):
            with self._meaning():
                make_file_tables(self._opened)

    def read_pointer(self) -> StoredPointer | None:
        """Return this agent's row of ``pointers``; until it is read again, nobody else may change it."""
        with self._meaning():
            self._pointer = self._stored_pointer()
        return self._pointer

    def _stored_pointer(self) -> StoredPointer | None:
        row = self._connection.execute(
            "SELECT position, track_id, generation FROM pointers WHERE agent_id = ?",
            (self.delivery.agent_id,),
        ).fetchone()
        return None if row is None else StoredPointer(row[0], row[1] or "", row[2] or 0)

    def begin_slice(self, till: int) -> None:
        """Begin a slice; its SQL transaction begins with the first batch."""
        super().begin_slice(till)
        self._batches_in_slice = 0

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        refused = refused_files(batch)
        try:
            with self._meaning():
                documents = self._begin()
                with self._wholly():
                    plan = documents.take(batch, refused)
                    if self._files is not None:
                        self._files.store(plan.taken)
                        self._files.remove([object_id for object_id, _ in plan.buried])
        except DeliveryError as exc:
            if self._batches_in_slice and not self._connection.in_transaction:
                # A full disk may end the whole transaction. Were this batch alone tried again, the
                # pointer would be moved past batches that are gone: the slice must be repeated.
                raise DeliveryError(f"{exc}; the slice was rolled back, run again") from exc
            raise
        self._batches_in_slice += 1
        return verdicts(batch, plan.stale, refused)

    def end_slice(self, position: int | None) -> None:
        """Commit the slice's rows and, unless ``position`` is None, the pointer.

        Raises:
            LeaseLost: Another runner has moved the pointer meanwhile; everything is rolled back.
        """
        with self._meaning():
            self._begin()
            if self._files is not None:
                self._files.drop_unnamed()
            pointer = self._pointer if position is None else self._move_pointer(position)
            self._connection.execute("COMMIT")
        self._pointer = pointer
        self._batches_in_slice = 0

    def _move_pointer(self, position: int) -> StoredPointer:
        """Write the agent's pointer, in the slice's transaction."""
        who = self.delivery
        stored = self._stored_pointer()
        if stored != self._pointer:
            self._connection.execute("ROLLBACK")
            raise LeaseLost(
                f"another runner of agent {who.agent_id!r} has written to {self.path} meanwhile:"
                " nothing of this slice was kept"
            )
        self._connection.execute(
            "INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?)",
            (who.agent_id, position, who.track_id, who.generation),
        )
        return StoredPointer(position, who.track_id, who.generation)

    def abandon_slice(self) -> None:
        """Roll the slice's rows back."""
        self._batches_in_slice = 0
        if self._opened is not None and self._opened.in_transaction:
            with self._meaning():
                self._opened.execute("ROLLBACK")

    def sweep(self, before: int) -> int | None:
        """Remove documents older than ``before``, leaving tombstones of that position."""
        connection = self._connection
        old = "SELECT rowid FROM documents WHERE position < ?"
        with self._meaning():
            self._begin()
            untied = connection.execute(
                "SELECT 1 FROM documents d LEFT JOIN documents_fts f ON f.rowid = d.rowid"
                " WHERE d.position < ? AND f.object_id IS NOT d.object_id LIMIT 1",
                (before,),
            ).fetchone()
            if untied:
                tie_index(connection)
            connection.execute(
                "INSERT OR REPLACE INTO tombstones SELECT object_id, ? FROM documents WHERE position < ?",
                (before, before),
            )
            connection.execute(f"DELETE FROM documents_fts WHERE rowid IN ({old})", (before,))  # noqa: S608
            removed = connection.execute("DELETE FROM documents WHERE position < ?", (before,)).rowcount
            if self._files is not None:
                sweep_files(connection)
            connection.execute("COMMIT")
        return removed

    def probe(self) -> str:
        """Return SQLite's version and the number of documents.

        Raises:
            ServiceRefuses: The file cannot be written.
            RetryLater: It cannot be read now.
        """
        refuse_unwritable(self.path)
        with self._meaning():
            documents = self._connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        return f"SQLite {sqlite3.sqlite_version}, {plural(documents, 'document')} in {self.path}"

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield the rows of ``documents`` by ascending ids.

        The digest is made anew of what the row says. It is "" where the full-text index has another
        text than the document, or none: sending that object again mends it.
        """
        with self._meaning():
            yield from read_rows(self._reader(), after, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the rows of these objects."""
        with self._meaning():
            return read_rows_of(self._reader(), object_ids)

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return the contents that the file lacks; what it has stays until the slice ends."""
        with self._meaning():
            self._begin()
            return digests if self._files is None else self._files.missing(digests)

    def close(self) -> None:
        """Close the file; a slice that is still open is rolled back."""
        opened, reading = self._opened, self._reading
        self._opened = self._reading = None
        if reading is not None:
            reading.close()
        if opened is not None:
            opened.close()

    def _reader(self) -> sqlite3.Connection:
        """Return a connection of its own for reading: it may look into the file as if it were memory."""
        if self._reading is None:
            self._reading = open_for_reading(self.path)
            self._reading.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        return self._reading

    def _begin(self) -> DocumentTables:
        """Begin a transaction unless one is open; it takes the write lock at once."""
        connection = self._connection
        if self._documents is not None and connection.in_transaction:
            return self._documents
        self._documents = None
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._pointer is _UNREAD:
                self._pointer = self._stored_pointer()
            self._files = FileTables(connection) if has_file_tables(connection) else None
            self._documents = DocumentTables(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return self._documents

    @contextmanager
    def _wholly(self) -> Iterator[None]:
        """Take back what was done inside when anything is raised: what is tried again begins anew."""
        self._connection.execute("SAVEPOINT batch")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO batch")
                self._connection.execute("RELEASE batch")
            raise
        self._connection.execute("RELEASE batch")

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """Raise what an error of SQLite means for the delivery."""
        try:
            yield
        except sqlite3.Error as exc:
            raise delivery_error(exc, self.path) from exc


@dataclass(frozen=True, slots=True)
class Hit:
    """One object that a search found.

    Attributes:
        object_id: Which.
        score: How well it fits; greater is better, only good for comparing hits of one search.
        snippet: The part of its text that fits, the found words in square brackets.
    """

    object_id: str
    score: float
    snippet: str


def search(path: str | os.PathLike[str], query: str, limit: int = 10) -> list[Hit]:
    """Search the full-text index in the file at ``path``.

    Args:
        path: The file of a ``sqlite`` destination; it is only read.
        query: In the language of FTS5: words (all must be there), ``"a phrase"``, ``OR``, ``NOT``,
            ``pref*``.
        limit: Most hits.

    Returns:
        The hits, the best first.

    Raises:
        ValueError: ``query`` is no query.
        ServiceRefuses: There is no index of livesync at ``path``.
        RetryLater: It cannot be read now.
    """
    path = os.fspath(path)
    with closing(open_for_reading(path)) as connection:
        try:
            rows = connection.execute(
                "SELECT object_id, -rank, snippet(documents_fts, 1, '[', ']', '…', 12)"
                " FROM documents_fts WHERE documents_fts MATCH ? ORDER BY rank LIMIT ?",
                (query, limit),
            ).fetchall()
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                raise ValueError(
                    f"{query!r} is no search ({exc}): words, or a phrase in double quotes"
                ) from None
            raise delivery_error(exc, path) from exc
    return [Hit(object_id, score, " ".join(snippet.split())) for object_id, score, snippet in rows]


class SQLiteAgent(PushSyncAgent):
    """Keeps an SQLite file with the documents and a full-text index of them: the embedded default."""

    options = (
        Option("path", "path", help="SQLite file; made when it is not there", required=True, identifies=True),
        *FILE_OPTIONS,
        *DELIVERY_OPTIONS,
    )
    uploader = SQLiteUploader
