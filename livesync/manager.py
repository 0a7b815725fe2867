"""The sync manager: the track, the inbox, the readers, and the rules between them.

It is one persistent object under the key ``"livesync"`` of the database's root. It changes only
within the caller's transactions; nothing here commits. It knows readers as ``SyncAgent`` alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.timestamp import TimeStamp
from ZODB.utils import z64

from . import leases, timetable
from .action import DATA_CHANGED, ActionWrapper, check_actions, check_object_id
from .agent import MissingAgent, State, StopReason, SyncAgent, agent_type_name, load_agent_type
from .errors import (
    LiveSyncError,
    NotInstalled,
    OptionError,
    PositionPruned,
    SiteDiffers,
    StateForbids,
    UnknownAgent,
    UnknownAgentType,
    UnknownTask,
    UpgradeNeeded,
)
from .host import Host
from .status import AgentStatus, ManagerStatus, agent_status_of, status_of
from .track import collecting, queue
from .track import inbox as inboxes
from .track.changes import Part
from .track.lanes import append
from .track.multipointer import ListMultiPointerTrack
from .track.payload import paged_payload, small_payload
from .track.stored import SCHEMA, SCHEMAS_TO_RECORD, StoredAgent, StoredTask

#: Where the manager lies in a database's root.
ROOT_KEY: Final = "livesync"

#: The most actions that one call of collect moves.
COLLECT_LIMIT: Final = 50_000


class SyncManager(Persistent):
    """The track of one database and the agents that follow it.

    Args:
        granularity: Seconds per position, a whole number.
    """

    def __init__(self, granularity: int = 1) -> None:
        if isinstance(granularity, bool) or not isinstance(granularity, int) or granularity < 1:
            raise ValueError(f"granularity is a whole number of seconds, at least 1, not {granularity!r}")
        self.schema = SCHEMA
        self.granularity = granularity
        self.site = ""
        self.track_id = str(uuid.uuid4())
        self.track = ListMultiPointerTrack()
        self._inbox = inboxes.new_inbox()
        self._agents = OOBTree()  # id -> StoredAgent

    #: id -> StoredTask, or None: there was never one.
    _tasks: Any = None

    # -- in a database ---------------------------------------------------------------------------

    @classmethod
    def install(cls, root: MutableMapping[str, Any], granularity: int = 1, site: str = "") -> SyncManager:
        """Make a manager in the database whose ``root`` this is; the caller commits.

        Raises:
            LiveSyncError: There is one already.
        """
        if ROOT_KEY in root:
            raise LiveSyncError("livesync is installed in this database already")
        manager = cls(granularity)
        manager.site = site
        root[ROOT_KEY] = manager
        return manager

    @classmethod
    def get(cls, root: Mapping[str, Any], to_record: bool = False) -> SyncManager:
        """Return the manager of the database whose ``root`` this is.

        Args:
            root: A ZODB root mapping.
            to_record: Only :meth:`record` and its like will be called: then older schemas will do
                whose inbox is as today's, so that the application works on until it is upgraded.

        Raises:
            NotInstalled: There is none.
            UpgradeNeeded: What is stored is not of this code's schema.
        """
        manager = root.get(ROOT_KEY)
        if manager is None:
            raise NotInstalled("livesync is not installed in this database; run: livesync install")
        if not isinstance(manager, cls):
            raise NotInstalled(f"what lies under {ROOT_KEY!r} in this database is not livesync's")
        if manager.schema != SCHEMA and not (to_record and manager.schema in SCHEMAS_TO_RECORD):
            way = (
                "run: livesync upgrade"
                if manager.schema < SCHEMA
                else "use the livesync that wrote it, or a newer one"
            )
            raise UpgradeNeeded(
                f"the stored schema is {manager.schema}, this livesync's is {SCHEMA}; {way}",
                stored=manager.schema,
                expected=SCHEMA,
            )
        return manager

    @property
    def installed_at(self) -> float:
        """When livesync was installed in this database: epoch seconds; 0 where that is not committed yet."""
        inbox = self._inbox
        if inbox._p_jar is None:
            return 0.0
        inbox._p_activate()  # what lies in it is stored apart: it is itself written once
        serial: bytes = inbox._p_serial
        return 0.0 if serial == z64 else float(TimeStamp(serial).timeTime())

    def check_site(self, site: str) -> None:
        """Make sure that this process may push: its site is the one that the manager stores.

        Raises:
            SiteDiffers: It is another one: the database is a copy.
        """
        if site != self.site:
            raise SiteDiffers(
                f"this database belongs to site {self.site!r}, this process to {site!r}: nothing is pushed;"
                f" set LIVESYNC_SITE, or take the copy over with: livesync adopt --site NAME",
                stored=self.site,
                actual=site,
            )

    def adopt(self, site: str) -> None:
        """Make this database, a copy, one of its own: another site, a new track id, all agents paused."""
        self.site = site
        self.track_id = str(uuid.uuid4())
        for stored in self._agents.values():
            stored.acknowledged = ""
            stored.lease.holder = None  # the original's runner
            if stored.state in (State.ACTIVE.value, State.RECORDING.value):
                _become(stored, State.PAUSED, detail=f"taken over by site {site!r}")
        for task_id in self.task_ids():
            self.task(task_id).lease.holder = None

    # -- agents ----------------------------------------------------------------------------------

    @property
    def agents(self) -> Mapping[str, SyncAgent]:
        """The registered agents by id, each made anew from what is stored; loading types as needed."""
        return {agent_id: self.get_agent(agent_id) for agent_id in self._agents}

    def agent_ids(self) -> list[str]:
        """Return the ids of the registered agents, sorted."""
        return list(self._agents)

    def stored(self, agent_id: str) -> StoredAgent:
        """Return what is kept of an agent; live, within the manager's connection.

        Raises:
            UnknownAgent: There is none of this id.
        """
        found: StoredAgent | None = self._agents.get(agent_id)
        if found is None:
            raise UnknownAgent(agent_id)
        return found

    def get_agent(self, agent_id: str) -> SyncAgent:
        """Return an agent as it was registered.

        One whose type cannot be loaded, or no longer takes its options, is a :class:`MissingAgent`.

        Raises:
            UnknownAgent: There is none of this id.
        """
        stored = self.stored(agent_id)
        try:
            agent_type = load_agent_type(stored.type_name)
            return agent_type(agent_id, stored.name, stored.description, **stored.options)
        except (UnknownAgentType, OptionError) as exc:
            return MissingAgent(agent_id, stored.name, stored.description, stored.type_name, str(exc))

    def register_agent(self, agent: SyncAgent) -> None:
        """Add an agent, in state ``new``; it has no pointer until it is activated.

        Raises:
            ValueError: There is one of its id.
        """
        if agent.id in self._agents:
            raise ValueError(f"there is an agent {agent.id!r} already")
        self._agents[agent.id] = StoredAgent(
            agent_type_name(type(agent)), agent.name, agent.description, agent.given_options()
        )

    def edit_agent(
        self,
        agent_id: str,
        name: str | None = None,
        description: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change what an agent is; None leaves as it is, an option of None goes back to its default.

        Returns:
            Whether it now names another destination: it is then ``stopped: needs_export``.

        Raises:
            UnknownAgent, UnknownAgentType: There is no such agent, or its type cannot be loaded.
            OptionError: An option is unknown or has a value of a wrong form.
        """
        stored = self.stored(agent_id)
        agent_type = load_agent_type(stored.type_name)
        given = {**stored.options, **(options or {})}
        given = {key: value for key, value in given.items() if value is not None}
        agent = agent_type(agent_id, stored.name if name is None else name, stored.description, **given)
        before = {
            option.name: stored.options.get(option.name, option.default)
            for option in agent_type.declared_options()
            if option.identifies
        }
        moved = any(agent.values[key] != value for key, value in before.items())
        stored.name = agent.name
        stored.description = agent.description if description is None else description
        stored.options = agent.given_options()
        if moved and stored.state != State.NEW.value:
            self.stop_agent(agent_id, StopReason.NEEDS_EXPORT, "it names another destination now")
        return moved and stored.state != State.NEW.value

    def remove_agent(self, agent_id: str) -> None:
        """Remove an agent and its pointer; its destination stays as it is.

        Raises:
            UnknownAgent: There is none of this id.
        """
        self.stored(agent_id)
        if self.track.has_pointer(agent_id):
            self.track.remove_pointer(agent_id)
        del self._agents[agent_id]

    def activate(self, agent_id: str, from_start: bool = False, from_now: bool = False) -> None:
        """Let an agent run. A new one gets its pointer here; a paused or stopped one keeps its own.

        Args:
            from_start: A new agent's pointer stands before everything that is kept.
            from_now: A new agent's pointer stands at the last sealed position (the default).

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: An export is under way, or is what the agent needs.
        """
        stored = self.stored(agent_id)
        if stored.state == State.RECORDING.value:
            raise StateForbids(
                f"agent {agent_id!r} has an unfinished export; run: livesync agent export {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        if stored.state != State.NEW.value and (from_start or from_now):
            raise StateForbids(
                f"agent {agent_id!r} is {stored.state} and keeps its pointer;"
                f" to move it: livesync agent pause {agent_id}, then agent rewind {agent_id} --to P",
                agent_id=agent_id,
                state=stored.state,
            )
        if not self.track.has_pointer(agent_id):
            self.track.add_pointer(agent_id, self._start() if from_start else self._now())
        elif stored.reason == StopReason.NEEDS_EXPORT.value or self.track.pruned > self._pointer(agent_id):
            raise StateForbids(
                f"agent {agent_id!r} needs an export; run: livesync agent export {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        timetable.note_success(stored)  # whoever activates it wants it to run now
        # one that was paused in the middle of its export still lacks the rest of it
        _become(stored, State.ACTIVE if stored.export is None else State.RECORDING)

    def pause(self, agent_id: str) -> None:
        """Keep an agent from running until it is activated again.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It is new, or stopped already.
        """
        stored = self.stored(agent_id)
        if stored.state == State.NEW.value:
            raise StateForbids(
                f"agent {agent_id!r} is new: there is nothing to pause", agent_id=agent_id, state=stored.state
            )
        if stored.state == State.STOPPED.value:
            raise StateForbids(
                f"agent {agent_id!r} is stopped ({stored.reason}): it does not run as it is",
                agent_id=agent_id,
                state=stored.state,
            )
        _become(stored, State.PAUSED)

    def stop_agent(self, agent_id: str, reason: StopReason, detail: str = "") -> None:
        """Stop an agent on livesync's own account, with the reason."""
        _become(self.stored(agent_id), State.STOPPED, reason, detail)

    def rewind(self, agent_id: str, position: int | None) -> None:
        """Move a paused agent's pointer back, or forward, on purpose (None: before everything kept).

        What it had delivered before is delivered again, with positions that its destination takes.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It is not paused.
            Leased: A run that began before it was paused has not ended yet.
            PositionPruned: What lies after the position is no longer kept.
            ValueError: The position is beyond the last sealed one.
        """
        stored = self.stored(agent_id)
        if stored.state != State.PAUSED.value:
            raise StateForbids(
                f"agent {agent_id!r} is {stored.state}: only a paused agent is rewound;"
                f" run: livesync agent pause {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        leases.check_free(agent_id, stored.lease, time.time())
        if position is None:
            position = self._start()
        if position is not None and position < self.track.pruned:
            raise PositionPruned(
                f"the track is pruned up to {self.track.pruned}: no pointer can stand at {position}",
                position=position,
                pruned=self.track.pruned,
            )
        if position is not None and position > self.track.sealed:
            raise ValueError(
                f"no pointer can stand at {position}: sealed is only what is at or before {self.track.sealed}"
            )
        stored.catching_up_to = max(stored.catching_up_to, self._pointer(agent_id), stored.attempted)
        stored.generation += 1
        self.track.move_pointer(agent_id, position)

    def set_interval(self, agent_id: str, seconds: float | None) -> None:
        """Let an agent run every so many seconds; None takes it off the schedule."""
        self.set_schedule(agent_id, seconds)

    def set_schedule(
        self, agent_id: str, interval_s: float | None = None, cron: str = "", zone: str = ""
    ) -> None:
        """Let an agent run every so many seconds, or when a cron expression says; neither: not by itself.

        Args:
            agent_id: The agent.
            interval_s: Seconds from the beginning of one run to that of the next.
            cron: Five fields, as cron has them.
            zone: The time zone of ``cron``, such as ``Europe/Rome``; "": UTC.

        Raises:
            UnknownAgent: There is none of this id.
            ValueError: The interval is not longer than 0 seconds, or both are given.
            UsageError: The expression or the zone is none, or the extra for expressions is missing.
        """
        timetable.set_schedule(self.stored(agent_id), interval_s, cron, zone, time.time())

    def enqueue(
        self, agent_id: str, object_ids: Iterable[str], words: Iterable[str] = (DATA_CHANGED,)
    ) -> int:
        """Have an agent send these objects as they will be then, apart from the track.

        Args:
            agent_id: The agent; its next runs send them.
            object_ids: The objects; those that do not exist are sent as deletes.
            words: The actions that the records carry.

        Returns:
            How many objects were queued.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It has no pointer yet.
            ValueError: An id or an action is none.
        """
        stored = self.stored(agent_id)
        self._check_pointer(agent_id)
        words = check_actions(words)
        count = 0
        for page in queue.pages_of(map(check_object_id, object_ids), words):
            queue.put(stored, page)
            count += len(page.ids)
        return count

    def dead_letters(self, agent_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return an agent's dead letters by object id: reason, op, position, time, attempts."""
        return self.stored(agent_id).dead  # type: ignore[no-any-return]

    # -- tasks -----------------------------------------------------------------------------------

    def task_ids(self) -> list[str]:
        """Return the ids of the periodic tasks, sorted."""
        return [] if self._tasks is None else list(self._tasks)

    def task(self, task_id: str) -> StoredTask:
        """Return what is kept of a periodic task; live, within the manager's connection.

        Raises:
            UnknownTask: There is none of this id.
        """
        found: StoredTask | None = None if self._tasks is None else self._tasks.get(task_id)
        if found is None:
            raise UnknownTask(task_id)
        return found

    def put_task(self, task_id: str, task: StoredTask) -> None:
        """Keep a periodic task; ``periodic.add_task`` checks it before.

        Raises:
            ValueError: There is one of its id.
        """
        if self._tasks is None:
            self._tasks = OOBTree()  # a manager made by an earlier release has none
        if task_id in self._tasks:
            raise ValueError(f"there is a task {task_id!r} already")
        self._tasks[task_id] = task

    def remove_task(self, task_id: str) -> None:
        """Remove a periodic task.

        Raises:
            UnknownTask: There is none of this id.
        """
        self.task(task_id)
        del self._tasks[task_id]

    # -- the track -------------------------------------------------------------------------------

    def add(self, timestamp: float, action: ActionWrapper) -> None:
        """Put an action straight onto the track (for tests and tools); ``timestamp`` in epoch seconds.

        Raises:
            PositionSealed: Its position is sealed.
        """
        self.track.add(int(timestamp // self.granularity), action)

    def record(self, actions: Iterable[ActionWrapper]) -> None:
        """Write actions into the inbox, within the current transaction of the manager's connection.

        Their time will be that of the commit. User and note are each action's own.
        """
        for (user, note), group in groupby(actions, key=attrgetter("user", "note")):
            self.record_changes([(action.object_id, action.actions) for action in group], user, note)

    def record_changes(self, changes: Sequence[tuple[str, frozenset[str]]], user: str, note: str) -> None:
        """Write ``(object id, actions)`` pairs into the inbox: :meth:`record` for one user and note."""
        if changes:
            append(self._inbox, small_payload(changes, user, note))

    def record_pages(self, pages: Iterable[Any], user: str, note: str) -> None:
        """Write a very large transaction's changes, as inbox pages, into the inbox (used by capture)."""
        append(self._inbox, paged_payload(pages, user, note))

    def collect(self, now: float | None = None) -> int:
        """Move at most 50,000 actions from the inbox to the track, in commit order, and seal.

        Nothing is committed here, and nothing is changed where there is nothing to do. Sealed is,
        once nothing that this snapshot shows is left, every position below ``now // granularity``,
        and what collect opened at least a granularity ago by its own clock.

        Args:
            now: Epoch seconds; the wall clock when None. One that steps back does no harm.

        Returns:
            How many actions moved. The caller commits and calls again until fewer than 50,000 did.
        """
        now = time.time() if now is None else now
        return collecting.collect(self.track, self._inbox, self.granularity, now, COLLECT_LIMIT)

    def waiting(self) -> Iterator[ActionWrapper]:
        """Yield what lies in the inbox, oldest first; each with the time of its commit."""
        for commit in inboxes.waiting(self._inbox):
            yield from commit.actions

    def query(self, agent_id: str, till: int | None = None) -> Iterator[tuple[int, ActionWrapper]]:
        """Yield ``(position, action)`` in ``]pointer, till]``, oldest first; till None: the last sealed.

        Raises:
            UnknownAgent: There is no such agent, or it has no pointer yet.
            PositionPruned: Something after its pointer has been pruned: it needs an export.
        """
        self.stored(agent_id)
        self._check_pointer(agent_id)
        return self.track.pointer_iter_items(agent_id, till)

    def query_parts(self, agent_id: str) -> Iterator[Part]:
        """Yield what :meth:`query` does up to the last sealed position, as much of each page at a time.

        Raises:
            UnknownAgent, PositionPruned: As there.
        """
        self.stored(agent_id)
        self._check_pointer(agent_id)
        return self.track.pointer_parts(agent_id)

    def advance(self, agent_id: str, new_position: int, token: int | None = None) -> None:
        """Move an agent's pointer: everything at or before ``new_position`` is delivered and accepted.

        Args:
            agent_id: The agent.
            new_position: Where its pointer goes.
            token: The lease's, of whoever holds it (a run's own transactions need not say it);
                nobody needs one while no runner holds the agent.

        Raises:
            UnknownAgent: There is no such agent.
            StateForbids: It has no pointer yet.
            LeaseLost: The token is an earlier holder's.
            Leased: A runner holds the agent, and there is no token.
            ValueError: The position is beyond the last sealed one.
        """
        stored = self.stored(agent_id)
        self._check_pointer(agent_id)
        acting, acting_token = getattr(self, "_v_token", None) or ("", None)
        if token is None and acting == agent_id:
            token = acting_token
        if token is None:
            leases.check_free(agent_id, stored.lease, time.time())
        else:
            leases.check_held(agent_id, stored.lease, token)
        self.track.move_pointer(agent_id, new_position)

    def act_as(self, agent_id: str, token: int | None) -> None:
        """Let :meth:`advance` of an agent take ``token`` for the lease's; None: no more.

        For whoever holds the lease, within a transaction that has made sure of it.
        """
        self._v_token = None if token is None else (agent_id, token)

    def prune(self, before: int | None = None, leave_behind: bool = False) -> int:
        """Drop what every pointer has passed; see :meth:`MultiPointerTrack.prune`.

        Args:
            before: Drop only positions below it.
            leave_behind: Drop it whatever pointers need; agents that lose something are
                ``stopped: needs_export``.

        Returns:
            How many actions were dropped.
        """
        dropped = self.track.prune(before, leave_behind)
        for agent_id, position in list(self.track.pointers()):
            if self.track.pruned > (-1 if position is None else position) and agent_id in self._agents:
                self.stop_agent(
                    agent_id, StopReason.NEEDS_EXPORT, f"the track is pruned up to {self.track.pruned}"
                )
        return dropped

    def reset(self, agents_only: bool = False, track_only: bool = False) -> None:
        """Empty the track and the inbox; what is sealed stays sealed; agents need an export.

        A reader that is no agent, as two-way sync has one, is left before all that was lost: it looks at
        everything there is when it reads next.

        Args:
            agents_only: Leave track and inbox; the pointers go to the last sealed position.
            track_only: Leave the agents' state as it is.

        Raises:
            ValueError: Both at once.
        """
        if agents_only and track_only:
            raise ValueError("agents_only and track_only exclude each other")
        if not agents_only:
            others = [pointer for pointer, _ in self.track.pointers() if pointer not in self._agents]
            inboxes.forget_waiting(self._inbox)
            self.track.clear()
            for pointer in others:
                self.track.move_pointer(pointer, None)
        if not track_only:
            for agent_id, stored in self._agents.items():
                if self.track.has_pointer(agent_id):
                    self.track.move_pointer(agent_id, self._now())
                stored.generation += 1
                stored.export = None
                stored.queue.clear()
                if stored.state != State.NEW.value:
                    self.stop_agent(agent_id, StopReason.NEEDS_EXPORT, "the track was reset")

    def status(self, host: Host | None = None, now: float | None = None) -> ManagerStatus:
        """Return where everything stands; it reads only, and what waits in the inbox is counted there.

        Args:
            host: Not needed; kept for callers that have one.
            now: Epoch seconds, for lags; the wall clock when None.
        """
        return status_of(self, inboxes.count_waiting(self._inbox), time.time() if now is None else now)

    def agent_status(self, agent_id: str, now: float | None = None) -> AgentStatus:
        """Return where one agent stands, as :meth:`status` does for all.

        Raises:
            UnknownAgent: There is none of this id.
        """
        now = time.time() if now is None else now
        return agent_status_of(self, agent_id, inboxes.count_waiting(self._inbox), now)

    # -- inside ----------------------------------------------------------------------------------

    def _start(self) -> int | None:
        return self.track.pruned if self.track.pruned >= 0 else None

    def _now(self) -> int | None:
        if self.track.sealed >= 0:
            return self.track.sealed
        # A track that was never sealed: what is on it lies before now all the same.
        return None if self.track.is_empty() else self.track.most_recent_ts()

    def _pointer(self, agent_id: str) -> int:
        position = self.track.get_pointer_timestamp(agent_id)
        return -1 if position is None else position

    def _check_pointer(self, agent_id: str) -> None:
        if not self.track.has_pointer(agent_id):
            raise StateForbids(
                f"agent {agent_id!r} has no pointer yet; run: livesync agent export {agent_id},"
                f" or livesync agent activate {agent_id} --from-now or --from-start",
                agent_id=agent_id,
                state=self.stored(agent_id).state,
            )


def _become(stored: StoredAgent, state: State, reason: StopReason | None = None, detail: str = "") -> None:
    stored.state = state.value
    stored.reason = "" if reason is None else reason.value
    stored.detail = detail


def upgrade(root: MutableMapping[str, Any]) -> bool:
    """Bring what is stored up to this code's schema, within the caller's transaction.

    Returns:
        Whether there was anything to do.

    Raises:
        NotInstalled: There is no manager.
        UpgradeNeeded: What is stored is of a newer schema than this code.
    """
    manager = root.get(ROOT_KEY)
    if manager is None:
        raise NotInstalled("livesync is not installed in this database; run: livesync install")
    if manager.schema > SCHEMA:
        SyncManager.get(root)
    if manager.schema == SCHEMA:
        return False
    # Agents are few, so one transaction is small enough.
    for stored in manager._agents.values():
        stored.add_parts_of_schema_2()
    manager.schema = SCHEMA
    return True


def uninstall(root: MutableMapping[str, Any]) -> None:
    """Remove all that livesync keeps in this database; destinations stay as they are.

    Raises:
        NotInstalled: There is no manager.
    """
    if ROOT_KEY not in root:
        raise NotInstalled("livesync is not installed in this database")
    for key in [key for key in root if key == ROOT_KEY or str(key).startswith(f"{ROOT_KEY}.")]:
        del root[key]
