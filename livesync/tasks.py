"""The task that runs the agents: those that are due, each in isolation.

A schedule (cron with ``livesync run --due``, Celery) calls :meth:`LiveSyncUpdateTask.run` now and
then; what is due is decided by ``timetable.py``. The other periodic tasks are in ``periodic/``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .agent import State
from .database import committed, connected, usable
from .errors import Leased, UnknownAgentType, UsageError
from .timetable import Schedule, due_agents, note_failure, note_success, schedule_of

if TYPE_CHECKING:
    from .delivery.record import RunResult
    from .host import Host
    from .manager import SyncManager
    from .upkeep.notices import NoticeSettings

__all__ = [
    "AgentOutcome",
    "LiveSyncUpdateTask",
    "Schedule",
    "due_agents",
    "run_agent",
    "run_and_note",
    "schedule_of",
]

logger = logging.getLogger(__name__)


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
        with usable(self._db) as db:
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
        outcome = run_and_note(db, agent_id, self._host, stop)
        if isinstance(outcome.error, Leased) and not self._agents:
            return AgentOutcome(agent_id, held=outcome.error.holder)
        return outcome


def run_and_note(
    db: Any,
    agent_id: str,
    host: Host,
    stop: Callable[[], bool] | None = None,
    seal_newest: bool = True,
    clock: Callable[[], float] = time.time,
) -> AgentOutcome:
    """Run one agent once, and note whether it failed; whatever it raises is in the outcome.

    Args:
        db: An open ``ZODB.DB``.
        agent_id: The agent.
        host: The application.
        stop: Asked by the run.
        seal_newest: Deliver what was committed just before, too; see ``PushSyncAgent.seals_newest``.
        clock: Returns epoch seconds.
    """
    from .manager import SyncManager

    began = clock()
    try:
        with connected(db) as root:
            result = run_agent(SyncManager.get(root), agent_id, host, stop, seal_newest)
    except Leased as exc:
        logger.info("agent %s: left alone: %s", agent_id, exc)
        return AgentOutcome(agent_id, error=exc)
    except Exception as exc:  # the loop must outlive one agent
        logger.warning("agent %s: the run failed: %s", agent_id, exc, exc_info=True)
        outcome = AgentOutcome(agent_id, error=exc)
    else:
        logger.info(
            "agent %s: %d read, %d accepted, till %s", agent_id, result.read, result.accepted, result.till
        )
        outcome = AgentOutcome(agent_id, result)
    _note(db, outcome, began, clock())
    return outcome


def _note(db: Any, outcome: AgentOutcome, began: float, now: float) -> None:
    """Note what makes an agent due again, or holds it back; that it cannot be noted fails nothing."""
    from .manager import SyncManager

    try:
        with connected(db) as root:
            if not _notes(SyncManager.get(root), outcome, began, now):
                return
        committed(db, lambda root: _notes(SyncManager.get(root), outcome, began, now))
    except Exception as exc:  # the database may be away; the run's own notes say what there is to say
        logger.warning(
            "agent %s: how its run ended could not be noted: %s", outcome.agent_id, exc, exc_info=True
        )


def _notes(manager: SyncManager, outcome: AgentOutcome, began: float, now: float) -> bool:
    """Note it in the caller's transaction; return whether there was anything to note."""
    from .delivery.work import shortened, summary

    if outcome.agent_id not in manager.agent_ids():
        return False
    stored = manager.stored(outcome.agent_id)
    changed = False
    if outcome.error is not None:
        note_failure(stored, now)
        changed = True
    elif note_success(stored):
        changed = True
    is_noted = stored.last_run is not None and stored.last_run.get("time", 0.0) >= began
    if not is_noted and schedule_of(outcome.agent_id, stored).is_set:
        # a run that ended before it began, or an agent type that notes nothing
        counts = {} if outcome.result is None else summary(outcome.result)
        error = "" if outcome.error is None else shortened(outcome.error)
        stored.last_run = {**counts, "time": now, "seconds": now - began, "error": error}
        changed = True
    return changed


def run_agent(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    stop: Callable[[], bool] | None = None,
    seal_newest: bool = True,
) -> RunResult:
    """Run one agent once; it opens connections of its own.

    Args:
        manager: The manager.
        agent_id: The agent.
        host: The application.
        stop: Asked by the run.
        seal_newest: Deliver what was committed just before, too; see ``PushSyncAgent.seals_newest``.

    Raises:
        UnknownAgent: There is none of this id.
        UnknownAgentType: Its type cannot be loaded, or no longer takes its options.
        UsageError: Its type is one that does not run.
        Leased: Another runner holds it.
        LiveSyncError: Whatever else keeps it from running, or ends the run.
    """
    from .agent import MissingAgent
    from .delivery.push import PushSyncAgent

    agent = manager.get_agent(agent_id)
    if isinstance(agent, MissingAgent):
        raise UnknownAgentType(f"agent {agent_id!r} cannot run: {agent.missing}")
    run: Callable[..., RunResult] | None = getattr(agent, "run", None)
    if run is None:
        raise UsageError(f"agent {agent_id!r} does not run: {type(agent).__name__} only reads the track")
    if isinstance(agent, PushSyncAgent):
        agent.seals_newest = seal_newest
    return run(manager, host, stop=stop)
