"""The ``webhook`` destination: CloudEvents 1.0, signed as Standard Webhooks says, posted to a URL.

A request is a ``POST`` of one batch in CloudEvents' JSON Batch Format, or of one event in its JSON
format (``mode=single``). An event is an upsert (``<prefix>.upsert``, with the document as ``data``)
or a delete (``<prefix>.delete``, without). Its ``subject`` is the object's id, its extension
attribute ``position`` the record's position, as text: integers of CloudEvents have 32 bits. The
``id`` of an event and ``webhook-id`` are the same whenever the same is sent again.

What the answer means is in :mod:`livesync.destinations._answers`. Redirects are not followed, TLS is
always verified, and all retries are the uploader's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Outcome, Record, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, IN_FLIGHT_OPTION, Delivery, RecordUploader
from ..errors import BatchRefused, OptionError, ServiceRefuses
from ..options import Option
from ._answers import Answer, judge, refuse_not_now, refuse_redirect, without_secrets
from ._http_session import ANSWER_BYTES, HTTP_OPTIONS, HTTPService

#: What is read of an answer: enough for a verdict on each record (an id has up to 512 characters).
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

_BATCH_TYPE: Final = "application/cloudevents-batch+json"
_SINGLE_TYPE: Final = "application/cloudevents+json"

#: Of a server that knows no OPTIONS, which says nothing of a POST.
_NOT_IMPLEMENTED: Final = 501

#: How a symmetric key of Standard Webhooks is written, and how long it may be, in bytes.
_KEY_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)

#: What a string of CloudEvents may not hold (control characters, noncharacters), and the percent
#: sign, with which they are written.
_NOT_IN_STRINGS: Final = re.compile(
    "[%\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)

#: The characters of a URI-reference (RFC 3986); what they are put together to is not looked at.
_URI_REFERENCE: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")

_TYPE_PREFIX: Final = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")


class _Event(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    position: str
    actions: str | msgspec.UnsetType = msgspec.UNSET
    datacontenttype: str | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def subject(object_id: str) -> str:
    """Return an object's id as a string of CloudEvents.

    Percent signs, control characters and noncharacters are written as the percent-encoding of
    their UTF-8 (RFC 3986, 2.1), everything else as it is: decoding that gives the id.
    """
    return _NOT_IN_STRINGS.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), object_id)


def signing_key(secret: str, option: str) -> bytes:
    """Return the key that ``whsec_<base64>`` holds.

    Raises:
        OptionError: It has another form. The text never holds the secret.
    """
    text = secret.removeprefix(_KEY_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not secret.startswith(_KEY_PREFIX) or len(key) not in _KEY_BYTES:
        raise OptionError(
            f"option {option}: the secret is no key of the form {_KEY_PREFIX}<base64 of"
            f" {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} bytes>"
        )
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the symmetric signature of Standard Webhooks: ``v1,<base64 of the HMAC-SHA256>``."""
    message = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, message, 'sha256')).decode()}"


class WebhookUploader(RecordUploader):
    """Posts signed CloudEvents to a URL.

    Args:
        agent: Its options say where to and how.
        clock: Returns epoch seconds: what ``webhook-timestamp`` says.
    """

    concurrent = True
    reads_documents = False

    def __init__(
        self, agent: SyncAgent, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.url: str = values["url"]
        #: The URL as logs and messages show it: its query may hold a key.
        self.shown_url = without_secrets(self.url)
        self.single: bool = values["mode"] == "single"
        if self.single:
            self.batch_size = 1
        self._prefix: str = values["type_prefix"]
        self._source = ""
        self._keys: list[bytes] = []
        self._clock = clock
        self._service: HTTPService | None = None

    def open(self, delivery: Delivery) -> None:
        """Read the secrets and get a session ready; nothing is sent yet.

        Raises:
            OptionError: A secret is not there, or is no key.
        """
        super().open(delivery)
        self.close()
        self._source = self.agent.values["source"] or f"livesync:{delivery.track_id}"
        self._keys = []
        for option in ("secret", "old_secret"):
            secret = self.agent.secret(option)
            if secret is not None:
                self._keys.append(signing_key(secret, option))
        self._service = HTTPService.of(self.agent)

    def close(self) -> None:
        """Close the connections."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def probe(self) -> str:
        """Post an empty batch, signed; in ``mode=single``, which knows none, ask for the URL's OPTIONS."""
        service = self._opened()
        if self.single:
            answer = service.request("OPTIONS", self.url)
            refuse_redirect(answer, self.shown_url)
            if answer.status != _NOT_IMPLEMENTED:
                refuse_not_now(answer, self.shown_url, self._clock())
            return f"{self.shown_url} can be reached (OPTIONS: {answer.status})"
        answer = service.request("POST", self.url, b"[]", self._headers(b"[]"))
        try:
            self._judge(answer, Batch())
        except BatchRefused:
            return f"{self.shown_url} can be reached, but takes no empty batch ({answer.status})"
        return f"{self.shown_url} takes signed batches ({answer.status})"

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        events = [self._event(record, body) for record, body in zip(batch, batch.bodies, strict=True)]
        if not self.single:
            return self._post(batch, _encoder.encode(events))
        verdicts: list[Verdict] = []
        for index, event in enumerate(events):  # there is one, as batch_size says
            said = self._post(batch.only([index]), _encoder.encode(event))
            verdicts += [Verdict(batch[index].object_id, Outcome.ACCEPTED)] if said is None else said
        return verdicts

    def _post(self, batch: Batch, body: bytes) -> list[Verdict] | None:
        limit = ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * len(batch)
        answer = self._opened().request("POST", self.url, body, self._headers(body), limit)
        return self._judge(answer, batch)

    def _judge(self, answer: Answer, batch: Batch) -> list[Verdict] | None:
        if answer.status in (401, 403):
            raise ServiceRefuses(
                f"{self.shown_url} answered {answer.status}: it does not take our signature;"
                " check the secret, and the clock"
            )
        return judge(answer, batch, self.shown_url, self._clock())

    def _opened(self) -> HTTPService:
        if self._service is None:
            raise RuntimeError("open() comes before anything else")
        return self._service

    def _event(self, record: Record, body: bytes | None) -> _Event:
        object_id, position, op = record.object_id, str(record.position), record.op.value
        # With the document in it, two states that carry the same position are two events.
        event_id = _digest(self.delivery.track_id, position, object_id, op, body or b"")
        return _Event(
            "1.0",
            event_id,
            self._source,
            f"{self._prefix}.{op}",
            subject(object_id),
            position,
            subject(",".join(sorted(record.actions))) or msgspec.UNSET,
            msgspec.UNSET if body is None else "application/json",
            msgspec.UNSET if body is None else msgspec.Raw(body),
        )

    def _headers(self, body: bytes) -> dict[str, str]:
        who = self.delivery
        # no full stop in it: that is what separates it from the timestamp in what is signed
        message_id = "msg_" + _digest(who.agent_id, who.track_id, str(who.generation), str(self.till), body)
        timestamp = int(self._clock())
        return {
            "Content-Type": _SINGLE_TYPE if self.single else _BATCH_TYPE,
            "Accept": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign(key, message_id, timestamp, body) for key in self._keys),
        }


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part if isinstance(part, bytes) else part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


class WebhookAgent(PushSyncAgent):
    """Posts CloudEvents, signed as Standard Webhooks says, to a URL."""

    options = (
        Option("url", "url", help="where events are posted", required=True, identifies=True),
        Option(
            "secret",
            "secret",
            help="the key that requests are signed with: whsec_ and the base64 of 24 to 64 bytes",
            required=True,
        ),
        Option("old_secret", "secret", help="a second key during a rotation: requests carry both signatures"),
        Option("source", help="the events' source, a URI-reference; livesync:<track id> when not given"),
        Option("type_prefix", help="what the events' types begin with", default="livesync"),
        Option(
            "mode",
            help="batch: a JSON array of events a request; single: one event a request",
            default="batch",
            choices=("batch", "single"),
        ),
        *HTTP_OPTIONS,
        *DELIVERY_OPTIONS,
        IN_FLIGHT_OPTION,
    )
    uploader = WebhookUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        source, prefix = self.values["source"], self.values["type_prefix"]
        if source is not None and not _URI_REFERENCE.fullmatch(source):
            raise OptionError(f"option source: {source!r} is no URI-reference")
        if not _TYPE_PREFIX.fullmatch(prefix):
            raise OptionError(f"option type_prefix: {prefix!r} is not names with dots between")
