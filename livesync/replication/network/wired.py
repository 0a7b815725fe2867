"""The values of a session as they travel, and back. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from ...errors import ChangesRefused
from ...peering import wire
from ...peering.partitions import check_partition, contained_in_any
from ..metadata.clocks import Stamps
from ..metadata.lives import Told
from ..metadata.states import ItemState
from ..sessions.steps import Chunk, Cursor, Introduction, Offer


def introduction_to_wire(
    introduction: Introduction, other: str, others: Iterable[str] = ()
) -> wire.Introduction:
    """Return an introduction as it travels to a provider.

    Args:
        introduction: The whole.
        other: The other provider, if it is known.
        others: What it was called before. Of nobody else is anything told.
    """
    ids = {other, *others}
    return wire.Introduction(
        provider_id=introduction.provider_id,
        database_id=introduction.database_id,
        past=list(introduction.past),
        newest=introduction.newest,
        known={
            provider: stamp for provider, stamp in introduction.known.items() if provider in ids and stamp
        },
        held={provider: stamp for provider, stamp in introduction.held.items() if provider in ids},
    )


def introduction_of(told: wire.Introduction) -> Introduction:
    """Return an introduction that has travelled."""
    return Introduction(
        told.provider_id, told.database_id, tuple(told.past), told.newest, dict(told.known), dict(told.held)
    )


def claims_to_wire(claims: Mapping[str, Stamps]) -> dict[str, dict[str, int]]:
    """Return claims as they travel."""
    return {prefix: dict(clock) for prefix, clock in claims.items()}


def offer_to_wire(offer: Offer, total: int = 0) -> wire.Offer:
    """Return an offer as it travels.

    Args:
        offer: The offer.
        total: How many items it is of; 0: nobody knows.
    """
    return wire.Offer(
        source=offer.source,
        prefixes=list(offer.prefixes),
        claims=claims_to_wire(offer.claims),
        receiver=claims_to_wire(offer.receiver),
        collected=claims_to_wire(offer.collected),
        snapshots=list(offer.snapshots),
        digests=dict(offer.digests),
        lives=_lives_to_wire(offer.lives),
        total=total,
    )


def _lives_to_wire(lives: Iterable[Told]) -> dict[str, list[tuple[int, int, int]]]:
    found: dict[str, list[tuple[int, int, int]]] = {}
    for life, provider, parent, until in lives:
        found.setdefault(provider, []).append((life, parent, until))
    return found


def offer_of(told: wire.Offer, transfer_id: str, filter_: tuple[str, ...]) -> Offer:
    """Return an offer that has travelled.

    Args:
        told: The offer.
        transfer_id: Of which transfer.
        filter_: The transfer's; all that the offer speaks of must lie within it.

    Raises:
        ChangesRefused: It does not, or a partition has a wrong form.
    """
    if tuple(sorted(told.prefixes)) != tuple(sorted(filter_)):
        raise ChangesRefused("the offer's prefixes are not the filter of this transfer")
    spoken_of = {*told.claims, *told.collected, *told.snapshots, *told.digests}
    for prefix in (*told.prefixes, *spoken_of, *told.receiver):
        _check(prefix)
    for prefix in sorted(spoken_of):
        if not contained_in_any(filter_, prefix):
            raise ChangesRefused(
                f"the offer speaks of {prefix!r}, which is outside the filter of this transfer"
            )
    return Offer(
        transfer_id,
        told.source,
        filter_,
        told.claims,
        told.receiver,
        told.collected,
        tuple(sorted(told.snapshots)),
        told.digests,
        tuple(
            (life, provider, parent, until)
            for provider, births in told.lives.items()
            for life, parent, until in births
        ),
    )


def claims_of(told: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return claims that have travelled.

    Raises:
        ChangesRefused: A partition has a wrong form.
    """
    return {_check(prefix): dict(clock) for prefix, clock in told.items()}


def _check(prefix: str) -> str:
    try:
        return check_partition(prefix)
    except (TypeError, ValueError) as exc:
        raise ChangesRefused(str(exc)) from exc


def cursor_to_wire(cursor: Cursor) -> wire.Cursor:
    """Return a cursor as it travels."""
    return wire.Cursor(range_number=cursor.range_number, key=cursor.key)


def cursor_of(told: wire.Cursor | None) -> Cursor:
    """Return a cursor that has travelled; None: that of the first buffer."""
    return Cursor() if told is None else Cursor(told.range_number, told.key)


def item_to_wire(state: ItemState) -> wire.Item:
    """Return an item as it travels."""
    dot, vector = state.dot, dict(state.vector)
    return wire.Item(
        id=state.item_id,
        entity=state.entity_name,
        partition=state.partition,
        payload=state.payload,
        dot=dot,
        vector={} if len(vector) == 1 and vector.get(dot[0]) == dot[1] else vector,
        length=state.length,
        hard=state.hard,
        inserted=None if state.inserted == dot else state.inserted,
        life=state.life,
        met=state.met,
    )


def state_of(told: wire.Item) -> ItemState:
    """Return an item that has travelled. Names of models, partitions and providers are kept once."""
    dot = told.dot
    return ItemState(
        told.id,
        sys.intern(told.entity),
        sys.intern(told.partition),
        told.payload,
        dot,
        told.vector or {dot[0]: dot[1]},
        told.length,
        told.hard,
        told.inserted or dot,
        told.life,
        told.met,
    )


def chunk_to_wire(chunk: Chunk) -> wire.Buffer:
    """Return a chunk as it travels."""
    return wire.Buffer(
        transfer_session_id=chunk.session_id,
        number=chunk.number,
        items=[item_to_wire(state) for state in chunk.states],
        next=cursor_to_wire(chunk.cursor),
        last=chunk.is_last,
    )


def chunk_of(told: wire.Buffer, filter_: tuple[str, ...]) -> tuple[Chunk, list[ItemState]]:
    """Return a chunk that has travelled, and its items that lie outside of the filter: it lacks them."""
    states: list[ItemState] = []
    refused: list[ItemState] = []
    inside: dict[str, bool] = {}
    for item in told.items:
        state = state_of(item)
        allowed = inside.get(state.partition)
        if allowed is None:
            allowed = inside[state.partition] = contained_in_any(filter_, state.partition)
        (states if allowed else refused).append(state)
    chunk = Chunk(told.transfer_session_id, told.number, tuple(states), cursor_of(told.next), told.last)
    return chunk, refused
