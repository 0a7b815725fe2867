"""Adding a periodic task, and running those that are due, each in isolation and by one runner at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import timetable
from ..agent import check_agent_id
from ..database import connected, usable
from ..delivery.access import ManagerAccess
from ..delivery.hold import Hold
from ..delivery.work import shortened
from ..errors import Leased, LeaseLost, LiveSyncError, UsageError
from ..manager import SyncManager
from ..track.stored import StoredLease, StoredTask
from .base import PeriodicTask, TaskContext, load_kind

if TYPE_CHECKING:
    from ..host import Host

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What the run of one task came to.

    Attributes:
        task_id: The task.
        summary: What it returned; None when it failed, or did not run.
        error: What it raised; None when it ended well.
        held: Which runner is at it, for people, where it was therefore left alone; else "".
        seconds: How long it took.
    """

    task_id: str
    summary: Mapping[str, Any] | None = None
    error: Exception | None = None
    held: str = ""
    seconds: float = field(default=0.0, compare=False)


def add_task(
    manager: SyncManager,
    task_id: str,
    kind: str,
    options: Mapping[str, Any] | None = None,
    interval_s: float | None = None,
    cron: str = "",
    zone: str = "",
    now: float | None = None,
) -> None:
    """Keep a task with its schedule, within the caller's transaction.

    Args:
        manager: Keeps it.
        task_id: What it is called; of the form of an agent's id.
        kind: One of :func:`task_kinds`.
        options: Values by the names that the kind declares.
        interval_s, cron, zone: When it is to run; one of interval and expression.
        now: Epoch seconds; None: the wall clock.

    Raises:
        ValueError: The id has another form or is taken, the interval is none, or both are given.
        UsageError: There is no such kind, the expression is none, or no schedule is given.
        OptionError: An option is unknown, missing, or has a value of a wrong form.
        UnknownAgent: An option names an agent that does not exist.
    """
    check_agent_id(task_id)
    task_type = load_kind(kind)
    values = task_type(**(options or {})).values
    given = {
        option.name: values[option.name]
        for option in task_type.options
        if values[option.name] != option.default
    }
    if given.get("agent"):
        manager.stored(given["agent"])
    if interval_s is None and not cron:
        raise UsageError("a task needs a schedule: an interval or a cron expression")
    task = StoredTask(kind, given)
    timetable.set_schedule(task, interval_s, cron, zone, time.time() if now is None else now)
    manager.put_task(task_id, task)


class DueTasks:
    """Runs the periodic tasks of one database, each in isolation.

    Args:
        db: An open ``ZODB.DB``, or a function that opens one, which is then closed after each run.
        host: The application.
        site: The name of this site; tasks run only where it is the one stored in the database.
        tasks: Run these, due or not; when empty, those that are due.
    """

    def __init__(self, db: Any, host: Host, site: str = "", tasks: Sequence[str] = ()) -> None:
        self._db = db
        self._host = host
        self._site = site
        self._tasks = tuple(dict.fromkeys(tasks))

    def run(self, now: float, stop: Callable[[], bool] | None = None) -> list[TaskOutcome]:
        """Run what there is to run, one after another.

        Args:
            now: Epoch seconds: decides what is due.
            stop: Asked between tasks and by them.

        Raises:
            NotInstalled, UpgradeNeeded, SiteDiffers: As for agents.
            UnknownTask: One that was named does not exist; none has run then.
        """
        stop = stop or _never
        outcomes = []
        with usable(self._db) as db:
            for task_id in self._chosen(db, now):
                if stop():
                    break
                outcomes.append(run_task(db, task_id, self._host, stop))
        return outcomes

    def _chosen(self, db: Any, now: float) -> list[str]:
        with connected(db) as root:
            manager = SyncManager.get(root)
            manager.check_site(self._site)
            for task_id in self._tasks:
                manager.task(task_id)
            return list(self._tasks) or due_tasks(manager, now)


def due_tasks(manager: SyncManager, now: float) -> list[str]:
    """Return the ids of the tasks that are due at ``now`` (epoch seconds), the longest overdue first."""
    return timetable.due_agents(
        (timetable.schedule_of(task_id, manager.task(task_id)) for task_id in manager.task_ids()), now
    )


def run_task(
    db: Any,
    task_id: str,
    host: Host,
    stop: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.time,
) -> TaskOutcome:
    """Run one task once, under its lease, and note what it came to; whatever fails is in the outcome.

    Args:
        db: An open ``ZODB.DB``.
        task_id: The task.
        host: The application.
        stop: Asked by the task.
        clock: Returns epoch seconds.
    """
    stop = stop or _never
    began = time.perf_counter()
    try:
        with connected(db) as root:
            access = ManagerAccess(SyncManager.get(root))
        try:
            summary = _run_held(db, access, task_id, host, stop, clock)
        finally:
            access.close()
    except Leased as exc:
        logger.info("task %s: left alone: %s", task_id, exc.holder)
        return TaskOutcome(task_id, held=exc.holder)
    except Exception as exc:  # the loop must outlive one task
        logger.warning("task %s failed: %s", task_id, exc, exc_info=not isinstance(exc, LiveSyncError))
        return TaskOutcome(task_id, error=exc, seconds=time.perf_counter() - began)
    seconds = time.perf_counter() - began
    logger.info("task %s: %s, %.3f s", task_id, summary, seconds)
    return TaskOutcome(task_id, summary, seconds=seconds)


def _run_held(
    db: Any,
    access: ManagerAccess,
    task_id: str,
    host: Host,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> dict[str, Any]:
    hold = _TaskHold(access, task_id, "task")
    begin, began = clock(), time.perf_counter()
    task: list[PeriodicTask | Exception] = []

    def start(manager: SyncManager) -> None:
        stored = manager.task(task_id)
        try:
            task[:] = [load_kind(stored.kind)(**stored.options)]
        except (UsageError, ValueError) as exc:
            task[:] = [exc]

    def note(error: str, summary: Mapping[str, Any], manager: SyncManager) -> bool:
        stored = manager.task(task_id)
        seconds = time.perf_counter() - began
        stored.last_run = {
            "time": begin + seconds, "seconds": seconds, "error": error, "summary": dict(summary)
        }  # fmt: skip
        if error:
            timetable.note_failure(stored, begin + seconds)
        else:
            timetable.note_success(stored)
        hold.release(manager)
        return True

    try:
        hold.take(start)
        try:
            (made,) = task
            if isinstance(made, Exception):
                raise made
            summary = made.run(TaskContext(db, host, begin, lambda: stop() or hold.lost, hold.check))
        except LeaseLost:
            raise
        except Exception as exc:
            text = shortened(exc) or type(exc).__name__
            hold.change(lambda manager: note(text, {}, manager), f"task {task_id} failed")
            raise
        hold.change(lambda manager: note("", summary, manager), f"task {task_id}")
        return summary
    finally:
        hold.close()


class _TaskHold(Hold):
    """The right to run one task."""

    def _stored_lease(self, manager: SyncManager) -> StoredLease:
        lease: StoredLease = manager.task(self._agent_id).lease
        return lease


def _never() -> bool:
    return False
