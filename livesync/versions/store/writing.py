"""Writing a version: everything is worked out before the first object is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from ...errors import InvalidCollectionState, UnkeptValue
from ..diffs import delta
from ..diffs.threeway import ABSENT
from ..ids import check_id
from ..shelves import History
from ..values import hash_of
from .changesets import ERASED, GONE, NOTHING, REPLACING, SHORT, Row
from .checks import kept_check
from .contents import Contents, State
from .entries import Entry, Kind, append
from .frames import SAMPLE_BYTES, sampled
from .records import Counts, Record, RowSums, made_id, new_state, state_change

#: Makes named tuples of all their fields where many are made: it takes half the time of calling their class.
_NEW: Final = tuple.__new__

#: Yields (id, document) for each of some ids.
Read = Callable[[Iterable[str]], Iterator[tuple[str, Any]]]

#: Bytes of first documents that are written before memory is freed.
_BREATH_BYTES: Final = 16_777_216

#: Deltas that a read applies at most.
LONGEST_CHAIN: Final = 16

#: Bytes of a delta from which on it lies in the change set alone, and how many such a read looks up at most.
LARGE: Final = 96
MOST_ROWS: Final = 2


class Change(NamedTuple):
    """What a document becomes.

    Attributes:
        document_id: The document.
        value: The document, or :data:`~livesync.versions.diffs.threeway.ABSENT`.
        same: Key of an entry of this document that says the same, where one is known: of a merge.
        told: Content hash that it has for sure, as a version that came from elsewhere says; b"": there is
            none. With ``ABSENT`` and a hash there is a document, whose content was erased.
    """

    document_id: str
    value: Any
    same: int | None = None
    told: bytes | None = None


class Why(NamedTuple):
    """What people say about a version."""

    author: str
    time_us: int
    message: str
    metadata: Mapping[str, Any] = {}


#: One document of a version, worked out: its history, the entry that this gets, the version's row, and the
#: content hash before it. A plain tuple, as one is made for each document.
_Written = tuple[History, Entry, Row, bytes]


def encoded(contents: Contents, document_id: str, value: Any) -> bytes:
    """Return a document's canonical bytes.

    Raises:
        UnkeptValue: It holds what cannot be kept; the text names the document and the path. Or it has an id
            that cannot be kept.
    """
    check_id(document_id)
    try:
        return contents.codec.encode(value)
    except UnkeptValue as exc:
        raise UnkeptValue(f"document {document_id!r}: {exc}", exc.path) from exc


def differs(contents: Contents, document_id: str, value: Any, key: int) -> bool:
    """Tell whether a document is another one than at a version.

    Raises:
        UnkeptValue: It holds what cannot be kept.
    """
    known = contents.hash(document_id, key)
    if value is ABSENT:
        return known != b"" and not contents.is_erased(document_id, key)
    return hash_of(encoded(contents, document_id, value)) != known


def learn_first(contents: Contents, ids: Sequence[str], read: Read) -> bool:
    """Train a dictionary on some documents of a first version; tell whether all are too much for memory.

    Args:
        contents: Of a history that has none.
        ids: Of all documents, sorted.
        read: Yields the documents of ids, in this order.

    Raises:
        UnkeptValue: A document holds what cannot be kept.
    """
    samples, size = [], 0
    for document_id, body in _bodies(contents, sampled(ids), read):
        samples.append((document_id, body[:SAMPLE_BYTES]))
        size += len(body)
    size = size * len(ids) // max(1, len(samples))
    contents.learn(samples, size, 1)
    return size > _BREATH_BYTES


def write_root(
    contents: Contents, key: int, ids: Sequence[str], read: Read, why: Why, breathe: Callable[[], None]
) -> Record:
    """Write the first version, document by document.

    Args:
        contents: Of a history that has none, and has learned from :func:`learn_first`.
        key: The version.
        ids: Of all documents, sorted.
        read: Yields the documents of ids, in this order.
        why: What is said about it.
        breathe: Called now and then: may put what was written so far out of memory.

    Raises:
        UnkeptValue: A document holds what cannot be kept; what was written is to be taken back.
    """
    return _write_first(contents, key, _bodies(contents, ids, read), why, breathe)


def _bodies(contents: Contents, ids: Sequence[str], read: Read) -> Iterator[tuple[str, bytes]]:
    return ((one, encoded(contents, one, value)) for one, value in read(ids) if value is not ABSENT)


def write_first(contents: Contents, key: int, bodies: list[tuple[str, bytes]], why: Why) -> Record:
    """Write the first version of documents that are encoded; one that was erased is :func:`erased_body`."""
    bodies.sort(key=lambda one: one[0])
    whole = [one for one in bodies if one[1][:1] != ERASED]
    contents.learn(sampled(whole), sum(len(body) for _, body in whole), 1)
    return _write_first(contents, key, bodies, why, lambda: None)


def _write_first(
    contents: Contents, key: int, bodies: Iterable[tuple[str, bytes]], why: Why, breathe: Callable[[], None]
) -> Record:
    sums = RowSums()

    def counted() -> Iterator[tuple[str, bytes]]:
        size = 0
        for document_id, body in bodies:
            sums.add((document_id, b"", hash_of_body(body)))
            size += len(body)
            if size > _BREATH_BYTES:
                breathe()
                size = 0
            yield document_id, body

    contents.begin(counted())
    return keep_record(contents, key, (), sums, Counts(created=sums.count), why)


def erased_body(content_hash: bytes) -> bytes:
    """Return what lies in a pack of first states in place of an erased document."""
    return ERASED + content_hash


def hash_of_body(body: bytes) -> bytes:
    """Return the content hash of what lies in a pack of first states."""
    return body[1:] if body[:1] == ERASED else hash_of(body)


def write_version(
    contents: Contents, key: int, parents: Sequence[Record], parent: int, changes: Iterable[Change], why: Why
) -> Record | None:
    """Write a version, if anything differs from its first parent, or it has two.

    Args:
        contents: Of the history.
        key: The version; its line must be known.
        parents: Records of its parents, the first one first.
        parent: Key of the first parent.
        changes: What documents become; those that are the same already are passed over.
        why: What is said about it.

    Returns:
        Its record; None where nothing differs: nothing was written.

    Raises:
        UnkeptValue: A document holds what cannot be kept; nothing was written.
        InvalidCollectionState: A document cannot be read as it was; nothing was written.
    """
    written = []
    for change in sorted(changes, key=itemgetter(0)):
        one = _worked_out(contents, key, parent, change)
        if one is not None:
            written.append(one)
    if not written and len(parents) < 2:
        return None
    hashes = []
    for history, entry, row, before in written:
        append(history, entry)
        hashes.append((row.document_id, before, entry.hash))
    if written:
        contents.keep_rows(key, [row for _, _, row, _ in written])
    created = [before for _, before, _ in hashes].count(b"")
    deleted = [after for _, _, after in hashes].count(b"")
    counts = Counts(created, len(hashes) - created - deleted, deleted)
    return keep_record(contents, key, parents, RowSums(hashes), counts, why)


def write_known(contents: Contents, key: int, record: Record, base: int, changes: Iterable[Change]) -> None:
    """Write a version whose first parent was pruned, and whose record is known.

    Which changes are its own and which those of the versions that were pruned, nobody knows; that its
    documents are those that the record says, its state sum tells.

    Args:
        contents: Of the history.
        key: The version; its line must be known.
        record: Its record.
        base: The last version before it that has contents.
        changes: What documents become against that one.

    Raises:
        InvalidCollectionState: Its documents are others; nothing was written.
    """
    found = (_worked_out(contents, key, base, change) for change in changes)
    written = sorted((one for one in found if one is not None), key=lambda one: one[2].document_id)
    hashes = [(row.document_id, hash_before, entry.hash) for _, entry, row, hash_before in written]
    before = contents.stored.records.known(base).state
    if new_state(before, state_change(hashes)) != record.state:
        raise InvalidCollectionState(
            f"version {record.id.hex()[:12]} holds other documents than its record says"
        )
    for history, entry, _, _ in written:
        append(history, entry)
    if written:
        contents.keep_rows(key, [row for _, _, row, _ in written])
    contents.stored.records.keep(key, record)
    contents.stored.keys[record.id] = key


def write_row(contents: Contents, key: int, parent: int, change: Change) -> Row | None:
    """Add one document to what a version without a record changes; None where it is the same as before.

    Raises:
        UnkeptValue: The document holds what cannot be kept; nothing was written.
        InvalidCollectionState: It cannot be read as it was; nothing was written.
    """
    written = _worked_out(contents, key, parent, change)
    if written is None:
        return None
    history, entry, own, _ = written
    append(history, entry)
    others = [row for row in contents.rows(key) if row.document_id != change.document_id]
    contents.keep_rows(key, sorted([*others, own], key=lambda row: row.document_id))
    return own


def _worked_out(contents: Contents, key: int, parent: int, change: Change) -> _Written | None:
    document_id, value, same, told = change
    body = None if value is ABSENT else encoded(contents, document_id, value)
    after = (told or b"") if body is None else hash_of(body)
    place = contents.histories.place(document_id)
    old = contents.state_unless(document_id, parent, after, place)
    if old is None or (body is None and old.value is ABSENT and told is None):
        return None  # it is the same; or it was erased, and nothing is left that could be deleted
    if body is None and after:
        row = new_row(document_id, (ERASED, ERASED if old.hash else GONE), old, after, b"")
        return place.history, Entry(key, Kind.ERASED, key, after, b""), row, old.hash
    deltas = _deltas(contents, document_id, old, value, body)
    entry = _entry(contents, key, old, body, after, deltas[0])
    if same is not None:
        entry = Entry(key, Kind.SAME, same, after, b"")
    row = new_row(document_id, deltas, old, after, body or b"")
    return place.history, entry, row, old.hash


def new_row(document_id: str, deltas: tuple[bytes, bytes], old: State, after: bytes, body: bytes) -> Row:
    """Return a row.

    Args:
        document_id: The document.
        deltas: There and back.
        old: What it was.
        after: Content hash of what it becomes; b"": it is gone.
        body: Canonical bytes of that; b"": it is gone, or they are not known.
    """
    there, back = deltas
    before = old.hash
    fields = (
        document_id,
        there,
        back,
        before[:SHORT] or NOTHING,
        after[:SHORT] or NOTHING,
        kept_check(before, old.body),
        kept_check(after, body),
    )
    return _NEW(Row, fields)


def _deltas(
    contents: Contents, document_id: str, old: State, new: Any, body: bytes | None
) -> tuple[bytes, bytes]:
    if old.value is ABSENT:
        return GONE if body is None else REPLACING + body, ERASED if old.hash else GONE
    if body is None:
        return GONE, REPLACING + old.body
    return deltas_between(contents, document_id, old.value, new)


def deltas_between(contents: Contents, document_id: str, old: Any, new: Any) -> tuple[bytes, bytes]:
    """Return the deltas there and back between two states of a document that differ, encoded.

    Deltas are nested deeper than what they are of: where that is too deep, they hold both states as a whole.

    Raises:
        UnkeptValue: The states themselves are nested too deep; the text names the document.
    """
    codec = contents.codec
    made = delta.make(old, new, codec)
    assert made is not None, "the hashes differ"
    try:
        encode = codec.encode
        return encode(made.forward), encode(made.backward)
    except UnkeptValue:
        return encoded(contents, document_id, [None, new]), encoded(contents, document_id, [None, old])


def _entry(
    contents: Contents, key: int, old: State, body: bytes | None, after: bytes, forward: bytes
) -> Entry:
    if body is None:
        return Entry(key, Kind.GONE, key, b"", b"")
    if old.deltas < LONGEST_CHAIN:
        if len(forward) > LARGE and old.rows < MOST_ROWS:
            return _NEW(Entry, (key, Kind.ROW, old.key, after, b""))
        if old.value is not ABSENT and old.weight + len(forward) <= old.base:
            return _NEW(Entry, (key, Kind.DELTA, old.key, after, forward))
    return Entry(key, Kind.WHOLE, key, after, contents.frames.pack(body, contents.dictionary))


def keep_record(
    contents: Contents,
    key: int,
    parents: Sequence[Record],
    sums: RowSums,
    counts: Counts,
    why: Why,
) -> Record:
    """Write the record of a version whose rows and entries are written.

    Args:
        contents: Of the history.
        key: The version.
        parents: Records of its parents, the first one first.
        sums: Of what it changed.
        counts: How many of these.
        why: What is said about it.
    """
    state = new_state(parents[0].state if parents else b"", sums.state_change)
    record = Record(
        b"",
        tuple(parent.id for parent in parents),
        1 + max((parent.generation for parent in parents), default=-1),
        why.author,
        why.time_us,
        why.message,
        dict(why.metadata),
        sums.rows_hash,
        state,
        counts,
    )
    record = record._replace(id=made_id(record))
    contents.stored.records.keep(key, record)
    contents.stored.keys[record.id] = key
    return record
