"""What people write on the command line, turned into values: intervals, positions, KEY=VALUE.

Each function is an argparse ``type`` or is called with the text it left alone; standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import math
import re
from typing import Final

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_INTERVAL: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)

#: The longest interval that makes sense: a year.
MAX_INTERVAL_S: Final = 366 * 86400.0

#: Positions are keys of a BTree of 64-bit integers.
MAX_POSITION: Final = 2**62


def interval(text: str) -> float:
    """Return the seconds that ``60``, ``90s``, ``5m``, ``1h`` or ``2d`` stand for.

    Raises:
        argparse.ArgumentTypeError: It is no interval, below a second, or above a year.
    """
    match = _INTERVAL.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: write 60, 90s, 5m, 1h or 2d")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if not 1 <= seconds <= MAX_INTERVAL_S:
        raise argparse.ArgumentTypeError(f"{text!r} makes no sense: from 1 second to 366 days")
    return seconds


def span(text: str) -> float:
    """Return the seconds of an interval, or 0.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    return 0.0 if _whole(text) == 0 else interval(text)


def positive_seconds(text: str) -> int:
    """Return a whole number of seconds, 1 to 86,400: a granularity.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    number = _whole(text)
    if number is None or not 1 <= number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds from 1 to 86400")
    return number


def not_negative(text: str) -> float:
    """Return a number that is not negative.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 up")
    return number


def count(text: str) -> int:
    """Return a whole number that is not negative.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    number = _whole(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return number


def _whole(text: str) -> int | None:
    """Return the number that ``text`` writes in ASCII digits, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def key_value(text: str) -> tuple[str, str]:
    """Return the two halves of ``KEY=VALUE``; the value may be empty or contain ``=``.

    Raises:
        argparse.ArgumentTypeError: There is no ``=``, or nothing before it. The text is not
            repeated: it may hold a secret that was typed in the wrong place.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise argparse.ArgumentTypeError("an option is written as KEY=VALUE, KEY a plain word")
    return key, value


class Moment:
    """A place on the track as somebody wrote it: a position, or a time that comes to one."""

    __slots__ = ("_position", "_time", "text")

    def __init__(self, text: str) -> None:
        """Read ``text``: a position, or a time in ISO 8601 with a zone.

        Raises:
            argparse.ArgumentTypeError: It is neither.
        """
        self.text = text
        self._position = _whole(text)
        self._time: datetime.datetime | None = None
        if self._position is None:
            self._time = _time(text)
        elif self._position > MAX_POSITION:
            raise argparse.ArgumentTypeError(f"{text!r} is beyond any position")

    def position(self, granularity: int) -> int:
        """Return the position, for a track of ``granularity`` seconds per position."""
        if self._position is not None:
            return self._position
        assert self._time is not None
        return math.floor(self._time.timestamp() // granularity)

    def seconds(self, granularity: int) -> float:
        """Return the time in epoch seconds; of a position, the last moment that belongs to it."""
        if self._time is not None:
            return self._time.timestamp()
        assert self._position is not None
        return math.nextafter((self._position + 1) * float(granularity), 0.0)


def _time(text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a position (a whole number) nor a time such as 2026-11-05T10:00:00Z"
        ) from None
    if time.utcoffset() is None:
        raise argparse.ArgumentTypeError(f"the time {text!r} needs a zone: add Z or +01:00")
    if time.timestamp() < 0:
        raise argparse.ArgumentTypeError(f"the time {text!r} is before 1970, where positions begin")
    return time


class Address:
    """Where to listen: ``HOST:PORT``, ``:PORT`` or ``PORT``; IPv6 in brackets; port 0: a free one."""

    __slots__ = ("host", "port")

    def __init__(self, text: str) -> None:
        """Read ``text``.

        Raises:
            argparse.ArgumentTypeError: It is no address.
        """
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise argparse.ArgumentTypeError(f"{text!r}: put an IPv6 address in brackets, [::1]:6548")
        number = _whole(port)
        if number is None or number > 65535 or any(char.isspace() or char == "/" for char in host):
            raise argparse.ArgumentTypeError(f"{text!r} is no address to listen at: write 127.0.0.1:6548")
        self.host = host or "127.0.0.1"
        self.port = number

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def workers(text: str) -> int:
    """Return how many may be at work at once, 1 to 64.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    number = _whole(text)
    if number is None or not 1 <= number <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 64")
    return number


def named_rule(text: str) -> tuple[str, str]:
    """Return the name and the rule of ``NAME`` or ``NAME=RULE``."""
    name, _, rule = text.partition("=")
    return name, rule
