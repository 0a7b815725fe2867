"""The sender's side of a session: pin the claims, then read the ranges, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from ...peering.partitions import contained_in_any, minimal
from ..metadata.claims import Covers, Range, cover, pinned, ranges
from ..metadata.clocks import Stamps, descends
from ..metadata.states import ItemState
from ..node import Node
from ..stores import lifetimes
from . import comparing
from .steps import Chunk, Cursor, Offer

#: Items of an offer that are counted beforehand: so many are read in a moment, and take little memory.
MOST_COUNTED: Final = 50_000


def make_offer(node: Node, prefixes: Iterable[str], receiver: Mapping[str, Stamps]) -> Offer:
    """Pin what this node claims, and say what it will send to a receiver with these claims."""
    store = node.store
    wanted = minimal(prefixes)
    store.mark()
    claims = pinned(store.claims(), wanted)
    collected = {
        partition: clock
        for partition, clock in store.collected().items()
        if contained_in_any(wanted, partition)
    }
    snapshots = tuple(
        partition
        for partition, clock in sorted(collected.items())
        if not descends(cover(receiver, partition), clock)
    )
    return Offer(
        node.new_id(),
        store.provider_id,
        wanted,
        claims,
        {prefix: dict(clock) for prefix, clock in receiver.items()},
        collected,
        snapshots,
        comparing.told(store, wanted),
        lifetimes.told_to(store, receiver, bool(snapshots or ranges(claims, receiver))),
    )


def count_offered(node: Node, offer: Offer, most: int = MOST_COUNTED) -> int:
    """Return how many items an offer is of; 0 where there are more than ``most``, or none: nobody knows."""
    store, covers = node.store, Covers(offer.receiver)
    found: set[str] = set()
    for each in offer.ranges():
        for key in store.scan(each.provider, each.prefix, partial(each.after, covers), each.whole):
            found.add(key[2])
            if len(found) > most:
                return 0
    return len(found)


def read_chunk(
    node: Node, offer: Offer, number: int, cursor: Cursor, size: int, characters: int | None = None
) -> Chunk:
    """Return the next chunk of an offer: at most ``size`` items, and ``characters`` of payload.

    An item that alone has more is a chunk of its own.

    An item that lies in several ranges is sent with the first of them. What has changed since the offer was
    made is sent as it is now; it is in its ranges all the same, since they have no upper end.
    """
    states: list[ItemState] = []
    room = float("inf") if characters is None else characters
    for place, state in _read(node, offer, cursor):
        if len(states) == size:
            return Chunk(offer.session_id, number, tuple(states), cursor, False)
        if state is not None:
            room -= len(state.payload)
            if room < 0 and states:
                return Chunk(offer.session_id, number, tuple(states), cursor, False)
            states.append(state)
        cursor = place
    return Chunk(offer.session_id, number, tuple(states), cursor, True)


def _read(node: Node, offer: Offer, cursor: Cursor) -> Iterator[tuple[Cursor, ItemState | None]]:
    store = node.store
    ranges = offer.ranges()
    covers = Covers(offer.receiver)
    for index in range(cursor.range_number, len(ranges)):
        found = ranges[index]
        start = cursor.key if index == cursor.range_number else None
        after = partial(found.after, covers)
        for key, state in store.scan_states(found.provider, found.prefix, after, found.whole, start):
            yield Cursor(index, key), None if _is_in_earlier(ranges[:index], covers, state) else state


def _is_in_earlier(earlier: list[Range], covers: Covers, state: ItemState) -> bool:
    return any(found.holds(covers, state.partition, state.vector) for found in earlier)
