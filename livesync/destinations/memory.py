"""The ``memory`` destination: a service that lives in this process, the twin for tests.

:class:`MemoryService` behaves as a service should (it keeps to the position rule, takes a slice
wholly or not at all, keeps the agents' pointers and the objects' files, can be rebuilt, tells what
it holds) and misbehaves on demand. A test gives it to its agent type::

    SERVICE = MemoryService()

    class CatalogueAgent(PushSyncAgent):
        uploader = SERVICE.uploader_type()

The agent type ``memory`` finds it through its option instead: ``-o service=package.module:function``,
where the function returns the same service each time.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import AttachedFile, Batch, Outcome, Record, Verdict
from ..delivery.uploader import (
    DELIVERY_OPTIONS,
    FILE_OPTIONS,
    IN_FLIGHT_OPTION,
    Delivery,
    HeldRow,
    RecordUploader,
    StoredPointer,
)
from ..errors import LeaseLost, OptionError
from ..options import Option, load_function
from ..words import plural
from ._attached import blocks, refused_files, verdicts

#: What a scripted answer may be: raised, returned instead of storing, or asked.
Scripted = Exception | list[Verdict] | Callable[[Batch], Iterable[Verdict] | None]


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    body: bytes | None  #: the document's JSON; None: a tombstone
    files: tuple[AttachedFile, ...] = ()  #: without their contents


@dataclass(slots=True)
class Staged:
    """What an open slice has brought.

    Attributes:
        rebuild: The rebuild under way, "" without one.
        exporting: Whether it goes to the rebuild's new place only.
        rows: For the place that everybody sees.
        new_rows: For the rebuild's place.
        contents: Of files, by digest.
    """

    rebuild: str = ""
    exporting: bool = False
    rows: dict[str, _Row] = field(default_factory=dict)
    new_rows: dict[str, _Row] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class MemoryService:
    """A service in memory: documents and tombstones by id, a pointer for each agent.

    It may be shared by threads; each uploader brings its slices one after the other.

    Attributes:
        concurrent: Whether its uploaders may send several batches at once.
        pointers: Agent id -> the pointer kept with the rows.
        contents: The contents of files, by digest.
        batches: Every batch that was sent, in order, those that were answered by the script
            included: its records.
        script: Answers for the next batches, first in first out; see :meth:`answer_next`.
    """

    concurrent: bool = False
    pointers: dict[str, StoredPointer] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: list[tuple[Record, ...]] = field(default_factory=list)
    script: deque[Scripted] = field(default_factory=deque)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _new_places: dict[str, dict[str, _Row]] = field(default_factory=dict)
    _rebuilt: str = ""  #: the last rebuild that was finished
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

    @property
    def files(self) -> dict[str, tuple[AttachedFile, ...]]:
        """The files of each living object that has any, by id; their contents are in :attr:`contents`."""
        return {key: row.files for key, row in self._rows.items() if row.files}

    def answer_next(self, *answers: Scripted) -> None:
        """Answer the next batches with these, one each, in place of storing them.

        Args:
            answers: An exception is raised. Verdicts are returned, after the records that they
                call accepted have been stored. A function is called with the batch, and what it
                returns or raises is the answer, in the same way.
        """
        self.script.extend(answers)

    def alter(self, object_id: str, document: dict[str, Any]) -> None:
        """Put another document in the place of a held one, as somebody might who is not livesync."""
        body = msgspec.json.encode(document, order="deterministic")
        with self._lock:
            self._rows[object_id] = replace(self._rows[object_id], body=body)

    def uploader_type(self) -> type[MemoryUploader]:
        """Return an uploader class that is bound to this service, for ``PushSyncAgent.uploader``."""
        bound = {"service": self, "concurrent": self.concurrent}
        return type("BoundMemoryUploader", (MemoryUploader,), bound)

    def receive(self, batch: Batch, staged: Staged) -> list[Verdict] | None:
        """Take one batch into ``staged``, or answer as the script says."""
        with self._lock:
            self.batches.append(tuple(batch))
            scripted = self.script.popleft() if self.script else None
        answer = None if scripted is None else _played(scripted, batch)
        refused = refused_files(batch)
        contents = {
            file.digest: b"".join(blocks(file))
            for record in batch
            for file in record.files or ()
            if file.content is not None and record.object_id not in refused
        }
        taken = {record.object_id for record in batch} - refused.keys()
        if answer is not None:
            taken &= {verdict.object_id for verdict in answer if verdict.outcome is Outcome.ACCEPTED}
        stale: set[str] = set()
        with self._lock:
            staged.contents.update(contents)
            for record, body in zip(batch, batch.bodies, strict=True):
                if record.object_id in taken and not self._take(record, body, staged):
                    stale.add(record.object_id)
        return verdicts(batch, stale, refused) if answer is None else answer

    def _take(self, record: Record, body: bytes | None, staged: Staged) -> bool:
        """Stage one record; False: there is newer, in the place that counts."""
        if staged.rebuild in self._new_places:
            taken = _put(record, body, staged.new_rows, self._new_places[staged.rebuild])
            if staged.exporting:
                return taken
        return _put(record, body, staged.rows, self._rows)

    def begin(self, rebuild: str) -> Staged:
        """Return an empty slice; a rebuild that was not heard of before gets a place."""
        with self._lock:
            if rebuild and rebuild != self._rebuilt:
                self._new_places.setdefault(rebuild, {})
        return Staged(rebuild)

    def commit(
        self, staged: Staged, agent_id: str, pointer: StoredPointer | None, expected: StoredPointer | None
    ) -> None:
        """Make a slice last: its rows and, unless None, the agent's pointer.

        Raises:
            LeaseLost: The agent's pointer is not the ``expected`` one: nothing is kept.
        """
        with self._lock:
            if pointer is not None and self.pointers.get(agent_id) != expected:
                raise LeaseLost(f"another runner delivered for agent {agent_id!r} meanwhile")
            self._rows.update(staged.rows)
            if staged.rebuild in self._new_places:
                self._new_places[staged.rebuild].update(staged.new_rows)
            self.contents.update(staged.contents)
            self._drop_contents()
            if pointer is not None:
                self.pointers[agent_id] = pointer

    def sweep(self, before: int) -> int:
        """Turn documents whose position is lower than ``before`` into tombstones; return how many."""
        with self._lock:
            old = [key for key, row in self._rows.items() if row.body is not None and row.position < before]
            self._rows.update((key, _Row(before, None)) for key in old)
            self._drop_contents()
            return len(old)

    def finish_rebuild(self, rebuild: str) -> None:
        """Let the rebuild's place become the one that everybody sees, unless it has done so."""
        with self._lock:
            if rebuild != self._rebuilt:
                self._rows = self._new_places.pop(rebuild, {})
                self._rebuilt = rebuild
                self._new_places.clear()
                self._drop_contents()

    def rows(self, after: str | None, quick: bool) -> Iterator[HeldRow]:
        """Yield the living objects as they are now, by ascending ids, those after ``after``."""
        with self._lock:
            rows = self._rows.copy()
        ids = sorted(key for key, row in rows.items() if row.body is not None)
        for index in range(0 if after is None else bisect_right(ids, after), len(ids)):
            yield _held(ids[index], rows[ids[index]], quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the living ones among these objects."""
        with self._lock:
            rows = [(object_id, self._rows.get(object_id)) for object_id in object_ids]
        return [_held(key, row, False) for key, row in rows if row is not None and row.body is not None]

    def _drop_contents(self) -> None:
        """Drop the contents that no file names any more."""
        if self.contents:
            places = (self._rows, *self._new_places.values())
            named = {file.digest for rows in places for row in rows.values() for file in row.files}
            self.contents = {key: content for key, content in self.contents.items() if key in named}


def _put(record: Record, body: bytes | None, staged: dict[str, _Row], rows: dict[str, _Row]) -> bool:
    """Stage a row unless there is a newer one."""
    known = staged.get(record.object_id) or rows.get(record.object_id)
    if known is not None and known.position > record.position:
        return False
    files: tuple[AttachedFile, ...] = ()
    if body is not None and record.files is not None:
        files = tuple(msgspec.structs.replace(file, content=None) for file in record.files)
    elif body is not None and known is not None:
        files = known.files  # the record says nothing of files
    staged[record.object_id] = _Row(record.position, body, files)
    return True


def _held(object_id: str, row: _Row, quick: bool) -> HeldRow:
    assert row.body is not None
    return HeldRow(
        object_id, row.position, None if quick else hashlib.blake2b(row.body, digest_size=16).hexdigest()
    )


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
    readable = True
    takes_files = True
    rebuilds = True

    #: The service, for a subclass that is bound to one; None: the agent's option names it.
    service: ClassVar[MemoryService | None] = None

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        self._service = self.service or _named_service(agent)
        self.concurrent = self._service.concurrent  # each service says it for itself
        super().__init__(agent, *args, **kwargs)
        self._staged = Staged()
        self._pointer: StoredPointer | None = None

    def open(self, delivery: Delivery) -> None:
        """Get ready for a run."""
        super().open(delivery)
        self._staged = self._service.begin(delivery.rebuild)
        self.read_pointer()

    def read_pointer(self) -> StoredPointer | None:
        """Return the pointer that the service keeps for this agent."""
        self._pointer = self._service.pointers.get(self.delivery.agent_id)
        return self._pointer

    def begin_slice(self, till: int) -> None:
        """Begin a slice."""
        super().begin_slice(till)
        self._staged = Staged(self.delivery.rebuild, self.exporting)

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        return self._service.receive(batch, self._staged)

    def end_slice(self, position: int | None) -> None:
        """Make the slice last, with the pointer unless ``position`` is None.

        Raises:
            LeaseLost: Another runner has moved the pointer since it was read.
        """
        who = self.delivery
        pointer = None if position is None else StoredPointer(position, who.track_id, who.generation)
        self._service.commit(self._staged, who.agent_id, pointer, self._pointer)
        self._pointer = pointer or self._pointer
        self._staged = Staged(who.rebuild)

    def abandon_slice(self) -> None:
        """Forget what the slice brought."""
        self._staged = Staged(self.delivery.rebuild)

    def probe(self) -> str:
        """Return how many documents there are."""
        return f"memory, {plural(len(self._service.positions), 'document')}"

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what the service held when the first row was asked for, by ascending ids."""
        return self._service.rows(after, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what the service holds of these objects."""
        return self._service.rows_of(object_ids)

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return the contents that neither the service nor the open slice has."""
        return digests - self._service.contents.keys() - self._staged.contents.keys()

    def finish_rebuild(self) -> None:
        """Let what the export has brought take the place of the old."""
        self._service.finish_rebuild(self.delivery.rebuild)

    def sweep(self, before: int) -> int | None:
        """Remove documents older than ``before``; return how many."""
        return self._service.sweep(before)

    def close(self) -> None:
        """Forget a slice that was not ended."""
        self.abandon_slice()


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
        IN_FLIGHT_OPTION,
        *FILE_OPTIONS,
        *DELIVERY_OPTIONS,
    )
    uploader = MemoryUploader
