"""What one version changed: a row for each document, with the deltas there and back.

The deltas lie twice in a history, on purpose: forward in each document's entries, for one document at any
version; both ways here, for checkout, diff and push, which want all of a version's. ``fsck`` compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import ormsgpack

from ..errors import InvalidCollectionState
from .frames import Frames
from .stored import ChangeSet, Packet
from .values import hash_of

#: Bytes of a row's two short hashes: they sort out most of what is equal, and decide nothing alone.
SHORT: Final = 8

#: The short hash of a document that is not there.
NOTHING: Final = bytes(SHORT)

#: In place of a delta: there is no document on that side.
GONE: Final = b""

#: In place of a delta that was erased: no encoded value begins so.
ERASED: Final = b"\xc1"

_PAGE_ROWS: Final = 1_024
_PAGE_BYTES: Final = 262_144


class Row(NamedTuple):
    """One document in a version, as seen from the version's first parent.

    Attributes:
        document_id: The document.
        forward: Encoded delta from the parent's document; :data:`GONE`: it was deleted.
        backward: The way back; :data:`GONE`: it was created. Either may be :data:`ERASED`.
        before, after: The first bytes of the content hashes; :data:`NOTHING` where there is none.
    """

    document_id: str
    forward: bytes
    backward: bytes
    before: bytes
    after: bytes


def change_set(rows: Sequence[Row], frames: Frames) -> ChangeSet:
    """Return rows, which are sorted by id, as they are stored."""
    pages = [_packed(page, frames) for page in _pages(rows)]
    if len(pages) == 1:
        return ChangeSet(pages[0])
    return ChangeSet([Packet(page) for page in pages])


def _pages(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = size = 0
    for number, row in enumerate(rows):
        weight = len(row.forward) + len(row.backward)
        if number - start >= _PAGE_ROWS or (number > start and size + weight > _PAGE_BYTES):
            yield rows[start:number]
            start, size = number, 0
        size += weight
    yield rows[start:]


def _packed(rows: Sequence[Row], frames: Frames) -> bytes:
    ids = frames.pack(ormsgpack.packb([row.document_id for row in rows]))
    deltas = frames.pack(ormsgpack.packb([part for row in rows for part in (row.forward, row.backward)]))
    hashes = b"".join(part for row in rows for part in (row.before, row.after))
    body: bytes = ormsgpack.packb([ids, deltas, hashes])
    return hash_of(body) + body


_HASH: Final = 16


def _opened(page: bytes) -> tuple[bytes, bytes, bytes]:
    if hash_of(page[_HASH:]) != page[:_HASH]:
        raise InvalidCollectionState("a stored change set is damaged")
    ids, deltas, hashes = ormsgpack.unpackb(page[_HASH:])
    return ids, deltas, hashes


def _page_bytes(stored: ChangeSet) -> Iterator[bytes]:
    if isinstance(stored.pages, bytes):
        yield stored.pages
    else:
        for packet in stored.pages:
            yield packet.data


def rows_of(stored: ChangeSet, frames: Frames) -> Iterator[Row]:
    """Yield the rows of a change set, sorted by id.

    Raises:
        InvalidCollectionState: It is damaged.
    """
    for page in _page_bytes(stored):
        ids, deltas, hashes = _opened(page)
        parts = iter(ormsgpack.unpackb(frames.unpack(deltas)))
        shorts = (hashes[start : start + SHORT] for start in range(0, len(hashes), SHORT))
        for document_id in ormsgpack.unpackb(frames.unpack(ids)):
            yield Row(document_id, next(parts), next(parts), next(shorts), next(shorts))


def hashes_of(stored: ChangeSet, frames: Frames) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (id, before, after) of the rows without their deltas."""
    for page in _page_bytes(stored):
        ids, _, hashes = _opened(page)
        for number, document_id in enumerate(ormsgpack.unpackb(frames.unpack(ids))):
            start = number * 2 * SHORT
            yield document_id, hashes[start : start + SHORT], hashes[start + SHORT : start + 2 * SHORT]
