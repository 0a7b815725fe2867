"""How fast an agent may send, and how much of what it sends may be refused: shared by its streams."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ..errors import TooManyRefused
from ..words import plural


class Pace:
    """When the next request may leave. Threads share it.

    Args:
        per_second: Most requests a second; None: no limit.
        clock: Returns seconds that only grow.
    """

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 0.0 if per_second is None else 1.0 / per_second
        self._clock = clock
        self._next = float("-inf")
        self._lock = threading.Lock()

    def take_turn(self) -> float:
        """Reserve the next request's time; return how many seconds to wait for it."""
        if not self._interval_s and self._next == float("-inf"):
            return 0.0
        with self._lock:
            now = self._clock()
            due = max(now, self._next)
            self._next = due + self._interval_s
            return due - now

    def hold(self, seconds: float) -> None:
        """Let nobody send for so many seconds: a service that said "not now" said it to all streams."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class Refusals:
    """How many of the last records were refused: beyond the threshold it is not the records' fault.

    Threads share it.

    Args:
        window: How many of the last records count.
        threshold: How many of these may be refused.
        state: What :meth:`state` returned earlier, so that short runs add up.
    """

    def __init__(self, window: int, threshold: int, state: tuple[int, ...] = ()) -> None:
        self._window = window
        self._threshold = threshold
        self._settled = state[0] if state else 0
        self._refused = deque(state[1:])
        self._too_many = ""  # what was said of the first that was one too many
        self._lock = threading.Lock()

    def state(self) -> tuple[int, ...]:
        """Return what is to be kept: the number of records settled, then the numbers of those refused."""
        with self._lock:
            self._forget()
            return (self._settled, *self._refused)

    def passed(self, count: int) -> None:
        """Note that ``count`` records were not refused."""
        with self._lock:
            self._settled += count

    def refused(self, reason: str) -> None:
        """Note that a record was refused.

        Raises:
            TooManyRefused: It was one too many. Further ones are told the same, whichever of the
                streams they come from: that is why the agent is stopped.
        """
        with self._lock:
            self._settled += 1
            self._refused.append(self._settled)
            self._forget()
            count = len(self._refused)
            if count <= self._threshold:
                return
            if not self._too_many:
                among = plural(min(self._settled, self._window), "record")
                self._too_many = (
                    f"{count} of the last {among} were refused, which looks like the service's fault"
                    f" or the host's; the last: {reason}; mend it, or raise dead_threshold"
                )
        raise TooManyRefused(self._too_many)

    def _forget(self) -> None:
        while self._refused and self._refused[0] <= self._settled - self._window:
            self._refused.popleft()
