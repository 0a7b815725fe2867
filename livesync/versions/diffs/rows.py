"""The delta of a list: which old items are copied, which are edited, and what is put in.

Items are matched by their bytes: common ends first, then each new item takes the first old one of the
same bytes behind the last that was taken, else any. That is linear, and finds moves. What stays alone
in a gap on both sides is paired in order, and edited where that is smaller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ...errors import BrokenDelta
from ..values import Codec
from .runs import Delta, Deltas, run

Make = Callable[[Any, Any, Codec], Deltas | None]
Apply = Callable[[Any, Delta], Any]

#: Items of these types are replaced: an edit of one is never smaller.
_UNEDITED: Final = frozenset({int, bool, float, type(None)})


def diff_rows(a: Sequence[Any], b: Sequence[Any], codec: Codec, make: Make) -> Deltas | None:
    """Return the deltas between two lists, or two tuples; None where they are the same to the bit."""
    encode = codec.encode
    olds, news = [encode(item) for item in a], [encode(item) for item in b]
    if olds == news:
        return None
    start, end = _common_ends(olds, news)
    if start + end == min(len(olds), len(news)):
        return Deltas(_put_in(b, start, end, len(a)), _put_in(a, start, end, len(b)))
    if start + end + 1 == len(olds) == len(news):
        size = len(olds[start]) + len(news[start])
        return _one_edited(a[start], b[start], start, end, _smaller(a[start], b[start], size, codec, make))
    partner = _matched(olds, news, start, end)
    edits = _edited(a, b, olds, news, partner, codec, make)
    return Deltas(
        _row(b, partner, {new: (old, deltas.forward) for old, new, deltas in edits}),
        _row(a, _inverse(partner, len(a)), {old: (new, deltas.backward) for old, new, deltas in edits}),
    )


def _put_in(items: Sequence[Any], start: int, end: int, others: int) -> Delta:
    """Return the row of a list that is another one of length ``others`` but for items in one place.

    Args:
        items: The list.
        start: How many both have in common at their beginnings.
        end: How many at their ends.
        others: Length of the other one.
    """
    row: list[Any] = [0, start] if start else []
    fresh = items[start : len(items) - end]
    if fresh:
        row.append(list(fresh))
    if end:
        row += others - end, end
    return row or [[]]


def _one_edited(old: Any, new: Any, start: int, end: int, deltas: Deltas | None) -> Deltas:
    """Return the rows of two lists that differ in one item.

    Args:
        old, new: The item in each.
        start, end: How many items both have in common before it and after it.
        deltas: Between these two, if that is smaller.
    """
    ahead, behind = [0, start] if start else [], [start + 1, end] if end else []
    if deltas is None:
        return Deltas([*ahead, [new], *behind], [*ahead, [old], *behind])
    return Deltas(
        [*ahead, True, start, deltas.forward, *behind], [*ahead, True, start, deltas.backward, *behind]
    )


def _matched(olds: list[bytes], news: list[bytes], start: int, end: int) -> list[int]:
    """Return for each new item the old one that is the same, each at most once; -1 where there is none.

    ``start`` and ``end`` are how many both have in common at their ends.
    """
    partner = [-1] * len(news)
    for number in range(start):
        partner[number] = number
    for number in range(1, end + 1):
        partner[-number] = len(olds) - number
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for number in range(len(olds) - end - 1, start - 1, -1):
        places[olds[number]].append(number)  # the leftmost last: it is taken first
    last = start - 1
    for number in range(start, len(news) - end):
        found = places.get(news[number])
        if found:
            last = _taken(found, last)
            partner[number] = last
    return partner


def _taken(places: list[int], last: int) -> int:
    """Take the first of ``places`` (descending) after ``last``; where there is none, the leftmost."""
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        if places[middle] > last:
            low = middle + 1
        else:
            high = middle
    return places.pop(low - 1 if low else -1)


def _common_ends(olds: Sequence[Any], news: Sequence[Any]) -> tuple[int, int]:
    most = min(len(olds), len(news))
    start = 0
    while start < most and olds[start] == news[start]:
        start += 1
    end = 0
    while end < most - start and olds[-1 - end] == news[-1 - end]:
        end += 1
    return start, end


def _edited(
    a: Sequence[Any],
    b: Sequence[Any],
    olds: list[bytes],
    news: list[bytes],
    partner: list[int],
    codec: Codec,
    make: Make,
) -> list[tuple[int, int, Deltas]]:
    """Return old and new items that are left in one gap, paired in order, where an edit is smaller."""
    edits = []
    for old_gap, new_gap in _gaps(partner, len(olds)):
        while old_gap and new_gap:
            old, new = old_gap[0], new_gap[0]
            deltas = _smaller(a[old], b[new], len(olds[old]) + len(news[new]), codec, make)
            surplus = len(new_gap) - len(old_gap)
            if deltas is not None:
                edits.append((old, new, deltas))
            if deltas is not None or surplus <= 0:
                old_gap = old_gap[1:]
            if deltas is not None or surplus >= 0:
                new_gap = new_gap[1:]
    return edits


def _gaps(partner: list[int], length: int) -> Iterator[tuple[range, range]]:
    """Yield the runs of old and new items without a partner that follow the same pair of partners."""
    used = set(partner)
    new = 0
    while new < len(partner):
        if partner[new] >= 0:
            new += 1
            continue
        start = new
        while new < len(partner) and partner[new] < 0:
            new += 1
        old = old_start = partner[start - 1] + 1 if start else 0
        while old < length and old not in used:
            old += 1
        if old > old_start:
            yield range(old_start, old), range(start, new)


def _smaller(old: Any, new: Any, size: int, codec: Codec, make: Make) -> Deltas | None:
    """Return the deltas between two items where they are edits, smaller than both items together."""
    if type(old) is not type(new) or type(old) in _UNEDITED:
        return None
    deltas = make(old, new, codec)
    if deltas is None or deltas.forward[0] is None:
        return None
    return deltas if len(codec.encode(deltas.forward)) + len(codec.encode(deltas.backward)) < size else None


def _inverse(partner: list[int], length: int) -> list[int]:
    inverse = [-1] * length
    for new, old in enumerate(partner):
        if old >= 0:
            inverse[old] = new
    return inverse


def _row(items: Sequence[Any], partner: list[int], edits: dict[int, tuple[int, Delta]]) -> Delta:
    """Return one direction's row: which items are copied, edited and put in."""
    row: list[Any] = []
    copied: list[int] = []  # start and length
    fresh: list[Any] = []
    for number, item in enumerate(items):
        place = partner[number]
        if copied and place == copied[0] + copied[1]:
            copied[1] += 1
            continue
        row += copied
        copied = []
        if place < 0 and number not in edits:
            if not fresh:
                row.append(fresh)
            fresh.append(item)
            continue
        fresh = []
        if place >= 0:
            copied = [place, 1]
        else:
            row += True, *edits[number]
    row += copied
    return row or [[]]


def apply_row(value: Sequence[Any], delta: Delta, apply: Apply) -> Any:
    """Return the list, or tuple, that a row makes of ``value``."""
    out: list[Any] = []
    parts = iter(delta)
    for part in parts:
        kind = type(part)
        if kind is int:
            out += run(value, part, next(parts, None))
        elif kind is list:
            out += part
        elif part is True:
            out.append(apply(run(value, next(parts, None), 1)[0], next(parts, [])))
        else:
            raise BrokenDelta(f"{kind.__name__} has no place in the delta of a list")
    return out if type(value) is list else tuple(out)
