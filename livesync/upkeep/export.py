"""Backfill: sending everything that exists, and then going live.

The agent's pointer is placed first, so whatever changes while the export is under way is delivered
afterwards. The export walks the host by ascending ids and notes how far it has come, so one that
broke off goes on where it stood. Records carry the last sealed position of the snapshot they are
rendered from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..agent import State, StopReason
from ..delivery.access import ManagerAccess, collect_all
from ..delivery.push import PushSyncAgent, bring_up_to_date
from ..delivery.record import Op, Record, RunResult
from ..delivery.render import Renderer
from ..delivery.run import Stop
from ..delivery.slices import store_dead
from ..delivery.uploader import Delivery, RecordUploader
from ..errors import HostFailed, LiveSyncError, ServiceRefuses, StateForbids
from ..host import Host
from ..manager import SyncManager

logger = logging.getLogger(__name__)

#: Objects between two notes of how far an export has come.
CHUNK_SIZE: Final = 5_000


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export has come.

    Attributes:
        done: Objects looked at, those of earlier attempts included.
        total: How many there are, as counted at the beginning.
        position: The last sealed position when it began.
    """

    done: int
    total: int
    position: int


def export(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    progress: Callable[[ExportProgress], None] | None = None,
    stop: Stop | None = None,
    now: float | None = None,
) -> RunResult:
    """Send everything that exists to an agent's service; the agent is active afterwards.

    Call it between transactions. One that broke off, or that ``stop`` ended, leaves the agent
    ``recording``; the next call goes on where it stood.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Which agent.
        host: The application.
        progress: Told after each chunk.
        stop: Asked between chunks; True ends the export for now.
        now: Epoch seconds; None: the wall clock.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is paused, or no agent that pushes.
        ServiceRefuses, RetryLater, HostFailed: As in a run.
    """
    access = ManagerAccess(manager)
    try:
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
        result = _Export(agent, access, host, uploader_type(agent), stop or (lambda: False)).run(
            progress, now
        )
    finally:
        access.close()
    bring_up_to_date(manager)
    return result


class _Export:
    def __init__(
        self, agent: PushSyncAgent, access: ManagerAccess, host: Host, uploader: RecordUploader, stop: Stop
    ) -> None:
        self._agent = agent
        self._access = access
        self._host = host
        self._uploader = uploader
        self._stop = stop
        self._result = RunResult()

    def run(self, progress: Callable[[ExportProgress], None] | None, now: float | None) -> RunResult:
        started = time.perf_counter()
        clock = time.time() if now is None else now
        collect_all(self._access, clock)
        # The records need a sealed position, on a track where nothing ever happened too.
        self._access.change(lambda manager: manager.collect(clock) >= 0, "seal")
        state = self._access.change(self._begin, f"export of {self._agent.id} begins")
        assert state is not None
        total = self._count_objects()
        try:
            with self._access.snapshot() as manager:
                delivery = Delivery(
                    self._agent.id, manager.track_id, manager.stored(self._agent.id).generation
                )
            self._uploader.open(delivery)
            finished = self._send_all(state, total, progress, clock)
            if finished:
                collect_all(self._access, clock)  # what the last snapshots showed is on the track now
                self._end(state)
        except LiveSyncError as exc:
            self._fail(exc)
            raise
        finally:
            self._uploader.close()
        self._result.seconds = time.perf_counter() - started
        return self._result

    def _begin(self, manager: SyncManager) -> dict[str, Any]:
        """Place the pointer and note that an export is under way, or take up one that broke off."""
        stored = manager.stored(self._agent.id)
        if stored.state == State.RECORDING.value and stored.export is not None:
            return dict(stored.export)
        track = manager.track
        # Beyond whatever the destination may have from before, so that the sweep can tell: two
        # exports, or a run and an export, may lie within one granularity.
        track.seal(track.sealed + 1)
        position = track.sealed
        if not track.has_pointer(self._agent.id):
            track.add_pointer(self._agent.id, position)
        elif stored.reason == StopReason.NEEDS_EXPORT.value or track.pruned > (
            track.get_pointer_timestamp(self._agent.id) or -1
        ):
            track.move_pointer(self._agent.id, position)
        stored.state, stored.reason, stored.detail = State.RECORDING.value, "", ""
        stored.generation += 1
        stored.export = {"after": None, "done": 0, "position": position}
        return dict(stored.export)

    def _count_objects(self) -> int:
        with self._access.host_snapshot(self._host) as (_, host):
            try:
                return sum(1 for _ in host.iter_ids())
            except LiveSyncError:
                raise
            except Exception as exc:
                raise HostFailed(f"the host failed to list its objects: {type(exc).__name__}: {exc}") from exc

    def _send_all(
        self, state: dict[str, Any], total: int, progress: Callable[[ExportProgress], None] | None, now: float
    ) -> bool:
        while True:
            ids, position = self._next_ids(state["after"])
            if not ids:
                return True
            if self._stop():
                return False
            self._send(ids, position, now, state)
            state["after"], state["done"] = ids[-1], state["done"] + len(ids)
            if progress is not None:
                progress(ExportProgress(state["done"], max(total, state["done"]), state["position"]))

    def _next_ids(self, after: str | None) -> tuple[list[str], int]:
        with self._access.host_snapshot(self._host) as (manager, host):
            try:
                ids = [object_id for _, object_id in zip(range(CHUNK_SIZE), host.iter_ids(after))]
            except LiveSyncError:
                raise
            except Exception as exc:
                raise HostFailed(f"the host failed to list its objects: {type(exc).__name__}: {exc}") from exc
            return ids, max(manager.track.sealed, 0)

    def _send(self, ids: list[str], position: int, now: float, state: dict[str, Any]) -> None:
        renderer = Renderer(self._access, self._host, self._agent, self._uploader.batch_size)
        records: Iterator[Record] = (Record(Op.UPSERT, object_id, position) for object_id in ids)
        try:
            self._uploader.begin_slice(position)
            sent = self._agent._run(renderer.render(records, at_sealed=True), self._uploader)
            self._uploader.end_slice(None)
        except BaseException:
            self._uploader.abandon_slice()
            raise
        dead = renderer.dead + sent.dead_records
        self._result.add(sent)
        self._result.dead += len(renderer.dead)
        self._result.dead_records += dead
        self._result.excluded += renderer.excluded
        done = state["done"] + len(ids)

        def note(manager: SyncManager) -> bool:
            stored = manager.stored(self._agent.id)
            store_dead(stored, dead, ids, now)
            stored.export = {**(stored.export or {}), "after": ids[-1], "done": done}
            return True

        self._access.change(note, f"export of {self._agent.id}: {done} objects")

    def _end(self, state: dict[str, Any]) -> None:
        """Sweep out what the export did not touch, let the destination keep the pointer, go live."""
        removed = self._uploader.sweep(state["position"])
        if removed:
            logger.info("agent %s: %d objects that are gone were removed", self._agent.id, removed)
        with self._access.snapshot() as manager:
            pointer = manager.track.get_pointer_timestamp(self._agent.id)
        self._uploader.begin_slice(state["position"])
        self._uploader.end_slice(-1 if pointer is None else pointer)

        def activate(manager: SyncManager) -> bool:
            stored = manager.stored(self._agent.id)
            # Whatever the export's snapshots showed may have been sent: none of it may be cancelled.
            newest = -1 if manager.track.is_empty() else manager.track.most_recent_ts()
            stored.attempted = max(stored.attempted, manager.track.sealed, newest)
            stored.acknowledged, stored.acknowledged_generation = manager.track_id, stored.generation
            stored.export = None
            stored.state = State.ACTIVE.value
            self._result.till = pointer
            return True

        self._access.change(activate, f"export of {self._agent.id} ends")

    def _fail(self, exc: LiveSyncError) -> None:
        error = " ".join(str(exc).split())[:500]

        def note(manager: SyncManager) -> bool:
            stored = manager.stored(self._agent.id)
            stored.last_run = {"time": time.time(), "error": error}
            if isinstance(exc, ServiceRefuses):
                stored.detail = error
            return True

        self._access.change(note, f"export of {self._agent.id} failed")
