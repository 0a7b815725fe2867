"""``livesync agent export``: send everything that exists, with progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ..database import connected
from .exitcodes import ExitCode
from .output import Output
from .running import describe_result, result_as_json
from .session import Session
from .signals import stopping
from .tables import duration

if TYPE_CHECKING:
    from ..upkeep.export import ExportProgress

#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY_S: Final = 10.0


def export(session: Session) -> int:
    """Send all objects to one agent's service, then make the agent active; can be interrupted."""
    from ..manager import SyncManager
    from ..upkeep.export import export as exported

    agent_id, out = session.args.agent, session.out
    host = session.settings.load_host()
    with session.database() as db:
        with connected(db) as root, stopping() as stop:
            manager = SyncManager.get(root)
            manager.check_site(session.settings.site)
            manager.stored(agent_id)
            with _progress(out, agent_id) as report:
                result = exported(manager, agent_id, host, progress=report, stop=stop)
        with connected(db) as root:
            complete = SyncManager.get(root).stored(agent_id).state == "active"
    out.json({"agent": agent_id, "complete": complete, "result": result_as_json(result)})
    out.line(f"{agent_id}: {describe_result(result)}")
    if not complete:
        out.note(f"the export is not finished; to go on where it is: livesync agent export {agent_id}")
        return ExitCode.INTERRUPTED
    out.line(f"agent {agent_id} is active")
    return ExitCode.DEAD_LETTERS if result.dead else ExitCode.OK


@contextmanager
def _progress(out: Output, agent_id: str) -> Iterator[Callable[[ExportProgress], None]]:
    """Give the function that shows progress on standard error: a bar, or lines where there is no terminal."""
    if not out.stderr.isatty():
        yield ProgressLines(out.note, agent_id, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(file=out.stderr)) as bar:
        task = bar.add_task(agent_id, total=None, rate="")
        first: int | None = None

        def show(progress: ExportProgress) -> None:
            nonlocal first
            first = progress.done if first is None else first
            passed = time.monotonic() - began
            rate = f"{(progress.done - first) / passed:,.0f}/s" if passed > 0 else ""
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield show


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
        self._first: int | None = None

    def __call__(self, progress: ExportProgress) -> None:
        """Tell of ``progress``, unless a line was written a moment ago."""
        now = self._clock()
        if self._first is None:
            self._first = progress.done  # done in an earlier run that was interrupted: not this one's rate
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        self._write(f"{self._agent_id}: {self._text(progress, now)}")

    def _text(self, progress: ExportProgress, now: float) -> str:
        passed = now - self._began
        rate = (progress.done - (self._first or 0)) / passed
        done = f"{progress.done:,} objects, {rate:,.0f}/s"
        if progress.total is None or rate <= 0:
            return done
        left = max(0, progress.total - progress.done) / rate
        return f"{progress.done:,} of {progress.total:,} objects, {rate:,.0f}/s, {duration(left)} left"
