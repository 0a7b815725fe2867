"""The periodic task of a database that keeps versions: what is old loses its contents, garbage goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..database import committed, connected
from ..errors import LiveSyncError, OptionError
from ..manager import SyncManager
from ..options import Option
from ..versions.upkeep import AT_ONCE, GRACE_S
from .base import PeriodicTask, TaskContext

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection


class PruneVersions(PeriodicTask):
    """Takes away what old versions held, and versions that nothing leads to, in short transactions."""

    options = (
        Option(
            "keep",
            help="what keeps its contents: a number of versions, an age as 30d, daily, weekly:52, monthly,"
            " yearly, several with commas; without it nothing is pruned",
        ),
        Option("collection", help="this collection only; else all that have versions"),
        Option(
            "grace_s",
            "float",
            help="remove versions that nothing leads to once they are so many seconds old",
            default=GRACE_S,
            minimum=0,
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.values["keep"]:
            from ..versions.upkeep.retention import Policy

            try:
                Policy.parsed(self.values["keep"])
            except ValueError as exc:
                raise OptionError(f"option keep: {exc}") from exc

    def run(self, context: TaskContext) -> dict[str, Any]:
        """Do it once, a slice after the other; a collection that is damaged keeps no other from it.

        Raises:
            LiveSyncError: Some collections could not be pruned.
        """
        from ..versions.stored import find_histories

        with connected(context.db) as root:
            context.check(SyncManager.get(root))
            names = sorted(find_histories(root) or ())
        if self.values["collection"]:
            names = [self.values["collection"]]
        told: dict[str, Any] = {}
        wrong: list[str] = []
        for name in names:
            try:
                told[name] = {"pruned": self._pruned(context, name), "removed": self._removed(context, name)}
            except LiveSyncError as exc:
                wrong.append(f"collection {name}: {exc}")
        if wrong:
            raise LiveSyncError("; ".join(wrong))
        return told

    def _pruned(self, context: TaskContext, name: str) -> int:
        from ..versions.upkeep.retention import Policy

        if not self.values["keep"]:
            return 0
        policy = Policy.parsed(self.values["keep"])
        return self._slices(context, name, lambda collection: collection.prune(policy))

    def _removed(self, context: TaskContext, name: str) -> int:
        grace_s = self.values["grace_s"]
        return self._slices(context, name, lambda collection: collection.collect_garbage(grace_s, AT_ONCE))

    def _slices(self, context: TaskContext, name: str, change: Callable[[VersionedCollection], int]) -> int:
        """Change a collection again and again until nothing is left to do, a transaction each."""
        from ..versions.collection import VersionedCollection

        def work(root: Any) -> int:
            context.check(SyncManager.get(root))
            collection = VersionedCollection(root, name, clock=lambda: context.now)
            _ = collection.contents
            return change(collection)

        total = 0
        while not context.stop() and (number := committed(context.db, work)):
            total += number
        return total
