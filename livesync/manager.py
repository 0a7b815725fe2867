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

from . import leases
from .action import ActionWrapper
from .agent import State, StopReason
from .errors import LiveSyncError, NotInstalled, SiteDiffers, UpgradeNeeded
from .host import Host
from .readers import Readers, become
from .status import AgentStatus, ManagerStatus, agent_status_of, status_of
from .track import collecting
from .track import inbox as inboxes
from .track.changes import Part
from .track.lanes import append
from .track.multipointer import ListMultiPointerTrack
from .track.payload import paged_payload, small_payload
from .track.stored import SCHEMA, SCHEMAS_TO_RECORD

#: Where the manager lies in a database's root.
ROOT_KEY: Final = "livesync"

#: The most actions that one call of collect moves.
COLLECT_LIMIT: Final = 50_000


class SyncManager(Readers, Persistent):
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
                become(stored, State.PAUSED, detail=f"taken over by site {site!r}")
        for task_id in self.task_ids():
            self.task(task_id).lease.holder = None

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
