"""What two concurrent states come from: the last versions of an item that peers know, for models that ask.

A version that was never told to anybody can be what nobody else's comes from, so it is not kept.
"""

from __future__ import annotations

from typing import Final

from ..metadata.clocks import descends
from ..metadata.states import Dot, ItemState
from ..node import Node
from ..stored import pack_apart, unpack

#: Versions kept of one item.
KEPT: Final = 5


def keep(node: Node, state: ItemState | None, successor: Dot | None = None) -> None:
    """Keep a version that is about to be replaced, if its model asks for it and somebody may know it.

    Args:
        node: Who holds it.
        state: The version; None: there was none.
        successor: The write that comes after it; None: another one than made it.
    """
    if state is None or not state.is_live or state.dot == successor:
        return
    if not node.executor.keeps_base(state.entity_name):
        return
    store = node.store
    marks = store.tables.marks
    provider, stamp = state.dot
    if provider == store.provider_id and not (marks and marks.maxKey() >= stamp):
        return
    kept = store.tables.bases.get(state.item_id, ())
    if not any(unpack(state.item_id, packed).dot == state.dot for packed in kept):
        store._set(store.tables.bases, state.item_id, (*kept[1 - KEPT :], pack_apart(state)))


def find(node: Node, one: ItemState, other: ItemState) -> ItemState | None:
    """Return the newest version that two states both come from; None where none is kept."""
    kept = [unpack(one.item_id, packed) for packed in node.store.tables.bases.get(one.item_id, ())]
    common = [
        state for state in kept if descends(one.vector, state.vector) and descends(other.vector, state.vector)
    ]
    return max(common, key=lambda state: state.rank, default=None)
