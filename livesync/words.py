"""Times, lengths of time and numbers as people read them: pure functions of values."""

from __future__ import annotations

import datetime
from typing import Final

#: Unit -> seconds, the longest first. A month and a year are round figures, for words alone.
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_AGES: Final = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
    ("second", 1),
)


def number(value: float) -> str:
    """Return a number with thousands apart; one decimal only where it is small and not whole."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a length of time, its two greatest units: ``45 s``, ``5 min``, ``2 h 10 min``, ``3 d 1 h``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def ago(then: float, now: float) -> str:
    """Return in words how long before ``now`` something was, or how long after it will be (epoch seconds)."""
    apart = now - then
    if abs(apart) < 1:
        return "just now"
    unit, size = next(one for one in _AGES if abs(apart) >= one[1])
    count = int(abs(apart) // size)
    text = f"{count:,} {unit}{'' if count == 1 else 's'}"
    return f"{text} ago" if apart > 0 else f"in {text}"


def utc(timestamp: float, seconds: bool = True) -> str:
    """Return a time (epoch seconds) as ``2026-11-27 10:04:05 UTC``; empty where it is beyond any calendar."""
    time = _time(timestamp)
    if time is None:
        return ""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{time:%Y-%m-%d %H:%M} UTC"


def iso(timestamp: float) -> str:
    """Return a time (epoch seconds) as the attribute ``datetime`` of HTML's ``time`` takes it."""
    time = _time(timestamp)
    return "" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"


def clock(timestamp: float, seconds: bool = False) -> str:
    """Return the hour and minute (UTC) of a time, for the ticks of an axis."""
    time = _time(timestamp)
    if time is None:
        return ""
    return f"{time:%H:%M:%S}" if seconds else f"{time:%H:%M}"


def day(timestamp: float) -> str:
    """Return the day (UTC) of a time, for the ticks of an axis."""
    time = _time(timestamp)
    return "" if time is None else f"{time:%Y-%m-%d}"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its word: ``1 agent``, ``3 agents``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    value, unit = float(count), "bytes"
    for following in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, following
    return plural(count, "byte") if unit == "bytes" else f"{value:.1f} {unit}"


def _time(timestamp: float) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
