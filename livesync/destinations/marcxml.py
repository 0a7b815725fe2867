"""The ``marcxml`` destination: MARC records as MARCXML collections, uploaded in batches.

It is what Invenio 1 and other library systems take: a batch is one collection, in which a record
either is the whole of an object's MARC record, to be inserted or to replace what is there under the
same external id, or says that the object is deleted. What an object is in MARC is the host's to
say: the option ``fields`` names its function.

Besides what that function makes, each record holds the object's id (``id_field``), its position
(``position_field``) and, of a deleted object, ``DELETED`` (``deleted_field``). A record that MARCXML
cannot hold is refused before anything is sent, and the others go on.

Invenio 1 queues an upload and says no more of it: what it answers means that it has it, not that it
has done it. It also knows nothing of positions, so there is nothing in it that would turn away an
older state; a service that knows them can.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import requests
import urllib3

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Outcome, Record, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader
from ..errors import BatchRefused, NoDocument, OptionError, ServiceRefuses
from ..options import Option, load_function
from ._answers import Answer, judge, without_secrets
from ._http_session import ANSWER_BYTES, HTTP_OPTIONS, HeaderAuth, HTTPService, bearer
from ._marc_record import Places, collection_xml, deletion_xml, parse_place, record_xml

#: What is read of an answer: enough for a verdict on each record (an id has up to 512 characters).
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

_MARCXML: Final = "application/marcxml+xml"

#: The mode of Invenio's uploader in which a record is inserted or replaces the one that is there.
_INSERT_OR_REPLACE: Final = "-ir"

#: How the lines begin with which Invenio's uploader answers, whatever the status.
_INFO: Final = "[INFO]"
_ERROR: Final = "[ERROR]"

#: What is said in its errors when the file is at fault, and not who sends it or how.
_OF_THE_FILE: Final = ("MARCXML is not valid", "Cannot submit such a file")


class MARCXMLUploader(RecordUploader):
    """Uploads MARCXML collections.

    Args:
        agent: Its options say where to and how.
        clock: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    def __init__(
        self, agent: SyncAgent, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.url: str = values["url"]
        #: The URL as logs and messages show it: its query may hold a key.
        self.shown_url = without_secrets(self.url)
        self._robot: bool = values["upload"] == "robotupload"
        self._places = _places(agent)
        self._clock = clock
        self._mapping: Callable[[str, dict[str, Any]], Any] | None = None
        self._service: HTTPService | None = None

    def open(self, delivery: Delivery) -> None:
        """Load the mapping, read the secrets and get a session ready; nothing is sent yet.

        Raises:
            OptionError: The mapping cannot be imported, or a secret is not there.
        """
        super().open(delivery)
        self.close()
        self._mapping = load_function(self.agent.values["fields"])
        self._service = HTTPService.of(self.agent, _auth(self.agent))

    def close(self) -> None:
        """Close the connections."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def probe(self) -> str:
        """Ask without uploading anything: Invenio's uploader by a form without a file, others by an
        empty collection."""
        if self._robot:
            answer = self._request({}, 1)
            text = _line(answer)
            if text.startswith(_ERROR) and "upload mode" in text:
                return f"{self.shown_url} takes uploads from here"
        else:
            answer = self._request(collection_xml(()), 1)
        try:
            self._judge(answer, Batch())
        except BatchRefused:
            return f"{self.shown_url} can be reached, but takes no empty upload ({answer.status})"
        return f"{self.shown_url} takes uploads ({answer.status})"

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        refused: list[Verdict] = []
        good: list[int] = []
        records: list[bytes] = []
        for index, record in enumerate(batch):
            try:
                records.append(self._xml(record))
            except NoDocument as exc:
                refused.append(Verdict(record.object_id, Outcome.REFUSED, exc.reason))
            else:
                good.append(index)
        if not good:
            return refused
        sent = batch.only(good) if refused else batch
        body = collection_xml(records)
        answer = self._request(self._form(body) if self._robot else body, len(sent))
        verdicts = self._judge(answer, sent)
        if not refused:
            return verdicts
        if verdicts is None:
            verdicts = [Verdict(record.object_id, Outcome.ACCEPTED) for record in sent]
        return refused + verdicts

    def _xml(self, record: Record) -> bytes:
        """Return a record as MARCXML.

        Raises:
            NoDocument: The mapping raised, or what it made cannot be held.
        """
        object_id = f"{self.agent.values['id_prefix']}{record.object_id}"
        if record.document is None:
            return deletion_xml(self._places, object_id, record.position)
        if self._mapping is None:
            raise RuntimeError("open() comes before anything else")
        try:
            made = self._mapping(record.object_id, record.document)
        except NoDocument:
            raise
        except Exception as exc:
            raise NoDocument(f"the mapping raised {type(exc).__name__}: {exc}") from exc
        return record_xml(made, self._places, object_id, record.position)

    def _form(self, xml: bytes) -> dict[str, Any]:
        return {
            "file": ("livesync.xml", xml, _MARCXML),
            "mode": _INSERT_OR_REPLACE,
            # what the uploader's logs show, the same when the same batch comes again
            "nonce": _digest(self.delivery.track_id.encode(), str(self.till).encode(), xml),
        }

    def _request(self, body: bytes | dict[str, Any], records: int) -> Answer:
        if self._service is None:
            raise RuntimeError("open() comes before anything else")
        kind = _MARCXML
        if isinstance(body, dict):
            # the boundary too is the same when the same batch comes again
            body, kind = urllib3.encode_multipart_formdata(body, body.get("nonce"))
        headers = {"Content-Type": kind, "User-Agent": self.agent.values["user_agent"]}
        limit = ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * records
        return self._service.request("POST", self.url, body, headers, limit)

    def _judge(self, answer: Answer, batch: Batch) -> list[Verdict] | None:
        """Return what an answer means: by Invenio's own words where there are such, else by the table."""
        text = _line(answer)
        if answer.status < 300 and text.startswith(_INFO):
            return None
        if text.startswith(_ERROR) and (answer.status < 300 or 400 <= answer.status < 404):
            if any(words in text for words in _OF_THE_FILE):
                raise BatchRefused(text)
            raise ServiceRefuses(
                f"{self.shown_url} answered {text}: have it let this machine and user_agent in,"
                " and check the URL"
            )
        return judge(answer, batch, self.shown_url, self._clock())


def _line(answer: Answer) -> str:
    """Return the first line of an answer that is plain text."""
    if answer.content_type.partition(";")[0].strip().lower() != "text/plain":
        return ""
    return answer.body.decode("utf-8", "replace").strip().partition("\n")[0][:500]


def _places(agent: SyncAgent) -> Places:
    names = ("id_field", "position_field", "deleted_field")
    places = Places(*(parse_place(name, agent.values[name]) for name in names))
    if len({places.object_id, places.position, places.deleted}) < len(names):
        raise OptionError(f"options {', '.join(names)}: two of them name the same subfield")
    return places


def _auth(agent: SyncAgent) -> requests.auth.AuthBase:
    username, password = agent.values["username"], agent.secret("password")
    if username is None or password is None:
        return bearer(agent)
    pair = f"{username}:{password}".encode()
    return HeaderAuth(f"Basic {base64.b64encode(pair).decode()}")


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class MARCXMLAgent(PushSyncAgent):
    """Uploads MARCXML collections to Invenio 1 and other library systems."""

    options = (
        Option("url", "url", help="where collections are uploaded", required=True, identifies=True),
        Option(
            "fields",
            "function",
            help="function(object_id, document) -> a pymarc.Record or a list of pymarc.Field",
            required=True,
        ),
        Option(
            "upload",
            help="robotupload: Invenio's upload form, to insert or replace; post: the collection as it is",
            default="robotupload",
            choices=("robotupload", "post"),
        ),
        Option("id_field", help="where the object's id lies", default="970__a", identifies=True),
        Option("id_prefix", help="what the ids begin with there", default="", identifies=True),
        Option("position_field", help="where the record's position lies", default="999__p"),
        Option("deleted_field", help="where a deleted object's record says DELETED", default="980__c"),
        Option("user_agent", help="who we say we are", default="invenio_webupload"),
        Option("token", "secret", help="sent as Authorization: Bearer"),
        Option("username", help="sent with the password as Authorization: Basic"),
        Option("password", "secret", help="the password of username"),
        *HTTP_OPTIONS,
        *DELIVERY_OPTIONS,
    )
    uploader = MARCXMLUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        _places(self)
        values = self.values
        if (values["username"] is None) != (values["password"] is None):
            raise OptionError("options username and password belong together")
        if values["username"] is not None and values["token"] is not None:
            raise OptionError("options token and username: give one of them")
        if values["username"] is not None and ":" in values["username"]:
            raise OptionError("option username: no colon can be in it")
        agent = values["user_agent"]
        if not (agent and agent.isascii() and agent.isprintable()):
            raise OptionError(f"option user_agent: {agent!r} is nothing that a header can carry")
