"""InvenioRDM's REST API, as much of it as the ``invenio`` destination needs: requests, and what answers mean.

Every method is one request, or one for each page. What an answer means is told by what is raised:
``ServiceRefuses`` and ``RetryLater`` speak of all records, :class:`RecordRefused` and
:class:`LookAgain` of the one that was asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ..errors import RetryLater, ServiceRefuses
from ..forms import decode_json
from ._answers import Answer, retry_after_s
from ._http_session import HTTPService
from ._invenio_mark import Mark, parse_mark

#: What is read of an answer that is one record, and of a page of them.
_RECORD_BYTES: Final = 8 * 1024 * 1024
_PAGE_BYTES: Final = 128 * 1024 * 1024

#: Results of a search that can be paged through; further ones are not given.
SEARCH_WINDOW: Final = 10_000

_NOT_NOW: Final = frozenset({408, 425, 429})
_RIGHTS: Final = frozenset({401, 403})
_GONE: Final = (404, 405, 410)
_MEANWHILE: Final = frozenset({409, 412})
_ELSEWHERE: Final = (301, 302, 303, 307, 308)

#: What a refusal quotes.
_MAX_QUOTE: Final = 400

#: Where the identifiers are that a search looks at.
_IDENTIFIER: Final = "metadata.identifiers.identifier"

Decoded = TypeVar("Decoded")


class RecordRefused(Exception):
    """Raised when the repository refuses one record for good."""


class LookAgain(Exception):
    """Raised when a record is not what it was a moment ago: somebody else has changed it."""


class _Identifier(msgspec.Struct):
    identifier: str = ""


class _Metadata(msgspec.Struct):
    identifiers: list[_Identifier] = []
    publication_date: str = ""


class _Versions(msgspec.Struct):
    index: int = 1


class _Named(msgspec.Struct):
    id: str = ""


class _Files(msgspec.Struct):
    enabled: bool = False


class _Tombstone(msgspec.Struct):
    note: str | None = None


class _Deletion(msgspec.Struct):
    is_deleted: bool = False


class _Error(msgspec.Struct):
    field: str = ""
    messages: Any = None


class RepositoryRecord(msgspec.Struct):
    """A record or a draft, as the API shows it: what livesync wants to know of it.

    Attributes:
        id: The repository's id of this version.
        errors: What is wrong with a draft that was saved all the same.
    """

    id: str
    created: str = ""
    revision_id: int = 0
    is_draft: bool = False
    status: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    versions: _Versions = msgspec.field(default_factory=_Versions)
    parent: _Named = msgspec.field(default_factory=_Named)
    files: _Files = msgspec.field(default_factory=_Files)
    pids: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    deletion_status: _Deletion | None = None
    tombstone: _Tombstone | None = None
    errors: list[_Error] = []

    @property
    def removed(self) -> bool:
        """Whether only a tombstone is left of it."""
        return self.deletion_status is not None and self.deletion_status.is_deleted

    @property
    def noted(self) -> Mark | None:
        """What livesync noted in its tombstone; None: there is none, or somebody else left it."""
        note = None if self.tombstone is None else self.tombstone.note
        return parse_mark(note) if self.removed and note else None

    @property
    def mark(self) -> Mark | None:
        """What livesync noted in it; None: it is not livesync's."""
        noted = self.noted
        if noted is not None:
            return noted
        for identifier in self.metadata.identifiers:
            noted = parse_mark(identifier.identifier)
            if noted is not None:
                return noted
        return None

    def faults(self, with_files: bool) -> str:
        """Return what is wrong with it, "" for nothing; ``with_files``: with its files, too."""
        return _told(error for error in self.errors if with_files or not error.field.startswith("files"))


class _Hits(msgspec.Struct):
    hits: list[RepositoryRecord]
    total: int = 0


class _Page(msgspec.Struct):
    hits: _Hits


class _Gone(msgspec.Struct):
    tombstone: _Tombstone | None = None


class _Problem(msgspec.Struct):
    message: str = ""
    errors: list[_Error] = []


class FileEntry(msgspec.Struct):
    """A file of a record or a draft.

    Attributes:
        key: Its name.
        status: ``completed`` when its content is there.
        checksum: ``md5:`` and the content's MD5, hexadecimal.
    """

    key: str
    status: str | None = None
    checksum: str | None = None


class _FileList(msgspec.Struct):
    entries: list[FileEntry] = []


class InvenioAPI:
    """The API of one repository, with one user's token. Threads may share it.

    Args:
        service: Makes the requests; it has the token.
        anonymous: Makes those to other servers; it has none.
        url: The repository's, without ``/api``.
        shown_url: The same as people may see it.
        clock: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    def __init__(
        self,
        service: HTTPService,
        anonymous: HTTPService,
        url: str,
        shown_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._service = service
        self._anonymous = anonymous
        self._base = f"{url}/api"
        self._shown = shown_url
        self._clock = clock

    def close(self) -> None:
        """Close the connections."""
        self._service.close()
        self._anonymous.close()

    # -- searching ---------------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many records and drafts the token's user has."""
        return self._page("/user/records", {"size": 1, "page": 1}).total

    def own(self, words: Iterable[str]) -> Iterator[RepositoryRecord]:
        """Yield the user's records and drafts that have one of these words among their identifiers.

        Of several versions the latest, and of a record that is being edited its draft.
        """
        return self._search("/user/records", {"q": _any_of(words), "sort": "oldest"})

    def published(self, words: Iterable[str]) -> Iterator[RepositoryRecord]:
        """Yield the published records that have one of these words, of several versions the latest."""
        return self._search("/records", {"q": _any_of(words), "sort": "oldest"})

    def tombstones(self, words: Iterable[str]) -> Iterator[RepositoryRecord]:
        """Yield the removed records that have one of these words, as far as the user may see such."""
        flags = {"q": _any_of(words), "sort": "oldest", "include_deleted": "true", "allversions": "true"}
        return (record for record in self._search("/records", flags) if record.removed)

    def oldest_first(self, phrase: str, created: str, size: int, page: int) -> list[RepositoryRecord]:
        """Return one page of the published records with ``phrase`` among their identifiers.

        Args:
            phrase: Words in their order.
            created: The least time of creation; "" for any.
            size: How many on a page.
            page: Which, from 1.
        """
        query = f"{_IDENTIFIER}:{_quoted(phrase)}"
        if created:
            query += f" AND created:[{_quoted(created)} TO *]"
        flags = {"q": query, "sort": "oldest", "size": size, "page": page}
        return self._page("/records", flags).hits

    def versions(self, record_id: str) -> list[RepositoryRecord]:
        """Return all published versions of a record."""
        return list(self._search(f"/records/{quote(record_id)}/versions", {}))

    def _search(self, path: str, flags: dict[str, Any]) -> Iterator[RepositoryRecord]:
        size = 100
        for page in range(1, SEARCH_WINDOW // size + 1):
            hits = self._page(path, {**flags, "size": size, "page": page}).hits
            yield from hits
            if len(hits) < size:
                return

    def _page(self, path: str, flags: dict[str, Any]) -> _Hits:
        answer = self._call("GET", f"{path}?{urlencode(flags)}", limit=_PAGE_BYTES, of_record=False)
        return self._decoded(answer, _Page).hits

    # -- records and drafts --------------------------------------------------------------------------

    def record(self, record_id: str) -> RepositoryRecord | None:
        """Return a published record, or its tombstone; None when there is none."""
        answer = self._call("GET", f"/records/{quote(record_id)}", also=(404, 410))
        if answer.status == 404:
            return None
        if answer.status == 410:
            gone = self._decoded(answer, _Gone)
            return RepositoryRecord(record_id, deletion_status=_Deletion(True), tombstone=gone.tombstone)
        return self._decoded(answer, RepositoryRecord)

    def draft(self, record_id: str) -> RepositoryRecord | None:
        """Return the draft of a record; None when there is none."""
        answer = self._call("GET", f"/records/{quote(record_id)}/draft", also=(404, 410))
        return None if answer.status in (404, 410) else self._decoded(answer, RepositoryRecord)

    def create(self, content: dict[str, Any]) -> RepositoryRecord:
        """Make the draft of a new record."""
        return self._decoded(self._call("POST", "/records", content, of_record=False), RepositoryRecord)

    def edit(self, record_id: str) -> RepositoryRecord:
        """Return the draft of a record, made from what is published if there is none."""
        answer = self._call("POST", f"/records/{quote(record_id)}/draft", also=(403,))
        if answer.status != 403:
            return self._decoded(answer, RepositoryRecord)
        record = self.record(record_id)  # nobody may edit what has been removed
        if record is not None and record.removed:
            raise LookAgain(f"record {record_id} has been removed")
        raise self._meaning(answer, f"POST /records/{record_id}/draft", True)

    def update(self, draft: RepositoryRecord, content: dict[str, Any]) -> RepositoryRecord:
        """Replace a draft, unless somebody else has in the meantime."""
        path = f"/records/{quote(draft.id)}/draft"
        match = {"If-Match": str(draft.revision_id)}
        return self._decoded(self._call("PUT", path, content, headers=match), RepositoryRecord)

    def discard(self, record_id: str) -> None:
        """Remove a draft; what is published stays."""
        self._call("DELETE", f"/records/{quote(record_id)}/draft", also=(404, 410))

    def publish(self, record_id: str) -> None:
        """Publish a draft."""
        self._call("POST", f"/records/{quote(record_id)}/draft/actions/publish")

    def new_version(self, record_id: str) -> RepositoryRecord:
        """Return the draft of the next version of a record, made if there is none."""
        return self._decoded(self._call("POST", f"/records/{quote(record_id)}/versions"), RepositoryRecord)

    def remove(self, record_id: str, note: str) -> None:
        """Leave only a tombstone of a published record.

        Raises:
            ServiceRefuses: The user may not, or the repository cannot.
        """
        way_out = "or set removal=restrict"
        path, content = f"/records/{quote(record_id)}/delete", {"note": note, "is_visible": True}
        answer = self._call("DELETE", path, content, also=(400, 403, *_GONE))
        if answer.status == 403:
            raise ServiceRefuses(
                f"{self._shown} answered 403: the token's user may not remove published records, which takes"
                f" administration rights; give them, {way_out}"
            )
        if answer.status in (404, 405):
            raise ServiceRefuses(
                f"{self._shown} answered {answer.status}: it cannot remove published records, as InvenioRDM"
                f" can from 12 on; upgrade it, {way_out}"
            )
        if answer.status == 400:  # so it is when it has been removed already
            record = self.record(record_id)
            if record is not None and not record.removed:
                raise self._meaning(answer, f"DELETE {path}", True)

    def restore(self, record_id: str) -> None:
        """Make a record of a tombstone again, as it was."""
        # a 400 says that it is no tombstone any more
        self._call("POST", f"/records/{quote(record_id)}/restore", {}, also=(400,))

    # -- communities -----------------------------------------------------------------------------------

    def community(self, name: str) -> str:
        """Return the id of a community, named by its slug or its id.

        Raises:
            ServiceRefuses: There is none.
        """
        answer = self._call("GET", f"/communities/{quote(name, safe='')}", also=(404,))
        if answer.status == 404:
            raise ServiceRefuses(f"{self._shown} has no community {name!r}: check the option community")
        return self._decoded(answer, _Named).id

    def submit(self, record_id: str, community_id: str) -> None:
        """Submit a draft to a community: it is published at once where the user may, else reviewed first."""
        path = f"/records/{quote(record_id)}/draft"
        content = {"receiver": {"community": community_id}, "type": "community-submission"}
        self._call("PUT", f"{path}/review", content)
        self._call("POST", f"{path}/actions/submit-review", {})

    # -- files -------------------------------------------------------------------------------------------

    def files(self, record_id: str, draft: bool) -> list[FileEntry]:
        """Return the files of a draft, or of a published record."""
        answer = self._call("GET", f"{_files(record_id, draft)}")
        return self._decoded(answer, _FileList).entries

    def import_files(self, record_id: str) -> list[FileEntry]:
        """Let a new version have the files of the one before; return them."""
        answer = self._call("POST", f"/records/{quote(record_id)}/draft/actions/files-import")
        return self._decoded(answer, _FileList).entries

    def delete_file(self, record_id: str, name: str) -> None:
        """Remove a file from a draft."""
        self._call("DELETE", f"{_files(record_id, True)}/{quote(name, safe='')}", also=(404,))

    def upload(self, record_id: str, name: str, content: Any) -> None:
        """Give a draft a file that it does not have.

        Args:
            record_id: The draft's.
            name: The file's.
            content: bytes, or a binary stream with a length.
        """
        path = f"{_files(record_id, True)}/{quote(name, safe='')}"
        self._call("POST", _files(record_id, True), [{"key": name}])
        octets = {"Content-Type": "application/octet-stream"}
        self._call("PUT", f"{path}/content", headers=octets, body=content)
        self._call("POST", f"{path}/commit")

    def download(self, record_id: str, name: str, size: int) -> bytes | None:
        """Return the content of a file of a published record.

        None if it is longer than ``size``, or cannot be had. A repository that keeps contents in an
        object store sends us there, where the token has no business.
        """
        path = f"{_files(record_id, False)}/{quote(name, safe='')}/content"
        anything = {"Accept": "*/*"}
        answer = self._call("GET", path, limit=size, headers=anything, also=(*_ELSEWHERE, *_GONE))
        if answer.status in _ELSEWHERE:
            answer = self._anonymous.request("GET", answer.location, headers=anything, limit=size)
        return answer.body if answer.status == 200 and answer.whole else None

    # -- answers -------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        also: tuple[int, ...] = (),
        of_record: bool = True,
        headers: dict[str, str] | None = None,
        body: Any = None,
        limit: int = _RECORD_BYTES,
    ) -> Answer:
        """Send a request and return the answer, if it is a 2xx or one of ``also``.

        Raises:
            RecordRefused, LookAgain, RetryLater, ServiceRefuses: As the status says.
        """
        sent = {"Accept": "application/json"}
        if content is not None:
            sent["Content-Type"] = "application/json"
            body = msgspec.json.encode(content)
        answer = self._service.request(method, self._base + path, body, sent | (headers or {}), limit)
        if 200 <= answer.status < 300 or answer.status in also:
            return answer
        raise self._meaning(answer, f"{method} {path.partition('?')[0]}", of_record)

    def _meaning(self, answer: Answer, what: str, of_record: bool) -> Exception:
        status, said = answer.status, f"{self._shown} answered {answer.status} to {what}"
        if status in _NOT_NOW or status >= 500 or status < 200:
            return RetryLater(retry_after_s(answer.retry_after, self._clock()), said)
        if status < 400:
            return ServiceRefuses(f"{said}: redirects are not followed, check the URL")
        told = _problem(answer)
        if status in _RIGHTS:
            return ServiceRefuses(f"{said}{told}; check the token and the rights of its user")
        if status in _MEANWHILE or (status in _GONE and of_record):
            return LookAgain(f"{said}{told}")
        if what.startswith("GET") and of_record:
            return LookAgain(f"{said}{told}")
        if status in _GONE or what.startswith("GET"):
            return ServiceRefuses(f"{said}{told}; check the URL")
        return RecordRefused(f"HTTP {status} to {what}{told}")

    def _decoded(self, answer: Answer, kind: type[Decoded]) -> Decoded:
        try:
            if answer.whole:
                return decode_json(answer.body, kind)
            why = "more than was to be expected"
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            why = answer.content_type or "a body without a type"
        raise ServiceRefuses(
            f"{self._shown} answered {answer.status} with {why}, which is not InvenioRDM's API: check the URL"
        )


def _any_of(words: Iterable[str]) -> str:
    return f"{_IDENTIFIER}:({' OR '.join(map(_quoted, words))})"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _files(record_id: str, draft: bool) -> str:
    return f"/records/{quote(record_id)}{'/draft' if draft else ''}/files"


def _problem(answer: Answer) -> str:
    """Return what an answer says of itself, to be put behind a status."""
    try:
        problem = decode_json(answer.body, _Problem)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    told = " ".join(part for part in (problem.message, _told(problem.errors)) if part)
    return f": {' '.join(told.split())[:_MAX_QUOTE]}" if told else ""


def _told(errors: Iterable[_Error]) -> str:
    return "; ".join(f"{error.field}: {_flat(error.messages)}" for error in errors)[:_MAX_QUOTE]


def _flat(messages: Any) -> str:
    if isinstance(messages, list):
        return ", ".join(map(_flat, messages))
    if isinstance(messages, dict):
        return ", ".join(f"{name}: {_flat(value)}" for name, value in messages.items())
    return "" if messages is None else str(messages)
