"""What two-way sync keeps in the ZODB: trees of plain values in one persistent object.

Its import path never changes, and what lies in the trees are text, numbers, bytes, tuples and dicts, so that
later versions can read it (promise 15).
"""

from __future__ import annotations

from typing import Final

import ormsgpack
from BTrees.LLBTree import LLTreeSet
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from .states import ItemState

#: Where it lies in a database's root.
ROOT_KEY: Final = "livesync.replication"

#: What ``StoredReplica.schema`` is for data of this code.
SCHEMA: Final = 1


class StoredReplica(Persistent):
    """One provider's items, and what it knows of itself and others.

    Attributes:
        facts: Single values by name: who this is, and how far its own clock has come.
        items: item id -> packed state (:func:`pack`).
        index: provider -> set of (partition, stamp, item id), for every entry of every vector.
        tombstones: (partition, item id) of what is deleted, but not for good.
        claims: prefix -> clock, as pairs.
        collected: partition -> clock of the tombstones that were collected there, as pairs.
        marks: Own stamps that were ever told as the newest.
        conflicts: (created, log id) -> dict.
        conflicts_of: (item id, created, log id).
        deferred: item id -> (created, log id, packed state that the application has, or None).
        sessions: (started, session id) -> dict.
        session_changes: (session id, number) -> ((item id, provider, stamp), …).
        incoming: session id -> dict: what is being received.
        incoming_items: (session id, item id) of partitions that are received as a whole.
        peers: provider -> dict: what was last heard of it.
        objects: object id of the host -> item id.
        local: item id -> (object id, digest of what the application last had).
        by_query: item id -> query id: what is here for a query and nothing else.
        hidden: item ids that left a query, and are kept since this node has written to them.
        subscriptions: (subscriber, query id, item id) -> vector that it has, as pairs.
    """

    def __init__(self) -> None:
        self.schema = SCHEMA
        self.facts = OOBTree()
        self.items = OOBTree()
        self.index = OOBTree()
        self.tombstones = OOTreeSet()
        self.claims = OOBTree()
        self.collected = OOBTree()
        self.marks = LLTreeSet()
        self.conflicts = OOBTree()
        self.conflicts_of = OOTreeSet()
        self.deferred = OOBTree()
        self.sessions = OOBTree()
        self.session_changes = OOBTree()
        self.incoming = OOBTree()
        self.incoming_items = OOTreeSet()
        self.peers = OOBTree()
        self.objects = OOBTree()
        self.local = OOBTree()
        self.by_query = OOBTree()
        self.hidden = OOBTree()
        self.subscriptions = OOBTree()


#: A state as one bytes object: a bucket of a tree is written anew with each item in it that changes, and
#: bytes cost it least.
PackedState = bytes


def pack(state: ItemState) -> PackedState:
    """Return a state, without its item's id, as MessagePack."""
    return ormsgpack.packb(
        (
            state.entity_name,
            state.partition,
            state.payload,
            state.dot,
            tuple(state.vector.items()),
            state.length,
            state.hard,
            state.inserted,
        )
    )


def unpack(item_id: str, packed: PackedState) -> ItemState:
    """Return the state of what :func:`pack` returned."""
    entity_name, partition, payload, dot, vector, length, hard, inserted = ormsgpack.unpackb(packed)
    return ItemState(
        item_id, entity_name, partition, payload, tuple(dot), dict(vector), length, hard, tuple(inserted)
    )
