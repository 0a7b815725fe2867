"""Actions as columns: what is read of a track in thousands, and mostly never looked at as objects.

A page keeps its actions as columns, and most of what is done with a slice needs no more than these.
So an :class:`ActionWrapper` is made only for whoever asks for one, and a slice is a few lists and not
some ten thousand objects that Python's garbage collector would have to go through again and again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..action import ActionWrapper, trusted_action
from .packed import Columns, columns_of, pack_columns, pack_positions, unpack_columns, unpack_values

Item = tuple[int, ActionWrapper]


@dataclass(slots=True)
class Commit:
    """What one commit brought, or a part of that, in the order in which it was recorded.

    Attributes:
        tid: The commit's id.
        time: When it was made, in epoch seconds.
        user, note: What the transaction said.
        ids, words: Object ids and action words, one each for every action.
    """

    tid: bytes
    time: float
    user: str
    note: str
    ids: Sequence[str]
    words: Sequence[frozenset[str]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def actions(self) -> list[ActionWrapper]:
        """The actions."""
        time, user, note = self.time, self.user, self.note
        return [trusted_action(time, object_id, words, user, note) for object_id, words in self.changes()]

    def changes(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Return ``(id, words)`` of every action."""
        return zip(self.ids, self.words)

    def between(self, begin: int, end: int | None = None) -> Commit:
        """Return the actions of ``[begin:end]`` as a commit of the same id."""
        return Commit(self.tid, self.time, self.user, self.note, self.ids[begin:end], self.words[begin:end])


class Filling:
    """A page that is being filled with what commits have brought; packed, it is a page's state."""

    __slots__ = ("_notes", "_timestamps", "_users", "_words", "ids", "positions")

    def __init__(self, positions: Iterable[int] = (), actions: Sequence[ActionWrapper] = ()) -> None:
        self.positions = list(positions)
        self._timestamps, self.ids, self._words = columns_of(actions)
        self._users = [action.user for action in actions]
        self._notes = [action.note for action in actions]

    def add(self, position: int, commit: Commit, begin: int, end: int) -> None:
        """Add the actions ``[begin:end]`` of a commit."""
        count = end - begin
        self.positions += [position] * count
        self._timestamps += [commit.time] * count
        self.ids += commit.ids[begin:end]
        self._words += commit.words[begin:end]
        self._users += [commit.user] * count
        self._notes += [commit.note] * count

    def packed(self) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """Return it packed."""
        columns = pack_columns(self._timestamps, self.ids, self._words, self._users, self._notes)
        return pack_positions(self.positions), columns


class Part:
    """Some values of one page in order, each with its position; they are unpacked when asked for.

    Attributes:
        positions: The positions.
    """

    __slots__ = ("_begin", "_end", "_held", "positions")

    def __init__(self, positions: list[int], held: list[Any] | tuple[Any, ...], begin: int, end: int) -> None:
        whole = begin == 0 and end == len(positions)
        self.positions = positions if whole else positions[begin:end]
        self._held = held  # a list of values, or what ``pack_values`` made of one
        self._begin = begin
        self._end = end

    def values(self) -> list[Any]:
        """Return the values."""
        held = self._held
        values = held if isinstance(held, list) else unpack_values(held)
        return values[self._begin : self._end]

    def columns(self) -> Columns:
        """Return the times, the ids and the words of values that are all ActionWrappers."""
        held = self._held
        timestamps, ids, words = columns_of(held) if isinstance(held, list) else unpack_columns(held)
        if self._end - self._begin == len(ids):
            return timestamps, ids, words
        own = slice(self._begin, self._end)
        return timestamps[own], ids[own], words[own]

    def begin(self, count: int) -> Part:
        """Return the first ``count`` values as a part of their own."""
        part = Part.__new__(Part)
        part.positions = self.positions[:count]
        part._held, part._begin, part._end = self._held, self._begin, self._begin + len(part.positions)
        return part


class Changes(Collection[Item]):
    """Actions in order, each with its position: iterate for ``(position, action)``.

    Attributes:
        positions, timestamps, ids, words: The columns: positions, times of commits in epoch seconds,
            object ids and action words, one each for every action.
    """

    __slots__ = ("_parts", "ids", "positions", "timestamps", "words")

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts = list(parts)
        self.positions: list[int] = []
        self.timestamps: list[float] = []
        self.ids: list[str] = []
        self.words: list[frozenset[str]] = []
        for part in self._parts:
            timestamps, ids, words = part.columns()
            self.positions += part.positions
            self.timestamps += timestamps
            self.ids += ids
            self.words += words

    @classmethod
    def of(cls, data: Iterable[Item]) -> Changes:
        """Return ``data``, made columns of unless it is some already."""
        if isinstance(data, Changes):
            return data
        items = list(data)
        positions = [position for position, _ in items]
        return cls([Part(positions, [action for _, action in items], 0, len(items))])

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Item]:
        return items_of(self._parts)

    def __contains__(self, item: object) -> bool:
        return any(own == item for own in self)


def items_of(parts: Iterable[Part]) -> Iterator[tuple[int, Any]]:
    """Yield ``(position, value)`` of all ``parts``."""
    for part in parts:
        yield from zip(part.positions, part.values())


def first_of(parts: Iterable[Part], count: int) -> Iterator[Part]:
    """Yield as many of ``parts`` as hold the first ``count`` values, the last of them cut."""
    for part in parts:
        if count <= 0:
            return
        have = len(part.positions)
        yield part if have <= count else part.begin(count)
        count -= have


def enough_of(parts: Iterable[Part], count: int) -> list[Part]:
    """Return so many of ``parts`` that they hold at least ``count`` values, or all of them."""
    found: list[Part] = []
    for part in parts:
        found.append(part)
        count -= len(part.positions)
        if count <= 0:
            break
    return found
