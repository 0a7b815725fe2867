"""The ledger: what each run took, and what became of it; and the totals of all runs.

A line is written in the transactions that acknowledge, so it tells of exactly what was acknowledged,
also of a run that was killed: ``ended`` is None then. The last :data:`LENGTH` lines are kept, each
an object of its own in a ring, so that a run writes a few hundred bytes for it and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..track.stored import StoredAgent, StoredRun
from .measures import BATCH_SECONDS, Histogram
from .record import LEDGER_COUNTS, RunResult

#: Runs whose lines are kept.
LENGTH: Final = 50

#: What is counted besides the counts that balance.
_OTHER_COUNTS: Final = ("retried", "batches")


def begin(stored: StoredAgent, kind: str, now: float) -> int:
    """Begin a line; return its number, which grows by one with every line of an agent.

    Args:
        stored: The agent.
        kind: ``run``, ``export``, ``repair`` or ``retry``.
        now: Epoch seconds.
    """
    number = stored.runs_begun
    stored.runs_begun = number + 1
    slot = number % LENGTH
    if slot not in stored.runs:
        stored.runs[slot] = StoredRun()
    stored.runs[slot].entry = {"number": number, "kind": kind, "began": now, "ended": None, "error": ""}
    return number


def note(
    stored: StoredAgent, number: int, result: RunResult, ended: float | None = None, error: str = ""
) -> None:
    """Write what a run came to so far; a line that the ring has taken back is left alone."""
    line = stored.runs.get(number % LENGTH)
    if line is None or line.entry is None or line.entry["number"] != number:
        return
    counts = {name: getattr(result, name) for name in (*LEDGER_COUNTS, *_OTHER_COUNTS)}
    line.entry = {
        **line.entry, **counts, "till": result.till, "seconds": result.seconds, "ended": ended, "error": error
    }  # fmt: skip


def add_to_totals(stored: StoredAgent, part: RunResult) -> None:
    """Add what one slice came to to what the agent has done ever."""
    totals = dict(stored.totals or {})
    for name in (*LEDGER_COUNTS, *_OTHER_COUNTS):
        totals[name] = totals.get(name, 0) + getattr(part, name)
    timings = totals_histogram(totals)
    timings.add(part.timings.counts, part.timings.seconds)
    totals["batch_seconds"] = (tuple(timings.counts), timings.seconds)
    stored.totals = totals


def totals_histogram(totals: Mapping[str, Any]) -> Histogram:
    """Return the histogram of batch seconds that totals hold."""
    counts, seconds = totals.get("batch_seconds", ((0,) * (len(BATCH_SECONDS) + 1), 0.0))
    return Histogram(list(counts), seconds)


def entries(stored: StoredAgent) -> list[dict[str, Any]]:
    """Return the lines that are kept, newest first."""
    lines = [line.entry for line in stored.runs.values() if line.entry is not None]
    return sorted(lines, key=lambda entry: -entry["number"])


def balance(entry: Mapping[str, Any]) -> int:
    """Return what a line says was taken less what it says became of it: 0, or something is missing."""
    return RunResult(**{name: entry.get(name, 0) for name in LEDGER_COUNTS}).balance()
