"""From one version to another: what differs, and what documents become on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from operator import ne, not_
from typing import Any, Final

from ...errors import InvalidOperation
from ..diffs.threeway import ABSENT
from ..values import hash_of
from .changesets import ERASED, GONE, NOTHING, SHORT
from .contents import Contents
from .tree import way_between
from .writing import LONGEST_CHAIN, differs

#: How deltas begin that need nothing of what was before: replacements, and what removes a document.
_ANEW: Final = frozenset({b"\x92\xc0", GONE, ERASED})


def changed_ids(contents: Contents, start: int, end: int) -> list[str]:
    """Return the ids of the documents that differ between two versions, in order.

    What was changed and changed back is none of them: whole hashes decide.

    Raises:
        VersionPruned: The contents of one of the two were pruned.
    """
    contents.check_kept(start)
    contents.check_kept(end)
    way = way_between(contents.forks, start, end)
    pages = [(after, before) for key in way.up for before, after in contents.shorts(key)]
    pages += [page for key in way.down for page in contents.shorts(key)]
    last: dict[str, int] = {}
    for _, ends in pages:
        last |= ends
    first = last.copy()  # for the order of the ids: both have the same one
    for starts, _ in reversed(pages):
        first |= starts
    # what has other short hashes differs; of the few that have the same ones, the whole hashes are asked
    is_other = [*map(ne, last.values(), first.values())]
    found = [*compress(last, is_other)]
    if len(found) < len(last):
        found += [
            document_id
            for document_id in compress(last, map(not_, is_other))
            if contents.hash(document_id, start) != contents.hash(document_id, end)
        ]
    found.sort()
    return found


class Steps:
    """What happens to documents on the way between two versions, and what they become on it.

    Where a document has too many deltas to be applied, they are not kept: a long way takes no more memory.

    Args:
        contents: Of the history.
        start, end: The versions.

    Raises:
        VersionPruned: The contents of one of the two were pruned.
    """

    def __init__(self, contents: Contents, start: int, end: int) -> None:
        contents.check_kept(start)
        contents.check_kept(end)
        self._contents = contents
        self._start, self._end = start, end
        self._starts: dict[str, bytes] = {}
        self._ends: dict[str, bytes] = {}
        self._first: dict[str, bytes] = {}
        self._later: dict[str, list[bytes] | None] = {}
        way = way_between(contents.forks, start, end)
        for key in way.up:
            for ids, _, deltas, ends, starts in contents.columns(key):
                self._note(ids, deltas, starts, ends)
        for key in way.down:
            for ids, deltas, _, starts, ends in contents.columns(key):
                self._note(ids, deltas, starts, ends)

    def _note(
        self, ids: Sequence[str], deltas: Sequence[bytes], starts: Sequence[bytes], ends: Sequence[bytes]
    ) -> None:
        first, later = self._first, self._later
        for document_id, delta, start in zip(ids, deltas, starts, strict=True):
            if document_id not in first:
                first[document_id] = delta
                self._starts[document_id] = start
            elif delta[:2] in _ANEW:
                first[document_id] = delta
                later.pop(document_id, None)
            else:
                more = later.setdefault(document_id, [])
                if more is not None:
                    more.append(delta)
                    if len(more) >= LONGEST_CHAIN:
                        later[document_id] = None
        self._ends.update(zip(ids, ends, strict=True))

    def differing(self) -> list[str]:
        """Return the ids of the documents that differ between both ends, or may: all that do, in order."""
        contents, start, end = self._contents, self._start, self._end
        return [
            one
            for one in sorted(self._ends)
            if self._ends[one] != self._starts[one]
            or contents.hash(one, start) != contents.hash(one, end)
            or contents.is_erased(one, start) != contents.is_erased(one, end)
        ]

    def walked(self, documents: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Yield (id, document at the end) for documents as they are at the start.

        Each is compared with its hash before and after. Where what comes out differs, or the way is long, the
        document is read as it was kept there. The short hash before is a hint, as it decides nothing alone.

        Raises:
            InvalidOperation: A document is not what it was at the start.
            InvalidCollectionState: One is damaged where it is kept, too.
        """
        contents, starts, ends = self._contents, self._starts, self._ends
        encode, applied = contents.codec.encode, contents.applied
        for one, value in documents:
            short = NOTHING if value is ABSENT else hash_of(encode(value))[:SHORT]
            if short != starts[one] and differs(contents, one, value, self._start):
                raise InvalidOperation(
                    f"document {one!r} was changed, and nobody has said so: commit the change first"
                )
            later = self._later.get(one, ())
            if later is None:
                yield one, contents.value(one, self._end)
                continue
            value = applied(value, self._first[one])
            for delta in later:
                value = applied(value, delta)
            short = NOTHING if value is ABSENT else hash_of(encode(value))[:SHORT]
            yield one, value if short == ends[one] else contents.value(one, self._end)


def net_rows(contents: Contents, start: int, end: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield (id, document before, document after) of what differs between two versions."""
    for document_id in changed_ids(contents, start, end):
        yield document_id, contents.value(document_id, start), contents.value(document_id, end)
