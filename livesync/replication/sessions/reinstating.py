"""A loser reinstated: what it said becomes a new change, which travels like any other."""

from __future__ import annotations

from ...errors import ItemErased, UsageError
from ..metadata.changes import ConflictType
from ..metadata.states import ItemState
from ..node import Node
from ..stores import writing
from . import conflicts, receiving


def reinstate(node: Node, log_id: str) -> ItemState:
    """Make the item of a conflict what its loser said, in the store and in the application.

    Args:
        node: Where the conflict is kept.
        log_id: The conflict's id, or the beginning of it.

    Raises:
        UnknownConflict: There is none of this id, or several.
        UsageError: It is no loser: it could not be applied, and is tried again.
        ItemErased: The item was deleted for good.
        Exception: Whatever the application raises; nothing has happened then.
    """
    store = node.store

    def work() -> ItemState:
        entry = conflicts.find(store, log_id)
        loser = entry.loser
        if entry.conflict_type is ConflictType.EXCEPTION_OCCURRED:
            raise UsageError(
                f"conflict {log_id!r} has no loser: the change could not be applied, and every session tries"
                " again"
            )
        held = receiving.take_local_edit(node, loser)
        if held is not None and held.hard:
            raise ItemErased(f"item {loser.item_id!r} was deleted for good: its id is closed")
        payload = loser.payload if loser.is_live else None
        state = writing.write(node, loser.item_id, loser.entity_name, loser.partition, payload)
        bound = store.bound(loser.item_id)
        object_id = bound[0] if bound else node.executor.find(store, state)
        draft = node.executor.execute(store, state, object_id)
        if draft is not None:
            store.bind(state.item_id, draft.object_id, draft.digest)
        elif object_id is not None:
            store.unbind(state.item_id)
        told = draft.object_id if draft is not None else object_id
        if told is not None:
            changes = [(told, object_id is not None, draft is not None)]
            node.executor.record(store.connection, changes, store.provider_id)
        return state

    return store.run(work, note=f"conflict {log_id} reinstated")
