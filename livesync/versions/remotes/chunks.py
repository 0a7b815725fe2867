"""What is sent, cut into chunks, and put together again.

A chunk is a zstd frame of MessagePack: a row of pieces, each of a version (its record, and some of what it
changed), a branch or a tag. So a version of any size travels in chunks of about the same, each end holds one
chunk, or one version, in memory, and a transfer goes on after any of them. Nothing of a chunk is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from ...errors import BodyTooLarge, BodyUnreadable, InvalidCollectionState, InvalidOperation, OfferChanged
from ...forms import decode_packed
from ...peering import compression
from ...peering.historywire import CHUNK_BYTES, MAX_CHUNK_BYTES
from ..ids import MOST_CHARACTERS
from ..names import Names, check_foreign_name
from ..store.contents import Contents
from .ends import Layout, Outgoing, Part, Tag
from .exchange import Told, TravellingRow, TravellingVersion, sent_rows

#: Bytes of what one document says, at most: it travels in one piece.
MAX_DOCUMENT_BYTES: Final = 24_000_000

#: Bytes that a row has besides.
_ROW_BYTES: Final = 40

_Id = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Ref = Annotated[str, Meta(min_length=1, max_length=250)]
_Number = Annotated[int, Meta(ge=0, le=2**31)]


class _Row(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    document_id: Annotated[str, Meta(max_length=MOST_CHARACTERS)]
    kind: Annotated[int, Meta(ge=0, le=max(Told).value)]
    payload: bytes
    hash: Annotated[bytes, Meta(max_length=16)]


class _Version(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="v"):
    """``record`` is empty where the piece goes on with the version of the one before."""

    record: Annotated[bytes, Meta(max_length=4_000_000)]
    branch: Annotated[str, Meta(max_length=250)]
    number: Annotated[int, Meta(ge=-1, le=2**31)]
    rows: list[_Row]
    is_whole: bool


class _Layout(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    branch: _Ref
    base: Annotated[bytes, Meta(max_length=32)]
    since: _Number
    ids: list[_Id]


class _Tag(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="t"):
    name: _Ref
    id: _Id


_Pieces = list[_Version | _Layout | _Tag]

_encode = msgspec.msgpack.Encoder().encode


class Place(NamedTuple):
    """Where a chunk begins.

    Attributes:
        part: How many parts are done.
        after: The last document of the next one, a version, that is; None: none.
    """

    part: int = 0
    after: str | None = None


class Chunk(NamedTuple):
    """Some of what is sent, and where the rest begins.

    Attributes:
        data: Packed.
        next: Where the following one begins.
        last: There is no following one.
    """

    data: bytes
    next: Place
    last: bool


def cut(contents: Contents, outgoing: Outgoing, place: Place, size: int = CHUNK_BYTES) -> Chunk:
    """Return the chunk that begins at a place.

    Args:
        contents: Of the sender.
        outgoing: What is sent.
        place: Where the chunk before ended.
        size: Bytes that are aimed at, before they are packed.

    Raises:
        OfferChanged: A version that was to be sent is gone.
        InvalidOperation: A document is too large.
        VersionPruned: The contents of a version were pruned.
    """
    pieces: _Pieces = []
    part, after = place
    total = len(outgoing.versions) + len(outgoing.names)
    used = 0
    while part < total and used < size:
        if part >= len(outgoing.versions):
            named = outgoing.names[part - len(outgoing.versions)]
            pieces.append(_Tag(*named) if isinstance(named, Tag) else _Layout(*named[:3], list(named.ids)))
            used += 64 if isinstance(named, Tag) else 64 + 34 * len(named.ids)
            part += 1
            continue
        piece, weight = _piece(contents, outgoing.versions[part], after, size - used, is_first=not pieces)
        if not piece.is_whole and not piece.rows:
            break  # not even one more row fits
        pieces.append(piece)
        used += weight
        if not piece.is_whole:
            after = piece.rows[-1].document_id
            break
        part, after = part + 1, None
    return Chunk(compression.pack(_encode(pieces), "zstd"), Place(part, after), part >= total)


def _piece(
    contents: Contents, version_id: bytes, after: str | None, room: int, is_first: bool
) -> tuple[_Version, int]:
    """Return what fits of a version, and how many bytes that is; the first piece has at least one row."""
    key = contents.stored.keys.get(version_id)
    if key is None:
        raise OfferChanged(f"version {version_id.hex()[:12]} is gone meanwhile: begin a new transfer")
    record = contents.stored.records[key] if after is None else b""
    number, branch = Names(contents.stored.references).place(key) if after is None else (-1, "")
    used, rows = len(record) + _ROW_BYTES, list[_Row]()
    for row in sent_rows(contents, key, after):
        weight = len(row.payload) + len(row.document_id) + _ROW_BYTES
        if len(row.payload) > MAX_DOCUMENT_BYTES:
            raise InvalidOperation(
                f"document {row.document_id!r} is too large to be sent: {len(row.payload):,} bytes, and"
                f" {MAX_DOCUMENT_BYTES:,} are taken"
            )
        if used + weight > room and (rows or not is_first):
            return _Version(record, branch, number, rows, False), used
        rows.append(_Row(*row))
        used += weight
    return _Version(record, branch, number, rows, True), used


def check_chunk(data: bytes) -> None:
    """Make sure that a chunk has the form of one, before it is kept.

    Raises:
        BodyTooLarge: It is too large when it is unpacked.
        InvalidCollectionState: It has another form.
    """
    _pieces(data)


def _pieces(data: bytes) -> _Pieces:
    try:
        unpacked = compression.unpack(data, "zstd", MAX_CHUNK_BYTES)
        found: _Pieces = decode_packed(unpacked, _Pieces)
    except BodyTooLarge:
        raise
    except (BodyUnreadable, msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise InvalidCollectionState(f"a chunk cannot be read: {' '.join(str(exc).split())[:200]}") from exc
    return found


def joined(chunks: Iterable[bytes]) -> Iterator[Part]:
    """Yield what chunks hold, in order; a version once it is whole.

    Raises:
        BodyTooLarge, InvalidCollectionState: One of them is none, or they do not follow each other.
    """
    begun: _Version | None = None
    rows: list[TravellingRow] = []
    for data in chunks:
        for piece in _pieces(data):
            if isinstance(piece, _Version):
                if bool(piece.record) == (begun is not None):
                    raise InvalidCollectionState("pieces of versions do not follow each other")
                begun = piece if begun is None else begun
                rows += [
                    TravellingRow(row.document_id, row.kind, row.payload, row.hash) for row in piece.rows
                ]
                if piece.is_whole:
                    yield _version(begun, rows)
                    begun, rows = None, []
                continue
            if begun is not None:
                raise InvalidCollectionState("a version has come in part only")
            if isinstance(piece, _Tag):
                yield Tag(_checked(piece.name), piece.id)
            else:
                yield Layout(_checked(piece.branch), piece.base, piece.since, tuple(piece.ids))
    if begun is not None:
        raise InvalidCollectionState("a version has come in part only")


def _version(begun: _Version, rows: list[TravellingRow]) -> TravellingVersion:
    ids = [row.document_id for row in rows]
    if any(one >= other for one, other in pairwise(ids)):
        raise InvalidCollectionState("what a version changes comes sorted, each document once")
    branch = _checked(begun.branch) if begun.branch else ""
    return TravellingVersion(begun.record, branch, begun.number, tuple(rows))


def _checked(name: str) -> str:
    check_foreign_name(name)
    return name
