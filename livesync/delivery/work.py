"""One runner at work for one agent: its lease, its line in the ledger, and what it has to note.

Runs, exports, repairs and retries are all this. Whatever they send, its outcome is noted in one
short transaction with whatever made it necessary: the pointer, the dead letters, the ledger.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .. import leases
from ..agent import State, StopReason
from ..errors import AgentStopped, LeaseLost, PositionPruned, RetryLater, ServiceRefuses, TooManyRefused
from ..host import Host
from ..manager import SyncManager
from ..track.stored import StoredAgent
from . import ledger
from .access import ManagerAccess
from .deadletters import store_dead
from .hold import Hold
from .measures import Histogram
from .pace import Refusals
from .record import Op, Record, RunResult
from .render import Renderer
from .uploader import Delivery, RecordUploader, never

if TYPE_CHECKING:
    from .push import PushSyncAgent

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: The kind of work that sends dead letters again.
RETRY: Final = "retry"

#: Dead records that a result lists; all are kept as dead letters.
_DEAD_SHOWN: Final = 1000

#: Asked whether a run is to end.
Stop = Callable[[], bool]


#: What is done in a transaction of the work's, besides what it notes itself.
Also = Callable[[SyncManager, StoredAgent], object]


def _nothing(manager: SyncManager, stored: StoredAgent) -> None:
    """Stand for an :data:`Also` of nobody's."""


class StopRequested(Exception):
    """Raised inside a run that was asked to end, where it can leave off; never leaves it."""


class Work:
    """What one runner does for one agent, from taking the lease to giving it back.

    Args:
        agent: The agent.
        access: To its manager.
        host: The application.
        uploader: Made for this.
        kind: ``run``, ``export``, ``repair`` or ``retry``.
        stop: Asked whether to end; None: it goes on to its end.
        now: Epoch seconds; None: the wall clock.
        lease_s: How long the lease holds unless it is renewed.
    """

    def __init__(
        self,
        agent: PushSyncAgent,
        access: ManagerAccess,
        host: Host,
        uploader: RecordUploader,
        kind: str,
        stop: Stop | None = None,
        now: float | None = None,
        lease_s: float = leases.LEASE_S,
    ) -> None:
        self.agent = agent
        self.access = access
        self.host = host
        self.uploader = uploader
        self.kind = kind
        self.result = RunResult()
        self._stop = stop or never
        self._now = now
        self._hold = Hold(access, agent.id, kind, lease_s)
        self._line = -1
        self._began = time.perf_counter()
        self._dead_ids: frozenset[str] = frozenset()

    # -- beginning and ending --------------------------------------------------------------------

    def begin(self, also: Also = _nothing) -> None:
        """Take the lease and begin a line in the ledger, and do ``also``, in one transaction.

        Raises:
            Leased: Another runner holds the agent.
        """

        def start(manager: SyncManager) -> None:
            stored = manager.stored(self.agent.id)
            self._line = ledger.begin(stored, self.kind, self.clock())
            self._dead_ids = frozenset(stored.dead)
            if self.kind == RETRY:
                # What died once may well die again: that says nothing of the service.
                self.uploader.refusals = Refusals(1, sys.maxsize)
            else:
                self.uploader.refusals = self.uploader.count_refusals(stored.refusals)
            also(manager, stored)

        self._hold.take(start)
        self.uploader.stop = self.must_end

    def open(self) -> None:
        """Open the uploader for the agent as it stands."""
        with self.access.snapshot() as manager:
            stored = manager.stored(self.agent.id)
            rebuild = str((stored.export or {}).get("rebuild", ""))
            delivery = Delivery(self.agent.id, manager.track_id, stored.generation, self._hold.token, rebuild)
        self.uploader.open(delivery)

    def finish(self, also: Also = _nothing) -> None:
        """End the line in the ledger, do ``also``, and give the lease back, in one transaction."""
        self.result.seconds = time.perf_counter() - self._began

        def end(manager: SyncManager) -> bool:
            stored = manager.stored(self.agent.id)
            also(manager, stored)
            ledger.note(stored, self._line, self.result, self.clock())
            self._hold.release(manager)
            return True

        self._hold.change(end, f"{self.kind} of {self.agent.id} ends")
        left = self.result.balance()
        if left:
            logger.error("agent %s: the ledger does not balance: %d not accounted for", self.agent.id, left)
        logger.info(
            "%s agent=%s till=%s read=%d accepted=%d stale=%d dead=%d seconds=%.3f",
            self.kind, self.agent.id, self.result.till, self.result.read, self.result.accepted,
            self.result.stale, self.result.dead, self.result.seconds,
            extra={"livesync": {"event": self.kind, "agent": self.agent.id, **summary(self.result)}},
        )  # fmt: skip

    def fail(self, exc: BaseException, also: Also = _nothing) -> None:
        """Note why it ended, stop the agent where that is what it means, and give the lease back.

        Of a run whose lease is lost nothing is noted.
        """
        self.result.seconds = time.perf_counter() - self._began
        if self._hold.lost or isinstance(exc, LeaseLost):
            logger.warning("agent %s: %s", self.agent.id, exc)
            return
        reason, detail = stop_reason(exc)
        error = shortened(exc)

        def note(manager: SyncManager) -> bool:
            stored = manager.stored(self.agent.id)
            also(manager, stored)
            if manager.track.has_pointer(self.agent.id):
                self.result.till = manager.track.get_pointer_timestamp(self.agent.id)
            if reason is not None:
                stored.refusals = ()  # whoever lets it go on has looked at it
                self._stop_agent(manager, stored, reason, detail)
            stored.last_run = {**summary(self.result), "time": self.clock(), "error": error}
            ledger.note(stored, self._line, self.result, self.clock(), error)
            self._hold.release(manager)
            return True

        try:
            self._hold.change(note, f"{self.kind} of {self.agent.id} failed")
        except LeaseLost as lost:
            logger.warning("agent %s: %s", self.agent.id, lost)
        except Exception:
            # the reason why it failed is worth more than why it could not be noted
            logger.exception("agent %s: the failure could not be noted", self.agent.id)

    def _stop_agent(self, manager: SyncManager, stored: StoredAgent, reason: StopReason, detail: str) -> None:
        if stored.state in (State.RECORDING.value, State.PAUSED.value):
            stored.detail = detail  # it still needs the rest of its export, or was paused meanwhile
        elif stored.reason != StopReason.NEEDS_EXPORT.value:
            manager.stop_agent(self.agent.id, reason, detail)

    def close(self) -> None:
        """Let go of the service, and of the lease where an interrupt has kept it from being given back."""
        try:
            self.uploader.close()
        finally:
            self._hold.close()

    # -- at work ---------------------------------------------------------------------------------

    def clock(self) -> float:
        """Return the time: epoch seconds."""
        return time.time() if self._now is None else self._now

    def must_end(self) -> bool:
        """Tell whether it was asked to end, or has lost its lease."""
        return self._stop() or self._hold.lost

    def change(self, function: Callable[[SyncManager], Result], note: str) -> Result:
        """Change something in a short transaction that holds only while the lease does."""
        return self._hold.change(function, note)

    def end_slice(self, position: int | None) -> None:
        """Let the service keep a slice, and with it a pointer that it keeps (None: leave that alone).

        Raises:
            LeaseLost: The lease is not ours: a runner that was frozen would set the pointer back.
        """
        self.make_sure()
        self.uploader.end_slice(position)

    def make_sure(self) -> None:
        """Make sure that the lease is ours: before the service is told what it cannot take back.

        Raises:
            LeaseLost: It is not.
        """
        with self.access.snapshot() as manager:
            self._hold.check(manager)

    def renderer(self) -> Renderer:
        """Return what makes documents for this agent and this service, while the lease is ours."""
        files = self.uploader if self.uploader.takes_files and self.agent.values.get("files") else None
        return Renderer(
            self.access,
            self.host,
            self.agent,
            self.uploader.batch_size,
            files,
            self._hold.check,
            encode=not self.uploader.reads_documents and not _sends_its_own_way(self.agent),
        )

    def upload(
        self, records: Iterable[Record], renderer: Renderer, part: RunResult, at_sealed: bool = False
    ) -> None:
        """Render ``records`` and send them; add what became of them to ``part``."""
        rendered = renderer.render(records, at_sealed)
        taken = Noted()
        own_way = _sends_its_own_way(self.agent)
        try:
            sent = self.agent._run(taken(rendered) if own_way else rendered, self.uploader)
        except RetryLater:
            if self._hold.lost:
                self.make_sure()  # which raises: this is why nobody waits any longer
            raise
        finally:
            renderer.close()
        # what is refused at the host counts as much as what the service refuses
        dead, renderer.dead = renderer.dead, []
        for record in dead:
            self.uploader.refusals.refused(record.reason)
        part.excluded += renderer.excluded
        renderer.excluded = 0
        part.dead += len(dead)
        part.dead_records += dead
        part.add(sent)
        if own_way:
            # it may keep records back, and make some that nobody asked for
            left = taken.count - sent.sent
            part.excluded += max(left, 0)
            part.cascaded += max(-left, 0)

    def send(self, ids: Sequence[str], words: Iterable[str] = (), exporting: bool = False) -> RunResult:
        """Send these objects as they are now, whatever the track says, in a slice of their own.

        Returns:
            What became of them; it is noted by :meth:`settle`.
        """
        part = RunResult()
        actions = frozenset(words)
        with self.access.snapshot() as manager:
            position = max(manager.track.sealed, 0)
        self.uploader.exporting = exporting
        try:
            self.uploader.begin_slice(position)
            records = (Record(Op.UPSERT, object_id, position, actions) for object_id in ids)
            self.upload(records, self.renderer(), part, at_sealed=True)
            self.keep_dead(part)
            self.end_slice(None)
        except BaseException:
            self.uploader.abandon_slice()
            raise
        finally:
            self.uploader.exporting = False
        return part

    def keep_dead(self, part: RunResult) -> None:
        """Store dead letters before the service keeps what came with them: then no crash can lose them."""
        if part.dead_records:
            dead = list(part.dead_records)

            def note(manager: SyncManager) -> bool:
                store_dead(manager.stored(self.agent.id), dead, (), self.clock())
                return True

            self.change(note, f"dead letters of {self.agent.id}")

    def settle(
        self,
        part: RunResult,
        delivered: Iterable[str],
        also: Callable[[SyncManager, StoredAgent], Result],
        text: str,
    ) -> Result:
        """Note what a slice came to, and do ``also``, in one short transaction.

        Args:
            part: What became of its records.
            delivered: Objects that were sent; dead letters of those that did not die are cleared.
            also: Called in the transaction, perhaps several times: what goes with it.
            text: For the transaction's note.

        Raises:
            LeaseLost: Nothing is noted.
        """
        merged = replace(
            self.result,
            dead_records=list(self.result.dead_records),
            timings=Histogram(list(self.result.timings.counts), self.result.timings.seconds),
        )
        merged.add(part)
        del merged.dead_records[_DEAD_SHOWN:]
        dead = {record.object_id for record in part.dead_records}
        cleared = [object_id for object_id in delivered if object_id not in dead]
        refusals = self.uploader.refusals.state()

        def note(manager: SyncManager) -> tuple[Result]:
            stored = manager.stored(self.agent.id)
            for object_id in cleared:
                stored.dead.pop(object_id, None)
            outcome = also(manager, stored)
            merged.till = manager.track.get_pointer_timestamp(self.agent.id)
            merged.seconds = time.perf_counter() - self._began
            ledger.add_to_totals(stored, part)
            ledger.note(stored, self._line, merged)
            if stored.refusals != refusals and self.kind != RETRY:
                stored.refusals = refusals
            return (outcome,)  # None would mean that there is nothing to commit

        (outcome,) = self.change(note, text)
        self.result = merged
        self._dead_ids = (self._dead_ids | dead) - frozenset(cleared)
        return outcome

    def had_dead_letter(self, ids: Iterable[str]) -> list[str]:
        """Return which of ``ids`` have a dead letter."""
        return [object_id for object_id in ids if object_id in self._dead_ids] if self._dead_ids else []


class Noted:
    """Passes records on, and keeps which objects they are of.

    Attributes:
        ids: The objects.
        count: How many records there were.
    """

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.count = 0

    def __call__(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self.ids.add(record.object_id)
            self.count += 1
            yield record


def _sends_its_own_way(agent: PushSyncAgent) -> bool:
    """Tell whether an agent's type has a ``_run`` of its own."""
    from .push import PushSyncAgent  # which imports this module

    return type(agent)._run is not PushSyncAgent._run


def summary(result: RunResult) -> dict[str, Any]:
    """Return a result as plain values, the dead records and timings left out."""
    values = asdict(result)
    del values["dead_records"], values["timings"]
    return values


def shortened(exc: BaseException) -> str:
    """Return the text of an exception in one line that is not too long to be kept."""
    return " ".join(str(exc).split())[:500]


def stop_reason(exc: BaseException) -> tuple[StopReason | None, str]:
    """Return why an agent is stopped after ``exc``; None: it is not, the next run goes on."""
    if isinstance(exc, AgentStopped):
        return StopReason(exc.reason), exc.detail
    if isinstance(exc, ServiceRefuses):
        return StopReason.SERVICE_REFUSES, exc.reason
    if isinstance(exc, TooManyRefused):
        return StopReason.FAILING, exc.reason
    if isinstance(exc, PositionPruned):
        return StopReason.NEEDS_EXPORT, str(exc)
    return None, ""
