"""Tasks: what runs by itself, and when; the schedules of agents, and the periodic tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from ...agent import check_agent_id
from ...errors import LiveSyncError, OptionError, UnknownAgent
from ...periodic.base import load_kind
from .. import operations, schemas
from ..errors import SameAtWork
from .confirming import Asked, answered, ask, is_confirmed, wrong
from .forms import Field, Form, Group, by_field, option_groups, read_options
from .frame import Page, go, who_asks
from .refusals import REFUSALS, status_of, text_of
from .rendering import shown_schedule

_UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_INTERVAL: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?", re.ASCII)
_LONGEST_S: Final = 366 * 86400.0


def tasks_page(request: Request) -> Response:
    """Show what has a schedule, and who runs it."""
    status = operations.get_status(request.livesync)
    page = Page(request, "Tasks", "tasks", now=status.time)
    return page.response(
        "tasks.html",
        agents=[(agent, shown_schedule(agent), next_run(agent, status.time)) for agent in status.agents],
        tasks=[
            (task, shown_schedule(task), next_run(task, status.time))
            for task in operations.list_tasks(request.livesync).tasks
        ],
        runner=status.runner,
    )


def next_run(timed: schemas.Agent | schemas.Task, now: float) -> str:
    """Return in words when something runs next."""
    if timed.holder:
        return "at work now"
    if isinstance(timed, schemas.Agent) and timed.state != "active":
        return f"not while it is {timed.state}"
    if timed.schedule_problem:
        return f"never: {timed.schedule_problem}"
    if timed.next_at is None:
        return "when it is told to"
    held = " since it has failed" if timed.held_until > now else ""
    return "due" if timed.next_at <= now else f"{words.ago(timed.next_at, now)}{held}"


# -- the schedule of an agent --------------------------------------------------------------------


def schedule(request: Request) -> Response:
    """Set when an agent runs."""
    agent = operations.show_agent(request.livesync, request.matchdict["agent"]).agent
    every = "" if agent.interval_s is None else shown_interval(agent.interval_s)
    asked = Asked(
        agent_id=agent.id,
        name="agent-schedule",
        heading=f"When does {agent.name} run?",
        effect=(
            "By an interval: counted from the beginning of one run to the next. Changes wake it sooner.",
            "By a cron expression: then, and only then.",
            "Somebody has to run it: the application, livesync serve, or livesync run --due by cron.",
        ),
        submit="Save",
        back=("tasks", {}),
        section="tasks",
        form=Form.of(*_schedule_fields(every, agent.cron, agent.zone)),
    )

    def take(asked: Asked) -> Response:
        found, errors = _schedule_of(asked.form.values())
        if errors:
            return wrong(request, asked, errors)
        try:
            changed = operations.set_schedule(request.livesync, agent.id, found)
        except REFUSALS as exc:
            return ask(request, replace(asked, form=_refused(asked.form, exc)), status_of(exc))
        return go(request, "tasks", f"{agent.name} runs {shown_schedule(changed)}")

    return answered(request, asked, take)


def _schedule_fields(every: str = "", cron: str = "", zone: str = "") -> tuple[Field, Field, Field]:
    return (
        Field("every", "Every", every, help="60, 90s, 5m, 1h or 2d; empty: not by an interval"),
        Field("cron", "Or at", cron, help="A cron expression: minute, hour, day, month, day of the week"),
        Field("zone", "Time zone of the expression", zone, help="Such as Europe/Rome; empty: UTC"),
    )


def _schedule_of(values: Mapping[str, str]) -> tuple[schemas.Schedule, dict[str, str]]:
    """Return the schedule that a form says, and what is wrong with it."""
    seconds = interval(values["every"]) if values["every"] else None
    errors = {}
    if values["every"] and seconds is None:
        errors["every"] = "Write 60, 90s, 5m, 1h or 2d: from 1 second to 366 days"
    if values["every"] and values["cron"]:
        errors["cron"] = "An interval or a cron expression, one of the two"
    return schemas.Schedule(interval_s=seconds, cron=values["cron"], zone=values["zone"]), errors


def interval(text: str) -> float | None:
    """Return the seconds that ``60``, ``90s``, ``5m``, ``1h`` or ``2d`` stand for; None: it is none."""
    match = _INTERVAL.fullmatch(text.strip().lower())
    if match is None:
        return None
    seconds = float(match[1]) * _UNITS_S[match[2] or ""]
    return seconds if 1 <= seconds <= _LONGEST_S else None


def shown_interval(seconds: float) -> str:
    """Return an interval as :func:`interval` reads it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def _refused(form: Form, refusal: LiveSyncError) -> Form:
    """Return the form with what was refused, beside its field where that is known."""
    text = text_of(refusal)
    errors = by_field(refusal) if isinstance(refusal, OptionError) else {}
    for name, word in (("zone", "zone"), ("cron", "cron expression"), ("id", "there is a task ")):
        if not errors and word in str(refusal):
            errors = {name: text}
    return form.with_errors(errors, "" if errors else text)


# -- periodic tasks ------------------------------------------------------------------------------


def add_page(request: Request) -> Response:
    """Show the kinds of tasks there are, or the form of one of them."""
    kind = request.GET.get("kind")
    if not kind:
        page = Page(request, "Add a task", "tasks")
        page.crumbs = (("Tasks", page.url("tasks")),)
        return page.response("task_kinds.html", kinds=operations.task_kinds(request.livesync).kinds)
    return _add_form(request, kind, _new_form(kind))


def add(request: Request) -> Response:
    """Add a periodic task."""
    kind = request.GET.get("kind", "")
    form = _new_form(kind).filled(request.POST)
    values = form.values()
    given, errors = read_options(load_kind(kind).options, values)
    found, wrong = _schedule_of(values)
    errors |= wrong
    if not values["every"] and not values["cron"]:
        errors["every"] = "A task needs a schedule: an interval or a cron expression"
    try:
        check_agent_id(values["id"])
    except ValueError:
        errors["id"] = "1 to 64 letters, digits, - _ or . ; it begins with a letter, a digit or _"
    if errors:
        return _add_form(request, kind, form.with_errors(errors), 422)
    new = schemas.NewTask(
        id=values["id"],
        kind=kind,
        options={name: value for name, value in given.items() if value is not None},
        interval_s=found.interval_s,
        cron=found.cron,
        zone=found.zone,
    )
    try:
        task = operations.add_task(request.livesync, new)
    except UnknownAgent as exc:
        return _add_form(request, kind, form.with_errors({"o-agent": text_of(exc)}), 422)
    except REFUSALS as exc:
        return _add_form(request, kind, _refused(form, exc), status_of(exc))
    return go(request, "tasks", f"Task {task.id} is added; it runs {shown_schedule(task)}")


def _new_form(kind: str) -> Form:
    about = Group("About it", (Field("id", "Id", kind, required=True, help="Letters, digits, - _ or ."),))
    options = tuple(replace(group, is_folded=False) for group in option_groups(load_kind(kind).options))
    return Form((about, Group("When it runs", _schedule_fields()), *options))


def _add_form(request: Request, kind: str, form: Form, status: int = 200) -> Response:
    page = Page(request, f"Add a task: {kind}", "tasks")
    page.crumbs = (("Tasks", page.url("tasks")), ("Add", page.url("task-add")))
    kinds = operations.task_kinds(request.livesync).kinds
    return page.response(
        "agent_form.html",
        status,
        heading=f"Add a task: {kind}",
        text=next((one.help for one in kinds if one.name == kind), ""),
        form=form,
        action=page.url("task-add", kind=kind),
        submit="Add the task",
        can_test=False,
        back=page.url("tasks"),
        job=None,
        result_kind="",
    )


def run(request: Request) -> Response:
    """Run a periodic task now."""
    try:
        job = operations.run_task(request.livesync, request.matchdict["task"], who_asks(request))
    except SameAtWork as exc:
        return go(request, "job", "This is at work already", "warn", job=exc.job_id)
    except REFUSALS as exc:
        return go(request, "tasks", text_of(exc), "bad")
    return go(request, "job", job=job.id)


def remove(request: Request) -> Response:
    """Remove a periodic task."""
    task_id = request.matchdict["task"]
    asked = Asked(
        agent_id="",
        name="task-remove",
        heading=f"Remove the task {task_id}?",
        effect=("It runs no more.", "What it has done stays done."),
        submit="Remove",
        back=("tasks", {}),
        section="tasks",
        is_dangerous=True,
        place={"task": task_id},
    )
    with request.livesync.reading() as manager:
        manager.task(task_id)
    if not is_confirmed(request):
        return ask(request, asked)
    operations.remove_task(request.livesync, task_id)
    return go(request, "tasks", f"Task {task_id} is removed")
