"""Records of versions, many to an object: few objects are read for a log, and a version writes a small one.

The records of versions that follow one another on a line lie in blocks of 16; four full ones are made one. A
block has its records field by field, which is read fast and takes little: most have the one before them for a
parent. Each has one checksum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from struct import iter_unpack, unpack_from
from typing import Any, Final, NamedTuple

import ormsgpack
from BTrees.LOBTree import LOBTree

from ...errors import BrokenValue, InvalidCollectionState
from ..packets import Packet
from ..values import CODEC
from .records import ID_BYTES, Record
from .sums import with_sum, without_sum

#: Versions of a block that is still written to, and of one that is full.
_SMALL: Final = 16
_LARGE: Final = 64

#: Up to this part of a block records are read singly.
_SINGLE: Final = 16

#: Generation of what was taken away.
_NONE: Final = -1

#: The three hashes of a record.
_FORMAT: Final = f"{ID_BYTES}s{ID_BYTES}s{ID_BYTES}s"
_HASHES: Final = 3 * ID_BYTES

_ABSENT: Final = Record(
    bytes(ID_BYTES), (), _NONE, "", 0, "", {}, bytes(ID_BYTES), bytes(ID_BYTES), (0, 0, 0)
)


class Block:
    """The fields of some records.

    Args:
        data: As they are stored.

    Raises:
        InvalidCollectionState: They are damaged.
    """

    __slots__ = ("authors", "counts", "generations", "hashes", "messages", "metadata", "parents", "times")

    def __init__(self, data: bytes) -> None:
        try:
            fields = ormsgpack.unpackb(without_sum(data, "a block of records"))
            self.hashes, self.parents, self.generations, self.authors = fields[:4]
            self.times, self.messages, self.metadata, self.counts = fields[4:]
        except (TypeError, ValueError) as exc:
            raise InvalidCollectionState(f"a block of records is damaged: {exc}") from exc

    def __len__(self) -> int:
        return len(self.generations)

    def record(self, at: int) -> Record | None:
        """Return one record; None where there is none.

        Raises:
            InvalidCollectionState: Its metadata are damaged.
        """
        if self.generations[at] == _NONE:
            return None
        start = at * _HASHES
        made, rows, state = unpack_from(_FORMAT, self.hashes, start)
        parents = self.parents[at]
        if parents is None:
            parents = (self.hashes[start - _HASHES : start - _HASHES + ID_BYTES],)
        metadata = _opened(self.metadata[at])
        counts = tuple(self.counts[3 * at : 3 * at + 3])
        return Record(
            made,
            tuple(parents),
            self.generations[at],
            self.authors[at],
            self.times[at],
            self.messages[at],
            metadata,
            rows,
            state,
            counts,
        )

    def has_merges(self, places: Iterable[int]) -> bool:
        """Tell whether one of some records has two parents."""
        told = filter(None, map(self.parents.__getitem__, places))
        return max(map(len, told), default=1) > 1

    def all(self) -> list[Record | None]:
        """Return all records, fast."""
        counts = self.counts
        hashes = list(iter_unpack(_FORMAT, self.hashes))
        ids = [one for one, _, _ in hashes]
        before = [b"", *ids]
        fields = zip(
            ids,
            [(one,) if given is None else tuple(given) for one, given in zip(before, self.parents)],
            self.generations,
            self.authors,
            self.times,
            self.messages,
            [{} if one is None else _opened(one) for one in self.metadata],
            [one for _, one, _ in hashes],
            [one for _, _, one in hashes],
            zip(counts[::3], counts[1::3], counts[2::3]),
        )
        found: list[Record | None] = list(map(tuple.__new__, repeat(Record), fields))
        if _NONE in self.generations:
            found = [None if one is None or one.generation == _NONE else one for one in found]
        return found


def _opened(metadata: bytes | None) -> Any:
    try:
        return {} if metadata is None else CODEC.decode(metadata)
    except BrokenValue as exc:
        raise InvalidCollectionState(f"the metadata of a version are damaged: {exc}") from exc


def _packed(records: Sequence[Record | None]) -> bytes:
    whole = [_ABSENT if one is None else one for one in records]
    before = [b"", *(one.id for one in whole)]
    fields = [
        b"".join(part for one in whole for part in (one.id, one.rows, one.state)),
        [
            None if prev and list(one.parents) == [prev] else list(one.parents)
            for prev, one in zip(before, whole)
        ],
        [one.generation for one in whole],
        [one.author for one in whole],
        [one.time_us for one in whole],
        [one.message for one in whole],
        [CODEC.encode(dict(one.metadata)) if one.metadata else None for one in whole],
        [count for one in whole for count in one.counts],
    ]
    return with_sum(ormsgpack.packb(fields))


class Portion(NamedTuple):
    """Some records of one block, which are made when they are asked for.

    Attributes:
        keys: Of the versions.
        places: Where they lie in the block.
        block: Their fields.
    """

    keys: list[int]
    places: list[int]
    block: Block

    def records(self) -> list[Record]:
        """Return the records.

        Raises:
            InvalidCollectionState: Metadata are damaged.
        """
        block, places = self.block, self.places
        records = block.all() if len(places) > max(1, len(block) // _SINGLE) else None
        found = [block.record(at) if records is None else records[at] for at in places]
        return [one for one in found if one is not None]


def _portion(first: int, block: Block | None, keys: list[int]) -> Iterator[Portion]:
    """Yield one portion of :meth:`Records.read`, if there is anything."""
    if block is None:
        return
    if _NONE in block.generations:
        keys = [key for key in keys if block.generations[key - first] != _NONE]
    if keys:
        yield Portion(keys, [key - first for key in keys], block)


class Records:
    """The records of a history by version.

    Args:
        blocks: Key of the first one -> :class:`~livesync.versions.packets.Packet`.
    """

    def __init__(self, blocks: LOBTree) -> None:
        self._blocks = blocks
        self._known: tuple[bytes, Block | None] = (b"", None)

    # -- one record --------------------------------------------------------------------------------

    def record(self, key: int) -> Record | None:
        """Return the record of a version; None where there is none.

        Raises:
            InvalidCollectionState: What is stored is damaged.
        """
        first, block = self._block(key)
        return None if block is None or key - first >= len(block) else block.record(key - first)

    def known(self, key: int) -> Record:
        """Return the record of a version that there is.

        Raises:
            KeyError: There is none.
            InvalidCollectionState: What is stored is damaged.
        """
        found = self.record(key)
        if found is None:
            raise KeyError(key)
        return found

    def __getitem__(self, key: int) -> bytes:
        """Return a record, packed.

        Raises:
            KeyError: There is none.
            InvalidCollectionState: What is stored is damaged.
        """
        return self.known(key).packed()

    def __contains__(self, key: int) -> bool:
        first, block = self._block(key)
        return block is not None and key - first < len(block) and block.generations[key - first] != _NONE

    def __setitem__(self, key: int, packed: bytes) -> None:
        """Keep a record.

        Raises:
            InvalidCollectionState: It is damaged.
        """
        self.keep(key, Record.unpacked(packed))

    def keep(self, key: int, record: Record) -> None:
        """Keep a record that is at hand."""
        first, block = self._block(key)
        is_inside = block is not None and (
            key - first < _SMALL or (len(block) > _SMALL and key - first < _LARGE)
        )
        if block is None or not is_inside:
            first = key - key % _SMALL
        records = block.all() if block is not None and is_inside else []
        records += [None] * (key - first + 1 - len(records))
        records[key - first] = record
        self._keep(first, records)
        if key % _LARGE == _LARGE - 1:
            self._unite(key - _LARGE + 1, key)

    def __delitem__(self, key: int) -> None:
        if key not in self:
            raise KeyError(key)
        first = self._blocks.maxKey(key)
        records = Block(self._blocks[first].data).all()
        records[key - first] = None
        while records and records[-1] is None:
            records.pop()
        if records:
            self._keep(first, records)
        else:
            del self._blocks[first]

    def pop(self, key: int) -> bytes:
        """Take a record away, and return it, packed.

        Raises:
            KeyError: There is none.
        """
        packed = self[key]
        del self[key]
        return packed

    # -- many ----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        for first, packet in self._blocks.items():
            for at, generation in enumerate(Block(packet.data).generations):
                if generation != _NONE:
                    yield first + at

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self) -> Iterator[bytes]:
        """Yield all records, packed, in order of the keys."""
        return (packed for _, packed in self.items())

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Yield (key, packed record) of all, in order of the keys."""
        for portion in self.read(self):
            for key, record in zip(portion.keys, portion.records()):
                yield key, record.packed()

    def read(self, keys: Iterable[int]) -> Iterator[Portion]:
        """Yield records in portions; a block is read once where its keys come together.

        What has no record is passed over.

        Raises:
            InvalidCollectionState: What is stored is damaged.
        """
        first = end = 0
        block: Block | None = None
        found: list[int] = []
        for key in keys:
            if first <= key < end:
                found.append(key)
                continue
            yield from _portion(first, block, found)
            first, block = self._block(key)
            end = first if block is None else first + len(block)
            found = [key] if key < end else []
        yield from _portion(first, block, found)

    # -- blocks --------------------------------------------------------------------------------------

    def _block(self, key: int) -> tuple[int, Block | None]:
        """Return the block at or before a version, with its first key."""
        try:
            first = self._blocks.maxKey(key)
        except ValueError:  # all are greater, or there is none
            return key, None
        data = self._blocks[first].data
        if data is not self._known[0]:
            self._known = data, Block(data)
        return first, self._known[1]

    def _keep(self, first: int, records: Sequence[Record | None]) -> None:
        data = _packed(records)
        packet = self._blocks.get(first)
        if packet is None:
            self._blocks[first] = Packet(data)
        else:
            packet.data = data

    def _unite(self, start: int, end: int) -> None:
        """Make one block of the blocks of a range."""
        records: list[Record | None] = []
        for first in list(self._blocks.keys(start, end)):
            records += [None] * (first - start - len(records))
            records += Block(self._blocks.pop(first).data).all()
        self._keep(start, records)
