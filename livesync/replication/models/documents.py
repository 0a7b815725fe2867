"""How a document travels that is of no model: JSON, and beside it, exactly, what JSON has no form for.

The JSON is what people, queries and other programs read; there, a date is its text. Each such value is also
written, with its place, in the exact encoding of :mod:`livesync.values`, so that the application that takes
the document gets what the other one gave: a ``datetime``, a ``Decimal``, ``bytes``. The text is the same for
equal documents. The order of keys is not kept. Pure.
"""

from __future__ import annotations

import datetime
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ...errors import BrokenValue, UnkeptValue
from ...values import CODEC
from .model import encode_payload

#: The least and the greatest whole number that every reader of JSON here takes for one.
_LEAST: Final = -(2**63)
_GREATEST: Final = 2**64 - 1


def document_payload(object_id: str, document: dict[str, Any]) -> str:
    """Return what an item says whose object is ``document``: JSON text.

    What is of a type that :mod:`livesync.values` does not know either travels as JSON has it.

    Raises:
        TypeError: It holds something that JSON has no form for at all.
    """
    said: dict[str, Any] = {"id": object_id, "document": document}
    exact = [[list(path), value] for path, value in _exact(document, ())]
    if exact:
        said["exact"] = b64encode(CODEC.encode(exact)).decode()
    return encode_payload(said)


def document_of(payload: str) -> tuple[str, dict[str, Any]]:
    """Return the object's id, and its document as it was.

    Raises:
        BrokenValue: What is beside the JSON is none of :func:`document_payload`'s.
    """
    said = msgspec.json.decode(payload)
    document = said["document"]
    if "exact" in said:
        for path, value in _written(said["exact"]):
            _put(document, path, value)
    return str(said["id"]), document


def _exact(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield what JSON would change in ``value``, each with the keys that lead to it."""
    kind = type(value)
    if kind is dict and all(type(key) is str for key in value):
        for key in sorted(value):
            yield from _exact(value[key], (*path, key))
    elif kind is list:
        for index, item in enumerate(value):
            yield from _exact(item, (*path, index))
    elif not _is_as_it_is(value):
        kept = _kept(value)
        if kept is not None:
            yield path, kept


def _is_as_it_is(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(_LEAST <= value <= _GREATEST)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool or kind is str


def _kept(value: Any) -> Any:
    """Return what can be kept of a value: itself, a time with its offset only, or None."""
    try:
        CODEC.encode(value)
    except UnkeptValue:
        if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
            # a zone of another library's: the moment and the offset are what can be told of it
            return datetime.datetime.fromisoformat(value.isoformat())
        return None
    return value


def _written(exact: Any) -> list[tuple[list[Any], Any]]:
    if not isinstance(exact, str):
        raise BrokenValue("what is beside a document is base64")
    try:
        encoded = b64decode(exact, validate=True)
    except ValueError as exc:
        raise BrokenValue(f"what is beside a document is no base64: {exc}") from exc
    found = CODEC.decode_foreign(encoded)
    if type(found) is not list or not all(
        type(entry) is list and len(entry) == 2 and type(entry[0]) is list and entry[0] for entry in found
    ):
        raise BrokenValue("what is beside a document is a list of places and values")
    return [(path, value) for path, value in found]


def _put(document: Any, path: Sequence[Any], value: Any) -> None:
    place = document
    try:
        for key in path[:-1]:
            place = place[key]
        place[path[-1]]  # whatever is told exactly stands in the JSON, too
        place[path[-1]] = value
    except (LookupError, TypeError) as exc:
        raise BrokenValue(f"a value beside a document belongs to {path!r}, which is not there") from exc
