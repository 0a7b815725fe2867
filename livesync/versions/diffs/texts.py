"""The delta of a text or of bytes: common ends, and pieces of the old middle where both are long.

Where pieces begin is found by whole lines, or by words in a row; how far they go is found by comparing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

from ...errors import BrokenDelta
from .runs import Delta, Deltas, replaced, run

#: Shorter texts are replaced rather than edited.
SHORT: Final = 48

#: Only where both middles of a text are longer, what moved or stayed inside is looked for.
LONG: Final = 256

#: Words in a row that count as the same place of a text without line ends.
_SHINGLE: Final = 4


#: Where runs of tokens start in a text, and the runs.
_Marks = list[tuple[int, Any]]


def diff_texts(a: Any, b: Any) -> Deltas:
    """Return the deltas between two texts, or two bytes, that differ."""
    if len(a) <= SHORT or len(b) <= SHORT:
        return replaced(a, b)
    start = _common_ahead(a, 0, b, 0)
    end = _common_back(a, len(a), b, len(b), min(len(a), len(b)) - start)
    old, new = a[start : len(a) - end], b[start : len(b) - end]
    if len(old) > LONG and len(new) > LONG:
        olds, news = _both_marks(old, new)
        there, back = _pieces(old, olds, new, news), _pieces(new, news, old, olds)
        return Deltas([start, end, there], [start, end, back])
    return Deltas([start, end, new], [start, end, old])


def _common_ahead(a: Any, i: int, b: Any, j: int) -> int:
    """Return how many characters ``a`` from i on and ``b`` from j on have in common.

    In growing steps as long as they are the same, then by halves.
    """
    most = min(len(a) - i, len(b) - j)
    low, step = 0, 64
    while low < most:
        high = min(low + step, most)
        if not b.startswith(a[i + low : i + high], j + low):
            while high - low > 1:  # somewhere in ]low, high] it differs
                middle = (low + high) // 2
                if b.startswith(a[i + low : i + middle], j + low):
                    low = middle
                else:
                    high = middle
            return low
        low, step = high, step * 2
    return most


def _common_back(a: Any, i: int, b: Any, j: int, most: int) -> int:
    """Return how many characters before i in ``a`` and before j in ``b`` are the same, at most so many."""
    low, step = 0, 64
    while low < most:
        high = min(low + step, most)
        if not b.startswith(a[i - high : i - low], j - high):
            while high - low > 1:
                middle = (low + high) // 2
                if b.startswith(a[i - middle : i - low], j - middle):
                    low = middle
                else:
                    high = middle
            return low
        low, step = high, step * 2
    return most


def _pieces(old: Any, olds: _Marks, new: Any, news: _Marks) -> Delta:
    """Return a row that makes ``new`` of pieces of ``old`` (start, length) and new text.

    Args:
        old, new: The texts.
        olds, news: Their marks.
    """
    places: dict[Any, int] = {}
    for start, mark in olds:
        places.setdefault(mark, start)
    row: list[Any] = []
    done = 0
    for start, mark in news:
        if start < done:
            continue
        place = places.get(mark)
        if place is None:
            continue
        back = _common_back(old, place, new, start, min(place, start - done))
        if done < start - back:
            row.append(new[done : start - back])
        ahead = _common_ahead(old, place, new, start)
        row += place - back, back + ahead
        done = start + ahead
    if done < len(new) or not row:
        row.append(new[done:])
    return row


def _both_marks(old: Any, new: Any) -> tuple[_Marks, _Marks]:
    """Return where runs of tokens start in each of two texts, and the runs: of lines, or of words."""
    end = "\n" if isinstance(old, str) else b"\n"
    if old.count(end) > 1 and new.count(end) > 1:
        return _marks(old, end, 1), _marks(new, end, 1)
    gap = " " if isinstance(old, str) else b" "
    return _marks(old, gap, _SHINGLE), _marks(new, gap, _SHINGLE)


def _marks(text: Any, end: Any, width: int) -> _Marks:
    """Return where each run of ``width`` tokens starts, and the run itself.

    The last token of a text lacks its end, so runs that hold it are left out.
    """
    tokens = text.split(end)
    starts = accumulate((len(token) + 1 for token in tokens), initial=0)
    last = len(tokens) - 1
    runs = tokens[:last] if width == 1 else zip(*(tokens[number:last] for number in range(width)))
    return list(zip(starts, runs))


def apply_text(value: Any, delta: Delta) -> Any:
    """Return the text, or bytes, that a delta makes of ``value``."""
    start, end, middle = delta
    if type(start) is not int or type(end) is not int or start < 0 or end < 0 or start + end > len(value):
        raise BrokenDelta(f"{start!r} and {end!r} are no ends of {len(value)}")
    if type(middle) is list:
        old = value[start : len(value) - end]
        middle = value[:0].join(_old_and_new_pieces(old, middle))
    if type(middle) is not type(value):
        raise BrokenDelta("the middle of a text is a text")
    return value[:start] + middle + value[len(value) - end :]


def _old_and_new_pieces(old: Any, row: Delta) -> Iterator[Any]:
    parts = iter(row)
    for part in parts:
        yield run(old, part, next(parts, None)) if type(part) is int else part
