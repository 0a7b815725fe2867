"""Looking again at what a first look has found suspicious: what is a difference, and what is on its way.

The host goes on changing and runs go on delivering while a destination is verified, so a first look
finds much that differs only for a moment. Each suspect is therefore looked at again, in this order:

1. how far the agent has come (its pointer, and its slow queue) is read in a snapshot;
2. what is expected of the suspect is rendered from a snapshot that is no older;
3. what the service holds of it is read;
4. in a snapshot that shows every commit of which anything can have been delivered by then, all
   actions after that pointer are read, on the track and in the inbox.

A suspect of which an action was read in step 4, or which lies inside something whose action reaches
everything inside, or which is queued, is *pending*: what it differs in is on its way. Of every other
one that differs:

*The difference is real.* No action lies after the pointer, so the object is now as it was when the
pointer passed its last one: what was delivered for that is what is expected now. Whatever sends an
object on its own account is an action after the pointer or an entry of the queue, and there was
neither; so nothing was under way for it between steps 1 and 4, and what step 3 read is not of
another time than what step 2 rendered. (What people have sent in between by hand, an export or a
repair, makes it what it ought to be, and what was read before that did differ.) No run will mend
it: it comes of a change that nobody recorded, of something else that writes there, of a loss.

*Nothing that differs lastingly is missed.* An object that is there during all of the first look is
in its list once, since ids ascend and never change; so is a row. Where what is expected and what is
held differ all that time, it is a suspect, and it is told as a difference or counted as pending. The
latter is sent as a whole once more by the run that comes to it.

No lease is needed for that, and so no run is kept waiting, or kept from being verified by one that
lasts long. Should the track be pruned between steps 1 and 4 of something that the pointer had yet to
pass in step 1, then step 4 does not show it, and all of it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from ..agent import State
from ..delivery.access import ManagerAccess, of_the_database
from ..delivery.reduce import cascading
from ..delivery.uploader import HeldRow
from ..errors import HostFailed, LiveSyncError, StateForbids
from ..host import Host
from ..manager import SyncManager
from ..track import queue
from ..track.stored import StoredAgent
from .expected import Expectation, Expected, Fate
from .findings import Findings
from .reading import Reader

#: Suspects looked at together.
LOOKED_AT: Final = 2_000

#: Actions, or ids inside a container, taken together.
_TAKEN: Final = 10_000

MISSING: Final = "missing"
STALE: Final = "stale"
ORPHANED: Final = "orphaned"
NOT_COMPARABLE: Final = "not comparable"


@dataclass(frozen=True, slots=True)
class _Since:
    """How far an agent had come: its pointer (-1: before everything), and what was pruned then."""

    pointer: int
    pruned: int


@dataclass(slots=True)
class Rechecked:
    """What became of the suspects.

    Attributes:
        kinds: How many are what.
        pending: How many differ, and have a change that is yet to be delivered.
        unexpected: How many objects the host has that the service need not hold.
        kept_back: How many of these the agent's transform sends nothing of.
    """

    kinds: dict[str, int]
    pending: int = 0
    unexpected: int = 0
    kept_back: int = 0


class Recheck:
    """Looks again at the suspects of a verification.

    Args:
        access: To the manager.
        agent_id: The agent.
        host: The application.
        expected: What the service ought to hold.
        reader: What it holds.
        findings: Has the suspects, and takes what is told of them.
    """

    def __init__(
        self,
        access: ManagerAccess,
        agent_id: str,
        host: Host,
        expected: Expected,
        reader: Reader,
        findings: Findings,
    ) -> None:
        self._access = access
        self._agent_id = agent_id
        self._host = host
        self._expected = expected
        self._reader = reader
        self._findings = findings
        self._result = Rechecked({MISSING: 0, STALE: 0, ORPHANED: 0, NOT_COMPARABLE: 0})
        # The actions of ]low, high] have been read, and suspects marked for them.
        self._low: int | None = None
        self._high = -1

    def run(self, stop: Callable[[], bool]) -> tuple[Rechecked, bool]:
        """Look at all suspects, or until ``stop`` says True; return the outcome, and whether all were.

        Raises:
            StateForbids: The agent's export has begun anew.
            HostFailed, ServiceRefuses, RetryLater: One side cannot be read.
        """
        findings = self._findings
        after = None
        while suspects := findings.next_suspects(after, LOOKED_AT):
            if stop():
                return self._result, False
            self._look(suspects)
            findings.forget_suspects(suspects)
            after = suspects[-1]
        # these were never looked at again: changes of them had been seen already
        self._result.pending += findings.count_suspects()
        return self._result, True

    def _look(self, suspects: list[str]) -> None:
        while True:
            since = self._how_far()
            expected = dict(self._expected.of(suspects))
            held = self._reader.rows_of(suspects)
            self._catch_up()
            with self._access.host_snapshot(self._host) as (manager, host):
                if manager.track.pruned > max(since.pointer, since.pruned):
                    continue
                self._mark_changed(manager, host, since.pointer)
                self._judge(manager, host, suspects, expected, held)
                return

    def _how_far(self) -> _Since:
        with self._access.snapshot() as manager:
            stored = manager.stored(self._agent_id)
            check_verifiable(self._agent_id, stored)
            self._findings.mark_pending(queue.queued_ids(stored))
            pointer = manager.track.get_pointer_timestamp(self._agent_id)
            return _Since(-1 if pointer is None else pointer, manager.track.pruned)

    def _catch_up(self) -> None:
        """Make sure that the next snapshot shows what any other client of the storage has committed.

        A snapshot of ZEO's shows what its server has told us of, and an answer comes after all that
        was told before. Other storages always show the newest.
        """
        ask = getattr(self._access.database.storage, "ping", None)
        if ask is not None:
            ask()

    def _mark_changed(self, manager: SyncManager, host: Host, pointer: int) -> None:
        """Mark the suspects of which actions lie after the pointer, and those inside such containers.

        What is inside now, and what has gone from there since the action, which has an action of its
        own, is all that was inside then.
        """
        seen = self._low is not None and self._low <= pointer
        begin = max(pointer, self._high) if seen else pointer
        track = manager.track
        waiting = ((begin, action) for action in manager.waiting())
        items = chain(track.iterate(begin), waiting)
        while part := list(islice(items, _TAKEN)):
            self._findings.mark_pending(action.object_id for _, action in part)
            for object_id in cascading(part):
                for inside in _parts(_ids_inside(host, object_id), manager):
                    self._findings.mark_pending(inside)
        if not seen:
            self._low = pointer
        # Positions that are not sealed may get more.
        self._high = max(self._high, track.sealed)

    def _judge(
        self,
        manager: SyncManager,
        host: Host,
        suspects: list[str],
        expected: dict[str, Expectation],
        held: dict[str, HeldRow],
    ) -> None:
        result = self._result
        dead = manager.stored(self._agent_id).dead
        pending = self._findings.are_pending(suspects[0], suspects[-1])
        limit = newest_position(manager)
        told = []
        for object_id in suspects:
            expectation, row = expected[object_id], held.get(object_id)
            exists = expectation is not Fate.ABSENT or row is None or _exists(host, object_id)
            if isinstance(expectation, Fate):
                result.unexpected += exists
                result.kept_back += expectation is Fate.KEPT_BACK
            found = _compared(expectation, row, limit)
            if found is None:
                continue
            if object_id in pending:
                result.pending += 1
                continue
            kind, detail = found
            if kind == NOT_COMPARABLE:
                detail = f"{self._expected.reasons[object_id]}; {detail}"
            elif kind == ORPHANED:
                detail = "it is excluded" if exists else "the host does not have it"
            letter = dead.get(object_id)
            if letter is not None:
                detail += f"; dead letter: {letter['reason']}"
            result.kinds[kind] += 1
            told.append((kind, object_id, detail))
        self._findings.tell(told)


def check_verifiable(agent_id: str, stored: StoredAgent) -> None:
    """Make sure that an agent's service is one that could equal the host.

    Raises:
        StateForbids: The agent has not sent everything yet; the text says the way on.
    """
    unfinished = stored.state == State.RECORDING.value or stored.export is not None
    if unfinished or stored.state == State.NEW.value:
        why = "its export is not finished" if unfinished else "it has sent nothing"
        raise StateForbids(
            f"agent {agent_id!r} is {stored.state}: {why}; run first: livesync agent export {agent_id}",
            agent_id=agent_id,
            state=stored.state,
        )


def newest_position(manager: SyncManager) -> int:
    """Return the highest position that any record can carry by now."""
    track = manager.track
    return max(track.sealed, 0 if track.is_empty() else track.most_recent_ts(), 0)


def _compared(expectation: Expectation, row: HeldRow | None, limit: int) -> tuple[str, str] | None:
    """Return what an object and its row differ in: the kind, and words; None: in nothing."""
    if expectation is Fate.KEPT_BACK:
        return None
    if expectation is Fate.NO_DOCUMENT:
        return NOT_COMPARABLE, "the service does not hold it" if row is None else "the service holds it"
    if expectation is Fate.ABSENT:
        return None if row is None else (ORPHANED, "")
    if row is None:
        return MISSING, "the service does not hold it"
    if row.digest != expectation:
        at = "" if row.position is None else f" at position {row.position}"
        return STALE, f"held is {row.digest or 'no document'}{at}, expected {expectation}"
    if row.position is not None and row.position > limit:
        return STALE, (
            f"its position {row.position} lies ahead of all that was sent ({limit}): the service will turn"
            " down what is sent"
        )
    return None


def _exists(host: Host, object_id: str) -> bool:
    try:
        return host.get(object_id) is not None
    except of_the_database(LiveSyncError):
        raise
    except Exception as exc:
        raise HostFailed(f"the host failed to look up {object_id!r}: {type(exc).__name__}: {exc}") from exc


def _ids_inside(host: Host, object_id: str) -> Iterator[str]:
    try:
        obj = host.get(object_id)
        if obj is not None:
            for inner in host.contents(obj):
                yield host.object_id(inner)
    except of_the_database(LiveSyncError):
        raise
    except Exception as exc:
        raise HostFailed(
            f"the host failed to list what is inside {object_id!r}: {type(exc).__name__}: {exc}"
        ) from exc


def _parts(object_ids: Iterable[str], manager: Any) -> Iterator[list[str]]:
    """Yield ids in parts, and let the snapshot's cache keep within its limits between them."""
    waiting = iter(object_ids)
    while part := list(islice(waiting, _TAKEN)):
        yield part
        manager._p_jar.cacheGC()
