"""Checksums before stored bytes: whoever reads them finds a damaged byte, whichever it is.

CRC-32, as ``zlib`` has it, finds every single damaged byte and every run of up to four. It is no proof
against somebody who means to deceive: that is for the hashes of contents and versions.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from ...errors import InvalidCollectionState

_WIDTH: Final = 4


def with_sum(data: bytes) -> bytes:
    """Return bytes with their checksum before them."""
    return crc32(data).to_bytes(_WIDTH, "big") + data


def without_sum(stored: bytes, what: str) -> bytes:
    """Return the bytes of :func:`with_sum`.

    Args:
        stored: As they were stored.
        what: What they are, for the error.

    Raises:
        InvalidCollectionState: They are damaged.
    """
    data = stored[_WIDTH:]
    if crc32(data) != int.from_bytes(stored[:_WIDTH], "big"):
        raise InvalidCollectionState(f"{what} is damaged: its checksum differs")
    return data
