"""Schedules and periodic tasks."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from .agents import OptionForm
from .base import AgentId, Cron, Input, Interval, OptionValue, Value, Zone


class Schedule(Input, frozen=True):
    """When something runs: every so many seconds, or when a cron expression says (in ``zone``, else UTC)."""

    interval_s: Interval | None = None
    cron: Cron = ""
    zone: Zone = ""


class TaskRun(Value, frozen=True):
    """What a task's last run came to; ``summary`` are plain values by the task's own names."""

    ended: float
    seconds: float
    error: str
    summary: dict[str, Any]


class Task(Value, frozen=True):
    """A periodic task and where it stands; what an agent has too is as there."""

    id: str
    kind: str
    options: dict[str, OptionValue]
    interval_s: float | None
    cron: str
    zone: str
    next_at: float | None
    failures: int
    held_until: float
    holder: str
    schedule_problem: str
    last_run: TaskRun | None


class TaskPage(Value, frozen=True):
    """Periodic tasks by id; ``next`` is the cursor of the rest."""

    tasks: list[Task]
    next: str | None


class TaskKind(Value, frozen=True):
    """A kind of task that is installed; ``error`` says why one cannot be used."""

    name: str
    help: str
    error: str | None
    options: list[OptionForm]


class TaskKinds(Value, frozen=True):
    """The kinds of tasks that are installed."""

    kinds: list[TaskKind]


class NewTask(Input, frozen=True):
    """A periodic task that is to be added."""

    id: AgentId
    kind: Annotated[str, Meta(min_length=1, max_length=200)]
    options: dict[str, OptionValue] = field(default_factory=dict)
    interval_s: Interval | None = None
    cron: Cron = ""
    zone: Zone = ""
