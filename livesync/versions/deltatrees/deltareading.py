"""Reading the deltas of a collection: along a path of versions, in both directions of time."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from BTrees.OOBTree import OOBTree

from ...errors import (
    BranchNotFound,
    DocumentErased,
    InvalidCollectionState,
    InvalidCollectionVersion,
    InvalidOperation,
)
from ..diffs.threeway import ABSENT
from ..names import Names, check_name
from ..store.changesets import ERASED
from ..store.contents import Contents
from ..store.tree import NO_VERSION, fork_of, stretches, way_between
from ..stored import DELTAS_KEY, StoredHistory, find_history, readable
from ..values import CODEC, Codec
from .deltadocs import NOTES, PLACES, DeltaDocument, DeltaTree
from .opening import AllNames

#: (number, branch) of a version.
Place = tuple[int, str]

#: Versions from one to another, both included: -1 on the way back in time, 1 on the way on, 0 where it turns.
Path = Mapping[Place, int]


class DeltaReader:
    """The part of a :class:`~livesync.versions.deltatrees.deltas.DeltasCollection` that answers questions."""

    SCHEMA: ClassVar = DeltaDocument

    def __init__(self, connection_or_root: Any, name: str, *, codec: Codec = CODEC) -> None:
        self.name = check_name(name)
        self._root = connection_or_root.root() if hasattr(connection_or_root, "root") else connection_or_root
        self._codec = codec

    @property
    def is_view(self) -> bool:
        """Whether the collection has versions, whose deltas these are."""
        return find_history(self._root, self.name) is not None

    def build(self) -> bool:
        """Make the place where deltas lie; False where there is one, or the collection has versions."""
        if self._found() is not None:
            return False
        if DELTAS_KEY not in self._root:
            self._root[DELTAS_KEY] = OOBTree()
        stored = StoredHistory(self.name)
        stored.settings = {NOTES: OOBTree(), PLACES: OOBTree()}
        self._root[DELTAS_KEY][self.name] = stored
        return True

    # -- reading -----------------------------------------------------------------------------------

    def path(self, start: Place, end: Place) -> dict[Place, int]:
        """Return the path between two versions; empty where they are one.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
        """
        contents = self._contents()
        names = AllNames(contents)
        first, last = names.key(*start), names.key(*end)
        if first == last:
            return {}
        way, turn = way_between(contents.forks, first, last), fork_of(contents.forks, first, last)
        if turn == NO_VERSION:
            raise InvalidCollectionState(f"no path leads from {start} to {end}")
        places = names.places()
        middle = 0 if way.up and way.down else (-1 if way.up else 1)
        found = {places[key]: -1 for key in way.up}
        found[places[turn]] = middle
        return found | {places[key]: 1 for key in way.down}

    def get_delta_documents_in_path(
        self, path: Path, sorting_order: int | None = None
    ) -> dict[str, list[DeltaDocument]]:
        """Return the delta documents of the versions on a path, by document.

        Of a path in one direction its older end is left out, since what that version changed is not part of
        the way; of one that turns, all are given.

        Args:
            path: See :data:`Path`.
            sorting_order: 1: the oldest first; -1: the newest first; None: as the path has them.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: What is stored is damaged.
            ValueError: There is no such order.
        """
        if sorting_order not in (None, 1, -1):
            raise ValueError(f"sorting_order is 1, -1 or None, not {sorting_order!r}")
        contents = self._contents()
        stored = contents.stored
        places = AllNames(contents).places()
        trees: dict[str, DeltaTree] = {}
        found: dict[str, list[tuple[int, DeltaDocument]]] = {}
        for key, _ in self._walked(contents, path, is_turn_kept=True):
            for row in contents.rows(key):
                tree = trees.get(row.document_id)
                if tree is None:
                    tree = trees[row.document_id] = DeltaTree(stored, contents, row.document_id)
                made = tree.document(key, row, places)
                found.setdefault(row.document_id, []).append((_depth(contents, key), made))
        if sorting_order is not None:
            for documents in found.values():
                documents.sort(
                    key=lambda one: (_instant(one[1].timestamp), one[0]), reverse=sorting_order < 0
                )
        return {one: [document for _, document in found[one]] for one in sorted(found)}

    def get_deltas(self, path: Path) -> dict[str, list[bytes]]:
        """Return the encoded deltas to be applied on a path, by document, in the order of application.

        On the way back in time these are the backward ones, newest first; then the forward ones, oldest
        first. What the version changed where the path turns is none of them.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: A version that changed a document is missing on the path, or what is
                stored is damaged.
        """
        contents = self._contents()
        found: dict[str, list[bytes]] = {}
        last: dict[str, bytes] = {}
        for key, direction in self._walked(contents, path):
            for row in contents.rows(key):
                before, after = (row.before, row.after) if direction > 0 else (row.after, row.before)
                if last.get(row.document_id, before) != before:
                    raise InvalidCollectionState(
                        f"the path leaves out a version that changed document {row.document_id!r}"
                    )
                last[row.document_id] = after
                delta = row.forward if direction > 0 else row.backward
                found.setdefault(row.document_id, []).append(delta)
        return found

    def apply_deltas(
        self,
        per_document_deltas: Mapping[str, Sequence[bytes]],
        documents: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        return_current_documents: bool = False,
    ) -> Any:
        """Return what deltas make of documents, by id; ``{}`` for those that are gone afterwards.

        Args:
            per_document_deltas: As :meth:`get_deltas` returns them.
            documents: Id -> document, or documents with their id as ``_id``. One that is missing begins as
                ``{}``; one without deltas is returned as it is.
            return_current_documents: Return also what was given, by id, as the second of two.

        Raises:
            InvalidCollectionState: A delta does not fit its document.
            DocumentErased: What a document said was erased.
        """
        current = (
            dict(documents) if isinstance(documents, Mapping) else {one["_id"]: one for one in documents}
        )
        contents = Contents(StoredHistory(self.name), self._codec)
        updated = dict(current)
        for document_id, deltas in per_document_deltas.items():
            value = updated.get(document_id) or ABSENT
            for delta in deltas:
                if delta == ERASED:
                    raise DocumentErased(document_id)
                value = contents.applied({} if value is ABSENT else value, delta)
            updated[document_id] = {} if value is ABSENT else value
        return (updated, current) if return_current_documents else updated

    # -- the history below -------------------------------------------------------------------------

    def _found(self) -> StoredHistory | None:
        found = find_history(self._root, self.name)
        if found is not None:
            return found
        standalone: StoredHistory | None = self._root.get(DELTAS_KEY, {}).get(self.name)
        return None if standalone is None else readable(standalone)

    def _contents(self) -> Contents:
        stored = self._found()
        if stored is None:
            raise InvalidOperation(f"{self.name!r} has no deltas yet: call build")
        return Contents(stored, self._codec)

    def _walked(self, contents: Contents, path: Path, is_turn_kept: bool = False) -> list[tuple[int, int]]:
        """Return (version, direction) in the order of a walk, what is not part of the way left out."""
        names = AllNames(contents)
        places = list(path)
        directions = set(path.values())
        if directions == {1}:
            places = places[1:]
        elif directions == {-1}:
            places = places[:-1]
        elif not is_turn_kept:
            places = [place for place in places if path[place]]
        steps = []
        for place in places:
            key = names.key(*place) if self.is_view else key_or_none(names, place)
            if key is not None:  # elsewhere it is a version without deltas
                steps.append((key, path[place]))
        steps.sort(key=lambda step: (step[1] > 0, _depth(contents, step[0]) * (1 if step[1] > 0 else -1)))
        return steps


def key_or_none(names: Names, place: Place) -> int | None:
    try:
        return names.key(*place)
    except (BranchNotFound, InvalidCollectionVersion):
        return None


def _depth(contents: Contents, key: int) -> int:
    return sum(position + 1 for _, position in stretches(contents.forks, key))


def _instant(moment: datetime.datetime) -> float:
    """Return a time as a number; one without a zone is taken for UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
