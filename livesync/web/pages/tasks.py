"""Tasks: what runs by itself, and how often."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pyramid.request import Request
from pyramid.response import Response

from .. import operations, schemas, words
from .confirming import Asked, ask
from .forms import Field, Form
from .frame import Page, go

_UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_INTERVAL: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?", re.ASCII)
_LONGEST_S: Final = 366 * 86400.0


def tasks_page(request: Request) -> Response:
    """Show the agents with their schedules, and who runs them."""
    status = operations.get_status(request.livesync)
    page = Page(request, "Tasks", "tasks", now=status.time)
    agents = [(agent, next_run(agent, status.time)) for agent in status.agents]
    return page.response("tasks.html", agents=agents, runner=status.runner)


def next_run(agent: schemas.Agent, now: float) -> str:
    """Return in words when an agent runs next."""
    if agent.holder:
        return "at work now"
    if agent.state != "active":
        return f"not while it is {agent.state}"
    if agent.interval_s is None:
        return "when it is told to"
    if agent.last_run is None or agent.last_run.ended is None:
        return "due"
    due = agent.last_run.ended - agent.last_run.seconds + agent.interval_s
    return "due" if due <= now else words.ago(due, now)


def schedule(request: Request) -> Response:
    """Set how often an agent runs."""
    agent = operations.show_agent(request.livesync, request.matchdict["agent"]).agent
    asked = Asked(
        agent_id=agent.id,
        name="agent-schedule",
        heading=f"How often does {agent.name} run?",
        effect=(
            "Counted from the beginning of one run to the next, while it is active.",
            "Somebody has to run it: the application, livesync serve, or livesync run --due by cron.",
        ),
        submit="Save",
        back=("tasks", {}),
        section="tasks",
        form=Form.of(
            Field(
                "every",
                "Every",
                "" if agent.interval_s is None else shown_interval(agent.interval_s),
                help="60, 90s, 5m, 1h or 2d; empty: not by itself",
            )
        ),
    )
    if request.method == "GET":
        return ask(request, asked)
    asked = replace(asked, form=asked.form.filled(request.POST))
    text = asked.form.values()["every"]
    seconds = interval(text) if text else None
    if text and seconds is None:
        error = {"every": "Write 60, 90s, 5m, 1h or 2d: from 1 second to 366 days"}
        return ask(request, replace(asked, form=asked.form.with_errors(error)), 422)
    request.livesync.change(lambda manager: manager.set_interval(agent.id, seconds))
    told = "runs by itself no more" if seconds is None else f"runs every {words.duration(seconds)}"
    return go(request, "tasks", f"{agent.name} {told}")


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
