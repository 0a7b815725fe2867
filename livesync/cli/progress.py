"""Progress of long commands on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from ..words import plural
from .output import Output
from .tables import duration

#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY_S: Final = 10.0


class Report(Protocol):
    """Takes how far a command has come."""

    def __call__(self, done: int, total: int | None = None, earlier: int = 0) -> None:
        """Show it.

        Args:
            done: Objects that are done.
            total: How many there are; None: nobody knows.
            earlier: Of those done, the ones that an earlier attempt has done: not this one's rate.
        """


@contextmanager
def progress(out: Output, agent_id: str) -> Iterator[Report]:
    """Give the function that shows progress on standard error: a bar, or lines where there is no terminal."""
    if not out.stderr.isatty():
        yield ProgressLines(out.note, agent_id, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(file=out.stderr)) as bar:
        task = bar.add_task(agent_id, total=None, pace="")

        def show(done: int, total: int | None = None, earlier: int = 0) -> None:
            pace = describe_pace(done, total, earlier, time.monotonic() - began)
            bar.update(task, completed=done, total=total, pace=pace)

        yield show


def describe_pace(done: int, total: int | None, earlier: int, passed_s: float) -> str:
    """Return the rate and, where the end is known, the time left: ``500/s, 10s left``; empty at first."""
    rate = (done - earlier) / passed_s if passed_s > 0 else 0.0
    if rate <= 0:
        return ""
    if total is None:
        return f"{rate:,.0f}/s"
    return f"{rate:,.0f}/s, {duration(max(0, total - done) / rate)} left"


class ProgressLines:
    """Progress in lines, one every ten seconds: how many of how many, the rate, and the time left.

    Args:
        write: Takes a line.
        agent_id: Stands at its beginning.
        clock: Seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], None], agent_id: str, clock: Callable[[], float]) -> None:
        self._write = write
        self._agent_id = agent_id
        self._clock = clock
        self._began = self._last = clock()

    def __call__(self, done: int, total: int | None = None, earlier: int = 0) -> None:
        """Tell of it, unless a line was written a moment ago."""
        now = self._clock()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        objects = plural(done, "object") if total is None else f"{done:,} of {plural(total, 'object')}"
        pace = describe_pace(done, total, earlier, now - self._began)
        self._write(f"{self._agent_id}: {objects}{', ' if pace else ''}{pace}")
