"""From one version to another: what differs, and what documents become on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..diffs.threeway import ABSENT
from ..values import hash_of
from .changesets import NOTHING, SHORT
from .contents import Contents
from .tree import way_between

#: Deltas of one document after which it is read as a whole instead.
_MOST_DELTAS: Final = 16


@dataclass(slots=True)
class Step:
    """One document on a way: encoded deltas in order, and the short hashes at both ends.

    Where there are too many to be applied, ``deltas`` is None: a long way takes no more memory for it.
    """

    deltas: list[bytes] | None
    start: bytes
    end: bytes


def changed_ids(contents: Contents, start: int, end: int) -> Iterator[str]:
    """Yield the ids of the documents that differ between two versions, in order.

    What was changed and changed back is none of them: whole hashes decide.

    Raises:
        VersionPruned: The contents of one of the two were pruned.
    """
    contents.check_kept(start)
    contents.check_kept(end)
    way = way_between(contents.forks, start, end)
    pages = [(ids, after, before) for key in way.up for ids, before, after in contents.shorts(key)]
    pages += [page for key in way.down for page in contents.shorts(key)]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for ids, _, ends in pages:
        last.update(zip(ids, ends))
    for ids, starts, _ in reversed(pages):
        first.update(zip(ids, starts))
    for document_id in sorted(first):
        if first[document_id] != last[document_id] or contents.hash(document_id, start) != contents.hash(
            document_id, end
        ):
            yield document_id


def steps_between(contents: Contents, start: int, end: int) -> dict[str, Step]:
    """Return what happens to each document on the way between two versions.

    Raises:
        VersionPruned: The contents of one of the two were pruned.
    """
    contents.check_kept(start)
    contents.check_kept(end)
    found: dict[str, Step] = {}

    def note(document_id: str, delta: bytes, before: bytes, after: bytes) -> None:
        known = found.get(document_id)
        if known is None:
            found[document_id] = Step([delta], before, after)
            return
        known.end = after
        if known.deltas is not None:
            known.deltas.append(delta)
            if len(known.deltas) > _MOST_DELTAS:
                known.deltas = None

    way = way_between(contents.forks, start, end)
    for key in way.up:
        for row in contents.rows(key):
            note(row.document_id, row.backward, row.after, row.before)
    for key in way.down:
        for row in contents.rows(key):
            note(row.document_id, row.forward, row.before, row.after)
    return found


def walked(contents: Contents, document_id: str, step: Step, value: Any, end: int) -> Any:
    """Return what a document is at the end of a way, given what it is at its start.

    What comes out is compared with its hash; where it differs, or the way is long, the document is read as it
    was kept there.

    Raises:
        InvalidCollectionState: It is damaged there, too.
    """
    if step.deltas is not None:
        encode = contents.codec.encode
        for delta in step.deltas:
            value = contents.applied(value, delta)
        short = NOTHING if value is ABSENT else hash_of(encode(value))[:SHORT]
        if short == step.end:
            return value
    return contents.value(document_id, end)


def is_at_start(contents: Contents, step: Step, value: Any) -> bool:
    """Tell whether a document has the short hash that a way begins with.

    It is a hint, as short hashes decide nothing alone: a way's end is verified by itself.
    """
    short = NOTHING if value is ABSENT else hash_of(contents.codec.encode(value))[:SHORT]
    return short == step.start


def net_rows(contents: Contents, start: int, end: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield (id, document before, document after) of what differs between two versions."""
    for document_id in changed_ids(contents, start, end):
        yield document_id, contents.value(document_id, start), contents.value(document_id, end)
