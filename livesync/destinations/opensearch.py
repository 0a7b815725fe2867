"""The ``opensearch`` destination: an index of OpenSearch or Elasticsearch, over their REST API.

Searches use an alias, the option ``index``; behind it lies an index that this module makes, and puts
another in the place of when all is exported anew (a rebuild). A batch is one bulk request, and each
record is an ``index`` action whose external version is the record's position: the service takes it if
the position is equal to or greater than what it has, and else says "conflict", which is stale. Deletes
are tombstones, documents that the alias hides; why, and what else lies in the index, is told in
:mod:`livesync.destinations._opensearch_documents`.

The agent's pointer is a document beside the index, written after the rows of its slice have been
accepted: a crash between them repeats the slice, which changes nothing. It is looked at before a slice
is sent and written over the version that was looked at, so a runner that another has replaced notices
before it sends anything, and never moves the pointer.

An index that was made without a mapping file has no field of a document indexed, and the texts of all
of them in one: whatever a document is, it is taken and found.

The index is an agent's own: two agents that share one would overwrite each other's documents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Outcome, Record, Verdict
from ..delivery.uploader import (
    DELIVERY_OPTIONS,
    IN_FLIGHT_OPTION,
    Delivery,
    HeldRow,
    RecordUploader,
    StoredPointer,
)
from ..errors import DeliveryError, RetryLater, ServiceRefuses
from ..options import Option
from ..words import plural
from ._http_session import HTTP_OPTIONS
from ._opensearch_documents import FIELD, LIVING, actions, takes_our_field
from ._opensearch_indices import Indices, Target, check_alias, creation_body
from ._opensearch_pointer import Note, Notebook, Position, Rebuild
from ._opensearch_reading import Reader
from ._opensearch_rest import RESTService, check_url, check_way_in
from ._text import document_text

logger = logging.getLogger(__name__)

#: What the requests need: ``require_alias``, which both have (OpenSearch began as 7.10.2).
_OLDEST_ELASTICSEARCH: Final = (7, 10)

#: Tombstones written at once by a sweep.
_SWEPT_AT_ONCE: Final = 1000

#: The worse of two verdicts is that of a record which goes to two indices.
_BADNESS: Final = {Outcome.ACCEPTED: 0, Outcome.STALE: 1, Outcome.REFUSED: 2, Outcome.NOT_NOW: 3}


class _Version(msgspec.Struct):
    number: str = ""
    distribution: str = "Elasticsearch"


class _About(msgspec.Struct):
    version: _Version


class OpenSearchUploader(RecordUploader):
    """Carries records into an index; keeps the agent's pointer beside it.

    Args:
        agent: Its options say where to and how.
        now: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    keeps_pointer = True
    concurrent = True
    readable = True
    rebuilds = True

    def __init__(
        self, agent: SyncAgent, *args: Any, now: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.alias: str = values["index"]
        self._mapping_file: str | None = values["mapping"]
        self._keep_old: bool = values["keep_old"]
        self._now = now
        self._opened: tuple[RESTService, Indices, Notebook] | None = None
        #: What is written: the index behind the alias, and in a rebuild the one that is being filled.
        self._current: Target | None = None
        self._rebuilt: Target | None = None
        self._is_ready = False
        self._accepted_some = False
        self._about = ""

    @property
    def _parts(self) -> tuple[RESTService, Indices, Notebook]:
        if self._opened is None:
            raise RuntimeError("open() comes before anything else")
        return self._opened

    @property
    def _service(self) -> RESTService:
        return self._parts[0]

    @property
    def _indices(self) -> Indices:
        return self._parts[1]

    @property
    def _reader(self) -> Reader:
        return Reader(self._service, f"livesync-{self.delivery.agent_id}")

    @property
    def _notebook(self) -> Notebook:
        return self._parts[2]

    def open(self, delivery: Delivery) -> None:
        """Ask the service who it is; nothing is made or changed there yet.

        Raises:
            OptionError: A secret is not there.
            ServiceRefuses: It is another service, too old, or does not let us in.
            RetryLater: It does not answer.
        """
        super().open(delivery)
        self.close()
        service = RESTService(self.agent, self._now)
        indices = Indices(service, self.alias, self._mapping_file)
        self._opened = service, indices, Notebook(service, self.alias, delivery.agent_id)
        self._about = _recognised(service)

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None
        self._current = self._rebuilt = None
        self._is_ready = self._accepted_some = False

    def probe(self) -> str:
        """Tell who answers, and whether there is an index yet."""
        creation_body(self._mapping_file)
        current = self._indices.current()
        pointer = self.read_pointer()
        if current is None:
            return f"{self._about}; the index {self.alias} will be made"
        living = plural(self._indices.count(current, LIVING), "document")
        stands = "no pointer" if pointer is None else f"pointer at {pointer.position}"
        return f"{self._about}; {self.alias} stands for {current.index}, {living}, {stands}"

    # -- the pointer, and where records go ---------------------------------------------------------

    def read_pointer(self) -> StoredPointer | None:
        """Return the agent's pointer; None if there is none, or the index it speaks of is lost.

        It is lost if the alias stands for another index now than was written, or for none, or for
        one that was emptied.
        """
        self._is_ready = False
        note = self._notebook.read()
        pointer = note.pointer
        if pointer is None:
            return None
        current = self._indices.current()
        if current is None and self.delivery.rebuild and note.rebuild is not None:
            current = self._indices.named(note.rebuild.index)  # all that there is, so far
        lost = ""
        if current is None:
            lost = f"there is no index {self.alias}"
        elif not _speaks_of(note, current):
            lost = f"{self.alias} stands for another index than the one that was written"
        elif note.holds_rows and self._indices.is_empty(current):
            lost = f"{self.alias} was emptied"
        if lost:
            logger.warning("agent %s: %s", self.delivery.agent_id, lost)
            return None
        return StoredPointer(pointer.position, pointer.track_id, pointer.generation)

    def begin_slice(self, till: int) -> None:
        """Begin a slice: make sure that its index is there and that nobody else has moved the pointer.

        Raises:
            LeaseLost: Somebody has.
            ServiceRefuses: There can be no such index, or an export's was lost on the way.
            RetryLater: Not now.
        """
        super().begin_slice(till)
        if self._is_ready:
            self._notebook.check()
        else:
            self._get_ready(self.exporting)

    def _get_ready(self, exporting: bool) -> None:
        """Find or make the indices, and note which they are."""
        notebook = self._notebook
        if notebook.is_read:
            notebook.check()
        else:
            notebook.read()
        note, generation = notebook.note, self.delivery.generation
        begins = exporting and note.generation < generation
        current = self._indices.current()
        if self.delivery.rebuild:
            note = self._find_rebuilt(note, current)
        else:
            if exporting:
                self._refuse_lost_export(note, current)
            self._rebuilt = None
            current = current or self._indices.create(f"{self.alias}-{generation}", True)
        self._current = current
        note = msgspec.structs.replace(self._speaking_of(note, current), generation=generation)
        if begins:  # before it is noted: where this breaks off, the next attempt does it
            note = self._without_abandoned(note)
        if note != notebook.note:
            notebook.write(note)
        self._is_ready = True

    def _find_rebuilt(self, note: Note, current: Target | None) -> Note:
        """Find or make the index that a rebuild fills; return the note that says so."""
        rebuild = self.delivery.rebuild
        index = f"{self.alias}-{rebuild}"
        if current is not None and current.index == index:  # it has been finished already
            self._rebuilt = None
            return note
        found = self._indices.named(index)
        noted = note.rebuild
        if noted is not None and noted.name == rebuild:
            if found is None or found.uuid != noted.uuid:
                raise ServiceRefuses(
                    f"the index {index}, which the rebuild {rebuild!r} was filling, is gone: begin the"
                    f" rebuild anew: livesync agent export {self.delivery.agent_id} --rebuild --anew"
                )
            self._rebuilt = found
            return note
        self._rebuilt = self._indices.create(index, False)
        return msgspec.structs.replace(note, rebuild=Rebuild(rebuild, index, self._rebuilt.uuid))

    def _refuse_lost_export(self, note: Note, current: Target | None) -> None:
        """Refuse to go on with an export whose first part lies in an index that is no more."""
        began = note.uuid and note.generation == self.delivery.generation
        if began and (current is None or not _speaks_of(note, current)):
            raise ServiceRefuses(
                f"the index {note.index}, to which the first part of this export was sent, is gone: begin"
                f" the export anew: livesync agent export {self.delivery.agent_id} --anew"
            )

    def _without_abandoned(self, note: Note) -> Note:
        """Remove what earlier exports have left unfinished; return the note without it.

        An export does not fail for it: rights may be lacking, or a snapshot hold the index.
        """
        agent_id, removed = self.delivery.agent_id, []
        try:
            for index in self._indices.abandoned(self.delivery.generation):
                if self._rebuilt is None or index != self._rebuilt.index:
                    self._indices.remove(index)
                    removed.append(index)
        except DeliveryError as exc:
            logger.warning("agent %s: what earlier exports have left could not be removed: %s", agent_id, exc)
        if removed:
            logger.info("agent %s: removed what earlier exports have left: %s", agent_id, ", ".join(removed))
        return note if self.delivery.rebuild else msgspec.structs.replace(note, rebuild=None)

    def _speaking_of(self, note: Note, current: Target | None) -> Note:
        """Return the note as it is where ``current`` is the index behind the alias."""
        if current is None or note.uuid == current.uuid:
            return note
        noted = note.rebuild
        note = msgspec.structs.replace(note, index=current.index, uuid=current.uuid, holds_rows=False)
        if noted is None or noted.uuid != current.uuid:
            return msgspec.structs.replace(note, pointer=None)
        # the rebuild is finished: what the pointer says holds for the new index too
        return msgspec.structs.replace(note, holds_rows=not self._indices.is_empty(current), rebuild=None)

    def end_slice(self, position: int | None) -> None:
        """Write the pointer, unless ``position`` is None; all rows of the slice are there already.

        Raises:
            LeaseLost: Somebody else has moved it.
            RetryLater, ServiceRefuses: It cannot be written.
        """
        note = self._notebook.note
        holds_rows = note.holds_rows or self._accepted_some
        who = self.delivery
        pointer = note.pointer if position is None else Position(position, who.track_id, who.generation)
        if position is not None or holds_rows != note.holds_rows:
            self._notebook.write(msgspec.structs.replace(note, holds_rows=holds_rows, pointer=pointer))

    # -- records -------------------------------------------------------------------------------------

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        targets = self._targets()
        refused = {
            record.object_id: Verdict(
                record.object_id, Outcome.REFUSED, f"it has a field {FIELD!r}, which is livesync's own"
            )
            for record, body in zip(batch, batch.bodies, strict=True)
            if body is not None and takes_our_field(body, record.document)
        }
        sent = [
            (record, body)
            for record, body in zip(batch, batch.bodies, strict=True)
            if record.object_id not in refused
        ]
        verdicts = self._send(sent, targets) if sent else []
        accepted = sum(verdict.outcome is Outcome.ACCEPTED for verdict in verdicts)
        if accepted and targets[0] == self._current:
            self._accepted_some = True
        return None if accepted == len(batch) else [*verdicts, *refused.values()]

    def _send(self, sent: Collection[tuple[Record, bytes | None]], targets: list[Target]) -> list[Verdict]:
        """Send records to each of ``targets``; return of each record the worst that was said."""
        ids = [record.object_id for record, _ in sent]
        lines: dict[bool, bytes] = {}
        verdicts: list[Verdict] = []
        for target in targets:
            takes_text = target.takes_text
            if takes_text not in lines:
                lines[takes_text] = _lines(sent, takes_text)
            others = self._service.bulk(target.write_alias, lines[takes_text], ids)
            verdicts = [_worse(*pair) for pair in zip(verdicts or others, others, strict=True)]
        return verdicts

    def _targets(self) -> list[Target]:
        """Return the indices that this slice's records go to."""
        if not self._is_ready:
            raise RuntimeError("begin_slice() comes before a batch")
        if self._rebuilt is not None and (self.exporting or self._current is None):
            return [self._rebuilt]
        return [target for target in (self._current, self._rebuilt) if target is not None]

    def sweep(self, before: int) -> int | None:
        """Turn documents older than ``before`` into tombstones of that position; return how many."""
        if not self._is_ready:
            self._get_ready(True)
        target = self._targets()[-1]
        self._indices.refresh(target)
        removed, after = 0, None
        while ids := self._reader.ids_before(target.index, before, after, _SWEPT_AT_ONCE):
            lines = actions((object_id, before, None, None) for object_id in ids)
            verdicts = self._service.bulk(target.write_alias, lines, ids)
            removed += sum(verdict.outcome is Outcome.ACCEPTED for verdict in verdicts)
            for verdict in verdicts:
                if verdict.outcome in (Outcome.NOT_NOW, Outcome.REFUSED):
                    raise RetryLater(reason=f"what is gone could not be removed: {verdict.reason}")
            after = ids[-1]
        return removed

    # -- a rebuild ------------------------------------------------------------------------------------

    def finish_rebuild(self) -> None:
        """Let the alias stand for the index that the export has filled, and remove the old one.

        Searches see the old one to its last moment and then the whole new one.
        """
        self._get_ready(True)
        new, old = self._rebuilt, self._current
        if new is None:  # done before
            return
        self._indices.refresh(new)
        self._indices.swap(old, new, self._keep_old)
        self._current, self._rebuilt = new, None
        self._notebook.write(self._speaking_of(self._notebook.note, new))

    # -- what is held ---------------------------------------------------------------------------------

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what the index holds by ascending ids (by code points).

        Documents that others have put into the index are not told.

        Args:
            after: Begin after this id.
            quick: Leave the digests out.

        Raises:
            RetryLater, ServiceRefuses: It cannot be read.
        """
        target = self._indices.current()
        if target is None:
            return
        self._indices.refresh(target)
        yield from self._reader.rows(target.index, after, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what the index holds of these objects, with digests.

        Raises:
            RetryLater, ServiceRefuses: It cannot be read.
        """
        target = self._indices.current()
        return [] if target is None else self._reader.rows_of(target.index, object_ids)


def _recognised(service: RESTService) -> str:
    """Return who answers at the URL: product and version.

    Raises:
        ServiceRefuses: Somebody else, or too old.
    """
    reply = service.ask("GET", "/", want={403})
    if reply.status == 403:  # a user that may use some indices and ask nothing else
        return f"{service.shown_url} answers, and does not tell its version"
    version = reply.read(_About).version
    name = "OpenSearch" if version.distribution == "opensearch" else version.distribution
    numbers = tuple(int(part) for part in version.number.split(".")[:2] if part.isdigit())
    if name != "OpenSearch" and numbers < _OLDEST_ELASTICSEARCH:
        raise ServiceRefuses(
            f"{service.shown_url} is {name} {version.number or 'without a version'}:"
            " it takes Elasticsearch 7.10 or newer, or OpenSearch"
        )
    return f"{name} {version.number}"


def _speaks_of(note: Note, target: Target) -> bool:
    """Tell whether what was noted holds for ``target``: the index behind the alias, or a rebuild's."""
    return target.uuid == note.uuid or (note.rebuild is not None and target.uuid == note.rebuild.uuid)


def _lines(sent: Collection[tuple[Record, bytes | None]], with_text: bool) -> bytes:
    """Return the bulk lines of records, which come with their documents' JSON."""
    return actions(
        (
            record.object_id,
            record.position,
            body,
            document_text(record.document) if with_text and body is not None else None,
        )
        for record, body in sent
    )


def _worse(one: Verdict, other: Verdict) -> Verdict:
    return max(one, other, key=lambda verdict: _BADNESS[verdict.outcome])


class OpenSearchAgent(PushSyncAgent):
    """Keeps an index of OpenSearch or Elasticsearch."""

    options = (
        Option("url", "url", help="where the cluster answers", required=True, identifies=True),
        Option("index", help="the alias that searches use", required=True, identifies=True),
        Option(
            "mapping", "path", help='JSON file with the "settings" and "mappings" of an index that is made'
        ),
        Option("username", help="who we are, with password"),
        Option("password", "secret", help="of username"),
        Option("api_key", "secret", help="sent as Authorization: ApiKey; encoded, or id:key"),
        Option("token", "secret", help="sent as Authorization: Bearer"),
        Option("gzip", "bool", help="compress what is sent", default=False),
        Option("keep_old", "bool", help="leave the old index where a rebuild has replaced it", default=False),
        *HTTP_OPTIONS,
        *DELIVERY_OPTIONS,
        IN_FLIGHT_OPTION,
    )
    uploader = OpenSearchUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        check_url(self.values["url"])
        check_alias(self.values["index"])
        check_way_in(self)
