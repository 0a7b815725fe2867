"""Proof that a destination equals the host, and mending where it does not.

The host's objects and the service's rows are gone through side by side, both by ascending ids, so
that each is read once and nothing need be remembered (``first_look.py``). What differs there is
suspicious and no more; it is looked at again (``recheck.py``, which also says why what is left then
is real, and why nothing lasting is missed).

A quick look reads ids and positions only. It suspects what only one of the two has, a row whose
position lies ahead of all that was sent, and one older than the newest action on its object that
the track still keeps and the agent has passed. What it suspects is looked at again as a whole, by
digests, so a difference that it tells of is one; an altered document is not to be seen by it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from ..agent import MissingAgent
from ..delivery.access import ManagerAccess, collect_all
from ..delivery.push import PushSyncAgent, bring_up_to_date
from ..delivery.record import RunResult
from ..delivery.uploader import Delivery, RecordUploader, never
from ..delivery.work import Stop
from ..errors import StateForbids, UsageError
from ..host import Host
from ..leases import LEASE_S
from ..manager import SyncManager
from .expected import Expected
from .findings import Findings
from .first_look import FirstLook
from .reading import Reader
from .recheck import MISSING, NOT_COMPARABLE, ORPHANED, STALE, Recheck, check_verifiable
from .sending import Counted, send_some


class Difference(NamedTuple):
    """One object in which the service and the host differ.

    Attributes:
        kind: ``missing`` (the service does not hold it), ``stale`` (it holds something else) or
            ``orphaned`` (it ought not to hold it).
        object_id: Which.
        detail: For people: what is held, and the dead letter where there is one.
    """

    kind: str
    object_id: str
    detail: str


class NotComparable(NamedTuple):
    """One object that has no document to compare with; ``reason`` for people, and what the service holds."""

    object_id: str
    reason: str


@dataclass(slots=True, eq=False)
class Verification:
    """What a verification came to; iterate for the differences, by ascending ids, as often as you like.

    The differences lie in a temporary file: close it when done, or use it in a ``with`` block.

    Attributes:
        checked: How many ids were compared, of the host's objects and the service's rows together.
        expected: Objects that the service ought to hold.
        held: Rows that it holds.
        missing, stale, orphaned: Differences, by kind.
        pending: Objects that seemed to differ, and of which a change has yet to be delivered.
        not_comparable: Other objects that have no document now; see :meth:`not_compared`.
        kept_back: Objects that the agent's transform sends nothing of: they were not compared.
        complete: Whether it came to its end; False where it was stopped.
        seconds: How long it took.
    """

    checked: int = 0
    expected: int = 0
    held: int = 0
    missing: int = 0
    stale: int = 0
    orphaned: int = 0
    pending: int = 0
    not_comparable: int = 0
    kept_back: int = 0
    complete: bool = True
    seconds: float = 0.0
    _findings: Findings = field(default_factory=Findings, repr=False)

    @property
    def differs(self) -> bool:
        """Whether there is any difference."""
        return bool(self.missing or self.stale or self.orphaned)

    def __iter__(self) -> Iterator[Difference]:
        for kind, object_id, detail in self._findings.told(MISSING, STALE, ORPHANED):
            yield Difference(kind, object_id, detail)

    def not_compared(self) -> Iterator[NotComparable]:
        """Yield the objects that could not be compared, by ascending ids."""
        for _, object_id, detail in self._findings.told(NOT_COMPARABLE):
            yield NotComparable(object_id, detail)

    def close(self) -> None:
        """Remove the temporary file."""
        self._findings.close()

    def __enter__(self) -> Verification:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def verify(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    quick: bool = False,
    progress: Counted | None = None,
    stop: Stop | None = None,
    now: float | None = None,
) -> Verification:
    """Compare what an agent's service holds with what the host has.

    Call it between transactions. Nothing is sent, and nothing written but what a collect writes
    (not even that where the database is open for reading only). Runs may go on meanwhile.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Which agent.
        host: The application.
        quick: Compare ids and positions only.
        progress: Told now and then how many ids were compared.
        stop: Asked now and then; True ends it, and what was found so far is returned.
        now: Epoch seconds; None: the wall clock.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is no agent that pushes, or it has not sent everything yet.
        UsageError: What its service holds cannot be read.
        HostFailed: The host raised, or its ids do not ascend.
        ServiceRefuses: The service cannot be read, or its rows do not ascend.
        RetryLater: It is not ready.
    """
    access = ManagerAccess(manager)
    try:
        agent, uploader, delivery = _prepared(access, agent_id)
        uploader.stop = stop or never
        found = Verification()
        try:
            began = time.perf_counter()
            if not access.database.storage.isReadOnly():
                # what waits in the inbox is read for every few suspects: let it be little
                collect_all(access, time.time() if now is None else now)
            with closing(uploader):
                uploader.open(delivery)
                _look(access, agent, host, uploader, found, quick, progress)
            found.seconds = time.perf_counter() - began
        except BaseException:
            found.close()
            raise
    finally:
        access.close()
    bring_up_to_date(manager)
    return found


def repair(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    verification: Verification,
    progress: Counted | None = None,
    stop: Stop | None = None,
    now: float | None = None,
    lease_s: float = LEASE_S,
) -> RunResult:
    """Send the objects that a verification tells of, as they are now, and nothing else.

    Where there is no difference, nothing is done at all.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Which agent.
        host: The application.
        verification: Of this agent.
        progress: Told after each chunk how many objects are done.
        stop: Asked between chunks.
        now: Epoch seconds; None: the wall clock.
        lease_s: How long the agent stays ours if we are not heard of any more, in seconds.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: Its state does not allow it.
        Leased, LeaseLost, ServiceRefuses, TooManyRefused, RetryLater, HostFailed: As in a run.
    """
    if not verification.differs:
        return RunResult()
    ids = (difference.object_id for difference in verification)
    return send_some(manager, agent_id, host, ids, "repair", progress, stop, now, lease_s)


def _prepared(access: ManagerAccess, agent_id: str) -> tuple[PushSyncAgent, RecordUploader, Delivery]:
    """Return an agent that may be verified, an uploader for it, and what that is opened with."""
    with access.snapshot() as manager:
        agent = manager.get_agent(agent_id)
        stored = manager.stored(agent_id)
        state, generation, track_id = stored.state, stored.generation, manager.track_id
        uploader_type = type(agent).uploader if isinstance(agent, PushSyncAgent) else None
        if not isinstance(agent, PushSyncAgent) or uploader_type is None:
            why = f": {agent.missing}" if isinstance(agent, MissingAgent) else ""
            raise StateForbids(f"agent {agent_id!r} is none that pushes{why}", agent_id=agent_id, state=state)
        check_verifiable(agent_id, stored)
    uploader = uploader_type(agent)
    if not uploader.readable:
        raise UsageError(f"agent {agent_id!r} only receives: what it holds cannot be read")
    return agent, uploader, Delivery(agent_id, track_id, generation)


def _look(
    access: ManagerAccess,
    agent: PushSyncAgent,
    host: Host,
    uploader: RecordUploader,
    found: Verification,
    quick: bool,
    progress: Counted | None,
) -> None:
    """Compare everything, look again at what is suspicious, and put into ``found`` what comes of it."""
    names_files = uploader.takes_files and bool(agent.values.get("files"))
    expected, reader = Expected(access, host, agent, names_files), Reader(uploader)
    seen = FirstLook(access, agent.id, expected, reader, found._findings).run(quick, progress, uploader.stop)
    found.checked, found.expected, found.held = seen.checked, seen.expected, seen.held
    found.kept_back, found.complete = seen.kept_back, seen.complete
    if not found.complete:
        return
    recheck = Recheck(access, agent.id, host, expected, reader, found._findings)
    result, found.complete = recheck.run(uploader.stop)
    kinds = result.kinds
    found.missing, found.stale, found.orphaned = kinds[MISSING], kinds[STALE], kinds[ORPHANED]
    found.not_comparable, found.pending = kinds[NOT_COMPARABLE], result.pending
    if quick:
        # only now is known what the objects are that a quick look has seen the ids of
        found.expected -= result.unexpected
        found.kept_back = result.kept_back
