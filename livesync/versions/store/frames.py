"""Compressed bytes: zstd frames that may use a dictionary trained on the documents.

A frame is stored with the number of its dictionary before it (0: none), so that a dictionary can be replaced
by a newer one without touching what was written before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from ...errors import InvalidCollectionState, UsageError
from ..packets import Packet
from .sums import without_sum

try:
    import zstandard
except ImportError:  # pragma: no cover - the extra is not installed
    zstandard = None  # type: ignore[assignment]

T = TypeVar("T")

#: Bytes of a dictionary at most, and how much of the documents it may be.
_DICTIONARY_BYTES: Final = 65_536
_SHARE: Final = 32

#: A dictionary is no smaller.
_FEWEST_BYTES: Final = 4_096

#: Documents that a dictionary is trained on at most, how much of each, and from how many on it is worth it.
_SAMPLES: Final = 2_000
SAMPLE_BYTES: Final = 4_096
FEWEST_SAMPLES: Final = 100

#: How densely bytes are packed, as zstd counts: for what every version writes, which is to be fast and is
#: nearly as small; as a rule; and for what is written once and is much at a time.
QUICK: Final = 1
_USUAL: Final = 3
DENSE: Final = 9
_LEVELS: Final = (QUICK, _USUAL, DENSE)

#: Serial of an object that no transaction has stored.
_NEVER_STORED: Final = b"\0" * 8


def sampled(documents: Sequence[T]) -> Sequence[T]:
    """Return those of many that a dictionary is trained on, spread over all."""
    step = max(1, len(documents) // _SAMPLES)
    return documents[::step][:_SAMPLES]


def train(samples: Sequence[bytes], total: int) -> bytes | None:
    """Return a dictionary for such bytes; None where they are too few, or too much alike.

    Args:
        samples: Some of the documents.
        total: Bytes of all documents: what a dictionary takes is to be small beside what it saves.
    """
    if len(samples) < FEWEST_SAMPLES:
        return None
    size = min(_DICTIONARY_BYTES, max(_FEWEST_BYTES, total // _SHARE))
    try:
        made = _zstd().train_dictionary(size, [one[:SAMPLE_BYTES] for one in samples])
    except zstandard.ZstdError:
        return None
    data: bytes = made.as_bytes()
    return data


class Frames:
    """Packs and unpacks with the dictionaries of one history.

    Args:
        dictionaries: Number -> :class:`~livesync.versions.stored.Packet`.

    Raises:
        UsageError: ``zstandard`` is not installed.
    """

    def __init__(self, dictionaries: Mapping[int, Packet]) -> None:
        zstd = _zstd()
        self._dictionaries = dictionaries
        self._plain = {level: zstd.ZstdCompressor(level=level) for level in _LEVELS}
        self._with: dict[int, tuple[Packet, Any, Any]] = {}
        self._unpack = zstd.ZstdDecompressor()

    def _of(self, number: int) -> tuple[Packet, Any, Any]:
        """Return a dictionary, the compressors that know it, by level, and the decompressor."""
        known = self._with.get(number)
        if known is not None and known[0]._p_serial not in (None, _NEVER_STORED):
            return known
        found = self._dictionaries.get(number)
        if found is None:
            raise InvalidCollectionState(f"dictionary {number} of this history is missing")
        # another object: the transaction that made the one we know was aborted
        if known is None or known[0] is not found:
            data = zstandard.ZstdCompressionDict(without_sum(found.data, f"dictionary {number}"))
            known = self._with[number] = (
                found,
                {level: zstandard.ZstdCompressor(level=level, dict_data=data) for level in _LEVELS},
                zstandard.ZstdDecompressor(dict_data=data),
            )
        return known

    def pack(self, data: bytes, number: int = 0, level: int = _USUAL) -> bytes:
        """Return a frame.

        Args:
            data: What is to be packed.
            number: Names the dictionary; 0: none.
            level: How densely, one of those above.
        """
        compressors = self._of(number)[1] if number else self._plain
        return bytes((number,)) + bytes(compressors[level].compress(data))

    def unpack(self, frame: bytes) -> bytes:
        """Return what is in a frame.

        Raises:
            InvalidCollectionState: It is damaged.
        """
        number = frame[0] if frame else 0
        decompressor = self._of(number)[2] if number else self._unpack
        try:
            data: bytes = decompressor.decompress(frame[1:])
        except zstandard.ZstdError as exc:
            raise InvalidCollectionState(f"stored bytes are damaged: {exc}") from exc
        return data


def _zstd() -> Any:
    if zstandard is None:
        raise UsageError("a history needs zstandard: pip install 'zodb-livesync[history]'")
    return zstandard
