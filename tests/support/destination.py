"""What the contract suite of the destinations asks of a harness: the base class of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import RunResult
from livesync.delivery.uploader import Delivery, RecordUploader


class Destination:
    """One destination under test: makes agents for it and reads what it holds.

    The flags that an uploader has too must say the same; the contract suite tries what they promise.
    """

    takes_back = True  #: whether an abandoned slice leaves nothing
    sweeps = False
    keeps_pointer = False
    readable = False
    takes_files = False
    rebuilds = False

    #: What makes an agent readable, or take files, where options do; every test of such has them.
    reading_options: ClassVar[dict[str, Any]] = {}
    file_options: ClassVar[dict[str, Any]] = {"files": True}

    def agent(self, agent_id: str = "a", **options) -> PushSyncAgent:
        raise NotImplementedError

    def documents(self) -> dict[str, bytes]:
        """The living objects: id -> the document's JSON."""
        raise NotImplementedError

    def tombstones(self) -> dict[str, int]:
        raise NotImplementedError

    def alter(self, object_id: str) -> None:
        """Change a document in the service behind livesync's back; for those that can show it."""
        raise NotImplementedError

    @property
    def can_be_altered(self) -> bool:
        return type(self).alter is not Destination.alter

    def files(self) -> dict[str, dict[str, bytes | None]]:
        """The files of the living objects that have any: id -> name -> content, None where it is not held."""
        raise NotImplementedError

    @contextmanager
    def session(
        self, agent_id: str = "a", *, generation: int = 1, rebuild: str = "", **options
    ) -> Iterator[RecordUploader]:
        """An uploader that is open, for one run."""
        agent = self.agent(agent_id, **options)
        uploader = type(agent).uploader(agent)
        uploader.open(Delivery(agent_id, "track", generation, rebuild=rebuild))
        try:
            yield uploader
        finally:
            uploader.close()

    def deliver(
        self,
        *slices,
        agent_id: str = "a",
        generation: int = 1,
        end: bool = True,
        rebuild: str = "",
        exporting: bool = False,
        **options,
    ) -> RunResult:
        """Deliver slices, each ``(till, records)``, as one run does, or as an export does."""
        result = RunResult()
        with self.session(agent_id, generation=generation, rebuild=rebuild, **options) as uploader:
            uploader.exporting = exporting
            for till, records in slices:
                uploader.begin_slice(till)
                result.add(uploader.iterate_over(records))
                if end:
                    uploader.end_slice(None if exporting else till)
                else:
                    uploader.abandon_slice()
        return result
