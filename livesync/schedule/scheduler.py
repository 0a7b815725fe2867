"""The runner of ``livesync serve``: APScheduler fires what is due, and what commits wake.

What is due when is told by ``plan.py`` and nothing else. After each look at the database every agent and
task has one job, set to the time that the plan gives it: now where it is due or woken, later where it is to
wait. APScheduler waits for these times; its jobs are in memory, since the database holds all that is to be
known of schedules. A job that fires asks the plan once more: the schedule may have changed since, or another
runner have been quicker, and then nothing runs but a look, which gives the job its right time.

Rules: a time that was missed (the machine was asleep, all workers were at work) is made up for once, however
late, and several missed ones are one (``misfire_grace_time=None``, ``coalesce=True``); nothing runs twice at
once.

The extra ``scheduler``, which ``web`` includes. Where it is missing, and in an application's own process,
:class:`~livesync.schedule.thread.Runner` waits by itself.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from ..database import connected
from ..manager import SyncManager
from .plan import AGENT, Seen, Work, look
from .thread import NOTICES, NOTICES_S, Runner

logger = logging.getLogger(__name__)

#: One that ends is still counted for a moment, and its next time may have come; what guards against running
#: twice at once is the runner's own list of what it is at.
_INSTANCES: Final = 4

#: A job that is to fire at another time by less than this is left as it is; seconds.
_EXACT_S: Final = 0.01


class ScheduledRunner(Runner):
    """A runner whose work is fired by APScheduler; everything else is as in :class:`Runner`."""

    def _reset(self) -> None:
        super()._reset()
        self._scheduler: Any = None
        self._wanted: frozenset[str] = frozenset()  # agents that somebody has asked for

    def next_runs(self) -> dict[str, datetime]:
        """Return when each agent and task is to be looked at next, by its kind and name; for people."""
        scheduler = self._scheduler
        return {} if scheduler is None else {job.id: job.next_run_time for job in scheduler.get_jobs()}

    def _run(self) -> None:
        scheduler = self._scheduler = BackgroundScheduler(
            executors={"default": _Threads()},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": _INSTANCES},
            timezone=timezone.utc,
            logger=_quiet,
        )
        scheduler.start()
        try:
            super()._run()
        finally:
            # No more fires; what is at work is asked to end, and waited for, by stop(). One that is shut
            # down while it fires a job does not find that job any more, and says so.
            scheduler.pause()
            scheduler.remove_all_jobs()
            scheduler.shutdown(wait=False)

    def _begin(self, seen: Seen, now: float) -> None:
        """Give every agent and task the time at which it is to be fired."""
        with self._lock:
            asked, self._asked = self._asked, []
            active = {agent.schedule.agent_id for agent in seen.agents}
            self._wanted = frozenset(self._wanted | set(asked)) & active
            found = self._plan_of(seen, now, sorted(self._wanted))
            busy = set(self._threads)
        times = {**found.at, **dict.fromkeys(found.work, now)}
        if self._notices is not None and self._notices.wanted:
            times[NOTICES] = max(now, self._told_at + NOTICES_S)
        self._arrange(times, busy, now)
        self._look_at = found.listen_until

    def _arrange(self, times: dict[Work, float], busy: set[Work], now: float) -> None:
        """Make the jobs what ``times`` (epoch seconds) says; those at work wait until they have ended."""
        clock = datetime.now(timezone.utc)
        jobs = {job.id: job for job in self._scheduler.get_jobs()}
        for number, (work, at) in enumerate(times.items()):
            job = jobs.pop(_job_id(work), None)
            if work in busy:
                continue
            # those that are due fire in the plan's order
            when = clock + timedelta(seconds=max(0.0, at - now), microseconds=number)
            if job is None or abs((job.next_run_time - when).total_seconds()) > _EXACT_S:
                self._scheduler.add_job(
                    self._fired, DateTrigger(when), (work,), id=_job_id(work), replace_existing=True
                )
        for job_id in jobs:
            self._scheduler.remove_job(job_id)

    def _fired(self, work: Work) -> None:
        """Do what is due, in a thread of its own, unless the plan has changed; raises nothing."""
        with self._lock:
            if self._stopping.is_set() or work in self._threads or len(self._threads) >= self._workers:
                return  # when one ends there is a look, which arranges this anew
            self._threads[work] = threading.current_thread()
        try:
            is_due = work == NOTICES or self._is_due(work)
        except Exception as exc:  # noqa: BLE001 - a hiccup of the database; the next look comes by itself
            self._tell_trouble(exc)
            is_due = False
        if is_due:
            self._work(work)
        else:
            with self._lock:
                del self._threads[work]
            self._look_at = 0.0  # its job is to be given another time

    def _is_due(self, work: Work) -> bool:
        with connected(self._db) as root:
            manager = SyncManager.get(root)
            manager.check_site(self._site)
            seen = look(manager)
        with self._lock:
            others = {one: thread for one, thread in self._threads.items() if one != work}
            found = self._plan_of(seen, self._clock(), sorted(self._wanted), others.keys())
            self._wanted -= {name for kind, name in (work,) if kind == AGENT}
        return work in found.work


def _job_id(work: Work) -> str:
    return " ".join(work).strip()


class _Threads(BaseExecutor):
    """Runs each job in a daemon of its own: a process that ends waits for none, as with the other runner."""

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self._logger = _quiet

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        thread = threading.Thread(
            target=self._run, args=(job, run_times), name=f"livesync-{job.id.replace(' ', '-')}", daemon=True
        )
        thread.start()

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        self._run_job_success(job.id, run_job(job, job._jobstore_alias, run_times, _quiet.name))


# APScheduler tells of each job that it adds; what runs is told by the runs themselves.
_quiet: Final = logging.getLogger(f"{__name__}.apscheduler")
_quiet.setLevel(logging.WARNING)
