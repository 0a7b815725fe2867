"""The multi-pointer track: one log, many readers, a pointer for each.

Invariant: ``pruned <= pointer <= sealed < whatever comes``. Positions are integers; every interval
is ``]from, till]``. What is at or before ``sealed`` never changes any more, so a reader that has
read up to there has missed nothing.

Values lie in pages of a few hundred, packed, in a tree whose keys are ``(position of the first
value, number of values before the page)``. So one look-up finds where a position begins, how many
values lie before it (lag is a subtraction), and walking either way loads a page at a time.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from operator import index
from typing import Any, Final, overload

from BTrees.Length import Length
from BTrees.LOBTree import LOTreeSet
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from ..errors import EmptyTrackError, PositionPruned, PositionSealed
from .stored import Page

#: Values a page. Larger pages are read faster, smaller ones cost less when a commit adds a few.
PAGE_SIZE: Final = 256

_LAST: Final = sys.maxsize
#: How a pointer before everything is stored: two agents' moves merge only where values can be compared.
_BEFORE_ALL: Final = -sys.maxsize
_Key = tuple[int, int]


class MultiPointerTrack(Persistent):
    """A time-ordered log with named pointers; the two kinds differ in what an entry is.

    Holds any picklable, hashable, orderable values. Every ``timestamp``, ``ts`` and ``pos`` is a
    position (an int). It changes only within the caller's transaction and works outside a database
    too. Use :class:`ListMultiPointerTrack` or :class:`SetMultiPointerTrack`.
    """

    def __init__(self) -> None:
        self._pages = OOBTree()  # (first position, values before) -> Page
        self._prepared = LOTreeSet()  # positions of entries that hold nothing yet
        self._pointers = OOBTree()  # name -> (position or _BEFORE_ALL, offset into the next one)
        self._length = Length()  # entries
        self._sealed = -1
        self._pruned = -1

    # -- writing ---------------------------------------------------------------------------------

    def prepare_entry(self, timestamp: int) -> None:
        """Make an entry at a position, empty as yet; nothing happens where there is one.

        Raises:
            PositionSealed: The position is at or before the last sealed one.
        """
        position = index(timestamp)
        if position <= self.floor:
            raise self._is_sealed(position)
        if position not in self:
            self._prepared.insert(position)
            self._length.change(1)

    def add(self, timestamp: int, value: Any) -> None:
        """Put ``value`` at a position, after those already there (in its order, in a set).

        Raises:
            PositionSealed: The position is at or before the last sealed one.
        """
        self.extend(((timestamp, value),))

    def extend(self, items: Iterable[tuple[int, Any]]) -> None:  # noqa: C901 - one hot loop, kept whole
        """Add ``(position, value)`` pairs: like :meth:`add`, and fast where positions do not decrease.

        Raises:
            PositionSealed: A position is at or before the last sealed one; pairs before it are added.
        """
        # The pages of the last call are stored by now: keep no more of the track in memory than need be.
        for earlier in self.__dict__.pop("_v_extended", ()):
            if earlier._p_changed is False:
                earlier._p_deactivate()
        extended: list[Page] = []
        floor, ordered = self.floor, self._is_ordered
        last, room, entries = -1, 0, 0
        begun = False
        positions: list[int] = []
        values: list[Any] = []
        try:
            for timestamp, value in items:
                position = index(timestamp)
                if position <= floor:
                    raise self._is_sealed(position)
                if not begun:
                    begun = True
                    key, page = self._tail()
                    if page is not None:
                        positions, values, last = page.positions, page.values, page.positions[-1]
                        room = PAGE_SIZE - len(positions)
                        if room > 0:
                            page._p_changed = True
                            extended.append(page)
                    before = key[1]
                if position <= last and (position < last or ordered):
                    self._insert(position, value)
                    begun = False  # the pages may have moved: look again
                    continue
                if position != last:
                    last = position
                    if self._prepared and position in self._prepared:
                        self._prepared.remove(position)
                    else:
                        entries += 1
                if room <= 0:
                    before += len(positions)
                    positions, values, room = [], [], PAGE_SIZE
                    page = self._pages[(position, before)] = Page(positions, values)
                    extended.append(page)
                positions.append(position)
                values.append(value)
                room -= 1
        finally:
            if entries:
                self._length.change(entries)
            self._v_extended = extended

    def __delitem__(self, timestamp: int) -> None:
        """Remove a whole entry.

        Raises:
            KeyError: There is none.
            ValueError: A pointer still needs it.
        """
        position = index(timestamp)
        if position not in self:
            raise KeyError(position)
        for pid, (pointer, _) in self._pointers.items():
            if pointer < position:
                raise ValueError(f"the pointer {pid!r} still needs position {position}")
        if position in self._prepared:
            self._prepared.remove(position)
        else:
            self._remove(position)
        self._length.change(-1)

    def seal(self, ts: int) -> None:
        """Promise that nothing new will appear at or before ``ts``; going back does nothing."""
        position = index(ts)
        if position > self._sealed:
            self._sealed = position

    @property
    def sealed(self) -> int:
        """The last sealed position; -1 at first."""
        return self._sealed

    @property
    def pruned(self) -> int:
        """The highest position that was ever pruned; -1 at first."""
        return self._pruned

    @property
    def floor(self) -> int:
        """The highest position at which nothing can be added any more: sealed or pruned; -1 at first."""
        return max(self._sealed, self._pruned)

    def prune(self, before: int | None = None, leave_behind: bool = False) -> int:
        """Drop what every pointer has passed.

        Args:
            before: Drop only positions below it; None: as many as can be.
            leave_behind: Drop up to ``before`` (or everything sealed) whatever the pointers need;
                those that lose something raise :class:`PositionPruned` when they are read.

        Returns:
            How many values were dropped.
        """
        bound = self._sealed if before is None else index(before) - 1
        if self._sealed >= 0:
            bound = min(bound, self._sealed)
        elif before is None and len(self._pointers):
            bound = _LAST
        if not leave_behind:
            for pointer, _ in self._pointers.values():
                bound = min(bound, pointer)
        return self._prune_till(bound) if bound > self._pruned else 0

    def clear(self) -> None:
        """Drop every entry; what is sealed stays sealed, and no position is used again.

        Pointers stand at the last sealed position afterwards.
        """
        newest = self._newest()
        if newest is not None:
            self._pruned = max(self._pruned, newest)
        self._pages.clear()
        self._prepared.clear()
        self._length.set(0)
        for pid in list(self._pointers):
            self._pointers[pid] = (self._sealed if self._sealed >= 0 else _BEFORE_ALL, 0)

    # -- reading ---------------------------------------------------------------------------------

    @overload
    def __getitem__(self, ts: int) -> Any: ...

    @overload
    def __getitem__(self, ts: slice) -> Sequence[Any]: ...

    def __getitem__(self, ts: int | slice) -> Any:
        """Return the entry at a position, or the entries of ``[a:b]``, both ends inclusive.

        Raises:
            KeyError: There is no entry at this position.
            TypeError: The slice has a step.
        """
        if isinstance(ts, slice):
            if ts.step is not None:
                raise TypeError("a slice of a track has no step")
            return self.values(ts.start, ts.stop)
        position = index(ts)
        values = [value for _, value in self.iterate(position - 1, position)]
        if not values and position not in self._prepared:
            raise KeyError(position)
        return self._entry(values)

    def values(self, a: int | None = None, b: int | None = None) -> Sequence[Any]:
        """Return the entries from position ``a`` to ``b``, both inclusive, oldest first; read lazily."""
        return _Entries(self, None if a is None else index(a), None if b is None else index(b))

    def positions(self, a: int | None = None, b: int | None = None) -> Iterator[int]:
        """Yield the positions of the entries from ``a`` to ``b``, both inclusive, oldest first."""
        empty = iter(self._prepared.keys(a, b))
        waiting = next(empty, None)
        last = None
        for position, _ in self.iterate(None if a is None else a - 1, b):
            if position == last:
                continue
            while waiting is not None and waiting < position:
                yield waiting
                waiting = next(empty, None)
            yield position
            last = position
        if waiting is not None:
            yield waiting
            yield from empty

    def iterate(
        self, from_pos: int | None = None, till: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Yield ``(position, value)`` for ``]from_pos, till]``, sealed or not; oldest first, or reversed.

        A page is held at a time, so memory does not grow with the track. None stands for no limit.
        """
        first = None if from_pos is None else index(from_pos)
        last = None if till is None else index(till)
        if first is not None and last is not None and first >= last:
            return
        pages = self._pages_down(last) if reverse else self._pages_from(first)
        for key, page in pages:
            if not reverse and last is not None and key[0] > last:
                return
            positions, values = page.positions, page.values
            begin = 0 if first is None or positions[0] > first else bisect_right(positions, first)
            end = len(positions) if last is None or positions[-1] <= last else bisect_right(positions, last)
            if page._p_changed is False:
                page._p_deactivate()
            if begin == 0 and end == len(positions) and not reverse:
                yield from zip(positions, values)
            elif reverse:
                yield from zip(positions[begin:end][::-1], values[begin:end][::-1])
                if begin:
                    return
            else:
                yield from zip(positions[begin:end], values[begin:end])

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self.iterate()

    def __contains__(self, ts: object) -> bool:
        if not isinstance(ts, int):
            return False
        return ts in self._prepared or self._rank(ts) > self._rank(ts - 1)

    def __len__(self) -> int:
        """Return the number of entries."""
        return int(self._length())

    def __bool__(self) -> bool:
        return True

    def is_empty(self) -> bool:
        """Tell whether there is no entry."""
        return not self._pages and not self._prepared

    def count(self) -> int:
        """Return the number of values on the track."""
        return self._end_rank() - self._first_rank()

    def most_recent_ts(self, maximum: int | None = None) -> int:
        """Return the newest position, or ``maximum`` where that is older.

        Raises:
            EmptyTrackError: There is no entry.
        """
        newest = self._newest()
        if newest is None:
            raise EmptyTrackError("the track is empty")
        return newest if maximum is None else min(newest, index(maximum))

    def oldest_ts(self) -> int:
        """Return the oldest position.

        Raises:
            EmptyTrackError: There is no entry.
        """
        firsts = [self._pages.minKey()[0]] if self._pages else []
        if self._prepared:
            firsts.append(self._prepared.minKey())
        if not firsts:
            raise EmptyTrackError("the track is empty")
        return int(min(firsts))

    # -- pointers --------------------------------------------------------------------------------

    def add_pointer(self, pid: str, start_pos: int | None = None) -> None:
        """Make a pointer that has delivered everything at or before ``start_pos`` (None: nothing).

        Raises:
            ValueError: There is one of this name, or the position is beyond the sealed ones.
        """
        if pid in self._pointers:
            raise ValueError(f"there is a pointer {pid!r} already")
        self._pointers[pid] = (self._pointer_position(start_pos), 0)

    def move_pointer(self, pid: str, pos: int | None) -> None:
        """Let a pointer stand at ``pos``, forward or back (None: before everything).

        Raises:
            KeyError: There is no such pointer.
            ValueError: The position is beyond the last sealed one (a track that was never sealed
                has no such limit).
        """
        if pid not in self._pointers:
            raise KeyError(pid)
        self._pointers[pid] = (self._pointer_position(pos), 0)

    def move_pointer_inside(self, pid: str, offset: int) -> None:
        """Let a pointer stand ``offset`` values into the position that follows its own.

        Raises:
            KeyError: There is no such pointer.
        """
        self._pointers[pid] = (self._pointers[pid][0], offset)

    def remove_pointer(self, pid: str) -> None:
        """Remove a pointer.

        Raises:
            KeyError: There is no such pointer.
        """
        del self._pointers[pid]

    def has_pointer(self, pid: str) -> bool:
        """Tell whether there is a pointer of this name."""
        return pid in self._pointers

    def pointers(self) -> Iterator[tuple[str, int | None]]:
        """Yield ``(name, position)`` of all pointers."""
        for pid, (position, _) in self._pointers.items():
            yield pid, _shown(position)

    def get_pointer_timestamp(self, pid: str) -> int | None:
        """Return a pointer's position, None before the first.

        Raises:
            KeyError: There is no such pointer.
        """
        return _shown(self._pointers[pid][0])

    def pointer_offset(self, pid: str) -> int:
        """Return how many values after its position a pointer has passed (of one large position)."""
        return int(self._pointers[pid][1])

    def get_current_position(self, pid: str) -> Any | None:
        """Return the entry where a pointer stands; None when it is pruned or there is none.

        Raises:
            KeyError: There is no such pointer.
        """
        position = self._pointers[pid][0]
        return self[position] if position in self else None

    def pointer_iter_items(self, pid: str, till: int | None = None) -> Iterator[tuple[int, Any]]:
        """Yield what lies after a pointer, oldest first.

        Args:
            pid: The pointer's name, which is its agent's id.
            till: Last position to yield; None means the last sealed one (the end, if never sealed).

        Yields:
            ``(position, value)``, positions never decreasing, all in ``]pointer, till]``; nothing
            when the lag is 0.

        Raises:
            KeyError: No pointer of that name.
            PositionPruned: Something after the pointer has been pruned; the agent needs an export.
        """
        position, offset = _shown(self._pointers[pid][0]), self._pointers[pid][1]
        if self._pruned > (-1 if position is None else position):
            raise PositionPruned(
                f"what lies after the pointer {pid!r} is pruned up to {self._pruned}: an export is needed",
                position=position,
                pruned=self._pruned,
            )
        end = self._till(till)
        return self._after(position, offset, end)

    def pointer_iter_values(self, pid: str, till: int | None = None) -> Iterator[Any]:
        """Yield the values of :meth:`pointer_iter_items`."""
        return (value for _, value in self.pointer_iter_items(pid, till))

    def lag(self, pid: str, till: int | None = None) -> int:
        """Return how many values lie after a pointer, to ``till`` (None: to the end, sealed or not).

        Raises:
            KeyError: There is no such pointer.
        """
        position, offset = self._pointers[pid]
        end = self._end_rank() if till is None else self._rank(index(till))
        begin = self._rank(position)
        return max(0, end - begin - int(offset))

    # -- what the two kinds differ in ------------------------------------------------------------

    _is_ordered = False

    @staticmethod
    @abstractmethod
    def _entry(values: list[Any]) -> Any:
        """Return an entry holding ``values``, which are in order."""

    # -- inside ----------------------------------------------------------------------------------

    def _is_sealed(self, position: int) -> PositionSealed:
        return PositionSealed(
            f"position {position} is sealed: nothing can be added at or before {self.floor}",
            position=position,
            sealed=self.floor,
        )

    def _pointer_position(self, pos: int | None) -> int:
        if pos is None:
            return _BEFORE_ALL
        position = index(pos)
        if 0 <= self._sealed < position:
            raise ValueError(
                f"a pointer cannot stand at {position}: sealed is only what is at or before {self._sealed}"
            )
        return position

    def _till(self, till: int | None) -> int | None:
        if till is not None:
            return index(till)
        return self._sealed if self._sealed >= 0 else None

    def _after(self, position: int | None, offset: int, till: int | None) -> Iterator[tuple[int, Any]]:
        """Yield what lies in ``]position, till]`` but its first ``offset`` values, which are not read."""
        following = next(self.iterate(position, till), None) if offset else None
        if following is None:
            if not offset:
                yield from self.iterate(position, till)
            return
        rank = offset + (self._first_rank() if position is None else self._rank(position))
        for key, page in self._pages.items(self._pages.maxKey((following[0], rank))):
            positions, values = page.positions, page.values
            begin = max(0, rank - key[1])
            end = len(positions) if till is None else bisect_right(positions, till)
            if page._p_changed is False:
                page._p_deactivate()
            yield from zip(positions[begin:end], values[begin:end])
            if end < len(positions):
                return

    def _begin_entry(self, position: int) -> None:
        if position in self._prepared:
            self._prepared.remove(position)
        else:
            self._length.change(1)

    def _tail(self) -> tuple[_Key, Page | None]:
        if not self._pages:
            return (0, 0), None
        key = self._pages.maxKey()
        return key, self._pages[key]

    def _newest(self) -> int | None:
        _, page = self._tail()
        newest = None if page is None else page.positions[-1]
        if self._prepared:
            newest = max(-1 if newest is None else newest, self._prepared.maxKey())
        return newest

    def _first_rank(self) -> int:
        return int(self._pages.minKey()[1]) if self._pages else 0

    def _end_rank(self) -> int:
        key, page = self._tail()
        return 0 if page is None else key[1] + len(page.positions)

    def _rank(self, position: int) -> int:
        """Return how many values lie at or before a position, counting pruned ones."""
        try:
            key = self._pages.maxKey((position, _LAST))
        except ValueError:
            return self._first_rank()
        return int(key[1]) + bisect_right(self._pages[key].positions, position)

    def _pages_from(self, position: int | None) -> Iterator[tuple[_Key, Page]]:
        """Yield the pages that may hold something after ``position``, oldest first."""
        first = None
        if position is not None and self._pages:
            try:
                first = self._pages.maxKey((position, _LAST))
            except ValueError:
                first = None
        return iter(self._pages.items(first))

    def _pages_down(self, position: int | None) -> Iterator[tuple[_Key, Page]]:
        """Yield the pages that may hold something at or before ``position``, newest first."""
        bound: _Key = (_LAST if position is None else position, _LAST)
        while self._pages:
            try:
                key = self._pages.maxKey(bound)
            except ValueError:
                return
            yield key, self._pages[key]
            bound = (key[0], key[1] - 1)

    def _insert(self, position: int, value: Any) -> None:
        """Add a value where others follow: rare, since collect only appends."""
        try:
            key = self._pages.maxKey((position, _LAST))
        except ValueError:
            key = self._pages.minKey()
        page = self._pages[key]
        if self._is_ordered:
            while page.positions[0] == position and value < page.values[0]:
                try:
                    earlier = self._pages.maxKey((position, key[1] - 1))
                except ValueError:
                    break
                if self._pages[earlier].positions[-1] != position:
                    break
                key, page = earlier, self._pages[earlier]
        begin, end = bisect_left(page.positions, position), bisect_right(page.positions, position)
        at = bisect_left(page.values, value, begin, end) if self._is_ordered else end
        if self._is_ordered and at < end and page.values[at] == value:
            return
        if position not in self or position in self._prepared:
            self._begin_entry(position)
        page.positions.insert(at, position)
        page.values.insert(at, value)
        page._p_changed = True
        self._shift(key, 1)
        self._rekey(key, page)
        if len(page.positions) > 2 * PAGE_SIZE:
            self._split(self._key_of(page, key), page)

    def _key_of(self, page: Page, key: _Key) -> _Key:
        return (page.positions[0], key[1])

    def _rekey(self, key: _Key, page: Page) -> None:
        if page.positions[0] != key[0]:
            del self._pages[key]
            self._pages[self._key_of(page, key)] = page

    def _split(self, key: _Key, page: Page) -> None:
        half = len(page.positions) // 2
        right = Page(page.positions[half:], page.values[half:])
        del page.positions[half:], page.values[half:]
        page._p_changed = True
        self._pages[(right.positions[0], key[1] + half)] = right

    def _shift(self, key: _Key, by: int) -> None:
        """Count ``by`` more values before every page after ``key``."""
        later = list(self._pages.items(key, excludemin=True))
        for old, _ in later:
            del self._pages[old]
        for (position, before), page in later:
            self._pages[(position, before + by)] = page

    def _cut(self, key: _Key, page: Page, begin: int, end: int) -> None:
        if end - begin == len(page.positions):
            del self._pages[key]
        else:
            del page.positions[begin:end], page.values[begin:end]
            page._p_changed = True
            self._rekey(key, page)
            key = self._key_of(page, key)
        self._shift(key, begin - end)

    def _remove(self, position: int) -> None:
        found = True
        while found:
            found = False
            for key, page in self._pages_from(position - 1):
                begin, end = bisect_left(page.positions, position), bisect_right(page.positions, position)
                if begin < end:
                    self._cut(key, page, begin, end)
                    found = True  # the pages have moved: look again
                    break
                if key[0] > position:
                    break

    def _prune_till(self, bound: int) -> int:
        dropped = 0
        entries = 0
        last = None
        while self._pages:
            key = self._pages.minKey()
            if key[0] > bound:
                break
            page = self._pages[key]
            cut = bisect_right(page.positions, bound)
            for position in page.positions[:cut]:
                if position != last:
                    entries += 1
                    last = position
            dropped += cut
            del self._pages[key]
            if cut < len(page.positions):
                del page.positions[:cut], page.values[:cut]
                page._p_changed = True
                self._pages[(page.positions[0], key[1] + cut)] = page
                break
        for position in list(self._prepared.keys(None, bound)):
            self._prepared.remove(position)
            entries += 1
            last = position if last is None else max(last, position)
        self._length.change(-entries)
        if last is not None:
            self._pruned = max(self._pruned, last)
        return dropped


def _shown(position: int) -> int | None:
    return None if position == _BEFORE_ALL else position


class ListMultiPointerTrack(MultiPointerTrack):
    """A track whose entries are lists: values in the order in which they were added, repeats kept."""

    @staticmethod
    def _entry(values: list[Any]) -> list[Any]:
        return values


class SetMultiPointerTrack(MultiPointerTrack):
    """A track whose entries are ordered sets: each value once, in its own order."""

    _is_ordered = True

    @staticmethod
    def _entry(values: list[Any]) -> SortedEntry:
        return SortedEntry(values)


class SortedEntry(Set[Any]):
    """An entry of a :class:`SetMultiPointerTrack`: a set that iterates in order; equals any equal set."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._values = sorted(set(values))

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> SortedEntry:
        return cls(it)

    def __contains__(self, value: object) -> bool:
        at = bisect_left(self._values, value)
        return at < len(self._values) and self._values[at] == value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: int) -> Any:
        return self._values[at]

    def __hash__(self) -> int:
        return self._hash()

    def __repr__(self) -> str:
        return f"SortedEntry({self._values!r})"


class _Entries(Sequence[Any]):
    """The entries of an interval, each read when it is asked for."""

    def __init__(self, track: MultiPointerTrack, a: int | None, b: int | None) -> None:
        self._track = track
        self._a = a
        self._b = b

    def __iter__(self) -> Iterator[Any]:
        for position in self._track.positions(self._a, self._b):
            yield self._track[position]

    def __len__(self) -> int:
        return sum(1 for _ in self._track.positions(self._a, self._b))

    @overload
    def __getitem__(self, at: int) -> Any: ...

    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...

    def __getitem__(self, at: int | slice) -> Any:
        found = list(self._track.positions(self._a, self._b))[at]
        if isinstance(found, list):
            return [self._track[position] for position in found]
        return self._track[found]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
