"""A stand-in for an InvenioRDM repository. It is not the real thing: none can be had here.

It follows the public description of the REST API, and the code of InvenioRDM 12 to 14 where that is
silent: paths and statuses; that a draft is saved with what is valid of it, and says what is not,
while publishing is strict; required metadata; revisions and If-Match; versions; locked files of what
is published; tombstones, for administrators; reviews by communities; who may see and change what;
rate limits; a search that shows what was written only some time later, in the few forms of query that
livesync asks in.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from support.destination import Destination
from support.wsgi_service import Service
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from livesync.delivery.record import encode_document
from livesync.destinations._invenio_mark import parse_mark
from livesync.destinations.invenio import InvenioAgent

REQUIRED = "Missing data for required field."
SHORT = "Shorter than minimum length 3."
SCHEMES = {"ark", "doi", "handle", "isbn", "url", "urn", "other"}
RESOURCE_TYPES = {"other", "publication", "video", "event", "dataset"}
IDENTIFIER = re.escape("metadata.identifiers.identifier")
QUERY = re.compile(
    rf'{IDENTIFIER}:(?:"(?P<one>[^"]*)"|\((?P<any>"[^"]*"(?: OR "[^"]*")*)\))'
    r'(?: AND created:\["(?P<created>[^"]*)" TO \*\])?'
)
WINDOW = 10_000


class Problem(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, errors: list[dict] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"status": status, "message": message, **more}
        if errors:
            self.content["errors"] = errors
        self.headers: dict[str, str] = {}


def invalid(errors: list[dict]) -> Problem:
    return Problem(400, "A validation error occurred.", errors)


def fault(field_name: str, *messages: str) -> dict:
    return {"field": field_name, "messages": list(messages)}


@dataclass
class User:
    id: int
    admin: bool = False


@dataclass
class State:
    """What a draft or a published version holds."""

    metadata: dict = field(default_factory=dict)
    access: dict = field(default_factory=dict)
    custom_fields: dict = field(default_factory=dict)
    pids: dict = field(default_factory=dict)
    enabled: bool = True
    files: dict[str, bytes | None] = field(default_factory=dict)
    locked: bool = False


@dataclass
class Parent:
    id: str
    owner: int
    review: str = ""  #: "", created, submitted, declined, accepted
    communities: list[str] = field(default_factory=list)
    review_community: str = ""
    family: list[Version] = field(default_factory=list)  #: all versions, in their order


@dataclass
class Version:
    id: str
    parent: Parent
    index: int
    created: float
    published: State | None = None
    draft: State | None = None
    tombstone: dict | None = None
    revision: int = 1


class Repository:
    """The repository: a WSGI app with ``/api``.

    Attributes:
        users: Whom each token belongs to.
        refresh_s: Seconds until the search shows what was written.
        clock: Returns epoch seconds.
        schemes: The identifier schemes that are configured.
        one_per_scheme: Whether a record has one identifier of each at most, as before InvenioRDM 13.
        removes: Whether it knows tombstones, as from 12 on.
        locks_files: Whether files of what is published are locked for everybody.
        custom_fields: Which are configured.
        communities: slug -> (id, whether the user may publish there without a review).
        left: Requests that are let through before it says 429; None: any number.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.users = {"t0ken": User(1), "adm1n": User(2, admin=True), "0ther": User(3)}
        self.refresh_s = 0.0
        self.clock = clock
        self.schemes = set(SCHEMES)
        self.one_per_scheme = False
        self.removes = True
        self.locks_files = True
        self.custom_fields: set[str] = set()
        self.communities: dict[str, tuple[str, bool]] = {}
        self.left: int | None = None
        self.retry_after_s = 30
        self.versions: dict[str, Version] = {}
        self._shown: dict[tuple[str, str], list[tuple[float, dict | None, frozenset[str]]]] = {}
        self._by_word: dict[str, set[tuple[str, str]]] = {}
        self._lock = threading.RLock()
        self._routes = Map(self._rules())
        self._numbers = 0

    # -- requests ------------------------------------------------------------------------------------

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        with self._lock:
            return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        try:
            self._count()
            user = self._user(request)
            function, arguments = self._routes.bind_to_environ(request.environ).match()
            answer = getattr(self, function)(user, request, **arguments)
        except Problem as exc:
            return _json(exc.status, exc.content, exc.headers)
        except HTTPException as exc:
            return exc.get_response(request.environ)
        return answer if isinstance(answer, Response) else _json(*answer)

    def _count(self) -> None:
        if self.left is None:
            return
        if self.left == 0:
            exc = Problem(429, "100 per 1 minute")
            exc.headers = {
                "Retry-After": str(self.retry_after_s),
                "X-RateLimit-Limit": "100",
                "X-RateLimit-Remaining": "0",
            }
            raise exc
        self.left -= 1

    def _user(self, request: Request) -> User | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        user = self.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise Problem(
                401, "The server could not verify that you are authorized to access the URL requested."
            )
        return user

    @staticmethod
    def _rules() -> list[Rule]:
        record, draft = "/api/records/<record_id>", "/api/records/<record_id>/draft"
        return [
            Rule("/api/records", methods=["GET"], endpoint="search_records"),
            Rule("/api/records", methods=["POST"], endpoint="create"),
            Rule("/api/user/records", methods=["GET"], endpoint="search_own"),
            Rule(record, methods=["GET"], endpoint="read"),
            Rule(f"{record}/delete", methods=["DELETE"], endpoint="remove"),
            Rule(f"{record}/restore", methods=["POST"], endpoint="restore"),
            Rule(f"{record}/versions", methods=["GET"], endpoint="search_versions"),
            Rule(f"{record}/versions", methods=["POST"], endpoint="new_version"),
            Rule(f"{record}/files", methods=["GET"], endpoint="list_files"),
            Rule(f"{record}/files/<path:key>/content", methods=["GET"], endpoint="file_content"),
            Rule(draft, methods=["GET"], endpoint="read_draft"),
            Rule(draft, methods=["POST"], endpoint="edit"),
            Rule(draft, methods=["PUT"], endpoint="update"),
            Rule(draft, methods=["DELETE"], endpoint="discard"),
            Rule(f"{draft}/actions/publish", methods=["POST"], endpoint="publish"),
            Rule(f"{draft}/actions/submit-review", methods=["POST"], endpoint="submit_review"),
            Rule(f"{draft}/review", methods=["PUT"], endpoint="set_review"),
            Rule(f"{draft}/actions/files-import", methods=["POST"], endpoint="import_files"),
            Rule(f"{draft}/files", methods=["GET"], endpoint="list_draft_files"),
            Rule(f"{draft}/files", methods=["POST"], endpoint="init_files"),
            Rule(f"{draft}/files/<path:key>", methods=["DELETE"], endpoint="delete_file"),
            Rule(f"{draft}/files/<path:key>/content", methods=["PUT"], endpoint="set_content"),
            Rule(f"{draft}/files/<path:key>/commit", methods=["POST"], endpoint="commit_file"),
            Rule("/api/communities/<name>", methods=["GET"], endpoint="community"),
        ]

    # -- searching -----------------------------------------------------------------------------------

    def search_own(self, user: User | None, request: Request) -> tuple:
        if user is None:
            raise Problem(403, "Permission denied.")

        def mine(kind: str, doc: dict) -> bool:
            if doc["parent"]["access"]["owned_by"]["user"] != str(user.id):
                return False
            if kind == "record" and (doc["_has_draft"] or doc["deletion_status"]["is_deleted"]):
                return False
            return doc["versions"]["is_latest_draft"] or "allversions" in request.args

        return self._search(request, mine, {"bestmatch", "newest", "oldest", "updated-desc"})

    def search_records(self, user: User | None, request: Request) -> tuple:
        def visible(kind: str, doc: dict) -> bool:
            if kind != "record":
                return False
            if doc["deletion_status"]["is_deleted"]:
                return "include_deleted" in request.args and user is not None and user.admin
            owned = user is not None and (
                user.admin or doc["parent"]["access"]["owned_by"]["user"] == str(user.id)
            )
            if doc["access"]["record"] != "public" and not owned:
                return False
            return doc["versions"]["is_latest"] or "allversions" in request.args

        return self._search(request, visible, {"bestmatch", "newest", "oldest", "version"})

    def search_versions(self, user: User | None, request: Request, record_id: str) -> tuple:
        parent = self._version(record_id).parent.id

        def of_parent(kind: str, doc: dict) -> bool:
            return (
                kind == "record"
                and doc["parent"]["id"] == parent
                and not doc["deletion_status"]["is_deleted"]
            )

        return self._search(request, of_parent, {"version"})

    def _search(self, request: Request, wanted: Callable[[str, dict], bool], sorts: set[str]) -> tuple:
        arguments = request.args
        known = {"q", "sort", "page", "size", "allversions", "include_deleted"}
        assert set(arguments) <= known, f"livesync asks in another form: {set(arguments)}"
        query = _Query(arguments.get("q", ""))
        page, size = int(arguments.get("page", 1)), int(arguments.get("size", 25))
        if page < 1 or size < 1 or page * size > WINDOW:
            raise Problem(400, "Invalid querystring parameters.")
        sort = arguments.get("sort", "bestmatch")
        if sort not in sorts and "sort" in arguments:
            raise Problem(400, "Invalid querystring parameters.")
        until = self.clock() - self.refresh_s
        found = []
        for kind, record_id in self._candidates(query):
            states = self._shown[kind, record_id]
            shown = next((state for state in reversed(states) if state[0] <= until), None)
            if shown is None or shown[1] is None:
                continue
            if wanted(kind, shown[1]) and query.matches(shown[1], shown[2]):
                found.append(shown[1])
        if sort == "oldest":
            found.sort(key=lambda doc: doc["created"])
        elif sort == "newest":
            found.sort(key=lambda doc: doc["created"], reverse=True)
        else:  # nobody may build on the order of what matches equally well
            found.sort(key=lambda doc: hashlib.md5(doc["id"].encode()).digest())
        hits = [_public(doc) for doc in found[(page - 1) * size : page * size]]
        return 200, {"hits": {"hits": hits, "total": len(found)}, "sortBy": sort, "links": {}}

    def _candidates(self, query: _Query) -> set[tuple[str, str]]:
        """What may match: whatever has ever had the rarest word of a phrase."""
        if not query.phrases:
            return set(self._shown)
        return set().union(
            *(min((self._by_word.get(word, set()) for word in phrase), key=len) for phrase in query.phrases)
        )

    def _index(self, parent: Parent) -> None:
        """Let the search learn, in its time, of all versions of a record."""
        now = self.clock()
        for version in parent.family:
            for kind, state in (("record", version.published), ("draft", version.draft)):
                doc = None if state is None else self._doc(version, kind)
                words = frozenset(_words(doc)) if doc else frozenset()
                states = self._shown.setdefault((kind, version.id), [])
                # what can be seen no more is forgotten
                del states[: max(0, sum(state[0] <= now - self.refresh_s for state in states) - 1)]
                states.append((now, doc, words))
                for word in words:
                    self._by_word.setdefault(word, set()).add((kind, version.id))

    def _unindex(self, version: Version) -> None:
        for kind in ("record", "draft"):
            self._shown.setdefault((kind, version.id), []).append((self.clock(), None, frozenset()))

    # -- records and drafts --------------------------------------------------------------------------

    def _doc(self, version: Version, kind: str) -> dict:
        state = version.published if kind == "record" else version.draft
        family = version.parent.family
        live = [other.index for other in family if other.published is not None and other.tombstone is None]
        parent = version.parent
        status = "published" if version.published is not None else self._draft_status(version)
        doc = {
            "id": version.id,
            "created": _time(version.created),
            "updated": _time(self.clock()),
            "revision_id": version.revision,
            "is_published": version.published is not None,
            "is_draft": kind == "draft",
            "status": status,
            "links": {},
            "metadata": _dumped(state.metadata),
            "custom_fields": dict(state.custom_fields),
            "access": {**state.access, "embargo": {"active": False, "reason": None}},
            "files": {
                "enabled": state.enabled,
                "count": len(state.files),
                "entries": {key: _entry(key, content) for key, content in state.files.items()},
            },
            "pids": dict(state.pids),
            "parent": {
                "id": parent.id,
                "access": {"owned_by": {"user": str(parent.owner)}, "links": []},
                "communities": {"ids": list(parent.communities)},
            },
            "versions": {
                "index": version.index,
                "is_latest": kind == "record" and version.index == max(live, default=0),
                "is_latest_draft": version.index == max(other.index for other in family),
            },
            "_has_draft": version.draft is not None,
        }
        if kind == "record":
            removed = version.tombstone is not None
            doc["deletion_status"] = {"is_deleted": removed, "status": "D" if removed else "P"}
            if removed:
                doc["tombstone"] = dict(version.tombstone)
        return doc

    @staticmethod
    def _draft_status(version: Version) -> str:
        if version.index > 1:
            return "new_version_draft"
        return {
            "": "draft", "created": "draft_with_review", "submitted": "in_review", "declined": "declined",
        }[version.parent.review]  # fmt: skip

    def _item(self, status: int, version: Version, kind: str, errors: list[dict] | None = None) -> Response:
        doc = _public(self._doc(version, kind))
        if errors:
            doc["errors"] = errors
        return _json(status, doc, {"ETag": f'"{version.revision}"'})

    def _version(self, record_id: str) -> Version:
        try:
            return self.versions[record_id]
        except KeyError:
            raise Problem(404, "The persistent identifier does not exist.") from None

    def _own_draft(self, user: User | None, record_id: str) -> tuple[Version, State]:
        version = self._version(record_id)
        if version.draft is None:
            raise Problem(404, "The persistent identifier does not exist.")
        self._require_owner(user, version)
        return version, version.draft

    @staticmethod
    def _require_owner(user: User | None, version: Version) -> None:
        if user is None or not (user.admin or user.id == version.parent.owner):
            raise Problem(403, "Permission denied.")

    def _add(self, version: Version) -> None:
        self.versions[version.id] = version
        version.parent.family.append(version)
        self._index(version.parent)

    def _new_id(self) -> str:
        self._numbers += 1
        text = base64.b32encode(hashlib.md5(str(self._numbers).encode()).digest()).decode().lower()
        return f"{text[:5]}-{text[5:10]}"

    def read(self, user: User | None, request: Request, record_id: str) -> Any:
        version = self._version(record_id)
        if version.published is None:
            raise Problem(404, "The persistent identifier is not registered.")
        if version.tombstone is not None:
            raise Problem(410, "Record deleted", tombstone=version.tombstone)
        if version.published.access["record"] != "public":
            self._require_owner(user, version)
        return self._item(200, version, "record")

    def create(self, user: User | None, request: Request) -> Response:
        if user is None:
            raise Problem(403, "Permission denied.")
        version = Version(self._new_id(), Parent(self._new_id(), user.id), 1, self.clock(), draft=State())
        errors = self._save(version.draft, _body(request))
        self._add(version)
        return self._item(201, version, "draft", errors)

    def read_draft(self, user: User | None, request: Request, record_id: str) -> Response:
        version, _ = self._own_draft(user, record_id)
        return self._item(200, version, "draft")

    def edit(self, user: User | None, request: Request, record_id: str) -> Response:
        version = self._version(record_id)
        self._require_owner(user, version)
        if version.tombstone is not None:
            raise Problem(403, "Permission denied.")
        if version.draft is None:
            version.draft = copy.deepcopy(version.published)
            version.draft.locked = self.locks_files
            version.revision += 1
            self._index(version.parent)
        return self._item(201, version, "draft")

    def update(self, user: User | None, request: Request, record_id: str) -> Response:
        version, draft = self._own_draft(user, record_id)
        match = request.headers.get("If-Match")
        if match is not None and int(match) != version.revision:
            raise Problem(412, "The record has been modified since it was read.")
        errors = self._save(draft, _body(request))
        version.revision += 1
        self._index(version.parent)
        return self._item(200, version, "draft", errors)

    def discard(self, user: User | None, request: Request, record_id: str) -> Response:
        version, _ = self._own_draft(user, record_id)
        if version.parent.review == "submitted" and version.published is None:
            raise Problem(400, "You cannot delete a draft with an open review.")
        version.draft = None
        version.revision += 1
        if version.published is None:
            self._unindex(version)
            del self.versions[record_id]
            version.parent.family.remove(version)
        self._index(version.parent)
        return Response(status=204)

    def publish(self, user: User | None, request: Request, record_id: str) -> Response:
        version, _ = self._own_draft(user, record_id)
        if version.parent.review == "submitted":
            raise Problem(400, "You cannot publish a draft with an open review.")
        self._publish(version)
        return self._item(202, version, "record")

    def _publish(self, version: Version) -> None:
        draft = version.draft
        errors: list[dict] = []
        _validated(self, draft.metadata, errors)
        if draft.enabled and not draft.files:
            errors.append(fault("files.enabled", "Missing uploaded files."))
        if None in draft.files.values():
            errors.append(fault("files", "One or more files have not completed their transfer, please wait."))
        if errors:
            raise invalid(errors)
        draft.pids.setdefault(
            "doi", {"identifier": f"10.5072/{version.id}", "provider": "datacite", "client": "datacite"}
        )
        version.published, version.draft = draft, None
        version.revision += 1
        self._index(version.parent)

    def _save(self, state: State, sent: dict) -> list[dict]:
        """Replace what a draft holds by what is valid of ``sent``; return what is not."""
        errors: list[dict] = []
        state.metadata = _validated(self, _sanitised(sent.get("metadata") or {}), errors)
        state.access = {"record": "public", "files": "public", **(sent.get("access") or {})}
        state.access.pop("embargo", None)
        state.custom_fields = {}
        for name, value in (sent.get("custom_fields") or {}).items():
            if name in self.custom_fields:
                state.custom_fields[name] = value
            else:
                errors.append(fault(f"custom_fields.{name}", "Unknown field."))
        if "pids" in sent:
            state.pids = sent["pids"]
        enabled = (sent.get("files") or {}).get("enabled", True)
        if not enabled and state.files:
            errors.append(
                fault(
                    "files.enabled", "You must first delete all files to set the record to be metadata-only."
                )
            )
            return errors
        state.enabled = enabled
        if enabled and not state.files:
            errors.append(fault("files.enabled", "Missing uploaded files."))
        return errors

    # -- versions and tombstones -----------------------------------------------------------------------

    def new_version(self, user: User | None, request: Request, record_id: str) -> Response:
        version = self._version(record_id)
        if version.published is None:
            raise Problem(404, "The persistent identifier is not registered.")
        self._require_owner(user, version)
        latest = version.parent.family[-1]
        if latest.published is not None:
            state = copy.deepcopy(latest.published)
            state.metadata.pop("publication_date", None)
            state.metadata.pop("version", None)
            state.pids, state.files, state.locked = {}, {}, False
            latest = Version(self._new_id(), version.parent, latest.index + 1, self.clock(), draft=state)
            self._add(latest)
        return self._item(201, latest, "draft")

    def remove(self, user: User | None, request: Request, record_id: str) -> Response:
        if not self.removes:
            raise NotFound
        version = self._version(record_id)
        if user is None or not user.admin:
            raise Problem(403, "Permission denied.")
        if version.tombstone is not None:
            raise Problem(400, "Record in unexpected deletion status.")
        sent = _body(request)
        version.tombstone = {
            "note": _sanitised(sent.get("note", "")),
            "is_visible": sent.get("is_visible", True),
            "removed_by": {"user": str(user.id)},
            "removal_date": _time(self.clock()),
            "citation_text": "",
        }
        version.draft = None
        self._index(version.parent)
        return Response(status=204)

    def restore(self, user: User | None, request: Request, record_id: str) -> Response:
        version = self._version(record_id)
        if user is None or not user.admin:
            raise Problem(403, "Permission denied.")
        if version.tombstone is None:
            raise Problem(400, "Record in unexpected deletion status.")
        version.tombstone = None
        self._index(version.parent)
        return self._item(200, version, "record")

    # -- communities -----------------------------------------------------------------------------------

    def community(self, user: User | None, request: Request, name: str) -> tuple:
        for slug, (community_id, _) in self.communities.items():
            if name in (slug, community_id):
                return 200, {"id": community_id, "slug": slug}
        raise Problem(404, "The persistent identifier does not exist.")

    def set_review(self, user: User | None, request: Request, record_id: str) -> tuple:
        version, _ = self._own_draft(user, record_id)
        if version.parent.review == "submitted":
            raise Problem(400, "An open review cannot be deleted.")
        sent = _body(request)
        assert sent["type"] == "community-submission"
        if version.published is not None or version.index > 1:
            raise Problem(400, "You cannot create a review for an already published record.")
        version.parent.review, version.parent.review_community = "created", sent["receiver"]["community"]
        self._index(version.parent)
        return 200, {"id": self._new_id(), "status": "created"}

    def submit_review(self, user: User | None, request: Request, record_id: str) -> tuple:
        version, draft = self._own_draft(user, record_id)
        parent = version.parent
        if not parent.review:
            raise Problem(404, "Review for draft not found")
        errors: list[dict] = []
        _validated(self, draft.metadata, errors)
        if errors:
            raise invalid(errors)
        direct = dict(self.communities.values())
        parent.review = "submitted"
        if direct[parent.review_community]:
            parent.review = "accepted"
            parent.communities.append(parent.review_community)
            self._publish(version)
        self._index(parent)
        return 202, {"id": self._new_id(), "status": parent.review, "is_open": parent.review == "submitted"}

    def decide(self, record_id: str, accept: bool) -> None:
        """What a curator of the community does."""
        with self._lock:
            version = self.versions[record_id]
            assert version.parent.review == "submitted"
            version.parent.review = "accepted" if accept else "declined"
            if accept:
                version.parent.communities.append(version.parent.review_community)
                self._publish(version)
            self._index(version.parent)

    # -- files -----------------------------------------------------------------------------------------

    def list_files(self, user: User | None, request: Request, record_id: str) -> tuple:
        self.read(user, request, record_id)
        return 200, _listed(self.versions[record_id].published)

    def file_content(self, user: User | None, request: Request, record_id: str, key: str) -> Response:
        self.read(user, request, record_id)
        files = self.versions[record_id].published.files
        if key not in files:
            raise Problem(404, f'Record "{record_id}" has no file "{key}".')
        return Response(files[key], content_type="application/octet-stream")

    def list_draft_files(self, user: User | None, request: Request, record_id: str) -> tuple:
        return 200, _listed(self._own_draft(user, record_id)[1])

    def init_files(self, user: User | None, request: Request, record_id: str) -> tuple:
        version, draft = self._open_draft(user, record_id)
        for sent in _body(request):
            if sent["key"] in draft.files:
                raise Problem(400, f"File with key {sent['key']} already exists.")
            draft.files[sent["key"]] = None
        version.revision += 1
        return 201, _listed(draft)

    def set_content(self, user: User | None, request: Request, record_id: str, key: str) -> tuple:
        _, draft = self._open_draft(user, record_id)
        if key not in draft.files:
            raise Problem(404, f'Record "{record_id}" has no file "{key}".')
        assert request.mimetype == "application/octet-stream"
        draft.files[key] = _Uncommitted(request.get_data())
        return 200, _entry(key, None)

    def commit_file(self, user: User | None, request: Request, record_id: str, key: str) -> tuple:
        version, draft = self._open_draft(user, record_id)
        content = draft.files.get(key)
        if not isinstance(content, _Uncommitted):
            raise Problem(400, "The file has no content yet.")
        draft.files[key] = content.content
        version.revision += 1
        return 200, _entry(key, content.content)

    def delete_file(self, user: User | None, request: Request, record_id: str, key: str) -> Response:
        version, draft = self._open_draft(user, record_id)
        if key not in draft.files:
            raise Problem(404, f'Record "{record_id}" has no file "{key}".')
        del draft.files[key]
        version.revision += 1
        return Response(status=204)

    def import_files(self, user: User | None, request: Request, record_id: str) -> tuple:
        version, draft = self._open_draft(user, record_id)
        if draft.files:
            raise invalid([fault("files.enabled", "Please remove all files first.")])
        latest = [other for other in version.parent.family if other.published is not None][-1]
        if not latest.published.files:
            raise invalid([fault("files.enabled", "The record has no files.")])
        draft.files.update(latest.published.files)
        return 201, _listed(draft)

    def _open_draft(self, user: User | None, record_id: str) -> tuple[Version, State]:
        version, draft = self._own_draft(user, record_id)
        if draft.locked:
            raise Problem(403, "Bucket is locked for modification.")
        if not draft.enabled:
            raise Problem(400, "Files are not enabled.")
        return version, draft


@dataclass
class _Uncommitted:
    content: bytes


class _Query:
    def __init__(self, text: str) -> None:
        found = QUERY.fullmatch(text)
        if text and found is None:
            raise Problem(400, "Invalid query string syntax.")
        self.phrases: list[list[str]] = []
        self.created = ""
        if found is not None:
            phrases = [found["one"]] if found["one"] is not None else re.findall('"([^"]*)"', found["any"])
            self.phrases = [_tokens(phrase) for phrase in phrases]
            self.created = found["created"] or ""

    def matches(self, doc: dict, words: frozenset[str]) -> bool:
        if doc["created"] < self.created:
            return False
        return not self.phrases or any(
            words.issuperset(phrase) and (len(phrase) == 1 or _has_phrase(doc, phrase))
            for phrase in self.phrases
        )


def _tokens(text: str) -> list[str]:
    """What an analyser makes of a text: its words, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def _values(doc: dict) -> list[str]:
    return [each["identifier"] for each in doc["metadata"].get("identifiers", [])]


def _words(doc: dict) -> set[str]:
    return {word for text in _values(doc) for word in _tokens(text)}


def _has_phrase(doc: dict, phrase: list[str]) -> bool:
    size = len(phrase)
    return any(
        tokens[start : start + size] == phrase
        for tokens in map(_tokens, _values(doc))
        for start in range(len(tokens) - size + 1)
    )


def _validated(repository: Repository, metadata: dict, errors: list[dict]) -> dict:
    """Return what is valid of ``metadata``; add to ``errors`` what is not."""
    valid = dict(metadata)
    known = {
        "title", "resource_type", "creators", "publication_date", "description", "publisher", "subjects",
        "identifiers", "version", "languages", "rights", "additional_descriptions",
    }  # fmt: skip
    for name in set(valid) - known:
        errors.append(fault(f"metadata.{name}", "Unknown field."))
        del valid[name]
    for name, rule in _FIELDS.items():
        messages = rule(valid.get(name))
        if messages:
            errors.extend(fault(f"metadata.{name}{where}", message) for where, message in messages)
            valid.pop(name, None)
    valid["identifiers"] = _valid_identifiers(repository, valid.get("identifiers") or [], errors)
    return valid


def _title(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return [("", REQUIRED)]
    return [("", SHORT)] if len(value) < 3 else []


def _description(value: Any) -> list[tuple[str, str]]:
    return [("", SHORT)] if value is not None and len(value) < 3 else []


def _publication_date(value: Any) -> list[tuple[str, str]]:
    if not value:
        return [("", REQUIRED)]
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?(/\d{4}(-\d\d(-\d\d)?)?)?", value):
        return [("", "Please enter a valid date or interval, e.g. YYYY-MM-DD.")]
    return []


def _resource_type(value: Any) -> list[tuple[str, str]]:
    if not value:
        return [("", REQUIRED)]
    return [] if value.get("id") in RESOURCE_TYPES else [("", f"Invalid value {value.get('id')}.")]


def _creators(value: Any) -> list[tuple[str, str]]:
    if not value:
        return [("", REQUIRED)]
    faults = []
    for number, creator in enumerate(value):
        who = creator.get("person_or_org", {})
        if who.get("type") == "personal" and not who.get("family_name"):
            faults.append((f".{number}.person_or_org.family_name", "Family name cannot be blank."))
        elif who.get("type") == "organizational" and not who.get("name"):
            faults.append((f".{number}.person_or_org.name", "Name cannot be blank."))
        elif who.get("type") not in ("personal", "organizational"):
            faults.append((f".{number}.person_or_org.type", "Invalid value."))
    return faults


_FIELDS = {
    "title": _title,
    "description": _description,
    "publication_date": _publication_date,
    "resource_type": _resource_type,
    "creators": _creators,
}


def _valid_identifiers(repository: Repository, identifiers: list[dict], errors: list[dict]) -> list[dict]:
    valid: list[dict] = []
    for number, each in enumerate(identifiers):
        if each.get("scheme") not in repository.schemes:
            errors.append(fault(f"metadata.identifiers.{number}.scheme", "Invalid scheme."))
        elif not each.get("identifier"):
            errors.append(fault(f"metadata.identifiers.{number}.identifier", "Identifier cannot be blank."))
        elif repository.one_per_scheme and each["scheme"] in {other["scheme"] for other in valid}:
            errors.append(fault("metadata.identifiers", "Only one identifier per scheme is allowed."))
        elif each in valid:
            errors.append(fault("metadata.identifiers", "Identifier value must be unique."))
        else:
            valid.append(each)
    return valid


def _sanitised(value: Any) -> Any:
    """What becomes of text there: without control characters, trimmed."""
    if isinstance(value, str):
        return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "", value).strip()
    if isinstance(value, list):
        return [_sanitised(item) for item in value]
    if isinstance(value, dict):
        return {key: _sanitised(item) for key, item in value.items()}
    return value


def _dumped(metadata: dict) -> dict:
    """Metadata as they are shown: words of vocabularies with their titles, people with their whole names."""
    shown = dict(metadata)
    if "resource_type" in shown:
        kind = shown["resource_type"]["id"]
        shown["resource_type"] = {"id": kind, "title": {"en": kind.capitalize()}}
    if "creators" in shown:
        shown["creators"] = [
            {**creator, "person_or_org": _whole_name(creator["person_or_org"])}
            for creator in shown["creators"]
        ]
    return shown


def _whole_name(who: dict) -> dict:
    if who.get("type") != "personal":
        return who
    return {**who, "name": ", ".join(filter(None, (who.get("family_name"), who.get("given_name"))))}


def _entry(key: str, content: Any) -> dict:
    if not isinstance(content, bytes):
        return {"key": key, "status": "pending", "metadata": None, "links": {}}
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    return {"key": key, "status": "completed", "checksum": checksum, "size": len(content), "links": {}}


def _listed(state: State) -> dict:
    entries = [_entry(key, content) for key, content in state.files.items()]
    return {"enabled": state.enabled, "entries": entries, "order": [], "default_preview": None}


def _public(doc: dict) -> dict:
    return {key: value for key, value in doc.items() if not key.startswith("_")}


def _body(request: Request) -> Any:
    assert request.mimetype == "application/json"
    return json.loads(request.get_data())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers, content_type="application/json")


# -- the contract suite --------------------------------------------------------------------------------


def as_base64(document: dict[str, Any], object_id: str) -> dict[str, Any]:
    """A mapping that loses nothing: the document's JSON in the description, as base64."""
    return {
        "title": f"Object {object_id}",
        "resource_type": {"id": "other"},
        "creators": [{"person_or_org": {"type": "organizational", "name": "Test"}}],
        "publication_date": "2026-01-01",
        "description": base64.b64encode(encode_document(document)).decode(),
    }


class InvenioDestination(Destination):
    takes_back = False
    sweeps = True
    readable = True
    takes_files = True
    removal = "tombstone"

    def __init__(self, directory: Path, receiver: Any) -> None:
        self.repository = Repository()
        self.service = Service(self.repository)
        self.token = directory / "token"
        self.token.write_text("adm1n")

    def agent(self, agent_id: str = "a", **options: Any) -> InvenioAgent:
        values = {
            "url": self.service.url, "token": f"file:{self.token}", "mapping": f"{__name__}:as_base64",
            "settle_s": 0, "removal": self.removal, "graves": True,
        }  # fmt: skip
        return InvenioAgent(agent_id, **(values | options))

    def _latest(self) -> list[tuple[Version, State]]:
        """What is there of each object: the newest version, published or not."""
        newest: dict[str, Version] = {}
        for version in self.repository.versions.values():
            known = newest.get(version.parent.id)
            if known is None or known.index < version.index:
                newest[version.parent.id] = version
        return [(version, version.published or version.draft) for version in newest.values()]

    def _marks(self) -> list[tuple[Version, State, Any]]:
        marks = []
        for version, state in self._latest():
            [mark] = filter(None, (parse_mark(each["identifier"]) for each in state.metadata["identifiers"]))
            if version.tombstone is not None:
                mark = parse_mark(version.tombstone["note"])
            marks.append((version, state, mark))
        assert len({mark.object_id for _, _, mark in marks}) == len(marks), "an object has two records"
        return marks

    def documents(self) -> dict[str, bytes]:
        return {
            mark.object_id: base64.b64decode(state.metadata["description"])
            for version, state, mark in self._marks()
            if not mark.deleted and version.published is not None
        }

    def tombstones(self) -> dict[str, int]:
        return {mark.object_id: mark.position for _, _, mark in self._marks() if mark.deleted}

    def files(self) -> dict[str, dict[str, bytes | None]]:
        return {
            mark.object_id: {file.name: state.files.get(file.name) for file in mark.files}
            for _, state, mark in self._marks()
            if mark.files and not mark.deleted
        }


class RestrictingInvenioDestination(InvenioDestination):
    removal = "restrict"

    def __init__(self, directory: Path, receiver: Any) -> None:
        super().__init__(directory, receiver)
        self.token.write_text("t0ken")
