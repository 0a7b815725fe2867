"""PushSyncAgent: from the track to a service, one run at a time.

A run takes the track slice by slice. For each it notes how far it may be sending (``attempted``),
makes the records, renders and uploads them with nothing of the database open, and then moves the
pointer in a short transaction. So a crash repeats a slice at most, and records are upserts and
deletes by id that carry a position: repeating them does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import ClassVar

from ..agent import State, SyncAgent
from ..errors import LiveSyncError, StateForbids
from ..host import Host
from ..leases import LEASE_S
from ..manager import SyncManager
from ..track.changes import Item
from .access import ManagerAccess
from .record import Record, RunResult
from .reduce import reduce
from .run import Run, may_go_on
from .uploader import RecordUploader
from .work import Stop, Work


class PushSyncAgent(SyncAgent):
    """An agent that pushes to a service. A type names its uploader, and that is all it must do."""

    #: Called as ``uploader(agent)`` for each run.
    uploader: ClassVar[type[RecordUploader] | None] = None

    #: Highest position that may have been sent before this slice; None: anything may have been.
    attempted: int | None = None

    #: Commit time up to which something that lies beyond :attr:`attempted` may have been sent.
    shown: float = 0.0

    #: Whether a run at the wall clock's time seals what was committed just before it. A runner that
    #: is woken by every commit sees to that itself, or positions would run ahead of the time.
    seals_newest: bool = True

    def run(
        self,
        manager: SyncManager,
        host: Host,
        now: float | None = None,
        stop: Stop | None = None,
        lease_s: float = LEASE_S,
    ) -> RunResult:
        """Deliver what lies between the pointer and the last sealed position; collect first.

        Call it between transactions: it opens connections of its own, and reads and commits short
        transactions there. No transaction is open while the service is talked to.

        Args:
            manager: The manager that this agent is registered with.
            host: The application.
            now: Epoch seconds; None: the wall clock, and then what was committed before this call
                is sealed and delivered, even in a position that is still open.
            stop: Asked between slices and while waiting; True ends the run in good order.
            lease_s: How long the agent stays ours if we are not heard of any more, in seconds.

        Raises:
            UnknownAgent: It is not registered.
            StateForbids: Its state does not allow a run.
            Leased: Another runner holds it.
            LeaseLost: Another runner has taken it over, since this one was not heard of for too long.
            PositionPruned: What lies after its pointer is gone; it is now ``stopped: needs_export``.
            ServiceRefuses: The service refuses us; it is now ``stopped: service_refuses``.
            TooManyRefused: It refuses too much; the agent is now ``stopped: failing``.
            RetryLater: The service is not ready; the next run goes on where this one ended.
            HostFailed: The host raised.
        """
        make_uploader = type(self).uploader
        if make_uploader is None:
            raise LiveSyncError(
                f"agent {self.id!r} cannot run: its type {type(self).__name__} names no uploader"
            )
        access = ManagerAccess(manager)
        try:
            with access.snapshot() as at:
                check_runnable(at, self.id)
            work = Work(self, access, host, make_uploader(self), "run", stop, now, lease_s)
            result = Run(work, now).run()
        finally:
            access.close()
        bring_up_to_date(manager)
        return result

    def acknowledge(self, manager: SyncManager, till: int) -> None:
        """Move the pointer: everything at or before ``till`` is accepted. Called in a short transaction."""
        manager.advance(self.id, till)

    def _generate_records(self, data: Iterable[Item], last_ts: int) -> Iterator[Record]:
        """Yield what to send for a slice, one record an object, documents still None.

        Args:
            data: ``(position, action)``, oldest first.
            last_ts: The slice's end: the position that the records carry.
        """
        return reduce(data, last_ts, self.attempted, self.shown)

    def _run(self, records: Iterable[Record], uploader: RecordUploader) -> RunResult:
        """Upload rendered records and return what became of them."""
        return uploader.iterate_over(records)


def check_runnable(manager: SyncManager, agent_id: str) -> None:
    """Make sure that an agent may run now.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: Its state does not allow it; the text says the way on.
    """
    stored = manager.stored(agent_id)
    state = stored.state
    if may_go_on(state, stored.reason):
        return
    ways = {
        State.NEW.value: f"livesync agent export {agent_id}, or agent activate {agent_id} --from-now",
        State.RECORDING.value: f"finish its export with: livesync agent export {agent_id}",
        State.PAUSED.value: f"livesync agent activate {agent_id}",
        State.STOPPED.value: f"livesync agent export {agent_id}",
    }
    why = f" ({stored.reason})" if stored.reason else ""
    raise StateForbids(
        f"agent {agent_id!r} is {state}{why} and does not run; run: {ways[state]}",
        agent_id=agent_id,
        state=state,
    )


def bring_up_to_date(manager: SyncManager) -> None:
    """Let the caller's connection see what was committed, unless it has something of its own to commit."""
    connection = manager._p_jar
    current = connection.transaction_manager
    with suppress(Exception):  # an explicit transaction manager may have no transaction, which is fine
        if not current.get()._resources:
            connection.newTransaction(None)
