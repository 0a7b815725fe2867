"""``livesync prune``: drop what every agent has delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exitcodes import ExitCode
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..manager import SyncManager


def prune(session: Session) -> int:
    """Drop from the track what is not needed, and say which agents were left behind."""
    args = session.args

    def change(manager: SyncManager) -> tuple[int, list[str]]:
        before = None if args.before is None else args.before.position(manager.granularity)
        ids = manager.agent_ids()
        needed = {agent_id for agent_id in ids if manager.stored(agent_id).reason == "needs_export"}
        dropped = as_usage(lambda: manager.prune(before, args.leave_behind))
        behind = [
            agent_id
            for agent_id in ids
            if agent_id not in needed and manager.stored(agent_id).reason == "needs_export"
        ]
        return dropped, behind

    dropped, behind = session.change_manager(change)
    session.out.line(f"{dropped:,} actions dropped")
    for agent_id in behind:
        session.out.line(f"agent {agent_id} was left behind and is stopped: livesync agent export {agent_id}")
    session.out.json({"dropped": dropped, "left_behind": behind})
    return ExitCode.OK
