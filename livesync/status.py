"""Where the track and its readers stand: what ``SyncManager.status`` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import leases
from .agent import MissingAgent, State, StopReason
from .timetable import Schedule, schedule_of
from .track import queue

if TYPE_CHECKING:
    from .manager import SyncManager


#: How many actions wait in the inbox, and since when (epoch seconds; None: there are none).
Waiting = tuple[int, float | None]


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Where an agent stands.

    Attributes:
        lag_actions: Actions that it has not delivered.
        lag_seconds: The age of the oldest of them.
        queued: Objects in its slow queue.
        holder: Who runs it now, for people; "" when nobody does.
        totals: What all its runs together came to: counts, and ``batch_seconds`` (the counts of a
            :class:`~livesync.delivery.measures.Histogram`, and the sum in seconds).
        cron, zone: Its cron expression ("": none) and the time zone of that ("": UTC).
        next_at: When it runs next by itself; epoch seconds; None: never.
        failures: How many runs have failed in a row.
        held_until: Until when it is kept from running for that; epoch seconds; 0: it is not.
        schedule_problem: Why its schedule cannot be followed here, for people; "" where it can.
    """

    id: str
    type_name: str
    name: str
    description: str
    state: str
    reason: str
    detail: str
    position: int | None
    lag_actions: int
    lag_seconds: float
    dead: int
    last_error: str
    last_run: dict[str, Any] | None
    interval_s: float | None
    queued: int = 0
    holder: str = ""
    totals: Mapping[str, Any] = field(default_factory=dict)
    cron: str = ""
    zone: str = ""
    next_at: float | None = None
    failures: int = 0
    held_until: float = 0.0
    schedule_problem: str = ""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where a periodic task stands; what an agent has too is as there.

    Attributes:
        kind: What it does.
        options: What it was given.
        last_run: ``{"time", "seconds", "error", "summary"}`` of its last run, or None.
    """

    id: str
    kind: str
    options: Mapping[str, Any]
    interval_s: float | None
    cron: str
    zone: str
    next_at: float | None
    failures: int
    held_until: float
    last_run: Mapping[str, Any] | None
    holder: str
    schedule_problem: str


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """Where a reader that is no agent stands, such as two-way sync's.

    Attributes:
        id: The name of its pointer.
        position: Where that stands; None: before everything.
        lag_actions: Actions that it has not taken.
        lag_seconds: The age of the oldest of them.
    """

    id: str
    position: int | None
    lag_actions: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class ManagerStatus:
    """Where the track and its readers stand. ``waiting``: actions in the inbox, not collected yet."""

    granularity: int
    site: str
    track_id: str
    sealed: int
    oldest: int | None
    newest: int | None
    entries: int
    actions: int
    waiting: int
    agents: tuple[AgentStatus, ...]
    tasks: tuple[TaskStatus, ...] = ()
    readers: tuple[ReaderStatus, ...] = ()


def status_of(manager: SyncManager, waiting: Waiting, now: float) -> ManagerStatus:
    """Return where a manager's track and agents stand; it reads only, a few pages of the track an agent.

    Args:
        manager: The manager.
        waiting: What lies in its inbox: how many actions, and the time of the oldest.
        now: Epoch seconds, for lags.
    """
    count, oldest_waiting = waiting
    track = manager.track
    empty = track.is_empty()
    return ManagerStatus(
        granularity=manager.granularity,
        site=manager.site,
        track_id=manager.track_id,
        sealed=track.sealed,
        oldest=None if empty else track.oldest_ts(),
        newest=None if empty else track.most_recent_ts(),
        entries=len(track),
        actions=track.count(),
        waiting=count,
        agents=tuple(
            _agent_status(manager, agent_id, now, count, oldest_waiting) for agent_id in manager.agent_ids()
        ),
        tasks=task_statuses(manager, now),
        readers=tuple(_reader_statuses(manager, now, waiting)),
    )


def _reader_statuses(manager: SyncManager, now: float, waiting: Waiting) -> Iterator[ReaderStatus]:
    agents = set(manager.agent_ids())
    for pointer, position in manager.track.pointers():
        if pointer in agents:
            continue
        on_track, first = manager.track.standing(pointer)
        oldest = waiting[1] if first is None else first.timestamp
        lag = on_track + waiting[0]
        seconds = max(0.0, now - oldest) if lag and oldest is not None else 0.0
        yield ReaderStatus(pointer, position, lag, seconds)


def agent_status_of(manager: SyncManager, agent_id: str, waiting: Waiting, now: float) -> AgentStatus:
    """Return where one agent stands; as :func:`status_of`.

    Raises:
        UnknownAgent: There is none of this id.
    """
    return _agent_status(manager, agent_id, now, *waiting)


def task_statuses(manager: SyncManager, now: float) -> tuple[TaskStatus, ...]:
    """Return where a manager's periodic tasks stand at ``now`` (epoch seconds), by their ids."""
    return tuple(_task_status(manager, task_id, now) for task_id in manager.task_ids())


def _task_status(manager: SyncManager, task_id: str, now: float) -> TaskStatus:
    stored = manager.task(task_id)
    return TaskStatus(
        id=task_id,
        kind=stored.kind,
        options=dict(stored.options),
        interval_s=stored.interval_s,
        cron=stored.cron,
        zone=stored.zone,
        last_run=stored.last_run,
        holder=leases.holder(stored.lease, now),
        **_timing(schedule_of(task_id, stored), now, runs=True),
    )


def _timing(schedule: Schedule, now: float, runs: bool) -> dict[str, Any]:
    problem = schedule.problem()
    return {
        "next_at": schedule.next_at(now) if runs and not problem else None,
        "failures": schedule.failures,
        "held_until": schedule.held_until(now),
        "schedule_problem": problem,
    }


def _agent_status(
    manager: SyncManager, agent_id: str, now: float, waiting: int, oldest_waiting: float | None
) -> AgentStatus:
    stored = manager.stored(agent_id)
    agent = manager.get_agent(agent_id)
    state, reason, detail = stored.state, stored.reason, stored.detail
    if isinstance(agent, MissingAgent):
        state, reason, detail = State.STOPPED.value, StopReason.TYPE_MISSING.value, agent.missing
    position, lag_actions, oldest = None, 0, None
    if manager.track.has_pointer(agent_id):
        position = manager.track.get_pointer_timestamp(agent_id)
        on_track, first = manager.track.standing(agent_id)
        lag_actions = on_track + waiting
        oldest = oldest_waiting if first is None else first.timestamp
    return AgentStatus(
        id=agent_id,
        type_name=stored.type_name,
        name=stored.name,
        description=stored.description,
        state=state,
        reason=reason,
        detail=detail,
        position=position,
        lag_actions=lag_actions,
        lag_seconds=max(0.0, now - oldest) if lag_actions and oldest is not None else 0.0,
        dead=len(stored.dead),
        last_error=str((stored.last_run or {}).get("error", "")),
        last_run=stored.last_run,
        interval_s=stored.interval_s,
        queued=queue.count(stored),
        holder=leases.holder(stored.lease, now),
        totals=dict(stored.totals or {}),
        cron=stored.cron,
        zone=stored.zone,
        **_timing(schedule_of(agent_id, stored), now, state == State.ACTIVE.value),
    )
