"""Pages of changes after a clock: how one asks who keeps no session.

A page is ordered by provider and timestamp, so that the clock after it says how far the reading has come. It
says nothing of what may be claimed: an item that was in a range and has changed since comes later. So a
receiver's clock moves with the last page only, to what the sender claims.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby

from ..metadata.changes import ItemChangeBatch
from ..metadata.claims import Claims, pinned
from ..metadata.clocks import Stamps, VectorClock, descends, merged
from ..metadata.conversion import change_of
from ..metadata.query import Query, select
from ..metadata.states import ItemState
from ..node import Node
from .contract import IndexKey
from .memory import MemoryDataStore

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
    news = [
        state
        for state in select(query, node.store.items_of(query.entity_name))
        if not descends(after, state.vector)
    ]
    page, rest = news[:size], news[size:]
    reached = merged(after, *(state.vector for state in page))
    return _page(page, not rest, after, reached)


class Pages:
    """The pages of changes after a clock, made of what a node has sent of them.

    Args:
        after: The clock.
        claims: What the node claims, to be claimed with the last page.
        states: All that it sent.
        size: Changes in a page, at most.
    """

    def __init__(self, after: Stamps, claims: Claims, states: Iterable[ItemState], size: int) -> None:
        self._store = MemoryDataStore()
        self._node = Node(self._store)
        self._claims = claims
        self._size = size
        #: The clocks after which pages were given; the first page is fetched again, since there may be news.
        self._known: list[Stamps] = []
        self._store.run(lambda: self._load(after, claims, states))

    def _load(self, after: Stamps, claims: Claims, states: Iterable[ItemState]) -> None:
        store = self._store
        store.begin()
        for state in states:
            store.put(state, store.get(state.item_id))
        store.absorb({"": merged(after, *claims.values())})

    def has(self, after: VectorClock) -> bool:
        """Tell whether the page after a clock follows one that was given."""
        return after.stamps() in self._known

    def after(self, after: VectorClock) -> ItemChangeBatch:
        """Return the page after a clock."""
        page = self._store.run(lambda: page_after(self._node, after.stamps(), self._size, None))
        if page.is_last_batch:
            page.claims = {prefix: dict(clock) for prefix, clock in self._claims.items()}
        elif page.ends_at is not None:
            self._known.append(page.ends_at.stamps())
        return page


def follows(batch: ItemChangeBatch, claimed: Stamps, chain: Stamps) -> tuple[Stamps, Claims]:
    """Tell what a page that was applied means for its receiver.

    Args:
        batch: The page.
        claimed: What the receiver claims.
        chain: How far the pages have come that it was given since.

    Returns:
        How far they have come now, and what it may claim: nothing before the last page, nor where one is
        missing.
    """
    if batch.starts_at is None or batch.ends_at is None:
        return chain, {}
    chain = merged(claimed, chain)
    if not descends(chain, batch.starts_at):
        return {}, {}
    if batch.claims is None:
        return merged(chain, batch.ends_at.stamps()), {}
    return {}, batch.claims


def follow(node: Node, batch: ItemChangeBatch) -> None:
    """Move the clock with the last of a row of pages, if none is missing."""
    store, me = node.store, node.store.provider_id
    known = dict(store.facts.get(_CHAIN, ()))
    chain, claims = follows(batch, store.claims().get("", {}), known)
    if not chain:
        store._remove(store.facts, _CHAIN)
    elif chain != known:
        store._set(store.facts, _CHAIN, tuple(chain.items()))
    store.absorb(
        {
            prefix: {provider: stamp for provider, stamp in clock.items() if provider != me}
            for prefix, clock in claims.items()
        }
    )


def deferred_after(node: Node, after: Stamps, size: int, query: Query | None) -> ItemChangeBatch:
    """Return a page of what is deferred here."""
    from ..sessions import conflicts

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
