"""What a node is told of for the first time: held at once, and made in the application one after the other.

Nothing of it has to be compared with what was there before, which is most of what :mod:`.receiving` does. So
only that takes this way of which it is certain; what is told of twice, may be known to the application, or
was written under this node's id, does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..metadata.states import ItemState
from ..models.executor import Draft
from ..node import Node
from ..stored import pack_bound
from ..stores import bulk


def hold_new(node: Node, ordered: Sequence[ItemState]) -> Mapping[str, ItemState]:
    """Hold the first states of items, where nothing can be in the way, and return them by their items' ids.

    Args:
        node: Who holds them; where they lie and what the application has of them was looked up.
        ordered: What has come.
    """
    store, executor = node.store, node.executor
    me, has_application = store.provider_id, executor.has_application
    places, bound, deferred = store.unwritten.places, store.unwritten.bound, store.tables.deferred
    findable = {name: executor.may_find(name) for name in {state.entity_name for state in ordered}}
    counted = Counter([state.item_id for state in ordered])
    repeated = {item_id for item_id, times in counted.items() if times > 1}
    del counted  # before much is written
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


class Maker:
    """Makes new objects in the application, within one transaction.

    Which item an object is, is looked up and noted for all of them together, by :meth:`settle`; what the
    application has of an item is known at once, to those that depend on it.

    Args:
        node: Whose application.
        told: Where it is noted what the application was told.
    """

    def __init__(self, node: Node, told: list[tuple[str, bool, bool]]) -> None:
        self._node = node
        self._told = told
        self._made: list[tuple[ItemState, Draft]] = []

    def make(self, state: ItemState) -> None:
        """Make the object of a live state, of a model that is known, of which there is none.

        Raises:
            Exception: The application cannot.
        """
        store = self._node.store
        draft = self._node.executor.execute(store, state, None)
        if draft is not None:
            store.unwritten.bound.set(state.item_id, pack_bound(draft.object_id, draft.digest))
            self._told.append((draft.object_id, False, True))
            self._made.append((state, draft))

    def settle(self) -> Iterator[tuple[ItemState, Draft]]:
        """Note which items the objects are; yield those whose object was another item's before.

        They are bound to nothing as yet.
        """
        made, self._made = self._made, []
        store = self._node.store
        unwritten = store.unwritten
        store.look_up_objects(draft.object_id for _, draft in made)
        for state, draft in made:
            if unwritten.objects.get(draft.object_id) is None:
                unwritten.objects.set(draft.object_id, state.item_id)
            else:
                unwritten.bound.set(state.item_id, None)
                yield state, draft
