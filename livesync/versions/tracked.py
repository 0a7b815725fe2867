"""A collection's state: where HEAD is, what has changed, and what its other parts share."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from ..errors import InvalidCollectionVersion, InvalidOperation
from ..host import Host
from .diffs.threeway import ABSENT
from .names import Names, check_branch_name, check_name
from .saying import gathered, said
from .several.copies import AbsentCopy, working_copy
from .several.parts import Given, check_free, checked, collections_of, is_applications, keep_collections
from .store.contents import Contents
from .store.records import Record
from .store.steps import Steps
from .store.tree import Branch
from .store.writing import Change, Why, differs, write_version
from .stored import StoredHistory, find_history
from .values import CODEC, Codec
from .working import MappingCopy, WorkingCopy, wholly

#: Key of ``StoredHistory.settings``: when the newest change was made that was looked at.
_SEEN: Final = "seen"

#: Documents that an error names.
_MOST_NAMED: Final = 5

#: Lines of what was noted that become a message.
_MOST_NOTES: Final = 20


class TrackedCollection:
    """A collection before anything is asked of it: see :class:`~livesync.versions.VersionedCollection`."""

    def __init__(
        self,
        connection_or_root: Any,
        name: str,
        *,
        host: Host | None = None,
        working: WorkingCopy | None = None,
        codec: Codec = CODEC,
        author: str = "",
        clock: Callable[[], float] = time.time,
        collections: Given | None = None,
    ) -> None:
        self.name = check_name(name)
        self.author = author
        self._root = getattr(connection_or_root, "root", lambda: connection_or_root)()
        self._codec = codec
        self._clock = clock
        self._contents: Contents | None = None
        self._host = host
        self._given = {} if collections is None else checked(collections, host is not None)
        self._lent = working
        self._copy: tuple[Any, WorkingCopy] | None = None
        _ = self.working  # what is given is compared with what is kept

    def __repr__(self) -> str:
        return f"<VersionedCollection {self.name!r}>"

    # -- what it is made of ------------------------------------------------------------------------

    @property
    def stored(self) -> StoredHistory | None:
        """What the database keeps; None: nothing."""
        # found anew only where it was dropped or renamed meanwhile: that costs two more objects
        known = self._contents
        # an object that belongs to no database any more is of a transaction that was aborted
        is_there = known is not None and known.stored._p_jar is getattr(self._root, "_p_jar", None)
        if known is not None and is_there and known.references.name == self.name:
            return known.stored
        return find_history(self._root, self.name)

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
    def working(self) -> WorkingCopy:
        """The working documents.

        Raises:
            InvalidOperation: Other collections were given than those of the history.
        """
        if self._lent is not None:
            return self._lent
        stored = self.stored
        kept = None if stored is None else (collections_of(stored), is_applications(stored))
        if self._copy is None or self._copy[0] != kept:
            self._copy = kept, self._own_copy(*(kept or ({}, False)))
        return self._copy[1]

    def _own_copy(self, kept: Mapping[str, str | None], has_host: bool) -> WorkingCopy:
        if self.is_tracked and self._given and set(kept) != set(self._given):
            raise InvalidOperation(
                f"{self.name!r} is of {', '.join(sorted(kept)) or 'one collection'},"
                f" not of {', '.join(sorted(self._given))}"
            )
        if has_host and self._host is None:
            return AbsentCopy(f"the documents of {self.name!r} are an application's: give its host (--host)")
        return working_copy(self._root, self.name, self._host, self._codec, {**kept, **self._given})

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections of a history that is of several; empty where it is of one."""
        stored = self.stored
        return tuple(sorted(self._given if stored is None else collections_of(stored)))

    def _keep_collections(self, stored: StoredHistory, travelled: Iterable[str] | None = None) -> None:
        """Note in a new history of what collections it is, and whose documents they are.

        Args:
            stored: The history.
            travelled: Of which collections the versions are that came from elsewhere.

        Raises:
            InvalidOperation: They are not those that come from elsewhere, or have versions of their own.
        """
        names = list(travelled or ())
        if self._given and travelled is not None and not (names and set(names) <= set(self._given)):
            raise InvalidOperation(f"the versions that come are of {', '.join(names) or 'one collection'}")
        found = self._given or dict.fromkeys(names, "")
        check_free(self._root, self.name, found, self._host is not None)
        keep_collections(stored, found, self._host is not None)

    @property
    def names(self) -> Names:
        """What people call its versions.

        Raises:
            InvalidOperation: It has no versions.
        """
        return Names(self.contents.references)

    @property
    def documents(self) -> MutableMapping[str, Any]:
        """The working documents of a collection without a host, to read and to write.

        Raises:
            InvalidOperation: They are an application's.
        """
        if self.collections:
            raise InvalidOperation(f"{self.name!r} is of {', '.join(self.collections)}: see part()")
        if not isinstance(self.working, MappingCopy):
            raise InvalidOperation(f"the documents of {self.name!r} are the application's: change them there")
        return self.working.documents

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
        for document_id, value in working.read(self._candidates()):
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

    # -- what its parts share ------------------------------------------------------------------------

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

    def id_of(self, key: int) -> str:
        """Return what identifies a version in every database, as hexadecimal digits."""
        return self._record(key).id.hex()

    def _key(self, version: int | None, branch: str | None) -> int:
        if version is None and branch is None:
            return self.names.head[1]
        return self.find(version, branch)[1]

    def _write(
        self, name: str, branch: Branch, parents: tuple[int, ...], changes: Iterable[Change], why: Why
    ) -> int | None:
        """Write a branch's next version; return its key, None where nothing differs."""
        contents, names = self.contents, self.names
        names.check_closed(name)
        records = [self._record(parent) for parent in parents]
        following = names.next_key(branch)
        if write_version(contents, following.key, records, parents[0], changes, why) is None:
            return None
        names.take(following)
        names.set_branch(name, branch.with_next(following.key))
        return following.key

    def _settle(self) -> None:
        stored = self.contents.stored
        newest_s = self.working.newest_s()
        if newest_s > self._seen_s:
            stored.settings = {**stored.settings, _SEEN: newest_s}
        self.working.settle()
        touched = stored.touched
        if len(touched):
            touched.clear()

    def _record(self, key: int) -> Record:
        return self.contents.stored.records.known(key)

    def _why(self, message: str | None, author: str | None, metadata: Mapping[str, Any] | None) -> Why:
        now_us = round(self._clock() * 1_000_000)
        if message is None:
            message = gathered(self.noted or self._transactions_note())
        if author is None:
            people = gathered(", ".join(self.working.people(self._seen_s)))
            author = self.author or people or self._transactions_user()
        return said(author, now_us, message, metadata or {})

    @property
    def noted(self) -> str:
        """What was noted with the changes since they were looked at last, a line each; "": nothing."""
        notes = self.working.notes(self._seen_s)
        more = len(notes) - _MOST_NOTES
        return "\n".join([*notes[:_MOST_NOTES], *([f"and {more:,} more"] if more > 0 else [])])

    @property
    def _seen_s(self) -> float:
        """The newest change that a version or a checkout has looked at, in epoch seconds."""
        stored = self.stored
        return 0.0 if stored is None else float(stored.settings.get(_SEEN, 0.0))

    def _transactions_user(self) -> str:
        connection = getattr(self._root, "_p_jar", None)
        if connection is None:
            return ""
        # setUser("name") puts the path "/" before the name
        return str(connection.transaction_manager.get().user or "").removeprefix("/ ").strip()

    def _transactions_note(self) -> str:
        connection = getattr(self._root, "_p_jar", None)
        if connection is None:
            return ""
        return str(connection.transaction_manager.get().description or "").strip()

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
        if name in {*self.names.branches(), *self.names.opened()}:
            raise ValueError(f"there is a branch {name!r} already")
        return name

    @contextmanager
    def _wholly(self) -> Iterator[None]:
        """Take back, within the transaction, what a block wrote that raises."""
        connection = getattr(self._root, "_p_jar", None)
        if connection is None:  # in memory only
            yield
            return
        try:
            with wholly(connection):
                yield
        except BaseException:
            self._contents = None
            raise

    def _go_to(self, name: str, key: int, apart: Collection[str] = ()) -> None:
        """Put HEAD elsewhere, and write what differs.

        Args:
            name, key: Where to.
            apart: Ids of the working documents that have changes, which stay as they are.

        Raises:
            InvalidOperation: One of these would be written.
        """
        contents, working, head = self.contents, self.working, self.names.head[1]
        if key != head:
            steps = Steps(contents, head, key)
            ids = steps.differing()
            edited = sorted(set(apart).intersection(ids))
            if edited:
                more = "…" if len(edited) > _MOST_NAMED else ""
                raise InvalidOperation(
                    f"{', '.join(map(repr, edited[:_MOST_NAMED]))}{more} changed here and there:"
                    " register, stash or discard your changes first"
                )
            documents = list(steps.walked(working.read(ids)))
            del steps
            working.write(documents)
        self.names.set_head(name, key)
        self._settle()
        contents.stored.touched.update(apart)
