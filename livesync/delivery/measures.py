"""Counters and histograms of what was sent: plain values that can be stored and added up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

#: Upper bounds of the histogram of seconds that a batch took; what took longer is counted last.
BATCH_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Histogram:
    """How many batches took how long.

    Attributes:
        counts: One number for each bound of :data:`BATCH_SECONDS`, the batches that took no longer
            than it and longer than the one before; and a last one for the rest.
        seconds: The sum.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BATCH_SECONDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one batch."""
        self.counts[bisect_left(BATCH_SECONDS, seconds)] += 1
        self.seconds += seconds

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """Add what another histogram holds."""
        self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
        self.seconds += seconds

    def quantile(self, share: float) -> float | None:
        """Return the bound below which ``share`` (0 to 1) of the batches lie; None where there are none.

        A batch beyond the last bound is given as infinity.
        """
        total = sum(self.counts)
        if not total:
            return None
        seen = 0
        for bound, count in zip((*BATCH_SECONDS, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= share * total:
                return bound
        return float("inf")
