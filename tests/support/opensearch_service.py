"""A stand-in for OpenSearch and Elasticsearch: the part of their REST API that livesync and its tests use.

It is not the real thing: no server of either product can be had where these tests run. It follows the
public descriptions of the API: OpenSearch's documentation of the document, index, alias and search APIs,
Elasticsearch's REST API specification, and, for what they leave open, what its sources say of versions
(``VersionType``), of aliases that are required, and of blocks. What it knows:

- Documents by ``_id`` with versions, internal and external (``external``, ``external_gte``), sequence
  numbers and primary terms; conflicts are 409 ``version_conflict_engine_exception``.
- Near-real-time search: what was written is seen by a search, a count or a sort only after a refresh, and
  nothing refreshes by itself. GET and ``_mget`` by id see everything, and ignore the filter of an alias.
- ``_source`` comes back byte for byte; only ``filter_path`` writes an answer anew.
- Mappings with dynamic fields: text, keyword, long, float, double, boolean, date, object; a value that does
  not fit is 400 ``mapper_parsing_exception``.
- Aliases with filters and the atomic ``_aliases`` with add, remove and remove_index.
- Blocks of a full disk, 403 or 429; a limit of the request's size, 413; authentication, 401 and 403.

Left out: shards and replicas, refreshing by time, scores worth the name, aggregations, points in time,
scripts, delete and update by query, and everything else.
"""

from __future__ import annotations

import fnmatch
import gzip
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from werkzeug.wrappers import Request as HTTPRequest
from werkzeug.wrappers import Response

from livesync.destinations.opensearch import OpenSearchAgent

from .destination import Destination
from .wsgi_service import Fault, Service, answering, on

FIELD_TYPES = {"text", "keyword", "long", "integer", "float", "double", "boolean", "date", "object"}
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
METADATA_FIELDS = {"_id", "_index", "_source", "_routing", "_field_names", "_ignored", "_seq_no", "_version"}
MAX_FIELDS = 1000


class Failure(Exception):
    """An error as the service tells it."""

    def __init__(self, status: int, kind: str, reason: str, caused_by: Failure | None = None) -> None:
        super().__init__(reason)
        self.status, self.kind, self.reason, self.caused_by = status, kind, reason, caused_by

    def told(self) -> dict[str, Any]:
        cause = {"type": self.kind, "reason": self.reason}
        return cause if self.caused_by is None else {**cause, "caused_by": self.caused_by.told()}

    def answer(self) -> dict[str, Any]:
        cause = {"type": self.kind, "reason": self.reason}
        return {"error": {"root_cause": [cause], **self.told()}, "status": self.status}


def no_index(name: str) -> Failure:
    return Failure(404, "index_not_found_exception", f"no such index [{name}]")


@dataclass(frozen=True)
class Doc:
    """One document in one version."""

    source: bytes
    version: int
    seq_no: int
    values: dict[str, list[Any]]


@dataclass
class Index:
    name: str
    settings: dict[str, Any]
    mappings: dict[str, Any]
    aliases: dict[str, dict[str, Any]]
    uuid: str = field(default_factory=lambda: uuid.uuid4().hex)
    docs: dict[str, Doc] = field(default_factory=dict)
    searched: dict[str, Doc] = field(default_factory=dict)  #: as of the last refresh
    seq_nos: count = field(default_factory=count)

    def refresh(self) -> None:
        self.searched = dict(self.docs)

    def write(self, doc_id: str, source: bytes, may: Callable[[Doc | None], int]) -> Doc:
        """Write a document, in the version that ``may`` returns, unless that raises."""
        if len(doc_id.encode()) > 512:
            raise Failure(
                400, "illegal_argument_exception", "id is too long, must be no longer than 512 bytes"
            )
        version = may(self.docs.get(doc_id))
        values = Mapper(self.mappings, doc_id).parse(source)
        doc = self.docs[doc_id] = Doc(source, version, next(self.seq_nos), values)
        return doc


def external(version: int, or_equal: bool, doc_id: str) -> Callable[[Doc | None], int]:
    def may(doc: Doc | None) -> int:
        if doc is not None and (doc.version > version or (doc.version == version and not or_equal)):
            than = "higher" if or_equal else "higher or equal"
            raise conflict(
                doc_id, f"current version [{doc.version}] is {than} than the one provided [{version}]"
            )
        return version

    return may


def internal(doc_id: str, if_seq_no: str | None, create: bool) -> Callable[[Doc | None], int]:
    def may(doc: Doc | None) -> int:
        if create and doc is not None:
            raise conflict(doc_id, f"document already exists (current version [{doc.version}])")
        if if_seq_no is not None and (doc is None or doc.seq_no != int(if_seq_no)):
            raise conflict(doc_id, f"required seqNo [{if_seq_no}], primary term [1]")
        return 1 if doc is None else doc.version + 1

    return may


def conflict(doc_id: str, why: str) -> Failure:
    return Failure(409, "version_conflict_engine_exception", f"[{doc_id}]: version conflict, {why}")


# -- mappings ------------------------------------------------------------------------------------------


class Mapper:
    """Checks a document against a mapping, adds the fields that it brings, and tells its values by path."""

    def __init__(self, mappings: dict[str, Any], doc_id: str) -> None:
        self.mappings, self.doc_id = mappings, doc_id
        self.values: dict[str, list[Any]] = {}
        self.added: list[tuple[dict[str, Any], str, dict[str, Any]]] = []

    def parse(self, source: bytes) -> dict[str, list[Any]]:
        try:
            document = json.loads(source)
        except ValueError as exc:
            raise Failure(400, "mapper_parsing_exception", f"failed to parse: {exc}") from None
        for name in document:
            if name in METADATA_FIELDS:
                why = f"Field [{name}] is a metadata field and cannot be added inside a document."
                raise Failure(400, "mapper_parsing_exception", why)
        properties = self.mappings.setdefault("properties", {})
        self._object(document, "", properties, self.mappings.get("dynamic", True))
        if len(properties) + len(self.added) > MAX_FIELDS:
            why = f"Limit of total fields [{MAX_FIELDS}] has been exceeded"
            raise Failure(400, "illegal_argument_exception", why)
        for holder, name, mapping in self.added:  # only now: a refused document changes no mapping
            holder.setdefault(name, mapping)
        return self.values

    def _object(self, value: dict[str, Any], before: str, properties: dict[str, Any], dynamic: Any) -> None:
        for name, inner in value.items():
            if not name.strip(". "):
                raise Failure(400, "illegal_argument_exception", "field name cannot be an empty string")
            head, _, tail = name.partition(".")
            if tail:
                head, inner = head, {tail: inner}
            for one in inner if isinstance(inner, list) else [inner]:
                self._field(head, one, before, properties, dynamic)

    def _field(self, name: str, value: Any, before: str, properties: dict[str, Any], dynamic: Any) -> None:
        path = before + name
        if isinstance(value, list):
            for one in value:
                self._field(name, one, before, properties, dynamic)
            return
        if value is None:
            return
        mapping = properties.get(name) or next(
            (m for h, n, m in self.added if h is properties and n == name), None
        )
        if mapping is None:
            if str(dynamic).lower() == "strict":
                why = f"mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"
                raise Failure(400, "strict_dynamic_mapping_exception", why)
            if str(dynamic).lower() == "false":
                return
            mapping = self._guess(value)
            self.added.append((properties, name, mapping))
        kind = mapping.get("type", "object")
        if kind == "object":
            if not isinstance(value, dict):
                why = f"tried to parse field [{name}] as object, but found a concrete value"
                raise Failure(400, "mapper_parsing_exception", f"object mapping for [{path}] {why}")
            self._object(
                value, f"{path}.", mapping.setdefault("properties", {}), mapping.get("dynamic", dynamic)
            )
            return
        try:
            self.values.setdefault(path, []).append(_indexed(kind, value))
        except (ValueError, TypeError, OverflowError) as exc:
            why = f"failed to parse field [{path}] of type [{kind}] in document with id '{self.doc_id}'"
            cause = Failure(400, "illegal_argument_exception", f'For input string: "{value}" ({exc})')
            raise Failure(400, "mapper_parsing_exception", why, cause) from None

    def _guess(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {"type": "object", "properties": {}}
        for kind, name in ((bool, "boolean"), (int, "long"), (float, "float")):
            if isinstance(value, kind):
                return {"type": name}
        if self.mappings.get("date_detection", True) and ISO_DATE.fullmatch(value):
            return {"type": "date"}
        return {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}


def _indexed(kind: str, value: Any) -> Any:
    """Return what a value is indexed as.

    Raises:
        ValueError, TypeError, OverflowError: It does not fit the type.
    """
    if isinstance(value, dict):
        raise TypeError("an object")
    if kind in ("text", "keyword"):
        text = value if isinstance(value, str) else json.dumps(value)
        if kind == "keyword" and len(text.encode()) > 32766:
            raise ValueError("immense term")
        return text
    if kind == "boolean":
        return {True: True, False: False, "true": True, "false": False, "": False}[value]
    if kind == "date":
        if isinstance(value, str) and not ISO_DATE.fullmatch(value):
            raise ValueError("no date")
        return value
    if isinstance(value, bool):
        raise TypeError("a boolean")
    if kind in ("long", "integer"):
        number = int(float(value)) if isinstance(value, str) else int(value)
        if not -(2**63) <= number < 2**63:
            raise OverflowError("out of range for a long")
        return number
    return float(value)


def check_mappings(mappings: dict[str, Any], before: str = "") -> None:
    for name, mapping in mappings.get("properties", {}).items():
        kind = mapping.get("type", "object")
        if kind not in FIELD_TYPES:
            why = f"No handler for type [{kind}] declared on field [{before}{name}]"
            raise Failure(400, "mapper_parsing_exception", f"Failed to parse mapping: {why}")
        check_mappings(mapping, f"{before}{name}.")


# -- queries -------------------------------------------------------------------------------------------


def matches(query: dict[str, Any], doc: Doc, doc_id: str) -> bool:
    [(kind, body)] = query.items()
    if kind not in _QUERIES:
        raise Failure(400, "parsing_exception", f"unknown query [{kind}]")
    return bool(_QUERIES[kind](body, doc, doc_id))


def _listed(clause: Any) -> list[Any]:
    return clause if isinstance(clause, list) else [clause]


def _bool(body: dict[str, Any], doc: Doc, doc_id: str) -> bool:
    must = _listed(body.get("must", [])) + _listed(body.get("filter", []))
    should = _listed(body.get("should", []))
    return (
        all(matches(clause, doc, doc_id) for clause in must)
        and not any(matches(clause, doc, doc_id) for clause in _listed(body.get("must_not", [])))
        and (bool(must) or not should or any(matches(clause, doc, doc_id) for clause in should))
    )


def _term(body: dict[str, Any], doc: Doc, doc_id: str) -> bool:
    [(path, wanted)] = body.items()
    if isinstance(wanted, dict):
        wanted = wanted["value"]
    return wanted in doc.values.get(path.removesuffix(".keyword"), [])


def _range(body: dict[str, Any], doc: Doc, doc_id: str) -> bool:
    [(path, limits)] = body.items()
    tests = {
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
    }
    return any(
        all(tests[name](value, limit) for name, limit in limits.items()) for value in doc.values.get(path, [])
    )


def _match(body: dict[str, Any], doc: Doc, doc_id: str) -> bool:
    [(path, text)] = body.items()
    words = set(re.findall(r"\w+", str(text["query"] if isinstance(text, dict) else text).lower()))
    return any(words & set(re.findall(r"\w+", str(value).lower())) for value in doc.values.get(path, []))


_QUERIES: dict[str, Callable[[Any, Doc, str], bool]] = {
    "match_all": lambda body, doc, doc_id: True,
    "ids": lambda body, doc, doc_id: doc_id in body["values"],
    "exists": lambda body, doc, doc_id: body["field"] in doc.values,
    "terms": lambda body, doc, doc_id: any(_term({p: v}, doc, doc_id) for p, vs in body.items() for v in vs),
    "bool": _bool,
    "term": _term,
    "range": _range,
    "match": _match,
}


class _Last:
    """Greater than everything: what has no value comes last."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return not isinstance(other, _Last)


def sort_key(value: Any) -> Any:
    if value is None:
        return _Last()
    return value.encode() if isinstance(value, str) else value  # keywords sort as UTF-8


# -- the service ---------------------------------------------------------------------------------------


class OpenSearchService:
    """The state of a cluster, and the WSGI app that shows it; it may be shared by threads.

    Args:
        distribution: ``opensearch`` or ``elasticsearch``.
        version: What it calls its version.
    """

    def __init__(self, distribution: str = "opensearch", version: str = "2.19.1") -> None:
        self.distribution, self.version = distribution, version
        self.indices: dict[str, Index] = {}
        #: Values of the header Authorization that are let in; none: everybody is.
        self.credentials: set[str] = set()
        #: Patterns of ``METHOD /path`` that those let in may not use.
        self.forbidden: set[str] = set()
        self.max_content_length = 100 * 1024 * 1024
        #: Status of a write to an index with ``index.blocks.read_only_allow_delete``.
        self.flood_stage_status = 429
        #: Errors for single bulk items, each used once: (``_id``, status, type, reason).
        self.item_errors: list[tuple[str, int, str, str]] = []
        self._lock = threading.RLock()
        self.http = Service(self._app)

    @property
    def url(self) -> str:
        return self.http.url

    def fail_next(
        self, status: int, *, ending: str = "_bulk", method: str = "POST", body: bytes = b"", **headers: str
    ) -> None:
        """Answer the next such request with this and do nothing."""
        self.http.script.append(answering(status, body, on(method, ending), **headers))

    def cut_next(self, where: str, *, ending: str = "_bulk", method: str = "POST") -> None:
        """Cut the connection of the next such request; see :class:`Fault`."""
        self.http.script.append(Fault(cut=where, when=on(method, ending)))

    def block(self, index: str, blocked: bool = True) -> None:
        """Block an index as a full disk does."""
        self.indices[index].settings["blocks.read_only_allow_delete"] = blocked

    # what tests look at, past HTTP

    def resolved(self, name: str) -> list[Index]:
        if name in self.indices:
            return [self.indices[name]]
        return [index for index in self.indices.values() if name in index.aliases]

    def one(self, name: str) -> Index:
        found = self.resolved(name)
        if not found:
            raise no_index(name)
        if len(found) > 1:
            names = ", ".join(index.name for index in found)
            raise Failure(
                400, "illegal_argument_exception", f"alias [{name}] has more than one index [{names}]"
            )
        return found[0]

    # HTTP

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = HTTPRequest(environ)
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self._lock:
            try:
                self._let_in(request, body)
                answer, status = self._dispatch(request, body), 200
                if isinstance(answer, tuple):
                    answer, status = answer
            except Failure as failure:
                answer, status = failure.answer(), failure.status
        encoded = msgspec.json.encode(answer)
        if request.args.get("filter_path") and status < 400:
            encoded = json.dumps(
                filtered(json.loads(encoded), request.args["filter_path"].split(","))
            ).encode()
        kind = "application/json; charset=UTF-8"
        return Response(encoded, status, content_type=kind)(environ, start_response)

    def _let_in(self, request: HTTPRequest, body: bytes) -> None:
        if self.credentials and request.headers.get("Authorization") not in self.credentials:
            raise Failure(401, "security_exception", "unable to authenticate user")
        asked = f"{request.method} {request.path}"
        if any(fnmatch.fnmatch(asked, pattern) for pattern in self.forbidden):
            raise Failure(403, "security_exception", f"no permissions for [{asked}]")
        if len(body) > self.max_content_length:
            raise Failure(413, "content_too_long_exception", f"entity content is too long [{len(body)}]")

    def _dispatch(self, request: HTTPRequest, body: bytes) -> Any:
        parts = [part for part in request.path.split("/") if part]
        if not parts:
            return self._about()
        special = next((part for part in parts if part.startswith("_")), "")
        handler = getattr(self, f"_{request.method.lower()}{special or '_index'}", None)
        if handler is None:
            why = f"no handler found for uri [{request.path}] and method [{request.method}]"
            raise Failure(400, "illegal_argument_exception", why)
        return handler(parts, request.args, body)

    def _about(self) -> dict[str, Any]:
        version = {"number": self.version, "build_type": "tar", "lucene_version": "9.12.1"}
        if self.distribution == "opensearch":
            version["distribution"] = "opensearch"
        return {
            "name": "node",
            "cluster_name": "stand-in",
            "version": version,
            "tagline": "You know, for tests",
        }

    # indices and aliases

    def _put_index(self, parts: list[str], args: Any, body: bytes) -> Any:
        [name] = parts
        said = json.loads(body) if body else {}
        self._check_name(name)
        unknown = said.keys() - {"settings", "mappings", "aliases"}
        if unknown:
            raise Failure(400, "parse_exception", f"unknown key [{unknown.pop()}] for create index")
        check_mappings(said.get("mappings", {}))
        for alias in said.get("aliases", {}):
            self._check_alias(alias)
        settings = dict(_flat(said.get("settings", {})))
        self.indices[name] = Index(name, settings, said.get("mappings", {}), said.get("aliases", {}))
        return {"acknowledged": True, "shards_acknowledged": True, "index": name}

    def _check_name(self, name: str) -> None:
        if name in self.indices:
            found = f"{name}/{self.indices[name].uuid}"
            raise Failure(400, "resource_already_exists_exception", f"index [{found}] already exists")
        why = ""
        if name != name.lower():
            why = "must be lowercase"
        elif name.startswith(("_", "-", "+")) or set(name) & set('\\/*?"<>| ,#:'):
            why = "must not contain the following characters"
        elif len(name.encode()) > 255:
            why = "index name is too long"
        elif self.resolved(name):
            why = "already exists as alias"
        if why:
            raise Failure(400, "invalid_index_name_exception", f"Invalid index name [{name}], {why}")

    def _check_alias(self, alias: str) -> None:
        if alias in self.indices:
            why = "an index or data stream exists with the same name as the alias"
            raise Failure(400, "invalid_alias_name_exception", f"Invalid alias name [{alias}]: {why}")

    def _get_index(self, parts: list[str], args: Any, body: bytes) -> Any:
        [name] = parts
        found = self.resolved(name)
        if "*" in name:  # it may find nothing
            found = [
                index for index in self.indices.values() if fnmatch.filter([index.name, *index.aliases], name)
            ]
        elif not found:
            raise no_index(name)
        return {
            index.name: {
                "aliases": index.aliases,
                "mappings": index.mappings,
                "settings": {"index": {**index.settings, "uuid": index.uuid, "provided_name": index.name}},
            }
            for index in found
        }

    def _delete_index(self, parts: list[str], args: Any, body: bytes) -> Any:
        if parts[0] not in self.indices:
            raise no_index(parts[0])
        del self.indices[parts[0]]
        return {"acknowledged": True}

    def _post_aliases(self, parts: list[str], args: Any, body: bytes) -> Any:
        indices = {name: dict(index.aliases) for name, index in self.indices.items()}
        for action in json.loads(body)["actions"]:
            [(kind, about)] = action.items()
            name = about["index"]
            if name not in indices:
                raise no_index(name)
            if kind == "remove_index":
                del indices[name]
            elif kind == "add":
                self._check_alias(about["alias"])
                indices[name][about["alias"]] = {k: about[k] for k in ("filter",) if k in about}
            elif indices[name].pop(about["alias"], None) is None:
                raise Failure(404, "aliases_not_found_exception", f"aliases [{about['alias']}] missing")
        for name in list(self.indices):  # all of it, or nothing
            if name in indices:
                self.indices[name].aliases = indices[name]
            else:
                del self.indices[name]
        return {"acknowledged": True}

    def _post_refresh(self, parts: list[str], args: Any, body: bytes) -> Any:
        found = self.resolved(parts[0])
        if not found:
            raise no_index(parts[0])
        for index in found:
            index.refresh()
        return {"_shards": {"total": 1, "successful": 1, "failed": 0}}

    # documents

    def _target(self, name: str, require_alias: bool) -> Index:
        """Return the index that a write goes to."""
        if require_alias and (name in self.indices or not self.resolved(name)):
            why = f"[require_alias] request flag is [true] and [{name}] is not an alias"
            raise Failure(404, "index_not_found_exception", f"no such index [{name}] and {why}")
        if not self.resolved(name):  # made by being written to
            self._put_index([name], {}, b"")
        index = self.one(name)
        if index.settings.get("blocks.read_only_allow_delete"):
            word = "TOO_MANY_REQUESTS" if self.flood_stage_status == 429 else "FORBIDDEN"
            why = (
                f"{word}/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block"
            )
            raise Failure(
                self.flood_stage_status,
                "cluster_block_exception",
                f"index [{index.name}] blocked by: [{why}];",
            )
        if index.settings.get("closed"):
            raise Failure(400, "index_closed_exception", "closed")
        return index

    def _post_bulk(self, parts: list[str], args: Any, body: bytes) -> Any:
        if not body.endswith(b"\n"):
            why = "The bulk request must be terminated by a newline [\\n]"
            raise Failure(400, "illegal_argument_exception", why)
        lines = iter(body.split(b"\n")[:-1])
        items = []
        for line in lines:
            [(op, about)] = json.loads(line).items()
            if op not in ("index", "create"):
                raise Failure(400, "illegal_argument_exception", f"this stand-in knows no action [{op}]")
            name = about.get("_index", parts[0])
            items.append({op: self._bulk_item(name, about, next(lines), args.get("require_alias") == "true")})
        errors = any("error" in next(iter(item.values())) for item in items)
        return {"took": 1, "errors": errors, "items": items}

    def _bulk_item(
        self, name: str, about: dict[str, Any], source: bytes, require_alias: bool
    ) -> dict[str, Any]:
        doc_id = about["_id"]
        try:
            for number, (wanted, status, kind, reason) in enumerate(self.item_errors):
                if wanted == doc_id:
                    del self.item_errors[number]
                    raise Failure(status, kind, reason)
            index = self._target(name, require_alias)
            kind = about.get("version_type", "internal")
            if kind == "internal":
                may = internal(doc_id, about.get("if_seq_no"), False)
            else:
                may = external(about["version"], kind == "external_gte", doc_id)
            was_there = doc_id in index.docs
            doc = index.write(doc_id, source, may)
        except Failure as failure:
            return {"_index": name, "_id": doc_id, "status": failure.status, "error": failure.told()}
        result, status = ("updated", 200) if was_there else ("created", 201)
        return {**self._written(index, doc_id, doc), "result": result, "status": status}

    @staticmethod
    def _written(index: Index, doc_id: str, doc: Doc) -> dict[str, Any]:
        return {
            "_index": index.name, "_id": doc_id, "_version": doc.version, "_seq_no": doc.seq_no,
            "_primary_term": 1, "_shards": {"total": 1, "successful": 1, "failed": 0},
        }  # fmt: skip

    def _put_doc(self, parts: list[str], args: Any, body: bytes, create: bool = False) -> Any:
        name, _, doc_id = parts
        index = self._target(name, args.get("require_alias") == "true")
        was_there = doc_id in index.docs
        doc = index.write(doc_id, body, internal(doc_id, args.get("if_seq_no"), create))
        answer = {**self._written(index, doc_id, doc), "result": "updated" if was_there else "created"}
        return answer, 200 if was_there else 201

    def _put_create(self, parts: list[str], args: Any, body: bytes) -> Any:
        return self._put_doc(parts, args, body, create=True)

    def _delete_doc(self, parts: list[str], args: Any, body: bytes) -> Any:
        name, _, doc_id = parts
        if self.one(name).docs.pop(doc_id, None) is None:
            return {"_index": name, "_id": doc_id, "result": "not_found"}, 404
        return {"_index": name, "_id": doc_id, "result": "deleted"}

    def _get_doc(self, parts: list[str], args: Any, body: bytes) -> Any:
        name, _, doc_id = parts
        got = self._got(self.one(name), doc_id)
        return got, 200 if got["found"] else 404

    @staticmethod
    def _got(index: Index, doc_id: str) -> dict[str, Any]:
        doc = index.docs.get(doc_id)
        if doc is None:
            return {"_index": index.name, "_id": doc_id, "found": False}
        return {
            "_index": index.name, "_id": doc_id, "_version": doc.version, "_seq_no": doc.seq_no,
            "_primary_term": 1, "found": True, "_source": msgspec.Raw(doc.source),
        }  # fmt: skip

    def _post_mget(self, parts: list[str], args: Any, body: bytes) -> Any:
        index = self.one(parts[0])
        return {"docs": [self._got(index, doc_id) for doc_id in json.loads(body)["ids"]]}

    # searches

    def _living(self, name: str, query: dict[str, Any]) -> list[tuple[Index, str, Doc]]:
        found = self.resolved(name)
        if not found:
            raise no_index(name)
        return [
            (index, doc_id, doc)
            for index in found
            for doc_id, doc in index.searched.items()
            if matches(query, doc, doc_id)
            and (
                name == index.name
                or matches(index.aliases[name].get("filter", {"match_all": {}}), doc, doc_id)
            )
        ]

    def _post_count(self, parts: list[str], args: Any, body: bytes) -> Any:
        query = json.loads(body).get("query", {"match_all": {}}) if body else {"match_all": {}}
        shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
        return {"count": len(self._living(parts[0], query)), "_shards": shards}

    def _post_search(self, parts: list[str], args: Any, body: bytes) -> Any:
        asked = json.loads(body) if body else {}
        found = self._living(parts[0], asked.get("query", {"match_all": {}}))
        [path] = [name for clause in asked.get("sort", [{"": "asc"}]) for name in clause]
        keyed = [((doc.values.get(path) or [None])[0], index, doc_id, doc) for index, doc_id, doc in found]
        if path:
            keyed.sort(key=lambda hit: sort_key(hit[0]))
        if "search_after" in asked:
            after = sort_key(asked["search_after"][0])
            keyed = [hit for hit in keyed if sort_key(hit[0]) > after]
        if asked.get("size", 10) > 10_000:
            raise Failure(400, "illegal_argument_exception", "Result window is too large")
        hits = [self._hit(*hit, asked) for hit in keyed[: asked.get("size", 10)]]
        shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
        total = (
            {"total": {"value": len(found), "relation": "eq"}} if asked.get("track_total_hits", True) else {}
        )
        return {
            "took": 1,
            "timed_out": False,
            "_shards": shards,
            "hits": {**total, "max_score": None, "hits": hits},
        }

    _get_search = _post_search

    @staticmethod
    def _hit(value: Any, index: Index, doc_id: str, doc: Doc, asked: dict[str, Any]) -> dict[str, Any]:
        hit: dict[str, Any] = {"_index": index.name, "_id": doc_id, "_score": None}
        if asked.get("_source", True):
            hit["_source"] = msgspec.Raw(doc.source)
        fields = {path: doc.values[path] for path in asked.get("docvalue_fields", ()) if path in doc.values}
        if fields:
            hit["fields"] = fields
        if "sort" in asked:
            hit["sort"] = [value]
        return hit


def filtered(value: Any, paths: list[str]) -> Any:
    """Return what ``filter_path`` leaves of an answer: what it names, with what leads to it."""
    if isinstance(value, list):
        return [kept for one in value if (kept := filtered(one, paths)) not in ({}, [])]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, inner in value.items():
        further = [
            rest for path in paths for head, _, rest in [path.partition(".")] if fnmatch.fnmatch(name, head)
        ]
        if "" in further:
            kept[name] = inner
        elif (
            further and isinstance(inner, (dict, list)) and (rest := filtered(inner, further)) not in ({}, [])
        ):
            kept[name] = rest
    return kept


def _flat(settings: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{before}{name}.")
        else:
            flat.append(((before + name).removeprefix("index."), value))
    return flat


# -- the contract suite's harness ------------------------------------------------------------------------


class OpenSearchDestination(Destination):
    takes_back = False
    sweeps = True
    keeps_pointer = True
    readable = True
    rebuilds = True

    #: Made for the first test, for all of them: each destination has an index of its own.
    service: OpenSearchService | None = None
    numbers = count()

    def __init__(self, directory: Path, receiver: object) -> None:
        kind = type(self)
        kind.service = kind.service or OpenSearchService()
        self.index = f"objects-{next(self.numbers)}"

    def agent(self, agent_id="a", **options):
        return OpenSearchAgent(agent_id, url=self.service.url, index=self.index, **options)

    def _docs(self) -> list[Doc]:
        """All that lies behind the alias, refreshed or not, tombstones too."""
        return [doc for index in self.service.resolved(self.index) for doc in index.docs.values()]

    def documents(self):
        found = {}
        for doc in self._docs():
            ours = json.loads(doc.source)["livesync"]
            if not ours.get("deleted"):
                document, _, rest = doc.source.rpartition(b'"livesync":')
                assert json.loads(rest[:-1]) == ours
                found[ours["object_id"]] = document.removesuffix(b",") + b"}"
        return found

    def tombstones(self):
        ours = [json.loads(doc.source)["livesync"] for doc in self._docs()]
        return {one["object_id"]: one["position"] for one in ours if one.get("deleted")}

    def alter(self, object_id):
        [index] = self.service.resolved(self.index)
        source = {**json.loads(index.docs[object_id].source), "title": "somebody's own"}
        index.write(object_id, json.dumps(source).encode(), internal(object_id, None, False))
