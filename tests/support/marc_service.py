"""Stand-ins for what takes MARCXML: Invenio 1's robot upload, and a service that knows positions.

Neither is the real thing. The first follows Invenio 1.2's public description and its code: whom its
upload form lets in (by address and user agent), which form fields it wants, what it answers in plain
text with which status (before 1.2: always 200), that it takes a file or refuses it as a whole, and
that ``insert or replace`` goes by the external system number in 970__a. What the real one queues is
done at once here.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from pymarc import Field, Indicators, Record, Subfield, parse_xml_to_array
from support.destination import Destination
from support.wsgi_service import Service
from werkzeug.wrappers import Request, Response

from livesync.delivery.record import encode_document
from livesync.destinations.marcxml import MARCXMLAgent
from livesync.errors import NoDocument

NS = "{http://www.loc.gov/MARC21/slim}"


class NotMARCXML(Exception):
    pass


def check_collection(xml: bytes) -> list[ET.Element]:
    """Hold a collection to the rules of the MARCXML schema (1.2); return its records.

    Raises:
        NotMARCXML: It breaks one.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as exc:
        raise NotMARCXML(str(exc)) from exc
    _rule(root.tag == f"{NS}collection" and not (root.text or "").strip(), "a collection")
    for record in root:
        _check_record(record)
    return list(root)


def _check_record(record: ET.Element) -> None:
    _rule(record.tag == f"{NS}record", "records in a collection")
    kinds = [child.tag.removeprefix(NS) for child in record]
    _rule(kinds == sorted(kinds, key=["leader", "controlfield", "datafield"].index), "in this order")
    _rule(kinds.count("leader") == 1, "one leader")
    _rule(
        re.fullmatch(
            "[0-9 ]{5}[0-9A-Za-z ][0-9A-Za-z][0-9A-Za-z ]{3}[2 ]{2}[0-9 ]{5}[0-9A-Za-z ]{3}(4500|    )",
            record[0].text or "",
        ),
        "a leader",
    )
    for child in record[1:]:
        if child.tag == f"{NS}controlfield":
            _rule(set(child.attrib) == {"tag"} and len(child) == 0, "a control field")
            _rule(re.fullmatch("00[1-9A-Za-z]", child.attrib["tag"]), "a control field's tag")
        else:
            _rule(set(child.attrib) == {"tag", "ind1", "ind2"}, "a field")
            tag = child.attrib["tag"]
            _rule(len(tag) == 3 and tag[:2] != "00" and tag.isascii() and tag.isalnum(), "a field's tag")
            _rule(not (tag.lower() != tag != tag.upper()), "a field's tag in one case")
            _rule(
                all(re.fullmatch("[0-9a-z ]", child.attrib[name]) for name in ("ind1", "ind2")), "indicators"
            )
            _rule(len(child) > 0, "a subfield at least")
            for subfield in child:
                _rule(subfield.tag == f"{NS}subfield" and set(subfield.attrib) == {"code"}, "a subfield")
                _rule(re.fullmatch("[!-~]", subfield.attrib["code"]), "a subfield's code")


def _rule(holds: Any, what: str) -> None:
    if not holds:
        raise NotMARCXML(f"not {what}")


def value(record: Record, place: str) -> str | None:
    """The first value at ``970__a`` and the like; None where there is none."""
    tag, ind1, ind2, code = place[:3], place[3].replace("_", " "), place[4].replace("_", " "), place[5]
    for field in record.get_fields(tag):
        if field.indicators == Indicators(ind1, ind2):
            for subfield in field.subfields:
                if subfield.code == code:
                    return subfield.value
    return None


class Library:
    """What both stand-ins hold: MARC records by their external id, as pymarc reads them."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.uploads: list[bytes] = []
        self._lock = threading.Lock()

    def read(self, xml: bytes) -> list[Record]:
        check_collection(xml)
        self.uploads.append(xml)
        return parse_xml_to_array(io.BytesIO(xml), strict=True)

    @property
    def living(self) -> dict[str, Record]:
        return {key: record for key, record in self.records.items() if value(record, "980__c") != "DELETED"}

    @property
    def deleted(self) -> dict[str, int]:
        return {
            key: int(value(record, "999__p"))
            for key, record in self.records.items()
            if value(record, "980__c") == "DELETED"
        }


class Invenio1(Library):
    """A stand-in for Invenio 1's ``/batchuploader/robotupload``.

    Attributes:
        statuses: Whether errors have statuses of their own, as from 1.2 on.
        agents: Whom it lets in.
        here: Whether it lets this machine in.
        collections: What may be in 980__a; None: anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.statuses = True
        self.agents = "invenio_webupload|Invenio-.*"
        self.here = True
        self.collections: set[str] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        with Request(environ) as request:  # which closes the files of the form
            status, text = self._upload(request)
        return Response(f"{text}\n", status if self.statuses else 200, content_type="text/plain")(
            environ, start_response
        )

    def _upload(self, request: Request) -> tuple[int, str]:
        agent = request.headers.get("User-Agent", "")
        if not self.here:
            return 403, f"[ERROR] Sorry, client IP {request.remote_addr} cannot use the service."
        if not re.match(self.agents, agent):
            return 403, f"[ERROR] Sorry, the {agent} useragent cannot use the service."
        if request.path.endswith("/insertorreplace"):
            mode, content = "-ir", request.get_data()
            if not content:
                return 400, "[ERROR] Please provide a body to your request."
        else:
            mode, file = request.form.get("mode"), request.files.get("file")
            if not mode:
                return 400, "[ERROR] Please specify upload mode to use."
            if mode not in ("-i", "-r", "-c", "-a", "-ir"):
                return 400, "[ERROR] Invalid upload mode."
            if file is None:
                return 400, "[ERROR] Please specify file body to input."
            content = file.read()
        return self._take(mode, content)

    def _take(self, mode: str, content: bytes) -> tuple[int, str]:
        try:
            records = self.read(content)
        except NotMARCXML:
            return 400, "[ERROR] MARCXML is not valid."
        if self.collections is not None and any(
            value(record, "980__a") not in {None, *self.collections} for record in records
        ):
            return 403, "[ERROR] Cannot submit such a file from this IP. (Wrong collection.)"
        assert mode == "-ir"
        with self._lock:
            for record in records:
                self.records[value(record, "970__a")] = record
        return 200, f"[INFO] bibupload batchupload {mode} batchupload_20260101000000_x"


class PositionLibrary(Library):
    """A service that takes collections as they are, and keeps to the rule of positions."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if request.mimetype != "application/marcxml+xml":
            return Response(status=415)(environ, start_response)
        try:
            records = self.read(request.get_data())
        except NotMARCXML as exc:
            answer = Response(json.dumps({"error": str(exc)}), 400, content_type="application/json")
            return answer(environ, start_response)
        with self._lock:
            items = [self._apply(record) for record in records]
        return Response(json.dumps({"items": items}), content_type="application/json")(
            environ, start_response
        )

    def _apply(self, record: Record) -> dict[str, Any]:
        key, position = value(record, "970__a"), int(value(record, "999__p"))
        held = self.records.get(key)
        if held is not None and int(value(held, "999__p")) > position:
            return {"id": key, "status": 409}
        self.records[key] = record
        return {"id": key, "status": 200}


def as_base64(object_id: str, document: dict[str, Any]) -> list[Field]:
    """A mapping that loses nothing: the document's JSON, which may hold what XML cannot, as base64."""
    text = base64.b64encode(encode_document(document)).decode()
    return [Field("500", Indicators(" ", " "), [Subfield("a", text)])]


def as_told(object_id: str, document: dict[str, Any]) -> Any:
    """A mapping that does as its document says, to be tried with whatever a host's may do."""
    if "raises" in document:
        raise KeyError(document["raises"])
    if "has_none" in document:
        raise NoDocument(document["has_none"])
    if "made" in document:
        return document["made"]
    blank = Indicators(" ", " ")
    return [
        Field("245", Indicators("0", "0"), [Subfield("a", document.get("title", "untitled"))]),
        Field("980", blank, [Subfield("a", document.get("collection", "TALK"))]),
    ]


class MARCXMLDestination(Destination):
    takes_back = False

    def __init__(self, directory: Path, receiver: Any) -> None:
        self.library = PositionLibrary()
        self.service = Service(self.library)

    def agent(self, agent_id: str = "a", **options: Any) -> MARCXMLAgent:
        fields = f"{__name__}:as_base64"
        return MARCXMLAgent(
            agent_id, **({"url": self.service.url, "fields": fields, "upload": "post"} | options)
        )

    def documents(self) -> dict[str, bytes]:
        return {key: base64.b64decode(value(record, "500__a")) for key, record in self.library.living.items()}

    def tombstones(self) -> dict[str, int]:
        return self.library.deleted
