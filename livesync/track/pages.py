"""The pages that a track's values lie in, and the tree that finds them.

Values lie in pages of a few hundred, packed, in a tree whose keys are ``(position of the first
value, number of values before the page)``. So one look-up finds where a position begins, how many
values lie before it (its rank: lag is a subtraction), and walking either way loads a page at a time.
Collect only appends. What else a track allows (adding where others follow, removing an entry) moves
the keys of all later pages, and is rare.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import index
from typing import Any, Final

from BTrees.Length import Length
from BTrees.LOBTree import LOTreeSet
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from ..action import ActionWrapper
from ..errors import PositionSealed
from .changes import Commit, Filling, Part, items_of
from .stored import Page

#: Values a page. Larger pages are read faster, smaller ones cost less when a commit adds a few.
PAGE_SIZE: Final = 256

_LAST: Final = sys.maxsize
Key = tuple[int, int]


class Pages(Persistent):
    """A log of ``(position, value)`` in pages: the base of the tracks, which add the rules.

    Positions never decrease along the log. Where :attr:`_is_ordered`, the values of one position are
    in their own order, each once; else in the order in which they were added.
    """

    _is_ordered = False

    def __init__(self) -> None:
        self._pages = OOBTree()  # (first position, values before) -> Page
        self._prepared = LOTreeSet()  # positions of entries that hold nothing yet
        self._length = Length()  # entries

    # -- adding ----------------------------------------------------------------------------------

    def _append(self, items: Iterable[tuple[int, Any]], floor: int) -> None:  # noqa: C901 - one hot loop
        """Add ``(position, value)`` pairs; PositionSealed at or before ``floor``."""
        # The page that the last call ended in is stored by now: do not keep it in memory as lists.
        earlier = self.__dict__.pop("_v_last", None)
        if earlier is not None and earlier._p_changed is False:
            earlier._p_deactivate()
        ordered = self._is_ordered
        begun = False
        last, room, entries, before = -1, 0, 0, 0
        page: Page | None = None
        positions: list[int] = []
        values: list[Any] = []
        try:
            for timestamp, value in items:
                position = index(timestamp)
                if position <= floor:
                    raise is_sealed(position, floor)
                if not begun:
                    begun = True
                    key, page = self._tail()
                    before = key[1]
                    if page is not None:
                        positions = page.positions()
                        last, room = positions[-1], PAGE_SIZE - len(positions)
                        if room > 0:
                            positions, values = page.change()
                if position <= last and (position < last or ordered):
                    self._insert(position, value)
                    begun = False  # the pages may have moved: look again
                    continue
                if position != last:
                    last = position
                    entries += self._begins_entry(position)
                if room <= 0:
                    if page is not None and page.lists is not None:
                        page.pack()  # as it will be stored; of many pages that is much less memory
                    before += len(positions)
                    positions, values, room = [], [], PAGE_SIZE
                    page = self._pages[(position, before)] = Page(positions, values)
                positions.append(position)
                values.append(value)
                room -= 1
        finally:
            if entries:
                self._length.change(entries)
            self._v_last = page

    def _append_commits(  # noqa: C901 - one hot loop
        self, commits: Iterable[tuple[int, Commit]], floor: int
    ) -> None:
        """Add all actions of ``(position, commit)`` pairs: :meth:`_append`, with no object for each."""
        self.__dict__.pop("_v_last", None)
        waiting = iter(commits)
        key, page = self._tail()
        before, last, entries = key[1], -1, 0
        filling = Filling()
        if page is not None:
            positions, values = page.read()
            last = positions[-1]
            if not all(type(value) is ActionWrapper for value in values):
                self._append(_items(waiting), floor)
                return
            if len(positions) < PAGE_SIZE:
                filling = Filling(positions, values)
            else:
                before, page = before + len(positions), None
        begun = False
        odd: Iterable[tuple[int, Commit]] = ()
        try:
            for position, commit in waiting:
                if position <= floor:
                    raise is_sealed(position, floor)
                if not commit.ids:
                    continue
                if position < last:
                    odd = chain(((position, commit),), waiting)  # others follow there already
                    break
                if position != last:
                    last = position
                    entries += self._begins_entry(position)
                begin, count = 0, len(commit)
                while begin < count:
                    room = PAGE_SIZE - len(filling.ids)
                    if not room:
                        self._store(filling, page, before)
                        before, page, filling, room = before + len(filling.ids), None, Filling(), PAGE_SIZE
                    end = min(count, begin + room)
                    filling.add(position, commit, begin, end)
                    begin, begun = end, True
        finally:
            if begun:
                self._store(filling, page, before)
            if entries:
                self._length.change(entries)
        self._append(_items(odd), floor)

    def _store(self, filling: Filling, page: Page | None, before: int) -> None:
        if page is not None:
            page.replace(filling.packed())
        else:
            self._pages[(filling.positions[0], before)] = Page.of_packed(filling.packed())

    def _begins_entry(self, position: int) -> bool:
        """Tell whether there is no entry prepared at a position; one that was is none any more."""
        if self._prepared and position in self._prepared:
            self._prepared.remove(position)
            return False
        return True

    def _insert(self, position: int, value: Any) -> None:
        """Add a value where others follow."""
        key = self._page_for(position, value)
        page = self._pages[key]
        positions, values = page.read()
        begin, end = bisect_left(positions, position), bisect_right(positions, position)
        at = bisect_left(values, value, begin, end) if self._is_ordered else end
        if self._is_ordered and at < end and values[at] == value:
            return
        if self._rank(position) == self._rank(position - 1):
            self._begin_entry(position)
        positions, values = page.change()
        positions.insert(at, position)
        values.insert(at, value)
        self._shift(key, 1)
        key = self._rekey(key, page)
        if len(positions) > 2 * PAGE_SIZE:
            self._split(key, page)

    def _page_for(self, position: int, value: Any) -> Key:
        """Return the key of the page that a value belongs into."""
        try:
            key: Key = self._pages.maxKey((position, _LAST))
        except ValueError:
            first: Key = self._pages.minKey()
            return first
        while self._is_ordered:
            positions, values = self._pages[key].read()
            if positions[0] != position or not value < values[0]:
                break
            try:
                earlier: Key = self._pages.maxKey((position, key[1] - 1))
            except ValueError:
                break
            if self._pages[earlier].positions()[-1] != position:
                break
            key = earlier
        return key

    def _begin_entry(self, position: int) -> None:
        if self._begins_entry(position):
            self._length.change(1)

    # -- finding ---------------------------------------------------------------------------------

    def _tail(self) -> tuple[Key, Page | None]:
        if not self._pages:
            return (0, 0), None
        key = self._pages.maxKey()
        return key, self._pages[key]

    def _newest(self) -> int | None:
        _, page = self._tail()
        newest = None if page is None else page.positions()[-1]
        if self._prepared:
            newest = max(-1 if newest is None else newest, self._prepared.maxKey())
        return newest

    def _first_rank(self) -> int:
        return int(self._pages.minKey()[1]) if self._pages else 0

    def _end_rank(self) -> int:
        key, page = self._tail()
        return 0 if page is None else key[1] + len(page.positions())

    def _rank(self, position: int) -> int:
        """Return how many values lie at or before a position, counting pruned ones."""
        try:
            key = self._pages.maxKey((position, _LAST))
        except ValueError:
            return self._first_rank()
        return int(key[1]) + bisect_right(self._pages[key].positions(), position)

    def _following(self, position: int) -> tuple[int, Any | None]:
        """Return the :meth:`_rank` of a position and the first value after it (None: there is none)."""
        try:
            key = self._pages.maxKey((position, _LAST))
        except ValueError:
            rank, at = self._first_rank(), 0
            page = self._pages[self._pages.minKey()] if self._pages else None
        else:
            page = self._pages[key]
            positions = page.positions()
            at = bisect_right(positions, position)
            rank = int(key[1]) + at
            if at == len(positions):
                at, page = 0, next((page for _, page in self._pages.items(key, excludemin=True)), None)
        return rank, None if page is None else page.value(at)

    # -- walking ---------------------------------------------------------------------------------

    def _up(self, first: int | None, last: int | None) -> Iterator[tuple[int, Any]]:
        """Yield what lies in ``]first, last]``, oldest first."""
        return items_of(self._parts_up(first, last))

    def _parts_up(self, first: int | None, last: int | None) -> Iterator[Part]:
        """Yield what lies in ``]first, last]``, oldest first, as much of each page as does."""
        lowest = None
        if first is not None and self._pages:
            try:
                lowest = self._pages.maxKey((first, _LAST))
            except ValueError:
                lowest = None
        for key, page in self._pages.items(lowest):
            if last is not None and key[0] > last:
                return
            positions, held = _let_go(page)
            begin = 0 if first is None or positions[0] > first else bisect_right(positions, first)
            end = len(positions) if last is None or positions[-1] <= last else bisect_right(positions, last)
            yield Part(positions, held, begin, end)

    def _parts_from_rank(self, near: int, rank: int, last: int | None) -> Iterator[Part]:
        """Yield what lies at or before ``last``, from the value of ``rank`` (at position ``near``) on."""
        for key, page in self._pages.items(self._pages.maxKey((near, rank))):
            positions, held = _let_go(page)
            begin = min(max(0, rank - key[1]), len(positions))
            end = len(positions) if last is None else bisect_right(positions, last)
            yield Part(positions, held, begin, max(begin, end))
            if end < len(positions):
                return

    def _down(self, first: int | None, last: int | None) -> Iterator[tuple[int, Any]]:
        """Yield what lies in ``]first, last]``, newest first."""
        bound: Key = (_LAST if last is None else last, _LAST)
        while self._pages:
            try:
                key = self._pages.maxKey(bound)
            except ValueError:
                return
            positions, held = _let_go(self._pages[key])
            begin = 0 if first is None or positions[0] > first else bisect_right(positions, first)
            end = len(positions) if last is None or positions[-1] <= last else bisect_right(positions, last)
            part = Part(positions, held, begin, max(begin, end))
            yield from zip(part.positions[::-1], part.values()[::-1])
            if begin:
                return
            bound = (key[0], key[1] - 1)

    def _down_ranked(
        self, first: int | None, last: int | None, below: tuple[int, int] | None
    ) -> Iterator[tuple[int, int, Any]]:
        """Yield ``(position, rank, value)`` in ``]first, last]``, newest first, from below a value on."""
        bound: Key = (_LAST, _LAST) if below is None else (below[0], below[1] - 1)
        if last is not None:
            bound = min(bound, (last, _LAST))
        while self._pages:
            try:
                key = self._pages.maxKey(bound)
            except ValueError:
                return
            positions, held = _let_go(self._pages[key])
            begin = 0 if first is None else bisect_right(positions, first)
            end = len(positions) if last is None else bisect_right(positions, last)
            if below is not None:
                end = min(end, below[1] - key[1])
            end = max(begin, end)
            part = Part(positions, held, begin, end)
            ranks = range(key[1] + end - 1, key[1] + begin - 1, -1)
            yield from zip(part.positions[::-1], ranks, part.values()[::-1])
            if begin:
                return
            bound = (key[0], key[1] - 1)

    # -- removing --------------------------------------------------------------------------------

    def _remove(self, position: int) -> None:
        """Remove all values at a position."""
        while (found := self._find(position)) is not None:
            self._cut(*found)

    def _find(self, position: int) -> tuple[Key, Page, int, int] | None:
        """Return a page that holds something at a position, and from where to where."""
        try:
            key = self._pages.maxKey((position, _LAST))
        except ValueError:
            return None
        page = self._pages[key]
        positions = page.positions()
        begin, end = bisect_left(positions, position), bisect_right(positions, position)
        return (key, page, begin, end) if begin < end else None

    def _cut(self, key: Key, page: Page, begin: int, end: int) -> None:
        if end - begin == len(page.positions()):
            del self._pages[key]
        else:
            positions, values = page.change()
            del positions[begin:end], values[begin:end]
            key = self._rekey(key, page)
        self._shift(key, begin - end)

    def _drop_till(self, bound: int) -> tuple[int, int | None]:
        """Drop every value at or before ``bound``: ``(how many, position of the last entry dropped)``."""
        dropped, entries = 0, 0
        last: int | None = None
        while self._pages:
            key = self._pages.minKey()
            if key[0] > bound:
                break
            page = self._pages[key]
            positions = page.positions()
            cut = bisect_right(positions, bound)
            for position in positions[:cut]:
                if position != last:
                    entries += 1
                    last = position
            dropped += cut
            del self._pages[key]
            if cut == len(positions) and not self._pages:
                # The next to be appended goes to this page, which writes the page alone: writing it here
                # too makes the two conflict, or what is appended at the same time would go with it.
                page._p_changed = True
            if cut < len(positions):
                positions, values = page.change()
                del positions[:cut], values[:cut]
                self._pages[(positions[0], key[1] + cut)] = page
                break
        for position in list(self._prepared.keys(None, bound)):
            self._prepared.remove(position)
            entries += 1
            last = position if last is None else max(last, position)
        self._length.change(-entries)
        return dropped, last

    # -- keys ------------------------------------------------------------------------------------

    def _rekey(self, key: Key, page: Page) -> Key:
        """Put a page whose first value may have changed where it belongs now; return its key."""
        first = page.positions()[0]
        if first == key[0]:
            return key
        del self._pages[key]
        self._pages[(first, key[1])] = page
        return first, key[1]

    def _split(self, key: Key, page: Page) -> None:
        positions, values = page.change()
        half = len(positions) // 2
        self._pages[(positions[half], key[1] + half)] = Page(positions[half:], values[half:])
        del positions[half:], values[half:]

    def _shift(self, key: Key, by: int) -> None:
        """Count ``by`` more values before every page after ``key``."""
        later = list(self._pages.items(key, excludemin=True))
        for old, _ in later:
            del self._pages[old]
        for (position, before), page in later:
            self._pages[(position, before + by)] = page


def _items(commits: Iterable[tuple[int, Commit]]) -> Iterator[tuple[int, Any]]:
    return ((position, action) for position, commit in commits for action in commit.actions)


def _let_go(page: Page) -> tuple[list[int], list[Any] | tuple[Any, ...]]:
    """Return what a page holds, and keep it no longer in memory than its reader does."""
    held = page.held()
    if page._p_changed is False:
        page._p_deactivate()
    return held


def is_sealed(position: int, floor: int) -> PositionSealed:
    """Return the error for a position at which nothing can be added any more."""
    return PositionSealed(
        f"position {position} is sealed: nothing can be added at or before {floor}",
        position=position,
        sealed=floor,
    )
