"""How long to wait before the next try: exponential, with full jitter."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from dataclasses import dataclass

#: Beyond this many doublings every cap that makes sense is reached; it keeps the power finite.
_MAX_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waiting times between tries, a pure function of the attempt and a random number.

    Full jitter (a uniform share of the exponential step, not the step with a little noise) is what
    keeps many runners that failed together from coming back together: Brooker, "Exponential
    Backoff And Jitter", 2015.

    Attributes:
        base_s: The longest wait after the first try, in seconds; it doubles with each further one.
        cap_s: No step is longer, in seconds.
        max_after_s: A wait that the service asks for is cut to this, in seconds: a service (or
            what stands in front of it) cannot put an agent to sleep for a day.
        random: Returns a float in ``[0, 1[``.
    """

    base_s: float = 0.5
    cap_s: float = 60.0
    max_after_s: float = 900.0
    random: Callable[[], float] = _random.random

    def __post_init__(self) -> None:
        if self.base_s < 0 or self.cap_s < 0 or self.max_after_s < 0:
            raise ValueError("a wait in seconds is not negative")

    def delay_s(self, attempt: int, after_s: float | None = None) -> float:
        """Return how many seconds to wait after try number ``attempt``.

        Args:
            attempt: How many tries there were, from 1.
            after_s: The least number of seconds that the service asked for, None if it did not.

        Raises:
            ValueError: ``attempt`` is below 1.
        """
        if attempt < 1:
            raise ValueError(f"tries are counted from 1, not {attempt}")
        step_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        asked_s = 0.0 if after_s is None else min(max(after_s, 0.0), self.max_after_s)
        return max(self.random() * step_s, asked_s)
