"""The track as a time line: from where everything stands to where it is drawn.

Pure: values in, values out. All places are parts of the width, 0 at the left end and 1 at the right,
which is now. The template multiplies them by 100 and writes them as per cent, so the drawing fits any
width without its text being scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from .. import words

if TYPE_CHECKING:
    from .schemas import Agent, Status

#: Gives how many actions lie on the track in ``]from, till]``; None is no limit.
Count = Callable[[int | None, int | None], int]

#: Bars that show where on the track how much lies.
BARS: Final = 60

#: A stretch in which anything waits is at least this wide: one action in a year must be seen.
LEAST: Final = 0.006

#: Ticks are at least so far apart.
_APART: Final = 0.085

#: What the axis spans at least, in seconds: a track that is a moment old is no whole width of seconds.
_LEAST_SPAN_S: Final = 600.0

#: The most of the line that the time since the newest entry takes, where recent times have most of it.
_QUIET: Final = 0.2

#: Up to this age, in seconds, the axis of recent times is about even; beyond it is logarithmic.
_EVEN_S: Final = 10.0

_AGES: Final = (
    (10.0, "10 s"), (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"), (6 * 3600.0, "6 h"),
    (86400.0, "1 day"), (7 * 86400.0, "1 week"), (30 * 86400.0, "1 month"), (182 * 86400.0, "6 months"),
    (365 * 86400.0, "1 year"), (3 * 365 * 86400.0, "3 years"), (10 * 365 * 86400.0, "10 years"),
)  # fmt: skip

#: Where those leave room.
_MORE_AGES: Final = (
    (1800.0, "30 min"), (2 * 3600.0, "2 h"), (12 * 3600.0, "12 h"), (2 * 86400.0, "2 days"),
    (3 * 86400.0, "3 days"), (14 * 86400.0, "2 weeks"), (60 * 86400.0, "2 months"),
    (91 * 86400.0, "3 months"),
    (547 * 86400.0, "18 months"), (730 * 86400.0, "2 years"), (5 * 365 * 86400.0, "5 years"),
)  # fmt: skip

_STEPS_S: Final = (
    1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600,
    86400, 2 * 86400, 7 * 86400, 30 * 86400, 91 * 86400, 365 * 86400, 5 * 365 * 86400,
)  # fmt: skip


class Scale(Enum):
    """How time is laid along the line."""

    RECENT = "recent"  #: everything, what is recent taking most of the room
    HOUR = "hour"  #: the last hour, even
    DAY = "day"  #: the last day, even
    ALL = "all"  #: everything, even


_WINDOWS_S: Final = {Scale.HOUR: 3600.0, Scale.DAY: 86400.0}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the line, from ``begin`` to ``end``."""

    begin: float
    end: float

    @property
    def width(self) -> float:
        """How long it is."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the axis, its short label, and the time it stands for in full."""

    at: float
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """How many actions lie in a stretch; ``height``: 0 to 1, by the square root of the count."""

    stretch: Stretch
    height: float
    count: int
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One agent on the line.

    Attributes:
        agent: Where it stands.
        pointer: Where its pointer is drawn; None: it has none.
        is_outside: The pointer lies before what the line shows, and is drawn at its left end.
        delivered: What lies behind the pointer.
        waiting: What it still has to deliver; None: nothing.
        words: All of it in a sentence.
    """

    agent: Agent
    pointer: float | None
    is_outside: bool
    delivered: Stretch | None
    waiting: Stretch | None
    words: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn: the axis, the bars of the track, and a lane for each agent, in the order given."""

    scale: Scale
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    lanes: tuple[Lane, ...]
    sealed: float | None
    words: str


class Axis:
    """Where a time stands on the line, and which time stands where.

    Where recent times take most of the room, the age of a time counts from the newest entry, by its
    logarithm, and the quiet time since then has at most :data:`_QUIET` of the line.

    Args:
        scale: How time is laid along it.
        oldest: The time (epoch seconds) of the oldest entry, None for an empty track.
        newest: That of the newest one.
        now: The right end.
    """

    def __init__(self, scale: Scale, oldest: float | None, newest: float | None, now: float) -> None:
        self.now = now
        self.scale = scale
        self.span_s = _WINDOWS_S.get(scale) or max(now - (now if oldest is None else oldest), _LEAST_SPAN_S)
        self._quiet_s = 0.0
        self._bend = 1.0
        if scale is Scale.RECENT and newest is not None:
            quiet_s = min(max(0.0, now - newest), self.span_s)
            # where all entries are of one moment, nothing is left to be drawn beside the quiet time
            if self.span_s - quiet_s >= 1.0 and _log_part(quiet_s, self.span_s) > _QUIET:
                self._quiet_s, self._bend = quiet_s, 1.0 - _QUIET

    def place(self, time: float) -> float:
        """Return where a time stands, within 0 and 1."""
        age = min(max(self.now - time, 0.0), self.span_s)
        if self.scale is not Scale.RECENT:
            return 1.0 - age / self.span_s
        if age <= self._quiet_s:
            return 1.0 - (1.0 - self._bend) * (age / self._quiet_s if self._quiet_s else 0.0)
        return self._bend * (1.0 - _log_part(age - self._quiet_s, self.span_s - self._quiet_s))

    def time(self, place: float) -> float:
        """Return the time that stands at a place: the inverse of :meth:`place`."""
        if self.scale is not Scale.RECENT:
            return self.now - (1.0 - place) * self.span_s
        if place > self._bend:
            return self.now - (1.0 - place) / (1.0 - self._bend) * self._quiet_s
        rest_s = self.span_s - self._quiet_s
        part = 1.0 - place / self._bend
        return self.now - self._quiet_s - _EVEN_S * math.expm1(part * math.log1p(rest_s / _EVEN_S))

    def ticks(self) -> list[Tick]:
        """Return the ticks, now first and then to the left; round times go before others."""
        taken = [Tick(1.0, "now", words.utc(self.now))]
        for time, label in self._candidates():
            at = self.place(time)
            if all(abs(at - other.at) >= _APART for other in taken):
                taken.append(Tick(at, label, words.utc(time)))
        return sorted(taken, key=lambda tick: -tick.at)

    def _candidates(self) -> Iterator[tuple[float, str]]:
        if self.scale is Scale.RECENT:
            for age, label in (*_AGES, *_MORE_AGES):
                if age <= self.span_s:
                    yield self.now - age, label
            return
        step = next((step for step in _STEPS_S if self.span_s / step <= 6), _STEPS_S[-1])
        time = self.now // step * step
        while time >= self.now - self.span_s:
            yield time, words.day(time) if step >= 86400 else words.clock(time, seconds=step < 60)
            time -= step


def _log_part(age_s: float, span_s: float) -> float:
    """Return how far from the right end an age stands on a line that is logarithmic but for its end."""
    return math.log1p(age_s / _EVEN_S) / math.log1p(span_s / _EVEN_S) if span_s > 0 else 0.0


def timeline(status: Status, count: Count, now: float, scale: Scale = Scale.RECENT) -> Timeline:
    """Return the drawing of a track and its agents.

    Args:
        status: Where everything stands.
        count: Tells how much lies on a part of the track; it is asked :data:`BARS` times at most.
        now: Epoch seconds: the right end.
        scale: How time is laid along the line.
    """
    granularity = status.granularity
    oldest = None if status.oldest is None else float(status.oldest * granularity)
    newest = None if status.newest is None else float((status.newest + 1) * granularity)
    axis = Axis(scale, oldest, newest, now)
    end = 1.0 if status.waiting or newest is None else axis.place(newest)
    return Timeline(
        scale=scale,
        ticks=tuple(axis.ticks()),
        bars=tuple(_bars(axis, status, count)),
        lanes=tuple(_lane(axis, agent, granularity, end) for agent in status.agents),
        sealed=None if status.sealed < 0 else axis.place(float((status.sealed + 1) * granularity)),
        words=_in_words(status, now),
    )


def _bars(axis: Axis, status: Status, count: Count) -> Iterator[Bar]:
    """Yield a bar for each part of the line in which something lies; the last one has the inbox too."""
    if status.oldest is None and not status.waiting:
        return
    places = [number / BARS for number in range(BARS + 1)]
    edges = [math.ceil(axis.time(place) / status.granularity) - 1 for place in places]
    counts = []
    for begin, end in pairwise(edges):
        lies_there = status.oldest is not None and end >= status.oldest and begin < (status.newest or 0)
        counts.append(count(begin, end) if lies_there and end > begin else 0)
    counts[0] += count(None, edges[0]) if axis.scale in (Scale.RECENT, Scale.ALL) else 0
    # what commits ahead of our clock, or has no position yet, is now
    counts[-1] += count(edges[-1], None) + status.waiting
    most = max(counts)
    for (left, right), found in zip(pairwise(places), counts):
        if found:
            title = f"{words.plural(found, 'action')} from {words.utc(axis.time(left))}"
            yield Bar(Stretch(left, right), math.sqrt(found / most), found, title)


def _lane(axis: Axis, agent: Agent, granularity: int, end: float) -> Lane:
    """Return an agent's lane; ``end``: where on the line the newest thing lies."""
    if agent.state == "new":
        return Lane(agent, None, False, None, None, "no pointer yet")
    if agent.position is None:
        time, outside, at = "before everything", False, 0.0
    else:
        moment = float((agent.position + 1) * granularity)
        time = words.utc(moment - granularity)
        outside = axis.now - moment > axis.span_s
        at = axis.place(moment)
    waiting = None
    if agent.lag_actions:
        waiting = Stretch(min(at, 1.0 - LEAST), max(end, min(at, 1.0 - LEAST) + LEAST))
    text = f"pointer at {time}, {lag_in_words(agent)}"
    return Lane(agent, at, outside, Stretch(0.0, at), waiting, text)


def lag_in_words(agent: Agent) -> str:
    """Return what an agent still has to do: ``up to date``, or how much and how old."""
    queued = f"; {words.number(agent.queued)} in the slow queue" if agent.queued else ""
    if not agent.lag_actions:
        return f"up to date{queued}"
    return (
        f"{words.plural(agent.lag_actions, 'action')} waiting, {words.duration(agent.lag_seconds)}"
        f" behind{queued}"
    )


def _in_words(status: Status, now: float) -> str:
    """Return the whole drawing in a sentence, for those who do not see it."""
    if not status.actions:
        return "Nothing is on the track"
    begin = words.utc((status.oldest or 0) * status.granularity)
    end = words.ago((status.newest or 0) * status.granularity, now)
    return f"{words.plural(status.actions, 'action')} on the track, from {begin}, the newest {end}"


def summary(agents: Iterable[Agent]) -> str:
    """Return how the agents are in one line, which changes only when that does: it is read aloud."""
    counts = {"up to date": 0, "with changes waiting": 0, "paused": 0, "stopped": 0, "exporting": 0, "new": 0}
    for agent in agents:
        counts[_standing(agent)] += 1
    told = [f"{number} {name}" for name, number in counts.items() if number]
    return f"Agents: {', '.join(told)}" if told else "There is no agent yet"


def _standing(agent: Agent) -> str:
    if agent.state == "active":
        return "with changes waiting" if agent.lag_actions else "up to date"
    return "exporting" if agent.state == "recording" else agent.state
