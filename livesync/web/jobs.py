"""Work that takes longer than a request: a few threads, and what they are at.

Jobs live in this process only; what they do is kept where it always is, in the database and at the
services, so nothing is lost when the process ends but the memory that somebody has asked for it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import LiveSyncError
from .errors import SameAtWork, TooBusy, UnknownJob

logger = logging.getLogger(__name__)

#: Jobs at work at once, those that wait besides, and those that are remembered when they are done.
WORKERS: Final = 4
WAITING: Final = 32
REMEMBERED: Final = 200


class JobControl:
    """What a job's work is given: where it tells how far it has come, and whether it is to end."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.done = 0
        self.total: int | None = None

    def stop(self) -> bool:
        """Tell whether the work is to end, as soon as it can."""
        return self._stop.is_set()

    def progress(self, done: int, total: int | None = None) -> None:
        """Note that ``done`` objects are done, of ``total`` where that is known."""
        self.done = done
        if total is not None:
            self.total = total

    def ask_to_stop(self) -> None:
        """Ask the work to end."""
        self._stop.set()


@dataclass(slots=True, eq=False)
class StartedJob:
    """One job as the registry keeps it; :mod:`.operations` shows it as a :class:`~.schemas.Job`."""

    id: str
    kind: str
    agent_id: str
    who: str
    created: float
    control: JobControl = field(default_factory=JobControl)
    state: str = "waiting"
    began: float | None = None
    ended: float | None = None
    result: Any = None
    error: Exception | None = None


class Jobs:
    """Runs jobs in a few threads and remembers the last ones.

    Args:
        workers: Jobs at work at once.
        waiting: Jobs that may wait for them.
        remembered: Jobs that are remembered once they have ended.
        clock: Epoch seconds.
    """

    def __init__(
        self,
        workers: int = WORKERS,
        waiting: int = WAITING,
        remembered: int = REMEMBERED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="livesync-job")
        self._most = workers + waiting
        self._remembered = remembered
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, StartedJob] = OrderedDict()
        self._closed = False

    def start(self, kind: str, agent_id: str, who: str, work: Callable[[JobControl], Any]) -> StartedJob:
        """Let ``work`` be done; it may have to wait for a free thread.

        Args:
            kind: What it is: ``run``, ``export``, …
            agent_id: Whose.
            who: Who asked for it, for people.
            work: Called in another thread; what it returns is the result.

        Raises:
            SameAtWork: The same is at work, or waits, for this agent.
            TooBusy: Too much waits already, or the process is about to end.
        """
        with self._lock:
            open_jobs = [job for job in self._jobs.values() if job.ended is None]
            for job in open_jobs:
                if (job.kind, job.agent_id) == (kind, agent_id):
                    raise SameAtWork(
                        f"agent {agent_id!r}: {kind} is {job.state} already, as job {job.id}", job.id
                    )
            if self._closed or len(open_jobs) >= self._most:
                raise TooBusy(f"{len(open_jobs)} jobs are at work or wait: try again when some have ended")
            job = StartedJob(secrets.token_hex(8), kind, agent_id, who, self._clock())
            self._jobs[job.id] = job
            self._forget_old()
            self._pool.submit(self._carry_out, job, work)
        return job

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.ended is not None]
        for job_id in ended[: max(0, len(ended) - self._remembered)]:
            del self._jobs[job_id]

    def _carry_out(self, job: StartedJob, work: Callable[[JobControl], Any]) -> None:
        job.began = self._clock()
        if job.control.stop():
            job.state = "cancelled"
        else:
            job.state = "running"
            self._do(job, work)
        job.ended = self._clock()

    @staticmethod
    def _do(job: StartedJob, work: Callable[[JobControl], Any]) -> None:
        try:
            job.result = work(job.control)
        except Exception as exc:  # whatever it is, whoever asks for the job is to be told
            if not isinstance(exc, LiveSyncError):
                logger.exception("job %s (%s of %s) failed", job.id, job.kind, job.agent_id)
            job.error = exc
            job.state = "failed"
        else:
            job.state = "cancelled" if job.control.stop() else "done"

    def get(self, job_id: str) -> StartedJob:
        """Return a job.

        Raises:
            UnknownJob: There is none of this id, or no longer.
        """
        with self._lock:
            try:
                return self._jobs[job_id]
            except KeyError:
                raise UnknownJob(f"there is no job {job_id!r}, or it is long over") from None

    def all(self) -> list[StartedJob]:
        """Return the jobs that are remembered, the newest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def close(self) -> None:
        """Ask every job to end, wait for those at work, and take no more."""
        with self._lock:
            self._closed = True
            for job in self._jobs.values():
                job.control.ask_to_stop()
        self._pool.shutdown(wait=True, cancel_futures=False)
