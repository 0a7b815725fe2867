"""MARC records from what a mapping returns: checked by the rules of MARCXML, then serialised by pymarc.

Pure functions of values. What XML or MARC cannot hold is refused here, with the place named: one bad
character would make the whole collection unreadable for the service.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pymarc import Field, Indicators, Record, Subfield
from pymarc.leader import Leader
from pymarc.marcxml import MARC_XML_NS, record_to_xml_node

from ..errors import NoDocument, OptionError

#: What ``deleted_field`` holds in the record of a deleted object.
DELETED: Final = "DELETED"

#: A new language-material record in Unicode; of a deleted object, it says so (position 5).
_LEADER: Final = "00000nam a2200000 a 4500"
_DELETED_LEADER: Final = "00000dam a2200000 a 4500"

#: Positions of a leader that hosts leave blank, and that MARCXML wants.
_LEADER_DEFAULTS: Final = {5: "n", 6: "a", 7: "m", 9: "a"}

#: What MARCXML's schema allows; written from its rules.
_LEADER_FORM: Final = re.compile(
    r"[\d ]{5}[\dA-Za-z ][\dA-Za-z][\dA-Za-z ]{3}[2 ][2 ][\d ]{5}[\dA-Za-z ]{3}(4500|    )"
)
_CONTROL_TAG: Final = re.compile(r"00[1-9A-Za-z]")
_DATA_TAG: Final = re.compile(r"0([1-9A-Z][0-9A-Z]|[1-9a-z][0-9a-z])|[1-9A-Z][0-9A-Z]{2}|[1-9a-z][0-9a-z]{2}")
_INDICATOR: Final = re.compile(r"[\da-z ]")
_CODE: Final = re.compile(r"[!-~]")

#: Characters that XML 1.0 has no way to write.
_NOT_IN_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_PLACE: Final = re.compile(r"([0-9A-Za-z]{3})([0-9a-z_])([0-9a-z_])([!-~])")

#: pymarc's serialiser, which has no types of its own.
_to_node: Final[Callable[[Record], ET.Element]] = record_to_xml_node

_BEGIN: Final = f'<?xml version="1.0" encoding="UTF-8"?>\n<collection xmlns="{MARC_XML_NS}">\n'.encode()
_END: Final = b"</collection>\n"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a MARC record a value lies: one subfield of one kind of field."""

    tag: str
    ind1: str
    ind2: str
    code: str

    def __str__(self) -> str:
        blank = {" ": "_"}
        return f"{self.tag}{blank.get(self.ind1, self.ind1)}{blank.get(self.ind2, self.ind2)}{self.code}"

    @property
    def field(self) -> tuple[str, str, str]:
        """Tag and indicators: what two places have in common that lie in one field."""
        return self.tag, self.ind1, self.ind2


@dataclass(frozen=True, slots=True)
class Places:
    """Where a record holds what livesync needs: the object's id, its position, whether it is deleted."""

    object_id: Place
    position: Place
    deleted: Place


def parse_place(option: str, text: str) -> Place:
    """Return the place that is written as tag, two indicators (``_`` for a blank) and subfield code.

    Raises:
        OptionError: It has another form, or is none where data may lie.
    """
    found = _PLACE.fullmatch(text)
    if found is None or _DATA_TAG.fullmatch(found[1]) is None:
        raise OptionError(
            f"option {option}: {text!r} is no tag, two indicators and subfield code, like 970__a"
        )
    return Place(found[1], found[2].replace("_", " "), found[3].replace("_", " "), found[4])


def record_xml(made: Any, places: Places, object_id: str, position: int) -> bytes:
    """Return the XML of the record of a living object.

    Args:
        made: What the mapping returned: a ``pymarc.Record``, or its fields. It is not changed.
        places: Where the id and the position are put.
        object_id: The id, as it is to be written.
        position: The record's position.

    Raises:
        NoDocument: MARCXML cannot hold it, or the mapping has put something where the id, the
            position or the word of deletion belongs.
    """
    leader, fields = _made(made)
    for place in (places.object_id, places.position, places.deleted):
        if any(
            not field.control_field
            and (field.tag, *(field.indicators or ())) == place.field
            and any(subfield.code == place.code for subfield in field.subfields)
            for field in fields
        ):
            raise NoDocument(f"the mapping sets {place}, which livesync needs for itself")
    ours = [(places.object_id, object_id), (places.position, str(position))]
    return _serialised(leader, [*fields, *_fields(ours)])


def deletion_xml(places: Places, object_id: str, position: int) -> bytes:
    """Return the XML of the record that says of an object that it is deleted.

    Raises:
        NoDocument: MARCXML cannot hold its id.
    """
    values = [(places.object_id, object_id), (places.position, str(position)), (places.deleted, DELETED)]
    return _serialised(_DELETED_LEADER, _fields(values))


def collection_xml(records: Iterable[bytes]) -> bytes:
    """Return a MARCXML collection of serialised records: UTF-8, a record a line."""
    return b"".join((_BEGIN, *(record + b"\n" for record in records), _END))


def _made(made: Any) -> tuple[str, list[Field]]:
    """Return the leader and the fields of what a mapping returned, checked."""
    if isinstance(made, Record):
        leader, fields = _filled(str(made.leader)), list(made.fields)
    elif isinstance(made, (list, tuple)):
        leader, fields = _LEADER, list(made)
    else:
        raise NoDocument(
            f"the mapping returned a {type(made).__name__}, not a pymarc.Record or a list of its fields"
        )
    for field in fields:
        if not isinstance(field, Field):
            raise NoDocument(f"the mapping returned a {type(field).__name__} among the fields")
        _check_field(field)
    return leader, fields


def _filled(leader: str) -> str:
    """Return a leader in which what is blank and must not be is filled in."""
    if len(leader) == len(_LEADER):
        leader = "".join(
            _LEADER_DEFAULTS.get(number, char) if char == " " else char for number, char in enumerate(leader)
        )
    if _LEADER_FORM.fullmatch(leader) is None:
        raise NoDocument(f"{leader!r} is no leader of a MARC record")
    return leader


def _check_field(field: Field) -> None:
    if field.control_field:
        if _CONTROL_TAG.fullmatch(field.tag) is None:
            raise NoDocument(f"{field.tag!r} is no tag of a control field")
        _check_text(field.data, field.tag)
        return
    if _DATA_TAG.fullmatch(field.tag) is None:
        raise NoDocument(f"{field.tag!r} is no tag of a field")
    for indicator in field.indicators or ():
        if not isinstance(indicator, str) or _INDICATOR.fullmatch(indicator) is None:
            raise NoDocument(f"field {field.tag}: {indicator!r} is no indicator")
    if not field.subfields:
        raise NoDocument(f"field {field.tag} has no subfield")
    for subfield in field.subfields:
        if not isinstance(subfield.code, str) or _CODE.fullmatch(subfield.code) is None:
            raise NoDocument(f"field {field.tag}: {subfield.code!r} is no subfield code")
        _check_text(subfield.value, f"{field.tag}${subfield.code}")


def _check_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise NoDocument(f"{where} holds a {type(value).__name__}, not text")
    found = _NOT_IN_XML.search(value)
    if found is not None:
        raise NoDocument(f"{where} holds U+{ord(found[0]):04X}, which XML cannot hold")


def _fields(values: list[tuple[Place, str]]) -> list[Field]:
    """Return our own fields, one for all values that lie in the same."""
    fields: dict[tuple[str, str, str], Field] = {}
    for place, value in values:
        _check_text(value, str(place))
        field = fields.setdefault(
            place.field, Field(place.tag, Indicators(place.ind1, place.ind2), subfields=[])
        )
        field.subfields.append(Subfield(place.code, value))
    return list(fields.values())


def _serialised(leader: str, fields: list[Field]) -> bytes:
    record = Record(fields=fields)
    record.leader = Leader(leader)
    xml: bytes = ET.tostring(_to_node(record), encoding="utf-8")
    # A carriage return of the text would be read as a line feed (XML 1.0, 2.11), were it left as it is.
    return xml.replace(b"\r", b"&#13;")
