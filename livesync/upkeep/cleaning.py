"""Taking away what processes that have died have left behind: their leases, and their lanes of the inbox.

Nobody is kept from anything by these: a lease of a process that is gone is taken over, and lanes are
taken anew where none are free. It keeps ``status`` free of the dead, and the inbox from growing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import leases
from ..manager import SyncManager
from ..track.lanes import free_blocks_of_the_dead
from ..track.stored import StoredLease


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning up came to.

    Attributes:
        leases: Leases that were taken from runners which are gone, or let them run out.
        blocks: Blocks of lanes that connections can have again.
    """

    leases: int
    blocks: int


def clean_up(manager: SyncManager, now: float) -> Cleaned:
    """Clean up within the caller's transaction; nothing that anybody may still use is touched.

    Args:
        manager: The manager.
        now: Epoch seconds.
    """
    stored = [manager.stored(agent_id).lease for agent_id in manager.agent_ids()]
    stored += [manager.task(task_id).lease for task_id in manager.task_ids()]
    freed = sum(_free(lease, now) for lease in stored)
    return Cleaned(freed, free_blocks_of_the_dead(manager._inbox))


def _free(lease: StoredLease, now: float) -> bool:
    if lease.holder is None or leases.holder(lease, now):
        return False
    lease.holder = None
    return True
