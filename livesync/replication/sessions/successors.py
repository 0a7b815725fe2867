"""What follows upon what a node holds, and upon nothing else: held at once.

Most of what comes of items that are known is their next version, made by somebody who had seen what is held
here. Then nothing has to be merged, and there is no conflict. Only that takes this way of which this is
certain, and which the application has not changed since; :mod:`.receiving` looks at all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from itertools import islice
from typing import Final

from ...delivery.access import of_the_database
from ..metadata.lives import FindBirth, newest_deeds
from ..metadata.states import ItemState
from ..models.executor import Draft
from ..node import Node
from ..stored import pack_bound
from ..stores import bulk

#: States that are compared and written together; what is held of their items is in memory meanwhile.
_AT_ONCE: Final = 5_000


def hold_successors(node: Node, states: Sequence[ItemState], repeated: Set[str]) -> Mapping[str, bool]:
    """Hold states that succeed those that are held.

    Args:
        node: Who holds them; where they lie and what the application has of them was looked up.
        states: What has come.
        repeated: The items of which more than one state has come.

    Returns:
        Their items' ids, each with whether it says anything else than before.
    """
    deferred, executor = node.store.tables.deferred, node.executor
    names = {state.entity_name for state in states}
    kept = {name for name in names if executor.keeps_base(name)}
    if executor.has_application:
        # an object that an item might become is looked for one by one
        kept |= {name for name in names if executor.may_find(name) or not executor.knows(name)}
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
    held: dict[str, bool] = {}
    while part := list(islice(rest, _AT_ONCE)):
        held.update(_hold(node, part))
    return held


def _hold(node: Node, states: list[ItemState]) -> dict[str, bool]:
    store = node.store
    me, find = store.provider_id, store.birth_of
    found = {state.item_id: store.unwritten.places.get(state.item_id) for state in states}
    known = store.all_at({item_id: where for item_id, where in found.items() if where is not None})
    pairs = [
        (state, before)
        for state, before in zip(states, known, strict=True)
        if succeeds(state, before, find) and state.vector.get(me) == before.vector.get(me)
    ]
    if node.executor.has_application:
        pairs = _only_unchanged(node, pairs)
    bulk.put_newer(store, pairs)
    return {state.item_id: state.content != before.content for state, before in pairs}


def _only_unchanged(
    node: Node, pairs: list[tuple[ItemState, ItemState]]
) -> list[tuple[ItemState, ItemState]]:
    """Return those of which the application has exactly what it had when the store last looked.

    Where it cannot say that of one, there are none: they are looked at one by one.
    """
    store = node.store
    known = [store.bound(state.item_id) for state, _ in pairs]
    bound = {
        state.item_id: found for (state, _), found in zip(pairs, known, strict=True) if found is not None
    }
    object_ids = [object_id for object_id, _ in bound.values()]
    store.look_up_objects(object_ids)
    unchanged = set()
    try:
        with closing(node.executor.drafts(store, object_ids)) as drafts:
            for (item_id, (object_id, digest)), draft in zip(bound.items(), drafts, strict=True):
                is_its_own = draft is not None and draft.item_id == item_id == store.item_of(object_id)
                if is_its_own and draft is not None and draft.digest == digest:
                    unchanged.add(item_id)
    except of_the_database():
        raise
    except Exception:  # noqa: BLE001 - whichever it is, it will be named
        return []
    return [(state, before) for state, before in pairs if state.item_id in unchanged]


def change(
    node: Node, states: Sequence[ItemState], told: list[tuple[str, bool, bool]]
) -> tuple[list[tuple[ItemState, Draft]], list[ItemState]]:
    """Change objects in the application, within the store's transaction.

    Args:
        node: Whose application.
        states: What they are to say: live ones that are held, of models that are known.
        told: Where it is noted what the application was told.

    Returns:
        Those that have another id now: they are bound to nothing new as yet; and those whose object has
        become another item's meanwhile: nothing was done about them.

    Raises:
        Exception: The application cannot.
    """
    store, bound = node.store, node.store.unwritten.bound
    known = [(state, store.bound(state.item_id)) for state in states]
    ready = [
        (state, found[0])
        for state, found in known
        if found is not None and store.item_of(found[0]) == state.item_id
    ]
    moved = []
    with closing(node.executor.change(store, ready)) as drafts:
        for (state, object_id), draft in zip(ready, drafts, strict=True):
            if draft is None:
                store.unbind(state.item_id)
            elif draft.object_id == object_id:
                bound.set(state.item_id, pack_bound(object_id, draft.digest))
            else:
                moved.append((state, draft))
            told.append((object_id, True, False) if draft is None else (draft.object_id, True, True))
    done = {state.item_id for state, _ in ready}
    return moved, [state for state in states if state.item_id not in done]


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
