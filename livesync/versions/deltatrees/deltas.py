"""The deltas of a collection by version and document: trees that are walked in both directions of time.

Deltas are stored in one way only, as :mod:`~livesync.versions.store.changesets` and
:mod:`~livesync.versions.store.entries` say. Of a collection with versions this is a view; what is added
through it belongs to versions that are open until they are closed
(:mod:`~livesync.versions.deltatrees.opening`). Without one, the same records lie under a root key of
their own, and the versions that they belong to have no record.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from BTrees.OOBTree import OOBTree

from ...errors import BrokenDelta, BrokenValue, InvalidCollectionState, InvalidOperation
from ...words import plural
from ..diffs.delta import apply
from ..diffs.threeway import ABSENT
from ..names import Names, check_branch_name
from ..store.changesets import GONE, Row
from ..store.contents import Contents
from ..store.entries import rewritten
from ..store.tree import NO_VERSION, Branch, is_on_way, parent_of, way_up
from ..store.writing import Change, encoded, write_row
from ..upkeep.cutting import cut_branches, doomed_by, remove_versions
from ..values import hash_of
from .deltadocs import NOTES, PLACES, DeltaDocument, DeltaTree, delta_id, place_of
from .deltareading import DeltaReader, Place, key_or_none
from .opening import AllNames


class DeltasCollection(DeltaReader):
    """The deltas of one collection.

    ``{}`` stands for a document that is not there, as in everything that is given and returned here.
    Everything happens within the caller's transaction; nothing is committed here.

    Args:
        connection_or_root: A ZODB connection, or its root.
        name: Of the collection. Where it has versions, their deltas are shown.
        codec: Encodes documents.

    Raises:
        ValueError: The name is none.
        UpgradeNeeded: What is stored is of another schema than this code's.
    """

    # -- writing -----------------------------------------------------------------------------------

    def add_delta(
        self,
        document_old: Any,
        document_new: Any,
        document_id: str,
        collection_version: int,
        branch: str,
        timestamp: datetime.datetime,
        branch_history: Sequence[Place],
        with_id: bytes | None = None,
    ) -> bytes | None:
        """Keep what a version changes in a document, both ways.

        A second call for the same document and version returns the same id; where the new document is another
        one, it takes the place of the first. Of a collection with versions, the version is a branch's next
        one, and open until ``VersionedCollection.close_version``.

        Args:
            document_old: The document before, at the newest version of ``branch_history``.
            document_new: What it becomes.
            document_id: The document.
            collection_version: Number of the version that changes it.
            branch: The branch of this version.
            timestamp: When; a zone is kept.
            branch_history: (number, branch) of the versions before, the newest first, to the root.
            with_id: An id from elsewhere; else one is made.

        Returns:
            The id; None where both documents are the same to the bit.

        Raises:
            InvalidCollectionState: The deltas before do not lead to ``document_old``, the history is not that
                of the branch, or later deltas follow from what is to be replaced.
            InvalidOperation: The version has a record, which says something else.
            UnkeptValue: A document holds what cannot be kept.
        """
        contents = self._contents()
        old, new = _or_absent(document_old), _or_absent(document_new)
        if self._hash(contents, document_id, old) == self._hash(contents, document_id, new):
            return None
        key = self._placed(contents, (collection_version, branch), branch_history)
        return self._added(contents, key, Change(document_id, new), old, timestamp, with_id)

    def insert_delta_docs(self, delta_docs: Iterable[DeltaDocument]) -> None:
        """Keep delta documents of another collection of this kind, under their ids; parents come first.

        Their versions follow what ``prev`` names, or the newest version of their branch. ``next`` is worked
        out here, so that it names only what is here. What is here already is passed over.

        Raises:
            InvalidCollectionState: What ``prev`` names is missing, a delta does not fit, or an id stands for
                another delta here. The transaction is to be aborted.
            InvalidOperation: Its version has a record here, which says something else.
        """
        contents = self._contents()
        for document in delta_docs:
            known = place_of(contents, document.id, document.document_id) if document.id else None
            before = self._place_of(contents, document)
            history = [] if before is None else [before]
            place = (document.collection_version_id, document.branch)
            key = self._placed(contents, place, history)
            if known is not None and known != (key, document.document_id):
                raise InvalidCollectionState(f"delta {document.id.hex()} is another one here")
            old = contents.value(document.document_id, parent_of(contents.forks, key))
            if old is ABSENT and document.backward and document.prev is None and not self.is_view:
                raise InvalidCollectionState(
                    f"document {document.document_id!r} is not here, and its first delta is not its creation:"
                    " keep its first state before"
                )
            new = _foreign(contents, old, document.forward)
            back = _foreign(contents, new, document.backward)
            if self._hash(contents, document.document_id, back) != self._hash(
                contents, document.document_id, old
            ):
                raise InvalidCollectionState(
                    f"delta {document.id.hex()} of {document.document_id!r} does not fit what is here"
                )
            change = Change(document.document_id, new)
            self._added(contents, key, change, old, document.timestamp, document.id or None)

    def keep_first_state(self, document_id: str, document: Any) -> None:
        """Keep a document as it is before its first delta: what :meth:`insert_delta_docs` applies these to.

        Raises:
            InvalidCollectionState: It is here, and is another one.
            InvalidOperation: The collection has versions, the first of which says what there was before.
            UnkeptValue: It holds what cannot be kept.
        """
        contents = self._contents()
        if self.is_view:
            raise InvalidOperation(f"{self.name!r} has versions: its first one says what there was before")
        body = encoded(contents, document_id, document)
        if contents.first_bytes(document_id) is not None:
            if contents.state(document_id, 0).hash != hash_of(body):
                raise InvalidCollectionState(f"document {document_id!r} has another first state")
        elif document_id in contents.stored.documents:
            raise InvalidCollectionState(f"document {document_id!r} has deltas already")
        else:
            contents.keep_pack([document_id, body])

    def delete_subtrees(self, root: Place, leaves: Iterable[Place]) -> None:
        """Delete the deltas of a version and of those after it, down to some leaves, and these versions.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: A leaf does not come after the root, or a version stays that comes after
                one that would go.
            InvalidOperation: HEAD is at one of them, a version that stays has merged one, conflicts wait, or
                it is the first one: ``VersionedCollection.delete_version_subtree`` deletes these.
        """
        contents = self._contents()
        names = AllNames(contents)
        first = names.key(*root)
        doomed = {first}
        for leaf in leaves:
            key = names.key(*leaf)
            if not is_on_way(contents.forks, first, key):
                raise InvalidCollectionState(f"version {leaf} does not come after {root}")
            doomed.update(way_up(contents.forks, key, parent_of(contents.forks, first)))
        for key in sorted(names.places().keys()):
            if key not in doomed and is_on_way(contents.forks, first, key):
                raise InvalidCollectionState(f"version {names.place(key)} comes after {root}, and is no leaf")
        if self.is_view:
            self._check_deletable(contents, names, first, doomed)
        for key in sorted(doomed, reverse=True):
            self._removed(contents, key, {row.document_id for row in contents.rows(key)})
        remove_versions(contents, doomed)
        cut_branches(names, contents.forks, first, doomed)

    def rebranch(self, start_version: Place, new_branch: str, num_versions: int) -> None:
        """Move the versions from one on to the end of its branch to another one, numbered from 0 there.

        No delta is written: names lie in the table of branches alone.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: The branch has another number of versions from there on.
            ValueError: The new name is taken, or is none.
        """
        contents = self._contents()
        names = AllNames(contents)
        number, name = start_version
        key = names.key(number, name)
        branch = names.branch(name)
        if check_branch_name(new_branch) in names.branches():
            raise ValueError(f"there is a branch {new_branch!r} already")
        if branch.total - number != num_versions:
            found = plural(branch.total - number, "version")
            raise InvalidCollectionState(f"branch {name!r} has {found} from {number} on, not {num_versions}")
        moved = Branch(parent_of(contents.forks, key), branch.since(number))
        names.set_branch(new_branch, moved)
        names.set_branch(name, branch.until(number))
        if names.head[0] == name and names.head[1] in moved.versions():
            names.set_head(new_branch, names.head[1])

    # -- the history below -------------------------------------------------------------------------

    def _added(
        self,
        contents: Contents,
        key: int,
        change: Change,
        old: Any,
        timestamp: datetime.datetime,
        with_id: bytes | None,
    ) -> bytes:
        """Add to a version what it makes of a document; return the delta's id."""
        document_id, new = change.document_id, change.value
        parent = parent_of(contents.forks, key)
        self._check_before(contents, document_id, old, parent)
        known = self._row(contents, key, document_id)
        if known is not None:
            if contents.hash(document_id, key) == self._hash(contents, document_id, new):
                return delta_id(contents.stored, contents, key, document_id)
            with_id = with_id or delta_id(contents.stored, contents, key, document_id)
        self._check_open(contents, key)
        for later in DeltaTree(contents.stored, contents, document_id).prev:
            if later != key and is_on_way(contents.forks, key, later):
                number, branch = AllNames(contents).place(key)
                raise InvalidCollectionState(
                    f"document {document_id!r} has deltas after version {number} of {branch!r}"
                )
        if known is not None:
            self._removed(contents, key, {document_id})
        row = write_row(contents, key, parent, change)
        if row is None:
            raise InvalidCollectionState(f"document {document_id!r} is the same at both ends of the delta")
        return self._noted(contents, key, row, timestamp, with_id)

    def _check_open(self, contents: Contents, key: int) -> None:
        """Make sure that a version has no record, which a new row would belie."""
        if key in contents.stored.records:
            number, branch = AllNames(contents).place(key)
            raise InvalidOperation(
                f"version {number} of {branch!r} has a record: deltas are added to a branch's next version"
            )

    @staticmethod
    def _check_deletable(contents: Contents, names: AllNames, first: int, doomed: set[int]) -> None:
        if parent_of(contents.forks, first) == NO_VERSION:
            raise InvalidOperation("the first version is deleted with the collection: drop it")
        if contents.stored.references.conflicts is not None:
            raise InvalidOperation("conflicts wait to be resolved, or the merge to be aborted, before that")
        if names.head[1] in doomed:
            raise InvalidOperation("HEAD is at one of them: use delete_version_subtree, or check out another")
        if doomed_by(contents, first) - doomed:
            raise InvalidOperation("versions without a name come after it: collect garbage before that")

    def _placed(self, contents: Contents, place: Place, history: Sequence[Place]) -> int:
        """Return the version of a place; where it is new, it is made, with those before it."""
        names = AllNames(contents)
        chain = [place, *history]
        keys = [key_or_none(names, one) for one in chain]
        oldest_new = next((number for number, key in enumerate(keys) if key is not None), len(chain))
        parent = keys[oldest_new] if oldest_new < len(chain) else None
        for key in keys[oldest_new:]:
            if key is None or parent is None or not is_on_way(contents.forks, key, parent):
                raise InvalidCollectionState(
                    f"version {place[0]} of {place[1]!r} has another history here than is given"
                )
        for number, name in reversed(chain[:oldest_new]):
            parent = self._made(contents, names, number, name, NO_VERSION if parent is None else parent)
        assert parent is not None, "the chain holds one version at least"
        return parent

    def _made(self, contents: Contents, names: Names, number: int, name: str, parent: int) -> int:
        known = names.branches().get(name)
        if known is None:
            if parent == NO_VERSION and len(contents.forks):
                raise InvalidCollectionState(
                    f"branch {name!r} has no history that leads to the first version"
                )
            known = Branch(parent)
            check_branch_name(name)
        if known.tip != parent or number < known.total or (self.is_view and number > known.total):
            raise InvalidCollectionState(f"branch {name!r} does not go on at version {number}")
        while known.total <= number:
            following = names.next_key(known)
            names.take(following)
            known = known.with_next(following.key)
        names.set_branch(name, known)
        return known.tip

    def _place_of(self, contents: Contents, document: DeltaDocument) -> Place | None:
        """Return where the version of a delta document hangs: a version that is here; None: at nothing."""
        names = AllNames(contents)
        branches = names.branches()
        if document.prev is not None:
            found = place_of(contents, document.prev, document.document_id)
            if found is None or found[1] != document.document_id:
                raise InvalidCollectionState(
                    f"delta {document.id.hex()} of {document.document_id!r} follows {document.prev.hex()},"
                    " which is not here"
                )
            if document.branch not in branches:
                return names.place(found[0])
        branch = branches.get(document.branch)
        if branch is None or branch.key(document.collection_version_id) is not None:
            return None
        if not branch.total:
            return None if branch.base == NO_VERSION else names.place(branch.base)
        return branch.total - 1, document.branch

    def _check_before(self, contents: Contents, document_id: str, old: Any, parent: int) -> None:
        """Make sure that a document is what it is said to be before; keep its first state where it is new."""
        stored = contents.stored
        is_new = document_id not in stored.documents and contents.first_bytes(document_id) is None
        if is_new and not self.is_view and old is not ABSENT and parent != NO_VERSION:
            self.keep_first_state(document_id, old)
        known = contents.hash(document_id, parent)
        # {} stands for a document that is not there, and may be one that says nothing
        wanted = {
            self._hash(contents, document_id, one) for one in ([old] if old is not ABSENT else [ABSENT, {}])
        }
        if known not in wanted:
            raise InvalidCollectionState(
                f"document {document_id!r} is another one before this version than its deltas say"
            )

    def _hash(self, contents: Contents, document_id: str, value: Any) -> bytes:
        return b"" if value is ABSENT else hash_of(encoded(contents, document_id, value))

    def _row(self, contents: Contents, key: int, document_id: str) -> Row | None:
        return next((row for row in contents.rows(key) if row.document_id == document_id), None)

    def _removed(self, contents: Contents, key: int, document_ids: set[str]) -> None:
        """Take deltas of a version away."""
        stored = contents.stored
        rows = [row for row in contents.rows(key) if row.document_id not in document_ids]
        stored.changes.pop(key, None)
        if rows:
            contents.keep_rows(key, rows)
        for document_id in sorted(document_ids):
            if not rewritten(stored.documents[document_id], {key: None}):
                del stored.documents[document_id]
            if NOTES in stored.settings and (key, document_id) in stored.settings[NOTES]:
                kept_id, _ = stored.settings[NOTES].pop((key, document_id))
                del stored.settings[PLACES][kept_id]

    def _noted(
        self, contents: Contents, key: int, row: Row, timestamp: datetime.datetime, given: bytes | None
    ) -> bytes:
        stored, encode = contents.stored, contents.codec.encode
        number, branch = AllNames(contents).place(key)
        made = given or hash_of(encode((row.document_id, number, branch, timestamp, row.forward, row.before)))
        if NOTES not in stored.settings:
            stored.settings = {**stored.settings, NOTES: OOBTree(), PLACES: OOBTree()}
        if place_of(contents, made, row.document_id) is not None:
            raise InvalidCollectionState(f"there is a delta {made.hex()} already")
        stored.settings[NOTES][key, row.document_id] = (made, encode(timestamp))
        stored.settings[PLACES][made] = (key, row.document_id)
        return made


def _foreign(contents: Contents, value: Any, delta: bytes) -> Any:
    """Return what a delta from elsewhere makes of a document."""
    if delta == GONE:
        return ABSENT
    try:
        return apply(None if value is ABSENT else value, contents.codec.decode_foreign(delta))
    except (BrokenDelta, BrokenValue) as exc:
        raise InvalidCollectionState(f"a delta that was given does not fit: {exc}") from exc


def _or_absent(document: Any) -> Any:
    return ABSENT if document == {} else document
