"""What a node is told of for the first time: held at once, and made in the application one after the other.

Nothing of it has to be compared with what was there before, which is most of what :mod:`.receiving` does. So
only that takes this way of which it is certain; what is told of twice, may be known to the application, or
was written under this node's id, does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import closing

from ..metadata.states import ItemState
from ..models.executor import Draft
from ..node import Node
from ..stored import pack_bound
from ..stores import bulk


def hold_new(node: Node, ordered: Sequence[ItemState], repeated: Set[str]) -> Mapping[str, ItemState]:
    """Hold the first states of items, where nothing can be in the way, and return them by their items' ids.

    Args:
        node: Who holds them; where they lie and what the application has of them was looked up.
        ordered: What has come.
        repeated: The items of which more than one state has come.
    """
    store, executor = node.store, node.executor
    me, has_application = store.provider_id, executor.has_application
    places, bound, deferred = store.unwritten.places, store.unwritten.bound, store.tables.deferred
    findable = {name: executor.may_find(name) for name in {state.entity_name for state in ordered}}
    new = {
        state.item_id: state
        for state in ordered
        if places.get(state.item_id) is None
        and me not in state.vector
        and state.item_id not in repeated
        and not (state.hard or findable[state.entity_name])
        and not (has_application and (bound.get(state.item_id) or state.item_id in deferred))
    }
    bulk.put_new(store, new.values())
    return new


def make_new(
    node: Node, states: Sequence[ItemState], told: list[tuple[str, bool, bool]]
) -> list[tuple[ItemState, Draft]]:
    """Make new objects in the application, within the store's transaction.

    Which items they are is looked up and noted for all of them together; what the application has of an item
    is known at once, to those that depend on it.

    Args:
        node: Whose application.
        states: Live ones, of models that are known, of which there is no object.
        told: Where it is noted what the application was told.

    Returns:
        Those whose object was another item's before: they are bound to nothing as yet.

    Raises:
        Exception: The application cannot.
    """
    store = node.store
    bound, objects = store.unwritten.bound, store.unwritten.objects
    made: list[tuple[ItemState, Draft]] = []
    with closing(node.executor.make(store, states)) as drafts:
        for state, draft in zip(states, drafts, strict=True):
            if draft is not None:
                bound.set(state.item_id, pack_bound(draft.object_id, draft.digest))
                made.append((state, draft))
    told += [(draft.object_id, False, True) for _, draft in made]
    store.look_up_objects([draft.object_id for _, draft in made])
    others = []
    for state, draft in made:
        if objects.get(draft.object_id) is None:
            objects.set(draft.object_id, state.item_id)
        else:
            bound.set(state.item_id, None)
            others.append((state, draft))
    return others
