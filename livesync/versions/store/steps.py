"""What documents become on the way from one version to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from ...errors import InvalidOperation
from ..diffs.threeway import ABSENT
from .changesets import ERASED, GONE
from .checks import NOTHING, check_of
from .contents import Contents, applied
from .tree import way_between
from .writing import LONGEST_CHAIN, differs

#: How deltas begin that need nothing of what was before: replacements, and what removes a document.
_ANEW: Final = frozenset({b"\x92\xc0", GONE, ERASED})

#: Documents whose deltas are decoded at once.
_AT_ONCE: Final = 128


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
            for columns in contents.columns(key, is_back=True):
                self._note(*columns)
        for key in way.down:
            for columns in contents.columns(key, is_back=False):
                self._note(*columns)

    def _note(
        self, ids: Sequence[str], deltas: Sequence[bytes], starts: Sequence[bytes], ends: Sequence[bytes]
    ) -> None:
        first, later, all_starts = self._first, self._later, self._starts
        for document_id, delta, start in zip(ids, deltas, starts, strict=True):
            if document_id not in first:
                first[document_id] = delta
                all_starts[document_id] = start
            elif delta[:2] in _ANEW:
                first[document_id] = delta
                later.pop(document_id, None)
            else:
                more = later.setdefault(document_id, [])
                if more is not None:
                    more.append(delta)
                    if len(more) >= LONGEST_CHAIN:
                        first[document_id] = GONE
                        later[document_id] = None
        self._ends.update(zip(ids, ends, strict=True))

    def differing(self) -> list[str]:
        """Return the ids of the documents that differ between both ends, or may: all that do, in order."""
        contents, start, end = self._contents, self._start, self._end
        ids = sorted(self._ends)
        befores, afters = map(self._starts.__getitem__, ids), map(self._ends.__getitem__, ids)
        return [
            one
            for one, before, after in zip(ids, befores, afters)
            if before != after
            or contents.hash(one, start) != contents.hash(one, end)
            or contents.is_erased(one, start) != contents.is_erased(one, end)
        ]

    def walked(self, documents: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Yield (id, document at the end) for documents as they are at the start.

        Each is compared with its check before and after; where one differs, or is not known, with its whole
        hash before, and it is read as it was kept at the end. It is also where the way is long.

        Raises:
            InvalidOperation: A document is not what it was at the start.
            InvalidCollectionState: One is damaged where it is kept, too.
        """
        rest = iter(documents)
        while part := [*islice(rest, _AT_ONCE)]:
            ids, values = zip(*part)
            self._check_unchanged(ids, values)
            yield from zip(ids, self._ends_of(ids, values))

    def _check_unchanged(self, ids: Sequence[str], values: Sequence[Any]) -> None:
        starts = map(self._starts.__getitem__, ids)
        for one, value, check, start in zip(ids, values, self._checks(values), starts):
            if check != start and differs(self._contents, one, value, self._start):
                raise InvalidOperation(
                    f"document {one!r} was changed, and nobody has said so: commit the change first"
                )

    def _ends_of(self, ids: Sequence[str], values: Sequence[Any]) -> list[Any]:
        """Return what documents are at the end, for those at the start."""
        contents, end = self._contents, self._end
        ended = [*map(applied, values, contents.deltas([*map(self._first.__getitem__, ids)]))]
        more = [(place, deltas) for place, deltas in enumerate(map(self._later.get, ids)) if deltas]
        decoded = iter(contents.deltas([delta for _, deltas in more for delta in deltas]))
        for place, deltas in more:
            for delta in islice(decoded, len(deltas)):
                ended[place] = applied(ended[place], delta)
        checks = map(self._ends.__getitem__, ids)
        return [
            value if found == check else contents.value(one, end)
            for one, value, found, check in zip(ids, ended, self._checks(ended), checks)
        ]

    def _checks(self, values: Iterable[Any]) -> list[bytes]:
        """Return the checks of documents."""
        encode = self._contents.codec.encode
        return [NOTHING if value is ABSENT else check_of(encode(value)) for value in values]
