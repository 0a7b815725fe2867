"""The kinds of tasks that livesync brings: prune, clean up, verify."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from ..database import connected
from ..delivery.access import ManagerAccess
from ..delivery.push import PushSyncAgent
from ..errors import LiveSyncError
from ..manager import SyncManager
from ..options import Option
from ..upkeep.cleaning import Cleaned, clean_up
from ..upkeep.retention import KEEP_S, Pruned, held_back, prune_passed
from ..upkeep.verify import Verification, repair, verify
from .base import PeriodicTask, TaskContext

logger = logging.getLogger(__name__)


class Prune(PeriodicTask):
    """Drops from the track what every agent has delivered."""

    options = (
        Option(
            "keep_s", "float", help="keep what is younger than so many seconds", default=KEEP_S, minimum=0
        ),
        Option("leave_behind", "bool", help="drop it even where an agent still needs it", default=False),
    )

    def run(self, context: TaskContext) -> dict[str, Any]:
        """Prune once, in one short transaction; who holds much back is named in the log."""

        def change(manager: SyncManager) -> tuple[Pruned, list[str]]:
            context.check(manager)
            pruned = prune_passed(
                manager, context.now, self.values["keep_s"], leave_behind=self.values["leave_behind"]
            )
            return pruned, [str(reader) for reader in held_back(manager, context.now)]

        pruned, held = _change(context, change, "prune")
        for warning in held:
            logger.warning("%s", warning)
        return {"dropped": pruned.dropped, "left_behind": pruned.left_behind, "held_back": held}


class Cleanup(PeriodicTask):
    """Takes away what processes that have died have left behind."""

    def run(self, context: TaskContext) -> dict[str, Any]:
        """Clean up once, in one short transaction."""

        def change(manager: SyncManager) -> Cleaned:
            context.check(manager)
            return clean_up(manager, context.now)

        return dataclasses.asdict(_change(context, change, "clean up"))


class Verify(PeriodicTask):
    """Compares what services hold with what the application has, and mends it where it is told to."""

    options = (
        Option("agent", help="this agent only; else all whose service can be read"),
        Option("quick", "bool", help="compare ids and positions only", default=False),
        Option("repair", "bool", help="send what is missing or stale, and delete what is orphaned",
               default=False),
    )  # fmt: skip

    def run(self, context: TaskContext) -> dict[str, Any]:
        """Verify one agent after another; one that cannot be verified does not keep the others from it.

        Raises:
            LiveSyncError: Some could not be verified, or differ and are not repaired.
        """
        told: dict[str, Any] = {}
        wrong: list[str] = []
        for agent_id in self._agents(context):
            if context.stop():
                break
            try:
                found = self._verify(context, agent_id)
            except Exception as exc:
                logger.warning("agent %s: not verified: %s", agent_id, exc, exc_info=True)
                wrong.append(f"agent {agent_id}: {exc}")
                continue
            told[agent_id] = found
            differences = found["missing"] + found["stale"] + found["orphaned"]
            if differences and not found["repaired"]:
                wrong.append(
                    f"agent {agent_id} differs: {found['missing']} missing, {found['stale']} stale,"
                    f" {found['orphaned']} orphaned; mend it with: livesync agent repair {agent_id}"
                )
        if wrong:
            raise LiveSyncError("; ".join(wrong))
        return told

    def _agents(self, context: TaskContext) -> list[str]:
        with connected(context.db) as root:
            manager = SyncManager.get(root)
            if self.values["agent"]:
                return [self.values["agent"]]
            return [
                agent_id
                for agent_id in manager.agent_ids()
                if manager.stored(agent_id).state == "active" and _is_readable(manager, agent_id)
            ]

    def _verify(self, context: TaskContext, agent_id: str) -> dict[str, Any]:
        with connected(context.db) as root:
            manager = SyncManager.get(root)
            with verify(manager, agent_id, context.host, self.values["quick"], stop=context.stop) as found:
                repaired = self.values["repair"] and found.complete and found.differs
                if repaired:
                    repair(manager, agent_id, context.host, found, stop=context.stop)
                return {**_counts(found), "repaired": repaired}


def _counts(found: Verification) -> dict[str, Any]:
    names = ("checked", "missing", "stale", "orphaned", "pending", "complete")
    return {name: getattr(found, name) for name in names}


def _is_readable(manager: SyncManager, agent_id: str) -> bool:
    agent_type = type(manager.get_agent(agent_id))
    uploader = agent_type.uploader if issubclass(agent_type, PushSyncAgent) else None
    return uploader is not None and uploader.readable


def _change(context: TaskContext, change: Any, note: str) -> Any:
    with connected(context.db) as root:
        access = ManagerAccess(SyncManager.get(root))
    try:
        return access.change(change, note)
    finally:
        access.close()
