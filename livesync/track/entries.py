"""What an entry of a track looks like to its readers, and the entries of an interval."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from .multipointer import MultiPointerTrack


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


class Entries(Sequence[Any]):
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
