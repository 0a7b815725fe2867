"""Checks of documents in change sets: 64 bits of their canonical bytes, compared at every checkout.

They are there for faults and for edits that nobody told of, a hundred times for the price of few content
hashes: XXH3, as ``xxhash`` has it, is no proof against somebody who means to deceive. That is for the hashes,
which decide wherever a check differs or is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

#: Bytes of a check.
CHECK: Final = 8

#: The check of no document.
NOTHING: Final = bytes(CHECK)

#: In place of a check: of a document that was erased, or that was written without ``xxhash``.
UNKNOWN: Final = b"\xff" * CHECK


def _no_check(body: bytes) -> bytes:
    return b""


def _found() -> Callable[[bytes], bytes]:
    try:
        digest: Callable[[bytes], bytes] = import_module("xxhash").xxh3_64_digest
    except ImportError:  # without it hashes decide everything, which takes longer
        return _no_check
    return digest


#: Returns the check of a document's canonical bytes; b"", which is never kept, without ``xxhash``.
check_of: Final = _found()


def kept_check(content_hash: bytes, body: bytes) -> bytes:
    """Return what is kept of a document.

    Args:
        content_hash: b"": there is none.
        body: Its canonical bytes; b"": they are not known.
    """
    if not content_hash:
        return NOTHING
    check = check_of(body) if body else UNKNOWN
    return check if len(check) == CHECK and check != NOTHING else UNKNOWN
