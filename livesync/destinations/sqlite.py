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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Outcome, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader, StoredPointer
from ..errors import DeliveryError
from ..options import Option
from ._sqlite_file import delivery_error, open_for_reading, open_for_writing, tie_index

#: Parameters of one look-up; every SQLite allows 999.
_LOOK_UP = 500


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file has of a living object."""

    rowid: int
    position: int
    document: str
    tied: bool  #: the full-text row of the same rowid is this object's


@dataclass(slots=True)
class _Plan:
    """What one batch comes to, as rows for each statement."""

    stale: set[str] = field(default_factory=set)
    added: list[tuple[int, str, int, str]] = field(default_factory=list)
    indexed: list[tuple[int, str, str]] = field(default_factory=list)
    changed: list[tuple[int, str, int]] = field(default_factory=list)
    reindexed: list[tuple[int, str, str]] = field(default_factory=list)
    removed: list[tuple[int]] = field(default_factory=list)
    buried: list[tuple[str, int]] = field(default_factory=list)
    revived: list[tuple[str]] = field(default_factory=list)


class SQLiteUploader(RecordUploader):
    """Carries records into an SQLite file; keeps the agent's pointer there."""

    keeps_pointer = True

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self.path: str = agent.values["path"]
        self._opened: sqlite3.Connection | None = None
        self._batches_in_slice = 0
        self._next_rowid = 0
        self._has_graves = False

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
        self._opened = open_for_writing(self.path)

    def read_pointer(self) -> StoredPointer | None:
        """Return this agent's row of ``pointers``."""
        with self._meaning():
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
        try:
            with self._meaning():
                self._begin()
                plan = self._plan(batch)
                _write(self._connection, plan)
        except DeliveryError as exc:
            if self._batches_in_slice and not self._connection.in_transaction:
                # A full disk may end the whole transaction. Were this batch alone tried again, the
                # pointer would be moved past batches that are gone: the slice must be repeated.
                raise DeliveryError(f"{exc}; the slice was rolled back, run again") from exc
            raise
        self._batches_in_slice += 1
        self._next_rowid += len(plan.added)
        self._has_graves = self._has_graves or bool(plan.buried)
        return _verdicts(batch, plan.stale) if plan.stale else None

    def end_slice(self, position: int | None) -> None:
        """Commit the slice's rows and, unless ``position`` is None, the pointer."""
        with self._meaning():
            self._begin()
            if position is not None:
                who = self.delivery
                self._connection.execute(
                    "INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?)",
                    (who.agent_id, position, who.track_id, who.generation),
                )
            self._connection.execute("COMMIT")
        self._batches_in_slice = 0

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
            connection.execute("COMMIT")
        return removed

    def close(self) -> None:
        """Close the file; a slice that is still open is rolled back."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _begin(self) -> None:
        """Begin a transaction unless one is open; it takes the write lock at once."""
        connection = self._connection
        if connection.in_transaction:
            return
        connection.execute("BEGIN IMMEDIATE")
        last, last_indexed = connection.execute(
            "SELECT ifnull((SELECT max(rowid) FROM documents), 0),"
            " ifnull((SELECT rowid FROM documents_fts ORDER BY rowid DESC LIMIT 1), 0)"
        ).fetchone()
        if last_indexed > last:
            tie_index(connection)
        self._next_rowid = last + 1
        self._has_graves = connection.execute("SELECT EXISTS (SELECT 1 FROM tombstones)").fetchone()[0] == 1

    def _plan(self, batch: Batch) -> _Plan:
        """Return what ``batch`` comes to, given what the file has."""
        ids = [record.object_id for record in batch]
        known = self._known(ids)
        if not all(row.tied for row in known.values()):
            tie_index(self._connection)
        buried = self._buried(ids)
        plan = _Plan()
        for record, body in zip(batch, batch.bodies, strict=True):
            object_id, position = record.object_id, record.position
            row = known.get(object_id)
            grave = buried.get(object_id)
            if (row is not None and row.position > position) or (grave is not None and grave > position):
                plan.stale.add(object_id)
                continue
            if body is None:
                plan.buried.append((object_id, position))
                if row is not None:
                    plan.removed.append((row.rowid,))
                continue
            if grave is not None:
                plan.revived.append((object_id,))
            document = body.decode()
            if row is None:
                rowid = self._next_rowid + len(plan.added)
                plan.added.append((rowid, object_id, position, document))
                plan.indexed.append((rowid, object_id, document_text(record.document)))
            else:
                plan.changed.append((position, document, row.rowid))
                # an export sends mostly what is here already
                if document != row.document or not row.tied:
                    plan.reindexed.append((row.rowid, object_id, document_text(record.document)))
        return plan

    def _known(self, ids: list[str]) -> dict[str, _Known]:
        """Return what the file has of the living among ``ids``."""
        return {
            object_id: _Known(rowid, position, document, bool(tied))
            for object_id, rowid, position, document, tied in self._looked_up(
                "SELECT d.object_id, d.rowid, d.position, d.document, f.object_id IS d.object_id"
                " FROM documents d LEFT JOIN documents_fts f ON f.rowid = d.rowid WHERE d.object_id IN",
                ids,
            )
        }

    def _buried(self, ids: list[str]) -> dict[str, int]:
        """Return the tombstones among ``ids``: position by id."""
        if not self._has_graves:
            return {}
        return dict(self._looked_up("SELECT object_id, position FROM tombstones WHERE object_id IN", ids))

    def _looked_up(self, select: str, ids: list[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(ids), _LOOK_UP):
            some = ids[start : start + _LOOK_UP]
            yield from self._connection.execute(f"{select} ({','.join('?' * len(some))})", some)

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """Raise what an error of SQLite means for the delivery."""
        try:
            yield
        except sqlite3.Error as exc:
            raise delivery_error(exc, self.path) from exc


def _verdicts(batch: Batch, stale: set[str]) -> list[Verdict]:
    outcomes = {True: Outcome.STALE, False: Outcome.ACCEPTED}
    return [Verdict(record.object_id, outcomes[record.object_id in stale]) for record in batch]


def _write(connection: sqlite3.Connection, plan: _Plan) -> None:
    """Write a plan, kind by kind: the full-text index likes its rowids ascending."""
    plan.reindexed.sort()
    plan.removed.sort()
    many = connection.executemany
    many("DELETE FROM documents_fts WHERE rowid = ?", plan.removed)
    many("DELETE FROM documents WHERE rowid = ?", plan.removed)
    many("INSERT OR REPLACE INTO tombstones(object_id, position) VALUES (?, ?)", plan.buried)
    many("DELETE FROM tombstones WHERE object_id = ?", plan.revived)
    many("UPDATE documents SET position = ?, document = ? WHERE rowid = ?", plan.changed)
    many("INSERT INTO documents(rowid, object_id, position, document) VALUES (?, ?, ?, ?)", plan.added)
    # not UPDATE: should a row of the index be missing, here it is made again
    many("INSERT OR REPLACE INTO documents_fts(rowid, object_id, text) VALUES (?, ?, ?)", plan.reindexed)
    many("INSERT INTO documents_fts(rowid, object_id, text) VALUES (?, ?, ?)", plan.indexed)


def document_text(document: Any) -> str:
    """Return all text values of a document, of nested lists and dicts too, a line each; no keys."""
    texts: list[str] = []
    containers = [document]
    for container in containers:  # which grows as it is gone through
        values = container.values() if type(container) is dict else container
        texts += [value for value in values if type(value) is str]
        containers += [value for value in values if type(value) is dict or type(value) is list]
    return "\n".join(texts)


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
        *DELIVERY_OPTIONS,
    )
    uploader = SQLiteUploader
