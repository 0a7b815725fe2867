"""Startup: how soon ``livesync --help`` answers."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from .rows import Row, check

TITLE = "startup: wall time of a command that opens nothing"
QUICK = {"repeats": 1}


def measure(repeats: int = 11) -> list[Row]:
    """Return the medians over ``repeats`` of ``livesync --help`` and of a bare Python, in turn."""
    ours, bare = [], []
    for _ in range(repeats):
        seconds, output = _run("-m", "livesync", "--help")
        check("usage: livesync" in output, "livesync --help does not print its usage")
        ours.append(seconds)
        bare.append(_run("-c", "pass")[0])
    return [
        Row("livesync --help", median(ours), "s", at_most=0.3),
        Row("  python -c pass", median(bare), "s"),
    ]


def _run(*arguments: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout
