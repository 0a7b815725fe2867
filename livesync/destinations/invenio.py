"""The ``invenio`` destination: records of an InvenioRDM repository, through its REST API.

An upsert makes a draft, or edits the one of the record that is there, and publishes it. A delete
leaves a tombstone, which takes administration rights there, or restricts the record to its owner
and empties it (``removal=restrict``). What metadata a document has is the host's to say: the option
``mapping`` names its function.

Which record is whose is kept in the repository alone: each has a mark among its alternate
identifiers (:mod:`livesync.destinations._invenio_mark`), by which it is searched before anything is
made. The mark also holds the position, so an older state never replaces a newer one.

The search there shows what was written only after a while, a second as a rule. What this uploader
has written itself it reads from the repository's database. What another may have written just
before, or a request that was never answered, it cannot know of: so that the search shows nothing of
an object is believed only when ``settle_s`` seconds have gone by since it began, or since that request.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, Final
from urllib.parse import urlsplit

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import AttachedFile, Batch, Op, Outcome, Record, Verdict
from ..delivery.uploader import (
    DELIVERY_OPTIONS,
    FILE_OPTIONS,
    IN_FLIGHT_OPTION,
    Delivery,
    HeldRow,
    RecordUploader,
)
from ..errors import OptionError, RetryLater
from ..options import Option, load_function
from ..words import plural
from ._answers import without_secrets
from ._attached import refused_files
from ._http_session import HTTP_OPTIONS, HTTPService, bearer
from ._invenio_api import InvenioAPI, LookAgain, RecordRefused
from ._invenio_files import FilePlan, Holder, plan_files
from ._invenio_listing import Listing
from ._invenio_lookup import Held, Lookup, TooSoon, chunks
from ._invenio_mark import FileMark, Mark, key_of
from ._invenio_metadata import default_metadata
from ._invenio_publishing import Publisher, Rules, map_document

logger = logging.getLogger(__name__)

#: Each record takes several requests: with fewer in a batch, a run can be ended sooner.
DEFAULT_BATCH_SIZE: Final = 50


class InvenioUploader(RecordUploader):
    """Carries records to an InvenioRDM repository, one after the other.

    Args:
        agent: Its options say where to and how.
        clock: Returns epoch seconds.
    """

    concurrent = True
    readable = True
    takes_files = True

    def __init__(
        self, agent: SyncAgent, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.url: str = values["url"].rstrip("/").removesuffix("/api")
        self._rules = Rules(
            values["scheme"],
            values["access"],
            values["removal"] == "restrict",
            values["graves"],
            values["community"],
        )
        self._clock = clock
        self._mapping: Callable[[dict[str, Any], str], Any] = default_metadata
        self._opened: tuple[InvenioAPI, Lookup, Publisher] | None = None

    @property
    def _session(self) -> tuple[InvenioAPI, Lookup, Publisher]:
        if self._opened is None:
            raise RuntimeError("open() comes before anything else")
        return self._opened

    @property
    def _api(self) -> InvenioAPI:
        return self._session[0]

    def open(self, delivery: Delivery) -> None:
        """Load the mapping, read the token and get a session ready; nothing is sent yet.

        Raises:
            OptionError: The mapping cannot be imported, or the token is not there.
        """
        super().open(delivery)
        self.close()
        values = self.agent.values
        if values["mapping"] is not None:
            self._mapping = load_function(values["mapping"])
        api = InvenioAPI(
            HTTPService.of(self.agent, bearer(self.agent)),
            HTTPService.of(self.agent),
            self.url,
            without_secrets(self.url),
            self._clock,
        )
        lookup = Lookup(api, delivery.track_id, not self._rules.restricts, values["settle_s"], self._clock)
        self._opened = api, lookup, Publisher(api, lookup, self._rules, self._clock)

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def probe(self) -> str:
        """Count what the token's user has there, and look for the community."""
        api, _, publisher = self._session
        records = plural(api.count(), "record")
        publisher.community_id()
        return f"{without_secrets(self.url)} is an InvenioRDM; the token's user has {records} there"

    def _upload_batch(self, batch: Batch) -> list[Verdict]:
        try:
            held = self._session[1].find([record.object_id for record in batch])
        except LookAgain as exc:
            raise RetryLater(reason=str(exc)) from exc
        refused = refused_files(batch)
        verdicts: list[Verdict] = []
        too_soon: TooSoon | None = None
        for record, body in zip(batch, batch.bodies, strict=True):
            object_id = record.object_id
            try:
                if object_id in refused:
                    raise RecordRefused(refused[object_id])
                verdicts.append(Verdict(object_id, self._take(record, body, held.get(object_id))))
            except RecordRefused as exc:
                verdicts.append(Verdict(object_id, Outcome.REFUSED, str(exc)))
            except LookAgain as exc:
                verdicts.append(Verdict(object_id, Outcome.NOT_NOW, str(exc)))
            except TooSoon as exc:
                too_soon = exc
                verdicts.append(Verdict(object_id, Outcome.NOT_NOW, str(exc)))
            except RetryLater as exc:
                if not _is_any_settled(verdicts):
                    raise
                rest = batch[len(verdicts) :]
                return verdicts + [Verdict(each.object_id, Outcome.NOT_NOW, str(exc)) for each in rest]
        if too_soon is not None and not _is_any_settled(verdicts):
            raise RetryLater(too_soon.after_s, str(too_soon))
        return verdicts

    def _take(self, record: Record, body: bytes | None, held: Held | None) -> Outcome:
        """Bring one record to the repository.

        Raises:
            RecordRefused, LookAgain, TooSoon, RetryLater, ServiceRefuses: It could not be.
        """
        if held is not None and held.mark is not None and held.mark.position > record.position:
            return Outcome.STALE  # a search may show something older than there is, never something newer
        outcome = self._delete(record, held) if body is None else self._upsert(record, body, held)
        for other in () if held is None else held.others:
            logger.warning(
                "agent %s: %s is a second record of %r and is removed",
                self.agent.id, other.id, record.object_id,
            )  # fmt: skip
            self._session[2].remove(other, self._mark(record, deleted=True), keep=False)
        return outcome

    def _upsert(self, record: Record, body: bytes, held: Held | None) -> Outcome:
        publisher = self._session[2]
        content = map_document(self._mapping, record)
        plan = None if record.files is None else self._plan(record.files)
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        known = held.mark.files if held is not None and held.mark is not None else ()
        mark = self._mark(record, digest=digest, files=known if plan is None else plan.marks)
        if held is None:
            publisher.make(mark, content, plan)
            return Outcome.ACCEPTED
        if held.published and held.mark == mark:
            return Outcome.ACCEPTED  # of a slice that comes again
        return Outcome.ACCEPTED if publisher.change(held, mark, content, plan) else Outcome.STALE

    def _delete(self, record: Record, held: Held | None) -> Outcome:
        _, lookup, publisher = self._session
        mark = self._mark(record, deleted=True)
        if held is None:
            lookup.check_time(mark.key)
            publisher.bury(mark)
            return Outcome.ACCEPTED
        lookup.note_written(mark.key, held.id)
        now = held if held.removed else lookup.read(held.id)
        if now is None:
            raise LookAgain(f"record {held.id} went while we looked at it")
        if now.mark is not None:
            if now.mark.position > record.position:
                return Outcome.STALE
            mark = self._mark(record, deleted=True, files=now.mark.files)
        if not now.removed and now.mark != mark:
            publisher.remove(now, mark)
        return Outcome.ACCEPTED

    def _mark(
        self, record: Record, *, deleted: bool = False, digest: str = "", files: tuple[FileMark, ...] = ()
    ) -> Mark:
        return Mark(self.delivery.track_id, record.object_id, record.position, deleted, digest, files)

    # -- files and rows ------------------------------------------------------------------------------

    def _plan(self, files: tuple[AttachedFile, ...]) -> FilePlan:
        most = self.agent.values["max_file_bytes"]

        def find(file: AttachedFile) -> Holder | None:
            # a larger one was never sent, so nobody has it
            return self._find_holder(file.digest) if file.size <= most else None

        return plan_files(files, find)

    def _find_holder(self, digest: str) -> Holder | None:
        """Return a published record that has a content, None when none is known."""
        for record_id, files in self._holding([digest]):
            names = {file.name for file in files if file.digest == digest}
            for entry in self._api.files(record_id, draft=False) if names else ():
                if entry.key in names and entry.checksum:
                    return Holder(record_id, entry.key, entry.checksum)
        return None

    def _holding(self, digests: Sequence[str]) -> Iterator[tuple[str, list[FileMark]]]:
        """Yield published records that have one of these contents: their ids, and the files they have."""
        for record in self._api.own(digests):
            mark = record.mark
            if mark is not None and not record.is_draft and not mark.deleted:
                yield record.id, [file for file in mark.files if file.held]

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return which of these contents no published record has, as far as the search shows."""
        held: set[str] = set()
        for words in chunks(sorted(digests)):
            for _, files in self._holding(words):
                held.update(file.digest for file in files)
        return digests - held

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what is published of this track, as the repository's search shows it."""
        listing = Listing(self._api, self.delivery.track_id, after)
        try:
            for row in listing.rows():
                yield HeldRow(row.object_id, row.position, None if quick else row.digest)
        finally:
            listing.close()

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what is published of these objects, as the repository's search shows it."""
        searched = {key_of(self.delivery.track_id, object_id): object_id for object_id in object_ids}
        newest: dict[str, Mark] = {}
        for words in chunks(list(searched)):
            for record in self._api.published(words):
                mark = record.mark
                if mark is None or mark.deleted or searched.get(mark.key) != mark.object_id:
                    continue
                known = newest.get(mark.object_id)
                if known is None or known.position < mark.position:
                    newest[mark.object_id] = mark
        return [HeldRow(mark.object_id, mark.position, mark.digest) for mark in newest.values()]

    def sweep(self, before: int) -> int | None:
        """Remove what is older than ``before``, as if it had been deleted then."""
        removed = 0
        listing = Listing(self._api, self.delivery.track_id)
        try:
            for row in listing.rows():
                if row.position < before:
                    removed += self._sweep_out(row.object_id, row.record_id, before)
        finally:
            listing.close()
        return removed

    def _sweep_out(self, object_id: str, record_id: str, before: int) -> bool:
        try:
            held = self._session[1].read(record_id)
            if held is None or held.removed:
                return False
            return self._delete(Record(Op.DELETE, object_id, before), held) is Outcome.ACCEPTED
        except (LookAgain, RecordRefused) as exc:
            logger.warning("agent %s: record %s was not removed: %s", self.agent.id, record_id, exc)
            return False


def _is_any_settled(verdicts: list[Verdict]) -> bool:
    return any(verdict.outcome is not Outcome.NOT_NOW for verdict in verdicts)


class InvenioAgent(PushSyncAgent):
    """Keeps records of an InvenioRDM repository in step, through its REST API."""

    options = (
        Option("url", "url", help="the repository, without /api", required=True, identifies=True),
        Option("token", "secret", help="a personal access token of the records' owner", required=True),
        Option("community", help="slug or id of the community that new records are submitted to"),
        Option(
            "mapping",
            "function",
            help="function(document, object_id) -> the metadata, or a dict of metadata and custom_fields",
        ),
        Option("access", help="who may see the records", default="public", choices=("public", "restricted")),
        Option(
            "removal",
            help="what a delete leaves: a tombstone (takes administration rights), or an empty record that"
            " its owner alone sees (restrict)",
            default="tombstone",
            choices=("tombstone", "restrict"),
        ),
        Option(
            "graves",
            "bool",
            help="keep a draft for what was deleted and never was there, so that nothing older makes it",
            default=False,
        ),
        Option("scheme", help="the identifier scheme of livesync's mark", default="other", identifies=True),
        Option(
            "settle_s",
            "float",
            help="seconds until the repository's search shows what was written",
            default=3.0,
            minimum=0.0,
        ),
        Option("batch_size", "int", help="most records in a batch", default=DEFAULT_BATCH_SIZE, minimum=1),
        *HTTP_OPTIONS,
        *(option for option in DELIVERY_OPTIONS if option.name != "batch_size"),
        IN_FLIGHT_OPTION,
        *FILE_OPTIONS,
    )
    uploader = InvenioUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        parts = urlsplit(self.values["url"])
        if parts.query or parts.fragment:
            raise OptionError("option url: the repository's address has no query and no fragment")
        if self.values["max_attempts"] == 1 and self.values["settle_s"] > 0:
            raise OptionError("option max_attempts: at least 2, since the first may come before settle_s")
