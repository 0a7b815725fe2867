"""Versions on their way from one database to another: as values, which are checked when they arrive.

A version travels with its record and its changes against its first parent, each with the hash of what it
leads to. Who receives it applies these to what he has, makes the version anew, and compares its id: what was
changed on the way, or does not fit, is refused with everything that came with it.

What a document said that was erased does not travel, but its hash does: the version is whole without it. And
what was erased here stays so, whoever still has it.

Of a version that was pruned the record travels, whose id is verified; what it held nobody can tell. The next
one that has contents travels as changes since the last one before. Who has the versions in between whole
makes it anew as ever; who has not compares the sum of its documents' hashes with that of its record.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ...errors import BrokenDelta, BrokenValue, InvalidCollectionState, InvalidOperation
from ..diffs.delta import apply
from ..diffs.threeway import ABSENT
from ..names import Names, Places, check_foreign_name
from ..store.changesets import ERASED, GONE
from ..store.contents import Contents
from ..store.records import ID_BYTES, Counts, Record
from ..store.tree import NO_VERSION, Branch, is_on_way, parent_of
from ..store.ways import changed_ids
from ..store.writing import Change, Why, erased_body, write_first, write_known, write_version
from ..stored import StoredHistory
from ..upkeep.cutting import note_pruned
from ..upkeep.erasing import stays_erased
from ..values import hash_of

#: Times that a record may have, microseconds of the epoch: the years 1 to 9999.
_FIRST_US: Final = -62_135_596_800_000_000
_LAST_US: Final = 253_402_300_799_999_999

#: Parents that a version may have.
_MOST_PARENTS: Final = 16


class Told(IntEnum):
    """How a document travels: not at all, as a whole, as a delta, or as one whose content was erased.

    Two say something of the version, before its documents: that it was pruned, and nothing follows; or since
    which version its changes are.
    """

    GONE = 0
    WHOLE = 1
    DELTA = 2
    ERASED = 3
    PRUNED = 4
    SINCE = 5


class TravellingRow(NamedTuple):
    """One document.

    Attributes:
        document_id: The document; "" where it is about the version.
        kind: A :class:`Told`.
        payload: ``WHOLE``: the document, encoded; ``DELTA``: the encoded delta from the first parent's;
            ``SINCE``: the id of the version whose documents the deltas are of instead.
        hash: Content hash of the document; b"" where it was deleted.
    """

    document_id: str
    kind: int
    payload: bytes
    hash: bytes


class TravellingVersion(NamedTuple):
    """A version on its way.

    Attributes:
        record: As it is stored.
        branch, number: What the sender calls it; "" where it has no name any more.
        rows: What it changed, sorted by id; of the first version all documents.
    """

    record: bytes
    branch: str
    number: int
    rows: tuple[TravellingRow, ...]


def missing(contents: Contents, tip: int, is_known: Callable[[bytes], bool]) -> list[int]:
    """Return the versions up to ``tip``, along all parents, that somebody lacks; parents come first.

    Args:
        contents: Of the sender.
        tip: The newest one.
        is_known: Tells whether the other one has a version of this id; then it has all before it.
    """
    stored = contents.stored
    found: dict[int, int] = {}
    todo = [tip]
    while todo:
        key = todo.pop()
        if key in found or key == NO_VERSION:
            continue
        record = Record.unpacked(stored.records[key])
        if is_known(record.id):
            continue
        found[key] = record.generation
        todo += [stored.keys[parent] for parent in record.parents]
    return sorted(found, key=lambda key: (found[key], key))


def sent(contents: Contents, places: Places, key: int) -> TravellingVersion:
    """Return a version as it travels."""
    number, branch = places[key]
    return TravellingVersion(contents.stored.records[key], branch, number, tuple(sent_rows(contents, key)))


def sent_rows(contents: Contents, key: int, since: str | None = None) -> Iterator[TravellingRow]:
    """Yield what a version changed as it travels, sorted by id; of the first version all documents.

    Args:
        contents: Of the history.
        key: The version.
        since: Only what comes after this id.
    """
    if contents.is_pruned(key):
        if since is None:
            yield TravellingRow("", Told.PRUNED, b"", b"")
        return
    parent = parent_of(contents.forks, key)
    if parent == NO_VERSION:
        for document_id in contents.ids(start=since or ""):
            if since is None or document_id > since:
                found = contents.state(document_id, key)
                if found.hash:
                    yield _whole(contents, document_id, found.value, found.hash)
        return
    if since is None and contents.is_pruned(parent):
        base = Record.unpacked(contents.stored.records[contents.kept_at(parent)])
        yield TravellingRow("", Told.SINCE, base.id, b"")
    for row in contents.rows(key):
        if since is None or row.document_id > since:
            yield _sent_row(contents, key, row.document_id, row.forward, row.backward)


def _whole(contents: Contents, document_id: str, value: Any, content_hash: bytes) -> TravellingRow:
    if value is ABSENT:
        return TravellingRow(document_id, Told.ERASED, b"", content_hash)
    return TravellingRow(document_id, Told.WHOLE, contents.codec.encode(value), content_hash)


def _sent_row(
    contents: Contents, key: int, document_id: str, forward: bytes, backward: bytes
) -> TravellingRow:
    if forward == GONE:
        return TravellingRow(document_id, Told.GONE, b"", b"")
    content_hash = contents.hash(document_id, key)
    if forward == ERASED:
        return TravellingRow(document_id, Told.ERASED, b"", content_hash)
    if backward in (GONE, ERASED):
        return _whole(contents, document_id, contents.value(document_id, key), content_hash)
    return TravellingRow(document_id, Told.DELTA, forward, content_hash)


def received_root(stored: StoredHistory, contents: Contents, version: TravellingVersion) -> int:
    """Keep a first version in a history that has none; return its key.

    Raises:
        InvalidCollectionState: It is not what its id says.
    """
    names = Names(stored.references)
    record = _record(version)
    following = names.next_key(Branch(NO_VERSION))
    bodies = [(row.document_id, _first_body(contents, row)) for row in version.rows]
    _check_id(record, write_first(contents, following.key, bodies, _why(record)))
    names.take(following)
    _name(names, version, following.key, NO_VERSION)
    return following.key


def _first_body(contents: Contents, row: TravellingRow) -> bytes:
    if row.kind == Told.ERASED:
        return erased_body(row.hash)
    if row.kind != Told.WHOLE:
        raise InvalidCollectionState("a first version holds documents as a whole")
    _decoded(contents, row)
    return row.payload


def received(contents: Contents, version: TravellingVersion, held: Container[str] = ()) -> int:
    """Keep a version whose parents are here, within the caller's transaction; return its key.

    A version that is here already is passed over. Where it raises, the transaction is to be aborted.

    Args:
        contents: Of the receiver.
        version: As it travelled.
        held: Branches that do not go on with it.

    Raises:
        InvalidCollectionState: It is not what its id says, or a parent is missing.
        InvalidOperation: It comes as changes of a version that was pruned here.
    """
    stored = contents.stored
    names = Names(stored.references)
    record = _record(version)
    if record.id in stored.keys:
        return int(stored.keys[record.id])
    if not record.parents:
        raise InvalidCollectionState("the two collections begin with other versions: diverging roots")
    absent = [parent.hex()[:12] for parent in record.parents if parent not in stored.keys]
    if absent:
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} follows {', '.join(absent)}, not here")
    keys = [int(stored.keys[parent]) for parent in record.parents]
    parents = [Record.unpacked(stored.records[key]) for key in keys]
    following = names.next_after(keys[0])
    if [row.kind for row in version.rows] == [Told.PRUNED]:
        _check_generation(record, parents)
        stored.records[following.key] = record.packed()
        stored.keys[record.id] = following.key
        note_pruned(contents, [following.key])
    else:
        _keep(contents, following.key, record, keys[0], parents, version.rows)
    names.take(following)
    if version.branch not in held:
        _name(names, version, following.key, keys[0])
    return following.key


def _keep(
    contents: Contents,
    key: int,
    record: Record,
    parent: int,
    parents: list[Record],
    rows: tuple[TravellingRow, ...],
) -> None:
    """Keep what a version holds, and its record."""
    base = _base(contents, record, parent, rows)
    told = rows[1:] if rows and rows[0].kind == Told.SINCE else rows
    changes = {row.document_id: _change(contents, row, base, record) for row in told}
    known = contents.kept_at(parent)
    for document_id in changed_ids(contents, base, known) if known != base else ():
        if document_id not in changes:
            value, content_hash = contents.value(document_id, base), contents.hash(document_id, base)
            changes[document_id] = Change(document_id, value, told=content_hash)
    if known != parent:
        _check_generation(record, parents)
        write_known(contents, key, record, known, changes.values())
        return
    made = write_version(contents, key, parents, parent, changes.values(), _why(record))
    if made is None:
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} changes nothing")
    _check_id(record, made)


def _base(contents: Contents, record: Record, parent: int, rows: tuple[TravellingRow, ...]) -> int:
    """Return the version that the changes of one that came are of."""
    base = parent
    if rows and rows[0].kind == Told.SINCE:
        found = contents.stored.keys.get(rows[0].payload)
        if found is None or not is_on_way(contents.forks, found, parent):
            raise InvalidCollectionState(
                f"version {record.id.hex()[:12]} came as changes since one that does not come before it"
            )
        base = int(found)
    if contents.is_pruned(base):
        number, branch = Names(contents.stored.references).place(base)
        raise InvalidOperation(
            f"version {record.id.hex()[:12]} comes after version {number} of {branch!r}, which was pruned"
            " here: bring it onto a newer version there (cherry-pick), and exchange that"
        )
    return base


def _check_generation(record: Record, parents: list[Record]) -> None:
    if record.generation != 1 + max(parent.generation for parent in parents):
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} says that it lies elsewhere")


def _record(version: TravellingVersion) -> Record:
    """Return the record of a version that came: nothing of it is believed.

    Raises:
        InvalidCollectionState: It is none, or not what its id says.
    """
    record = Record.unpacked(version.record)
    if not _is_well_formed(record):
        raise InvalidCollectionState("the record of a version that came has another form")
    return record.checked()


def _is_well_formed(record: Record) -> bool:
    parents, counts = record.parents, record.counts
    if type(parents) is not list or type(counts) is not list or len(parents) > _MOST_PARENTS:
        return False
    numbers = (record.generation, *counts)
    return (
        all(type(one) is bytes and len(one) == ID_BYTES for one in (*_ids(record), *parents))
        and all(type(one) is int and 0 <= one < 1 << 63 for one in numbers)
        and len(counts) == len(Counts._fields)
        and type(record.time_us) is int
        and _FIRST_US <= record.time_us <= _LAST_US
        and type(record.author) is type(record.message) is str
        and type(record.metadata) is dict
        and all(type(key) is str for key in record.metadata)
    )


def _ids(record: Record) -> tuple[Any, ...]:
    return record.id, record.rows, record.state


def _why(record: Record) -> Why:
    return Why(record.author, record.time_us, record.message, record.metadata)


def _check_id(record: Record, made: Record) -> None:
    if made.id != record.id:
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} holds other changes than its id says")


def _change(contents: Contents, row: TravellingRow, parent: int, record: Record) -> Change:
    """Return what a document becomes, with what is known for sure: its hash.

    Raises:
        InvalidCollectionState: It does not fit, or is not what its hash says.
    """
    document_id = row.document_id
    if row.kind == Told.GONE:
        return Change(document_id, ABSENT, told=b"")
    if not row.hash or row.kind in (Told.PRUNED, Told.SINCE):
        raise InvalidCollectionState(f"what came of document {document_id!r} has no hash")
    erased = Change(document_id, ABSENT, told=row.hash)
    if row.kind == Told.ERASED or stays_erased(contents, document_id, row.hash, record.time_us):
        return erased
    if row.kind == Told.WHOLE:
        return Change(document_id, _decoded(contents, row), told=row.hash)
    old = contents.value(document_id, parent)
    if old is ABSENT and contents.hash(document_id, parent):
        return erased  # what it is a change of was erased here
    try:
        value = apply(None if old is ABSENT else old, contents.codec.decode_foreign(row.payload))
        body = contents.codec.encode(value)
    except (BrokenDelta, BrokenValue) as exc:
        raise InvalidCollectionState(f"a change that came does not fit: {exc}") from exc
    return Change(document_id, _checked(row, body, value), told=row.hash)


def _decoded(contents: Contents, row: TravellingRow) -> Any:
    try:
        value = contents.codec.decode_foreign(row.payload)
    except BrokenValue as exc:
        raise InvalidCollectionState(f"a document that came cannot be read: {exc}") from exc
    return _checked(row, row.payload, value)


def _checked(row: TravellingRow, body: bytes, value: Any) -> Any:
    if hash_of(body) != row.hash:
        raise InvalidCollectionState(f"document {row.document_id!r} came as another one than its id says")
    return value


def _name(names: Names, version: TravellingVersion, key: int, parent: int) -> None:
    """Give a version the place that the sender gives it, where that goes on from here."""
    if not version.branch:
        return
    check_foreign_name(version.branch)
    branches = names.branches()
    known = branches.get(version.branch)
    if known is None and version.number == 0:
        names.set_branch(version.branch, Branch(parent).with_next(key))
    elif known is not None and known.tip == parent and known.total == version.number:
        names.set_branch(version.branch, known.with_next(key))
