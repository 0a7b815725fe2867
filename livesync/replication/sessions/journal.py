"""Sessions, kept: when, with whom, what was exchanged, and how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, overload

from ..metadata.changes import ItemChange, Operation, SerializationResult, SyncSession, SyncSessionStatus
from ..metadata.clocks import VectorClock, VectorClockItem, moment_of
from ..metadata.conversion import change_of
from ..metadata.states import ItemState
from ..stored import ChangeRow, pack_changes, unpack_changes
from ..stores.base import BaseDataStore

#: How many sessions are kept.
KEPT: Final = 200


def save(
    store: BaseDataStore,
    key: tuple[int, str],
    source: str,
    target: str,
    status: SyncSessionStatus,
    ended: int | None = None,
    query_id: str | None = None,
    reason: str = "",
    differences: Sequence[str] = (),
) -> None:
    """Keep where a session stands; ``key`` is (started, session id). The oldest ones make room."""
    tables = store.tables
    is_new = key not in tables.sessions
    store._set(
        tables.sessions,
        key,
        {
            "source": source,
            "target": target,
            "status": status.value,
            "ended": ended,
            "query": query_id,
            "reason": reason,
            "differences": tuple(differences),
        },
    )
    if is_new:
        for old in list(tables.sessions.keys())[:-KEPT]:
            if old != key and old[1] not in tables.incoming:
                _forget(store, old)


def _forget(store: BaseDataStore, key: tuple[int, str]) -> None:
    store._remove(store.tables.sessions, key)
    for page in list(_pages(store, key[1])):
        store._remove(store.tables.session_changes, page)


def note_changes(store: BaseDataStore, session_id: str, number: int, states: Iterable[ItemState]) -> None:
    """Keep what a chunk has changed, beside what is kept of it already; within the store's transaction."""
    rows = [(state.item_id, *state.dot) for state in states]
    if rows:
        key = (session_id, number)
        known = store.tables.session_changes.get(key)
        store._set(
            store.tables.session_changes,
            key,
            pack_changes([*unpack_changes(known), *rows] if known else rows),
        )


def pages(store: BaseDataStore, session_id: str) -> list[tuple[str, int]]:
    """Return the keys of what a session has changed."""
    return list(_pages(store, session_id))


def changed_items(store: BaseDataStore, page: tuple[str, int]) -> list[ChangeRow]:
    """Return what one of :func:`pages` says."""
    return unpack_changes(store.tables.session_changes[page])


def _pages(store: BaseDataStore, session_id: str) -> Any:
    return store.tables.session_changes.keys((session_id,), (session_id + "\0",), excludemax=True)


def sessions(store: BaseDataStore) -> list[SyncSession]:
    """Return the sessions that are kept, the newest first."""
    return store.read(
        lambda: [_session(store, key, kept) for key, kept in reversed(list(store.tables.sessions.items()))]
    )


def differing(store: BaseDataStore) -> dict[str, tuple[str, ...]]:
    """Return the ids of the sessions after which both held other things, the newest first, and where.

    That is under these prefixes, though both claimed the same.
    """
    return store.read(
        lambda: {
            key[1]: kept["differences"]
            for key, kept in reversed(list(store.tables.sessions.items()))
            if kept["differences"]
        }
    )


def load(store: BaseDataStore, key: tuple[int, str]) -> SyncSession:
    """Return one session."""
    return store.read(lambda: _session(store, key, store.tables.sessions[key]))


def _session(store: BaseDataStore, key: tuple[int, str], kept: dict[str, Any]) -> SyncSession:
    return SyncSession(
        id=uuid.UUID(key[1]),
        started_at=moment_of(key[0]),
        ended_at=None if kept["ended"] is None else moment_of(kept["ended"]),
        status=SyncSessionStatus(kept["status"]),
        source_provider_id=kept["source"],
        target_provider_id=kept["target"],
        item_changes=SessionChanges(store, key[1]),
        query_id=kept["query"],
        reason=kept["reason"],
        differences=kept["differences"],
    )


class SessionChanges(Sequence[ItemChange]):
    """What a session has exchanged, read from the store as it is asked for.

    What an item said then is gone where it has changed since: its change is still here, and says nothing.
    """

    def __init__(self, store: BaseDataStore, session_id: str) -> None:
        self._store = store
        self._session_id = session_id

    def _rows(self) -> list[ChangeRow]:
        store = self._store
        return store.read(
            lambda: [row for page in _pages(store, self._session_id) for row in changed_items(store, page)]
        )

    def __len__(self) -> int:
        store = self._store
        return store.read(
            lambda: sum(len(changed_items(store, page)) for page in _pages(store, self._session_id))
        )

    def __iter__(self) -> Iterator[ItemChange]:
        for row in self._rows():
            yield self._change(row)

    @overload
    def __getitem__(self, index: int) -> ItemChange: ...
    @overload
    def __getitem__(self, index: slice) -> list[ItemChange]: ...
    def __getitem__(self, index: int | slice) -> ItemChange | list[ItemChange]:
        rows = self._rows()[index]
        return [self._change(row) for row in rows] if isinstance(rows, list) else self._change(rows)

    def _change(self, row: ChangeRow) -> ItemChange:
        item_id, provider, stamp = row
        state = self._store.read(lambda: self._store.get(item_id))
        if state is not None and state.dot == (provider, stamp):
            return change_of(state, is_applied=True)
        return _bare_change(item_id, state, VectorClockItem(provider, moment_of(stamp)))

    def __repr__(self) -> str:
        return f"<SessionChanges of {self._session_id}>"


def _bare_change(item_id: str, state: ItemState | None, item: VectorClockItem) -> ItemChange:
    """Return a change of which nothing but its maker and its time is known any more."""
    entity_name, partition = ("", "") if state is None else (state.entity_name, state.partition)
    inserted = item if state is None else VectorClockItem(state.inserted[0], moment_of(state.inserted[1]))
    probe = ItemState(item_id, "", "", "", (item.provider_id, item.stamp), {}, 1, False, ("", 0))
    return ItemChange(
        id=probe.change_id,
        date_created=None,
        operation=Operation.UPDATE,
        change_vector_clock_item=item,
        insert_vector_clock_item=inserted,
        serialization_result=SerializationResult(item_id, entity_name, "", partition),
        should_ignore=False,
        is_applied=True,
        vector_clock=VectorClock(item),
    )
