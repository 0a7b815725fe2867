"""Drain: a backlog delivered by an agent, beside a bare loop that does the same work by hand.

The bare loop knows the ids. It loads the same objects in the same order, a fresh transaction a
batch, makes the same documents, encodes them with the fastest encoder that gives the same bytes,
and sends them in the same batches and SQL transactions. It reads no track, keeps no pointer,
checks nothing and could not be interrupted.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import requests
import transaction

from livesync.delivery.slices import SLICE_SIZE
from livesync.delivery.uploader import DEFAULT_BATCH_SIZE
from livesync.destinations.http import HTTPAgent
from livesync.destinations.sqlite import SQLiteAgent, document_text
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, document, fill, install, opened, record, talk_ids, without_fsync
from .receiver import received, receiving
from .rows import Row, check
from .timing import Time, median_ratio, timed

TITLE = "drain: a backlog delivered, beside a bare loop with the same objects, documents, bytes and batches"
QUICK = {"actions": 300, "repeats": 1, "per_commit": 50}

_LIMIT = 0.75
_AGENT = "bench"
_LINE = b'{"op":"upsert","id":%b,"position":%d,"document":%b}\n'

Batch = list[tuple[str, dict[str, Any], bytes]]
Drain = Callable[[Any, Sequence[str]], Any]


def measure(actions: int = 100_000, repeats: int = 3, per_commit: int = 100) -> list[Row]:
    """Return the rates of both sides for ``sqlite`` and ``http``, and their ratios.

    Args:
        actions: How many, each on an object of its own.
        repeats: How often, the two sides in turn, each on a fresh copy of the database.
        per_commit: Actions a host transaction.
    """
    ids = talk_ids(actions)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, receiving() as url:
        directory = Path(name)
        agents = {
            "sqlite": SQLiteAgent(_AGENT, path=os.fspath(directory / "ours.sqlite")),
            "http": HTTPAgent(_AGENT, url=url),
        }
        rows: list[Row] = []
        for kind, agent in agents.items():
            backlog = directory / f"{kind}.fs"
            with without_fsync(), opened(backlog) as db:
                fill(db, ids)
                install(db, agent)
                record(db, ids, per_commit)
            ours, bare = [], []
            for _ in range(repeats):
                ours.append(_timed(directory, backlog, ids, _run_agent))
                got = _delivered(kind, directory / "ours.sqlite", url)
                send = _BareSQLite(directory / "bare.sqlite") if kind == "sqlite" else _BareHTTP(url)
                bare.append(_timed(directory, backlog, ids, send))
                wanted = _delivered(kind, directory / "bare.sqlite", url)
                check(got == wanted, f"{kind}: the agent delivered something else than the bare loop")
            rows += _rows(kind, actions, ours, bare)
    return rows


def _rows(kind: str, actions: int, ours: list[Time], bare: list[Time]) -> list[Row]:
    return [
        Row(f"{kind}: bare loop", actions / median(each.wall_s for each in bare), "actions/s"),
        Row(f"{kind}: agent, collect included", actions / median(each.wall_s for each in ours), "actions/s"),
        Row(
            f"{kind}: agent's rate to the loop's",
            median_ratio([each.wall_s for each in bare], [each.wall_s for each in ours]),
            at_least=_LIMIT,
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


class _BareSQLite:
    """Writes the rows of the ``sqlite`` destination, as many batches a transaction as a slice has."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, db: Any, ids: Sequence[str]) -> None:
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


class _BareHTTP:
    """Posts the lines of the ``http`` destination."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, db: Any, ids: Sequence[str]) -> None:
        encode = msgspec.json.Encoder().encode
        headers = {"Content-Type": "application/x-ndjson"}
        with requests.Session() as session:
            for batch in _batches(db, ids):
                lines = [_LINE % (encode(talk_id), 1_700_000_000, body) for talk_id, _, body in batch]
                session.post(self._url, data=b"".join(lines), headers=headers, timeout=30).raise_for_status()


def _delivered(kind: str, path: Path, url: str) -> Any:
    """Return what lies at the destination, positions apart, and empty it."""
    if kind == "http":
        return received(url)
    with closing(sqlite3.connect(path)) as connection:
        select = "SELECT rowid, object_id, {} FROM {} ORDER BY rowid"
        rows = connection.execute(select.format("document", "documents")).fetchall()
        texts = connection.execute(select.format("text", "documents_fts")).fetchall()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return rows, texts
