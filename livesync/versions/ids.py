"""Ids of documents: which of them can be kept, and travel."""

from __future__ import annotations

from typing import Final

from ..errors import UnkeptValue

#: Characters of an id, at most.
MOST_CHARACTERS: Final = 4_000


def check_id(document_id: object) -> None:
    """Make sure that a document can be kept under its id.

    Raises:
        UnkeptValue: It is no text, is too long, or holds half a character.
    """
    if not isinstance(document_id, str):
        kind = type(document_id).__name__
        raise UnkeptValue(f"ids of documents are text; {document_id!r} is of type {kind}")
    if len(document_id) > MOST_CHARACTERS:
        begin, length = document_id[:40], len(document_id)
        raise UnkeptValue(f"ids have {MOST_CHARACTERS:,} characters at most; {begin!r}… has {length:,}")
    if not document_id.isascii() and any("\ud800" <= letter <= "\udfff" for letter in document_id):
        raise UnkeptValue(f"the id {document_id!r} holds half a character (a lone surrogate)")
