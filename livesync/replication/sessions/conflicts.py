"""Conflicts and exceptions, kept: every loser with its winner, until somebody throws the log away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from ...errors import UnknownConflict
from ..metadata.changes import ConflictLog, ConflictStatus, ConflictType, ItemChange
from ..metadata.clocks import moment_of
from ..metadata.conversion import change_of
from ..metadata.states import ItemState
from ..stored import pack, unpack
from ..stores.base import BaseDataStore


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A conflict in the engine's form; ``key`` is (created, log id)."""

    key: tuple[int, str]
    conflict_type: ConflictType
    loser: ItemState
    winner: ItemState | None
    resolved: int | None
    description: str | None = None
    query_ids: tuple[str, ...] = ()

    @property
    def item_id(self) -> str:
        """The item that it is about."""
        return self.loser.item_id


def new_entry(
    key: tuple[int, str],
    conflict_type: ConflictType,
    loser: ItemState,
    winner: ItemState | None,
    description: str | None = None,
    query_ids: tuple[str, ...] = (),
) -> LogEntry:
    """Return a new entry; an exception's is open, any other's is settled. ``key`` is (now, a new id)."""
    resolved = None if conflict_type is ConflictType.EXCEPTION_OCCURRED else key[0]
    if winner is not None and winner.hard:
        loser = erased(loser)
    return LogEntry(key, conflict_type, loser, winner, resolved, description, query_ids)


def erased(state: ItemState) -> ItemState:
    """Return a state without what it said."""
    return structs.replace(state, payload="")


def save(store: BaseDataStore, entry: LogEntry) -> None:
    """Keep an entry, in place of an earlier one of its key."""
    tables = store.tables
    kept: dict[str, Any] = {
        "type": entry.conflict_type.value,
        "item": entry.item_id,
        "loser": pack(entry.loser),
        "winner": None if entry.winner is None else (entry.winner.item_id, pack(entry.winner)),
        "resolved": entry.resolved,
        "description": entry.description,
        "queries": entry.query_ids,
    }
    store._set(tables.conflicts, entry.key, kept)
    store._insert(tables.conflicts_of, (entry.item_id, *entry.key))


def _entry(key: tuple[int, str], kept: dict[str, Any]) -> LogEntry:
    winner = kept["winner"]
    return LogEntry(
        key,
        ConflictType(kept["type"]),
        unpack(kept["item"], kept["loser"]),
        None if winner is None else unpack(*winner),
        kept["resolved"],
        kept["description"],
        tuple(kept["queries"]),
    )


def load(store: BaseDataStore, key: tuple[int, str]) -> LogEntry:
    """Return the entry of a key."""
    return _entry(key, store.tables.conflicts[key])


def of_item(store: BaseDataStore, item_id: str) -> list[LogEntry]:
    """Return all entries about an item, oldest first."""
    keys = list(store.tables.conflicts_of.keys((item_id,), (item_id + "\0",), excludemax=True))
    return [load(store, key[1:]) for key in keys]


def newest_first(store: BaseDataStore) -> Iterator[LogEntry]:
    """Yield all entries, the newest first."""
    tree = store.tables.conflicts
    for key in sorted(tree.keys(), reverse=True):
        yield _entry(key, tree[key])


def find(store: BaseDataStore, log_id: str) -> LogEntry:
    """Return the entry of an id, which may be shortened to what tells it from the others.

    Raises:
        UnknownConflict: There is none, or several.
    """
    wanted = log_id.lower().replace("-", "")
    keys = [key for key in store.tables.conflicts if wanted and key[1].startswith(wanted)]
    if len(keys) != 1:
        raise UnknownConflict(
            f"there is no conflict {log_id!r}; `livesync peer conflict list` shows those there are"
            if not keys
            else f"{len(keys)} conflicts begin with {log_id!r}: give more of the id"
        )
    return load(store, keys[0])


def erase_item(store: BaseDataStore, item_id: str, text: str) -> None:
    """Take what an item said out of all logs; ``text`` stands where a description was."""
    for entry in of_item(store, item_id):
        winner = None if entry.winner is None else erased(entry.winner)
        # a stack trace may show what could not be applied
        description = None if entry.description is None else text
        save(
            store,
            replace(entry, loser=erased(entry.loser), winner=winner, description=description),
        )


def log_of(entry: LogEntry) -> ConflictLog:
    """Return an entry as people see it."""
    winner = None if entry.winner is None else _change(entry.winner, entry, loses=False)
    return ConflictLog(
        id=uuid.UUID(entry.key[1]),
        created_at=moment_of(entry.key[0]),
        resolved_at=None if entry.resolved is None else moment_of(entry.resolved),
        item_change_loser=_change(entry.loser, entry, loses=winner is not None),
        item_change_winner=winner,
        status=ConflictStatus.DEFERRED if entry.resolved is None else ConflictStatus.RESOLVED,
        conflict_type=entry.conflict_type,
        description=entry.description,
        query_ids=list(entry.query_ids),
    )


def _change(state: ItemState, entry: LogEntry, loses: bool) -> ItemChange:
    settled = entry.resolved is not None
    return change_of(state, moment_of(entry.key[0]), is_applied=settled, should_ignore=loses)
