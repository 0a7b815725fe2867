"""Bringing versions together: merge, cherry-pick, revert, and what becomes of conflicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InvalidOperation
from . import merging
from .diffs.threeway import Strategies
from .merging import Decision, DocumentConflict, Merge
from .store.ancestry import is_ancestor, merge_bases
from .store.tree import NO_VERSION, parent_of
from .tracked import TrackedCollection

_UNSAID: Final = object()


@dataclass(frozen=True, slots=True)
class Joined:
    """What a merge, a cherry-pick or a revert came to.

    Attributes:
        version: (number, branch) of the version that was made; None: none was.
        conflicts: What has to be resolved first.
    """

    version: tuple[int, str] | None
    conflicts: tuple[DocumentConflict, ...] = ()


class JoiningCollection(TrackedCollection):
    """The part of a collection that brings versions together."""

    def merge(
        self,
        branch: str | None = None,
        version: int | None = None,
        message: str | None = None,
        *,
        strategies: Strategies | None = None,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Joined:
        """Merge a version into the current branch, as a version with two parents.

        Where both sides disagree nothing is written but the conflicts; the working documents stay as they are
        until all are resolved (:meth:`resolve_conflicts`) or the merge is aborted (:meth:`abort_merge`).

        Args:
            branch, version: What is merged, as :meth:`find` takes them.
            message: None: which branch was merged into which.
            strategies: How some paths are merged.
            author, metadata: Of the new version.

        Returns:
            What it came to; without a version and conflicts where everything was merged before.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidOperation: There are changes or conflicts, or HEAD is detached.
        """
        name, theirs = self.find(version, branch)
        self._check_ready("a merge")
        head_name, ours = self.names.head
        if is_ancestor(self.contents, theirs, ours):
            return Joined(None)
        text = f"Merge {name!r} into {head_name!r}" if message is None else message
        why = self._why(text, author, metadata)
        bases = merge_bases(self.contents, ours, theirs)
        return self._joined(merging.merged(self.contents, bases, theirs, (ours, theirs), why, strategies))

    def cherry_pick(
        self,
        version: int,
        branch: str | None = None,
        *,
        strategies: Strategies | None = None,
        author: str | None = None,
    ) -> Joined:
        """Make what one version changed against its first parent on the current branch, too.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidOperation: There are changes or conflicts, HEAD is detached, or it is the first version.
        """
        return self._replayed(version, branch, strategies, author, is_undone=False)

    def revert(
        self,
        version: int,
        branch: str | None = None,
        *,
        strategies: Strategies | None = None,
        author: str | None = None,
    ) -> Joined:
        """Make a version that takes back what another one changed against its first parent.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidOperation: There are changes or conflicts, HEAD is detached, or it is the first version.
        """
        return self._replayed(version, branch, strategies, author, is_undone=True)

    def _replayed(
        self,
        version: int,
        branch: str | None,
        strategies: Strategies | None,
        author: str | None,
        is_undone: bool,
    ) -> Joined:
        _, key = self.find(version, branch)
        self._check_ready("a revert" if is_undone else "a cherry-pick")
        parent = parent_of(self.contents.forks, key)
        if parent == NO_VERSION:
            raise InvalidOperation("the first version has nothing before it to compare with")
        record = self._record(key)
        said = f"Revert {record.message!r}" if is_undone else record.message
        metadata = {"reverts" if is_undone else "cherry-picked": record.id.hex()}
        base, theirs = (key, parent) if is_undone else (parent, key)
        why = self._why(said, author, metadata)
        return self._joined(
            merging.merged(self.contents, [base], theirs, (self.names.head[1],), why, strategies)
        )

    def _check_ready(self, what: str) -> None:
        self._check_no_conflicts(what)
        self._check_clean(what)
        if self.names.is_detached:
            raise InvalidOperation(f"HEAD is detached: check out a branch, or make one, before {what}")

    # -- conflicts ---------------------------------------------------------------------------------

    def conflicts(self) -> list[DocumentConflict]:
        """Return what is still to be resolved."""
        pending = self._pending() if self.is_tracked else None
        return [] if pending is None else list(pending.conflicts)

    def resolve_conflicts(
        self,
        how: Decision | None = None,
        document_id: str | None = None,
        path: Iterable[Any] = (),
        *,
        value: Any = _UNSAID,
    ) -> Joined:
        """Decide conflicts; once none is left, the version is made.

        Args:
            how: ``ours``, ``theirs``, ``base``, or a function of a conflict that returns the value;
                :data:`~livesync.versions.diffs.threeway.ABSENT` takes away what is there.
            document_id: Of this document only; None: of all.
            path: Only at this path and below it.
            value: In place of ``how``: what is to stand there.

        Returns:
            The version, or what is left to be resolved.

        Raises:
            InvalidOperation: There are no conflicts, none of these, or changes that the version would take.
            ValueError: There is no such decision, or not exactly one.
            UnkeptValue: The value cannot be kept; nothing was decided.
        """
        if (how is None) == (value is _UNSAID):
            raise ValueError("a conflict is decided by how, or by a value: give one of them")
        decision: Decision = (lambda _: value) if how is None else how
        pending = self._pending()
        if pending is None:
            raise InvalidOperation("there are no conflicts to resolve")
        pending, count = merging.resolve(pending, decision, document_id, path)
        if not count:
            raise InvalidOperation("no conflict that waits is at this place")
        return self._joined(pending)

    def abort_merge(self) -> bool:
        """Throw away a merge whose conflicts wait; tell whether there was one."""
        if not self.has_conflicts:
            return False
        self.contents.stored.references.conflicts = None
        return True

    def _pending(self) -> Merge | None:
        packet = self.contents.stored.references.conflicts
        return None if packet is None else merging.unpacked(self.contents, packet)

    def _joined(self, found: Merge, apart: Collection[str] = ()) -> Joined:
        """Make the version of a merge, or keep its conflicts.

        Args:
            found: The merge.
            apart: Ids of all working documents that have changes, which stay as they are.

        Raises:
            InvalidOperation: There are changes of others, or of what the merge writes.
        """
        references = self.contents.stored.references
        if found.conflicts:
            references.conflicts = merging.packed(self.contents, found)
            return Joined(None, tuple(found.conflicts))
        if not apart:
            self._check_clean("the merge is finished")
        name, _ = self.names.head
        branch = self.names.branch(name)
        with self._wholly():
            key = self._write(name, branch, found.parents, found.changes.values(), found.why)
            references.conflicts = None
            if key is None:
                return Joined(None)
            self._go_to(name, key, apart)
        return Joined(self.names.place(key))
