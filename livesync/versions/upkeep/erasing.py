"""Erasing a document's content from all versions, for people who ask that data be forgotten.

What stays is that there was something: ids of documents and versions, hashes of contents, times and
messages. So the tree of versions is whole, and all ids still verify. When a document was erased is noted, so
that another database, which still has it, does not bring it back. What a document said is gone from its
entries, from the packs of first states, from change sets, from the stash, and from the dictionary, which is
trained anew where it may hold something of it: that writes all first states anew. A storage keeps earlier
revisions until the database is packed.
"""

from __future__ import annotations

import time
from typing import Any, Final

from BTrees.OOBTree import OOBTree

from ...errors import InvalidOperation
from ..several.parts import addresses
from ..stash import applied_stash, packed_stash
from ..store.changesets import ERASED, GONE, Row, rows_of
from ..store.checks import NOTHING, UNKNOWN
from ..store.contents import Contents
from ..store.entries import Entries, Entry, Kind, rewritten
from ..store.frames import Frames, sampled
from ..stored import DELTAS_KEY, StoredHistory, find_histories, readable
from ..values import CODEC, Codec, hash_of

#: Key of ``StoredHistory.settings`` that holds a tree: id -> when it was erased, microseconds of the epoch.
NOTED: Final = "erased"


def erase(contents: Contents, document_id: str, now_us: int) -> int:
    """Erase what a document says at all versions, within the caller's transaction. Again does no harm.

    Args:
        contents: Of the history.
        document_id: The document; that there is one here is not needed.
        now_us: When, in microseconds of the epoch: what was made before then stays erased, if it comes from
            elsewhere later.

    Returns:
        How many of its states were erased.

    Raises:
        InvalidOperation: A merge waits for its conflicts to be resolved: it may hold the document.
        InvalidCollectionState: What is stored is damaged.
    """
    stored = contents.stored
    if stored.references.conflicts is not None:
        raise InvalidOperation(
            f"a merge in {stored.name!r} waits for its conflicts to be resolved: resolve or abort it first"
        )
    if NOTED not in stored.settings:
        stored.settings = {**stored.settings, NOTED: OOBTree()}
    stored.settings[NOTED][document_id] = now_us
    count = _erase_entries(contents, document_id) + _erase_first(contents, document_id)
    _erase_stashed(contents, document_id)
    if count and contents.is_learned(document_id):
        _learn_anew(contents)
    return count


def stays_erased(contents: Contents, document_id: str, content_hash: bytes, time_us: int) -> bool:
    """Tell whether what a version from elsewhere says of a document was erased here, and is not to come back.

    It is where the version was made before the document was erased, or says what was erased.

    Args:
        contents: Of the history.
        document_id: The document.
        content_hash: Of what it says.
        time_us: When the version was made, in microseconds of the epoch.
    """
    noted = contents.stored.settings.get(NOTED, {}).get(document_id)
    if noted is None:
        return False
    return bool(time_us <= noted) or content_hash in _erased_hashes(contents, document_id)


def _erased_hashes(contents: Contents, document_id: str) -> set[bytes]:
    history = contents.stored.documents.get(document_id)
    entries = [] if history is None else Entries(history).all()
    found = {one.hash for one in entries if one.kind == Kind.ERASED}
    first = contents.pack_of(document_id).get(document_id, b"")
    return {*found, first[1:]} if first[:1] == ERASED else found


def forget(root: Any, document_id: str, codec: Codec = CODEC, now_us: int | None = None) -> tuple[str, ...]:
    """Erase a document from all histories of a database, and from deltas of collections without versions.

    Args:
        root: Of the database.
        document_id: The document.
        codec: Encodes documents.
        now_us: As of :func:`erase`; None: now.

    Returns:
        The names of those that had it.

    Raises:
        InvalidOperation: As :func:`erase`; nothing was erased from the collections after that one.
    """
    histories: list[tuple[str, StoredHistory]] = sorted((find_histories(root) or {}).items())
    histories += sorted(root.get(DELTAS_KEY, {}).items())
    for _, stored in histories:
        readable(stored)  # before anything is erased
    when = time.time_ns() // 1_000 if now_us is None else now_us
    return tuple(name for name, stored in histories if forget_in(stored, document_id, codec, when))


def forget_in(
    stored: StoredHistory, document_id: str, codec: Codec = CODEC, now_us: int | None = None
) -> bool:
    """Erase a document from one history; return whether it had it. See :func:`forget`."""
    when = time.time_ns() // 1_000 if now_us is None else now_us
    return bool(sum(erase(Contents(stored, codec), one, when) for one in addresses(stored, document_id)))


def _erase_entries(contents: Contents, document_id: str) -> int:
    history = contents.stored.documents.get(document_id)
    if history is None:
        return 0
    found = list(Entries(history).all())
    erased: dict[int, Entry | None] = {
        one.key: Entry(one.key, Kind.ERASED, one.key, one.hash, b"")
        for one in found
        if one.kind not in (Kind.GONE, Kind.ERASED)
    }
    rewritten(history, erased)
    for one in found:
        _erase_row(contents, document_id, one.key)
    return len(erased)


def _erase_row(contents: Contents, document_id: str, key: int) -> None:
    rows = [_erased_row(row) if row.document_id == document_id else row for row in contents.rows(key)]
    contents.keep_rows(key, rows)


def _erased_row(row: Row) -> Row:
    return row._replace(
        forward=GONE if row.forward == GONE else ERASED,
        backward=GONE if row.backward == GONE else ERASED,
        check_before=NOTHING if row.check_before == NOTHING else UNKNOWN,
        check_after=NOTHING if row.check_after == NOTHING else UNKNOWN,
    )


def _erase_first(contents: Contents, document_id: str) -> int:
    found = contents.pack_of(document_id)
    body = found.get(document_id)
    if body is None or body[:1] == ERASED:
        return 0
    contents.keep_pack(_flat({**found, document_id: ERASED + hash_of(body)}))
    return 1


def _flat(pack: dict[str, bytes]) -> list[Any]:
    return [part for item in pack.items() for part in item]


def _erase_stashed(contents: Contents, document_id: str) -> None:
    references = contents.stored.references
    if references.stash is None:
        return
    kept = [one for one in applied_stash(contents, references.stash) if one[0] != document_id]
    references.stash = packed_stash(contents, kept) if kept else None


def _learn_anew(contents: Contents) -> None:
    """Train the dictionary without what was erased, and write anew what is packed with it."""
    stored = contents.stored
    old = contents.dictionary
    packs = list(contents.packs())
    wholes = {
        document_id: [
            (one, contents.frames.unpack(one.payload))
            for one in Entries(history).all()
            if one.kind == Kind.WHOLE
        ]
        for document_id, history in stored.documents.items()
    }
    before = Frames({old: stored.dictionaries.pop(old)})
    bodies = [item for pack in packs for item in pack.items() if item[1][:1] != ERASED]
    contents.frames = Frames(stored.dictionaries)
    contents.learn(sampled(bodies), sum(len(body) for _, body in bodies), old % 255 + 1)
    for pack in packs:
        contents.keep_pack(_flat(pack))
    for key, change in stored.changes.items():
        contents.keep_rows(key, list(rows_of(change, before)))
    for document_id, found in wholes.items():
        if found:
            rewritten(stored.documents[document_id], _repacked(contents, found))


def _repacked(contents: Contents, found: list[tuple[Entry, bytes]]) -> dict[int, Entry | None]:
    number = contents.dictionary
    return {one.key: one._replace(payload=contents.frames.pack(body, number)) for one, body in found}
