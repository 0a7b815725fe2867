"""What all kinds of deltas share: their two directions, replacement, and runs of items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ...errors import BrokenDelta

Delta = list[Any]


class Deltas(NamedTuple):
    """The two deltas between values a and b: ``forward`` makes b of a, ``backward`` a of b."""

    forward: Delta
    backward: Delta


def replaced(a: Any, b: Any) -> Deltas:
    """Return the deltas that put one value in the place of the other, whatever they are."""
    return Deltas([None, b], [None, a])


def run(items: Sequence[Any], start: Any, length: Any) -> Sequence[Any]:
    """Return ``items[start : start + length]``, all of which must be there."""
    if type(start) is not int or type(length) is not int or start < 0 or length < 1:
        raise BrokenDelta("a run has a start and a length")
    if start + length > len(items):
        raise BrokenDelta(f"a run ends at {start + length} of {len(items)}")
    return items[start : start + length]


def runs(places: Iterable[int]) -> list[int]:
    """Return ascending runs as a flat row of starts and lengths."""
    row: list[int] = []
    start = end = -1
    for place in places:
        if place == end:
            end += 1
            continue
        if end > 0:
            row += start, end - start
        start, end = place, place + 1
    if end > 0:
        row += start, end - start
    return row
