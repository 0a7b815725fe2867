"""How often somebody may come with a wrong password: per address and per name, in bounded memory."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .problems import Refused

#: Attempts that failed, of one address or name, within :data:`WINDOW_S` seconds; then nothing more is heard.
MOST: Final = 10
WINDOW_S: Final = 300.0

#: Addresses and names that are remembered; the one that failed longest ago is forgotten first.
_CAPACITY: Final = 10_000


class Throttle:
    """Counts failures in windows of time.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, *keys: str) -> None:
        """Count an attempt before it is looked at, so that many at once count too.

        Raises:
            Refused: One of the keys has failed too often.
        """
        now = self._clock()
        with self._lock:
            for key in keys:
                since, count = self._failures.get(key, (now, 0))
                if now - since < WINDOW_S and count >= MOST:
                    wait = str(max(1, math.ceil(since + WINDOW_S - now)))
                    raise Refused(
                        "too_often",
                        "too many attempts have failed: wait before you try again",
                        headers=(("Retry-After", wait),),
                    )
            for key in keys:
                since, count = self._failures.get(key, (now, 0))
                self._failures[key] = (now, 1) if now - since >= WINDOW_S else (since, count + 1)
                self._failures.move_to_end(key)
            while len(self._failures) > _CAPACITY:
                self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the failures of these."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)
