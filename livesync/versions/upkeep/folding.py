"""Folding versions into the one that comes after them: what they changed becomes part of what that one did.

What documents are at any version that keeps its contents stays the same, to the bit, and so do the hashes of
what was erased. The entries of the versions that are folded go, or are handed on to their heir; change sets
are composed, and what was changed and changed back is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...errors import InvalidCollectionState
from ..diffs.threeway import ABSENT
from ..store.changesets import ERASED, GONE, Row
from ..store.contents import Contents, State
from ..store.entries import CHAINED, PACKED, Entries, Entry, Kind, rebuilt
from ..store.writing import LONGEST_CHAIN, MOST_ROWS, deltas_between, new_row


class Fold(NamedTuple):
    """Versions to be folded.

    Attributes:
        versions: They follow each other along first parents, oldest first, and nothing else follows them.
        heir: The version after the last of them.
    """

    versions: tuple[int, ...]
    heir: int


class _Folded(NamedTuple):
    """One document, worked out: its entries, and its row in each heir's change set, if it has one."""

    entries: list[Entry]
    rows: dict[int, Row | None]


def fold(contents: Contents, folds: Sequence[Fold]) -> None:
    """Fold versions, within the caller's transaction; their records, and who is who's parent, stay.

    Args:
        contents: Of the history.
        folds: The newest last where one follows another.

    Raises:
        InvalidCollectionState: What is stored is damaged; nothing was written.
    """
    stored = contents.stored
    touched = _touched(contents, folds)
    folded = {document_id: _folded(contents, document_id, touched[document_id]) for document_id in touched}
    rows = {one.heir: {row.document_id: row for row in contents.rows(one.heir)} for one in folds}
    for document_id, worked_out in folded.items():
        for heir, row in worked_out.rows.items():
            rows[heir].pop(document_id, None)
            if row is not None:
                rows[heir][document_id] = row
        if not rebuilt(stored.documents[document_id], worked_out.entries):
            del stored.documents[document_id]
    for one in folds:
        for key in (*one.versions, one.heir):
            stored.changes.pop(key, None)
    for heir, found in rows.items():
        if found:
            ordered = [row for _, row in sorted(found.items())]
            contents.keep_rows(heir, ordered)


def _touched(contents: Contents, folds: Sequence[Fold]) -> dict[str, dict[Fold, None]]:
    """Return the documents that folds concern, with these in their order."""
    touched: dict[str, dict[Fold, None]] = {}
    for one in folds:
        for key in one.versions:
            for document_id, _, _ in contents.short_hashes(key):
                touched.setdefault(document_id, {})[one] = None
    return touched


def _folded(contents: Contents, document_id: str, folds: Iterable[Fold]) -> _Folded:
    entries = _entries(contents, document_id)
    rows: dict[int, Row | None] = {}
    redirected: dict[int, int] = {}
    for one in folds:
        keys = [key for key in (*one.versions, one.heir) if key in entries]
        if not keys:
            raise InvalidCollectionState(
                f"document {document_id!r} has no entry where its change sets say so"
            )
        last = entries[keys[-1]]
        for key in keys:
            del entries[key]
        old = contents.state(document_id, contents.base_of(one.versions[0]))
        new = contents.state(document_id, one.heir)
        if old.hash == new.hash:
            redirected[last.key] = old.key
            rows[one.heir] = None
            continue
        redirected[last.key] = one.heir
        rows[one.heir] = row = _row(contents, document_id, old, new)
        entries[one.heir] = _handed_on(contents, one.heir, last, old, new, row)
    kept = {key: _redirected(entry, redirected) for key, entry in entries.items()}
    _shorten(contents, document_id, kept)
    return _Folded(list(kept.values()), rows)


def _entries(contents: Contents, document_id: str) -> dict[int, Entry]:
    history = contents.histories.get(document_id)
    try:
        return {} if history is None else {entry.key: entry for entry in Entries(history).all()}
    except InvalidCollectionState as exc:
        raise InvalidCollectionState(f"document {document_id!r}: {exc}") from exc


def _row(contents: Contents, document_id: str, old: State, new: State) -> Row:
    encode = contents.codec.encode
    forward, backward = GONE if not new.hash else ERASED, GONE if not old.hash else ERASED
    if old.value is not ABSENT and new.value is not ABSENT:
        forward, backward = deltas_between(contents, document_id, old.value, new.value)
    elif new.value is not ABSENT:
        forward = encode([None, new.value])
    elif old.value is not ABSENT:
        backward = encode([None, old.value])
    return new_row(document_id, (forward, backward), old, new.hash, new.body)


def _handed_on(contents: Contents, heir: int, last: Entry, old: State, new: State, row: Row) -> Entry:
    """Return the heir's entry: what the last one said, with a delta from the state before all of them."""
    if last.kind == Kind.SAME:
        return last._replace(key=heir)
    if last.kind == Kind.ROW:
        is_row = old.rows < MOST_ROWS and row.forward not in (GONE, ERASED)
        return Entry(heir, Kind.ROW, old.key, new.hash, b"") if is_row else _whole(contents, heir, new)
    if last.kind != Kind.DELTA:
        return last._replace(key=heir, up=heir)
    # no chain of deltas grows by it
    is_short = old.deltas < new.deltas and old.weight + len(row.forward) <= old.base
    if old.value is not ABSENT and is_short:
        return Entry(heir, Kind.DELTA, old.key, new.hash, row.forward)
    return _whole(contents, heir, new)


def _whole(contents: Contents, key: int, state: State) -> Entry:
    body = contents.frames.pack(contents.codec.encode(state.value), contents.dictionary)
    return Entry(key, Kind.WHOLE, key, state.hash, body)


def _redirected(entry: Entry, redirected: Mapping[int, int]) -> Entry:
    up = entry.up
    while up in redirected and redirected[up] != up:
        up = redirected[up]
    return entry if up == entry.up else entry._replace(up=up)


def _shorten(contents: Contents, document_id: str, entries: dict[int, Entry]) -> None:
    """Make deltas whole documents where a chain of them has become too long."""
    lengths: dict[int, int] = {PACKED: 0}
    for key in list(entries):
        way = []
        at = key
        while at not in lengths and (entry := entries.get(at)) and entry.kind in CHAINED:
            way.append(at)
            at = entries[at].up
        length = lengths.setdefault(at, 0)
        for one in reversed(way):
            length += entries[one].kind in (Kind.DELTA, Kind.ROW)
            if length > LONGEST_CHAIN:
                entries[one] = _whole(contents, one, contents.state(document_id, one))
                length = 0
            lengths[one] = length
