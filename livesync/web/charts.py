"""Charts of a value over time: from points to where they are drawn.

Pure, as :mod:`.timeline` is. Lines are drawn in a box of :data:`BOX` by :data:`BOX` units that the page
stretches to any size; ticks are parts of the width or height, so that text keeps its own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .. import words

#: Width and height of the box that lines are drawn in.
BOX: Final = 1000

#: Nobody sees more points than this on a line.
MOST_POINTS: Final = 240

_STEPS_S: Final = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 4 * 3600, 86400, 7 * 86400, 30 * 86400)

#: A time (epoch seconds) and a value, which is not negative.
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A tick: how far along its axis it stands (0 to 1, from the left, or from the bottom), and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One value over time.

    Attributes:
        title: What it shows, unit included.
        line: The points of the line, as SVG's ``points``; "" without any.
        area: The same, closed along the bottom.
        dots: Each point's place, ``(x, y)`` as parts from the left and from the top, where they are few.
        across: Ticks of time.
        up: Ticks of the value.
        latest: The last value in words; "" without any.
        words: The whole of it in a sentence.
    """

    title: str
    line: str
    area: str
    dots: tuple[tuple[float, float], ...]
    across: tuple[Mark, ...]
    up: tuple[Mark, ...]
    latest: str
    words: str


def chart(
    title: str,
    points: Iterable[Point],
    begin: float,
    end: float,
    shown: Callable[[float], str] = words.number,
    is_time: bool = False,
) -> Chart:
    """Return the drawing of ``points``.

    Args:
        title: What they are.
        points: Oldest first; those before ``begin`` are left out.
        begin: The time at the left end (epoch seconds).
        end: The time at the right end.
        shown: A value in words.
        is_time: The values are seconds: their ticks are round in minutes and hours.
    """
    kept = thinned([point for point in points if begin <= point[0] <= end])
    most = max((value for _, value in kept), default=0.0)
    step = time_step(most) if is_time else number_step(most)
    top = max(step, math.ceil(most / step - 1e-9) * step)
    span = max(end - begin, 1e-9)
    places = [((time - begin) / span, 1.0 - value / top) for time, value in kept]
    line = " ".join(f"{x * BOX:.1f},{y * BOX:.1f}" for x, y in places)
    area = f"{places[0][0] * BOX:.1f},{BOX} {line} {places[-1][0] * BOX:.1f},{BOX}" if places else ""
    latest = shown(kept[-1][1]) if kept else ""
    return Chart(
        title=title,
        line=line,
        area=area,
        dots=tuple(places) if len(places) <= 60 else (),
        across=tuple(_times(begin, end)),
        up=tuple(Mark(number * step / top, shown(number * step)) for number in range(round(top / step) + 1)),
        latest=latest,
        words=_in_words(title, [value for _, value in kept], shown),
    )


def rates(totals: Sequence[Point], longest_s: float = math.inf) -> list[Point]:
    """Return how fast a total grew between each two points, per second, at the time of the later one.

    A total that falls has begun anew; nothing is said of that stretch, nor of one longer than ``longest_s``.
    """
    return [
        (time, (value - before) / (time - earlier))
        for (earlier, before), (time, value) in pairwise(totals)
        if value >= before and 0 < time - earlier <= longest_s
    ]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most about ``most`` of the points, the highest of each group: peaks matter."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    groups = (points[begin : begin + size] for begin in range(0, len(points), size))
    return [max(group, key=lambda point: point[1]) for group in groups]


def number_step(most: float) -> float:
    """Return a round step of which about three or four reach ``most``; 1 for nothing at all."""
    if most <= 0:
        return 1.0
    rough = most / 3
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999999))


def time_step(most_s: float) -> float:
    """Return a step of seconds that is round in the unit people would use."""
    if most_s <= 1:
        return number_step(most_s)
    return float(next((step for step in _STEPS_S if most_s / step <= 4), number_step(most_s)))


def _times(begin: float, end: float) -> Iterable[Mark]:
    span = end - begin
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        time = begin + part * span
        yield Mark(part, words.day(time) if span > 86400 else words.clock(time, seconds=span < 1200))


def _in_words(title: str, values: Sequence[float], shown: Callable[[float], str]) -> str:
    if not values:
        return f"{title}: nothing yet"
    return (
        f"{title}: {shown(values[-1])} at the end, between {shown(min(values))} and {shown(max(values))}"
        f" over {words.plural(len(values), 'point')}"
    )
