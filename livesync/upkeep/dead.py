"""Dead letters, for whoever looks after them: what there is, sending it again, throwing it away.

How a letter is kept is told in ``delivery/deadletters.py``.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..delivery.access import ManagerAccess
from ..delivery.record import RunResult
from ..delivery.render import Spool
from ..delivery.work import Stop
from ..errors import NotFound
from ..host import Host
from ..leases import LEASE_S
from ..manager import SyncManager
from .sending import Counted, send_some


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be delivered.

    Attributes:
        agent_id: Whose it is.
        object_id: The object.
        op: ``upsert`` or ``delete``.
        position: The record's position.
        actions: What led to it, sorted.
        reason: Why it could not be delivered, as it was said last.
        attempts: How often it died.
        first_time: When it died first, epoch seconds.
        time: When it died last, epoch seconds.
        size: Bytes of the document's JSON; 0 where there was none.
        digest: BLAKE2b-128 of it, hexadecimal; "" where there was none.
        body: The document's JSON as it was refused; None where there was none, where it was too
            long to be kept, or in a list.
    """

    agent_id: str
    object_id: str
    op: str
    position: int
    actions: tuple[str, ...]
    reason: str
    attempts: int
    first_time: float
    time: float
    size: int
    digest: str
    body: bytes | None

    @classmethod
    def of(cls, agent_id: str, object_id: str, kept: Mapping[str, Any], with_body: bool = True) -> DeadLetter:
        """Return what is ``kept`` of a dead letter; one that an older livesync has kept lacks some of it."""
        body = kept.get("body") if with_body else None
        return cls(
            agent_id,
            object_id,
            kept["op"],
            kept["position"],
            tuple(kept.get("actions", ())),
            kept["reason"],
            kept["attempts"],
            kept.get("first_time", kept["time"]),
            kept["time"],
            kept.get("size", 0),
            kept.get("digest", ""),
            None if body is None else body.content,
        )


def list_dead(
    manager: SyncManager, agent_id: str | None = None, limit: int | None = None
) -> tuple[list[DeadLetter], int]:
    """Return dead letters, the newest first and without their documents; and how many there are.

    Args:
        manager: The manager; only read.
        agent_id: Of this agent only; None: of all.
        limit: Most that are returned; None: all.

    Raises:
        UnknownAgent: There is none of this id.
    """
    ids = manager.agent_ids() if agent_id is None else [agent_id]
    total = sum(len(manager.stored(one).dead) for one in ids)
    letters = _letters(manager, ids)
    if limit is not None:
        return heapq.nlargest(limit, letters, key=attrgetter("time")), total
    return sorted(letters, key=attrgetter("time"), reverse=True), total


def _letters(manager: SyncManager, agent_ids: Iterable[str]) -> Iterator[DeadLetter]:
    for agent_id in agent_ids:
        for object_id, kept in manager.stored(agent_id).dead.items():
            yield DeadLetter.of(agent_id, object_id, kept, with_body=False)


def find_dead(manager: SyncManager, agent_id: str, object_id: str) -> DeadLetter:
    """Return the dead letter of one object, with its document.

    Raises:
        UnknownAgent: There is no such agent.
        NotFound: It has no dead letter of this object.
    """
    _check_known(manager, agent_id, (object_id,))
    return DeadLetter.of(agent_id, object_id, manager.stored(agent_id).dead[object_id])


def retry_dead(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    object_ids: Collection[str] | None = None,
    progress: Counted | None = None,
    stop: Stop | None = None,
    now: float | None = None,
    lease_s: float = LEASE_S,
) -> RunResult:
    """Send the objects of dead letters as they are now; what is delivered loses its letter.

    Call it between transactions. An object that is gone is sent as a delete.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Whose dead letters.
        host: The application.
        object_ids: Of which objects; None: all that there are.
        progress: Told after each chunk how many are done.
        stop: Asked between chunks.
        now: Epoch seconds; None: the wall clock.
        lease_s: How long the agent stays ours if we are not heard of any more, in seconds.

    Returns:
        What became of them; those that died again keep their letters, with one more attempt.

    Raises:
        UnknownAgent: There is no such agent.
        NotFound: It has no dead letter of one of the objects; nothing was sent.
        StateForbids, Leased, LeaseLost, ServiceRefuses, TooManyRefused, RetryLater, HostFailed: As in
            :func:`~livesync.upkeep.sending.send_some`.
    """
    spool = spool_dead(manager, agent_id, object_ids)
    try:
        if not spool.count:
            return RunResult()
        return send_some(manager, agent_id, host, spool, "retry", progress, stop, now, lease_s)
    finally:
        spool.close()


def spool_dead(manager: SyncManager, agent_id: str, object_ids: Collection[str] | None = None) -> Spool:
    """Return the ids of an agent's dead letters as they are now; close it when done.

    Args:
        manager: The manager; only read.
        agent_id: The agent.
        object_ids: These, if there is a dead letter of each; None: all.

    Raises:
        UnknownAgent: There is no such agent.
        NotFound: It has no dead letter of one of the objects.
    """
    access = ManagerAccess(manager)
    spool = Spool()
    try:
        with access.snapshot() as at:
            _check_known(at, agent_id, object_ids or ())
            for object_id in at.stored(agent_id).dead if object_ids is None else dict.fromkeys(object_ids):
                spool.put(object_id)
    except BaseException:
        spool.close()
        raise
    finally:
        access.close()
    return spool


def discard_dead(manager: SyncManager, agent_id: str, object_ids: Collection[str] | None = None) -> int:
    """Throw dead letters away, within the caller's transaction; nothing is sent.

    Args:
        manager: The manager.
        agent_id: Whose dead letters.
        object_ids: Of which objects; None: all that there are.

    Returns:
        How many are gone.

    Raises:
        UnknownAgent: There is no such agent.
        NotFound: It has no dead letter of one of the objects; nothing was thrown away.
    """
    dead = manager.stored(agent_id).dead
    _check_known(manager, agent_id, object_ids or ())
    if object_ids is None:
        count = len(dead)
        if count:
            dead.clear()
        return count
    going = set(object_ids)
    for object_id in going:
        del dead[object_id]
    return len(going)


def _check_known(manager: SyncManager, agent_id: str, object_ids: Iterable[str]) -> None:
    dead = manager.stored(agent_id).dead
    for object_id in object_ids:
        if object_id not in dead:
            raise NotFound(
                f"agent {agent_id!r} has no dead letter of {object_id!r}; it has those of:"
                f" livesync dead list {agent_id}"
            )
