"""Where everything stands."""

from __future__ import annotations

from .base import Value


class Counts(Value, frozen=True):
    """What a run, or all of them, came to, as ``delivery.record.RunResult`` has it."""

    read: int = 0
    accepted: int = 0
    stale: int = 0
    coalesced: int = 0
    cancelled: int = 0
    excluded: int = 0
    cascaded: int = 0
    dead: int = 0
    retried: int = 0
    batches: int = 0


class LastRun(Value, frozen=True):
    """What an agent's last run came to; ``ended`` in epoch seconds, None where that is not known."""

    ended: float | None
    seconds: float
    till: int | None
    error: str
    counts: Counts


class Agent(Value, frozen=True):
    """Where an agent stands; the attributes are those of ``livesync.status.AgentStatus``.

    ``holder`` says who runs it now; ``batch_seconds`` is the sum of the seconds that its requests took.
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
    queued: int
    holder: str
    last_error: str
    last_run: LastRun | None
    interval_s: float | None
    totals: Counts
    batch_seconds: float
    cron: str = ""
    zone: str = ""
    next_at: float | None = None
    failures: int = 0
    held_until: float = 0.0
    schedule_problem: str = ""


class Reader(Value, frozen=True):
    """Where a reader that is no agent stands, such as two-way sync's: as ``livesync.status.ReaderStatus``."""

    id: str
    position: int | None
    lag_actions: int
    lag_seconds: float


class Status(Value, frozen=True):
    """Where the track and its readers stand.

    Attributes:
        time: When this was looked at.
        version: Of livesync.
        site: The site that the database belongs to.
        site_matches: Whether this process is of that site; nothing runs here otherwise.
        sealed: Nothing new can appear at or before this position.
        oldest, newest: The track's ends; None where it is empty.
        entries, actions: How many positions, and actions, lie on it.
        waiting: Actions in the inbox, not on the track yet.
        runner: ``running``, ``stopped`` or ``none``: who runs the agents in this process.
        agents: By id.
        readers: Those that are no agents, by id.
    """

    time: float
    version: str
    granularity: int
    site: str
    site_matches: bool
    track_id: str
    sealed: int
    oldest: int | None
    newest: int | None
    entries: int
    actions: int
    waiting: int
    runner: str
    agents: list[Agent]
    readers: list[Reader]


class LagSample(Value, frozen=True):
    """How far one agent was behind at a time, and how many records its service had taken by then."""

    agent_id: str
    lag_actions: int
    lag_seconds: float
    delivered: int


class StatusSample(Value, frozen=True):
    """One look at how far everybody was."""

    time: float
    waiting: int
    agents: list[LagSample]


class Samples(Value, frozen=True):
    """The looks of the last hour, the oldest first."""

    samples: list[StatusSample]
