"""The rows of the ``sqlite`` destination: what a batch comes to, and writing it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from ..delivery.record import Batch, Record
from ._sqlite_file import tie_index
from ._sqlite_reading import POSITION, looked_up
from ._text import document_text


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file has of a living object."""

    rowid: int
    position: int
    indexed: bytes | None  #: its text in the full-text row of the same rowid; None: that is not its own


@dataclass(slots=True)
class Plan:
    """What one batch comes to, as rows for each statement.

    Attributes:
        stale: The objects of which the file has newer.
        taken: The records that are neither stale nor refused.
    """

    stale: set[str] = field(default_factory=set)
    taken: list[Record] = field(default_factory=list)
    added: list[tuple[int, str, int, str]] = field(default_factory=list)
    indexed: list[tuple[int, str, str]] = field(default_factory=list)
    changed: list[tuple[int, str, int]] = field(default_factory=list)
    reindexed: list[tuple[int, str, str]] = field(default_factory=list)
    removed: list[tuple[int]] = field(default_factory=list)
    buried: list[tuple[str, int]] = field(default_factory=list)
    revived: list[tuple[str]] = field(default_factory=list)


class DocumentTables:
    """The documents, tombstones and full-text rows during one transaction, which has begun."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        last, last_indexed = connection.execute(
            "SELECT ifnull((SELECT max(rowid) FROM documents), 0),"
            " ifnull((SELECT rowid FROM documents_fts ORDER BY rowid DESC LIMIT 1), 0)"
        ).fetchone()
        #: Whether every row of the index is known to be tied, or missing.
        self._is_tied = last_indexed > last
        if self._is_tied:
            tie_index(connection)
        self._next_rowid = last + 1
        graves = connection.execute("SELECT EXISTS (SELECT 1 FROM tombstones)")
        self._has_graves = graves.fetchone()[0] == 1

    def take(self, batch: Batch, refused: dict[str, str]) -> Plan:
        """Write a batch, all but what is ``refused``; return what it came to.

        What it learns it keeps only when all is written: the caller takes back what was written
        when anything is raised.
        """
        ids = [record.object_id for record in batch]
        known = self._known(ids)
        tied = self._is_tied
        if not tied and any(row.indexed is None for row in known.values()):
            tie_index(self._connection)
            tied = True
            known = self._known(ids)
        plan = self._plan(batch, refused, known)
        self._write(plan)
        self._is_tied = tied
        self._next_rowid += len(plan.added)
        self._has_graves = self._has_graves or bool(plan.buried)
        return plan

    def _plan(self, batch: Batch, refused: dict[str, str], known: dict[str, _Known]) -> Plan:
        buried = self._buried([record.object_id for record in batch])
        plan = Plan()
        for record, body in zip(batch, batch.bodies, strict=True):
            object_id, position = record.object_id, record.position
            if object_id in refused:
                continue
            row = known.get(object_id)
            grave = buried.get(object_id)
            if (row is not None and row.position > position) or (grave is not None and grave > position):
                plan.stale.add(object_id)
                continue
            plan.taken.append(record)
            if body is not None:
                if grave is not None:
                    plan.revived.append((object_id,))
                self._plan_upsert(plan, record, body, row)
            else:
                plan.buried.append((object_id, position))
                if row is not None:
                    plan.removed.append((row.rowid,))
        return plan

    def _plan_upsert(self, plan: Plan, record: Record, body: bytes, row: _Known | None) -> None:
        document, text = body.decode(), document_text(record.document)
        if row is None:
            rowid = self._next_rowid + len(plan.added)
            plan.added.append((rowid, record.object_id, record.position, document))
            plan.indexed.append((rowid, record.object_id, text))
            return
        plan.changed.append((record.position, document, row.rowid))
        # an export sends mostly what is here already
        if text.encode() != row.indexed:
            plan.reindexed.append((row.rowid, record.object_id, text))

    def _write(self, plan: Plan) -> None:
        """Write a plan, kind by kind: the full-text index likes its rowids ascending."""
        plan.reindexed.sort()
        plan.removed.sort()
        many = self._connection.executemany
        many("DELETE FROM documents_fts WHERE rowid = ?", plan.removed)
        many("DELETE FROM documents WHERE rowid = ?", plan.removed)
        many("INSERT OR REPLACE INTO tombstones(object_id, position) VALUES (?, ?)", plan.buried)
        many("DELETE FROM tombstones WHERE object_id = ?", plan.revived)
        many("UPDATE documents SET position = ?, document = ? WHERE rowid = ?", plan.changed)
        many("INSERT INTO documents(rowid, object_id, position, document) VALUES (?, ?, ?, ?)", plan.added)
        # not UPDATE: should a row of the index be missing, here it is made again
        many("INSERT OR REPLACE INTO documents_fts(rowid, object_id, text) VALUES (?, ?, ?)", plan.reindexed)
        many("INSERT INTO documents_fts(rowid, object_id, text) VALUES (?, ?, ?)", plan.indexed)

    def _known(self, ids: list[str]) -> dict[str, _Known]:
        """Return what the file has of the living among ``ids``."""
        select = (
            f"SELECT object_id, d.rowid, ifnull({POSITION}, -1), iif(c0 IS object_id, CAST(c1 AS BLOB), NULL)"  # noqa: S608
            " FROM documents d LEFT JOIN documents_fts_content ON id = d.rowid WHERE object_id IN"
        )
        return {
            object_id: _Known(rowid, position, text)
            for object_id, rowid, position, text in looked_up(self._connection, select, ids)
        }

    def _buried(self, ids: list[str]) -> dict[str, int]:
        """Return the tombstones among ``ids``: position by id."""
        if not self._has_graves:
            return {}
        select = "SELECT object_id, position FROM tombstones WHERE object_id IN"
        return dict(looked_up(self._connection, select, ids))
