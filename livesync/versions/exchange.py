"""Versions on their way from one database to another: as values, which are checked when they arrive.

A version travels with its record and its changes against its first parent. Who receives it applies these to
what he has, makes the version anew, and compares its id: what was changed on the way, or does not fit, is
refused with everything that came with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import BrokenDelta, BrokenValue, InvalidCollectionState, InvalidOperation
from .changesets import ERASED
from .contents import Contents
from .delta import apply
from .names import Names
from .records import Record
from .stored import StoredHistory
from .threeway import ABSENT
from .tree import NO_VERSION, Branch, parent_of
from .writing import Change, Why, write_root, write_version


class TravellingRow(NamedTuple):
    """One document: encoded delta from the first parent's document; b"" where it was deleted."""

    document_id: str
    delta: bytes


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


def sent(contents: Contents, names: Names, key: int) -> TravellingVersion:
    """Return a version as it travels."""
    number, branch = names.place(key)
    packed = contents.stored.records[key]
    is_root = parent_of(contents.forks, key) == NO_VERSION
    _check_whole(contents, key, is_root)
    if is_root:
        encode = contents.codec.encode
        rows = tuple(
            TravellingRow(document_id, encode([None, value]))
            for document_id, value in contents.documents(key)
        )
    else:
        rows = tuple(TravellingRow(row.document_id, row.forward) for row in contents.rows(key))
    return TravellingVersion(packed, branch, number, rows)


def _check_whole(contents: Contents, key: int, is_root: bool) -> None:
    if is_root:
        erased = next((one for one in contents.ids() if contents.is_erased(one, key)), None)
    else:
        erased = next((row.document_id for row in contents.rows(key) if row.forward == ERASED), None)
    if erased is not None:
        raise InvalidOperation(
            f"a version cannot be sent: what document {erased!r} said was erased from this history"
        )


def received_root(stored: StoredHistory, contents: Contents, version: TravellingVersion) -> int:
    """Keep a first version in a history that has none; return its key.

    Raises:
        InvalidCollectionState: It is not what its id says.
    """
    names = Names(stored.references)
    record = _record(version)
    following = names.next_key(Branch(NO_VERSION))
    documents = [(document_id, _value(contents, ABSENT, row)) for document_id, row in version.rows]
    _check_id(record, write_root(contents, following.key, documents, _why(record)))
    names.take(following)
    _name(names, version, following.key, NO_VERSION)
    return following.key


def received(contents: Contents, version: TravellingVersion) -> int:
    """Keep a version whose parents are here, within the caller's transaction; return its key.

    A version that is here already is passed over. Where it raises, the transaction is to be aborted.

    Raises:
        InvalidCollectionState: It is not what its id says, or a parent is missing.
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
    changes = [
        Change(row.document_id, _value(contents, contents.value(row.document_id, keys[0]), row.delta))
        for row in version.rows
    ]
    made = write_version(contents, following.key, parents, keys[0], changes, _why(record))
    if made is None:
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} changes nothing")
    _check_id(record, made)
    names.take(following)
    _name(names, version, following.key, keys[0])
    return following.key


def _record(version: TravellingVersion) -> Record:
    return Record.unpacked(version.record).checked()


def _why(record: Record) -> Why:
    return Why(record.author, record.time_us, record.message, record.metadata)


def _check_id(record: Record, made: Record) -> None:
    if made.id != record.id:
        raise InvalidCollectionState(f"version {record.id.hex()[:12]} holds other changes than its id says")


def _value(contents: Contents, old: Any, delta: bytes) -> Any:
    if delta == b"":
        return ABSENT
    try:
        value = apply(None if old is ABSENT else old, contents.codec.decode_foreign(delta))
        contents.codec.encode(value)
    except (BrokenDelta, BrokenValue) as exc:
        raise InvalidCollectionState(f"a change that came does not fit: {exc}") from exc
    return value


def _name(names: Names, version: TravellingVersion, key: int, parent: int) -> None:
    """Give a version the place that the sender gives it, where that goes on from here."""
    if not version.branch:
        return
    branches = names.branches()
    known = branches.get(version.branch)
    if known is None and version.number == 0:
        names.set_branch(version.branch, Branch(parent).with_next(key))
    elif known is not None and known.tip == parent and known.total == version.number:
        names.set_branch(version.branch, known.with_next(key))


def sent_all(contents: Contents, names: Names, keys: list[int]) -> Iterator[TravellingVersion]:
    """Yield versions as they travel."""
    for key in keys:
        yield sent(contents, names, key)
