"""What is put aside: changed documents as they were, in one object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ormsgpack

from .diffs.threeway import ABSENT
from .packets import Packet
from .store.contents import Contents
from .store.sums import with_sum, without_sum
from .store.writing import encoded


def packed_stash(contents: Contents, documents: Iterable[tuple[str, Any]]) -> Packet:
    """Return documents, ``ABSENT`` included, as they are put aside.

    Raises:
        UnkeptValue: One of them holds what cannot be kept.
    """
    rows = [
        [document_id, None if value is ABSENT else encoded(contents, document_id, value)]
        for document_id, value in documents
    ]
    return Packet(with_sum(contents.frames.pack(ormsgpack.packb(rows))))


def applied_stash(contents: Contents, packet: Packet) -> list[tuple[str, Any]]:
    """Return the documents of :func:`packed_stash`."""
    rows = ormsgpack.unpackb(contents.frames.unpack(without_sum(packet.data, "what is stashed")))
    return [
        (document_id, ABSENT if body is None else contents.codec.decode(body)) for document_id, body in rows
    ]
