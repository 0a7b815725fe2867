"""Taking versions away, with all that came after them."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import InvalidOperation
from .ancestry import all_before
from .contents import Contents
from .entries import rewritten
from .names import Names
from .records import Record
from .tree import NO_VERSION, Branch, is_on_way, parent_of


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
        del stored.keys[Record.unpacked(stored.records[key]).id]
        del stored.records[key]
        stored.changes.pop(key, None)


def unreachable(contents: Contents, kept: Collection[int] = ()) -> set[int]:
    """Return the versions that no branch, tag or HEAD leads to, along any parents.

    Args:
        contents: Of the history.
        kept: Versions that are needed besides.
    """
    names = Names(contents.stored.references)
    starts = {branch.tip for branch in names.branches().values()}
    starts |= {*names.tags.values(), names.head[1], *kept}
    reached: set[int] = set()
    for key in starts - {NO_VERSION}:
        if key not in reached:
            reached |= all_before(contents, key)
    return set(contents.stored.records) - reached
