"""Blame: which version made each value of a document what it is.

Walks a document's states from the newest to the oldest and follows every value back to where it lay before,
also where items of a list have moved; a value that is not there before was made by the version in between. A
value that a merge took from its other parent is followed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from .diffs.threeway import ABSENT
from .log import LogEntry, documents_history
from .names import Places
from .store.contents import Contents
from .values import Codec, shown_path

Path = tuple[Any, ...]


class Blamed(NamedTuple):
    """One value of a document, and the version that made it so.

    Attributes:
        path: Keys and indexes.
        value: What lies there: no dict, list or tuple, unless an empty one.
        entry: The version.
    """

    path: Path
    value: Any
    entry: LogEntry

    def __str__(self) -> str:
        place = f" {self.entry.version} ({self.entry.branch})" if self.entry.branch else ""
        who = self.entry.id[:12] + place
        when = f"{self.entry.timestamp:%Y-%m-%d}"
        return f"{who} {self.entry.author or '-'} {when} {shown_path(self.path)}: {self.value!r}"


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) of all that holds nothing else, in order."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, (list, tuple)) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def kept(new: Any, old: Any, codec: Codec, at: Path = (), was: Path = ()) -> Iterator[tuple[Path, Path]]:
    """Yield (path in the new value, path in the old one) of all leaves that were there before.

    Items of lists are matched by what they say, those that changed in their order.
    """
    if type(new) is not type(old):
        return
    if isinstance(new, dict) and new:
        known = {(type(key), key): key for key in old}
        for key, inner in new.items():
            if (type(key), key) in known:
                yield from kept(inner, old[key], codec, (*at, key), (*was, key))
    elif isinstance(new, (list, tuple)) and new:
        ours, theirs = [codec.encode(item) for item in new], [codec.encode(item) for item in old]
        for _, start, end, old_start, old_end in SequenceMatcher(None, ours, theirs, False).get_opcodes():
            for one, other in zip(range(start, end), range(old_start, old_end)):
                yield from kept(new[one], old[other], codec, (*at, one), (*was, other))
    elif codec.encode(new) == codec.encode(old):
        yield at, was


def blamed(contents: Contents, places: Places, document_id: str, key: int) -> list[Blamed]:
    """Return every value of a document at a version with the version that made it, in the document's order.

    Returns:
        Nothing where there is no such document then.

    Raises:
        InvalidCollectionState: What is stored is damaged.
    """
    value = contents.value(document_id, key)
    if value is ABSENT:
        return []
    found: dict[int, LogEntry] = {}  # by the number of the leaf
    found_leaves = list(leaves(value))
    _assign(
        contents,
        places,
        document_id,
        key,
        {path: [number] for number, (path, _) in enumerate(found_leaves)},
        found,
    )
    return [Blamed(path, leaf, found[number]) for number, (path, leaf) in enumerate(found_leaves)]


def _assign(
    contents: Contents,
    places: Places,
    document_id: str,
    key: int,
    pending: dict[Path, list[int]],
    found: dict[int, LogEntry],
) -> None:
    """Find the versions of leaves, given by the paths where they lie at ``key``."""
    history = documents_history(contents, places, document_id, key)
    newer = contents.value(document_id, key)
    for number, entry in enumerate(history):
        is_last = number + 1 == len(history)
        older = ABSENT if is_last else contents.value(document_id, history[number + 1].key)
        rest, pending = _carried(contents, newer, older, pending)
        if rest and len(entry.record.parents) > 1:
            rest = _from_merged(contents, places, document_id, newer, entry, rest, found)
        for numbers in rest.values():
            found.update(dict.fromkeys(numbers, entry))
        newer = older
        if not pending:
            return


def _from_merged(
    contents: Contents,
    places: Places,
    document_id: str,
    newer: Any,
    entry: LogEntry,
    rest: dict[Path, list[int]],
    found: dict[int, LogEntry],
) -> dict[Path, list[int]]:
    """Follow leaves into a merge's other parents; return those that the merge itself made."""
    for parent_id in entry.record.parents[1:]:
        other = contents.stored.keys.get(parent_id)
        if other is None or not rest:
            continue
        rest, there = _carried(contents, newer, contents.value(document_id, other), rest)
        if there:
            _assign(contents, places, document_id, other, there, found)
    return rest


def _carried(
    contents: Contents, newer: Any, older: Any, pending: dict[Path, list[int]]
) -> tuple[dict[Path, list[int]], dict[Path, list[int]]]:
    """Return the leaves that were not there before, and those that were, by the paths where they lay then."""
    if older is ABSENT:
        return pending, {}
    before = dict(kept(newer, older, contents.codec))
    rest = {path: numbers for path, numbers in pending.items() if path not in before}
    carried: dict[Path, list[int]] = {}
    for path, numbers in pending.items():
        if path in before:
            carried.setdefault(before[path], []).extend(numbers)
    return rest, carried
