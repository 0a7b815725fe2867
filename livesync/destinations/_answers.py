"""What an HTTP answer means: the table of answers, as pure functions.

=====================================================  ================  =========================
answer                                                 for a record      for a whole batch
=====================================================  ================  =========================
2xx with an empty or JSON body                         accepted          accepted
404, 410 on a delete                                   accepted
409, 412                                               stale             refused: halve
408, 425, 429, 5xx, no answer                          not now           not now: back off
413                                                    refused           halve
400, 422, other 4xx                                    refused           halve
401, 403, 404 of the URL, 3xx, 2xx with another body   not now           the service refuses us
=====================================================  ================  =========================

A batch of one record that is halved no further becomes a dead letter, but one answered with 409 or
412 is stale. 405, 407 and 410 for a whole batch also speak of the URL or of the way to it, and not
of what was sent, so they stop the agent rather than turn every record into a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from ..delivery.record import Op, Outcome, Record, Verdict
from ..errors import BatchRefused, RetryLater, ServiceRefuses
from ..forms import converted

_STALE: Final = frozenset({409, 412})
_NOT_NOW: Final = frozenset({408, 425, 429})
_OUR_FAULT: Final = frozenset({401, 403, 404})
_OF_THE_URL: Final = frozenset({401, 403, 404, 405, 407, 410})

#: What a refusal quotes of the answer.
_MAX_QUOTE: Final = 300

_REMEDIES: Final = {
    401: "check the token",
    403: "check the token and its rights",
    404: "check the URL",
    405: "the URL takes no {method}",
    407: "check the proxy",
    410: "the URL is gone",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a service.

    Attributes:
        status: The HTTP status code.
        body: Its beginning, at least; uncompressed.
        whole: Whether ``body`` is all of it.
        content_type: The header, "" when there was none.
        location: The header ``Location``.
        retry_after: The header ``Retry-After``.
    """

    status: int
    body: bytes = b""
    whole: bool = True
    content_type: str = ""
    location: str = ""
    retry_after: str = ""


class _Item(msgspec.Struct):
    id: str
    status: int
    reason: str | None = None


class _Items(msgspec.Struct):
    items: list[_Item]


def outcome(status: int, op: Op) -> Outcome:
    """Return what ``status`` means for one record."""
    if 200 <= status < 300 or (op is Op.DELETE and status in (404, 410)):
        return Outcome.ACCEPTED
    if status in _STALE:
        return Outcome.STALE
    if status in _OUR_FAULT or status in _NOT_NOW or not 400 <= status < 500:
        return Outcome.NOT_NOW
    return Outcome.REFUSED


def judge(answer: Answer, batch: Sequence[Record], url: str, now: float) -> list[Verdict] | None:
    """Return what ``answer`` means for the ``batch`` that was sent.

    Args:
        answer: What the service said.
        batch: What it was sent.
        url: Where, for people: without anything that is secret.
        now: Epoch seconds, for a ``Retry-After`` that names a time.

    Returns:
        None: all accepted. Else a verdict for each record that the answer speaks of.

    Raises:
        RetryLater: Not now.
        BatchRefused: To be halved.
        ServiceRefuses: The service refuses us.
    """
    status = answer.status
    if 200 <= status < 300:
        return _verdicts(answer, batch, url)
    if status in _OF_THE_URL:
        raise ServiceRefuses(f"{url} answered {status}: {_remedy(status, 'POST')}")
    refuse_redirect(answer, url)
    refuse_not_now(answer, url, now)
    if status in _STALE and len(batch) == 1:
        return [Verdict(batch[0].object_id, Outcome.STALE)]
    raise BatchRefused(f"HTTP {status}{_quote(answer)}")


def refuse_unless_answered(answer: Answer, url: str, method: str, now: float) -> None:
    """Let pass a 2xx answer to a question, in which nothing was sent that could be refused by itself.

    Args:
        answer: What the service said.
        url: Where, for people: without anything that is secret.
        method: The HTTP method.
        now: Epoch seconds, for a ``Retry-After`` that names a time.

    Raises:
        RetryLater: Not now.
        ServiceRefuses: The service refuses us.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    refuse_redirect(answer, url)
    if status not in _OF_THE_URL:
        refuse_not_now(answer, url, now)
    raise ServiceRefuses(f"{url} answered {status} to {method}: {_remedy(status, method)}{_quote(answer)}")


def refuse_redirect(answer: Answer, url: str) -> None:
    """Raise ServiceRefuses for an answer that sends elsewhere."""
    if 300 <= answer.status < 400:
        raise ServiceRefuses(
            f"{url} answered {answer.status} and sends to {_target(url, answer.location)}:"
            " redirects are not followed, check the URL"
        )


def refuse_not_now(answer: Answer, url: str, now: float) -> None:
    """Raise RetryLater for an answer that a later try may change."""
    status = answer.status
    if status in _NOT_NOW or not 200 <= status < 500:
        raise RetryLater(reason=f"{url} answered {status}", after_s=retry_after_s(answer.retry_after, now))


def _remedy(status: int, method: str) -> str:
    return _REMEDIES.get(status, "check the URL").format(method=method)


def _verdicts(answer: Answer, batch: Sequence[Record], url: str) -> list[Verdict] | None:
    """Return what a 2xx answer says of each record, None when it says nothing more."""
    said = f"{url} answered {answer.status} with"
    if not answer.whole:
        raise ServiceRefuses(f"{said} a body too long to be an answer: check the URL")
    if not answer.body.strip():
        return None
    try:
        said_of_all = msgspec.json.decode(answer.body)
        if not (isinstance(said_of_all, dict) and "items" in said_of_all):
            return None
        items = converted(said_of_all, _Items).items
    except msgspec.ValidationError as exc:
        raise ServiceRefuses(f'{said} "items" of another form: {exc}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = answer.content_type or "a body without a type"
        raise ServiceRefuses(
            f"{said} {kind}, not JSON: is it a login page? check the URL and the token"
        ) from None
    ops = {record.object_id: record.op for record in batch}
    return [
        Verdict(item.id, outcome(item.status, ops[item.id]), _reason(item))
        for item in items
        if item.id in ops
    ]


def _reason(item: _Item) -> str:
    return item.reason or f"status {item.status}"


def _quote(answer: Answer) -> str:
    """Return what the service wrote about it, for a dead letter; nothing of an HTML page."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    if not (kind == "text/plain" or kind.endswith(("/json", "+json"))):
        return ""
    text = " ".join(answer.body.decode("utf-8", "replace").split())
    return f": {text[:_MAX_QUOTE]}" if text else ""


def retry_after_s(header: str, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, from ``now``; None for no such header.

    It holds seconds or an HTTP-date (RFC 9110, 10.2.3).
    """
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header[:12])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _target(url: str, location: str) -> str:
    if not location:
        return "nowhere"
    try:
        return without_secrets(urljoin(url, location))
    except ValueError:
        return "no URL"


def without_secrets(url: str) -> str:
    """Return ``url`` as people may see it: no user, no query, no fragment.

    Raises:
        ValueError: It is no URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else parts.path
