"""Making, changing and taking away one record of an Invenio repository.

Whatever breaks off here is taken up by the next try: a draft that was made and not published is
found by its mark, and what it has already is compared, not assumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import msgspec

from ..delivery.record import Record
from ..errors import NoDocument, RetryLater
from ._invenio_api import InvenioAPI, LookAgain, RecordRefused, RepositoryRecord
from ._invenio_files import FilePlan, bring_files, clear_files
from ._invenio_lookup import Held, Lookup
from ._invenio_mark import Mark
from ._invenio_metadata import gone_metadata

#: What a draft's status is while people look at it, and when they did not want it.
_IN_REVIEW: Final = "in_review"
_DECLINED: Final = "declined"


@dataclass(frozen=True, slots=True)
class Content:
    """What a document is in the repository: its metadata and the custom fields of the instance."""

    metadata: dict[str, Any]
    custom_fields: Any = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How records are to be.

    Attributes:
        scheme: The identifier scheme of the mark.
        access: ``public`` or ``restricted``.
        restricts: Whether a deleted object's record is emptied and restricted, rather than removed.
        graves: Whether a draft is kept for what was deleted and never was there.
        community: Slug or id of the community that new records go to; None: none.
    """

    scheme: str
    access: str
    restricts: bool
    graves: bool
    community: str | None


def map_document(mapping: Callable[[dict[str, Any], str], Any], record: Record) -> Content:
    """Return what a mapping makes of a record's document.

    Raises:
        RecordRefused: It raised, or what it returned is nothing that can be sent.
    """
    assert record.document is not None
    try:
        made = mapping(record.document, record.object_id)
    except NoDocument as exc:
        raise RecordRefused(exc.reason) from exc
    except Exception as exc:
        raise RecordRefused(f"the mapping raised {type(exc).__name__}: {exc}") from exc
    metadata, custom_fields = made, None
    if isinstance(made, dict) and isinstance(made.get("metadata"), dict):
        metadata, custom_fields = made["metadata"], made.get("custom_fields")
    if not isinstance(metadata, dict):
        raise RecordRefused(f"the mapping returned a {type(made).__name__}, not a dict of metadata")
    if not isinstance(metadata.get("identifiers", []), list):
        raise RecordRefused("the mapping returned identifiers that are no list")
    try:
        msgspec.json.encode((metadata, custom_fields))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as exc:
        raise RecordRefused(f"what the mapping returned cannot be written as JSON: {exc}") from exc
    return Content(metadata, custom_fields)


class Publisher:
    """Writes records. Threads may share it.

    Args:
        api: The repository.
        lookup: Told of what is written.
        rules: How records are to be.
        clock: Returns epoch seconds; for the publication date of what has none.
    """

    def __init__(self, api: InvenioAPI, lookup: Lookup, rules: Rules, clock: Callable[[], float]) -> None:
        self._api = api
        self._lookup = lookup
        self._rules = rules
        self._clock = clock
        self._community = ""

    def community_id(self) -> str:
        """Return the id of the community that new records go to, "" when there is none."""
        name = self._rules.community
        if name and not self._community:
            self._community = self._api.community(name)
        return self._community

    # -- upserts -------------------------------------------------------------------------------------

    def make(self, mark: Mark, content: Content, plan: FilePlan | None) -> None:
        """Make and publish the record of an object that has none."""
        enabled = plan is not None and bool(plan.wanted)
        draft = self._create(mark, self._body(mark, content, enabled))
        with self._or_nothing(draft):
            _check(draft, mark, enabled)
            if plan is not None and enabled:
                bring_files(self._api, draft.id, plan, may_import=False)
            self._publish(draft)

    def change(self, held: Held, mark: Mark, content: Content, plan: FilePlan | None) -> bool:
        """Make an object's record what ``mark`` and ``content`` say, and publish it.

        Returns:
            False: There is something newer, and nothing was changed.
        """
        api = self._api
        self._lookup.note_written(mark.key, held.id)  # whatever comes, the search may be wrong about it
        if held.removed:
            if held.by_others:  # who takes a record down must not find it restored by a machine
                raise RecordRefused(
                    f"record {held.id} was removed by somebody in the repository, not by livesync"
                )
            api.restore(held.id)
        changed, is_published = self._compare_files(held, mark, plan)
        draft = api.new_version(held.id) if changed and is_published else api.edit(held.id)
        self._lookup.note_written(mark.key, draft.id)
        if draft.mark is not None and draft.mark.position > mark.position:
            if is_published:  # the draft need not stay; whoever is at it will make it again
                self._discard(draft)
            return False
        enabled = draft.files.enabled if plan is None else bool(plan.wanted)
        with self._or_nothing(draft):
            if changed and not enabled and draft.files.enabled:
                clear_files(api, draft.id)
                draft = api.edit(draft.id)  # it is another revision now
            draft = api.update(draft, self._body(mark, content, enabled, draft))
            _check(draft, mark, enabled)
            if plan is not None and changed and enabled:
                bring_files(api, draft.id, plan, may_import=draft.versions.index > 1)
            self._publish(draft)
        return True

    def _compare_files(self, held: Held, mark: Mark, plan: FilePlan | None) -> tuple[bool, bool]:
        """Return whether the files are other ones than the record has, and whether it is published.

        What is published has the files that its mark names. In a draft nobody knows how far they came.
        """
        if plan is None:
            return False, held.published
        published = held if held.published else self._lookup.read(held.id)
        if published is None or not published.published:
            return True, False
        return published.mark is None or published.mark.files != mark.files, True

    def _publish(self, draft: RepositoryRecord) -> None:
        """Publish a draft, through the community where there is one and it is the first version."""
        if draft.status == _IN_REVIEW:
            return  # people decide now; what they look at is up to date
        if draft.status == _DECLINED:
            raise RecordRefused("the community has declined it")
        if draft.status.startswith("draft") and self.community_id():
            self._api.submit(draft.id, self.community_id())
        else:
            self._api.publish(draft.id)

    def _create(self, mark: Mark, body: dict[str, Any]) -> RepositoryRecord:
        """Make a new draft, if it is sure that there is none.

        Raises:
            TooSoon: It is not, yet.
        """
        self._lookup.check_time(mark.key)
        try:
            draft = self._api.create(body)
        except RetryLater:
            self._lookup.note_unanswered(mark.key)
            raise
        self._lookup.note_written(mark.key, draft.id)
        return draft

    @contextlib.contextmanager
    def _or_nothing(self, draft: RepositoryRecord) -> Iterator[None]:
        """Discard the draft if the repository refuses what is in it."""
        try:
            yield
        except RecordRefused:
            self._discard(draft)
            raise

    def _discard(self, draft: RepositoryRecord) -> None:
        with contextlib.suppress(RecordRefused, LookAgain):
            self._api.discard(draft.id)

    # -- deletes -------------------------------------------------------------------------------------

    def bury(self, mark: Mark) -> None:
        """Keep a draft for what was deleted and has no record, where the rules say so."""
        if self._rules.graves:
            self._create(mark, self._body(mark, Content(gone_metadata(mark.object_id)), False))

    def remove(self, held: Held, mark: Mark, keep: bool = True) -> None:
        """Take away what the repository has of an object.

        Args:
            held: What it has.
            mark: What stays of it says this.
            keep: Whether anything need stay of what was never published.
        """
        if not held.published:
            if keep and self._rules.graves:
                self._empty(held.id, mark)
            else:
                self._api.discard(held.id)
            return
        ids = [held.id]
        if held.index > 1:  # the oldest first, so that none comes to the light again
            versions = sorted(self._api.versions(held.id), key=lambda version: version.versions.index)
            ids = [*(version.id for version in versions if version.id != held.id), held.id]
        for record_id in ids:
            if self._rules.restricts:
                self._empty(record_id, mark)
                self._api.publish(record_id)
            else:
                self._api.remove(record_id, str(mark))

    def _empty(self, record_id: str, mark: Mark) -> None:
        """Leave nothing in a record's draft but the mark."""
        draft = self._api.edit(record_id)
        enabled = draft.files.enabled
        known = draft.mark
        if known is not None:  # its files stay, and whoever comes later must know of them
            mark = dataclasses.replace(mark, files=known.files)
        content = Content(gone_metadata(mark.object_id))
        _check(self._api.update(draft, self._body(mark, content, enabled, draft)), mark, enabled)

    # -- what is sent --------------------------------------------------------------------------------

    def _body(
        self, mark: Mark, content: Content, enabled: bool, draft: RepositoryRecord | None = None
    ) -> dict[str, Any]:
        """Return the whole content of a draft as the API takes it."""
        access = "restricted" if mark.deleted else self._rules.access
        ours = {"scheme": self._rules.scheme, "identifier": str(mark)}
        metadata = {**content.metadata, "identifiers": [*content.metadata.get("identifiers", ()), ours]}
        if not metadata.get("publication_date"):
            known = "" if draft is None else draft.metadata.publication_date
            metadata["publication_date"] = known or self._today()
        body: dict[str, Any] = {
            "access": {"record": access, "files": access},
            "files": {"enabled": enabled},
            "metadata": metadata,
        }
        if content.custom_fields is not None:
            body["custom_fields"] = content.custom_fields
        if draft is not None and bytes(draft.pids) not in (b"{}", b"null"):
            body["pids"] = draft.pids  # the identifiers that the repository registered stay
        return body

    def _today(self) -> str:
        return datetime.fromtimestamp(self._clock(), timezone.utc).date().isoformat()


def _check(draft: RepositoryRecord, mark: Mark, enabled: bool) -> None:
    """Make sure that a draft was saved as it was sent: what is wrong with it is left out, and no error.

    Raises:
        RecordRefused: Something was left out.
    """
    faults = draft.faults(with_files=draft.files.enabled != enabled)
    if faults:
        raise RecordRefused(f"the repository does not take it: {faults}")
    if draft.mark != mark:
        raise RecordRefused(
            "the repository has not kept the identifier by which livesync finds the record: check the"
            " option scheme"
        )
