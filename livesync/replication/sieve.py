"""What tells of most keys that a tree has not that it has not, without looking into the tree.

A Bloom filter (B. H. Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, 1970) that grows: one
that is full stays as it is, and another one, four times as large, takes what comes after it. Of a hundred
keys that were never put into it, one or two are taken for such that were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final
from zlib import crc32

from persistent import Persistent

#: Bits of a segment, of which two of them are told apart by the last bits of a hash.
_SEGMENT_BITS: Final = 1 << 18
_MASK: Final = _SEGMENT_BITS - 1
_WIDTH: Final = 18

#: Bits for each key that a layer is made for.
_BITS_A_KEY: Final = 16

#: Segments of the first layer, and how many times as many the next one has.
_FIRST: Final = 2
_TIMES: Final = 4

#: An odd number of 64 bits, without a pattern: the golden ratio's (D. E. Knuth, The Art of Computer
#: Programming, volume 3, 6.4).
_SPREAD: Final = 0x9E3779B97F4A7C15

#: Segments that are changed one after the other, after which there is a pause.
_PAUSE_SEGMENTS: Final = 32


class Segment(Persistent):
    """Some of a layer's bits.

    Attributes:
        bits: Bit ``n`` is bit ``n & 7`` of byte ``n >> 3``.
    """

    def __init__(self) -> None:
        self.bits = bytes(_SEGMENT_BITS // 8)

    def __getstate__(self) -> bytes:
        return self.bits

    def __setstate__(self, state: bytes) -> None:
        self.bits = state


class Layer(Persistent):
    """A Bloom filter that does not grow: three bits for each key, in one segment.

    Attributes:
        segments: As many as a power of two.
        count: How many keys were put into it.
    """

    def __init__(self, size: int) -> None:
        self.segments = tuple(Segment() for _ in range(size))
        self.count = 0

    @property
    def is_full(self) -> bool:
        """Whether it has the keys that it was made for."""
        return self.count * _BITS_A_KEY >= len(self.segments) * _SEGMENT_BITS

    def find(self, hashes: Mapping[str, int]) -> set[str]:
        """Return the keys that it may have, of keys with their hashes."""
        found = set()
        last = len(self.segments) - 1
        by_segment: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for pair in hashes.items():
            by_segment[pair[1] >> 3 * _WIDTH & last].append(pair)
        for place, pairs in by_segment.items():
            bits = self.segments[place].bits
            for key, number in pairs:
                spot = number & _MASK
                if not bits[spot >> 3] >> (spot & 7) & 1:
                    continue  # so it is with most keys that it has not
                spot, other = number >> _WIDTH & _MASK, number >> 2 * _WIDTH & _MASK
                if bits[spot >> 3] >> (spot & 7) & bits[other >> 3] >> (other & 7) & 1:
                    found.add(key)
            self.segments[place]._p_deactivate()  # all of them together take much memory
        return found

    def add(self, numbers: Collection[int], pause: Callable[[], object] | None = None) -> None:
        """Put keys with these hashes into it; each segment is changed once."""
        last = len(self.segments) - 1
        by_segment: dict[int, list[int]] = defaultdict(list)
        for number in numbers:
            by_segment[number >> 3 * _WIDTH & last].append(number)
        self.count += len(numbers)
        changed: list[Segment] = []
        for place, wanted in by_segment.items():
            segment = self.segments[place]
            bits = bytearray(segment.bits)
            for number in wanted:
                for spot in (number & _MASK, number >> _WIDTH & _MASK, number >> 2 * _WIDTH & _MASK):
                    bits[spot >> 3] |= 1 << (spot & 7)
            segment.bits = bytes(bits)
            changed.append(segment)
            if pause is not None and len(changed) == _PAUSE_SEGMENTS:
                pause()
                for each in changed:
                    each._p_deactivate()
                changed.clear()


class Sieve(Persistent):
    """A Bloom filter that grows. What was put into it once stays in it.

    Attributes:
        layers: The last one is the one that is filled.
    """

    def __init__(self) -> None:
        self.layers: tuple[Layer, ...] = ()

    def find(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that may have been put into it; the others were not."""
        hashes = {key: _hash(key) for key in keys}
        return set().union(*(layer.find(hashes) for layer in self.layers))

    def missing(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the hashes of those keys that it has not."""
        hashes = {key: _hash(key) for key in keys}
        for layer in self.layers:
            for key in layer.find(hashes):
                del hashes[key]
        return hashes

    def add(self, numbers: Collection[int], pause: Callable[[], object] | None = None) -> None:
        """Put keys into it.

        Args:
            numbers: Their hashes, as :meth:`missing` has returned them.
            pause: Called after some segments: may let go of those that were changed.
        """
        if not self.layers or self.layers[-1].is_full:
            size = _TIMES * len(self.layers[-1].segments) if self.layers else _FIRST
            self.layers = (*self.layers, Layer(size))
        self.layers[-1].add(numbers, pause)


def _hash(key: str) -> int:
    """Return 96 bits for a key: nothing but time depends on how well they are spread."""
    data = key.encode()
    return (crc32(data) << 32 | crc32(data[::-1])) * _SPREAD >> 32
