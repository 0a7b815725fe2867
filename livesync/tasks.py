"""The periodic tasks: what is due when, as a pure function, and running it.

A schedule (cron with ``livesync run --due``, a thread of the application) calls
:meth:`LiveSyncUpdateTask.run` now and then; which agents are due is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .agent import State
from .database import connected
from .errors import Leased, UnknownAgentType, UsageError

if TYPE_CHECKING:
    from .delivery.record import RunResult
    from .host import Host
    from .manager import SyncManager
    from .track.stored import StoredAgent
    from .upkeep.notices import NoticeSettings

logger = logging.getLogger(__name__)

#: A run may begin this part of its interval early (and at most :data:`EARLY_S`): a timer that ticks
#: as often as the interval is long is never quite exact, and would make every second run wait.
EARLY: Final = 0.05
EARLY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """When an agent is to run.

    Attributes:
        agent_id: Whose schedule it is.
        interval_s: Seconds from the beginning of one run to the next; None: never by itself.
        last_began: When its last run began, epoch seconds; None: it never ran.
    """

    agent_id: str
    interval_s: float | None
    last_began: float | None = None

    def overdue_s(self, now: float) -> float | None:
        """Return for how many seconds it has been due at ``now`` (epoch seconds); None when it is not."""
        if self.interval_s is None:
            return None
        if self.last_began is None:
            return now
        waited = now - self.last_began
        early = min(self.interval_s * EARLY, EARLY_S)
        # A last run far in the future means that a clock was set back: waiting for it might take for ever.
        if waited >= self.interval_s - early or waited < -self.interval_s:
            return abs(waited - self.interval_s)
        return None


def due_agents(schedules: Iterable[Schedule], now: float) -> list[str]:
    """Return the ids of the agents that are due at ``now`` (epoch seconds), the longest overdue first."""
    due = [
        (overdue, schedule.agent_id)
        for schedule in schedules
        if (overdue := schedule.overdue_s(now)) is not None
    ]
    return [agent_id for _, agent_id in sorted(due, key=lambda item: (-item[0], item[1]))]


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """What the run of one agent came to: a result, or what it raised, or that another runner is at it.

    Attributes:
        agent_id: The agent.
        result: The run's counts; None when it failed, or did not run.
        error: What it raised; None when it ended well. Where the agent was named, that another runner
            holds it is an error too (:class:`~livesync.errors.Leased`).
        held: Which runner holds the agent, for people, where it was therefore left alone; else "".
    """

    agent_id: str
    result: RunResult | None = None
    error: Exception | None = None
    held: str = ""


class LiveSyncUpdateTask:
    """Runs the agents of one database, each in isolation: one that fails does not stop the others.

    Several may be at work at once, on one machine or many: an agent that another runner holds is left
    to that one.

    Args:
        db: An open ``ZODB.DB``, or a function that opens one, which is then closed after each run.
        host: The application.
        site: The name of this site; agents run only where it is the one stored in the database.
        agents: Run these, whatever their state (a state that forbids it is that agent's error);
            when empty, every active one.
        only_due: Of these, only those whose interval has passed.
        notices: Who is told in the end when an agent has stopped or lags; None: nobody.
    """

    def __init__(
        self,
        db: Any,
        host: Host,
        site: str = "",
        agents: Sequence[str] = (),
        only_due: bool = True,
        notices: NoticeSettings | None = None,
    ) -> None:
        self._db = db
        self._host = host
        self._site = site
        self._agents = tuple(dict.fromkeys(agents))
        self._only_due = only_due
        self._notices = notices

    def run(self, now: float, stop: Callable[[], bool] | None = None) -> list[AgentOutcome]:
        """Run what there is to run, one agent after another.

        Args:
            now: Epoch seconds: decides what is due. Runs themselves read the clock.
            stop: Asked between agents and by the runs; when it says True, the rest is left out.

        Returns:
            One outcome for each agent that was to be run, in the order in which they ran.

        Raises:
            NotInstalled: The database has no manager.
            UpgradeNeeded: Its data are of another schema.
            SiteDiffers: The database belongs to another site.
            UnknownAgent: One that was named does not exist; none has run then.
        """
        outcomes = []
        with self._database() as db:
            for agent_id in self._chosen(db, now):
                if stop is not None and stop():
                    break
                outcomes.append(self._run_one(db, agent_id, stop))
            if stop is None or not stop():
                self._tell(db, now)
        return outcomes

    def _tell(self, db: Any, now: float) -> None:
        """Tell people what they should know; what the runs have done holds whether that works or not."""
        if self._notices is None or not self._notices.wanted:
            return
        from .upkeep.notices import tell

        try:
            tell(db, self._notices, now)
        except Exception as exc:
            logger.warning("nobody could be told how the agents are: %s", exc, exc_info=True)

    @contextmanager
    def _database(self) -> Iterator[Any]:
        if not callable(self._db):
            yield self._db
            return
        db = self._db()
        try:
            yield db
        finally:
            db.close()

    def _chosen(self, db: Any, now: float) -> list[str]:
        """Return the ids of the agents to run, in order."""
        from .manager import SyncManager

        with connected(db) as root:
            manager = SyncManager.get(root)
            manager.check_site(self._site)
            chosen = list(self._agents)
            stored = {agent_id: manager.stored(agent_id) for agent_id in chosen or manager.agent_ids()}
            if not chosen:
                chosen = [
                    agent_id for agent_id in sorted(stored) if stored[agent_id].state == State.ACTIVE.value
                ]
            if self._only_due:
                return due_agents((schedule_of(agent_id, stored[agent_id]) for agent_id in chosen), now)
            return chosen

    def _run_one(self, db: Any, agent_id: str, stop: Callable[[], bool] | None) -> AgentOutcome:
        from .manager import SyncManager

        try:
            with connected(db) as root:
                result = run_agent(SyncManager.get(root), agent_id, self._host, stop)
        except Leased as exc:
            logger.info("agent %s: left alone: %s", agent_id, exc)
            named = bool(self._agents)
            return AgentOutcome(agent_id, error=exc) if named else AgentOutcome(agent_id, held=exc.holder)
        except Exception as exc:  # the loop must outlive one agent
            logger.warning("agent %s: the run failed: %s", agent_id, exc, exc_info=True)
            return AgentOutcome(agent_id, error=exc)
        logger.info(
            "agent %s: %d read, %d accepted, till %s", agent_id, result.read, result.accepted, result.till
        )
        return AgentOutcome(agent_id, result)


def run_agent(
    manager: SyncManager, agent_id: str, host: Host, stop: Callable[[], bool] | None = None
) -> RunResult:
    """Run one agent once; it opens connections of its own.

    Raises:
        UnknownAgent: There is none of this id.
        UnknownAgentType: Its type cannot be loaded, or no longer takes its options.
        UsageError: Its type is one that does not run.
        Leased: Another runner holds it.
        LiveSyncError: Whatever else keeps it from running, or ends the run.
    """
    from .agent import MissingAgent

    agent = manager.get_agent(agent_id)
    if isinstance(agent, MissingAgent):
        raise UnknownAgentType(f"agent {agent_id!r} cannot run: {agent.missing}")
    run: Callable[..., RunResult] | None = getattr(agent, "run", None)
    if run is None:
        raise UsageError(f"agent {agent_id!r} does not run: {type(agent).__name__} only reads the track")
    return run(manager, host, stop=stop)


def schedule_of(agent_id: str, stored: StoredAgent) -> Schedule:
    """Return the schedule of an agent, from what is stored of it."""
    last_run = stored.last_run or {}
    ended = last_run.get("time")
    began = None if ended is None else ended - last_run.get("seconds", 0.0)
    return Schedule(agent_id, stored.interval_s, began)
