"""Digests: what shows that two nodes which claim the same hold the same. Pure.

A node keeps, for each partition and every prefix above it, the sum of the digests of the states that it holds
there. Two nodes that claim the same of a prefix hold the same states, so their sums are equal: what claims
promise can be checked at the cost of comparing two numbers, however much there is. They differ for a moment
while news is under way. They stay different where claims speak of writes that were never seen: somebody lied,
or wrote under an id of a database that was restored from an old copy and has not noticed it.

Tombstones are counted apart, since they are collected at different times on different nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import ormsgpack

from ...peering.partitions import contains, lineage
from .claims import Claims, absorbed, cover
from .clocks import Stamps, merged
from .states import ItemState

#: Prefixes under one of a filter's that are told one by one; where there are more, only their sum is.
MOST_TOLD: Final = 200

_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * _BYTES)
_HEX: Final = 2 * _BYTES


def digest_of(state: ItemState) -> int:
    """Return the digest of all that is held of one item."""
    told = ormsgpack.packb(
        (
            state.item_id,
            state.entity_name,
            state.partition,
            state.payload,
            state.dot,
            sorted(state.vector.items()),
            state.length,
            state.hard,
            state.inserted,
        )
    )
    return int.from_bytes(blake2b(told, digest_size=_BYTES).digest(), "big")


@dataclass(frozen=True, slots=True)
class Digest:
    """What is held under a prefix.

    Attributes:
        held: Sum of the digests of all that is no tombstone.
        tombstones: Sum of those of the tombstones.
    """

    held: int = 0
    tombstones: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest((self.held + other.held) % _MODULUS, (self.tombstones + other.tombstones) % _MODULUS)

    def text(self, with_tombstones: bool) -> str:
        """Return it as it is told, in hexadecimal digits; tombstones last, where they can be compared."""
        told = f"{self.held:0{_HEX}x}"
        return told + f"{self.tombstones:0{_HEX}x}" if with_tombstones else told

    @classmethod
    def unpack(cls, packed: bytes) -> Digest:
        """Return the digest of what :meth:`pack` returned; of none, that of nothing."""
        return cls(int.from_bytes(packed[:_BYTES], "big"), int.from_bytes(packed[_BYTES:], "big"))

    def pack(self) -> bytes:
        """Return it as bytes."""
        return self.held.to_bytes(_BYTES, "big") + self.tombstones.to_bytes(_BYTES, "big")


class Tally:
    """What one transaction changes in the digests of partitions."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def count(self, state: ItemState, sign: int) -> None:
        """Count a state that is held from now on (``sign`` 1), or no longer (-1)."""
        sums = self._sums.get(state.partition)
        if sums is None:
            sums = self._sums[state.partition] = [0, 0]
        sums[state.is_tombstone] += sign * digest_of(state)

    def take(self) -> Iterator[tuple[str, Digest]]:
        """Yield ``(prefix, what is added to it)``, and begin anew."""
        sums, self._sums = self._sums, {}
        for partition, (held, tombstones) in sums.items():
            for prefix in lineage(partition):
                yield prefix, Digest(held % _MODULUS, tombstones % _MODULUS)

    def clear(self) -> None:
        """Forget what was counted: it is undone."""
        self._sums = {}


def differ(mine: str, theirs: str) -> bool:
    """Tell whether two digests, as told, say different things about what both speak of."""
    both = min(len(mine), len(theirs))
    return both < _HEX or mine[:both] != theirs[:both]


def deepest(prefixes: Iterable[str]) -> list[str]:
    """Return those prefixes that contain none of the others, sorted."""
    found = sorted(set(prefixes))
    return [one for one in found if not any(one != other and contains(one, other) for other in found)]


def lessened(claims: Claims, doubtful: Iterable[str], known: Iterable[str]) -> Mapping[str, Stamps]:
    """Return claims that say nothing about what is in doubt, and as much as before about all else.

    A claim speaks of everything below its prefix. So one that speaks of what is in doubt is told for those
    prefixes below it that do not.

    Args:
        claims: What would be claimed.
        doubtful: Prefixes that nothing is to be claimed for.
        known: All prefixes under which something is held.
    """
    doubts = tuple(doubtful)

    def is_safe(prefix: str) -> bool:
        return not any(contains(prefix, doubt) or contains(doubt, prefix) for doubt in doubts)

    found = {prefix: clock for prefix, clock in claims.items() if is_safe(prefix)}
    unsafe = [prefix for prefix in claims if prefix not in found]
    for prefix in known:
        if is_safe(prefix) and any(contains(above, prefix) for above in unsafe):
            found[prefix] = merged(found.get(prefix, {}), cover(claims, prefix))
    return absorbed({}, found)


def is_claimed_alike(prefix: str, one: Claims, other: Claims) -> bool:
    """Tell whether two nodes claim the same of everything under a prefix."""
    below = {found for found in (*one, *other) if contains(prefix, found)}
    return all(cover(one, found) == cover(other, found) for found in (prefix, *below))
