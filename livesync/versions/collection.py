"""A collection of documents with its past: what an application, the command line and the pages call.

Versions are (number, branch): numbers count from 0 on each branch, and the first branch is ``main``.
Everything happens within the caller's transaction, wholly or, where it raises, not at all; nothing is
committed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final

from ..errors import CollectionAlreadyInitialised, InvalidCollectionVersion, InvalidOperation
from .contents import Contents
from .cutting import cut_branches, doomed_by, remove_versions
from .log import LogEntry, documents_history, log_entries
from .names import MAIN, Names, check_branch_name
from .records import Record
from .showing import unified
from .stash import applied_stash, packed_stash
from .stored import NotedDocuments, StoredHistory, find_histories, find_history
from .threeway import ABSENT
from .tree import NO_VERSION, Branch, parent_of
from .values import CODEC, Codec
from .ways import changed_ids, net_rows, steps_between, walked
from .working import MappingCopy, WorkingCopy
from .writing import Change, Why, differs, write_root, write_version

#: What the first version says where nobody says anything.
FIRST_MESSAGE: Final = "Initial collection."

_DIRECTIONS: Final = ("from", "to", "bidirectional")


class VersionedCollection:
    """One collection's versions.

    Args:
        connection_or_root: A ZODB connection, or its root.
        name: Of the collection. Without a host its documents are the mapping of this name in the root: id ->
            document, a plain value; one that notes what is written to it is made where there is none.
        working: Where documents come from otherwise: an application's.
        codec: Encodes documents; one of your own knows more types.
        author: Who makes versions, unless a call says so.
        clock: Returns epoch seconds.

    Raises:
        ValueError: The name is none.
        UpgradeNeeded: A newer livesync wrote what is stored.
    """

    def __init__(
        self,
        connection_or_root: Any,
        name: str,
        *,
        working: WorkingCopy | None = None,
        codec: Codec = CODEC,
        author: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = check_branch_name(name)
        self.author = author
        self._root = getattr(connection_or_root, "root", lambda: connection_or_root)()
        self._given = working
        self._codec = codec
        self._clock = clock
        self._contents: Contents | None = None
        find_history(self._root, name)

    def __repr__(self) -> str:
        return f"<VersionedCollection {self.name!r}>"

    # -- what it is made of ------------------------------------------------------------------------

    @property
    def stored(self) -> StoredHistory | None:
        """What the database keeps; None: nothing."""
        # found anew only where it was dropped or renamed meanwhile: that costs two more objects
        known = None if self._contents is None else self._contents.stored
        return known if known is not None and known.name == self.name else find_history(self._root, self.name)

    @property
    def contents(self) -> Contents:
        """What reads documents as they were.

        Raises:
            InvalidOperation: It has no versions.
        """
        stored = self.stored
        if stored is None:
            raise InvalidOperation(f"{self.name!r} has no versions yet: init makes the first")
        if self._contents is None or self._contents.stored is not stored:
            self._contents = Contents(stored, self._codec)
        return self._contents

    @property
    def names(self) -> Names:
        """What people call its versions.

        Raises:
            InvalidOperation: It has no versions.
        """
        return Names(self.contents.stored.references)

    @property
    def working(self) -> WorkingCopy:
        """The working documents."""
        if self._given is not None:
            return self._given
        if self.name not in self._root:
            self._root[self.name] = NotedDocuments()
        return MappingCopy(self._root[self.name])

    @property
    def documents(self) -> MutableMapping[str, Any]:
        """The working documents of a collection without a host, to read and to write."""
        self.working  # noqa: B018 - makes the mapping where there is none
        found: MutableMapping[str, Any] = self._root[self.name]
        return found

    # -- state -------------------------------------------------------------------------------------

    @property
    def is_tracked(self) -> bool:
        """Whether it has versions."""
        return self.stored is not None

    @property
    def version(self) -> int | None:
        """Number of the version that the working documents come from; -1: none of this branch yet."""
        return self._place()[0] if self.is_tracked else None

    @property
    def branch(self) -> str | None:
        """The branch that the working documents come from."""
        return self.names.head[0] if self.is_tracked else None

    @property
    def is_detached(self) -> bool:
        """Whether the version is not the newest of its branch."""
        return self.is_tracked and self.names.is_detached

    @property
    def has_stash(self) -> bool:
        """Whether something is stashed."""
        return self.is_tracked and self.contents.stored.references.stash is not None

    @property
    def has_conflicts(self) -> bool:
        """Whether a merge waits for its conflicts to be resolved."""
        return self.is_tracked and self.contents.stored.references.conflicts is not None

    @property
    def has_changes(self) -> bool:
        """Whether a working document differs from the version it comes from."""
        return next(self.changes(), None) is not None

    def _place(self) -> tuple[int, str]:
        name, key = self.names.head
        number = self.names.branch(name).number(key)
        return (-1 if number is None else number), name

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yield (``created``, ``changed`` or ``deleted``, id) of the working documents that differ.

        Raises:
            UnkeptValue: A document holds what cannot be kept.
        """
        if not self.is_tracked:
            return
        contents, working, key = self.contents, self.working, self.names.head[1]
        for document_id in self._candidates():
            value = working.get(document_id)
            if differs(contents, document_id, value, key):
                was_there = contents.hash(document_id, key) != b""
                yield ("deleted" if value is ABSENT else "changed" if was_there else "created"), document_id

    def _candidates(self) -> list[str]:
        known = self.working.changed()
        touched = set(self.contents.stored.touched)
        if known is None:
            return sorted({*self.contents.ids(), *self.working.ids(), *touched})
        return sorted({*known, *touched})

    def status(self) -> dict[str, Any]:
        """Return where the collection stands, as plain values; ``{"tracked": False}`` without versions."""
        if not self.is_tracked:
            return {"tracked": False}
        number, branch = self._place()
        kinds: dict[str, list[str]] = {"created": [], "changed": [], "deleted": []}
        for kind, document_id in self.changes():
            kinds[kind].append(document_id)
        return {
            "tracked": True,
            "current_version": number,
            "current_branch": branch,
            "detached": self.is_detached,
            "changed": any(kinds.values()),
            "has_stash": self.has_stash,
            "has_conflicts": self.has_conflicts,
            "documents": kinds,
        }

    # -- making versions ---------------------------------------------------------------------------

    def init(
        self,
        message: str = FIRST_MESSAGE,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make the first version, (0, ``main``), of all documents there are; return True.

        Raises:
            CollectionAlreadyInitialised: It has versions.
            UnkeptValue: A document holds what cannot be kept.
        """
        if self.is_tracked:
            raise CollectionAlreadyInitialised(f"{self.name!r} has versions already")
        stored = StoredHistory(self.name)
        contents = Contents(stored, self._codec)
        names = Names(stored.references)
        working = self.working
        documents = [(document_id, working.get(document_id)) for document_id in working.ids()]
        following = names.next_key(Branch(NO_VERSION))
        key = following.key
        write_root(contents, key, documents, self._why(message, author, metadata))
        names.take(following)
        names.set_branch(MAIN, Branch(NO_VERSION).with_next(key))
        names.set_head(MAIN, key)
        find_histories(self._root, create=True)[self.name] = stored
        working.settle()
        return True

    def register(
        self,
        message: str,
        branch_name: str | None = None,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make a version of what has changed; False where nothing has, or there is nothing to follow.

        Args:
            message: Why.
            branch_name: A new branch's, where HEAD is detached; without meaning elsewhere.
            author: Who; None: the collection's.
            metadata: Plain values of your own.

        Raises:
            ValueError: HEAD is detached, and no name is given, or one that is taken or is none.
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
        changes = [Change(one, working.get(one)) for one in self._candidates()]
        why = self._why(message, author, metadata)
        made = self._write(name, branch, (head,), changes, why)
        if made is not None:
            names.set_head(name, made)
        self._settle()
        return made is not None

    def _write(
        self, name: str, branch: Branch, parents: tuple[int, ...], changes: Iterable[Change], why: Why
    ) -> int | None:
        """Write a branch's next version; return its key, None where nothing differs."""
        contents, names = self.contents, self.names
        records = [self._record(parent) for parent in parents]
        following = names.next_key(branch)
        if write_version(contents, following.key, records, parents[0], changes, why) is None:
            return None
        names.take(following)
        names.set_branch(name, branch.with_next(following.key))
        return following.key

    def _settle(self) -> None:
        self.working.settle()
        touched = self.contents.stored.touched
        if len(touched):
            touched.clear()

    def _record(self, key: int) -> Record:
        return Record.unpacked(self.contents.stored.records[key])

    def _why(self, message: str, author: str | None, metadata: Mapping[str, Any] | None) -> Why:
        now_us = round(self._clock() * 1_000_000)
        return Why(self.author if author is None else author, now_us, message, dict(metadata or {}))

    def _check_no_conflicts(self, what: str) -> None:
        if self.has_conflicts:
            raise InvalidOperation(
                f"conflicts wait to be resolved, or the merge to be aborted, before {what}"
            )

    def _check_clean(self, what: str) -> None:
        if self.has_changes:
            raise InvalidOperation(f"there are changes: register, stash or discard them before {what}")

    def _new_name(self, name: str) -> str:
        check_branch_name(name)
        if name in self.names.branches():
            raise ValueError(f"there is a branch {name!r} already")
        return name

    # -- going to versions -------------------------------------------------------------------------

    def find(self, version: int | None = None, branch: str | None = None) -> tuple[str, int]:
        """Return (branch, key) of a version.

        Args:
            version: Its number; None: the branch's newest, or what it begins at.
            branch: None: the one that HEAD is on.

        Raises:
            BranchNotFound: There is no such branch.
            InvalidCollectionVersion: There is no such version on it.
        """
        names = self.names
        name = names.head[0] if branch is None else branch
        if version is None:
            return name, names.branch(name).tip
        if isinstance(version, bool) or not isinstance(version, int):
            raise InvalidCollectionVersion(version, name)
        return name, names.key(version, name)

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

    def _go_to(self, name: str, key: int) -> None:
        """Put HEAD elsewhere, and write what differs; the working documents are clean."""
        contents, working, head = self.contents, self.working, self.names.head[1]
        if key != head:
            steps = steps_between(contents, head, key)
            working.write(
                [
                    (one, walked(contents, one, step, working.get(one), key))
                    for one, step in steps.items()
                    if step.start != step.end or contents.hash(one, head) != contents.hash(one, key)
                ]
            )
        self.names.set_head(name, key)
        self._settle()

    def create_branch(self, name: str) -> tuple[int, str] | None:
        """Make a branch at the current version and go to it, with what is changed; None without versions.

        Returns:
            (number, branch) of the version that it begins at.

        Raises:
            ValueError: The name is taken, or is none.
        """
        if not self.is_tracked:
            return None
        self._new_name(name)
        names = self.names
        key = names.head[1]
        names.set_branch(name, Branch(key))
        names.set_head(name, key)
        return names.place(key)

    def branches(self) -> set[str]:
        """Return the names of all branches."""
        return set(self.names.branches()) if self.is_tracked else set()

    def rename_branch(self, name: str, new: str) -> None:
        """Call a branch otherwise; no version changes.

        Raises:
            BranchNotFound: There is none of this name.
            ValueError: The new name is taken, or is none.
        """
        names = self.names
        branch = names.branch(name)
        names.set_branch(self._new_name(new), branch)
        names.drop_branch(name)
        if names.head[0] == name:
            names.set_head(new, names.head[1])

    def tag(self, name: str, version: int | None = None, branch: str | None = None) -> None:
        """Give a version a name that stays with it; without arguments the current one.

        Raises:
            ValueError: The name is taken, or is none.
            BranchNotFound, InvalidCollectionVersion: There is no such version.
        """
        check_branch_name(name)
        if name in self.names.tags:
            raise ValueError(f"there is a tag {name!r} already")
        is_here = version is None and branch is None
        self.names.set_tag(name, self.names.head[1] if is_here else self.find(version, branch)[1])

    def untag(self, name: str) -> bool:
        """Take a tag away; tell whether there was one."""
        if name not in self.names.tags:
            return False
        self.names.set_tag(name, None)
        return True

    def tags(self) -> dict[str, tuple[int, str]]:
        """Return the tags, with (number, branch) of their versions."""
        if not self.is_tracked:
            return {}
        places = self.names.places()
        return {name: places[key] for name, key in sorted(self.names.tags.items())}

    # -- changes that are not registered -----------------------------------------------------------

    def discard_changes(self) -> bool:
        """Make the working documents what they are at the current version; False without versions.

        Raises:
            ReadOnlyHost: The application takes no documents back.
        """
        if not self.is_tracked:
            return False
        contents, key = self.contents, self.names.head[1]
        changed = [document_id for _, document_id in self.changes()]
        self.working.write([(one, contents.value(one, key)) for one in changed])
        self.contents.stored.references.conflicts = None
        self._settle()
        return True

    def stash(self, overwrite: bool = False) -> bool:
        """Put the changes aside and discard them; False where there are none.

        Raises:
            InvalidOperation: Something is stashed already, and ``overwrite`` is False.
        """
        changed = [document_id for _, document_id in self.changes()]
        if not changed:
            return False
        if self.has_stash and not overwrite:
            raise InvalidOperation("something is stashed already: apply it, discard it, or overwrite it")
        packed = packed_stash(self.contents, [(one, self.working.get(one)) for one in changed])
        self.contents.stored.references.stash = packed
        return self.discard_changes()

    def stash_apply(self) -> bool:
        """Write what is stashed into the working documents, and keep it no longer; False where nothing is.

        Raises:
            InvalidOperation: There are changes.
        """
        if not self.has_stash:
            return False
        self._check_clean("what is stashed is applied")
        references = self.contents.stored.references
        stashed = applied_stash(self.contents, references.stash)
        self.working.write(stashed)
        self.contents.stored.touched.update([document_id for document_id, _ in stashed])
        references.stash = None
        return True

    def stash_discard(self) -> bool:
        """Throw away what is stashed; tell whether there was anything."""
        if not self.has_stash:
            return False
        self.contents.stored.references.stash = None
        return True

    # -- looking -----------------------------------------------------------------------------------

    def get_log(self, branch: str | None = None) -> list[LogEntry]:
        """Return the versions from a branch's tip to the root, the newest first.

        Args:
            branch: None: from the current version on.

        Raises:
            BranchNotFound: There is no such branch.
        """
        if not self.is_tracked:
            return []
        key = self.names.head[1] if branch is None else self.names.branch(branch).tip
        return log_entries(self.contents, self.names.places(), key)

    def read(self, document_id: str, version: int | None = None, branch: str | None = None) -> Any:
        """Return a document as it was at a version, without a checkout; None where there was none.

        Args:
            document_id: The document.
            version, branch: As :meth:`find` takes them; neither: the current version.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: It is damaged.
        """
        value = self.contents.value(document_id, self._key(version, branch))
        return None if value is ABSENT else value

    def read_all(self, version: int | None = None, branch: str | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (id, document) of a whole version, in order of the ids; arguments as :meth:`read`."""
        return self.contents.documents(self._key(version, branch))

    def _key(self, version: int | None, branch: str | None) -> int:
        if version is None and branch is None:
            return self.names.head[1]
        return self.find(version, branch)[1]

    def changed(self, start: tuple[int | None, str | None], end: tuple[int | None, str | None]) -> list[str]:
        """Return the ids of the documents that differ between two versions, sorted.

        Args:
            start, end: (number, branch), as :meth:`find` takes them.
        """
        return list(changed_ids(self.contents, self._key(*start), self._key(*end)))

    def between(
        self, start: tuple[int | None, str | None], end: tuple[int | None, str | None]
    ) -> dict[str, tuple[Any, Any]]:
        """Return id -> (document at the start, document at the end) of those that differ; None: none."""
        rows = net_rows(self.contents, self._key(*start), self._key(*end))
        return {one: (_or_none(before), _or_none(after)) for one, before, after in rows}

    def diff(
        self,
        version: int | None = None,
        branch: str | None = None,
        deep: bool = False,
        direction: str = "from",
    ) -> dict[str, Any] | None:
        """Return what differs between a version and the working documents; None without versions.

        Args:
            version, branch: As :meth:`find` takes them; neither: the current version.
            deep: Give each document's (before, after) in place of a text.
            direction: ``from``: the version is the old side; ``to``: the new one; ``bidirectional``: both,
                under these two keys.

        Raises:
            ValueError: There is no such direction.
            BranchNotFound, InvalidCollectionVersion: There is no such version.
        """
        if direction not in _DIRECTIONS:
            raise ValueError(f"direction is one of {', '.join(_DIRECTIONS)}, not {direction!r}")
        if not self.is_tracked:
            return None
        key = self._key(version, branch)
        pairs = list(self._against_working(key))
        sides: dict[str, Any] = {
            "from": {one: _shown(then, now, deep) for one, then, now in pairs},
            "to": {one: _shown(now, then, deep) for one, then, now in pairs},
        }
        return sides if direction == "bidirectional" else sides[direction]

    def _against_working(self, key: int) -> Iterator[tuple[str, Any, Any]]:
        """Yield (id, document at a version, working document) where they differ."""
        contents, working, head = self.contents, self.working, self.names.head[1]
        edited = [document_id for _, document_id in self.changes()]
        for document_id in sorted({*edited, *changed_ids(contents, key, head)}):
            then, now = contents.value(document_id, key), working.get(document_id)
            if differs(contents, document_id, now, key):
                yield document_id, then, now

    def history(
        self, document_id: str, version: int | None = None, branch: str | None = None
    ) -> list[LogEntry]:
        """Return the versions that changed a document, the newest first; arguments as :meth:`read`."""
        if not self.is_tracked:
            return []
        key = self._key(version, branch)
        return documents_history(self.contents, self.names.places(), document_id, key)

    # -- taking versions away ----------------------------------------------------------------------

    def delete_version_subtree(self, version: int, branch: str | None = None) -> bool:
        """Delete a version and all that came after it, branches that hang from these included.

        Where HEAD is at one of them, changes are discarded and HEAD goes to the parent; elsewhere both stay
        as they are. Deleting the first version drops the collection.

        Returns:
            False without versions.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidOperation: A version that stays has merged one of them.
            ReadOnlyHost: The application takes no documents back.
        """
        if not self.is_tracked:
            return False
        contents, names = self.contents, self.names
        own, key = self.find(version, branch)
        parent = parent_of(contents.forks, key)
        if parent == NO_VERSION:
            self.drop()
            return True
        doomed = doomed_by(contents, key)
        if names.head[1] in doomed:
            self.discard_changes()
            self._go_to(own, parent)
        cut_branches(names, contents.forks, key, doomed)
        remove_versions(contents, doomed)
        if names.head[0] not in names.branches():
            names.set_head(names.place(names.head[1])[1], names.head[1])
        return True

    # -- the collection as a whole -----------------------------------------------------------------

    def rename(self, new: str) -> VersionedCollection:
        """Call the collection, and its mapping of documents, otherwise; return it under its new name.

        Raises:
            ValueError: The name is taken, or is none.
        """
        check_branch_name(new)
        histories = find_histories(self._root, create=True)
        if new in histories or (self._given is None and new in self._root):
            raise ValueError(f"there is a collection {new!r} already")
        if self.name in histories:
            stored = histories.pop(self.name)
            stored.name = new
            histories[new] = stored
        if self._given is None and self.name in self._root:
            self._root[new] = self._root[self.name]
            del self._root[self.name]
        return VersionedCollection(
            self._root, new, working=self._given, codec=self._codec, author=self.author, clock=self._clock
        )

    def drop(self) -> None:
        """Remove all versions; without a host the documents, too."""
        histories = find_histories(self._root)
        if histories is not None and self.name in histories:
            histories.pop(self.name).name = ""
        if self._given is None and self.name in self._root:
            del self._root[self.name]
        self._contents = None


def _or_none(value: Any) -> Any:
    return None if value is ABSENT else value


def _shown(before: Any, after: Any, deep: bool) -> Any:
    return (_or_none(before), _or_none(after)) if deep else unified(before, after, "old", "new")
