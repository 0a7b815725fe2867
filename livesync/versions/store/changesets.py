"""What one version changed: a row for each document, with the deltas there and back.

Small deltas lie twice in a history, on purpose: forward in each document's entries, for one document at any
version; both ways here, for checkout, diff and push, which want all of a version's. ``fsck`` compares both.
Large ones lie here alone, in frames that are read one by one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from struct import unpack
from typing import Any, Final, NamedTuple

import ormsgpack

from ...errors import InvalidCollectionState
from ..packets import Packet
from ..stored import ChangeSet
from .checks import CHECK, UNKNOWN
from .frames import QUICK, Frames
from .sums import with_sum, without_sum

#: Bytes of a row's two short hashes: they sort out most of what is equal, and decide nothing alone.
SHORT: Final = 8

#: The short hash of a document that is not there.
NOTHING: Final = bytes(SHORT)

#: In place of a delta: there is no document on that side.
GONE: Final = b""

#: In place of a delta that was erased: no encoded value begins so.
ERASED: Final = b"\xc1"

#: How an encoded delta begins that says what a document is, whatever it was: a row of None, and the document.
REPLACING: Final = b"\x92\xc0"

_PAGE_ROWS: Final = 1_024
_PAGE_BYTES: Final = 262_144

#: Bytes of deltas in a frame: one document's are read without those of the others.
_FRAME_BYTES: Final = 16_384

#: Bytes of pages and frames that are kept unpacked for reads of single documents.
_KEPT_BYTES: Final = 1_048_576


class Row(NamedTuple):
    """One document in a version, as seen from the version's first parent.

    Attributes:
        document_id: The document.
        forward: Encoded delta from the parent's document; :data:`GONE`: it was deleted.
        backward: The way back; :data:`GONE`: it was created. Either may be :data:`ERASED`.
        before, after: The first bytes of the content hashes; :data:`NOTHING` where there is none.
        check_before, check_after: Checks of the documents (:mod:`~livesync.versions.store.checks`).
    """

    document_id: str
    forward: bytes
    backward: bytes
    before: bytes
    after: bytes
    check_before: bytes = UNKNOWN
    check_after: bytes = UNKNOWN


#: The columns of no rows.
_NO_ROWS: Final[tuple[tuple[Any, ...], ...]] = ((),) * len(Row._fields)


def change_set(rows: Sequence[Row], frames: Frames, dictionary: int = 0) -> ChangeSet:
    """Return rows, which are sorted by id, as they are stored; ``dictionary`` is what their deltas know."""
    sizes = [len(row.forward) + len(row.backward) for row in rows]
    parts = list(_parts(sizes, _PAGE_ROWS, _PAGE_BYTES))
    if len(parts) == 1:
        return ChangeSet(_packed(rows, frames, dictionary))
    pages = [rows[start:end] for start, end in parts]
    return ChangeSet([(page[0].document_id, Packet(_packed(page, frames, dictionary))) for page in pages])


def _parts(sizes: Sequence[int], most: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of parts, one at least: of so many items, and bytes where it is not one item."""
    if len(sizes) <= most and sum(sizes) <= most_bytes:
        yield 0, len(sizes)
        return
    start = total = 0
    for number, size in enumerate(sizes):
        if number - start >= most or (number > start and total + size > most_bytes):
            yield start, number
            start, total = number, 0
        total += size
    yield start, len(sizes)


def _packed(rows: Sequence[Row], frames: Frames, dictionary: int) -> bytes:
    """Return a page: ids, hashes, checks, and the deltas there, and back, in frames of their own.

    Who goes one way reads that one alone.
    """
    ids, there, back, before, after, check_before, check_after = zip(*rows) if rows else _NO_ROWS
    packed = [
        frames.pack(ormsgpack.packb(ids), level=QUICK),
        b"".join(chain.from_iterable(zip(before, after))),
        b"".join(chain.from_iterable(zip(check_before, check_after))),
        *_framed(there, frames, dictionary),
        *_framed(back, frames, dictionary),
    ]
    return with_sum(ormsgpack.packb(packed))


def _framed(deltas: Sequence[bytes], frames: Frames, dictionary: int) -> tuple[list[int], list[bytes]]:
    """Return how many deltas each frame has, and the frames."""
    parts = list(_parts([*map(len, deltas)], _PAGE_ROWS, _FRAME_BYTES))
    packed = [frames.pack(ormsgpack.packb(deltas[start:end]), dictionary, QUICK) for start, end in parts]
    return [end - start for start, end in parts], packed


class _Page(NamedTuple):
    """A page of rows, opened: the frames of deltas, there and back, are still packed."""

    ids: list[str]
    hashes: bytes
    checks: bytes
    there_counts: list[int]
    there: list[bytes]
    back_counts: list[int]
    back: list[bytes]

    def shorts(self) -> tuple[bytes, ...]:
        """Return the short hashes before and after, in turn."""
        return unpack(f"{SHORT}s" * (2 * len(self.ids)), self.hashes)

    def all_checks(self) -> tuple[bytes, ...]:
        """Return the checks before and after, in turn."""
        return unpack(f"{CHECK}s" * (2 * len(self.ids)), self.checks)

    def deltas(self, frames: Frames, is_back: bool) -> list[bytes]:
        """Return the deltas of one way."""
        packed = self.back if is_back else self.there
        return [delta for frame in packed for delta in ormsgpack.unpackb(frames.unpack(frame))]


class _Known(NamedTuple):
    """A page as it is stored, opened, and the deltas of those of its frames that were unpacked."""

    data: bytes
    page: _Page
    deltas: dict[int, list[bytes]]


def _opened(page: bytes, frames: Frames) -> _Page:
    ids, *fields = ormsgpack.unpackb(without_sum(page, "a stored change set"))
    return _Page(ormsgpack.unpackb(frames.unpack(ids)), *fields)


def _pages(stored: ChangeSet, frames: Frames) -> Iterator[_Page]:
    if isinstance(stored.pages, bytes):
        yield _opened(stored.pages, frames)
    else:
        for _, packet in stored.pages:
            yield _opened(packet.data, frames)


class Columns(NamedTuple):
    """Rows of a page as they are for one way, a column for each field.

    Attributes:
        ids: The documents.
        deltas: What is to be applied on this way.
        starts, ends: Checks of what the documents are before and after that.
    """

    ids: Sequence[str]
    deltas: Sequence[bytes]
    starts: Sequence[bytes]
    ends: Sequence[bytes]


def columns_of(stored: ChangeSet, frames: Frames, is_back: bool) -> Iterator[Columns]:
    """Yield the rows of a change set for the way there, or back, sorted by id, page by page.

    Raises:
        InvalidCollectionState: It is damaged.
    """
    for page in _pages(stored, frames):
        checks = page.all_checks()
        before, after = checks[::2], checks[1::2]
        starts, ends = (after, before) if is_back else (before, after)
        yield Columns(page.ids, page.deltas(frames, is_back), starts, ends)


def rows_of(stored: ChangeSet, frames: Frames) -> Iterator[Row]:
    """Yield the rows of a change set, sorted by id.

    Raises:
        InvalidCollectionState: It is damaged.
    """
    for page in _pages(stored, frames):
        there, back = page.deltas(frames, is_back=False), page.deltas(frames, is_back=True)
        shorts, checks = page.shorts(), page.all_checks()
        yield from map(Row, page.ids, there, back, shorts[::2], shorts[1::2], checks[::2], checks[1::2])


class Forwards:
    """Forward deltas of single documents; what is unpacked for one is there for others of its version.

    Args:
        frames: Unpacks.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._known: dict[tuple[int, int], _Known] = {}
        self._bytes = 0

    def delta(self, stored: ChangeSet, key: int, document_id: str) -> bytes:
        """Return the forward delta of one document, without reading all rows.

        Args:
            stored: What a version changed.
            key: The version.
            document_id: The document.

        Raises:
            InvalidCollectionState: It is damaged, or has no such row.
        """
        pages, number = stored.pages, 0
        if not isinstance(pages, bytes):
            number = max(bisect_right(pages, document_id, key=itemgetter(0)) - 1, 0)
            pages = pages[number][1].data
        known = self._opened((key, number), pages)
        ids = known.page.ids
        place = bisect_left(ids, document_id)
        if ids[place : place + 1] != [document_id]:
            raise InvalidCollectionState("its change set does not name it")
        for at, count in enumerate(known.page.there_counts):
            if place < count:
                return self._deltas(known, at)[place]
            place -= count
        raise InvalidCollectionState("a stored change set has too few rows")

    def keep(self, stored: ChangeSet, key: int, rows: Sequence[Row]) -> None:
        """Keep the deltas of a change set that was just made of rows: mostly the next versions ask for them.

        It is not for one of several pages, which is too much to be kept.
        """
        pages = stored.pages
        if not isinstance(pages, bytes):
            return
        _, *fields = ormsgpack.unpackb(without_sum(pages, "a stored change set"))
        page = _Page([row.document_id for row in rows], *fields)
        deltas: dict[int, list[bytes]] = {}
        forwards = [row.forward for row in rows]
        start = 0
        for at, count in enumerate(page.there_counts):
            deltas[at] = forwards[start : start + count]
            start += count
        self._count(len(pages) + sum(map(len, forwards)))
        self._known[key, 0] = _Known(pages, page, deltas)

    def _opened(self, place: tuple[int, int], data: bytes) -> _Known:
        known = self._known.get(place)
        if known is None or known.data is not data:  # it was written anew
            self._count(len(data))
            known = self._known[place] = _Known(data, _opened(data, self._frames), {})
        return known

    def _deltas(self, known: _Known, at: int) -> list[bytes]:
        deltas = known.deltas.get(at)
        if deltas is None:
            unpacked = self._frames.unpack(known.page.there[at])
            self._count(len(unpacked))
            deltas = known.deltas[at] = ormsgpack.unpackb(unpacked)
        return deltas

    def _count(self, size: int) -> None:
        """Count bytes that are to be kept; where they become too many, nothing is."""
        self._bytes += size
        if self._bytes > _KEPT_BYTES:
            self._known.clear()
            self._bytes = size


class Shorts(NamedTuple):
    """What the rows of a page say of short hashes; these as numbers, which is fast.

    Attributes:
        before: Id -> the one before, sorted by id.
        after: Id -> the one after, in the same order.
    """

    before: dict[str, int]
    after: dict[str, int]


def shorts_of(stored: ChangeSet, frames: Frames) -> Iterator[Shorts]:
    """Yield the short hashes of the rows, page by page; nobody may change them.

    Those of a change set of one page are kept with it, as long as the connection keeps it in memory.

    Raises:
        InvalidCollectionState: It is damaged.
    """
    pages = stored.pages
    if not isinstance(pages, bytes):
        yield from map(_shorts, _pages(stored, frames))
        return
    known = stored._v_shorts
    if known is None or known[0] is not pages:
        known = stored._v_shorts = pages, _shorts(_opened(pages, frames))
    yield known[1]


def _shorts(page: _Page) -> Shorts:
    shorts = unpack(f">{2 * len(page.ids)}Q", page.hashes)
    return Shorts(dict(zip(page.ids, shorts[::2])), dict(zip(page.ids, shorts[1::2])))


def hashes_of(stored: ChangeSet, frames: Frames) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (id, before, after) of the rows without their deltas."""
    for page in _pages(stored, frames):
        for number, document_id in enumerate(page.ids):
            start = number * 2 * SHORT
            yield (
                document_id,
                page.hashes[start : start + SHORT],
                page.hashes[start + SHORT : start + 2 * SHORT],
            )
