"""Pages of changes after a clock: how one asks who keeps no session.

A page is ordered by provider and timestamp, so that the clock after it says how far the reading has come. It
says nothing of what may be claimed: an item that was in a range and has changed since comes later. So a
receiver's clock moves with the last page only, to what the sender claims.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby

from .base import IndexKey
from .changes import ItemChangeBatch
from .claims import pinned
from .clocks import Stamps, VectorClock, descends, merged
from .conversion import change_of
from .node import Node
from .query import Query, select
from .states import ItemState

_CHAIN = "page_chain"


def page_after(node: Node, after: Stamps, size: int, query: Query | None) -> ItemChangeBatch:
    """Return the page that follows a clock, within the store's transaction."""
    store = node.store
    store.mark()
    claims = pinned(store.claims(), ("",))
    if query is not None:
        return _query_page(node, after, size, query)
    reached = dict(after)
    states: list[ItemState] = []
    for provider, known in sorted(claims.get("", {}).items()):
        for stamp, item_id in _by_time(node, provider, after.get(provider, 0)):
            if len(states) == size:
                return _page(states, False, after, reached)
            state = store.get(item_id)
            assert state is not None
            reached[provider] = stamp
            if not _came_earlier(state, claims.get("", {}), after, provider):
                states.append(state)
        reached[provider] = max(reached.get(provider, 0), known)
    page = _page(states, True, after, merged(reached, claims.get("", {})))
    page.claims = {prefix: clock for prefix, clock in claims.items() if prefix == ""}
    return page


def _came_earlier(state: ItemState, claimed: Stamps, after: Stamps, provider: str) -> bool:
    """Tell whether an item lies in the range of a provider that comes before this one."""
    earlier = [found for found in claimed if found < provider]
    return any(state.vector.get(found, 0) > after.get(found, 0) for found in earlier)


def _page(states: list[ItemState], is_last: bool, after: Stamps, reached: Stamps) -> ItemChangeBatch:
    return ItemChangeBatch(
        [change_of(state) for state in states],
        is_last,
        starts_at=VectorClock.of_stamps(after),
        ends_at=VectorClock.of_stamps(reached),
    )


def _by_time(node: Node, provider: str, after: int) -> Iterator[tuple[int, str]]:
    """Yield a provider's range over all partitions, in the order of time."""
    partitions = groupby(node.store.scan(provider, "", after), key=lambda key: key[0])
    streams = [_times(list(keys)) for _, keys in partitions]
    return heapq.merge(*streams)


def _times(keys: list[IndexKey]) -> list[tuple[int, str]]:
    return [(stamp, item_id) for _, stamp, item_id in keys]


def _query_page(node: Node, after: Stamps, size: int, query: Query) -> ItemChangeBatch:
    news = [state for state in select(query, node.store.items()) if not descends(after, state.vector)]
    page, rest = news[:size], news[size:]
    reached = merged(after, *(state.vector for state in page))
    return _page(page, not rest, after, reached)


def follow(node: Node, batch: ItemChangeBatch) -> None:
    """Move the clock with the last of a row of pages, if none is missing."""
    store = node.store
    if batch.starts_at is None or batch.ends_at is None:
        return
    claimed = store.claims().get("", {})
    chain = merged(claimed, dict(store.facts.get(_CHAIN, ())))
    if not descends(chain, batch.starts_at):
        store._remove(store.facts, _CHAIN)
        return
    if batch.claims is None:
        store._set(store.facts, _CHAIN, tuple(merged(chain, batch.ends_at.stamps()).items()))
        return
    me = store.provider_id
    store._remove(store.facts, _CHAIN)
    store.absorb(
        {
            prefix: {provider: stamp for provider, stamp in clock.items() if provider != me}
            for prefix, clock in batch.claims.items()
        }
    )


def deferred_after(node: Node, after: Stamps, size: int, query: Query | None) -> ItemChangeBatch:
    """Return a page of what is deferred here."""
    from . import conflicts

    store = node.store
    found = []
    for item_id, kept in store.tables.deferred.items():
        state = store.get(item_id)
        if state is None or state.dot[1] <= after.get(state.dot[0], 0):
            continue
        if query is not None and query.id not in conflicts.load(store, kept[:2]).query_ids:
            continue
        found.append(state)
    found.sort(key=lambda state: (state.dot[1], state.dot[0]))
    page = found[:size]
    return _page(page, len(page) == len(found), after, merged(after, *({s.dot[0]: s.dot[1]} for s in page)))
