"""Vector clocks: how far each provider's writes are known. Pure.

The clocks of Mattern (Virtual Time and Global States of Distributed Systems, 1988), whose ordering goes back
to Lamport (Time, Clocks, and the Ordering of Events in a Distributed System, 1978). What a provider counts
is not events but microseconds, by a hybrid clock that never stands still nor steps back
(:func:`following`), so that timestamps can be read by people.

Inside the engine a timestamp is a whole number, microseconds since ``datetime.min``, 0 for "nothing"; a
clock is a mapping of such numbers by provider. What people see are the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

#: The minimum: nothing of a provider is known.
MINIMUM: Final = datetime.min.replace(tzinfo=timezone.utc)

#: The engine's form of a clock: provider -> microseconds since ``datetime.min``; a missing one is 0.
Stamps = Mapping[str, int]

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_STAMP: Final = (_EPOCH - MINIMUM) // _MICROSECOND


def stamp_of(moment: datetime) -> int:
    """Return the number for an aware datetime.

    Raises:
        TypeError: It is no datetime.
        ValueError: It is naive.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"a timestamp is a datetime, not {type(moment).__name__}")
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a time zone: this datetime is naive")
    return (moment - MINIMUM) // _MICROSECOND


def moment_of(stamp: int) -> datetime:
    """Return the aware UTC datetime of a number.

    Raises:
        ValueError: There is no such year.
    """
    try:
        return MINIMUM + timedelta(microseconds=stamp)
    except OverflowError as exc:
        raise ValueError(f"{stamp} is no timestamp: there is no such year") from exc


def stamp_of_epoch(seconds: float) -> int:
    """Return the number for epoch seconds, as clocks tell them."""
    return _EPOCH_STAMP + round(seconds * 1_000_000)


def following(newest: int, now: int) -> int:
    """Return the timestamp of a new write: that of the wall clock, but above all that was ever seen.

    Args:
        newest: The newest timestamp issued or seen here.
        now: The wall clock; it may stand still or step back.
    """
    return max(now, newest + 1)


@dataclass(frozen=True, slots=True, eq=True)
class VectorClockItem:
    """The newest timestamp known of one provider. Ordered by timestamp, within one provider only.

    Args:
        provider_id: Who owns this clock.
        timestamp: Aware; kept in UTC. The minimum, ``datetime.min`` in UTC, says that nothing is known.

    Raises:
        TypeError: The id is no text, or the timestamp no datetime.
        ValueError: The id is empty, or the timestamp is naive.
    """

    provider_id: str
    timestamp: datetime

    def __post_init__(self) -> None:
        if not isinstance(self.provider_id, str):
            raise TypeError(f"a provider id is a str, not {type(self.provider_id).__name__}")
        if not self.provider_id:
            raise ValueError("a provider id is not empty")
        object.__setattr__(self, "timestamp", moment_of(stamp_of(self.timestamp)))

    @property
    def stamp(self) -> int:
        """The timestamp as the engine counts it."""
        return stamp_of(self.timestamp)

    def is_empty(self) -> bool:
        """Tell whether nothing is known: the timestamp is the minimum."""
        return self.timestamp == MINIMUM

    def _other(self, other: VectorClockItem) -> datetime:
        if other.provider_id != self.provider_id:
            raise TypeError(
                f"clocks of two providers have no order: {self.provider_id!r}, {other.provider_id!r}"
            )
        return other.timestamp

    def __lt__(self, other: object) -> bool:
        return self.timestamp < self._other(other) if isinstance(other, VectorClockItem) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self.timestamp <= self._other(other) if isinstance(other, VectorClockItem) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.timestamp > self._other(other) if isinstance(other, VectorClockItem) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.timestamp >= self._other(other) if isinstance(other, VectorClockItem) else NotImplemented


class VectorClock:
    """The newest timestamps known of several providers: the state of synchronisation of one of them.

    Iterating yields the items by provider. Two clocks are equal when they know the same; an item at the
    minimum is as good as none. Mutable, so not hashable.

    Args:
        vector_clock_items: At most one for each provider.

    Raises:
        TypeError: One is no :class:`VectorClockItem`.
        ValueError: Two are of one provider.
    """

    __slots__ = ("_items",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *vector_clock_items: VectorClockItem) -> None:
        self._items: dict[str, VectorClockItem] = {}
        for item in vector_clock_items:
            if not isinstance(item, VectorClockItem):
                raise TypeError(f"a vector clock is made of its items, not of {type(item).__name__}")
            if item.provider_id in self._items:
                raise ValueError(f"there are two items for provider {item.provider_id!r}")
            self._items[item.provider_id] = item

    @classmethod
    def create_empty(cls, provider_ids: Iterable[str]) -> VectorClock:
        """Return a clock that knows of these providers, and nothing of what they wrote."""
        return cls(*(VectorClockItem(provider_id, MINIMUM) for provider_id in sorted(set(provider_ids))))

    @classmethod
    def of_stamps(cls, stamps: Stamps) -> VectorClock:
        """Return the clock of the engine's form."""
        return cls(*(VectorClockItem(provider, moment_of(stamp)) for provider, stamp in stamps.items()))

    def stamps(self) -> dict[str, int]:
        """Return the engine's form: numbers by provider, without those at the minimum."""
        return {item.provider_id: item.stamp for item in self if not item.is_empty()}

    def get_vector_clock_item(self, provider_id: str) -> VectorClockItem:
        """Return the item of a provider; one at the minimum where there is none."""
        found = self._items.get(provider_id)
        return VectorClockItem(provider_id, MINIMUM) if found is None else found

    def update(self, vector_clock_item: VectorClockItem) -> None:
        """Move the item of its provider forward to this one; an older one changes nothing."""
        known = self._items.get(vector_clock_item.provider_id)
        if known is None or vector_clock_item > known:
            self._items[vector_clock_item.provider_id] = vector_clock_item

    def __iter__(self) -> Iterator[VectorClockItem]:
        return iter([self._items[provider_id] for provider_id in sorted(self._items)])

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorClock):
            return NotImplemented
        return self.stamps() == other.stamps()

    def __repr__(self) -> str:
        inside = ", ".join(f"{item.provider_id}: {item.timestamp.isoformat()}" for item in self)
        return f"<VectorClock {inside or 'empty'}>"


def descends(newer: VectorClock | Stamps, older: VectorClock | Stamps) -> bool:
    """Tell whether ``newer`` knows all that ``older`` knows; a clock descends from itself."""
    known = _stamps(newer)
    return all(known.get(provider, 0) >= stamp for provider, stamp in _stamps(older).items())


def concurrent(one: VectorClock | Stamps, other: VectorClock | Stamps) -> bool:
    """Tell whether each knows something that the other does not."""
    return not descends(one, other) and not descends(other, one)


def merge(*clocks: VectorClock) -> VectorClock:
    """Return the clock that knows what any of these knows: the maximum for each provider."""
    return VectorClock.of_stamps(merged(*(clock.stamps() for clock in clocks)))


def merged(*clocks: Stamps) -> dict[str, int]:
    """Return the maximum for each provider, in the engine's form."""
    result: dict[str, int] = {}
    for clock in clocks:
        for provider, stamp in clock.items():
            if stamp > result.get(provider, 0):
                result[provider] = stamp
    return result


def common(clocks: Iterable[Stamps]) -> dict[str, int]:
    """Return what all of several clocks say: the smaller stamps, of those providers that each one names."""
    found = list(clocks)
    if not found:
        return {}
    first, *rest = found
    return {
        provider: min(stamp, *(clock[provider] for clock in rest)) if rest else stamp
        for provider, stamp in first.items()
        if all(provider in clock for clock in rest)
    }


def _stamps(clock: VectorClock | Stamps) -> Stamps:
    return clock.stamps() if isinstance(clock, VectorClock) else clock
