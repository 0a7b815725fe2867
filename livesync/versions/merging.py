"""Merging one version into another: which documents are taken, which are merged, and where both disagree.

A document that only one side changed is taken from there. One that both changed is merged by path
(:mod:`~livesync.versions.diffs.threeway`). What they disagree on are conflicts: values that are kept with the
merge until all are resolved, or it is aborted. Until then the working documents stay as they are.

What was erased from one side is taken from there as what it is, erased, where the other side left it alone.
Where both changed such a document, one of them says nothing any more: that is a conflict between no document
and what the other side says. A base that was erased is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from .diffs.threeway import ABSENT, ItemOf, Kind, Path, Strategies, merge
from .packets import Packet
from .store.ancestry import merge_bases
from .store.contents import Contents
from .store.sums import with_sum, without_sum
from .store.ways import changed_ids
from .store.writing import Change, Why
from .values import shown_path


class DocumentConflict(NamedTuple):
    """One place of one document that both sides changed, and not to the same.

    Attributes:
        document_id: The document.
        path: Where in it, as :class:`~livesync.versions.diffs.threeway.Conflict` has it; () is all of it.
        kind: In which way they disagree.
        base, ours, theirs: The three values; ``ABSENT`` where there is none.
    """

    document_id: str
    path: Path
    kind: Kind
    base: Any
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.document_id}: {self.kind.value} at {shown_path(self.path)}"


@dataclass(slots=True)
class Merge:
    """A merge that is under way.

    Attributes:
        parents: Keys of what its version is to follow: two, or one for a cherry-pick or a revert.
        why: What its version is to say.
        changes: What documents become against the first parent, with ours wherever there is a conflict.
        conflicts: Those that are not resolved yet.
        resolved: Resolved so far.
    """

    parents: tuple[int, ...]
    why: Why
    changes: dict[str, Change] = field(default_factory=dict)
    conflicts: list[DocumentConflict] = field(default_factory=list)
    resolved: int = 0


#: What somebody decides for a conflict: a side's name, or a function of the conflict that returns the value.
Decision = str | Callable[[DocumentConflict], Any]

_SIDES: Final = ("ours", "theirs", "base")


def merged(
    contents: Contents,
    bases: Sequence[int],
    theirs: int,
    parents: tuple[int, ...],
    why: Why,
    strategies: Strategies | None = None,
) -> Merge:
    """Merge ``theirs`` into ``parents[0]``; nothing is written.

    Args:
        contents: Of the history.
        bases: What both come from; of several the bases themselves are merged first.
        theirs: The version that is merged.
        parents: What the new version follows.
        why: What it says.
        strategies: For some paths.

    Raises:
        InvalidCollectionState: A document is damaged.
    """
    found = Merge(parents, why)
    ours = parents[0]
    # what is the same as in any base was not changed by them
    ids = set(changed_ids(contents, bases[0], theirs))
    for document_id in sorted(ids):
        theirs_hash, ours_hash = contents.hash(document_id, theirs), contents.hash(document_id, ours)
        if theirs_hash == ours_hash or any(contents.hash(document_id, base) == theirs_hash for base in bases):
            continue
        if all(contents.hash(document_id, base) == ours_hash for base in bases):
            found.changes[document_id] = _taken(contents, document_id, theirs, len(parents) > 1)
            continue
        base = base_value(contents, document_id, bases)
        sides = (contents.value(document_id, ours), contents.value(document_id, theirs))
        erased = [
            side is ABSENT and side_hash != b"" for side, side_hash in zip(sides, (ours_hash, theirs_hash))
        ]
        if any(erased):
            if not all(erased):
                found.changes[document_id] = Change(document_id, sides[0])
                found.conflicts.append(DocumentConflict(document_id, (), Kind.DELETE_EDIT, base, *sides))
            continue
        made = merge(base, *sides, contents.codec, strategies)
        found.changes[document_id] = Change(document_id, made.value)
        found.conflicts += [DocumentConflict(document_id, *conflict) for conflict in made.conflicts]
    return found


def _taken(contents: Contents, document_id: str, theirs: int, is_linked: bool) -> Change:
    entry = contents.entry(document_id, theirs) if is_linked else None
    value = contents.value(document_id, theirs)
    same = None if entry is None or value is ABSENT else entry.key
    return Change(document_id, value, same, contents.hash(document_id, theirs))


def base_value(contents: Contents, document_id: str, bases: Sequence[int]) -> Any:
    """Return what two sides have in common of a document.

    Where there are several bases that differ, they are merged first; where they disagree, what they come from
    themselves stands.
    """
    value = contents.value(document_id, bases[0])
    for base in bases[1:]:
        other = contents.value(document_id, base)
        under = merge_bases(contents, bases[0], base)
        common = base_value(contents, document_id, under) if under else ABSENT
        made = merge(common, value, other, contents.codec)
        value = common if made.conflicts else made.value
    return value


# -- resolving -----------------------------------------------------------------------------------------


def resolve(
    found: Merge, how: Decision, document_id: str | None = None, path: Iterable[Any] = ()
) -> tuple[Merge, int]:
    """Decide conflicts; return the merge after that, and how many were decided.

    Where an item is taken out of a list, the conflicts behind it are found one place before.

    Args:
        found: The merge.
        how: ``ours``, ``theirs``, ``base``, or a function of the conflict that returns the value.
        document_id: Of this document only.
        path: Only at this path and below it.

    Raises:
        ValueError: There is no such decision.
    """
    if isinstance(how, str) and how not in _SIDES:
        raise ValueError(f"a conflict is decided by {', '.join(_SIDES)} or a function, not by {how!r}")
    prefix = tuple(path)
    left: list[DocumentConflict] = []
    decided: list[DocumentConflict] = []
    for conflict in found.conflicts:
        is_meant = document_id in (None, conflict.document_id) and conflict.path[: len(prefix)] == prefix
        (decided if is_meant else left).append(conflict)
    changes, count = dict(found.changes), len(decided)
    while decided:
        conflict = decided.pop(0)
        value = getattr(conflict, how) if isinstance(how, str) else how(conflict)
        change = changes[conflict.document_id]
        made = put_at(change.value, conflict.path, value)
        changes[conflict.document_id] = change._replace(value=made, told=None)
        if value is ABSENT and conflict.path and type(conflict.path[-1]) is int:
            decided = [_moved(one, conflict, change.value) for one in decided]
            left = [_moved(one, conflict, change.value) for one in left]
    return replace(found, changes=changes, conflicts=left, resolved=found.resolved + count), count


def _moved(conflict: DocumentConflict, gone: DocumentConflict, document: Any) -> DocumentConflict:
    """Return a conflict as it lies once another one's item was taken out of its list, if it was one."""
    *before, place = gone.path
    at = len(before)
    step = conflict.path[at] if len(conflict.path) > at else None
    is_beside = conflict.document_id == gone.document_id and list(conflict.path[:at]) == before
    if not is_beside or type(step) is not int or step <= place or not _is_list(document, before):
        return conflict
    return conflict._replace(path=(*before, step - 1, *conflict.path[at + 1 :]))


def _is_list(value: Any, path: Iterable[Any]) -> bool:
    """Tell whether a list lies at a path; beside it there are dicts, whose keys may be numbers, too."""
    for step in path:
        if isinstance(step, ItemOf):
            value = next((item for item in value if item[step.key] == step.value), None)
        else:
            value = value[step]
    return isinstance(value, list)


def put_at(value: Any, path: Path, new: Any) -> Any:
    """Return a value in which ``new`` stands at a path; ``ABSENT`` takes away what is there."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, ItemOf):
        return _put_item(value, step, rest, new)
    if isinstance(value, list):
        items = list(value)
        items[step] = put_at(items[step], rest, new)
        return [item for item in items if item is not ABSENT]
    inner = put_at(value.get(step, ABSENT), rest, new)
    if inner is ABSENT:
        return {key: item for key, item in value.items() if key != step}
    return {**value, step: inner}


def _put_item(value: list[Any], step: ItemOf, rest: Path, new: Any) -> list[Any]:
    items = []
    is_there = False
    for item in value:
        if item[step.key] == step.value:
            is_there = True
            item = put_at(item, rest, new)
        items.append(item)
    if not is_there:
        items.append(new)
    return [item for item in items if item is not ABSENT]


# -- kept in the database ------------------------------------------------------------------------------


def packed(contents: Contents, found: Merge) -> Packet:
    """Return a merge as it is kept until its conflicts are resolved."""
    why = found.why
    body = {
        "parents": list(found.parents),
        "why": [why.author, why.time_us, why.message, dict(why.metadata)],
        "changes": [
            [one.document_id, _kept(one.value), one.same, one.told] for one in found.changes.values()
        ],
        "conflicts": [
            [
                one.document_id,
                [list(step) if isinstance(step, ItemOf) else [step] for step in one.path],
                one.kind.value,
                *(_kept(side) for side in (one.base, one.ours, one.theirs)),
            ]
            for one in found.conflicts
        ],
        "resolved": found.resolved,
    }
    return Packet(with_sum(contents.frames.pack(contents.codec.encode(body))))


def unpacked(contents: Contents, packet: Packet) -> Merge:
    """Return the merge of :func:`packed`."""
    body = contents.codec.decode(contents.frames.unpack(without_sum(packet.data, "the merge that waits")))
    changes = [Change(one, _given(value), same, told) for one, value, same, told in body["changes"]]
    return Merge(
        tuple(body["parents"]),
        Why(*body["why"]),
        {change.document_id: change for change in changes},
        [
            DocumentConflict(
                document_id,
                tuple(ItemOf(*step) if len(step) > 1 else step[0] for step in path),
                Kind(kind),
                *(_given(side) for side in sides),
            )
            for document_id, path, kind, *sides in body["conflicts"]
        ],
        body["resolved"],
    )


def _kept(value: Any) -> list[Any]:
    return [] if value is ABSENT else [value]


def _given(kept: list[Any]) -> Any:
    return kept[0] if kept else ABSENT
