"""Delta documents: what one version changed in one document, as a value, and how they hang together."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, fields
from typing import Any

from ..names import Places
from ..store.changesets import Row
from ..store.contents import Contents
from ..store.entries import Entries
from ..store.records import Record
from ..store.tree import NO_VERSION, parent_of
from ..stored import StoredHistory
from ..values import hash_of


@dataclass(frozen=True, slots=True)
class DeltaDocument:
    """What one version changed in one document.

    Attributes:
        document_id: The document.
        collection_version_id: Number of the version on its branch.
        branch: Name of the branch.
        timestamp: When it was made.
        forward: Encoded delta from the document before; b"": it was deleted.
        backward: Encoded delta from the document after; b"": it was created.
        prev: Id of the delta before it, of the same document; None: the first of its tree.
        next: Ids of those after it; several where branches part.
        id: What identifies it.
    """

    document_id: str
    collection_version_id: int
    branch: str
    timestamp: datetime.datetime
    forward: bytes
    backward: bytes
    prev: bytes | None
    next: tuple[bytes, ...]
    id: bytes = b""

    def __getitem__(self, attribute: str) -> Any:
        """Return a field by its name; None where there is none of this name."""
        known = {field.name for field in fields(self)}
        return getattr(self, attribute) if attribute in known else None


#: Keys of ``StoredHistory.settings`` that hold a tree (key of a version, document id) -> (id, encoded time)
#: of deltas without a version's record, and one id -> (key, document id).
NOTES = "delta notes"
PLACES = "delta places"


def delta_id(stored: StoredHistory, contents: Contents, key: int, document_id: str) -> bytes:
    """Return what identifies the delta of a document at a version: 16 bytes, or what it was given."""
    noted = stored.settings.get(NOTES, {}).get((key, document_id))
    if noted is not None:
        return bytes(noted[0])
    record = Record.unpacked(stored.records[key])
    return hash_of(contents.codec.encode((record.id, document_id)))


def delta_time(stored: StoredHistory, contents: Contents, key: int, document_id: str) -> datetime.datetime:
    """Return when the delta of a document at a version was made; of a version with a record in UTC."""
    noted = stored.settings.get(NOTES, {}).get((key, document_id))
    if noted is not None:
        kept: datetime.datetime = contents.codec.decode(noted[1])
        return kept
    record = Record.unpacked(stored.records[key])
    return datetime.datetime.fromtimestamp(record.time_us / 1_000_000, datetime.UTC)


def place_of(contents: Contents, wanted: bytes, document_id: str) -> tuple[int, str] | None:
    """Return (version, document) of the delta of an id; None where there is none.

    Args:
        contents: Of the history.
        wanted: The id.
        document_id: Whose delta it is thought to be, where it is one of a version with a record.
    """
    stored = contents.stored
    noted: tuple[int, str] | None = stored.settings.get(PLACES, {}).get(wanted)
    known = DeltaTree(stored, contents, document_id if noted is None else noted[1]).prev
    if noted is not None:
        return noted if noted[0] in known else None
    for key in known:
        if key in stored.records and delta_id(stored, contents, key, document_id) == wanted:
            return key, document_id
    return None


class DeltaTree:
    """The deltas of one document: which comes before which. It is worked out, not stored.

    Args:
        stored: The history.
        contents: Of it.
        document_id: The document.
    """

    def __init__(self, stored: StoredHistory, contents: Contents, document_id: str) -> None:
        self._stored, self._contents, self._document_id = stored, contents, document_id
        self.prev: dict[int, int | None] = {}
        self.next: dict[int, list[int]] = {}
        history = stored.documents.get(document_id)
        if history is None:
            return
        entries = Entries(history)
        for key in sorted(entry.key for entry in entries.all()):
            parent = parent_of(contents.forks, key)
            before = None if parent == NO_VERSION else entries.newest(contents.forks, parent)
            self.prev[key] = None if before is None else before.key
            if before is not None:
                self.next.setdefault(before.key, []).append(key)

    def document(self, key: int, row: Row, places: Places) -> DeltaDocument:
        """Return the delta document of a row."""
        stored, contents, one = self._stored, self._contents, self._document_id
        number, branch = places[key]
        before = self.prev[key]
        return DeltaDocument(
            one,
            number,
            branch,
            delta_time(stored, contents, key, one),
            row.forward,
            row.backward,
            None if before is None else delta_id(stored, contents, before, one),
            tuple(delta_id(stored, contents, after, one) for after in self.next.get(key, ())),
            delta_id(stored, contents, key, one),
        )
