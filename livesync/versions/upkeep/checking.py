"""Looking a whole history over: every link, every hash, and what lies twice against itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from transaction.interfaces import TransientError

from ...errors import InvalidCollectionState, LiveSyncError
from .. import merging
from ..deltatrees.opening import opened
from ..diffs.threeway import ABSENT
from ..names import Names
from ..shelves import aisles_of
from ..stash import applied_stash
from ..store.changesets import ERASED, NOTHING, SHORT
from ..store.checks import NOTHING as NO_CHECK
from ..store.checks import UNKNOWN, check_of
from ..store.contents import PRUNED, Contents
from ..store.entries import Entries
from ..store.records import Record, made_id, new_state, rows_hash, state_change
from ..store.tree import NO_VERSION, parent_of
from ..values import hash_of

#: Where a fault is that leaves no list of versions.
RECORDS: Final = "records"


class Fault(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        where: The version as people call it, or a part of the history.
        document_id: The document; "" where it is about none.
        text: What is wrong.
    """

    where: str
    document_id: str
    text: str

    def __str__(self) -> str:
        what = f", document {self.document_id}" if self.document_id else ""
        return f"{self.where}{what}: {self.text}"


def check(contents: Contents) -> Iterator[Fault]:
    """Yield everything that is wrong with a history; it reads all of it, and writes nothing.

    What was erased is not wrong: its hashes are there, and are compared. Nor is what was pruned: of such a
    version the record is looked at, and of the next one that has contents whether its documents are those
    that its record says; which of them it changed itself is not known any more.

    What cannot even be loaded is named, and the rest is looked at all the same.

    Raises:
        TransientError: The database was written meanwhile, or did not answer: to be done again.
    """
    yield from _guarded(RECORDS, partial(_versions, contents))
    yield from _guarded("change sets", partial(_open, contents))
    yield from _guarded("documents", partial(_documents, contents))
    yield from _guarded("branches and tags", partial(_references, contents))
    yield from _guarded("pruned", partial(_pruned, contents))
    yield from _guarded("dictionaries", partial(_dictionaries, contents))
    yield from _guarded("stash", partial(_stash, contents))
    yield from _guarded("the merge that waits", partial(_conflicts, contents))


def _guarded(where: str, part: Callable[[], Iterator[Fault]], document_id: str = "") -> Iterator[Fault]:
    """Yield what a part of the work finds, and as a fault what keeps it from being done."""
    try:
        yield from part()
    except TransientError:
        raise
    except Exception as exc:  # noqa: BLE001 - what is damaged may raise anything, and is named
        is_said = isinstance(exc, LiveSyncError)
        text = str(exc) if is_said else f"it cannot be loaded: {type(exc).__name__} {exc}".rstrip()
        yield Fault(where, document_id, text)


def _versions(contents: Contents) -> Iterator[Fault]:
    places = Names(contents.stored.references).places()
    for key in sorted(contents.stored.records):
        number, branch = places[key]
        where = f"version {number} of {branch}" if branch else f"version {key:#x}"
        yield from _guarded(where, partial(_version, contents, key, where))


def _dictionaries(contents: Contents) -> Iterator[Fault]:
    for number in contents.stored.dictionaries:
        yield from _guarded(f"dictionary {number}", partial(_dictionary, contents, number))
    contents.is_learned("")


def _dictionary(contents: Contents, number: int) -> Iterator[Fault]:
    contents.frames.pack(b"", number)
    yield from ()


def _stash(contents: Contents) -> Iterator[Fault]:
    packet = contents.references.stash
    if packet is not None:
        applied_stash(contents, packet)
    yield from ()


def _conflicts(contents: Contents) -> Iterator[Fault]:
    packet = contents.references.conflicts
    if packet is not None:
        merging.unpacked(contents, packet)
    yield from ()


def _open(contents: Contents) -> Iterator[Fault]:
    """Name the versions that have no record, and look their rows over."""
    stored = contents.stored
    known = set(stored.records)
    for key, number, branch in opened(contents):
        known.add(key)
        where = f"version {number} of {branch}"
        yield Fault(where, "", "it is open: it has deltas, and no record")
        parent = parent_of(contents.forks, key)
        yield from _guarded(where, partial(_deltas, contents, key, parent, where))
    names = Names(stored.references)
    for key in stored.changes:
        if key not in known:
            yield Fault(names.called(key), "", "it has a change set, and no record")


def _version(contents: Contents, key: int, where: str) -> Iterator[Fault]:
    stored = contents.stored
    record = Record.unpacked(stored.records[key])
    if made_id(record) != record.id:
        yield Fault(where, "", "its record is not what its id says")
    if stored.keys.get(record.id) != key:
        yield Fault(where, "", "its id does not lead to it")
    absent = [parent.hex()[:12] for parent in record.parents if parent not in stored.keys]
    if absent:
        yield Fault(where, "", f"a parent is missing: {', '.join(absent)}")
        return
    parents = [Record.unpacked(stored.records[stored.keys[parent]]) for parent in record.parents]
    if record.generation != 1 + max((parent.generation for parent in parents), default=-1):
        yield Fault(where, "", f"its generation is {record.generation}")
    parent = parent_of(contents.forks, key)
    if parent != (NO_VERSION if not parents else stored.keys[record.parents[0]]):
        yield Fault(where, "", "it does not lie after its first parent")
        return
    if contents.is_pruned(key):
        if key in stored.changes:
            yield Fault(where, "", "it was pruned, and has a change set")
        return
    yield from _content(contents, key, parent, record, where)


def _content(contents: Contents, key: int, parent: int, record: Record, where: str) -> Iterator[Fault]:
    """Compare what a version changed, by its change set, by its documents' histories, and by its record."""
    base = contents.kept_at(parent)
    before = b"" if base == NO_VERSION else Record.unpacked(contents.stored.records[base]).state
    hashes = []
    if parent == NO_VERSION:
        hashes = [(one, b"", contents.hash(one, key)) for one in contents.ids() if contents.hash(one, key)]
    else:
        for document_id, *shorts in contents.short_hashes(key):
            row = (document_id, contents.hash(document_id, base), contents.hash(document_id, key))
            if [whole[:SHORT] or NOTHING for whole in row[1:]] != shorts:
                yield Fault(where, document_id, "its change set and the document's history differ")
            hashes.append(row)
        yield from _deltas(contents, key, base, where)
    if base == parent and rows_hash(hashes) != record.rows:
        yield Fault(where, "", "it holds other changes than its record says")
    if new_state(before, state_change(hashes)) != record.state:
        yield Fault(where, "", "its documents are not those that its record says")


def _deltas(contents: Contents, key: int, parent: int, where: str) -> Iterator[Fault]:
    """Apply each row's deltas both ways, and compare with what the documents' histories give."""
    for row in contents.rows(key):
        if ERASED in (row.forward, row.backward):
            continue
        old, new = contents.value(row.document_id, parent), contents.value(row.document_id, key)
        try:
            forth = contents.applied(old, row.forward)
            back = contents.applied(new, row.backward)
        except InvalidCollectionState as exc:
            yield Fault(where, row.document_id, str(exc))
            continue
        if not _same(contents, forth, new) or not _same(contents, back, old):
            yield Fault(where, row.document_id, "a delta of its change set leads elsewhere")
        if not _fits(contents, old, row.check_before) or not _fits(contents, new, row.check_after):
            yield Fault(where, row.document_id, "a check of its change set is another document's")


def _fits(contents: Contents, value: object, check: bytes) -> bool:
    if value is ABSENT:
        return check in (NO_CHECK, UNKNOWN)
    return check in (UNKNOWN, check_of(contents.codec.encode(value)) or check)


def _same(contents: Contents, one: object, other: object) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is other
    return hash_of(contents.codec.encode(one)) == hash_of(contents.codec.encode(other))


def _documents(contents: Contents) -> Iterator[Fault]:
    """Read every entry of every document, those that no change set names included."""
    named: dict[int, set[str]] = {}
    for key in contents.stored.changes:
        try:
            named[key] = {row[0] for row in contents.short_hashes(key)}
        except TransientError:
            raise
        except Exception:  # noqa: BLE001, S112 - whatever it is, it was said with its version
            continue
    for document_id, history in contents.stored.documents.items():
        look = partial(_history, contents, document_id, history, named)
        yield from _guarded("history", look, document_id)


def _history(
    contents: Contents, document_id: str, history: Any, named: dict[int, set[str]]
) -> Iterator[Fault]:
    names = Names(contents.references)
    for entry in list(Entries(history).all()):
        if document_id not in named.get(entry.key, {document_id}):
            yield Fault(names.called(entry.key), document_id, "its change set does not name it")
        if contents.is_pruned(entry.key):
            yield Fault(names.called(entry.key), document_id, "it was pruned, and says something")
            continue
        contents.state(document_id, entry.key)


def _references(contents: Contents) -> Iterator[Fault]:
    """Follow branches, tags, HEAD and lines."""
    names, records = Names(contents.stored.references), contents.stored.records
    for name, branch in names.branches().items():
        for key in (branch.base, *branch.versions()):
            if key != NO_VERSION and key not in records:
                yield Fault(f"branch {name}", "", f"version {key:#x} is missing")
    for name, key in names.tags.items():
        if key not in records:
            yield Fault(f"tag {name}", "", "its version is missing")
    if contents.references.aisles != aisles_of(contents.stored.shelves):
        yield Fault("shelves", "", "documents are looked for where they do not lie")
    head_branch, head = names.head
    if head_branch not in names.branches() or head not in records:
        yield Fault("HEAD", "", "it points at nothing")
    for version_id, key in contents.stored.keys.items():
        if key not in records:
            yield Fault("ids", "", f"{version_id.hex()[:12]} leads to nothing")


def _pruned(contents: Contents) -> Iterator[Fault]:
    """Follow what says that versions were pruned."""
    for name, branch in Names(contents.stored.references).branches().items():
        if contents.is_pruned(branch.tip):
            yield Fault(f"branch {name}", "", "its newest version was pruned")
    for key in contents.stored.settings.get(PRUNED, ()):
        if key not in contents.stored.records:
            yield Fault("pruned", "", f"version {key:#x} is missing")
