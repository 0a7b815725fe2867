"""What lies in the index for one object, as pure functions: how it is written and read back.

A living object is its document, the fields as they were given, and one field more: ``livesync``, an
object with the object's id, the record's position and the digest of the document. A deleted one is a
tombstone: that field alone, with ``deleted``. Both have the position as their external version, so
the service itself compares whatever comes with what it has, whether that lives or is dead, and leaves
aside what is older.

Where nobody has said how fields are to be indexed, none is: what a service would make of the first
document that has a field may refuse the next one, in which it is a text and not a list of objects. All
texts of a document are then in our field too, as ``text``, and are found there.

A tombstone is a document, and not a delete: the service remembers a delete's version for 60 seconds
(``index.gc_deletes``), in the memory of a node, where a restart loses it; after that, an update that
comes late would bring the object back. The alias that searches use has a filter which keeps tombstones
out of everything but a GET by id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ..delivery.record import encode_document
from ..delivery.uploader import HeldRow
from ..errors import NoDocument
from ..forms import decode_json
from ._text import is_in_step

#: The field that is ours. No field of a document may have its name, or lie inside it.
FIELD: Final = "livesync"

#: Which documents live: the filter of the alias, and of whatever reads here.
LIVING: Final[Mapping[str, Any]] = {"bool": {"must_not": [{"term": {f"{FIELD}.deleted": True}}]}}

#: How our field is indexed.
FIELD_MAPPING: Final[Mapping[str, Any]] = {
    "type": "object",
    "dynamic": "false",
    "properties": {
        "object_id": {"type": "keyword"},
        "position": {"type": "long"},
        "digest": {"type": "keyword", "index": False, "doc_values": False},
        "deleted": {"type": "boolean"},
    },
}

#: The name, in our field, of what is searched where there is no mapping file; and how it is indexed.
TEXT: Final = "text"
TEXT_MAPPING: Final[Mapping[str, Any]] = {"type": "text"}

#: Both products take an ``_id`` of 512 bytes at most.
MAX_ID_BYTES: Final = 512

#: Before the digest of an id that is too long to be an ``_id`` itself.
LONG_ID: Final = "blake2b:"

_IN_QUOTES: Final = f'"{FIELD}'.encode()
_BETWEEN: Final = f',"{FIELD}":{{'.encode()


class _Ours(msgspec.Struct):
    object_id: str
    position: int
    digest: str = ""
    deleted: bool = False
    text: str | None = None


class _Holder(msgspec.Struct):
    livesync: _Ours


def service_id(object_id: str) -> str:
    """Return the ``_id`` of an object: its id, or ``blake2b:`` and the id's digest where it is too long.

    An id that looks like such a digest is digested too, so that no two objects share an ``_id``.
    """
    encoded = object_id.encode()
    if len(encoded) <= MAX_ID_BYTES and not object_id.startswith(LONG_ID):
        return object_id
    return LONG_ID + hashlib.blake2b(encoded, digest_size=32).hexdigest()


def takes_our_field(body: bytes, document: Mapping[str, Any] | None) -> bool:
    """Tell whether a document (its JSON, and as a dict) has a field that must be ours."""
    if _IN_QUOTES not in body or document is None:
        return False
    # a dot in a name means an object's field
    return any(name == FIELD or name.startswith(f"{FIELD}.") for name in document)


def action(object_id: str, position: int, body: bytes | None, text: str | None = None) -> bytes:
    """Return the two lines of the bulk API that bring a record.

    Args:
        object_id: The object's id.
        position: The record's position.
        body: The document's JSON; None for a delete.
        text: What is searched of the document; None where its fields are.
    """
    line = b'{"index":{"_id":%b,"version":%d,"version_type":"external_gte"}}\n' % (
        msgspec.json.encode(service_id(object_id)),
        position,
    )
    ours = b'"object_id":%b,"position":%d' % (msgspec.json.encode(object_id), position)
    if body is None:
        return b'%b{"%b":{%b,"deleted":true}}\n' % (line, FIELD.encode(), ours)
    between = _BETWEEN if len(body) > 2 else _BETWEEN[1:]
    ours = b'%b,"digest":"%b"' % (ours, _digest(body).encode())
    if text is not None:
        ours = b'%b,"%b":%b' % (ours, TEXT.encode(), msgspec.json.encode(text))
    return b"%b%b%b%b}}\n" % (line, body[:-1], between, ours)


def row_of(object_id: str, source: bytes) -> HeldRow | None:
    """Return what an ``_source`` holds of an object, with its digest; None for a tombstone.

    The digest is that of the document as it is now, "" where it is not the one that was written, or
    where the text that is searched is another document's. The service gives back the bytes that it
    got; where something on the way has written them anew, they are put into the canonical form again,
    which changes no number.
    """
    document, _, rest = source.rpartition(_BETWEEN)
    if document:
        try:
            ours = decode_json(b"{" + rest[:-1], _Ours)
        except msgspec.DecodeError:
            pass
        else:
            if not ours.deleted and _is_intact(object_id, document + b"}", ours):
                return HeldRow(object_id, ours.position, ours.digest)
    return _row_of_other_form(object_id, source)


def _row_of_other_form(object_id: str, source: bytes) -> HeldRow | None:
    try:
        ours = decode_json(source, _Holder).livesync
        if ours.deleted:
            return None
        document = msgspec.json.decode(source)
    except (msgspec.DecodeError, RecursionError):
        return HeldRow(object_id, None, "")
    del document[FIELD]
    try:
        intact = _is_intact(object_id, encode_document(document), ours)
    except NoDocument:
        intact = False
    return HeldRow(object_id, ours.position, ours.digest if intact else "")


def _is_intact(object_id: str, body: bytes, ours: _Ours) -> bool:
    """Tell whether our field is that of this object and of the document whose JSON is ``body``."""
    if ours.object_id != object_id or _digest(body) != ours.digest:
        return False
    return ours.text is None or is_in_step(body, ours.text.encode())


def actions(records: Iterable[tuple[str, int, bytes | None, str | None]]) -> bytes:
    """Return the bulk lines of records, each with what :func:`action` takes."""
    return b"".join(action(*record) for record in records)


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
