"""``livesync prune``: drop what every agent has delivered and nobody looks back at any more."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from ..words import plural
from .exitcodes import ExitCode
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..manager import SyncManager
    from ..upkeep.retention import HeldBack, Pruned


def prune(session: Session) -> int:
    """Drop from the track what is not needed; say who was left behind, and who holds much back."""
    from ..upkeep.retention import KEEP_S, held_back, prune_passed

    args, out = session.args, session.out
    now = time.time()
    keep_s = KEEP_S if args.keep is None else args.keep

    def change(manager: SyncManager) -> tuple[Pruned, list[HeldBack]]:
        before = None if args.before is None else args.before.position(manager.granularity)
        pruned = as_usage(lambda: prune_passed(manager, now, keep_s, before, args.leave_behind))
        return pruned, held_back(manager, now)

    pruned, held = session.change_manager(change)
    out.line(f"{plural(pruned.dropped, 'action')} dropped")
    for agent_id in pruned.left_behind:
        out.line(f"agent {agent_id} was left behind and is stopped: livesync agent export {agent_id}")
    for reader in held:
        out.note(f"livesync: warning: {reader}")
    out.json(
        {
            "dropped": pruned.dropped,
            "left_behind": pruned.left_behind,
            "held_back": [dataclasses.asdict(reader) for reader in held],
        }
    )
    return ExitCode.OK
