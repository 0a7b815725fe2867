"""What people say about a version, as it is kept: text and plain values, short enough to travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import UnkeptValue
from .store.writing import Why
from .values import CODEC

#: Bytes of all that is said about a version, at most: it travels in one piece.
MOST_BYTES: Final = 1_000_000

#: Characters of what was put together from what others have said, at most.
_MOST_GATHERED: Final = 100_000


def gathered(text: str) -> str:
    """Return what was put together from notes, messages or names, cut where it is very long."""
    return text if len(text) <= _MOST_GATHERED else text[:_MOST_GATHERED] + " …"


def said(author: str, time_us: int, message: str, metadata: Mapping[str, Any]) -> Why:
    """Return what is said about a version.

    Raises:
        TypeError: The author or the message is no text, or a key of the metadata is none.
        ValueError: They hold half a character (a lone surrogate), or are too long all together.
        UnkeptValue: The metadata hold what cannot be kept.
    """
    for name, text in (("author", author), ("message", message)):
        if not isinstance(text, str):
            raise TypeError(f"the {name} of a version is text, not {type(text).__name__}")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"the {name} of a version holds half a character (a lone surrogate)")
    if not all(isinstance(key, str) for key in metadata):
        raise TypeError("the keys of a version's metadata are text")
    kept = dict(metadata)
    try:
        size = len(CODEC.encode(kept)) + len(author.encode()) + len(message.encode())
    except UnkeptValue as exc:
        raise UnkeptValue(f"the metadata of a version: {exc}", exc.path) from exc
    if size > MOST_BYTES:
        raise ValueError(f"what is said about a version is {size:,} bytes; at most {MOST_BYTES:,} are kept")
    return Why(str(author), time_us, str(message), kept)
