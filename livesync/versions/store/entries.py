"""The entries of one document: what it became at the versions that changed it.

A document's newest entries lie in its tail, packed, at most :data:`TAIL_BYTES` before an append; older ones
in segments, each of one line. So an append costs little however often a document changes, and however large
it is. A segment tells the versions of its entries without being read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from typing import Any, Final, NamedTuple

import ormsgpack
from BTrees.LOBTree import LOBTree

from ...errors import InvalidCollectionState
from ..packets import Packet
from ..shelves import History
from .sums import with_sum, without_sum
from .tree import Forks, key_of, line_of, position_of, stretches

#: Bytes that a tail may have before an append.
TAIL_BYTES: Final = 1_024

#: In place of an entry's key: the document as the first version had it, which lies in a pack.
PACKED: Final = -1


class Kind:
    """What an entry's payload is: plain numbers, as they are stored."""

    WHOLE: Final = 0
    DELTA: Final = 1
    GONE: Final = 2
    SAME: Final = 3
    ERASED: Final = 4
    ROW: Final = 5


#: Kinds that say what a document is by another entry.
CHAINED: Final = frozenset({Kind.DELTA, Kind.SAME, Kind.ROW})


class Entry(NamedTuple):
    """A document at one version that changed it.

    Attributes:
        key: The version.
        kind: ``WHOLE``: the payload is a frame of the document; ``DELTA``: an encoded delta, to be applied to
            what ``up`` says; ``GONE``: there is none; ``SAME``: what the entry ``up`` says;
            ``ERASED``: there was one, and only its hash is left; ``ROW``: the delta lies in the version's
            change set, as it is large; a replacement needs nothing of ``up``.
        up: Key of another entry, or :data:`PACKED`.
        hash: Content hash; empty where it is gone.
        payload: See ``kind``.
    """

    key: int
    kind: int
    up: int
    hash: bytes
    payload: bytes


_WIDTH: Final = len(Entry._fields)


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """Return entries as bytes, in their order."""
    return with_sum(ormsgpack.packb([field for entry in entries for field in entry]))


def _pack_keys(keys: Sequence[int]) -> bytes:
    """Return the keys of a segment's entries as bytes: how far each lies behind the one before."""
    return with_sum(ormsgpack.packb([after - before for before, after in pairwise(keys)]))


def _unpack_keys(first: int, data: bytes) -> list[int]:
    try:
        return list(accumulate(ormsgpack.unpackb(without_sum(data, "a list of versions")), initial=first))
    except (ValueError, TypeError) as exc:
        raise InvalidCollectionState(f"a list of versions is damaged: {exc}") from exc


def unpack_entries(data: bytes) -> list[Entry]:
    """Return the entries of :func:`pack_entries`.

    Raises:
        InvalidCollectionState: The bytes are damaged.
    """
    if not data:
        return []
    unpacked = _unpack_fields(data)
    if len(unpacked) == _WIDTH:  # as mostly
        return [tuple.__new__(Entry, unpacked)]
    fields = iter(unpacked)
    try:
        return [*map(tuple.__new__, repeat(Entry), zip(*repeat(fields, _WIDTH), strict=True))]
    except ValueError as exc:
        raise InvalidCollectionState(f"stored entries are damaged: {exc}") from exc


def _unpack_fields(data: bytes) -> list[Any]:
    """Return the fields of entries, one after the other."""
    if not data:
        return []
    try:
        fields = ormsgpack.unpackb(without_sum(data, "a part of a document's history"))
        if type(fields) is not list:
            raise ValueError("they are no row")
        return fields
    except ValueError as exc:
        raise InvalidCollectionState(f"stored entries are damaged: {exc}") from exc


class Entries:
    """The entries of one document, for reading; segments are read when they are needed."""

    def __init__(self, history: History) -> None:
        self.tail = unpack_entries(history.tail)
        self._segments = history.segments
        self._read: dict[int, list[Entry]] = {}

    def newest(self, forks: Forks, key: int) -> Entry | None:
        """Return the newest entry on the way from a version to the root; None: it has not changed there."""
        if self.tail:
            last = self.tail[-1]
            if last.key <= key and line_of(last.key) == line_of(key):
                return last  # as mostly
        for line, position in stretches(forks, key):
            found = self.on_line(line, position)
            if found is not None:
                return found
        return None

    def on_line(self, line: int, position: int) -> Entry | None:
        """Return the newest entry of a line at or before a position."""
        first, last = key_of(line, 0), key_of(line, position)
        for entry in reversed(self.tail):
            if first <= entry.key <= last:
                return entry
        if self._segments is not None:
            for entry in reversed(self._segment_before(line, position)):
                if entry.key <= last:
                    return entry
        return None

    def exactly(self, key: int) -> Entry:
        """Return the entry of a version.

        Raises:
            InvalidCollectionState: There is none.
        """
        found = self.on_line(line_of(key), position_of(key))
        if found is None or found.key != key:
            raise InvalidCollectionState(f"the entry {key:#x} that another one needs is missing")
        return found

    def _segment_before(self, line: int, position: int) -> list[Entry]:
        assert self._segments is not None
        try:
            first = self._segments.maxKey(key_of(line, position))
        except ValueError:  # all segments are of later versions
            return []
        return self._segment(first) if line_of(first) == line else []

    def _segment(self, first: int) -> list[Entry]:
        known = self._read.get(first)
        if known is None:
            assert self._segments is not None
            keys, packet = self._segments[first]
            known = unpack_entries(packet.data)
            if [entry.key for entry in known] != _unpack_keys(first, keys):
                raise InvalidCollectionState("a segment holds entries of other versions than it should")
            self._read[first] = known
        return known

    def all(self) -> Iterator[Entry]:
        """Yield all entries, line by line within segments, the tail last."""
        for first in self._segments or ():
            yield from self._segment(first)
        yield from self.tail

    def on_way(self, forks: Forks, key: int) -> Iterator[Entry]:
        """Yield the entries on the way from a version to the root, the newest first."""
        for line, position in stretches(forks, key):
            found = [
                entry
                for entry in self.tail
                if line_of(entry.key) == line and position_of(entry.key) <= position
            ]
            yield from reversed(found)
            if self._segments is None:
                continue
            for first in self._firsts_before(line, position):
                yield from (
                    entry for entry in reversed(self._segment(first)) if position_of(entry.key) <= position
                )

    def keys_on_way(self, forks: Forks, key: int) -> Iterator[Iterable[int]]:
        """Yield the keys of :meth:`on_way`, many at a time; no segment is read."""
        for line, position in stretches(forks, key):
            newest = key_of(line, position)
            yield [entry.key for entry in reversed(self.tail) if key_of(line, 0) <= entry.key <= newest]
            if self._segments is None:
                continue
            for first in self._firsts_before(line, position):
                keys = _unpack_keys(first, self._segments[first][0])
                yield reversed(keys if keys[-1] <= newest else [one for one in keys if one <= newest])

    def _firsts_before(self, line: int, position: int) -> Iterator[int]:
        """Yield the first keys of a line's segments, those up to a position, the newest first."""
        assert self._segments is not None
        first = key_of(line, position) + 1
        while True:
            try:
                first = self._segments.maxKey(first - 1)
            except ValueError:  # all others are later
                return
            if line_of(first) != line:
                return
            yield first


def append(history: History, entry: Entry) -> None:
    """Add an entry to a document; the tail is written away when it has become too large.

    Args:
        history: Of the document.
        entry: The newest on its line.
    """
    tail = history.tail
    if len(tail) > TAIL_BYTES:
        _spill(history)
        tail = b""
    history.tail = with_sum(ormsgpack.packb([*_unpack_fields(tail), *entry] if tail else [*entry]))


def _spill(history: History) -> None:
    """Write the tail into segments, one a line."""
    segments = history.made_segments()
    lines: dict[int, list[Entry]] = {}
    for entry in unpack_entries(history.tail):
        lines.setdefault(line_of(entry.key), []).append(entry)
    for entries in lines.values():
        _keep_segment(segments, entries)


def _keep_segment(segments: LOBTree, entries: list[Entry]) -> None:
    keys = [entry.key for entry in entries]
    segments[keys[0]] = (_pack_keys(keys), Packet(pack_entries(entries)))


def rewritten(history: History, change: dict[int, Entry | None]) -> bool:
    """Put entries in the place of others, or take them away (None); tell whether anything is left."""
    kept = []
    for entry in unpack_entries(history.tail):
        new = change.get(entry.key, entry)
        if new is not None:
            kept.append(new)
    history.tail = pack_entries(kept) if kept else b""
    for first in list(history.segments or ()):
        assert history.segments is not None
        old = unpack_entries(history.segments[first][1].data)
        new_ones = [found for found in (change.get(entry.key, entry) for entry in old) if found is not None]
        if new_ones == old:
            continue
        del history.segments[first]
        if new_ones:
            _keep_segment(history.segments, new_ones)
    return bool(kept) or bool(history.segments)


def rebuilt(history: History, entries: Iterable[Entry]) -> bool:
    """Make entries, in whatever order, all that a document has; tell whether there are any.

    The newest of the newest line lie in the tail, all others in segments.
    """
    ordered = sorted(entries, key=lambda entry: entry.key)
    if not ordered:
        return False
    if len(packed := pack_entries(ordered)) <= TAIL_BYTES:
        history.reset(packed)
        return True
    *older, newest = _portions(ordered)
    history.tail = pack_entries(newest)
    segments = history.made_segments()
    made = {portion[0].key: portion for portion in older}
    for first in list(segments):
        if first not in made or segments[first][1].data != pack_entries(made[first]):
            del segments[first]
    for first, portion in made.items():
        if first not in segments:
            _keep_segment(segments, portion)
    return True


def _portions(ordered: Iterable[Entry]) -> list[list[Entry]]:
    """Return sorted entries in portions of one line each, and of about the size of a tail."""
    portions: list[list[Entry]] = []
    size = 0
    for entry in ordered:
        weight = len(entry.payload) + len(entry.hash) + 16
        if portions and line_of(portions[-1][0].key) == line_of(entry.key) and size + weight <= TAIL_BYTES:
            portions[-1].append(entry)
            size += weight
        else:
            portions.append([entry])
            size = weight
    return portions
