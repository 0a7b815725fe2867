"""How often the same request is sent, and how long is waited in between: exponential, with full jitter."""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Beyond this many doublings every limit that makes sense is reached; it keeps the power finite.
_MAX_DOUBLINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Retries:
    """Tries, and the waits between them.

    Full jitter (a uniform share of the exponential step) keeps many clients that failed together from coming
    back together: Brooker, "Exponential Backoff And Jitter", 2015.

    Attributes:
        most: How often a request is sent again, at most.
        base_s: The longest wait after the first try, in seconds; it doubles with each further one.
        cap_s: No wait is longer, in seconds, unless the server asks for it.
        max_after_s: A wait that the server asks for is cut to this, in seconds.
        random: Returns a float in ``[0, 1[``.
        sleep: Waits so many seconds.
    """

    most: int = 7
    base_s: float = 0.3
    cap_s: float = 20.0
    max_after_s: float = 120.0
    random: Callable[[], float] = _random.random
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.most < 0 or self.base_s < 0 or self.cap_s < 0 or self.max_after_s < 0:
            raise ValueError("neither tries nor seconds are negative")

    def delay_s(self, tries: int, after_s: float | None = None) -> float:
        """Return how many seconds to wait after so many tries.

        Args:
            tries: From 1.
            after_s: What the server asked for; None: nothing.
        """
        step_s = min(self.cap_s, self.base_s * 2.0 ** min(tries - 1, _MAX_DOUBLINGS))
        asked_s = 0.0 if after_s is None else min(max(after_s, 0.0), self.max_after_s)
        return max(self.random() * step_s, asked_s)

    def wait(self, tries: int, after_s: float | None = None) -> None:
        """Wait before the next try; see :meth:`delay_s`."""
        self.sleep(self.delay_s(tries, after_s))
