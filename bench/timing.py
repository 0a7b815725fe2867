"""Stopwatches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Time:
    """How long something took, in seconds: on the wall, and of this process's CPU."""

    wall_s: float
    cpu_s: float


def timed(function: Callable[[], Any]) -> Time:
    """Call ``function`` once and return how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Time(time.perf_counter() - wall, time.process_time() - cpu)


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios of pairs measured one after the other."""
    return median(above / below for above, below in zip(numerators, denominators, strict=True))
