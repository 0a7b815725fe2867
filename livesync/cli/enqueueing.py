"""``livesync agent enqueue``: have an agent send objects with its next runs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from ..action import DATA_CHANGED, check_actions
from ..database import committed
from ..words import plural
from .exitcodes import ExitCode
from .picking import spooled
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..delivery.render import Spool

#: Ids that one transaction puts into the queue.
_A_TRANSACTION: Final = 50_000


def enqueue(session: Session) -> int:
    """Put objects into an agent's slow queue."""
    args = session.args
    words = as_usage(lambda: check_actions(args.action or (DATA_CHANGED,)))
    spool = spooled(args.object_ids, args.ids)
    try:
        queued = _put(session, spool, words)
    finally:
        spool.close()
    session.out.line(
        f"{plural(queued, 'object is', 'objects are')} queued; the next run sends"
        f" {'it' if queued == 1 else 'them'}: livesync agent run {args.agent}"
    )
    session.out.json({"agent": args.agent, "queued": queued})
    return ExitCode.OK


def _put(session: Session, spool: Spool, words: frozenset[str]) -> int:
    """Queue all ids; an interrupt leaves some queued, and doing it again does no harm."""
    from ..manager import SyncManager

    agent_id, queued = session.args.agent, 0
    waiting = iter(spool)
    with session.database() as db:
        while ids := list(islice(waiting, _A_TRANSACTION)):
            queued += committed(db, lambda root, ids=ids: SyncManager.get(root).enqueue(agent_id, ids, words))  # type: ignore[misc]
    return queued
