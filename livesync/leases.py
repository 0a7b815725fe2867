"""Who may run an agent: the rules of a lease, on what is stored of it.

A lease is the right to run one agent, for a time. Whoever holds it renews it; one that nobody
renewed may be taken over, and so may one whose holder is a process of this machine that is gone.
Every new holder gets a greater token, and every transaction of a run makes sure that the token is
still its own (a fencing token: Kleppmann, "How to do distributed locking", 2016). So clocks decide
only when a lease may be taken over, and never who moves the pointer.

Everything here works within the caller's transaction.
"""

from __future__ import annotations

import datetime
from typing import Final

from .errors import Leased, LeaseLost
from .process import ProcessIdentity, is_dead
from .track.stored import StoredLease

#: How long a lease holds unless it is renewed, and how often a runner renews it; seconds.
LEASE_S: Final = 30.0
RENEW_S: Final = 10.0


def take(
    agent_id: str, lease: StoredLease, process: ProcessIdentity, purpose: str, now: float, seconds: float
) -> int:
    """Make a process the holder; return its token.

    Args:
        agent_id: Whose lease it is.
        lease: As stored.
        process: Who takes it.
        purpose: What for, a word or two for people.
        now: Epoch seconds.
        seconds: How long it holds.

    Raises:
        Leased: Another runner holds it.
    """
    check_free(agent_id, lease, now)
    lease.holder = (*process, purpose)
    lease.token += 1
    lease.since = now
    lease.until = now + seconds
    return lease.token


def renew(agent_id: str, lease: StoredLease, token: int, until: float) -> None:
    """Let a lease hold until another time (epoch seconds), if ``token`` is still its holder's.

    Raises:
        LeaseLost: It is not.
    """
    check_held(agent_id, lease, token)
    lease.until = until


def release(lease: StoredLease, token: int) -> None:
    """Give a lease back; nothing happens where another runner has it by now."""
    if lease.token == token and lease.holder is not None:
        lease.holder = None


def holder(lease: StoredLease, now: float) -> str:
    """Return who holds a lease, for people; "" when it is free or may be taken over."""
    if lease.holder is None or now >= lease.until or is_dead(lease.holder[:3]):
        return ""
    host, pid, _, purpose = lease.holder
    return f"{purpose} by process {pid} on {host}"


def check_free(agent_id: str, lease: StoredLease, now: float) -> None:
    """Make sure that nobody holds a lease at ``now`` (epoch seconds).

    A holder that has let it run out, or is dead, loses it: whoever asks is about to change where the
    agent stands, and one that was only frozen would go on from where it was. The caller's
    transaction will not commit if somebody takes the lease before it does.

    Raises:
        Leased: A runner does.
    """
    who = holder(lease, now)
    if who:
        until = datetime.datetime.fromtimestamp(lease.until, datetime.timezone.utc)
        raise Leased(
            f"agent {agent_id!r} is held: {who}; its lease runs until {until:%Y-%m-%dT%H:%M:%SZ},"
            " unless renewed",
            agent_id=agent_id,
            holder=who,
        )
    if lease.holder is not None:
        lease.holder = None
    _must_not_change(lease)


def check_held(agent_id: str, lease: StoredLease, token: int) -> None:
    """Make sure that ``token`` is the one of a lease's holder, whatever the time.

    The caller's transaction will not commit if the lease changes hands before it does.

    Raises:
        LeaseLost: Another runner has taken the agent over.
    """
    if lease.token != token or lease.holder is None:
        raise LeaseLost(
            f"agent {agent_id!r} was taken from this runner, which was not heard of for longer than its"
            " lease; nothing of it is noted any more"
        )
    _must_not_change(lease)


def _must_not_change(lease: StoredLease) -> None:
    """Let the transaction under way fail if another one changes the lease before it commits."""
    if lease._p_jar is not None and lease._p_oid is not None:
        lease._p_jar.readCurrent(lease)
