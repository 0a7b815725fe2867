"""Making a run of versions one: their records are forgotten, so that what comes after gets new ids.

What documents are at the last of the run, and at all that comes after it, stays as it is. Versions that come
after, on whatever branch, keep author, time, message and changes; their ids differ, as each is made of its
parents' too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ...errors import InvalidOperation
from ..names import Names
from ..store.ancestry import is_ancestor
from ..store.contents import Contents
from ..store.entries import Entries, rebuilt
from ..store.records import Counts, Record, made_id, rows_hash
from ..store.tree import NO_VERSION, Branch, is_on_way, line_of, parent_of, position_of, way_up
from ..store.writing import Why
from ..stored import References
from .cutting import forget_pruned, note_pruned
from .folding import Fold, fold


def run_between(contents: Contents, first: int, last: int) -> list[int]:
    """Return the versions from one to another along first parents, oldest first, both included.

    Raises:
        InvalidOperation: The second does not come after the first, or the first is the root.
    """
    forks = contents.forks
    if not is_on_way(forks, first, last):
        raise InvalidOperation("these versions do not follow each other: name the older one first")
    parent = parent_of(forks, first)
    if parent == NO_VERSION:
        raise InvalidOperation("the first version of all stays: squash from the one after it on")
    return list(reversed(list(way_up(forks, last, parent))))


def all_after(contents: Contents, keys: Collection[int]) -> list[int]:
    """Return the versions that come after some along any parents, parents first, without these."""
    stored = contents.stored
    records = {key: Record.unpacked(packed) for key, packed in stored.records.items()}
    found = dict.fromkeys(keys)
    for key in sorted(records, key=lambda key: (records[key].generation, key)):
        if key not in found and any(stored.keys[one] in found for one in records[key].parents):
            found[key] = None
    return [key for key in found if key not in keys]


def check_squashable(contents: Contents, run: list[int], is_forced: bool) -> None:
    """Make sure that nothing needs a version of a run but the last, and nobody elsewhere knows one.

    Args:
        contents: Of the history.
        run: Of :func:`run_between`.
        is_forced: Although a remote has them.

    Raises:
        InvalidOperation: Something does; the text says what, and what to do.
        VersionPruned: The contents of the last one, or of the one before the run, were pruned.
    """
    contents.check_kept(run[-1])
    contents.check_kept(parent_of(contents.forks, run[0]))
    places = Names(contents.stored.references).places()

    def at(key: int) -> str:
        number, branch = places[key]
        return f"version {number} of {branch!r}" if branch else "a version without a name"

    inner = set(run[:-1])
    _check_unnamed(contents, inner, at)
    keys = contents.stored.keys
    for key, packed in contents.stored.records.items():
        found = [parent for parent in Record.unpacked(packed).parents if keys.get(parent) in inner]
        if found and key not in run:
            raise InvalidOperation(
                f"{at(key)} comes after {at(keys[found[0]])}, which lies within the run: squash up to that"
            )
    if not is_forced:
        _check_unpublished(contents, run[0], at(run[0]))


def _check_unnamed(contents: Contents, inner: set[int], at: Callable[[int], str]) -> None:
    names = Names(contents.stored.references)
    for name, branch in names.branches().items():
        if branch.tip in inner:
            raise InvalidOperation(
                f"branch {name!r} ends at {at(branch.tip)}, within the run: squash up to it"
            )
    for tag, key in names.tags.items():
        if key in inner:
            raise InvalidOperation(
                f"tag {tag!r} is at {at(key)}, within the run: squash up to it, or take the tag away"
            )
    if names.head[1] in inner:
        raise InvalidOperation(f"HEAD is at {at(names.head[1])}, within the run: check out a branch first")


def _check_unpublished(contents: Contents, first: int, where: str) -> None:
    for address, tips in sorted(contents.stored.references.remotes.items()):
        for tip in tips.values():
            key = contents.stored.keys.get(tip)
            if key is not None and is_ancestor(contents, first, key):
                raise InvalidOperation(
                    f"{where} is known at {address}: squash what comes after what was pushed, or force it,"
                    " and the other side will have other versions than this one"
                )


def squash_run(contents: Contents, run: list[int], why: Why) -> int | None:
    """Make a checked run one version, within the caller's transaction.

    Returns:
        Its key; None where all that the run changed was changed back: then there is none.

    Raises:
        InvalidCollectionState: What is stored is damaged.
    """
    stored = contents.stored
    last, parent = run[-1], parent_of(contents.forks, run[0])
    parents = _parents(contents, run)
    after = all_after(contents, [last])
    inner = tuple(key for key in run[:-1] if not contents.is_pruned(key))
    if inner:
        fold(contents, [Fold(inner, last)])
    names = Names(stored.references)
    is_empty = last not in stored.changes and len(parents) < 2
    moved = _moved(names, last, parent, after, contents.forks, is_empty)
    _move(contents, {old: new for old, new in moved.items() if old != last or not is_empty})
    old = Record.unpacked(stored.records[last])
    made = Record.unpacked(stored.records[parent])
    if not is_empty:
        made = _squashed(contents, moved[last], parent, parents, old, why)
    gone = {Record.unpacked(stored.records.pop(key)).id for key in run}
    for one in gone:
        del stored.keys[one]
    stored.records[moved[last]] = made.packed()
    stored.keys[made.id] = moved[last]
    gone |= _remake(contents, after, moved, {old.id: made.id})
    forget_pruned(contents, run[:-1])
    _rename(names, set(run) if is_empty else set(run[:-1]), moved)
    _forget_remotes(stored.references, gone)
    return None if is_empty else moved[last]


def _parents(contents: Contents, run: list[int]) -> list[bytes]:
    """Return the ids of the parents of the version that a run becomes: what was merged stays merged."""
    stored = contents.stored
    parent = parent_of(contents.forks, run[0])
    merged: list[int] = []
    for key in run:
        for one in Record.unpacked(stored.records[key]).parents[1:]:
            other = int(stored.keys[one])
            if not any(is_ancestor(contents, other, known) for known in (parent, *merged)):
                merged = [known for known in merged if not is_ancestor(contents, known, other)]
                merged.append(other)
    return [Record.unpacked(stored.records[key]).id for key in (parent, *merged)]


def _moved(
    names: Names, last: int, parent: int, after: list[int], forks: Mapping[int, int], is_empty: bool
) -> dict[int, int]:
    """Give new keys to the last of a run, and to what follows on its line; return old -> new."""
    moved = {last: parent}
    if not is_empty:
        following = names.next_after(parent)
        names.take(following)
        moved[last] = following.key
    for key in after:
        first = parent_of(forks, key)
        if first in moved and position_of(key):
            following = names.next_after(moved[first])
            names.take(following)
            moved[key] = following.key
    return moved


def _move(contents: Contents, moved: Mapping[int, int]) -> None:
    """Put change sets and entries of versions under other keys."""
    stored = contents.stored
    ids = {document_id for key in moved for document_id, _, _ in contents.short_hashes(key)}
    for document_id in sorted(ids):
        history = stored.documents[document_id]
        entries = [
            one._replace(key=moved.get(one.key, one.key), up=moved.get(one.up, one.up))
            for one in Entries(history).all()
        ]
        rebuilt(history, entries)
    kept = {new: stored.changes.pop(old) for old, new in moved.items() if old in stored.changes}
    for new, change in kept.items():
        stored.changes[new] = change
    pruned = forget_pruned(contents, list(moved))
    if pruned:
        note_pruned(contents, [moved[key] for key in pruned])


def _squashed(
    contents: Contents, key: int, parent: int, parents: list[bytes], last: Record, why: Why
) -> Record:
    """Return the record of the version that a run becomes; what it changes lies under its key already."""
    stored = contents.stored
    references = stored.references
    fork = references.forks[line_of(key)]
    assert parent == (key - 1 if position_of(key) else fork), "it lies after its first parent"
    hashes = [
        (document_id, contents.hash(document_id, parent), contents.hash(document_id, key))
        for document_id, _, _ in contents.short_hashes(key)
    ]
    created = sum(not before for _, before, _ in hashes)
    deleted = sum(not after for _, _, after in hashes)
    generations = [Record.unpacked(stored.records[stored.keys[one]]).generation for one in parents]
    record = Record(
        b"",
        tuple(parents),
        1 + max(generations),
        why.author,
        why.time_us,
        why.message,
        dict(why.metadata),
        rows_hash(hashes),
        last.state,
        Counts(created, len(hashes) - created - deleted, deleted),
    )
    return record._replace(id=made_id(record))


def _remake(
    contents: Contents, after: list[int], moved: Mapping[int, int], new_ids: dict[bytes, bytes]
) -> set[bytes]:
    """Give the versions after a run their new parents, and so new ids; return the old ones.

    Args:
        contents: Of the history.
        after: Parents first.
        moved: Old key -> new key.
        new_ids: Old id -> new id of what they come after.
    """
    stored = contents.stored
    olds = [(key, Record.unpacked(stored.records.pop(key))) for key in after]
    for _, old in olds:
        del stored.keys[old.id]
    for key, old in olds:
        parents = tuple(new_ids.get(one, one) for one in old.parents)
        generations = [Record.unpacked(stored.records[stored.keys[one]]).generation for one in parents]
        record = old._replace(parents=parents, generation=1 + max(generations))
        record = record._replace(id=made_id(record))
        new_ids[old.id] = record.id
        at = moved.get(key, key)
        stored.records[at] = record.packed()
        stored.keys[record.id] = at
    return {old.id for _, old in olds}


def _rename(names: Names, gone: Collection[int], moved: Mapping[int, int]) -> None:
    """Let branches, tags, HEAD and lines say the new keys."""
    for name, branch in names.branches().items():
        made = Branch(moved.get(branch.base, branch.base))
        for key in branch.versions():
            if key not in gone:
                made = made.with_next(moved.get(key, key))
        if made != branch:
            names.set_branch(name, made)
    for tag, key in names.tags.items():
        if key in moved:
            names.set_tag(tag, moved[key])
    head_branch, head = names.head
    names.set_head(head_branch, moved.get(head, head))
    names.move_forks(moved)


def _forget_remotes(references: References, gone: Collection[bytes]) -> None:
    """Forget what remotes were seen to have of versions that are here no longer."""
    references.remotes = {
        address: {branch: tip for branch, tip in tips.items() if tip not in gone}
        for address, tips in references.remotes.items()
    }
