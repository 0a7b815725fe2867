"""What runs by itself: the agents' schedules, and the periodic tasks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from ...errors import LiveSyncError, UsageError
from ...manager import SyncManager
from ...periodic.base import load_kind
from ...periodic.base import task_kinds as installed_kinds
from ...periodic.running import DueTasks
from ...periodic.running import add_task as keep_task
from ...status import TaskStatus
from .. import schemas
from ..context import WebContext
from ..jobs import JobControl
from .agents import agent_of, shown_option, wake
from .paging import PAGE, page_of
from .shown import shown
from .work import started


def set_schedule(ctx: WebContext, agent_id: str, schedule: schemas.Schedule) -> schemas.Agent:
    """Let an agent run every so many seconds, or when a cron expression says; neither: not by itself.

    Raises:
        UnknownAgent: There is none of this id.
        UsageError: The expression or the zone is none, or an interval and an expression are given.
    """
    _check(schedule.cron, schedule.zone)

    def change(manager: SyncManager) -> None:
        try:
            manager.set_schedule(agent_id, schedule.interval_s, schedule.cron, schedule.zone)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc

    ctx.change(change)
    wake(ctx)
    return agent_of(ctx, agent_id)


def _check(cron: str, zone: str) -> None:
    if zone and not cron:
        raise UsageError("a time zone is for a cron expression: an interval is the same everywhere")


def list_tasks(ctx: WebContext, cursor: str | None = None, limit: int = PAGE) -> schemas.TaskPage:
    """Return the periodic tasks by id.

    Raises:
        BadRequest: The cursor or the limit is none.
    """
    with ctx.reading() as manager:
        tasks, following = page_of(manager.status(now=ctx.clock()).tasks, cursor, limit)
    return schemas.TaskPage(tasks=[_shown(task) for task in tasks], next=following)


def task_kinds(ctx: WebContext) -> schemas.TaskKinds:
    """Return the kinds of periodic tasks that are installed, with their options for forms."""
    return schemas.TaskKinds(kinds=[_shown_kind(name) for name in installed_kinds()])


def _shown_kind(name: str) -> schemas.TaskKind:
    try:
        kind = load_kind(name)
    except UsageError as exc:
        return schemas.TaskKind(name=name, help="", error=str(exc), options=[])
    help_ = (inspect.getdoc(kind) or "").partition("\n")[0]
    return schemas.TaskKind(
        name=name, help=help_, error=None, options=[shown_option(option) for option in kind.options]
    )


def add_task(ctx: WebContext, new: schemas.NewTask) -> schemas.Task:
    """Add a periodic task with its schedule.

    Raises:
        UsageError: There is no such kind, the id is taken, or the schedule is none.
        OptionError: An option is unknown, missing, or has a value of a wrong form.
        UnknownAgent: An option names an agent that does not exist.
    """
    _check(new.cron, new.zone)
    options = {key: value for key, value in new.options.items() if value not in (None, "")}

    def change(manager: SyncManager) -> None:
        try:
            keep_task(manager, new.id, new.kind, options, new.interval_s, new.cron, new.zone, ctx.clock())
        except ValueError as exc:
            raise exc if isinstance(exc, LiveSyncError) else UsageError(str(exc)) from exc

    ctx.change(change)
    wake(ctx)
    with ctx.reading() as manager:
        (found,) = (task for task in manager.status(now=ctx.clock()).tasks if task.id == new.id)
    return _shown(found)


def remove_task(ctx: WebContext, task_id: str) -> None:
    """Remove a periodic task.

    Raises:
        UnknownTask: There is none of this id.
    """
    ctx.change(lambda manager: manager.remove_task(task_id))


def run_task(ctx: WebContext, task_id: str, who: str = "") -> schemas.Job:
    """Begin to run a periodic task once, now.

    Raises:
        UnknownTask: There is none of this id.
        SiteDiffers: The database is a copy: nothing runs.
        SameAtWork, TooBusy: No more is taken now.
    """
    with ctx.reading() as manager:
        manager.check_site(ctx.site)
        manager.task(task_id)

    def work(control: JobControl) -> schemas.TaskOutcome:
        outcomes = DueTasks(ctx.db, ctx.host, ctx.site, [task_id]).run(ctx.clock(), control.stop)
        if not outcomes:
            return schemas.TaskOutcome(seconds=0.0, summary={})
        (outcome,) = outcomes
        if outcome.error is not None:
            raise outcome.error
        return schemas.TaskOutcome(
            seconds=outcome.seconds, summary=_plain(outcome.summary or {}), left_alone=outcome.held
        )

    return started(ctx, "task", task_id, who, work)


def _shown(task: TaskStatus) -> schemas.Task:
    return shown(
        schemas.Task,
        task,
        options=dict(task.options),
        last_run=None if not task.last_run else _last_run(task.last_run),
    )


def _last_run(run: Mapping[str, Any]) -> schemas.TaskRun:
    return schemas.TaskRun(
        ended=run["time"], seconds=run["seconds"], error=run["error"], summary=_plain(run["summary"])
    )


def _plain(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task came to as JSON has it; what it has no form for is text."""
    made: dict[str, Any] = msgspec.to_builtins(dict(summary), enc_hook=str, str_keys=True)
    return made
