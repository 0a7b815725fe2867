"""One run of one agent: slice by slice from the track to the service."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from persistent.timestamp import TimeStamp

from ..agent import State, StopReason
from ..errors import AgentStopped, DeliveryError, PositionPruned
from ..manager import SyncManager
from ..track import queue
from ..track.stored import QueuePage, StoredAgent
from . import slices
from .access import collect_all
from .pointer import OwnPointer, Start, reconcile
from .record import Op, Record, RunResult
from .reduce import cascading, count_unsent
from .render import Renderer, Spool, spool_contents
from .slices import Slice, is_behind, read_slice, slice_size
from .uploader import DEFAULT_SLOW_ABOVE, DEFAULT_SLOW_BUDGET
from .work import Noted, StopRequested, Work, summary

if TYPE_CHECKING:
    from .push import PushSyncAgent

logger = logging.getLogger(__name__)

#: What an agent's ``shown`` is while something is sent to it apart from the track: more than any time.
ANYTHING: Final = math.inf


@dataclass(slots=True)
class Done:
    """What is to be acknowledged.

    Attributes:
        part: The slice.
        result: What became of it.
        delivered: Objects that were sent and had a dead letter.
        ahead: Something may have been sent that lies after the slice.
    """

    part: Slice
    result: RunResult = field(default_factory=RunResult)
    delivered: list[str] = field(default_factory=list)
    ahead: bool = False


class Run:
    """One run of one agent."""

    def __init__(self, work: Work, now: float | None) -> None:
        self._work = work
        self._agent: PushSyncAgent = work.agent
        self._uploader = work.uploader
        self._access = work.access
        self._seal_newest = now is None and work.agent.seals_newest
        self._slice_size = slice_size(work.uploader.batch_size, work.uploader.in_flight)
        self._slow_above: int = self._agent.values.get("slow_above", DEFAULT_SLOW_ABOVE)
        self._slow_budget: int = self._agent.values.get("slow_budget", DEFAULT_SLOW_BUDGET)
        self._left_off = False

    def run(self) -> RunResult:
        work = self._work
        # Sealing positions that are still open lets this run deliver what was committed just before
        # it, even where another run has sealed the current second already.
        collect_all(self._access, work.clock(), seal_newest=self._seal_newest)
        try:
            if not self._has_work():
                # Without a lease, since nothing is written but when it was; that the destination has
                # become another one is noticed all the same.
                return self._look_only()
        except Exception:
            work.close()
            raise
        try:
            work.begin()
        except BaseException:
            work.close()
            raise
        return self._run_leased()

    def _run_leased(self) -> RunResult:
        work = self._work
        try:
            try:
                self._start_at_pointer()
                self.deliver_slices()
                self._deliver_queue()
            except StopRequested:
                self._left_off = True
            if self._left_off:
                logger.info("agent %s: the run was asked to end", self._agent.id)
            work.finish(self._note_success)
        except Exception as exc:
            work.fail(exc)
            raise
        finally:
            work.close()
        return work.result

    def _has_work(self) -> bool:
        with self._access.snapshot() as manager:
            stored = manager.stored(self._agent.id)
            try:
                behind = is_behind(manager, self._agent.id)
            except PositionPruned:
                return True  # that is to be noted
            return (
                (behind and not self._lingers(manager, stored))
                or bool(stored.queue)
                or stored.state != State.ACTIVE.value
                or bool((stored.last_run or {}).get("error"))
            )

    def _lingers(self, manager: SyncManager, stored: StoredAgent) -> bool:
        """Tell whether there is too little to do yet, and nothing of it is old enough."""
        linger_s = self._agent.values.get("linger_s", 0.0)
        if not linger_s or stored.state != State.ACTIVE.value:
            return False  # (a run that has tried nothing must not make an agent active)
        items = list(islice(manager.query(self._agent.id), self._uploader.batch_size))
        if not items or len(items) >= self._uploader.batch_size:
            return False
        return bool(self._work.clock() - items[0][1].timestamp < linger_s)

    def _look_only(self) -> RunResult:
        work = self._work
        try:
            work.open()
            agrees = not self._uploader.keeps_pointer or self._agrees()
        except DeliveryError:
            agrees = False  # a run that may write says so, and notes it
        if not agrees:
            self._uploader.close()
            work.begin()
            return self._run_leased()
        work.close()
        work.result.till = self._pointer_or_none()

        def note(manager: SyncManager) -> bool | None:
            stored = manager.stored(self._agent.id)
            if stored.interval_s is None and not stored.cron:
                return None
            stored.last_run = {**summary(work.result), "time": work.clock()}
            return True

        self._access.change(note, f"run of {self._agent.id}: nothing to do")
        return work.result

    def destination_differs(self) -> bool:
        """Tell whether the destination has become another one, or was emptied; only looks."""
        try:
            self._work.open()
            return self._uploader.keeps_pointer and self._compared().reason is not None
        finally:
            self._work.close()

    def _pointer_or_none(self) -> int | None:
        with self._access.snapshot() as manager:
            return manager.track.get_pointer_timestamp(self._agent.id)

    # -- the destination's pointer ---------------------------------------------------------------

    def _start_at_pointer(self) -> None:
        self._work.open()
        if not self._uploader.keeps_pointer:
            return
        start = self._compared()
        if start.reason is not None:
            raise AgentStopped(
                f"agent {self._agent.id!r} is stopped ({start.reason.value}): {start.detail};"
                f" to send everything anew: livesync agent export {self._agent.id}",
                reason=start.reason.value,
                detail=start.detail,
            )
        own = self._own_pointer()
        if start.position != own.position:
            logger.warning(
                "agent %s: the destination stands at %d, not %d", self._agent.id, start.position, own.position
            )
            self._work.change(
                lambda manager: self._move_pointer(manager, start.position), "follow the destination"
            )

    def _agrees(self) -> bool:
        start = self._compared()
        return start.reason is None and start.position == self._own_pointer().position

    def _compared(self) -> Start:
        theirs = self._uploader.read_pointer()
        # Ours is read after theirs: else another runner between the two would make theirs look newer.
        return reconcile(self._own_pointer(), theirs)

    def _own_pointer(self) -> OwnPointer:
        with self._access.snapshot() as manager:
            stored = manager.stored(self._agent.id)
            position = manager.track.get_pointer_timestamp(self._agent.id)
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
        # The run that got so far has not noted what its snapshots showed beyond it: at most what is
        # there now.
        manager.stored(self._agent.id).shown = time_of_last_commit(manager)
        manager.track.move_pointer(self._agent.id, None if position < 0 else position)
        return True

    # -- slices ----------------------------------------------------------------------------------

    def deliver_slices(self, exporting: bool = False) -> None:
        """Deliver what lies after the pointer, slice by slice.

        Args:
            exporting: An export is under way: the destination's pointer stays where it is.
        """
        part = self._work.change(lambda manager: self._next(manager, exporting, first=True), "announce")
        while part is not None:
            if self._work.must_end():
                self._left_off = True
                return
            done = self._deliver(part, exporting)
            # one short transaction: this slice is acknowledged, the next one is read and announced
            part = self._work.settle(
                done.result, done.delivered, partial(self._turn, done, exporting), "acknowledge"
            )

    def _turn(self, done: Done, exporting: bool, manager: SyncManager, stored: StoredAgent) -> Slice | None:
        """Acknowledge a slice and read the next."""
        self._acknowledge(manager, stored, done)
        return self._next(manager, exporting)

    def _next(self, manager: SyncManager, exporting: bool, first: bool = False) -> Slice | None:
        """Return the next slice, announced; None: there is none, or it is not for now."""
        stored = manager.stored(self._agent.id)
        if not exporting and not may_go_on(stored.state, stored.reason):
            return None  # it was paused meanwhile
        if first and not exporting and self._lingers(manager, stored):
            return None
        part = read_slice(manager, self._agent.id, self._slice_size)
        if part is None:
            return None
        if first and (stored.attempted > part.before or stored.shown == ANYTHING):
            # A run broke off, and nobody knows what its snapshots showed: at most what is there now.
            stored.shown = time_of_last_commit(manager)
        # While an export is under way, anything may have been sent.
        self._agent.attempted = None if exporting else stored.attempted
        self._agent.shown = stored.shown
        if part.till > stored.attempted:
            stored.attempted = part.till
        return part

    def _acknowledge(self, manager: SyncManager, stored: StoredAgent, done: Done) -> None:
        agent_id, part = self._agent.id, done.part
        if part.offset:
            manager.track.move_pointer_inside(agent_id, part.offset)
        else:
            self._agent.acknowledge(manager, part.till)
            if stored.catching_up_to >= 0 and part.till >= stored.catching_up_to:
                stored.catching_up_to = -1
        if (stored.acknowledged, stored.acknowledged_generation) != (manager.track_id, stored.generation):
            stored.acknowledged, stored.acknowledged_generation = manager.track_id, stored.generation
        if done.ahead:
            stored.shown = time_of_last_commit(manager)

    def _deliver(self, part: Slice, exporting: bool) -> Done:
        work, uploader, agent = self._work, self._uploader, self._agent
        done = Done(part)
        done.result.read = len(part.changes)
        noted = Noted()
        inside = cascading(part.changes)
        renderer = work.renderer()
        try:
            uploader.begin_slice(part.till)
            records = noted(agent._generate_records(part.changes, part.till))
            work.upload(records, renderer, done.result, part.catching_up)
            done.delivered += work.had_dead_letter(noted.ids)
            self._count_unsent(done, noted)
            if inside:
                work.end_slice(None)
                for object_id, words in inside.items():
                    self._cascade(object_id, words, renderer, done, noted.ids)
                uploader.begin_slice(part.till)
            work.keep_dead(done.result)
            # A part of a position leaves the destination's pointer where it stood, but sees to it
            # that there is one. An export moves it at its own end.
            work.end_slice(None if exporting else part.before if part.offset else part.till)
        except BaseException:
            uploader.abandon_slice()
            raise
        done.ahead = bool(inside) or renderer.returned > 0
        return done

    def _count_unsent(self, done: Done, noted: Noted) -> None:
        changes = done.part.changes
        coalesced, cancelled = count_unsent(changes, noted.ids)
        done.result.coalesced += coalesced
        done.result.cancelled += cancelled
        # an agent type of somebody's own may make records of objects that no action speaks of
        done.result.cascaded += noted.count - (len(changes) - coalesced - cancelled)

    def _cascade(
        self, object_id: str, words: frozenset[str], renderer: Renderer, done: Done, sent: set[str]
    ) -> None:
        """Send everything inside an object, in slices of their own; ``sent`` has gone out already."""
        spool = spool_contents(self._access, self._work.host, object_id, sent)
        try:
            if spool.count > self._slow_above:
                self._enqueue(spool, words)
                return
            ids = iter(spool)
            for _ in range(0, spool.count, slices.SLICE_SIZE):
                if self._work.must_end():
                    raise StopRequested
                self._uploader.begin_slice(done.part.till)
                records = self._inner_records(ids, words, done)
                self._work.upload(records, renderer, done.result, done.part.catching_up)
                self._work.end_slice(None)
            done.result.cascaded += spool.count
        finally:
            spool.close()

    def _inner_records(self, ids: Iterator[str], words: frozenset[str], done: Done) -> Iterator[Record]:
        for _, inner_id in zip(range(slices.SLICE_SIZE), ids):
            done.delivered += self._work.had_dead_letter((inner_id,))
            yield Record(Op.UPSERT, inner_id, done.part.till, words)

    # -- the slow queue --------------------------------------------------------------------------

    def _enqueue(self, spool: Spool, words: frozenset[str]) -> None:
        """Put ids into the slow queue; a crash in the middle puts some there twice, which does no harm."""
        logger.info("agent %s: %d objects inside go to the slow queue", self._agent.id, spool.count)
        for page in queue.pages_of(spool, words):
            self._work.change(partial(self._put, page), f"slow queue of {self._agent.id}")

    def _put(self, page: QueuePage, manager: SyncManager) -> bool:
        queue.put(manager.stored(self._agent.id), page)
        return True

    def _deliver_queue(self) -> None:
        """Send what is queued, as much as one run may."""
        left = self._slow_budget
        while left > 0:
            if self._work.must_end():
                self._left_off = True
                return
            with self._access.snapshot() as manager:
                stored = manager.stored(self._agent.id)
                found = queue.first(stored) if may_go_on(stored.state, stored.reason) else None
                if found is None:
                    return
                number, page = found
                ids, words, oid = tuple(dict.fromkeys(page.ids))[:left], page.words, page._p_oid
            part = self._work.send(ids, words)
            part.cascaded += len(ids)
            left -= max(len(ids), 1)
            self._work.settle(
                part,
                self._work.had_dead_letter(ids),
                partial(self._take_out, number, oid, frozenset(ids)),
                f"slow queue of {self._agent.id}",
            )

    @staticmethod
    def _take_out(
        number: int, oid: bytes, ids: frozenset[str], manager: SyncManager, stored: StoredAgent
    ) -> None:
        """Take what was sent out of the queue, unless that was emptied and filled anew meanwhile."""
        page = stored.queue.get(number)
        if page is not None and page._p_oid == oid:
            rest = tuple(object_id for object_id in page.ids if object_id not in ids)
            if rest:
                page.ids = rest
            else:
                del stored.queue[number]
        # what was sent may show changes that lie after the pointer
        stored.shown = time_of_last_commit(manager)

    # -- the end ---------------------------------------------------------------------------------

    def _note_success(self, manager: SyncManager, stored: StoredAgent) -> None:
        mended = stored.state == State.STOPPED.value and stored.reason != StopReason.NEEDS_EXPORT.value
        if mended and not self._left_off:
            manager.activate(self._agent.id)
        self._work.result.till = manager.track.get_pointer_timestamp(self._agent.id)
        stored.last_run = {**summary(self._work.result), "time": self._work.clock()}


def may_go_on(state: str, reason: str) -> bool:
    """Tell whether an agent in this state may be run."""
    if state == State.ACTIVE.value:
        return True
    return state == State.STOPPED.value and reason != StopReason.NEEDS_EXPORT.value


def time_of_last_commit(manager: SyncManager) -> float:
    """Return the time of the last commit that a snapshot of the manager's connection can have shown."""
    return float(TimeStamp(manager._p_jar._storage.lastTransaction()).timeTime())
