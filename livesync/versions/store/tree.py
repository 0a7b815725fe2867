"""The tree of versions, as numbers: lines, positions, and the ways between versions. Pure.

A version's key is ``line << 32 | position``. A *line* is a run of versions one after the other; it begins at
a fork, a version of another line, and the root's line at none. Names of branches and the numbers that people
see never appear in keys: they lie in the table of branches, so that renaming moves nothing.

A version may have two parents. Ways lead along first parents only, so that there is exactly one from each
version to the root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

#: What stands for "no version": the fork of the root's line.
NO_VERSION: Final = -1

_SHIFT: Final = 32

#: line -> key of the version that it begins after.
Forks = Mapping[int, int]


def key_of(line: int, position: int) -> int:
    """Return the key of a version."""
    return line << _SHIFT | position


def line_of(key: int) -> int:
    """Return the line that a version lies on."""
    return key >> _SHIFT


def position_of(key: int) -> int:
    """Return where on its line a version lies, from 0."""
    return key & (1 << _SHIFT) - 1


class Run(NamedTuple):
    """Versions of a branch that follow each other on one line.

    Attributes:
        line: The line.
        first: Position of the first one.
        number: Number of the first one on its branch.
        length: How many.
    """

    line: int
    first: int
    number: int
    length: int

    def holds(self, key: int) -> bool:
        """Tell whether a version is one of them."""
        return line_of(key) == self.line and self.first <= position_of(key) < self.first + self.length


class Branch(NamedTuple):
    """A branch: where it begins, and the versions of its own.

    Attributes:
        base: The version that it was made at; :data:`NO_VERSION` for the first branch.
        runs: Its own versions, oldest first.
    """

    base: int
    runs: tuple[Run, ...] = ()

    @property
    def tip(self) -> int:
        """Its newest version; while it has none of its own, the one that it begins at."""
        if not self.runs:
            return self.base
        last = self.runs[-1]
        return key_of(last.line, last.first + last.length - 1)

    @property
    def total(self) -> int:
        """How many versions of its own it has."""
        return self.runs[-1].number + self.runs[-1].length if self.runs else 0

    def key(self, number: int) -> int | None:
        """Return the version of this number; None where there is none."""
        for run in self.runs:
            if run.number <= number < run.number + run.length:
                return key_of(run.line, run.first + number - run.number)
        return None

    def at(self, number: int) -> int:
        """Return the version of a number that there is."""
        found = self.key(number)
        assert found is not None, "runs have no gaps"
        return found

    def number(self, key: int) -> int | None:
        """Return the number of a version; None where it is another branch's."""
        for run in self.runs:
            if run.holds(key):
                return run.number + position_of(key) - run.first
        return None

    def with_next(self, key: int) -> Branch:
        """Return the branch with one more version."""
        line, position = line_of(key), position_of(key)
        if self.runs:
            last = self.runs[-1]
            if last.line == line and last.first + last.length == position:
                return self._replace(runs=(*self.runs[:-1], last._replace(length=last.length + 1)))
        return self._replace(runs=(*self.runs, Run(line, position, self.total, 1)))

    def until(self, number: int) -> Branch:
        """Return the branch with only its versions before this number."""
        kept = (run._replace(length=min(run.length, number - run.number)) for run in self.runs)
        return self._replace(runs=tuple(run for run in kept if run.length > 0))

    def since(self, number: int) -> tuple[Run, ...]:
        """Return the runs of the versions from this number on, numbered from 0."""
        kept = []
        for run in self.runs:
            skip = max(0, number - run.number)
            if skip < run.length:
                kept.append(Run(run.line, run.first + skip, run.number + skip - number, run.length - skip))
        return tuple(kept)

    def versions(self) -> Iterator[int]:
        """Yield its own versions, oldest first."""
        for run in self.runs:
            for offset in range(run.length):
                yield key_of(run.line, run.first + offset)


def stretches(forks: Forks, key: int) -> Iterator[tuple[int, int]]:
    """Yield (line, newest position) for each line on the way from a version to the root, itself first."""
    while key != NO_VERSION:
        line = line_of(key)
        yield line, position_of(key)
        key = forks[line]


def parent_of(forks: Forks, key: int) -> int:
    """Return the first parent of a version; :data:`NO_VERSION` for the root."""
    return key - 1 if position_of(key) else forks[line_of(key)]


def way_up(forks: Forks, key: int, until: int = NO_VERSION) -> Iterator[int]:
    """Yield the versions from ``key`` to the root along first parents, those before ``until`` only."""
    while key not in (until, NO_VERSION):
        yield key
        key = parent_of(forks, key)


def fork_of(forks: Forks, one: int, other: int) -> int:
    """Return the newest version that lies on both ways to the root; :data:`NO_VERSION`: there is none."""
    on_way = dict(stretches(forks, one))
    for line, position in stretches(forks, other):
        if line in on_way:
            return key_of(line, min(position, on_way[line]))
    return NO_VERSION


class Way(NamedTuple):
    """How one comes from a version to another.

    Attributes:
        up: Versions to be undone, in this order.
        down: Versions to be done, in this order.
    """

    up: tuple[int, ...]
    down: tuple[int, ...]


def way_between(forks: Forks, start: int, end: int) -> Way:
    """Return the way along first parents; :data:`NO_VERSION` stands for the empty state before the root."""
    fork = fork_of(forks, start, end)
    return Way(tuple(way_up(forks, start, fork)), tuple(reversed(tuple(way_up(forks, end, fork)))))


def is_on_way(forks: Forks, key: int, descendant: int) -> bool:
    """Tell whether a version lies on the way from another one to the root."""
    return fork_of(forks, key, descendant) == key
