"""How often somebody may fail to log in: per address and per name, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .errors import TooOften

#: Failures of one key within the window after which no attempt is heard until it is over.
PER_NAME: Final = 10
PER_ADDRESS: Final = 20
WINDOW_S: Final = 300.0

#: Keys that are remembered; the one that failed longest ago is forgotten first.
CAPACITY: Final = 10_000


class Throttle:
    """Counts failures by key in windows of time.

    Args:
        clock: Seconds, never going back.
        window_s: How long failures count.
        capacity: Keys that are remembered.
    """

    def __init__(
        self, clock: Callable[[], float], window_s: float = WINDOW_S, capacity: int = CAPACITY
    ) -> None:
        self._clock = clock
        self._window_s = window_s
        self._capacity = capacity
        self._failures: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, address: str, name: str) -> None:
        """Count an attempt before it is looked at, so that many at once count too.

        Raises:
            TooOften: One of the two has failed too often; the attempt is not to be looked at.
        """
        now = self._clock()
        keys = ((("address", address), PER_ADDRESS), (("name", name), PER_NAME))
        with self._lock:
            waits = [self._wait(key, most, now) for key, most in keys]
            if max(waits) > 0:
                raise TooOften("too many logins have failed: wait before you try again", max(waits))
            for key, _ in keys:
                since, count = self._counted(key, now)
                self._failures[key] = (since, count + 1)
                self._failures.move_to_end(key)
            while len(self._failures) > self._capacity:
                self._failures.popitem(last=False)

    def succeeded(self, address: str, name: str) -> None:
        """Forget the failures of a name that has logged in, and this attempt of its address."""
        with self._lock:
            self._failures.pop(("name", name), None)
            since, count = self._failures.get(("address", address), (0.0, 0))
            if count > 1:
                self._failures["address", address] = (since, count - 1)
            else:
                self._failures.pop(("address", address), None)

    def _counted(self, key: tuple[str, str], now: float) -> tuple[float, int]:
        since, count = self._failures.get(key, (now, 0))
        return (now, 0) if now - since >= self._window_s else (since, count)

    def _wait(self, key: tuple[str, str], most: int, now: float) -> float:
        since, count = self._counted(key, now)
        return since + self._window_s - now if count >= most else 0.0
