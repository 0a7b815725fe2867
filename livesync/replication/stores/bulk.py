"""Many items at once, new or newer: the same as holding each of them, in a fraction of the time.

What a database is told for the first time is most of what it is ever told, and what comes after that is most
often the next version of what it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Final

from ..metadata.states import ItemState
from ..stored import arrival_key, pack, pack_place, unpack_place
from .base import BaseDataStore
from .contract import IndexKey

#: States that are written together. What comes in order changes few pages twice, so they need not be more;
#: what is made for them takes memory until they are written.
_AT_ONCE: Final = 5_000


def put_new(store: BaseDataStore, states: Iterable[ItemState]) -> None:
    """Hold the states of items of which nothing is held; what :meth:`BaseDataStore.put` does with each.

    Args:
        store: Where, within its transaction.
        states: Each of another item.
    """
    rest = iter(states)
    while part := list(islice(rest, _AT_ONCE)):
        _put(store, part)


def _put(store: BaseDataStore, states: list[ItemState]) -> None:
    me = store.provider_id
    rows: dict[str, dict[IndexKey, bytes]] = defaultdict(dict)
    entities: dict[str, dict[str, str | None]] = defaultdict(dict)
    number_of = cache(store.place_number)
    written_here: dict[int, str] = {}
    by_query, tombstones = store.tables.by_query or (), store.tables.tombstones
    unwritten = store.unwritten
    places, tally = unwritten.places, unwritten.tally
    for arrival, state in zip(store.next_arrivals(len(states)), states, strict=True):
        item_id, partition, vector, home = state.item_id, state.partition, state.vector, state.dot[0]
        for provider, stamp in vector.items():
            rows[provider][partition, stamp, item_id] = pack(state) if provider == home else b""
        places.set(item_id, pack_place(number_of(home, partition), vector[home], arrival))
        entities[state.entity_name][arrival_key(arrival)] = item_id
        if me in vector:
            written_here[vector[me]] = item_id
        if item_id not in by_query:
            tally.count(state, 1)
        if state.is_tombstone:
            store._insert(tombstones, (partition, item_id))
    if written_here:
        store.note_all_written(written_here)
    for entity_name, keys in entities.items():
        store.hold_entities(entity_name, keys)
    for provider in sorted(rows):
        store._extend(store.index_of(provider), rows[provider])


def put_newer(store: BaseDataStore, pairs: Iterable[tuple[ItemState, ItemState]]) -> None:
    """Hold newer states of items; what :meth:`BaseDataStore.put` does with each.

    Args:
        store: Where, within its transaction.
        pairs: ``(state, before)``, each of another item: both are live, of one model, inserted by one write.
            They are in memory together.
    """
    me = store.provider_id
    written_here: dict[int, str] = {}
    rows: dict[str, dict[IndexKey, bytes]] = defaultdict(dict)
    amended: dict[str, dict[IndexKey, bytes | None]] = defaultdict(dict)
    number_of = cache(store.place_number)
    by_query = store.tables.by_query or ()
    places, tally = store.unwritten.places, store.unwritten.tally
    for state, before in pairs:
        item_id, partition, home = state.item_id, state.partition, state.dot[0]
        _move(state, before, rows, amended)
        mine = state.vector.get(me)
        if mine is not None and mine != before.vector.get(me):
            written_here[mine] = item_id
        arrival = unpack_place(store.place_of(item_id))[2]
        places.set(item_id, pack_place(number_of(home, partition), state.vector[home], arrival))
        if item_id not in by_query:
            tally.count(before, -1)
            tally.count(state, 1)
    if written_here:
        store.note_all_written(written_here)
    for provider in sorted(amended):
        store._amend(store.index_of(provider), amended[provider])
    for provider in sorted(rows):
        store._extend(store.index_of(provider), rows[provider])


def _move(
    state: ItemState,
    before: ItemState,
    rows: dict[str, dict[IndexKey, bytes]],
    amended: dict[str, dict[IndexKey, bytes | None]],
) -> None:
    """Note what becomes of an item in the indexes: what comes to the end of ranges, and what is there."""
    item_id, partition, vector, old = state.item_id, state.partition, state.vector, before.vector
    for provider, known in old.items():
        if vector.get(provider) != known:
            amended[provider][partition, known, item_id] = None
    for provider, stamp in vector.items():
        if provider == state.dot[0]:
            rows[provider][partition, stamp, item_id] = pack(state)
        elif old.get(provider) != stamp:
            rows[provider][partition, stamp, item_id] = b""
        elif provider == before.dot[0]:
            amended[provider][partition, stamp, item_id] = b""
