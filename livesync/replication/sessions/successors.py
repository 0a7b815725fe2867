"""What follows upon what a node holds, and upon nothing else: held at once.

Most of what comes of items that are known is their next version, made by somebody who had seen what is held
here. Then nothing has to be merged, and there is no conflict. Only that takes this way of which this is
certain; :mod:`.receiving` looks at all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Final

from ..metadata.lives import FindBirth, newest_deeds
from ..metadata.states import ItemState
from ..node import Node
from ..stores import bulk

#: States that are compared and written together; what is held of their items is in memory meanwhile.
_AT_ONCE: Final = 5_000


def hold_successors(node: Node, states: Sequence[ItemState], repeated: Set[str]) -> Mapping[str, ItemState]:
    """Hold states that succeed those that are held, and return them by their items' ids.

    Args:
        node: Who holds them, without an application; where they lie was looked up.
        states: What has come.
        repeated: The items of which more than one state has come.
    """
    deferred, executor = node.store.tables.deferred, node.executor
    kept = {name for name in {state.entity_name for state in states} if executor.keeps_base(name)}
    places = node.store.unwritten.places
    rest = (
        state
        for state in states
        if state.is_live
        and places.get(state.item_id) is not None
        and state.item_id not in repeated
        and state.entity_name not in kept
        and state.item_id not in deferred
    )
    held: dict[str, ItemState] = {}
    while part := list(islice(rest, _AT_ONCE)):
        held.update(_hold(node, part))
    return held


def _hold(node: Node, states: list[ItemState]) -> dict[str, ItemState]:
    store = node.store
    me, find = store.provider_id, store.birth_of
    found = {state.item_id: store.unwritten.places.get(state.item_id) for state in states}
    known = store.all_at({item_id: where for item_id, where in found.items() if where is not None})
    pairs = [
        (state, before)
        for state, before in zip(states, known, strict=True)
        if succeeds(state, before, find) and state.vector.get(me) == before.vector.get(me)
    ]
    bulk.put_newer(store, pairs)
    return {state.item_id: state for state, _ in pairs}


def succeeds(state: ItemState, before: ItemState, find: FindBirth) -> bool:
    """Tell whether a state is what comes of it and ``before``, without a conflict, and both are live.

    Its maker had seen ``before`` and all that went into that, whatever life it was written in.

    Args:
        state: What comes in.
        before: What is held.
        find: Tells where lives begin.
    """
    if not (state.is_live and before.is_live) or before.has_seen(state.dot):
        return False
    if state.entity_name != before.entity_name or state.partition != before.partition:
        return False
    vector = state.vector
    for provider, stamp in before.vector.items():
        if vector.get(provider, 0) < stamp:
            return False
    if state.inserted != before.inserted or not state.rank > before.rank:
        return False
    return newest_deeds(find, state.own_deeds, state.met, before.deeds) == state.met
