"""A session as its receiver has it: begun, its chunks noted, and what the sender claimed claimed at its end.

Claims move when the whole session is applied, and not before. A session that is given up is cleaned
(``cleaning.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from ...errors import ChangesRefused
from ...peering.partitions import contained_in_any
from ..metadata.checking import check_claims
from ..metadata.claims import is_covered
from ..metadata.states import ItemState
from ..node import Node
from ..stores import lifetimes
from . import comparing, journal
from .receiving import Applied, Receiver
from .steps import Chunk, Offer


def begin(node: Node, offer: Offer) -> None:
    """Note that a session is being received, within the store's transaction; again does no harm.

    Raises:
        ChangesRefused: The sender claims what is none of its business.
        ClockAhead: It claims what lies too far in the future.
    """
    store = node.store
    if offer.source == store.provider_id:
        raise ChangesRefused(f"provider {offer.source!r} is this one: nobody syncs with itself")
    for prefix in offer.claims:
        if not contained_in_any(offer.prefixes, prefix):
            raise ChangesRefused(f"the peer claims {prefix!r}, which is outside the filter of this session")
    check_claims((*offer.claims.values(), *offer.collected.values()), node.latest())
    lifetimes.learn(store, offer.lives)
    if offer.session_id not in store.tables.incoming:
        store._set(
            store.tables.incoming,
            offer.session_id,
            {
                "source": offer.source,
                "numbers": (),
                "last": None,
                "begun": node.now(),
                "mending": comparing.mended_by(store, offer),
            },
        )


def mending(node: Node, session_id: str) -> tuple[str, ...]:
    """Return the prefixes that a session mends."""
    found: tuple[str, ...] = incoming_of(node, session_id)["mending"]
    return found


def note_chunks(node: Node, offer: Offer, chunks: Sequence[Chunk], applied: Applied) -> None:
    """Note that chunks were applied, and what a partition that comes as a whole holds."""
    store = node.store
    kept = incoming_of(node, offer.session_id)
    numbers, last = kept["numbers"], kept["last"]
    for chunk in chunks:
        numbers = _with_number(numbers, chunk.number)
        last = chunk.number if chunk.is_last else last
        for state in chunk.states if offer.snapshots or kept["mending"] else ():
            if state.partition in offer.snapshots or contained_in_any(kept["mending"], state.partition):
                store._insert(store.tables.incoming_items, (offer.session_id, state.item_id))
    store._set(store.tables.incoming, offer.session_id, {**kept, "numbers": numbers, "last": last})
    journal.note_changes(store, offer.session_id, chunks[0].number, applied.states)


def _with_number(numbers: tuple[tuple[int, int], ...], number: int) -> tuple[tuple[int, int], ...]:
    """Add a number to sorted, closed intervals of numbers."""
    found = sorted([*numbers, (number, number)])
    result: list[tuple[int, int]] = []
    for first, last in found:
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def incoming_of(node: Node, session_id: str) -> dict[str, Any]:
    """Return what is kept of a session that is being received.

    Raises:
        ChangesRefused: There is none of this id.
    """
    found: dict[str, Any] | None = node.store.tables.incoming.get(session_id)
    if found is None:
        raise ChangesRefused(f"session {session_id!r} is not under way here: it has ended, or never began")
    return found


def finish(node: Node, offer: Offer) -> list[str]:
    """Claim what the sender claimed: everything is applied. Within the store's transaction.

    What was held and is missing from a partition that came as a whole is gone.

    Returns:
        Prefixes under which both hold other things, though they claim the same.

    Raises:
        ChangesRefused: Chunks are missing.
    """
    store = node.store
    kept = incoming_of(node, offer.session_id)
    if kept["last"] is None or kept["numbers"] != ((0, kept["last"]),):
        raise ChangesRefused(f"session {offer.session_id!r} lacks some of its chunks: nothing is claimed yet")
    _drop_missing(node, offer)
    me = store.provider_id
    store.absorb(
        {
            prefix: {provider: stamp for provider, stamp in clock.items() if provider != me}
            for prefix, clock in offer.claims.items()
        }
    )
    for partition, clock in offer.collected.items():
        store.note_collected(partition, clock)
    comparing.finish_mending(node, offer, kept["mending"])
    forget(node, offer.session_id)
    return comparing.note_differences(store, offer)


def _drop_missing(node: Node, offer: Offer) -> None:
    """Drop what a partition that came as a whole lacks, but for what the sender does not know of."""
    store = node.store
    gone = []
    for partition in offer.snapshots:
        for item_id in store.partition_items(partition):
            state = store.get(item_id)
            if state is None or (offer.session_id, item_id) in store.tables.incoming_items:
                continue
            if not state.hard and is_covered(offer.claims, partition, state.vector):
                gone.append(state)
    removed = [_as_removed(state) for state in gone if state.is_live]
    receiver = Receiver(node, careful=True)
    for state in removed:
        receiver.execute(state, state)
    for state in gone:
        store.drop(state)
    node.executor.record(store.connection, receiver.applied.told, offer.source)


def _as_removed(state: ItemState) -> ItemState:
    return structs.replace(state, length=state.length + 1)


def forget(node: Node, session_id: str) -> None:
    """Keep nothing more of a session that is being received."""
    store = node.store
    store._remove(store.tables.incoming, session_id)
    found = store.tables.incoming_items.keys((session_id,), (session_id + "\0",), excludemax=True)
    for key in list(found):
        store._discard(store.tables.incoming_items, key)
