"""Backfill: sending everything that exists, and then going live.

The agent's pointer is placed first. The export walks the host by ascending ids and notes how far it
has come, so one that broke off goes on where it stood. Its records carry the last sealed position
of the snapshot they are rendered from, and between its chunks what changes meanwhile is delivered
as in any run: whichever of the two comes last, a service keeps the newer state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from typing import Any, Final

from ..agent import State, StopReason
from ..delivery.access import ManagerAccess, collect_all, of_the_database
from ..delivery.push import PushSyncAgent, bring_up_to_date
from ..delivery.record import RunResult
from ..delivery.run import Run, time_of_last_commit
from ..delivery.uploader import RecordUploader
from ..delivery.work import Stop, StopRequested, Work
from ..errors import HostFailed, LiveSyncError, StateForbids, UsageError
from ..host import Host
from ..leases import LEASE_S
from ..manager import SyncManager
from ..track.stored import StoredAgent
from ..words import plural

logger = logging.getLogger(__name__)

#: Objects between two notes of how far an export has come.
CHUNK_SIZE: Final = 5_000

#: Reasons why an agent is stopped that nothing but a whole export mends.
NEEDS_EVERYTHING: Final = (StopReason.NEEDS_EXPORT.value, StopReason.DESTINATION_DIFFERS.value)


class Mode(Enum):
    """What an export does."""

    INITIAL = "initial"  #: send everything that exists, then go live
    INITIAL_ONLY = "initial-only"  #: send everything that exists, then pause
    NONE = "none"  #: send nothing, go live
    WHEN_NEEDED = "when-needed"  #: send everything only where the destination lacks something; go live


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export has come.

    Attributes:
        done: Objects looked at, those of earlier attempts included.
        total: How many there are, as counted at the beginning.
        position: The last sealed position when it began.
        earlier: Of those done, the objects of earlier attempts.
    """

    done: int
    total: int
    position: int
    earlier: int = 0


Progress = Callable[[ExportProgress], None]


def export(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    progress: Progress | None = None,
    stop: Stop | None = None,
    now: float | None = None,
    mode: Mode = Mode.INITIAL,
    rebuild: bool = False,
    anew: bool = False,
    lease_s: float = LEASE_S,
) -> RunResult:
    """Send everything that exists to an agent's service; the agent is active afterwards.

    Call it between transactions. One that broke off, or that ``stop`` ended, leaves the agent
    ``recording``; the next call goes on where it stood. What changes meanwhile is delivered between
    the chunks of the export.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Which agent.
        host: The application.
        progress: Told after each chunk.
        stop: Asked between chunks; True ends the export for now.
        now: Epoch seconds; None: the wall clock.
        mode: What is sent, and what the agent does afterwards.
        rebuild: Build a new place and let it take the old one's in the end; the old one is kept up
            to date until then.
        anew: Begin again, although one that broke off could go on where it stood.
        lease_s: How long the agent stays ours if we are not heard of any more, in seconds.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is paused, or no agent that pushes.
        UsageError: Its service cannot be rebuilt, or the mode is for new agents.
        Leased, LeaseLost, ServiceRefuses, TooManyRefused, RetryLater, HostFailed: As in a run.
    """
    access = ManagerAccess(manager)
    try:
        agent, uploader = prepared(access, agent_id)
        if rebuild and not uploader.rebuilds:
            raise UsageError(f"agent {agent_id!r}: its service cannot be rebuilt beside itself; export it")
        work = Work(agent, access, host, uploader, "export", stop, now, lease_s)
        if mode is Mode.NONE:
            result = _go_live(work)
        elif mode is Mode.WHEN_NEEDED and not _is_needed(work):
            result = _go_on(work)
        else:
            result = _Export(work, progress, mode, rebuild, anew, now).run()
    finally:
        access.close()
    bring_up_to_date(manager)
    return result


def prepared(access: ManagerAccess, agent_id: str) -> tuple[PushSyncAgent, RecordUploader]:
    """Return an agent that may be exported, and an uploader for it.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is paused, or no agent that pushes.
    """
    with access.snapshot() as at:
        agent = at.get_agent(agent_id)
        state = at.stored(agent_id).state
    uploader_type = type(agent).uploader if isinstance(agent, PushSyncAgent) else None
    if not isinstance(agent, PushSyncAgent) or uploader_type is None:
        raise StateForbids(f"agent {agent_id!r} is none that pushes", agent_id=agent_id, state=state)
    if state == State.PAUSED.value:
        raise StateForbids(
            f"agent {agent_id!r} is paused; run first: livesync agent activate {agent_id}",
            agent_id=agent_id,
            state=state,
        )
    return agent, uploader_type(agent)


def _go_live(work: Work) -> RunResult:
    def activate(manager: SyncManager) -> bool:
        stored = manager.stored(work.agent.id)
        if stored.state != State.NEW.value:
            raise UsageError(
                f"agent {work.agent.id!r} is {stored.state}: the mode none is for a new agent;"
                f" run: livesync agent activate {work.agent.id}"
            )
        manager.activate(work.agent.id, from_now=True)
        return True

    collect_all(work.access, work.clock())
    work.access.change(activate, f"agent {work.agent.id} goes live")
    return RunResult()


def _go_on(work: Work) -> RunResult:
    """Let an agent that lacks nothing be active, whatever had stopped it."""

    def activate(manager: SyncManager) -> bool | None:
        if manager.stored(work.agent.id).state != State.STOPPED.value:
            return None
        manager.activate(work.agent.id)
        return True

    work.access.change(activate, f"agent {work.agent.id} goes on")
    return RunResult()


def _is_needed(work: Work) -> bool:
    """Tell whether the agent lacks something that no run can bring."""
    with work.access.snapshot() as manager:
        stored = manager.stored(work.agent.id)
        if stored.state not in (State.ACTIVE.value, State.STOPPED.value) or stored.reason in NEEDS_EVERYTHING:
            return True
        if stored.export is not None:
            return True
    return Run(work, None).destination_differs()


class _Export:
    def __init__(
        self,
        work: Work,
        progress: Progress | None,
        mode: Mode,
        rebuild: bool,
        anew: bool,
        now: float | None,
    ) -> None:
        self._work = work
        self._agent_id = work.agent.id
        self._progress = progress
        self._mode = mode
        self._rebuild = rebuild
        self._anew = anew
        self._live = Run(work, now)
        self._state: dict[str, Any] = {}

    def run(self) -> RunResult:
        work = self._work
        collect_all(work.access, work.clock())
        # The records need a sealed position, on a track where nothing ever happened too.
        work.access.change(lambda manager: manager.collect(work.clock()) >= 0, "seal")
        try:
            work.begin(self._begin)
            self._run_leased()
        finally:
            work.close()
        return work.result

    def _run_leased(self) -> None:
        work = self._work
        try:
            total = count_objects(work.access, work.host)
            work.open()
            if self._send_all(total):
                collect_all(work.access, work.clock())  # what the last snapshots showed is on the track now
                self._end()
            else:
                work.finish()
        except Exception as exc:
            work.fail(exc)
            raise

    def _begin(self, manager: SyncManager, stored: StoredAgent) -> None:
        """Place the pointer and note that an export is under way, or take up one that broke off."""
        known = self._to_go_on_with(stored)
        stored.reason, stored.detail = "", ""
        if known is not None:
            stored.state = State.RECORDING.value
            if self._mode is Mode.INITIAL_ONLY:
                stored.export = known = {**known, "mode": self._mode.value}
            self._state = dict(known)
            return
        track = manager.track
        # Beyond whatever the destination may have from before, so that the sweep can tell: two
        # exports, or a run and an export, may lie within one granularity.
        track.seal(track.sealed + 1)
        position = track.sealed
        if not track.has_pointer(self._agent_id):
            track.add_pointer(self._agent_id, position)
        elif self._needs_new_pointer(manager, stored):
            track.move_pointer(self._agent_id, position)
        stored.state = State.RECORDING.value
        stored.generation += 1
        stored.export = {
            "after": None,
            "done": 0,
            "position": position,
            "mode": self._mode.value,
            "since": time_of_last_commit(manager),
        }
        if self._rebuild:
            stored.export["rebuild"] = f"g{stored.generation}"
        self._state = dict(stored.export)

    def _to_go_on_with(self, stored: StoredAgent) -> dict[str, Any] | None:
        """Return the state of an export that broke off, None where it is to begin anew."""
        known: dict[str, Any] | None = stored.export
        if self._anew or stored.reason in NEEDS_EVERYTHING:
            return None  # another destination is named since, or changes that came after are gone
        if known is not None and self._rebuild and "rebuild" not in known:
            return None  # nothing of it is in the new place
        return known

    def _needs_new_pointer(self, manager: SyncManager, stored: StoredAgent) -> bool:
        pointer = manager.track.get_pointer_timestamp(self._agent_id)
        behind = manager.track.pruned > (-1 if pointer is None else pointer)
        return behind or stored.state == State.STOPPED.value

    def _send_all(self, total: int) -> bool:
        work, state = self._work, self._state
        earlier = state["done"]
        while True:
            ids = ids_after(work.access, work.host, state["after"], CHUNK_SIZE)
            if not ids:
                return True
            if work.must_end():
                return False
            part = work.send(ids, exporting=True)
            part.read += len(ids)
            done = state["done"] + len(ids)
            stopped = work.settle(
                part,
                ids,
                partial(self._note, ids[-1], done),
                f"export of {self._agent_id}: {plural(done, 'object')}",
            )
            if stopped is not None:
                raise stopped
            state["after"], state["done"] = ids[-1], done
            self._deliver_live()
            if self._progress is not None:
                self._progress(ExportProgress(done, max(total, done), state["position"], earlier))

    def _note(self, after: str, done: int, manager: SyncManager, stored: StoredAgent) -> StateForbids | None:
        """Note how far it has come; return why it must not go on, if somebody has seen to that meanwhile."""
        if stored.export is not None:
            stored.export = {**stored.export, "after": after, "done": done}
        return self._forbidden(stored)

    def _forbidden(self, stored: StoredAgent) -> StateForbids | None:
        if stored.state == State.RECORDING.value:
            return None
        why = f" ({stored.reason})" if stored.reason else ""
        first = (
            f"livesync agent activate {self._agent_id}, then: " if stored.state == State.PAUSED.value else ""
        )
        return StateForbids(
            f"agent {self._agent_id!r} was {stored.state}{why} in the middle of its export;"
            f" to go on: {first}livesync agent export {self._agent_id}",
            agent_id=self._agent_id,
            state=stored.state,
        )

    def _deliver_live(self) -> None:
        """Deliver what has changed since the last time, so that nobody waits for the export's end."""
        collect_all(self._work.access, self._work.clock())
        with suppress(StopRequested):  # whoever asked for it is heard before the next chunk
            self._live.deliver_slices(exporting=True)

    def _end(self) -> None:
        """Let the new place take the old one's or sweep out what was not touched; go live."""
        work = self._work
        uploader = work.uploader
        work.make_sure()
        if self._state.get("rebuild"):
            uploader.finish_rebuild()
        else:
            removed = uploader.sweep(self._state["position"])
            if removed:
                logger.info("agent %s: %d objects that are gone were removed", self._agent_id, removed)
        with work.access.snapshot() as manager:
            pointer = manager.track.get_pointer_timestamp(self._agent_id)
        uploader.begin_slice(self._state["position"])
        work.end_slice(-1 if pointer is None else pointer)
        work.finish(self._go_live)

    def _go_live(self, manager: SyncManager, stored: StoredAgent) -> None:
        # Whatever the export's snapshots showed may have been sent: none of it may be cancelled.
        newest = -1 if manager.track.is_empty() else manager.track.most_recent_ts()
        stored.attempted = max(stored.attempted, manager.track.sealed, newest)
        stored.acknowledged, stored.acknowledged_generation = manager.track_id, stored.generation
        stored.export = None
        # everything was read in snapshots that are no older; exports begun by older versions do not say
        stored.accounted = max(stored.accounted, self._state.get("since", 0.0))
        if stored.state == State.RECORDING.value:  # else somebody has paused or stopped it meanwhile
            paused = self._state.get("mode") == Mode.INITIAL_ONLY.value
            stored.state = (State.PAUSED if paused else State.ACTIVE).value
            stored.detail = "paused after its export, as it was asked for" if paused else ""
        self._work.result.till = manager.track.get_pointer_timestamp(self._agent_id)
        stored.last_run = None  # what failed before the export is no longer of interest


def count_objects(access: ManagerAccess, host: Host) -> int:
    """Return how many objects the host has.

    Raises:
        HostFailed: It raised.
    """
    with access.host_snapshot(host) as (_, at):
        try:
            return sum(1 for _ in at.iter_ids())
        except of_the_database(LiveSyncError):
            raise
        except Exception as exc:
            raise _listing_failed(exc) from exc


def ids_after(access: ManagerAccess, host: Host, after: str | None, most: int) -> list[str]:
    """Return the next ids of the host, in one snapshot.

    Raises:
        HostFailed: It raised, or its ids do not ascend.
    """
    with access.host_snapshot(host) as (_, at):
        try:
            ids = list(islice(at.iter_ids(after), most))
        except of_the_database(LiveSyncError):
            raise
        except Exception as exc:
            raise _listing_failed(exc) from exc
    before = after
    for object_id in ids:
        if before is not None and object_id <= before:
            raise HostFailed(
                f"the host lists {object_id!r} after {before!r}: iter_objects must go by ascending ids"
            )
        before = object_id
    return ids


def _listing_failed(exc: Exception) -> HostFailed:
    return HostFailed(f"the host failed to list its objects: {type(exc).__name__}: {exc}")
