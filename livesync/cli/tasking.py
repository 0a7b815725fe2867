"""``livesync task``: what runs on a schedule, and the periodic tasks besides the agents."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .exitcodes import ExitCode, gravest
from .failures import Failure
from .output import encoded, printable
from .session import Session, as_usage, given_options
from .signals import stopping
from .tables import duration, print_table, utc

if TYPE_CHECKING:
    from ..periodic.running import TaskOutcome
    from ..status import AgentStatus, TaskStatus


def describe_schedule(interval_s: float | None, cron: str, zone: str) -> str:
    """Return a schedule for people: ``every 5m``, ``at */15 * * * * UTC``, ``none``."""
    if cron:
        return f"at {cron} {zone or 'UTC'}"
    return "none" if interval_s is None else f"every {duration(interval_s)}"


def describe_next(status: AgentStatus | TaskStatus, now: float) -> str:
    """Return when something runs next, for people."""
    if status.schedule_problem:
        return "never"
    if status.next_at is None:
        return "-"
    return "now" if status.next_at <= now else f"in {duration(status.next_at - now)}"


def check_schedule(args: argparse.Namespace) -> None:
    """Make sure that the options of a schedule go together, and that its expression is one.

    Raises:
        UsageError: They do not.
    """
    from ..timetable import check_cron, check_zone

    if args.cron is None:
        if args.zone:
            raise UsageError("--zone is for --cron: an interval is the same everywhere")
        return
    check_zone(args.zone)
    check_cron(args.cron, args.zone)


def list_tasks(session: Session) -> int:
    """Print what has a schedule, a line each."""
    now = time.time()
    with session.reading() as manager:
        status = manager.status(now=now)
    agents = [agent for agent in status.agents if agent.interval_s is not None or agent.cron]
    session.out.json(
        {
            "tasks": [dataclasses.asdict(task) for task in status.tasks],
            "agents": [
                {"id": agent.id, "state": agent.state, **_timing(agent), "last_error": agent.last_error}
                for agent in agents
            ],
        }
    )
    if not agents and not status.tasks:
        session.out.line("nothing is on a schedule; add an agent: livesync agent add_task ID --interval 5m")
        return ExitCode.OK
    rows = [
        (agent.id, f"agent ({agent.state})", _schedule(agent), describe_next(agent, now), _agent_note(agent))
        for agent in agents
    ]
    rows += [
        (task.id, task.kind, _schedule(task), describe_next(task, now), _task_note(task, now))
        for task in status.tasks
    ]
    print_table(session.out, ("NAME", "WHAT", "WHEN", "NEXT", "LAST"), rows)
    return ExitCode.OK


def _timing(status: AgentStatus) -> dict[str, Any]:
    names = ("interval_s", "cron", "zone", "next_at", "failures", "held_until", "schedule_problem")
    return {name: getattr(status, name) for name in names}


def _schedule(status: AgentStatus | TaskStatus) -> str:
    return describe_schedule(status.interval_s, status.cron, status.zone)


def _failures(status: AgentStatus | TaskStatus) -> str:
    return f"failed {status.failures} times: " if status.failures > 1 else "failed: "


def _agent_note(agent: AgentStatus) -> str:
    if agent.schedule_problem:
        return agent.schedule_problem
    if agent.last_error:
        return f"{_failures(agent)}{agent.last_error}"
    ended = (agent.last_run or {}).get("time")
    return "never" if ended is None else utc(ended)


def _task_note(task: TaskStatus, now: float) -> str:
    if task.schedule_problem:
        return task.schedule_problem
    if task.holder:
        return f"now: {task.holder}"
    if not task.last_run:
        return "never"
    if task.last_run["error"]:
        return f"{_failures(task)}{task.last_run['error']}"
    return f"{utc(task.last_run['time'])}: {describe_summary(task.last_run['summary'])}"


def describe_summary(summary: Mapping[str, Any]) -> str:
    """Return what a task came to, in one line: ``dropped 5``, ``index: checked 5, missing 0``."""
    told = []
    for name, value in summary.items():
        if isinstance(value, Mapping):
            told.append(f"{name}: {describe_summary(value)}")
        elif isinstance(value, bool):
            told += [name] if value else []
        elif value or isinstance(value, int):
            told.append(f"{name} {value if isinstance(value, (str, int, float)) else encoded(value)}")
    return ", ".join(told)


def add(session: Session) -> int:
    """Add a periodic task."""
    from ..periodic.base import load_kind
    from ..periodic.running import add_task

    args = session.args
    kind = load_kind(args.kind)
    check_schedule(args)
    options = given_options(kind.options, args.options, session.directory)
    as_usage(lambda: kind(**options))
    task_id = args.task or args.kind
    session.change_manager(
        lambda manager: as_usage(
            lambda: add_task(manager, task_id, args.kind, options, args.interval, args.cron or "", args.zone)
        )
    )
    when = describe_schedule(args.interval, args.cron or "", args.zone)
    session.out.line(printable(f"task {task_id} is added: {args.kind}, {when}"))
    session.out.json({"task": task_id, "kind": args.kind})
    return ExitCode.OK


def remove(session: Session) -> int:
    """Remove a periodic task."""
    task_id = session.args.task
    session.change_manager(lambda manager: manager.remove_task(task_id))
    session.out.line(printable(f"task {task_id} is removed"))
    session.out.json({"task": task_id, "removed": True})
    return ExitCode.OK


def run(session: Session) -> int:
    """Run one task once, whether it is due or not."""
    from ..periodic.running import DueTasks

    host = session.settings.load_host()
    with session.database() as db, stopping() as stop:
        outcomes = DueTasks(db, host, session.settings.site, [session.args.task]).run(time.time(), stop)
        interrupted = stop()
    failures = [report_task(session, outcome) for outcome in outcomes]
    session.out.json({"tasks": [task_as_json(*pair) for pair in zip(outcomes, failures, strict=True)]})
    codes = [task_code(*pair, named=True) for pair in zip(outcomes, failures, strict=True)]
    return gravest([*codes, ExitCode.INTERRUPTED] if interrupted else codes)


def report_task(session: Session, outcome: TaskOutcome) -> Failure | None:
    """Say what a task's run came to; return its failure, if it failed."""
    if outcome.error is not None:
        failure = Failure.of(outcome.error, session.settings.db)
        session.out.note(f"livesync: task {outcome.task_id}: {failure.message}")
        return failure
    if outcome.summary is None:
        session.out.line(printable(f"{outcome.task_id}: left alone, a runner is at it: {outcome.held}"))
        return None
    told = describe_summary(outcome.summary) or "done"
    session.out.line(printable(f"{outcome.task_id}: {told}; {outcome.seconds:.2f} s"))
    return None


def task_code(outcome: TaskOutcome, failure: Failure | None, named: bool) -> ExitCode:
    """Return the exit code of one task's run."""
    if failure is not None:
        return failure.code
    return ExitCode.LEASED if named and outcome.held else ExitCode.OK


def task_as_json(outcome: TaskOutcome, failure: Failure | None) -> dict[str, Any]:
    """Return what a task's run came to, for ``--json``."""
    return {
        "id": outcome.task_id,
        "summary": None if outcome.summary is None else dict(outcome.summary),
        "error": None if failure is None else failure.as_json(),
        "held": outcome.held,
    }
