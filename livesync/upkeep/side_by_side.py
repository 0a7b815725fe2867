"""Two streams by ascending ids, side by side. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter, lt
from typing import Any, Final, TypeVar

#: What a stream tells of an id.
Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs", bound=tuple[Any, ...])

#: Returns the id of a tuple that begins with it.
first: Final = itemgetter(0)


def side_by_side(
    expected: Iterable[list[Ours]], held: Iterable[list[Theirs]], id_of: Callable[[Ours], str]
) -> Iterator[tuple[list[Ours], list[Theirs]]]:
    """Yield what both streams say of one range of ids after the other; together these are all ids.

    Lists rather than one id at a time: most of the work on them can then be done without a line of
    Python for each. Neither stream is read further than it must be.

    Args:
        expected: Lists that are not empty, by ascending ids.
        held: The same; their ids come first.
        id_of: Returns the id of what stands in the first stream.
    """
    objects, rows = iter(expected), iter(held)
    ours: list[Ours] = []
    theirs: list[Theirs] = []
    while True:
        ours = ours or next(objects, [])
        theirs = theirs or next(rows, [])
        if not ours or not theirs:
            if not ours and not theirs:
                return
            yield ours, theirs
            ours, theirs = [], []
            continue
        till = min(id_of(ours[-1]), theirs[-1][0])
        some = bisect_right(ours, till, key=id_of)
        rest = bisect_right(theirs, till, key=first)
        yield ours[:some], theirs[:rest]
        ours, theirs = ours[some:], theirs[rest:]


def first_out_of_order(ids: Sequence[str], after: str | None) -> int | None:
    """Return the index of the first id that is not greater than the one before it; None: all are.

    Args:
        ids: In the order in which they came.
        after: What stands before the first; None: nothing.
    """
    if ids and after is not None and ids[0] <= after:
        return 0
    if all(map(lt, ids, ids[1:])):
        return None
    return next(index for index in range(1, len(ids)) if ids[index] <= ids[index - 1])
