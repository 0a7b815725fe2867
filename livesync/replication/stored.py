"""What two-way sync keeps in the ZODB: trees of plain values in one persistent object.

Its import path never changes, and what lies in the trees are text, numbers, bytes, tuples and dicts, so that
later versions can read it (promise 15). What is kept by scattered keys, as ids are, lies in pages
(``pagetrees.py``, ``layers.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import Final

import ormsgpack
from BTrees.LLBTree import LLTreeSet
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from ..track.stored import StoredLease
from .layers import LayeredTree
from .metadata.lives import Birth
from .metadata.states import ItemState
from .pages import Packed
from .ranges import LARGE

#: Where it lies in a database's root.
ROOT_KEY: Final = "livesync.replication"

#: What ``StoredReplica.schema`` is for data of this code.
SCHEMA: Final = 6


class StoredReplica(Persistent):
    """One provider's items, and what it knows of itself and others.

    Attributes:
        facts: Single values by name: who this is, and how far its own clock has come.
        index: provider -> :class:`~livesync.replication.ranges.Ranges`: (partition, stamp, item id), for
            every entry of every vector -> packed state (:func:`pack`) where the provider is the one that made
            the content; nothing elsewhere.
        items: item id -> packed place and stamp of its state in the index, and when it arrived
            (:func:`pack_place`).
        entities: model -> :class:`~livesync.replication.pagetrees.PageTree`: when an item arrived
            (:func:`arrival_key`) -> its id. So what is new comes at the end, whichever order it comes in.
        places: number of a place -> (provider, partition).
        place_numbers: (provider, partition) -> number of the place.
        tombstones: (partition, item id) of what is deleted, but not for good.
        claims: prefix -> clock, as pairs.
        collected: partition -> clock of the tombstones that were collected there, as pairs.
        issued: provider (this one) -> stamp -> hash of the item's id: all writes under its id that are known.
        heard: provider -> newest stamp of it in what was received.
        lives: life -> packed birth (:func:`pack_birth`).
        lives_of: (provider, ``until`` of a birth, life).
        marks: Own stamps that were ever told as the newest.
        conflicts: (created, log id) -> dict.
        conflicts_of: (item id, created, log id).
        deferred: item id -> (created, log id, packed state that the application has, or None).
        sessions: (started, session id) -> dict.
        session_changes: (session id, number of a chunk) -> :class:`~livesync.replication.pages.Packed`: what
            it and those applied with it changed (:func:`pack_changes`).
        bases: item id -> packed states that it had, which peers know: for models that ask (``bases.py``).
        displaced: item id -> item id: what an object of the application was, and what it is (``moves.py``).
        digests: prefix -> packed digest of what is held under it (``digests.py``).
        differences: (source, prefix) -> dict: where digests differed.
        incoming: session id -> dict: what is being received.
        incoming_items: (session id, item id) of partitions that are received as a whole.
        peers: provider -> dict: what was last heard of it.
        objects: object id of the host -> item id.
        local: item id -> packed object id and digest of what the application last had (:func:`pack_bound`).
        by_query: item id -> query id: what is here for a query and nothing else.
        hidden: item ids that left a query, and are kept since this node has written to them.
        subscriptions: (subscriber, query id, item id) -> vector that it has, as pairs.
        lease: Who runs a session (``locking.py``); None: nobody ever did.
    """

    lease: StoredLease | None = None

    def __init__(self) -> None:
        self.schema = SCHEMA
        self.facts = OOBTree()
        self.index = OOBTree()
        self.items = LayeredTree()
        self.entities = OOBTree()
        self.places = LOBTree()
        self.place_numbers = OOBTree()
        self.tombstones = OOTreeSet()
        self.claims = OOBTree()
        self.collected = OOBTree()
        self.issued = OOBTree()
        self.heard = OOBTree()
        self.lives = LOBTree()
        self.lives_of = OOTreeSet()
        self.marks = LLTreeSet()
        self.conflicts = OOBTree()
        self.conflicts_of = OOTreeSet()
        self.deferred = OOBTree()
        self.sessions = OOBTree()
        self.session_changes = OOBTree()
        self.bases = OOBTree()
        self.displaced = OOBTree()
        self.digests = OOBTree()
        self.differences = OOBTree()
        self.incoming = OOBTree()
        self.incoming_items = OOTreeSet()
        self.peers = OOBTree()
        self.objects = LayeredTree()
        self.local = LayeredTree()
        self.by_query = OOBTree()
        self.hidden = OOBTree()
        self.subscriptions = OOBTree()


def pack(state: ItemState) -> bytes:
    """Return a state, without its item's id, as MessagePack.

    Where the dot is all that it has seen, or what inserted it, it is said once.
    """
    dot, vector = state.dot, state.vector
    return ormsgpack.packb(
        (
            state.entity_name,
            state.partition,
            state.payload,
            dot,
            None if len(vector) == 1 and vector.get(dot[0]) == dot[1] else tuple(vector.items()),
            state.length,
            state.hard,
            None if state.inserted == dot else state.inserted,
            state.life,
            state.met,
        )
    )


def pack_apart(state: ItemState) -> bytes | Packed:
    """Return the same, for a tree whose buckets are written anew with each key; a large one lies apart."""
    packed = pack(state)
    return packed if len(packed) <= LARGE else Packed(packed)


def unpack(item_id: str, packed: bytes | Packed) -> ItemState:
    """Return the state of what :func:`pack` or :func:`pack_apart` returned."""
    entity_name, partition, payload, dot, vector, length, hard, inserted, life, met = ormsgpack.unpackb(
        packed.data if isinstance(packed, Packed) else packed
    )
    provider = intern(dot[0])
    mine = (provider, dot[1])
    return ItemState(
        item_id,
        intern(entity_name),
        intern(partition),
        payload,
        mine,
        {provider: dot[1]} if vector is None else {intern(known): stamp for known, stamp in vector},
        length,
        hard,
        mine if inserted is None else (intern(inserted[0]), inserted[1]),
        life,
        tuple(map(tuple, met)) if met else (),
    )


def arrival_key(arrival: int) -> str:
    """Return where an item lies among those of its model: in the order in which they arrived."""
    return f"{arrival:012x}"


def pack_place(number: int, stamp: int, arrival: int) -> bytes:
    """Return where a state lies, and as which item of this store it arrived, as MessagePack."""
    return ormsgpack.packb((number, stamp, arrival))


def unpack_place(packed: bytes) -> tuple[int, int, int]:
    """Return the number of the place, the stamp, and the number of the arrival."""
    number, stamp, arrival = ormsgpack.unpackb(packed)
    return number, stamp, arrival


def pack_birth(birth: Birth) -> bytes:
    """Return where a life begins, as MessagePack."""
    return ormsgpack.packb((birth.provider, birth.parent, birth.until, birth.depth, birth.skip))


def unpack_birth(packed: bytes) -> Birth:
    """Return what :func:`pack_birth` was given."""
    return Birth(*ormsgpack.unpackb(packed))


def pack_bound(object_id: str, digest: bytes) -> bytes:
    """Return what the application has of an item, as MessagePack."""
    return ormsgpack.packb((object_id, digest))


def unpack_bound(packed: bytes) -> tuple[str, bytes]:
    """Return what :func:`pack_bound` was given."""
    object_id, digest = ormsgpack.unpackb(packed)
    return object_id, digest


#: (item id, provider, stamp): a change that a session has brought.
ChangeRow = tuple[str, str, int]


def pack_changes(rows: Iterable[ChangeRow]) -> Packed:
    """Return rows of changes as one object."""
    return Packed(ormsgpack.packb(tuple(rows)))


def unpack_changes(packed: Packed) -> list[ChangeRow]:
    """Return what :func:`pack_changes` was given."""
    return [tuple(row) for row in ormsgpack.unpackb(packed.data)]
