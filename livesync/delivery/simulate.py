"""What a run would send, without sending it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..errors import StateForbids
from ..host import Host
from ..manager import SyncManager
from ..track.changes import Item
from ..track.stored import StoredAgent
from .access import ManagerAccess
from .push import PushSyncAgent
from .record import Op, Record
from .reduce import cascading
from .render import Renderer, Spool, spool_contents
from .uploader import DEFAULT_SLOW_BUDGET
from .work import Noted

#: Ids of the slow queue, and the actions that they are sent for.
Queued: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


def simulate(manager: SyncManager, agent_id: str, host: Host, now: float | None = None) -> Iterator[Record]:
    """Yield the records that a run would send, rendered; nothing is changed and nothing is sent.

    What waits in the inbox and in the slow queue is taken into account; what is inside a changed
    container comes at once, however much it is. Works on a database that is open read-only.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It has no pointer yet.
        PositionPruned: It needs an export.
    """
    access = ManagerAccess(manager)
    spools: list[Spool] = []
    try:
        agent, items, till, pages = _what_a_run_would_read(access, agent_id, now)
        noted = Noted()
        renderer = Renderer(access, host, agent, 1000)
        yield from renderer.render(noted(agent._generate_records(iter(items), till)))
        for object_id, words in cascading(items).items():
            spool = spool_contents(access, host, object_id, noted.ids)
            spools.append(spool)
            yield from renderer.render(Record(Op.UPSERT, inner_id, till, words) for inner_id in spool)
        for ids, queued_for in pages:
            records = (Record(Op.UPSERT, object_id, till, frozenset(queued_for)) for object_id in ids)
            yield from renderer.render(records, at_sealed=True)
    finally:
        for spool in spools:
            spool.close()
        access.close()


def _what_a_run_would_read(
    access: ManagerAccess, agent_id: str, now: float | None
) -> tuple[PushSyncAgent, list[Item], int, list[Queued]]:
    with access.snapshot() as manager:
        agent = manager.get_agent(agent_id)
        if not isinstance(agent, PushSyncAgent):
            raise StateForbids(
                f"agent {agent_id!r} is none that pushes: there is nothing to simulate",
                agent_id=agent_id,
                state=manager.stored(agent_id).state,
            )
        stored = manager.stored(agent_id)
        agent.attempted, agent.shown = stored.attempted, stored.shown
        while manager.collect(now):  # this transaction is aborted
            pass
        if now is None and not manager.track.is_empty():
            manager.track.seal(manager.track.most_recent_ts())
        items = list(manager.query(agent_id))
        budget: int = agent.values.get("slow_budget", DEFAULT_SLOW_BUDGET)
        return agent, items, max(manager.track.sealed, 0), _queued(stored, budget)


def _queued(stored: StoredAgent, left: int) -> list[Queued]:
    """Return what a run takes out of the slow queue: at most ``left`` ids."""
    found: list[Queued] = []
    for page in stored.queue.values():
        if left <= 0:
            break
        ids = tuple(dict.fromkeys(page.ids))[:left]
        found.append((ids, page.words))
        left -= max(len(ids), 1)
    return found
