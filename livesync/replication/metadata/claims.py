"""Claims: what a node says it holds, for each partition prefix a clock. Pure.

``claims[prefix][p] = t`` says: of all that ``p`` wrote up to ``t`` under this prefix, this node holds that
state, or one that has seen it. What covers a prefix is the maximum over the prefix and those that contain
it. A claim moves only when a whole session has been applied, and then to what the sender claimed when the
session began: one that moved with each chunk would speak of items that have not been sent yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...peering.partitions import contains, lineage
from .clocks import Stamps, descends, merged

#: prefix -> clock.
Claims = Mapping[str, Stamps]


@dataclass(frozen=True, slots=True)
class Range:
    """What is to be sent: everything under ``prefix`` whose vector says more of ``provider`` than is covered.

    There is no upper end: an item that changes while the session runs moves to the end of the range, and has
    to be found there. ``whole`` is a partition that is sent as a whole, whatever is covered, without what
    lies below.
    """

    prefix: str
    provider: str
    whole: bool = False

    def after(self, covers: Covers, partition: str) -> int:
        """Return the stamp above which a partition's items lie in this range."""
        return 0 if self.whole else covers(partition).get(self.provider, 0)

    def holds(self, covers: Covers, partition: str, vector: Stamps) -> bool:
        """Tell whether an item lies in this range."""
        if not (partition == self.prefix if self.whole else contains(self.prefix, partition)):
            return False
        return vector.get(self.provider, 0) > self.after(covers, partition)


class Covers:
    """What claims cover, by partition; each worked out once."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._known: dict[str, Stamps] = {}

    def __call__(self, partition: str) -> Stamps:
        """Return what is claimed of a partition."""
        found = self._known.get(partition)
        if found is None:
            found = self._known[partition] = cover(self._claims, partition)
        return found


def cover(claims: Claims, prefix: str) -> dict[str, int]:
    """Return what is claimed of everything under ``prefix``."""
    return merged(*(claims[above] for above in lineage(prefix) if above in claims))


def is_covered(claims: Claims, partition: str, vector: Stamps) -> bool:
    """Tell whether every write that a state has seen is claimed."""
    return descends(cover(claims, partition), vector)


def pinned(claims: Claims, prefixes: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return what a sender pins when a session over ``prefixes`` begins.

    That is, for each of them, what covers it, and also the claims for every prefix below: else a node that
    holds only a part could not pass it on.
    """
    result = {}
    for prefix in prefixes:
        result[prefix] = cover(claims, prefix)
        for below, clock in claims.items():
            if below != prefix and contains(prefix, below):
                result[below] = merged(result.get(below, {}), clock)
    return {prefix: clock for prefix, clock in result.items() if clock}


def ranges(theirs: Claims, receiver: Claims, snapshots: Iterable[str] = ()) -> list[Range]:
    """Return what a sender with the pinned claims ``theirs`` has to send to a receiver.

    Args:
        theirs: What the sender pinned.
        receiver: What the receiver claims.
        snapshots: Partitions that are sent as a whole, since their tombstones are gone.
    """
    found = [
        Range(partition, provider, whole=True)
        for partition in snapshots
        for provider in sorted(cover(theirs, partition))
    ]
    for prefix, clock in sorted(theirs.items()):
        known = cover(receiver, prefix)
        found += [
            Range(prefix, provider)
            for provider, stamp in sorted(clock.items())
            if stamp > known.get(provider, 0)
        ]
    return found


def absorbed(claims: Claims, more: Claims) -> dict[str, dict[str, int]]:
    """Return ``claims`` with ``more`` added, without what a prefix above says already."""
    both = {prefix: merged(claims.get(prefix, {}), more.get(prefix, {})) for prefix in {*claims, *more}}
    result = {}
    for prefix, clock in both.items():
        above = merged(*(both[found] for found in lineage(prefix) if found != prefix and found in both))
        kept = {provider: stamp for provider, stamp in clock.items() if stamp > above.get(provider, 0)}
        if kept:
            result[prefix] = kept
    return result


def newest_of(claims: Claims, provider: str) -> int:
    """Return the newest timestamp of a provider that is claimed anywhere; 0 for none."""
    return max((clock.get(provider, 0) for clock in claims.values()), default=0)
