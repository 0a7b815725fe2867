"""Taking versions away, with all that came after them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from BTrees.LLBTree import LLTreeSet

from ...errors import InvalidOperation
from ..names import Names
from ..store.ancestry import all_before
from ..store.contents import PRUNED, Contents
from ..store.entries import rewritten
from ..store.records import Record
from ..store.tree import NO_VERSION, Branch, is_on_way, line_of, parent_of


def doomed_by(contents: Contents, key: int) -> set[int]:
    """Return a version and all that come after it along first parents.

    Raises:
        InvalidOperation: A version that stays has merged one of them.
    """
    records = contents.stored.records
    doomed = {one for one in records if is_on_way(contents.forks, key, one)}
    ids = {Record.unpacked(records[one]).id for one in doomed}
    for one, packed in records.items():
        if one in doomed:
            continue
        record = Record.unpacked(packed)
        if not ids.isdisjoint(record.parents):
            number, branch = Names(contents.stored.references).place(one)
            raise InvalidOperation(
                f"version {number} of {branch!r} has merged what is to be deleted: delete that version first"
            )
    return doomed


def cut_branches(names: Names, forks: dict[int, int], key: int, doomed: Collection[int]) -> None:
    """Take versions from branches and tags; a branch that has none left, and began at one, is dropped.

    The branch of ``key`` itself stays, if only as an empty one at its parent.
    """
    own = names.place(key)[1]
    for name, branch in names.branches().items():
        numbers = [number for number, one in enumerate(branch.versions()) if one in doomed]
        cut = branch.until(numbers[0]) if numbers else branch
        if name == own and not cut.runs:
            cut = Branch(parent_of(forks, key))
        if cut.base in doomed and not cut.runs:
            names.drop_branch(name)
        elif cut != branch:
            names.set_branch(name, cut)
    for name, tagged in names.tags.items():
        if tagged in doomed:
            names.set_tag(name, None)


def remove_versions(contents: Contents, doomed: Collection[int]) -> None:
    """Take versions' entries, change sets and records away; nothing that stays needs them."""
    stored = contents.stored
    ids = {document_id for key in doomed for document_id, _, _ in contents.short_hashes(key)}
    gone = dict.fromkeys(doomed)
    for document_id in sorted(ids):
        history = stored.documents[document_id]
        if not rewritten(history, gone):
            del stored.documents[document_id]
    for key in doomed:
        if key in stored.records:  # an open version has none
            del stored.keys[Record.unpacked(stored.records.pop(key)).id]
        stored.changes.pop(key, None)
    forget_pruned(contents, doomed)


def note_pruned(contents: Contents, keys: Iterable[int]) -> None:
    """Note that these versions were pruned: their records are all that is left."""
    stored = contents.stored
    pruned = stored.settings.get(PRUNED)
    if pruned is None:
        pruned = LLTreeSet()
        stored.settings = {**stored.settings, PRUNED: pruned}
    pruned.update(sorted(keys))


def forget_pruned(contents: Contents, keys: Iterable[int]) -> list[int]:
    """Note no longer that these versions were pruned; return those that were."""
    pruned = contents.stored.settings.get(PRUNED)
    if pruned is None:
        return []
    found = [key for key in keys if key in pruned]
    for key in found:
        pruned.remove(key)
    return found


def drop_lines(contents: Contents) -> int:
    """Forget the lines that hold no version and that nothing begins after; return how many.

    The newest stays: numbers of lines count on from it.
    """
    stored = contents.stored
    references = stored.references
    opened = [key for branch in Names(references).opened().values() for key in branch.versions()]
    used = {line_of(key) for key in (*stored.records, *opened)}
    used |= {line_of(key) for line, key in references.forks.items() if line in used and key != NO_VERSION}
    used.add(max(references.forks))
    forks = {line: key for line, key in references.forks.items() if line in used}
    number = len(references.forks) - len(forks)
    if number:
        references.forks = forks
        references.used = {line: count for line, count in references.used.items() if line in used}
    return number


def unreachable(contents: Contents, kept: Collection[int] = ()) -> set[int]:
    """Return the versions that no branch, tag, HEAD or remote leads to, along any parents.

    What a remote was last seen to have counts, so that a next exchange finds it.

    Args:
        contents: Of the history.
        kept: Versions that are needed besides.
    """
    stored = contents.stored
    names = Names(stored.references)
    starts = {branch.tip for branch in names.branches().values()}
    starts |= {*names.tags.values(), names.head[1], *kept, *known_elsewhere(contents)}
    starts |= {branch.base for branch in names.opened().values() if branch.base in stored.records}
    reached: set[int] = set()
    for key in starts - {NO_VERSION}:
        if key not in reached:
            reached |= all_before(contents, key)
    return set(stored.records) - reached


def known_elsewhere(contents: Contents) -> set[int]:
    """Return the versions that remotes were last seen to have at their branches' tips."""
    keys = contents.stored.keys
    tips = [one for remote in contents.stored.references.remotes.values() for one in remote.values()]
    return {int(keys[one]) for one in tips if one in keys}
