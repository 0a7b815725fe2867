"""What ``livesync status --check`` tells a monitoring system, as plugins of Nagios do: a pure function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ..words import plural
from .tables import duration

if TYPE_CHECKING:
    from ..status import AgentStatus, ManagerStatus


class Health(IntEnum):
    """The states of a monitored service; their numbers are the exit codes of plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What a check came to.

    Attributes:
        health: The gravest of what was found.
        line: One line: the health, what is wrong, then ``|`` and the figures for graphs.
    """

    health: Health
    line: str


def check(status: ManagerStatus, max_lag_s: float, max_dead: int) -> Check:
    """Judge where the agents stand.

    CRITICAL: an agent is stopped, or an active one lags more than ``max_lag_s``. WARNING: an active
    one had an error in its last run, an export is not finished and nobody is at it, there are more
    dead letters than ``max_dead`` at an agent, or the last run of a task has failed. New and paused
    agents are as somebody wants them, and that a runner holds an agent is as it should be.
    """
    found = [problem for agent in status.agents for problem in _problems(agent, max_lag_s, max_dead)]
    found += [
        (Health.WARNING, f"task {task.id} has failed: {task.last_run['error']}")
        for task in status.tasks
        if task.last_run and task.last_run["error"]
    ]
    health = max((health for health, _ in found), default=Health.OK)
    active = [agent for agent in status.agents if agent.state == "active"]
    lag = max((agent.lag_seconds for agent in active), default=0.0)
    dead = sum(agent.dead for agent in status.agents)
    text = "; ".join(text for _, text in sorted(found, key=lambda item: -item[0]))
    if not text:
        text = f"{len(active)} of {len(status.agents)} agents active, lag {duration(lag)}"
    figures = (
        f"lag={lag:.0f}s;;{max_lag_s:.0f};0 dead={dead};{max_dead};;0 waiting={status.waiting};;;0"
        f" active={len(active)};;;0"
    )
    return Check(health, f"LIVESYNC {health.name} - {text.replace('|', '/')} | {figures}")


def _problems(agent: AgentStatus, max_lag_s: float, max_dead: int) -> Iterator[tuple[Health, str]]:
    if agent.state == "stopped":
        yield Health.CRITICAL, f"{agent.id} is stopped ({agent.reason})"
    if agent.state == "recording" and not agent.holder:
        yield Health.WARNING, f"{agent.id} has an export that is not finished"
    if agent.state == "active" and agent.lag_seconds > max_lag_s:
        yield Health.CRITICAL, f"{agent.id} lags {duration(agent.lag_seconds)}"
    if agent.state == "active" and agent.last_error:
        yield Health.WARNING, f"{agent.id} had an error in its last run"
    if agent.dead > max_dead:
        yield Health.WARNING, f"{agent.id} has {plural(agent.dead, 'dead letter')}"
