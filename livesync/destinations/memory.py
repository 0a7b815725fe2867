"""The ``memory`` destination: a service that lives in this process, the twin for tests.

:class:`MemoryService` behaves as a service should (it keeps to the position rule, takes a slice
wholly or not at all, keeps the agents' pointers) and misbehaves on demand. A test gives it to its
agent type::

    SERVICE = MemoryService()

    class CatalogueAgent(PushSyncAgent):
        uploader = SERVICE.uploader_type()

The agent type ``memory`` finds it through its option instead: ``-o service=package.module:function``,
where the function returns the same service each time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Op, Outcome, Record, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader, StoredPointer
from ..errors import OptionError
from ..options import Option, load_function

#: What a scripted answer may be: raised, returned instead of storing, or asked.
Scripted = Exception | list[Verdict] | Callable[[Batch], Iterable[Verdict] | None]


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    body: bytes | None  #: the document's JSON; None: a tombstone


@dataclass(slots=True, eq=False)
class MemoryService:
    """A service in memory: documents and tombstones by id, a pointer for each agent.

    It may be shared by threads; each uploader brings its slices one after the other.

    Attributes:
        pointers: Agent id -> the pointer kept with the rows.
        batches: Every batch that was sent, in order, those that were answered by the script
            included: its records.
        script: Answers for the next batches, first in first out; see :meth:`answer_next`.
    """

    pointers: dict[str, StoredPointer] = field(default_factory=dict)
    batches: list[tuple[Record, ...]] = field(default_factory=list)
    script: deque[Scripted] = field(default_factory=deque)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def documents(self) -> dict[str, Any]:
        """The living objects' documents by id, as read back from their JSON."""
        return {key: msgspec.json.decode(row.body) for key, row in self._rows.items() if row.body is not None}

    @property
    def positions(self) -> dict[str, int]:
        """The position of each living object by id."""
        return {key: row.position for key, row in self._rows.items() if row.body is not None}

    @property
    def tombstones(self) -> dict[str, int]:
        """The position of each deletion by id."""
        return {key: row.position for key, row in self._rows.items() if row.body is None}

    def answer_next(self, *answers: Scripted) -> None:
        """Answer the next batches with these, one each, in place of storing them.

        Args:
            answers: An exception is raised. Verdicts are returned, after the records that they
                call accepted have been stored. A function is called with the batch, and what it
                returns or raises is the answer, in the same way.
        """
        self.script.extend(answers)

    def uploader_type(self) -> type[MemoryUploader]:
        """Return an uploader class that is bound to this service, for ``PushSyncAgent.uploader``."""
        return type("BoundMemoryUploader", (MemoryUploader,), {"service": self})

    def receive(self, batch: Batch, staged: dict[str, _Row]) -> list[Verdict] | None:
        """Take one batch into ``staged``, or answer as the script says."""
        self.batches.append(tuple(batch))
        accepted: set[str] | None = None
        answer: list[Verdict] | None = None
        if self.script:
            answer = _played(self.script.popleft(), batch)
            if answer is not None:
                accepted = {verdict.object_id for verdict in answer if verdict.outcome is Outcome.ACCEPTED}
        stale: set[str] = set()
        with self._lock:
            for record, body in zip(batch, batch.bodies, strict=True):
                if accepted is not None and record.object_id not in accepted:
                    continue
                known = staged.get(record.object_id) or self._rows.get(record.object_id)
                if known is not None and known.position > record.position:
                    stale.add(record.object_id)
                else:
                    staged[record.object_id] = _Row(record.position, None if record.op is Op.DELETE else body)
        if answer is not None or not stale:
            return answer
        return [
            Verdict(record.object_id, Outcome.STALE if record.object_id in stale else Outcome.ACCEPTED)
            for record in batch
        ]

    def commit(self, staged: dict[str, _Row], agent_id: str, pointer: StoredPointer | None) -> None:
        """Make a slice last: its rows and, unless None, the agent's pointer."""
        with self._lock:
            self._rows.update(staged)
            if pointer is not None:
                self.pointers[agent_id] = pointer

    def sweep(self, before: int) -> int:
        """Turn documents whose position is lower than ``before`` into tombstones; return how many."""
        with self._lock:
            old = [key for key, row in self._rows.items() if row.body is not None and row.position < before]
            self._rows.update((key, _Row(before, None)) for key in old)
            return len(old)


def _played(scripted: Scripted, batch: Batch) -> list[Verdict] | None:
    if isinstance(scripted, Exception):
        raise scripted
    if callable(scripted):
        answer = scripted(batch)
        return None if answer is None else list(answer)
    return list(scripted)


class MemoryUploader(RecordUploader):
    """Carries records to a :class:`MemoryService`; a slice is taken wholly or not at all."""

    keeps_pointer = True

    #: The service, for a subclass that is bound to one; None: the agent's option names it.
    service: ClassVar[MemoryService | None] = None

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self._service = self.service or _named_service(agent)
        self._staged: dict[str, _Row] = {}

    def open(self, delivery: Delivery) -> None:
        """Get ready for a run."""
        super().open(delivery)
        self._staged = {}

    def read_pointer(self) -> StoredPointer | None:
        """Return the pointer that the service keeps for this agent."""
        return self._service.pointers.get(self.delivery.agent_id)

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        return self._service.receive(batch, self._staged)

    def end_slice(self, position: int | None) -> None:
        """Make the slice last, with the pointer unless ``position`` is None."""
        who = self.delivery
        pointer = None if position is None else StoredPointer(position, who.track_id, who.generation)
        self._service.commit(self._staged, who.agent_id, pointer)
        self._staged = {}

    def abandon_slice(self) -> None:
        """Forget what the slice brought."""
        self._staged = {}

    def sweep(self, before: int) -> int | None:
        """Remove documents older than ``before``; return how many."""
        return self._service.sweep(before)

    def close(self) -> None:
        """Forget a slice that was not ended."""
        self._staged = {}


def _named_service(agent: SyncAgent) -> MemoryService:
    reference = agent.values.get("service")
    if reference is None:
        raise OptionError("option service is needed: -o service=package.module:function")
    service = load_function(reference)()
    if not isinstance(service, MemoryService):
        kind = type(service).__name__
        raise OptionError(f"option service: {reference} returned a {kind}, not a MemoryService")
    return service


class MemoryAgent(PushSyncAgent):
    """Delivers to a :class:`MemoryService` in this process: for trying out and for tests."""

    options = (
        Option(
            "service",
            "function",
            help="package.module:function that returns the MemoryService",
            required=True,
            identifies=True,
        ),
        *DELIVERY_OPTIONS,
    )
    uploader = MemoryUploader
