"""Queries are subscriptions: the sender remembers what it has delivered, and no claim moves by it.

What entered the answer or changed in it is sent; what left it is sent once more, with the word that it is
gone from the answer, and removed there, unless it is there for another reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from ..metadata.changes import SyncSession, SyncSessionStatus
from ..metadata.checking import check_states
from ..metadata.clocks import Stamps, descends
from ..metadata.query import Query, select
from ..metadata.states import ItemState
from ..node import Node
from ..stores import lifetimes
from . import journal, receiving

if TYPE_CHECKING:
    from ..provider import BaseSyncProvider


@dataclass(frozen=True, slots=True)
class QueryNews:
    """What a subscriber is told: items in their newest state, and which of them left the answer."""

    states: tuple[ItemState, ...]
    left: frozenset[str]
    forgotten: tuple[str, ...] = ()


def news_for(node: Node, query: Query, subscriber: str) -> QueryNews:
    """Return what a subscriber does not have of a query's answer; only reads."""
    store = node.store
    known = _delivered(node, query, subscriber)
    states = []
    for state in select(query, store.items_of(query.entity_name)):
        vector = known.pop(state.item_id, None)
        if vector is None or not descends(vector, state.vector):
            states.append(state)
    left = [state for state in map(store.get, known) if state is not None]
    gone = tuple(item_id for item_id in known if store.get(item_id) is None)
    return QueryNews((*states, *left), frozenset(state.item_id for state in left), gone)


def _delivered(node: Node, query: Query, subscriber: str) -> dict[str, Stamps]:
    rows = node.store.tables.subscriptions.items(
        (subscriber, query.id), (subscriber, query.id + "\0"), excludemax=True
    )
    return {key[2]: dict(pairs) for key, pairs in rows}


def note_delivered(node: Node, query: Query, subscriber: str, news: QueryNews) -> None:
    """Remember what a subscriber has now."""
    store = node.store
    for state in news.states:
        key = (subscriber, query.id, state.item_id)
        if state.item_id in news.left:
            store._remove(store.tables.subscriptions, key)
        else:
            store._set(store.tables.subscriptions, key, tuple(state.vector.items()))
    for item_id in news.forgotten:
        store._remove(store.tables.subscriptions, (subscriber, query.id, item_id))


def apply_news(
    node: Node, states: Sequence[ItemState], left: frozenset[str], origin: str, query_id: str
) -> receiving.Applied:
    """Apply a part of the news, in one transaction."""
    store = node.store
    unknown = store.read(lambda: [state.item_id for state in states if store.get(state.item_id) is None])

    def mark(_: receiving.Applied) -> None:
        for item_id in unknown:
            held = store.get(item_id)
            if held is not None:
                store.hold_for_query(held, query_id)
        for state in states:
            if state.item_id in left:
                _leave(node, state, origin)

    return receiving.apply_states(node, states, origin, (query_id,), mark)


def _leave(node: Node, sent: ItemState, origin: str) -> None:
    """Remove what left a query, if it is here for nothing else and the sender knows all of it.

    What this node itself wrote to it is claimed, so its state is kept, and only hidden.
    """
    store = node.store
    state = store.get(sent.item_id)
    if state is None or sent.item_id not in store.tables.by_query:
        return
    if not descends(sent.vector, state.vector):
        return
    bound = store.bound(sent.item_id)
    if bound is not None:
        removed = structs.replace(state, length=state.length + 1) if state.is_live else state
        node.executor.execute(store, removed, bound[0])
        store.unbind(sent.item_id)
        node.executor.record(store.connection, [(bound[0], True, False)], origin)
    if any(mine in state.vector for mine in (store.provider_id, *store.past)):
        store._set(store.tables.hidden, sent.item_id, True)
    else:
        store.drop(state)


def run(
    source: BaseSyncProvider, target: BaseSyncProvider, query: Query, check_time: Callable[[], None]
) -> SyncSession:
    """Bring a subscriber up to date: one session, one way."""
    node, subscriber = target.node, target.provider_id
    store = node.store
    news = source.data_store.read(lambda: news_for(source.node, query, subscriber))
    key = node.new_key()
    origin = source.provider_id

    def note(status: SyncSessionStatus, reason: str = "") -> None:
        ended = None if status is SyncSessionStatus.IN_PROGRESS else node.now()
        store.run(lambda: journal.save(store, key, origin, subscriber, status, ended, query.id, reason))

    note(SyncSessionStatus.IN_PROGRESS)
    claims = store.read(store.claims)
    lives = source.data_store.read(lambda: lifetimes.told_to(source.data_store, claims, bool(news.states)))
    if lives:
        store.run(lambda: lifetimes.learn(store, lives))
    latest = node.now() + round(node.max_drift_s * 1_000_000)
    try:
        for number, begin in enumerate(range(0, len(news.states), source.max_num)):
            check_time()
            part = news.states[begin : begin + source.max_num]
            check_states(part, ("",), latest)
            applied = apply_news(node, part, news.left, origin, query.id)
            store.run(
                lambda number=number, states=applied.states: journal.note_changes(  # type: ignore[misc]
                    store, key[1], number, states
                )
            )
            target._tell(applied)
            delivered = QueryNews(part, news.left)
            source.data_store.run(
                lambda part=delivered: note_delivered(source.node, query, subscriber, part)  # type: ignore[misc]
            )
    except Exception as exc:
        note(SyncSessionStatus.FAILED, " ".join(f"{type(exc).__name__}: {exc}".split()))
        raise
    source.data_store.run(
        lambda: note_delivered(source.node, query, subscriber, QueryNews((), news.left, news.forgotten))
    )
    note(SyncSessionStatus.FINISHED)
    return journal.load(store, key)
