"""A collection of documents with its past: what an application, the command line and the pages call.

Versions are (number, branch): numbers count from 0 on each branch, and the first branch is ``main``.
Everything happens within the caller's transaction, wholly or, where it raises, not at all; nothing is
committed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import CollectionAlreadyInitialised, InvalidOperation
from .deltatrees.opening import check_none_open, closed, opened
from .looking import LookingCollection
from .names import MAIN, Names, check_name
from .naming import NamingCollection
from .remotes.both import RemoteCollection
from .remotes.comparing import ComparedCollection
from .several.part import Part
from .several.parts import (
    COLLECTIONS,
    TRAVELLING,
    Address,
    check_free,
    check_known,
    check_rule,
    collections_of,
)
from .stashing import StashingCollection
from .store.contents import Contents
from .store.tree import NO_VERSION, Branch, parent_of
from .store.writing import Change, learn_first, write_root
from .stored import StoredHistory, find_histories
from .upkeep.checking import Fault, check
from .upkeep.cutting import cut_branches, doomed_by, remove_versions
from .upkeep.erasing import erase
from .upkeep.keeping import KeepingCollection
from .working import wholly

#: What the first version says where nobody says anything.
FIRST_MESSAGE: Final = "Initial collection."


class VersionedCollection(
    NamingCollection,
    StashingCollection,
    LookingCollection,
    RemoteCollection,
    KeepingCollection,
    ComparedCollection,
):
    """One collection's versions.

    Args:
        connection_or_root: A ZODB connection, or its root.
        name: Of the collection. Without a host its documents are the mapping of this name in the root: id ->
            document, a plain value; one that notes what is written to it is made where there is none.
        host: The application whose documents they are: what its objects say, and take back.
        working: Where documents come from otherwise.
        codec: Encodes documents; one of your own knows more types.
        author: Who makes versions, unless a call says so. "": those who changed the documents, as the track
            says; else the user of the transaction.
        clock: Returns epoch seconds.
        collections: Where it is the history of several collections: their names, each that of a mapping in
            the root; or name -> mapping; or, of a host's documents, name -> rule, which is ``FIELD=VALUE`` of
            a document or ``PREFIX*`` of its id, and of which the first that fits has a document. A document's
            id is then ``COLLECTION:ID`` (:class:`~livesync.versions.several.parts.Address`); :meth:`part`
            gives one collection. What a history is of is kept: once it has versions, only mappings have to be
            given.

    Raises:
        ValueError: The name is none, or a rule.
        TypeError: A mapping that is given is not persistent.
        InvalidOperation: The history is not of the collections that are given.
        UpgradeNeeded: What is stored is of another schema than this code's.
    """

    # -- making versions ---------------------------------------------------------------------------

    def init(
        self,
        message: str = FIRST_MESSAGE,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make the first version, (0, ``main``), of all documents there are; return True.

        Few documents are held in memory at a time, however many there are; ids of all are. Where it raises,
        what was written is taken back.

        Raises:
            CollectionAlreadyInitialised: It has versions.
            InvalidOperation: Its mapping, or one of its collections', has versions in another history.
            UnkeptValue: A document holds what cannot be kept.
        """
        if self.is_tracked:
            raise CollectionAlreadyInitialised(f"{self.name!r} has versions already")
        stored = StoredHistory(self.name)
        self._keep_collections(stored)
        contents = Contents(stored, self._codec)
        names = Names(stored.references)
        working = self.working
        if self.collections:
            metadata = {**(metadata or {}), TRAVELLING: list(self.collections)}
        ids = sorted(working.ids())
        why = self._why(message, author, metadata)
        following = names.next_key(Branch(NO_VERSION))
        key = following.key
        connection = getattr(self._root, "_p_jar", None)
        if learn_first(contents, ids, working.read) and connection is not None:
            with wholly(connection):
                find_histories(self._root, create=True)[self.name] = stored
                write_root(contents, key, ids, working.read, why, self._put_out_of_memory)
        else:
            write_root(contents, key, ids, working.read, why, lambda: None)
            find_histories(self._root, create=True)[self.name] = stored
        names.take(following)
        names.set_branch(MAIN, Branch(NO_VERSION).with_next(key))
        names.set_head(MAIN, key)
        self._settle()
        return True

    def register(
        self,
        message: str | None = None,
        branch_name: str | None = None,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make a version of what has changed; False where nothing has, or there is nothing to follow.

        Args:
            message: Why. None: what was noted with the changes, as the track says; else the note of the
                transaction.
            branch_name: A new branch's, where HEAD is detached; without meaning elsewhere.
            author: Who; None: the collection's.
            metadata: Plain values of your own.

        Raises:
            ValueError: HEAD is detached, and no name is given, or one that is taken or is none; or what is
                said is too long.
            TypeError: What is said is no text.
            InvalidOperation: A merge waits for its conflicts to be resolved.
            UnkeptValue: A document holds what cannot be kept; the text names it and the path.
        """
        if not self.is_tracked:
            return False
        self._check_no_conflicts("a version is made")
        names = self.names
        name, head = names.head
        branch = names.branch(name)
        if names.is_detached:
            if branch_name is None:
                raise ValueError("HEAD is detached: give the name of a new branch")
            name, branch = self._new_name(branch_name), Branch(head)
        working = self.working
        changes = [Change(one, value) for one, value in working.read(self._candidates())]
        why = self._why(message, author, metadata)
        made = self._write(name, branch, (head,), changes, why)
        if made is not None:
            names.set_head(name, made)
        self._settle()
        return made is not None

    @property
    def open_versions(self) -> list[tuple[int, str]]:
        """(number, branch) of the versions that deltas were added to, and that have no record yet."""
        return [(number, name) for _, number, name in opened(self.contents)] if self.is_tracked else []

    def close_version(
        self,
        message: str,
        branch: str | None = None,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[int, str]:
        """Write the record of a branch's oldest open version; then it is one as any other.

        Where HEAD is at the end of the branch, the working documents follow.

        Args:
            message: Why.
            branch: None: the current one.
            author, metadata: As :meth:`register` takes them.

        Returns:
            (number, branch) of it.

        Raises:
            BranchNotFound: There is no such branch.
            InvalidOperation: None is open there, or HEAD is there, and there are changes, or conflicts wait.
            ReadOnlyHost: HEAD is there, and the application takes no documents back.
        """
        contents, names = self.contents, self.names
        name = names.head[0] if branch is None else branch
        is_on_it = names.head[0] == name and not names.is_detached
        if is_on_it:
            self._check_no_conflicts("a version is closed")
            self._check_clean("a version is closed")
        with self._wholly():
            key = closed(contents, name, self._why(message, author, metadata))
            if is_on_it:
                self._go_to(name, key)
        return names.place(key)

    # -- going to versions -------------------------------------------------------------------------

    def checkout(self, version: int | None = None, branch: str | None = None) -> bool:
        """Make the working documents what they were at a version; False without versions.

        Raises:
            ValueError: Neither version nor branch is given.
            InvalidOperation: There are changes, or conflicts.
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            ReadOnlyHost: The application takes no documents back.
            InvalidCollectionState: A document is damaged; nothing was changed.
        """
        if version is None and branch is None:
            raise ValueError("check out what? give a version, a branch, or both")
        if not self.is_tracked:
            return False
        name, key = self.find(version, branch)
        if (name, key) == self.names.head:
            return True
        self._check_no_conflicts("a checkout")
        self._check_clean("a checkout")
        self._go_to(name, key)
        return True

    # -- taking versions away ----------------------------------------------------------------------

    def delete_version_subtree(self, version: int, branch: str | None = None) -> bool:
        """Delete a version and all that came after it, branches that hang from these included.

        Where HEAD is at one of them, changes are discarded and HEAD goes to the parent; elsewhere both stay
        as they are. Deleting the first version drops the collection.

        Returns:
            False without versions.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidOperation: A version that stays has merged one of them, the contents of the version before
                it were pruned, or conflicts wait.
            ReadOnlyHost: The application takes no documents back.
        """
        if not self.is_tracked:
            return False
        self._check_no_conflicts("versions are deleted")
        contents, names = self.contents, self.names
        own, key = self.find(version, branch)
        parent = parent_of(contents.forks, key)
        if parent == NO_VERSION:
            self.drop()
            return True
        if contents.is_pruned(parent):
            number, name = names.place(parent)
            raise InvalidOperation(
                f"version {number} of {name!r}, which would be the newest then, was pruned: begin there, or"
                " before it"
            )
        doomed = doomed_by(contents, key)
        check_none_open(contents, "what it follows is deleted", doomed)
        if names.head[1] in doomed:
            self.discard_changes()
            self._go_to(own, parent)
        cut_branches(names, contents.forks, key, doomed)
        remove_versions(contents, doomed)
        if names.head[0] not in names.branches():
            names.set_head(names.place(names.head[1])[1], names.head[1])
        return True

    def check(self) -> list[Fault]:
        """Return everything that is wrong with what is kept; all of it is read anew, nothing is written."""
        return list(check(Contents(self.contents.stored, self._codec))) if self.is_tracked else []

    # -- one of several collections ----------------------------------------------------------------

    def part(self, name: str) -> Part:
        """Return one of the collections of a history that is of several, to be read by its own ids.

        Raises:
            InvalidOperation: There is none of this name.
        """
        check_known(self.collections, name)
        return Part(self, name)

    def add_collection(self, name: str, rule: str = "") -> None:
        """Follow one more collection in a history of several; its documents are new with the next version.

        Args:
            name: Of the collection; without a host that of its mapping in the root.
            rule: Which of a host's documents are its.

        Raises:
            ValueError: The name is none or is taken, or the rule is none.
            InvalidOperation: The history is of one collection, or the mapping has versions already.
        """
        stored = self.contents.stored
        kept = collections_of(stored)
        if not kept:
            raise InvalidOperation(f"{self.name!r} is the history of one collection")
        if check_name(name) in kept:
            raise ValueError(f"{self.name!r} is of a collection {name!r} already")
        if self._host is not None:
            check_rule(name, rule)
        check_free(self._root, self.name, {name: ""}, self._host is not None)
        stored.settings = {**stored.settings, COLLECTIONS: {**kept, name: rule}}
        self._given = {**self._given, name: rule} if self._given else {}
        stored.touched.update([one for one in self.working.ids() if Address.parse(one).collection == name])

    # -- the collection as a whole -----------------------------------------------------------------

    def rename(self, new: str) -> VersionedCollection:
        """Call the collection, and its mapping of documents, otherwise; return it under its new name.

        Raises:
            ValueError: The name is taken, or is none.
        """
        check_name(new)
        histories = find_histories(self._root, create=True)
        if new in histories:
            raise ValueError(f"there is a collection {new!r} already")
        self.working.rename(new)
        if self.name in histories:
            stored = histories.pop(self.name)
            stored.name = new
            histories[new] = stored
        return VersionedCollection(
            self._root,
            new,
            host=self._host,
            working=self._lent,
            collections=self._given or None,
            codec=self._codec,
            author=self.author,
            clock=self._clock,
        )

    def erase(self, document_id: str) -> int:
        """Erase what a document says from all versions; the working document stays as it is.

        The tree of versions stays whole, and says that there was something: ids and hashes stay. Where an
        erased state would be checked out, there is no document. A version that holds one is pushed
        without it, and what another database still has of it does not come back by a pull.

        Returns:
            How many states were erased; 0: it was in none.

        Raises:
            InvalidOperation: A merge waits for its conflicts to be resolved.
        """
        if not self.is_tracked:
            return 0
        return erase(self.contents, document_id, round(self._clock() * 1_000_000))

    def drop(self) -> None:
        """Remove all versions; without a host the documents, too.

        Raises:
            InvalidOperation: The documents are those of a host that was not given.
        """
        self.working.drop()
        histories = find_histories(self._root)
        if histories is not None and self.name in histories:
            histories.pop(self.name).name = ""
        self._contents = None
