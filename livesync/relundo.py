"""Undo on RelStorage: livesync's lanes give way there too, as they do by conflict resolution elsewhere.

RelStorage refuses the undo of a transaction of whose objects one has changed since, and asks no object what
it makes of it. A lane changes with every transaction of its connection: without this, only the newest
transaction of each connection could be undone, and that would be livesync's doing.

What is RelStorage's own stays: where the application's objects have changed since, an undo is refused.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any, Final

from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.POSException import ConflictError, UndoError
from ZODB.utils import get_pickle_metadata, p64, z64

from .track.stored import Lane

_LANE: Final = (Lane.__module__, Lane.__name__)

# What RelStorage itself asks before it refuses, with the states.
_CHANGED: Final = """
    SELECT undone.zoid, undone.state, now.state
    FROM object_state undone
    INNER JOIN current_object ON undone.zoid = current_object.zoid
    INNER JOIN object_state now ON now.zoid = current_object.zoid AND now.tid = current_object.tid
    WHERE undone.tid = %s AND now.md5 != undone.md5
"""
_STATE: Final = "SELECT state FROM object_state WHERE zoid = %s AND tid = %s"
_WRITE: Final = "UPDATE object_state SET state = %s, state_size = %s, md5 = %s WHERE zoid = %s AND tid = %s"


def let_lanes_give_way(db: Any) -> None:
    """See to it that the lanes in ``db`` stand in no undo's way: nothing to do but on RelStorage.

    Args:
        db: A ``ZODB.DB``; where its storage is RelStorage's with history, in PostgreSQL, its adapter is
            changed for as long as it is open.
    """
    adapter = getattr(db.storage, "_adapter", None)
    if adapter is None or not type(adapter).__module__.startswith(("relstorage.", "livesync.")):
        return
    if not adapter.keep_history or isinstance(adapter, _GivesWay) or not _is_for_postgresql(adapter):
        return
    adapter.__class__ = _giving_way(type(adapter))
    adapter.packundo.__class__ = _with_lanes(type(adapter.packundo))


def _is_for_postgresql(adapter: Any) -> bool:
    from relstorage.adapters.postgresql import PostgreSQLAdapter

    return isinstance(adapter, PostgreSQLAdapter)


class _GivesWay:
    """Mixed into an adapter: those that it makes for other connections give way too."""

    packundo: Any

    def _create(self) -> None:
        super()._create()  # type: ignore[misc]
        self.packundo.__class__ = _with_lanes(type(self.packundo))


class _UndoesLanes:
    """Mixed into what undoes for RelStorage."""

    driver: Any

    def verify_undoable(self, cursor: Any, undo_tid: int) -> None:
        """Refuse as RelStorage does, unless nothing but lanes is the reason."""
        try:
            super().verify_undoable(cursor, undo_tid)  # type: ignore[misc]
        except UndoError as exc:
            changed = self._changed(cursor, undo_tid)
            theirs = [oid for oid, _, now in changed if not _is_lane(now)]
            if theirs:
                raise UndoError("it was changed by a later transaction", p64(theirs[0])) from exc
            if not changed:
                raise

    def undo(self, cursor: Any, undo_tid: int, self_tid: int) -> list[tuple[int, int]]:
        """Copy the former states forward, as RelStorage does, and write what lanes make of it."""
        lanes = [row for row in self._changed(cursor, undo_tid) if _is_lane(row[2])]
        copied: list[tuple[int, int]] = super().undo(cursor, undo_tid, self_tid)  # type: ignore[misc]
        for oid, undone, now in lanes:
            before = self._state(cursor, oid, self_tid)
            resolved = _Lanes(undone).resolved(oid, before, now)
            cursor.execute(
                _WRITE,
                (self.driver.Binary(resolved), len(resolved), _sum(resolved), oid, self_tid),
            )
        return copied

    def _changed(self, cursor: Any, undo_tid: int) -> list[tuple[int, bytes, bytes]]:
        """Return what the transaction changed and another one has since: oid, state then, state now."""
        cursor.execute(_CHANGED, (undo_tid,))
        return [(oid, bytes(undone or b""), bytes(now or b"")) for oid, undone, now in cursor.fetchall()]

    def _state(self, cursor: Any, oid: int, tid: int) -> bytes:
        cursor.execute(_STATE, (oid, tid))
        ((state,),) = cursor.fetchall()
        return bytes(state or b"")


class _Lanes(ConflictResolvingStorage):
    """Resolves as a storage does; the only state that it can load is the one that is undone."""

    def __init__(self, undone: bytes) -> None:
        super().__init__()
        self._undone = undone

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:  # noqa: N802 - ZODB's name
        return self._undone

    def resolved(self, oid: int, before: bytes, now: bytes) -> bytes:
        try:
            state: bytes = self.tryToResolveConflict(p64(oid), z64, z64, before, now)
        except ConflictError as exc:
            raise UndoError("a lane of livesync's cannot be resolved", p64(oid)) from exc
        return state


def _is_lane(state: bytes) -> bool:
    return bool(state) and get_pickle_metadata(state) == _LANE


def _sum(state: bytes) -> str:
    """Return what RelStorage keeps beside a state to tell whether it has changed."""
    return md5(state, usedforsecurity=False).hexdigest()


_made: dict[tuple[type, type], Any] = {}


def _giving_way(adapter_class: type) -> Any:
    return _mixed(_GivesWay, adapter_class)


def _with_lanes(undo_class: type) -> Any:
    return _mixed(_UndoesLanes, undo_class)


def _mixed(mixin: type, into: type) -> Any:
    """Return the class ``into`` with a mixin: one and the same, however many databases are opened."""
    return _made.setdefault((mixin, into), type(into.__name__, (mixin, into), {}))
