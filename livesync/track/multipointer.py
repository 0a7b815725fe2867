"""The multi-pointer track: one log, many readers, a pointer for each.

Invariant: ``pruned <= pointer <= sealed < whatever comes``. Positions are integers; every interval
is ``]from, till]``. What is at or before ``sealed`` never changes any more, so a reader that has
read up to there has missed nothing. How the values lie in pages is told in ``pages.py``.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any, Final, overload

from BTrees.OOBTree import OOBTree

from ..errors import EmptyTrackError, PositionPruned
from .changes import Commit, Part, items_of
from .entries import Entries, SortedEntry
from .pages import Pages, is_sealed

_LAST: Final = sys.maxsize
#: How a pointer before everything is stored: two agents' moves merge only where values can be compared.
_BEFORE_ALL: Final = -sys.maxsize


class MultiPointerTrack(Pages):
    """A time-ordered log with named pointers; the two kinds differ in what an entry is.

    Holds any picklable, hashable, orderable values. Every ``timestamp``, ``ts`` and ``pos`` is a
    position (an int). It changes only within the caller's transaction and works outside a database
    too. Use :class:`ListMultiPointerTrack` or :class:`SetMultiPointerTrack`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pointers = OOBTree()  # name -> (position or _BEFORE_ALL, offset into the next one)
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
            raise is_sealed(position, self.floor)
        if position not in self:
            self._prepared.insert(position)
            self._length.change(1)

    def add(self, timestamp: int, value: Any) -> None:
        """Put ``value`` at a position, after those already there (in its order, in a set).

        Raises:
            PositionSealed: The position is at or before the last sealed one.
        """
        self.extend(((timestamp, value),))

    def extend(self, items: Iterable[tuple[int, Any]]) -> None:
        """Add ``(position, value)`` pairs: like :meth:`add`, and fast where positions do not decrease.

        Raises:
            PositionSealed: A position is at or before the last sealed one; pairs before it are added.
        """
        self._append(items, self.floor)

    def extend_commits(self, commits: Iterable[tuple[int, Commit]]) -> None:
        """Add all actions of ``(position, commit)`` pairs, as :meth:`extend` would, and quicker.

        Raises:
            PositionSealed: A position is at or before the last sealed one; pairs before it are added.
        """
        if self._is_ordered:
            self.extend((position, action) for position, commit in commits for action in commit.actions)
        else:
            self._append_commits(commits, self.floor)

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
        if bound <= self._pruned:
            return 0
        dropped, last = self._drop_till(bound)
        if last is not None:
            self._pruned = max(self._pruned, last)
        return dropped

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
        return Entries(self, None if a is None else index(a), None if b is None else index(b))

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
            return iter(())
        return self._down(first, last) if reverse else self._up(first, last)

    def ranked(
        self, from_pos: int | None = None, till: int | None = None, below: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, int, Any]]:
        """Yield ``(position, rank, value)`` for ``]from_pos, till]``, newest first, for lists in parts.

        A rank is how many values lie before one, those that were pruned included, so it stays as it is
        while others are added at the end or pruned. Where a part begins is found without walking there.

        Args:
            from_pos, till: As in :meth:`iterate`.
            below: ``(position, rank)`` of the last value of the part before: only what is older.
        """
        first = None if from_pos is None else index(from_pos)
        return self._down_ranked(first, None if till is None else index(till), below)

    def parts(self, from_pos: int | None = None, till: int | None = None) -> Iterator[Part]:
        """Yield what :meth:`iterate` does, oldest first, as much of each page at a time as there is."""
        if from_pos is not None and till is not None and from_pos >= till:
            return iter(())
        return self._parts_up(from_pos, till)

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

    def count(self, from_pos: int | None = None, till: int | None = None) -> int:
        """Return the number of values in ``]from_pos, till]``, None standing for no limit; none is read."""
        begin = self._first_rank() if from_pos is None else self._rank(index(from_pos))
        end = self._end_rank() if till is None else self._rank(index(till))
        return max(0, end - begin)

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
        return self[position] if position in self else None  # noqa: SIM401 - a track is no dict

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
        return items_of(self.pointer_parts(pid, till))

    def pointer_parts(self, pid: str, till: int | None = None) -> Iterator[Part]:
        """Yield what :meth:`pointer_iter_items` does, as much of each page at a time as there is.

        Raises:
            KeyError, PositionPruned: As there.
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

    def standing(self, pid: str) -> tuple[int, Any | None]:
        """Return a pointer's :meth:`lag` and the first value after its position; None: there is none.

        Raises:
            KeyError: There is no such pointer.
        """
        position, offset = self._pointers[pid]
        rank, following = self._following(position)
        return max(0, self._end_rank() - rank - int(offset)), following

    # -- what the two kinds differ in ------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def _entry(values: list[Any]) -> Any:
        """Return an entry holding ``values``, which are in order."""

    # -- inside ----------------------------------------------------------------------------------

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

    def _after(self, position: int | None, offset: int, till: int | None) -> Iterator[Part]:
        """Return what lies in ``]position, till]`` but its first ``offset`` values, which are not read."""
        if not offset:
            return self.parts(position, till)
        following = next(self.iterate(position, till), None)
        if following is None:
            return iter(())
        rank = offset + (self._first_rank() if position is None else self._rank(position))
        return self._parts_from_rank(following[0], rank, till)


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
