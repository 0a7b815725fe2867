"""Erasing an object from what two-way sync keeps beside the items themselves.

That is: conflict logs, with the texts of exceptions; reasons of sessions and transfers that name it; what the
application had before something could not be applied; and buffers of a peer's transfer that wait to be
applied. The item itself says what the application's object says, and goes with it: a deleted one says
nothing. To erase it on all nodes and close its id, delete it for good
(:meth:`~livesync.replication.provider.BaseSyncProvider.erase`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ..forms import decode_json
from ..peering.records import StoredSessions
from .models.hostexecutor import DOCUMENT
from .provider import ZODBSyncProvider
from .sessions import conflicts
from .stores import writing
from .stores.base import BaseDataStore
from .stores.zodbstore import ZODBDataStore

#: What stands where a text spoke of the item.
_ERASED: Final = "erased: its object was forgotten"


@dataclass(frozen=True, slots=True)
class ForgottenItems:
    """What was erased.

    Attributes:
        item_ids: The object's items, as far as anything names them, sorted.
        conflicts: Conflict logs that said something of them.
        texts: Reasons and errors that named it, of sessions, transfers and other items' conflicts.
        transfers: Transfers that were ended, since buffers of theirs that wait held one of them; the next
            sync begins anew what they carried.
    """

    item_ids: tuple[str, ...]
    conflicts: int
    transfers: int
    texts: int = 0


def forget(provider: ZODBSyncProvider, object_id: str) -> ForgottenItems:
    """Erase what two-way sync keeps of an object beside its item. Again does no harm.

    In transactions of its own: one for each transfer that is ended, and one for the rest.

    Args:
        provider: This database's.
        object_id: The object's id, or an item's: a model's object that is gone is known by that alone.
    """
    store = provider.data_store
    item_ids = store.read(lambda: _items_of(store, object_id))
    transfers = store.read(lambda: _transfers_with(store, {*item_ids, object_id}))
    if transfers:
        from .network.transfers import (
            Transfer,  # where there are transfers, the extra that they need is installed
        )

        for transfer_id in transfers:
            Transfer(provider, transfer_id).give_up()

    def work() -> tuple[int, int]:
        count = 0
        for item_id in item_ids:
            count += sum(_says_something(entry) for entry in conflicts.of_item(store, item_id))
            writing.forget_payload(store, item_id, _ERASED)
        return count, _erase_texts(store, {*item_ids, object_id})

    count, texts = store.run(work, note="forgotten")
    return ForgottenItems(tuple(item_ids), count, len(transfers), texts)


def _erase_texts(store: ZODBDataStore, ids: set[str]) -> int:
    """Replace the texts that name one of the ids, as a word of its own; return how many there were."""
    names = re.compile("|".join(rf"(?<![\w/-]){re.escape(named)}(?![\w/-])" for named in sorted(ids))).search
    count = 0
    for key, kept in list(store.tables.sessions.items()):
        if names(kept["reason"]):
            store._set(store.tables.sessions, key, {**kept, "reason": _ERASED})
            count += 1
    for entry in conflicts.newest_first(store):
        if entry.description is not None and names(entry.description):
            conflicts.save(store, replace(entry, description=_ERASED))
            count += 1
    stored = _stored_sessions(store)
    for record in () if stored is None else list(stored.transfers.values()):
        if names(record.error):
            record.error = _ERASED
            count += 1
    return count


def _items_of(store: BaseDataStore, object_id: str) -> list[str]:
    found = set()
    bound = store.item_of(object_id)
    if bound is not None:
        found.add(bound)
    if store.get(object_id) is not None or conflicts.of_item(store, object_id):
        found.add(object_id)
    # an object that is gone is bound to no item any more; a document names it
    for entry in conflicts.newest_first(store):
        sides = [state for state in (entry.loser, entry.winner) if state is not None]
        if any(_documented(state.entity_name, state.payload) == object_id for state in sides):
            found.add(entry.item_id)
    return sorted(found)


def _documented(entity_name: str, payload: str) -> Any:
    """Return the id of the document that an item is; None where it is none."""
    return msgspec.json.decode(payload)["id"] if entity_name == DOCUMENT and payload else None


def _says_something(entry: conflicts.LogEntry) -> bool:
    has_payload = any(state is not None and state.payload for state in (entry.loser, entry.winner))
    return has_payload or entry.description not in (None, _ERASED)


def _transfers_with(store: ZODBDataStore, item_ids: set[str]) -> list[str]:
    """Return the transfers of which buffers that wait hold one of the items."""
    sessions = _stored_sessions(store)
    if sessions is None:
        return []
    return sorted(
        {
            transfer_id
            for (transfer_id, _), packet in sessions.buffers.items()
            if not _buffered(packet.data).isdisjoint(item_ids)
        }
    )


def _stored_sessions(store: ZODBDataStore) -> StoredSessions | None:
    assert store.connection is not None, "within a transaction of the store"
    try:
        return StoredSessions.get(store.connection.root(), create=False)
    except LookupError:
        return None


def _buffered(data: bytes) -> set[Any]:
    """Return the ids of the items in a buffer, and of the documents that they are."""
    from ..peering import compression, wire

    buffer = decode_json(compression.unpack(data, "zstd", wire.MAX_BUFFER_UNPACKED), wire.Buffer)
    documented = {_documented(item.entity, item.payload) for item in buffer.items}
    return {item.id for item in buffer.items} | documented
