"""One run of one agent: slice by slice from the track to the service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from persistent.timestamp import TimeStamp

from ..agent import State, StopReason
from ..errors import AgentStopped, PositionPruned, ServiceRefuses
from ..host import Host
from ..manager import SyncManager
from . import slices
from .access import ManagerAccess, collect_all
from .pointer import OwnPointer, reconcile
from .record import DeadRecord, Op, Record, RunResult
from .reduce import cascading, count_unsent
from .render import Renderer, spool_contents
from .slices import Slice, read_slice, store_dead
from .uploader import Delivery, RecordUploader

if TYPE_CHECKING:
    from .push import PushSyncAgent

logger = logging.getLogger(__name__)

#: Dead records that a result lists; all are kept as dead letters.
_DEAD_SHOWN: Final = 1000

#: Asked whether a run is to end.
Stop = Callable[[], bool]


@dataclass(slots=True)
class _Done:
    """What is to be acknowledged."""

    part: Slice
    dead: list[DeadRecord] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)
    set_aside: set[str] = field(default_factory=set)  # ids whose dead letters are stored already
    ahead: bool = False  # something may have been sent that lies after the slice


class Run:
    """One run of one agent."""

    def __init__(
        self, agent: PushSyncAgent, access: ManagerAccess, host: Host, uploader: RecordUploader, stop: Stop
    ) -> None:
        self._agent = agent
        self._access = access
        self._host = host
        self._uploader = uploader
        self._stop = stop
        self._result = RunResult()
        self._dead_ids: frozenset[str] = frozenset()
        self._now: float | None = None

    def run(self, now: float | None) -> RunResult:
        started = time.perf_counter()
        self._now = now
        try:
            self._deliver_all()
        except Exception as exc:
            self._fail(exc, time.perf_counter() - started)
            raise
        finally:
            self._uploader.close()
        self._result.seconds = time.perf_counter() - started
        self._access.change(self._note_success, f"run of {self._agent.id}")
        logger.info(
            "agent %s: till %s: %d actions, %d accepted, %d dead in %.3f s",
            self._agent.id, self._result.till, self._result.read,
            self._result.accepted, self._result.dead, self._result.seconds,
        )  # fmt: skip
        return self._result

    def _deliver_all(self) -> None:
        # Sealing positions that are still open lets this run deliver what was committed just before
        # it, even where another run has sealed the current second already.
        collect_all(self._access, self._clock(), seal_newest=self._now is None)
        self._begin()
        done: _Done | None = None
        while True:
            # one short transaction: the slice before is acknowledged, this one is read and announced
            part = self._access.change(lambda manager, done=done: self._turn(manager, done), "acknowledge")  # type: ignore[misc]
            if part is None or part.part is None:
                return
            if self._stop():
                return
            done = self._deliver(part.part)

    # -- the destination's pointer ---------------------------------------------------------------

    def _begin(self) -> None:
        own = self._own_pointer()
        self._uploader.open(Delivery(self._agent.id, own.track_id, own.generation))
        if not self._uploader.keeps_pointer:
            return
        theirs = self._uploader.read_pointer()
        # Ours is read after theirs: else another runner between the two would make theirs look newer.
        own = self._own_pointer()
        start = reconcile(own, theirs)
        if start.reason is not None:
            raise AgentStopped(
                f"agent {self._agent.id!r} is stopped ({start.reason.value}): {start.detail};"
                f" to send everything anew: livesync agent export {self._agent.id}",
                reason=start.reason.value,
                detail=start.detail,
            )
        if start.position != own.position:
            logger.warning(
                "agent %s: the destination stands at %d, not %d", self._agent.id, start.position, own.position
            )
            self._access.change(
                lambda manager: self._move_pointer(manager, start.position), "follow the destination"
            )

    def _own_pointer(self) -> OwnPointer:
        with self._access.snapshot() as manager:
            stored = manager.stored(self._agent.id)
            position = manager.track.get_pointer_timestamp(self._agent.id)
            self._dead_ids = frozenset(stored.dead)
            here = stored.acknowledged == manager.track_id
            return OwnPointer(
                -1 if position is None else position,
                manager.track_id,
                stored.generation,
                stored.acknowledged_generation if here else 0,
                stored.attempted,
                manager.track.sealed,
                manager.track.pruned,
            )

    def _move_pointer(self, manager: SyncManager, position: int) -> bool:
        manager.track.move_pointer(self._agent.id, None if position < 0 else position)
        return True

    # -- slices ----------------------------------------------------------------------------------

    def _turn(self, manager: SyncManager, done: _Done | None) -> _Turn | None:
        """Acknowledge a slice and read the next; None: nothing to write."""
        if done is not None:
            self._acknowledge(manager, done)
        part = read_slice(manager, self._agent.id)
        self._result.till = manager.track.get_pointer_timestamp(self._agent.id)
        if part is None:
            return _Turn(None) if done is not None else None
        stored = manager.stored(self._agent.id)
        if done is None and stored.attempted > part.before:
            # A run broke off, and nobody knows what its snapshots showed: at most what is there now.
            stored.shown = _time_of_last_commit(manager)
        self._agent.attempted, self._agent.shown = stored.attempted, stored.shown
        if part.till > stored.attempted:
            stored.attempted = part.till
        return _Turn(part)

    def _acknowledge(self, manager: SyncManager, done: _Done) -> None:
        agent_id, part = self._agent.id, done.part
        stored = manager.stored(agent_id)
        if part.offset:
            manager.track.move_pointer_inside(agent_id, part.offset)
        else:
            self._agent.acknowledge(manager, part.till)
            if stored.catching_up_to >= 0 and part.till >= stored.catching_up_to:
                stored.catching_up_to = -1
        if (stored.acknowledged, stored.acknowledged_generation) != (manager.track_id, stored.generation):
            stored.acknowledged, stored.acknowledged_generation = manager.track_id, stored.generation
        if done.ahead:
            stored.shown = _time_of_last_commit(manager)
        store_dead(stored, (), done.delivered - done.set_aside, self._clock())

    def _deliver(self, part: Slice) -> _Done:
        uploader, agent = self._uploader, self._agent
        self._result.read += len(part.items)
        sent: set[str] = set()
        outcome = _Done(part)
        inside = cascading(part.items)
        renderer = Renderer(self._access, self._host, agent, uploader.batch_size)
        try:
            uploader.begin_slice(part.till)
            records = noting(agent._generate_records(iter(part.items), part.till), sent)
            self._count(agent._run(renderer.render(records, part.catching_up), uploader), renderer, outcome)
            if inside:
                uploader.end_slice(None)
                for object_id, words in inside.items():
                    self._cascade(object_id, words, part, renderer, outcome, sent)
                uploader.begin_slice(part.till)
            self._set_aside(outcome)
            # A part of a position leaves the destination's pointer where it stood, but sees to it
            # that there is one.
            uploader.end_slice(part.before if part.offset else part.till)
        except BaseException:
            uploader.abandon_slice()
            raise
        coalesced, cancelled = count_unsent(part.items, sent)
        self._result.coalesced += coalesced
        self._result.cancelled += cancelled
        outcome.delivered |= self._dead_ids & sent
        outcome.ahead = bool(inside) or renderer.returned > 0
        return outcome

    def _set_aside(self, outcome: _Done) -> None:
        """Store dead letters before the destination moves its pointer: then no crash can lose them."""
        dead, outcome.dead = outcome.dead, []
        if not dead:
            return

        def note(manager: SyncManager) -> bool:
            store_dead(manager.stored(self._agent.id), dead, (), self._clock())
            return True

        self._access.change(note, f"dead letters of {self._agent.id}")
        outcome.set_aside |= {record.object_id for record in dead}

    def _clock(self) -> float:
        return time.time() if self._now is None else self._now

    def _cascade(
        self,
        object_id: str,
        words: frozenset[str],
        part: Slice,
        renderer: Renderer,
        outcome: _Done,
        sent: set[str],
    ) -> None:
        """Send everything inside an object, in slices of their own; ``sent`` has gone out already."""
        spool = spool_contents(self._access, self._host, object_id, sent)
        try:
            ids = iter(spool)
            for _ in range(0, spool.count, slices.SLICE_SIZE):
                self._uploader.begin_slice(part.till)
                records = self._inner_records(ids, words, part.till, outcome)
                self._count(
                    self._agent._run(renderer.render(records, part.catching_up), self._uploader),
                    renderer,
                    outcome,
                )
                self._uploader.end_slice(None)
            self._result.cascaded += spool.count
        finally:
            spool.close()

    def _inner_records(
        self, ids: Iterator[str], words: frozenset[str], till: int, outcome: _Done
    ) -> Iterator[Record]:
        for _, inner_id in zip(range(slices.SLICE_SIZE), ids):
            if inner_id in self._dead_ids:
                outcome.delivered.add(inner_id)
            yield Record(Op.UPSERT, inner_id, till, words)

    def _count(self, sent: RunResult, renderer: Renderer, outcome: _Done) -> None:
        outcome.dead += renderer.dead + sent.dead_records
        self._result.add(sent)
        self._result.dead += len(renderer.dead)
        room = _DEAD_SHOWN - len(self._result.dead_records)
        self._result.dead_records += (renderer.dead + sent.dead_records)[:room]
        self._result.excluded += renderer.excluded
        renderer.dead, renderer.excluded = [], 0

    # -- the end ---------------------------------------------------------------------------------

    def _note_success(self, manager: SyncManager) -> bool | None:
        stored = manager.stored(self._agent.id)
        became_active = stored.state == State.STOPPED.value
        if became_active:
            manager.activate(self._agent.id)
        had_error = bool((stored.last_run or {}).get("error"))
        if self._result.read or became_active or had_error or stored.interval_s is not None:
            stored.last_run = self._summary()
            return True
        return None

    def _fail(self, exc: BaseException, seconds: float) -> None:
        self._result.seconds = seconds
        reason, detail = _stop_reason(exc)
        error = " ".join(str(exc).split())[:500]

        def note(manager: SyncManager) -> bool:
            stored = manager.stored(self._agent.id)
            if reason is not None:
                manager.stop_agent(self._agent.id, reason, detail)
            stored.last_run = {**self._summary(), "error": error}
            return True

        try:
            self._access.change(note, f"run of {self._agent.id} failed")
        except Exception:
            # the reason why the run failed is worth more than why it could not be noted
            logger.exception("agent %s: the failure of a run could not be noted", self._agent.id)

    def _summary(self) -> dict[str, Any]:
        summary = asdict(self._result)
        del summary["dead_records"]
        summary["time"] = self._clock()
        return summary


@dataclass(slots=True)
class _Turn:
    part: Slice | None


def _time_of_last_commit(manager: SyncManager) -> float:
    """Return the time of the last commit that a snapshot of the manager's connection can have shown."""
    return float(TimeStamp(manager._p_jar._storage.lastTransaction()).timeTime())


def _stop_reason(exc: BaseException) -> tuple[StopReason | None, str]:
    if isinstance(exc, AgentStopped):
        return StopReason(exc.reason), exc.detail
    if isinstance(exc, ServiceRefuses):
        return StopReason.SERVICE_REFUSES, exc.reason
    if isinstance(exc, PositionPruned):
        return StopReason.NEEDS_EXPORT, str(exc)
    return None, ""


def noting(records: Iterable[Record], sent: set[str]) -> Iterator[Record]:
    for record in records:
        sent.add(record.object_id)
        yield record
