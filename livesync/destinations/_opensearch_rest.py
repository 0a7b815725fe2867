"""Requests to OpenSearch and Elasticsearch, and what their answers mean.

Both products tell errors in the same form, ``{"error": {"type": …, "reason": …}, "status": …}``; what
stands in front of them (a proxy, a cloud's gateway) has forms of its own, so that an answer which is
no JSON object never passes for theirs. A disk that is full shows as a block of an index
(``cluster_block_exception``), with 403 or 429, depending on the version: always "not now".
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from ..agent import SyncAgent
from ..delivery.record import Op, Outcome, Verdict
from ..errors import BatchRefused, DeliveryError, OptionError, RetryLater, ServiceRefuses
from ..forms import decode_json
from ..httpcalls import NoAuth
from ..words import plural
from ._answers import Answer, outcome, retry_after_s, without_secrets
from ._http_session import ANSWER_BYTES, HeaderAuth, HTTPService, bearer

#: The options of which one way to prove who we are is made.
_WAYS_IN: Final = ("username", "api_key", "token")

#: What is read of an answer about each record of a batch: an error quotes a little of the document.
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

#: The fastest: on NDJSON the better levels cost several times more and save little.
_GZIP_LEVEL: Final = 1

_MAX_QUOTE: Final = 300

_NOT_NOW: Final = frozenset({408, 425, 429})

#: Statuses of a whole bulk request that speak of what was sent and not of who sent it where.
_OF_THE_BATCH: Final = frozenset({400, 409, 413, 422})

#: Errors of one record that are none of its own: whatever is sent there meets with them.
_OF_THE_INDEX: Final = frozenset(
    {"index_not_found_exception", "index_closed_exception", "security_exception", "alias_not_found_exception"}
)

_BLOCKED: Final = "cluster_block_exception"

T = TypeVar("T")


class AnswerTooLong(ServiceRefuses):
    """Raised when more was answered than was to be read: ask for less at a time."""


class Cause(msgspec.Struct):
    """An error as both products tell it."""

    type: str | None = None
    reason: str | None = None
    caused_by: Cause | None = None

    def __str__(self) -> str:
        parts = [part for part in (self.type, self.reason) if part]
        if self.caused_by is not None and self.caused_by.reason and self.caused_by.reason not in parts:
            parts.append(str(self.caused_by))
        return ": ".join(parts)


class _Refusal(msgspec.Struct):
    error: Cause | str | None = None
    # how gateways say it
    message: str | None = None
    Message: str | None = None


class _ItemResult(msgspec.Struct):
    status: int
    error: Cause | None = None


class _BulkAnswer(msgspec.Struct):
    items: list[dict[str, _ItemResult]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the caller wanted.

    Attributes:
        status: The HTTP status code.
        body: The JSON, as it came.
        cause: What went wrong, where the status says that something did.
        said: Who answered what, for messages.
    """

    status: int
    body: bytes
    cause: Cause
    said: str

    def read(self, form: type[T]) -> T:
        """Return the body as ``form``.

        Raises:
            ServiceRefuses: It is of another form: something else answered.
        """
        try:
            return decode_json(self.body, form)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ServiceRefuses(f"{self.said} with a body of another form ({exc}): {_CHECK_URL}") from None


_CHECK_URL: Final = "is it OpenSearch or Elasticsearch? check the URL"


class RESTService:
    """A cluster behind a URL. Threads may share it.

    Args:
        agent: Its options ``url``, ``gzip``, ``username``, ``password``, ``api_key`` and ``token`` say
            where to and how.
        now: Returns epoch seconds; for a ``Retry-After`` that names a time.

    Raises:
        OptionError: A secret is not there, or cannot be sent in a header.
    """

    def __init__(self, agent: SyncAgent, now: Callable[[], float]) -> None:
        url: str = agent.values["url"]
        self._url = url.rstrip("/")
        #: The URL as logs and messages show it.
        self.shown_url = without_secrets(self._url)
        self._gzip: bool = agent.values["gzip"]
        self._now = now
        self._http = HTTPService.of(agent, _auth(agent))

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        want: Collection[int] = (),
        limit: int = 1024 * 1024,
    ) -> Reply:
        """Send one request and return the answer.

        Args:
            method: The HTTP method.
            path: Below the URL, its parts quoted (see :func:`path_of`).
            body: What to send as JSON; None: nothing.
            query: The query string.
            want: Statuses besides 2xx that are an answer too, if the product itself gave it.
            limit: Bytes of the answer that are read.

        Raises:
            RetryLater: No answer, or "not now".
            ServiceRefuses: Any other answer.
            AnswerTooLong: A longer one than ``limit``.
        """
        encoded = None if body is None else msgspec.json.encode(body)
        answer = self._send(method, path, encoded, "application/json", query, limit)
        said = f"{self.shown_url} answered {answer.status} to {method} {path}"
        cause, is_theirs = _cause_of(answer)
        if not (200 <= answer.status < 300 or (answer.status in want and is_theirs)):
            raise self._meaning(answer, cause, said)
        if not answer.whole:
            raise AnswerTooLong(f"{said} with more than {limit} bytes")
        if not is_theirs:
            kind = answer.content_type or "a body without a type"
            raise ServiceRefuses(f"{said} with {kind}, not a JSON object: {_CHECK_URL}")
        return Reply(answer.status, answer.body, cause, said)

    def bulk(self, target: str, lines: bytes, ids: list[str]) -> list[Verdict]:
        """Send the actions in ``lines``, one for each of ``ids``, to an alias; return a verdict for each.

        Nothing is written where ``target`` is no alias: so an index that was removed is never made
        again by being written to, without its mapping.

        Raises:
            RetryLater: Not now.
            BatchRefused: To be halved.
            ServiceRefuses: The service refuses us, or the index is gone.
        """
        # Errors alone, not the names of everything that went well: a tenth of the bytes.
        query = "require_alias=true&filter_path=errors,error,items.*.status,items.*.error"
        limit = ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * len(ids)
        path = path_of(target, "_bulk")
        answer = self._send("POST", path, lines, "application/x-ndjson", query, limit)
        said = f"{self.shown_url} answered {answer.status} to POST {path}"
        cause, is_theirs = _cause_of(answer)
        if answer.status in _OF_THE_BATCH:
            raise BatchRefused(_of_the_batch(answer.status, cause))
        if not 200 <= answer.status < 300:
            raise self._meaning(answer, cause, said)
        if not answer.whole:
            raise BatchRefused(f"the answer has more than {limit} bytes")
        if not is_theirs:
            raise ServiceRefuses(f"{said} with a body that is no JSON object: {_CHECK_URL}")
        items = Reply(answer.status, answer.body, cause, said).read(_BulkAnswer).items
        if len(items) != len(ids):
            results, actions = plural(len(items), "result"), plural(len(ids), "action")
            raise ServiceRefuses(f"{said} with {results} for {actions}: {_CHECK_URL}")
        return [
            _verdict(object_id, next(iter(item.values())), target)
            for object_id, item in zip(ids, items, strict=True)
        ]

    def _send(
        self, method: str, path: str, body: bytes | None, media_type: str, query: str, limit: int
    ) -> Answer:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = media_type
            if self._gzip:
                headers["Content-Encoding"] = "gzip"
                body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        url = f"{self._url}{path}?{query}" if query else self._url + path
        return self._http.request(method, url, body, headers, limit)

    def _meaning(self, answer: Answer, cause: Cause, said: str) -> DeliveryError:
        """Return what to raise for an answer that nobody wanted."""
        status, why = answer.status, _shortened(cause)
        if 300 <= status < 400:
            return ServiceRefuses(f"{said}: redirects are not followed, check the URL")
        if cause.type == _BLOCKED or status in _NOT_NOW or not 400 <= status < 500:
            return RetryLater(reason=said + why, after_s=retry_after_s(answer.retry_after, self._now()))
        remedy = {
            401: "check username and password, api_key or token",
            403: "check the rights of this user or key",
            404: "check the URL",
            405: "check the URL",
            407: "check the proxy",
        }.get(status)
        return ServiceRefuses(said + why + (f"; {remedy}" if remedy else ""))


def path_of(*parts: str) -> str:
    """Return the path of ``parts``, each quoted: ``/a/b``."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def check_url(url: str) -> None:
    """Make sure that paths can be appended to ``url``.

    Raises:
        OptionError: It has a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise OptionError("option url: no query and no fragment: only where the cluster is")


def check_way_in(agent: SyncAgent) -> None:
    """Make sure that there is one way at most to prove who we are.

    Raises:
        OptionError: There are several, or half of one.
    """
    values = agent.values
    given = [name for name in _WAYS_IN if values[name] is not None]
    if len(given) > 1:
        raise OptionError(f"options {' and '.join(given)} exclude each other: give one of them")
    if (values["username"] is None) != (values["password"] is None):
        raise OptionError("options username and password belong together: give both or none")
    username = values["username"] or ""
    if ":" in username:
        raise OptionError("option username: basic authentication takes no colon in it")


def _auth(agent: SyncAgent) -> Any:
    """Return what proves who we are.

    Raises:
        OptionError: A secret is not there, or cannot be sent in a header.
    """
    username = agent.values["username"]
    if username is not None:
        pair = f"{username}:{agent.secret('password')}"
        return HeaderAuth(f"Basic {base64.b64encode(pair.encode()).decode()}")
    if agent.values["api_key"] is None:
        return bearer(agent) if agent.values["token"] is not None else NoAuth()
    key = agent.secret("api_key") or ""
    if ":" in key:  # id and key, as they are shown apart; what is sent is both as base64
        key = base64.b64encode(key.encode()).decode()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise OptionError("option api_key: the secret holds characters that a header cannot carry")
    return HeaderAuth(f"ApiKey {key}")


def _cause_of(answer: Answer) -> tuple[Cause, bool]:
    """Return the error that an answer tells, an empty one if none, and whether it is a JSON object."""
    body = answer.body.lstrip()
    if body.startswith(b"{"):
        if 200 <= answer.status < 300:
            return Cause(), True  # what is in it is read but once, by whoever knows its form
        try:
            refusal = decode_json(body, _Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Cause(), False
        error = refusal.error
        if isinstance(error, Cause):
            return error, True
        return Cause(reason=error or refusal.message or refusal.Message), True
    kind = answer.content_type.partition(";")[0].strip().lower()
    text = " ".join(body.decode("utf-8", "replace").split()) if kind == "text/plain" else ""
    return Cause(reason=text or None), False


def _of_the_batch(status: int, cause: Cause) -> str:
    if status == 413:
        return f"HTTP 413: larger than the service takes in one request{_shortened(cause)}"
    return f"HTTP {status}{_shortened(cause)}"


def _shortened(cause: Cause) -> str:
    text = str(cause)[:_MAX_QUOTE]
    return f": {text}" if text else ""


def _verdict(object_id: str, item: _ItemResult, target: str) -> Verdict:
    """Return what the service says of one action.

    Raises:
        ServiceRefuses: It says it of everything that is sent there.
    """
    status, error = item.status, item.error or Cause()
    if 200 <= status < 300:
        return Verdict(object_id, Outcome.ACCEPTED)
    if error.type in _OF_THE_INDEX or status in (401, 403, 404):
        if error.type == _BLOCKED:
            return Verdict(object_id, Outcome.NOT_NOW, str(error))
        raise ServiceRefuses(f"{target} cannot be written: {status}{_shortened(error)}")
    said = outcome(status, Op.UPSERT)
    return Verdict(object_id, said, "" if said is Outcome.STALE else str(error) or f"status {status}")
