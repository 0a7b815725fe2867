"""Local writes: stamped once, here and nowhere else, within the store's transaction."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from ...errors import ChangesRefused, ItemErased
from ..metadata.applying import Merge, merge_states
from ..metadata.changes import ConflictType
from ..metadata.states import ItemState, written
from ..models import bases
from ..models.executor import Draft
from ..node import Node
from ..sessions import conflicts
from ..stored import pack_apart, unpack
from . import bulk
from .base import BaseDataStore


def write(
    node: Node,
    item_id: str,
    entity_name: str,
    partition: str,
    payload: str | None,
    hard: bool = False,
) -> ItemState:
    """Stamp a local write and hold it; return the item's state.

    An update of an item that is deferred was made without seeing what is deferred: the two are concurrent. A
    delete means whatever there is.

    Args:
        node: Who writes.
        item_id, entity_name, partition: The item.
        payload: JSON text; None deletes.
        hard: Delete for good: what the item said is erased, and its id is closed.

    Raises:
        ItemErased: The item was deleted for good.
        ChangesRefused: A delete, and there is no such item.
        ValueError: The item is in another partition.
    """
    store = node.store
    held = store.get(item_id)
    if held is not None:
        if held.hard:
            if hard:
                return held
            raise ItemErased(f"item {item_id!r} was deleted for good: its id is closed")
        if held.partition != partition:
            raise ValueError(
                f"item {item_id!r} is in partition {held.partition!r}, and a partition never changes:"
                " delete it there and create another one"
            )
    open_entry = store.tables.deferred.get(item_id)
    base = held
    if open_entry is not None and payload is not None:
        base = None if open_entry[2] is None else unpack(item_id, open_entry[2])
    if held is None and payload is None:
        raise ChangesRefused(f"there is no item {item_id!r} to delete")
    bases.keep(node, held)
    dot = (store.provider_id, node.next_stamp())
    state = written(
        base, item_id, entity_name, partition, payload, dot, hard, life=store.life, find=store.birth_of
    )
    if open_entry is None or held is None:
        store.put(state, held)
    else:
        union = merge_states(held, state, find=store.birth_of)
        state = union.state
        store.put(state, held)
        note_conflict(node, union)
        settle_deferred(node, item_id)
        if state.content != written_content(base, payload):
            # the application's own write lost: what is held is still to be applied
            defer(node, state, base, open_entry[:2])
    if hard:
        forget_payload(node.store, item_id)
    return state


def write_new(node: Node, drafts: Sequence[Draft]) -> None:
    """Stamp and hold local writes of items of which nothing is held: what :func:`write` does with each.

    Args:
        node: Who writes.
        drafts: What the application has of them, each of another item that is not deferred; at least one.
    """
    store = node.store
    stamps = node.next_stamps(len(drafts))
    me, life = store.provider_id, store.life
    bulk.put_new(
        store,
        [
            written(
                None,
                draft.item_id,
                draft.entity_name,
                draft.partition,
                draft.payload,
                (me, stamp),
                life=life,
            )
            for draft, stamp in zip(drafts, stamps, strict=True)
        ],
    )


def write_newer(node: Node, changes: Sequence[tuple[Draft, ItemState]]) -> None:
    """Stamp and hold local writes of items that are held: what :func:`write` does with each.

    Args:
        node: Who writes.
        changes: What the application has of them, and what is held: live, in the same partition, of the same
            model, which keeps no base; each of another item that is not deferred; at least one.
    """
    store = node.store
    stamps = node.next_stamps(len(changes))
    me, life, find = store.provider_id, store.life, store.birth_of
    bulk.put_newer(
        store,
        [
            (
                written(
                    before,
                    draft.item_id,
                    draft.entity_name,
                    draft.partition,
                    draft.payload,
                    (me, stamp),
                    life=life,
                    find=find,
                ),
                before,
            )
            for (draft, before), stamp in zip(changes, stamps, strict=True)
        ],
    )


def written_content(base: ItemState | None, payload: str | None) -> tuple[str, bool, bool]:
    """Return the content of a write that is no hard delete."""
    return (payload or "", payload is not None, False)


def touch(node: Node, state: ItemState) -> ItemState:
    """Let an item travel under this node's clock too; its content and rank stay."""
    touched = state.touched(node.store.provider_id, node.next_stamp())
    node.store.put(touched, state)
    return touched


def note_conflict(node: Node, union: Merge, query_ids: tuple[str, ...] = ()) -> conflicts.LogEntry | None:
    """Keep the loser of a merge, if there is one."""
    if union.loser is None or union.conflict_type is None:
        return None
    entry = conflicts.new_entry(
        node.new_key(), union.conflict_type, union.loser, union.state, query_ids=query_ids
    )
    conflicts.save(node.store, entry)
    return entry


def forget_payload(
    store: BaseDataStore, item_id: str, text: str = "erased: the item was deleted for good"
) -> None:
    """Erase what an item said from everything that is kept beside it; ``text`` stands for descriptions."""
    conflicts.erase_item(store, item_id, text)
    store._remove(store.tables.bases, item_id)
    open_entry = store.tables.deferred.get(item_id)
    if open_entry is not None and open_entry[2] is not None:
        base = structs.replace(unpack(item_id, open_entry[2]), payload="")
        store._set(store.tables.deferred, item_id, (*open_entry[:2], pack_apart(base)))


# -- what could not be applied -----------------------------------------------------------------------


def defer(
    node: Node,
    state: ItemState,
    base: ItemState | None,
    key: tuple[int, str] | None,
    text: str = "",
    query_ids: tuple[str, ...] = (),
) -> None:
    """Note that the application has not got ``state``, but ``base``; ``key`` is of the log about it."""
    if key is None or key not in node.store.tables.conflicts:
        entry = conflicts.new_entry(
            node.new_key(), ConflictType.EXCEPTION_OCCURRED, state, None, text, query_ids
        )
    else:
        entry = conflicts.load(node.store, key)
        entry = replace(entry, loser=state, resolved=None, description=text or entry.description)
    conflicts.save(node.store, entry)
    node.store._set(
        node.store.tables.deferred, state.item_id, (*entry.key, None if base is None else pack_apart(base))
    )


def settle_deferred(node: Node, item_id: str) -> None:
    """Note that an item is deferred no more."""
    store = node.store
    open_entry = store.tables.deferred.get(item_id)
    if open_entry is None:
        return
    store._remove(store.tables.deferred, item_id)
    entry = conflicts.load(store, open_entry[:2])
    conflicts.save(store, replace(entry, resolved=node.now()))


def trace(exc: BaseException) -> str:
    """Return an exception's stack trace, as conflict logs keep it."""
    return "".join(traceback.format_exception(exc)).rstrip()
