"""What a runner is to do now, and when it has to look again: a pure function of what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from ..agent import State
from ..delivery.slices import is_behind
from ..errors import PositionPruned
from ..manager import SyncManager
from ..timetable import Schedule, due_agents, schedule_of

#: What a runner does: for an agent, or for a task, of this id.
Work = tuple[str, str]

AGENT: Final = "agent"
TASK: Final = "task"

#: A runner looks at least this often, in case nobody has told it of a change; seconds.
LOOK_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active agent, as a runner sees it.

    Attributes:
        schedule: When it is to run.
        has_work: Whether something sealed, or in its slow queue, is to be delivered.
    """

    schedule: Schedule
    has_work: bool

    @property
    def is_wakeable(self) -> bool:
        """Whether a change is to wake it: a cron expression says that it is not."""
        return self.schedule.interval_s is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies in the database.

    Attributes:
        granularity: Seconds per position.
        sealed: The last sealed position.
        is_waiting: Whether something is in the inbox, or on the track and not sealed.
        agents: The active ones.
        tasks: The schedules of the periodic tasks.
    """

    granularity: int
    sealed: int
    is_waiting: bool
    agents: tuple[Candidate, ...]
    tasks: tuple[Schedule, ...]

    def sealing_at(self, now: float) -> float | None:
        """Return when what waits may be collected and sealed, epoch seconds; None: nobody needs it.

        What is newest is sealed at once, but never twice at a position's time: so positions do not
        run ahead of the clock, however many runners there are and however often they are woken.
        """
        wanted = self.is_waiting and any(
            agent.is_wakeable or agent.schedule.overdue_s(now) is not None for agent in self.agents
        )
        return max(now, float((self.sealed + 1) * self.granularity)) if wanted else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to begin now, and when to look again.

    Attributes:
        work: What to begin now, in this order.
        at: When everything else that has a time is to be begun; epoch seconds.
        listen_until: When to look again whatever happens, ``at`` apart; epoch seconds.
    """

    work: tuple[Work, ...]
    at: Mapping[Work, float]
    listen_until: float

    @property
    def look_at(self) -> float:
        """When to look again whatever happens, epoch seconds."""
        return min(self.listen_until, *self.at.values()) if self.at else self.listen_until


def look(manager: SyncManager) -> Seen:
    """Return what a runner needs to know, from one snapshot; it reads only."""
    track = manager.track
    unsealed = not track.is_empty() and track.sealed < track.most_recent_ts()
    agents = (
        Candidate(schedule_of(agent_id, manager.stored(agent_id)), has_work(manager, agent_id))
        for agent_id in manager.agent_ids()
        if manager.stored(agent_id).state == State.ACTIVE.value
    )
    return Seen(
        granularity=manager.granularity,
        sealed=track.sealed,
        is_waiting=unsealed or next(manager.waiting(), None) is not None,
        agents=tuple(agents),
        tasks=tuple(schedule_of(task_id, manager.task(task_id)) for task_id in manager.task_ids()),
    )


def has_work(manager: SyncManager, agent_id: str) -> bool:
    """Tell whether an agent has something to deliver that is sealed, or in its slow queue."""
    try:
        return bool(manager.stored(agent_id).queue) or is_behind(manager, agent_id)
    except PositionPruned:
        return True  # that is to be noted


def plan(
    seen: Seen,
    now: float,
    busy: Set[Work] = frozenset(),
    asked: Iterable[str] = (),
    resting: Mapping[Work, float] | None = None,
) -> Plan:
    """Return what to begin now: what somebody asks for, what is due, what a change has woken.

    Args:
        seen: What lies in the database.
        now: Epoch seconds.
        busy: What this runner is at already.
        asked: Agents that somebody wants to run now, held back or not.
        resting: Until when something is left alone (epoch seconds), since it was begun in vain.
    """
    resting = resting or {}
    agents = {agent.schedule.agent_id: agent for agent in seen.agents}
    schedules = {(AGENT, agent_id): agent.schedule for agent_id, agent in agents.items()}
    schedules |= {(TASK, task.agent_id): task for task in seen.tasks}
    wanted: list[Work] = [(AGENT, name) for name in due_agents((a.schedule for a in seen.agents), now)]
    wanted += [(AGENT, name) for name, agent in agents.items() if agent.is_wakeable and agent.has_work]
    wanted += [(TASK, name) for name in due_agents(seen.tasks, now)]
    chosen: list[Work] = [(AGENT, name) for name in asked if name in agents]
    at = {work: next_at for work, each in schedules.items() if (next_at := _next_at(each, now)) > now}
    for work in wanted:
        until = max(schedules[work].held_until(now), resting.get(work, 0.0))
        if until <= now:
            chosen.append(work)
        else:
            at[work] = min(until, at.get(work, until))
    sealing = seen.sealing_at(now)
    listen_until = now + LOOK_S if sealing is None else min(now + LOOK_S, sealing)
    return Plan(tuple(work for work in dict.fromkeys(chosen) if work not in busy), at, listen_until)


def _next_at(schedule: Schedule, now: float) -> float:
    """Return when a schedule comes next, epoch seconds; 0: never, or it cannot be read here."""
    return 0.0 if schedule.problem() else schedule.next_at(now) or 0.0
