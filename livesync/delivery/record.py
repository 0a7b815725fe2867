"""What an agent sends for one object, what a service answers, and what a run comes to."""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO, Final

import msgspec
import ormsgpack

from ..errors import NoDocument
from .measures import Histogram


class Op(Enum):
    """What a record asks of the service."""

    UPSERT = "upsert"
    DELETE = "delete"


class Outcome(Enum):
    """A service's word on one record."""

    ACCEPTED = "accepted"
    STALE = "stale"  #: the service has newer: as good as accepted
    NOT_NOW = "not_now"  #: send it again later
    REFUSED = "refused"  #: for good: a dead letter


class AttachedFile(msgspec.Struct, frozen=True):
    """One file of a record.

    Attributes:
        name: Unique within its object.
        media_type: For example ``application/pdf``.
        size: Bytes.
        digest: BLAKE2b-128 of the content, hexadecimal.
        content: The content, from its beginning; None where the service has it (by its digest), or
            where it is larger than the agent's option ``max_file_bytes`` allows.
    """

    name: str
    media_type: str
    size: int
    digest: str
    content: BinaryIO | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One object's news: an upsert with its document, or a delete (a tombstone). It cannot be changed.

    Attributes:
        op: Upsert or delete.
        object_id: The host's id of the object.
        position: The end of its slice: the document contains everything at or before it.
        actions: What led to it, for services that want to know.
        document: None until it is rendered, and for deletes.
        files: The object's files; None where the agent sends none.
    """

    # A msgspec.Struct, since every action makes two of them: a dataclass takes five times as long.
    op: Op
    object_id: str
    position: int
    actions: frozenset[str] = frozenset()
    document: dict[str, Any] | None = None
    files: tuple[AttachedFile, ...] | None = None


class Encoded(Record, frozen=True, gc=False):
    """An upsert whose document was made and encoded at once, and is held as JSON only.

    Attributes:
        body: :func:`encode_document` of its document.
    """

    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the service said of one record; ``reason`` for people, where it did not accept."""

    object_id: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that cannot be delivered, with the reason; ``body``: its document's JSON, if it had one."""

    object_id: str
    op: Op
    position: int
    reason: str
    actions: frozenset[str] = frozenset()
    body: bytes | None = None


#: The counts of a :class:`RunResult` that the ledger's sum is about.
LEDGER_COUNTS: Final = (
    "read", "cascaded", "coalesced", "cancelled", "excluded", "accepted", "stale", "dead"
)  # fmt: skip


@dataclass(slots=True)
class RunResult:
    """What a run, or a part of one, came to. Counts are of records unless said otherwise.

    What was taken is what became of it: ``read + cascaded == coalesced + cancelled + excluded +
    accepted + stale + dead`` (:meth:`balance` is 0).

    Attributes:
        read: Actions read from the track; of an export or a repair, objects looked at.
        accepted: Records that the service took, deletes because of exclusion among them.
        stale: Records for which the service had newer.
        coalesced: Actions that another one of the same object already stands for.
        cancelled: Actions of objects that came and went unseen: nothing was sent.
        excluded: Records that the agent's transform kept back: nothing was sent.
        dead: Records set aside as dead letters.
        cascaded: Records that no action of their own asked for: inside a changed container, or queued.
        till: The pointer's position at the end (None: before everything).
        seconds: How long it took.
        dead_records: The records set aside.
        retried: Records that were sent again.
        batches: Requests made, repeated ones included.
        timings: How long the requests took.
    """

    read: int = 0
    accepted: int = 0
    stale: int = 0
    coalesced: int = 0
    cancelled: int = 0
    excluded: int = 0
    dead: int = 0
    cascaded: int = 0
    till: int | None = None
    seconds: float = 0.0
    dead_records: list[DeadRecord] = field(default_factory=list, repr=False)
    retried: int = 0
    batches: int = 0
    timings: Histogram = field(default_factory=Histogram, repr=False)

    @property
    def sent(self) -> int:
        """Records that were settled with the service: accepted, stale and dead."""
        return self.accepted + self.stale + self.dead

    def balance(self) -> int:
        """Return what was taken less what became of it: 0, or something is not accounted for."""
        taken = self.read + self.cascaded
        return taken - self.coalesced - self.cancelled - self.excluded - self.sent

    def add(self, part: RunResult) -> None:
        """Add the counts of ``part``, its dead records too; ``till`` and ``seconds`` are left alone."""
        for name in (*LEDGER_COUNTS, "retried", "batches"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.timings.add(part.timings.counts, part.timings.seconds)
        self.dead_records += part.dead_records


class Batch(list[Record]):
    """Records that are sent together, each with its document's JSON at the same index of ``bodies``.

    ``bodies[i]`` is the encoded document of record ``i`` (:func:`encode_document`), or None for a delete.
    """

    __slots__ = ("bodies",)

    def __init__(self, records: Sequence[Record] = (), bodies: Sequence[bytes | None] = ()) -> None:
        super().__init__(records)
        self.bodies: list[bytes | None] = list(bodies)

    def halves(self) -> tuple[Batch, Batch]:
        """Return the first and the second half, for a service that refuses the whole."""
        middle = len(self) // 2
        return (
            Batch(self[:middle], self.bodies[:middle]),
            Batch(self[middle:], self.bodies[middle:]),
        )

    def only(self, indexes: Sequence[int]) -> Batch:
        """Return the records at ``indexes`` as a batch of their own."""
        return Batch([self[i] for i in indexes], [self.bodies[i] for i in indexes])


def _plain(value: Any) -> Any:
    """Return ``value`` with everything that JSON has no form for replaced; check the rest."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    form = _FORMS.get(kind)
    if form is None:
        # Subclasses of the plain types (a str enum, an OrderedDict) are not what they seem.
        raise NoDocument(f"a {kind.__module__}.{kind.__qualname__} has no form in a document")
    return form(value)


def _plain_float(value: float) -> float:
    if not math.isfinite(value):
        raise NoDocument(f"{value!r} has no form in JSON")
    return value


def _plain_list(value: list[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    for key in value:
        if type(key) is not str:
            raise NoDocument(f"the key {key!r} is not a str")
    return {key: _plain(item) for key, item in value.items()}


def _plain_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _plain_datetime(value: datetime.datetime) -> str:
    if value.utcoffset() is None:
        raise NoDocument(f"the datetime {value.isoformat()} has no zone")
    text = value.astimezone(datetime.timezone.utc).isoformat()
    return text.removesuffix("+00:00") + "Z"


_AS_IT_IS: Final = frozenset({str, int, bool, type(None)})

_FORMS: Final[dict[type, Callable[[Any], Any]]] = {
    float: _plain_float,
    list: _plain_list,
    dict: _plain_dict,
    bytes: _plain_bytes,
    datetime.datetime: _plain_datetime,
    datetime.date: datetime.date.isoformat,
    decimal.Decimal: str,
    uuid.UUID: str,
}


_encoder = msgspec.json.Encoder(order="deterministic")

#: Everything that is not exactly a plain type goes to :func:`_check_other`.
_STRICT = (
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

#: msgspec writes these just as a document wants them, whatever their value.
_WRITTEN_AS_WANTED = frozenset({datetime.date, decimal.Decimal, uuid.UUID})

_ZERO = datetime.timedelta(0)


def _check_other(value: Any) -> None:
    """Pass a value that msgspec writes as a document wants it; TypeError for every other one."""
    kind = type(value)
    if kind not in _WRITTEN_AS_WANTED and not (kind is datetime.datetime and value.utcoffset() == _ZERO):
        raise TypeError


def _survive(values: Iterable[Any]) -> bool:
    """Tell whether none of ``values``, which the strict codec took, is one that msgspec changes."""
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is dict:
            if not _survive(value.values()):
                return False
        elif kind is list:
            if not _survive(value):
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is bytearray or kind is memoryview:
            return False
    return True


def _encode_strict(document: dict[str, Any]) -> bytes | None:
    """Return what msgspec alone makes of ``document``; None where the walk must decide.

    msgspec is lenient (a tuple becomes a list, an enum its value, NaN null), so the types are
    checked by packing the document with a codec that has a strict mode: both together take half
    of the walk over the values or less. That codec lets pass two things that msgspec changes,
    floats that are not finite and objects that are like bytes; a byte that each of them is sure
    to leave in the packed form tells where it is worth looking for them.
    """
    try:
        packed = ormsgpack.packb(document, _check_other, _STRICT)
        encoded = _encoder.encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    # a 64-bit float; bytes of a length in one, two and four bytes
    suspect = 0xCB in packed or 0xC4 in packed or 0xC5 in packed or 0xC6 in packed
    return encoded if not suspect or _survive(document.values()) else None


def encode_document(document: dict[str, Any]) -> bytes:
    """Return ``document`` as JSON: UTF-8, keys sorted, no spaces.

    Datetimes as RFC 3339 in UTC with ``Z``, Decimal and UUID as strings, bytes as base64.

    Raises:
        NoDocument: A value that a document cannot hold (its type, NaN, a datetime without zone, a
            lone surrogate, an int of thousands of digits, a structure that contains itself).
    """
    if type(document) is not dict:
        raise NoDocument(f"a document is a dict, not {type(document).__name__}")
    try:
        return _encode_strict(document) or _encoder.encode(_plain(document))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as exc:
        raise NoDocument(f"the document cannot be written as JSON: {exc}") from exc


def document_digest(document: dict[str, Any]) -> str:
    """Return the BLAKE2b-128 of the document's JSON, hexadecimal."""
    return hashlib.blake2b(encode_document(document), digest_size=16).hexdigest()
