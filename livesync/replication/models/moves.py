"""Moves: an object whose partition changes is another item, and one object of the application all the same.

A move is a delete in the old partition and a new item in the other one. Which of the two a node is told first
makes no difference: an object belongs to one item, the later one, and an item that it does not belong to any
more takes nothing away with it. Where two nodes move one object apart, the later move wins everywhere; the
other item is displaced, and deleted by who notices, with a conflict log.
"""

from __future__ import annotations

from ..metadata.applying import conflict_type, operation_of
from ..metadata.states import ItemState
from ..node import Node
from ..sessions import conflicts
from ..stores import writing
from ..stores.base import BaseDataStore


def other_item(store: BaseDataStore, item_id: str, object_id: str | None) -> ItemState | None:
    """Return the item that an object belongs to, if that is another one; None: it is free, or this one's."""
    owner = None if object_id is None else store.item_of(object_id)
    return None if owner is None or owner == item_id else store.get(owner)


def is_later(one: ItemState, other: ItemState) -> bool:
    """Tell which of two items an object belongs to that both say they are."""
    return (one.is_live, one.dot[1], one.dot[0]) > (other.is_live, other.dot[1], other.dot[0])


def displace(store: BaseDataStore, loser: ItemState, winner: ItemState) -> None:
    """Note that an object belongs to ``winner`` now, and no longer to ``loser``."""
    store.unbind(loser.item_id)
    if loser.is_live:
        store._set(store.tables.displaced, loser.item_id, winner.item_id)


def settle(node: Node) -> int:
    """Delete what was displaced and nobody has deleted since, in one transaction; return how many."""
    store = node.store

    def work() -> int:
        count = 0
        for item_id, winner_id in list(store.tables.displaced.items()):
            store._remove(store.tables.displaced, item_id)
            loser, winner = store.get(item_id), store.get(winner_id)
            if loser is None or not loser.is_live or store.bound(item_id) is not None:
                continue
            if winner is not None:
                kind = conflict_type(operation_of(winner), operation_of(loser))
                conflicts.save(store, conflicts.new_entry(node.new_key(), kind, loser, winner))
            writing.write(node, item_id, loser.entity_name, loser.partition, None)
            count += 1
        return count

    if not store.read(lambda: len(store.tables.displaced)):
        return 0
    return store.run(work, note="two moves of one object")
