"""Keeping a history small: squash, retention, and collection of garbage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..deltatrees.opening import check_none_open
from ..joining import JoiningCollection
from ..saying import gathered
from ..store.records import Record
from .cutting import drop_lines, remove_versions, unreachable
from .retention import SLICE, Policy, prunable, prune_slice
from .squashing import check_squashable, run_between, squash_run


class KeepingCollection(JoiningCollection):
    """The part of a collection that takes versions, or what they hold, away."""

    def squash(
        self,
        first: int,
        last: int | None = None,
        branch: str | None = None,
        message: str | None = None,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[int, str] | None:
        """Make a run of versions one, and forget their records; what comes after gets new ids, and numbers.

        What documents are at the last of them and at all that comes after stays as it is; tags, branches and
        HEAD follow. What the run has merged stays merged. The working documents are not touched.

        Args:
            first: Number of the oldest.
            last: Number of the newest; None: the newest of the branch.
            branch: None: the current one.
            message: None: all their messages, a line each.
            author: None: whoever made them.
            metadata: Of the new version.
            force: Although a remote is known to have one of them.

        Returns:
            (number, branch) of the version that they became; None without versions, or where all that they
            changed was changed back.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            VersionPruned: The contents of the last one, or of the one before them, were pruned.
            InvalidOperation: They do not follow each other; the root is one of them; a branch, a tag, HEAD or
                another version needs one but the last; a remote has them; or conflicts wait.
        """
        if not self.is_tracked:
            return None
        return self.squash_keys(
            self.find(first, branch)[1],
            self.find(last, branch)[1],
            message,
            author=author,
            metadata=metadata,
            force=force,
        )

    def squash_keys(
        self,
        first: int,
        last: int,
        message: str | None = None,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[int, str] | None:
        """Squash from one version to another, as this database finds them; see :meth:`squash`."""
        self._check_no_conflicts("versions are squashed")
        contents = self.contents
        check_none_open(contents, "versions are squashed")
        self._pin()
        run = run_between(contents, first, last)
        check_squashable(contents, run, force)
        records = [self._record(key) for key in run]
        messages = "\n".join(record.message for record in records)
        people = ", ".join(dict.fromkeys(record.author for record in records if record.author))
        why = self._why(
            gathered(messages) if message is None else message,
            gathered(people) if author is None else author,
            metadata,
        )
        made = squash_run(contents, run, why)
        return None if made is None else self.names.place(made)

    def prunable(self, policy: Policy) -> list[tuple[int, str]]:
        """Return (number, branch) of the versions that a policy takes the contents of, the newest first."""
        places = self.names.places() if self.is_tracked else None
        return [] if places is None else [places[key] for key in self._prunable(policy)]

    def prune(self, policy: Policy, most: int = SLICE) -> int:
        """Take the contents of some versions away; their records stay. Call it until it returns 0.

        Args:
            policy: What keeps its contents, besides what always does
                (:mod:`~livesync.versions.upkeep.retention`).
            most: So many versions at most, the newest first: what one transaction is to carry.

        Returns:
            How many.

        Raises:
            InvalidCollectionState: What is stored is damaged; nothing was changed.
        """
        if not self.is_tracked:
            return 0
        self._pin()
        doomed = self._prunable(policy)[:most]
        prune_slice(self.contents, doomed)
        return len(doomed)

    def _prunable(self, policy: Policy) -> list[int]:
        return prunable(self.contents, policy, round(self._clock() * 1_000_000), self._waiting())

    def collect_garbage(self, grace_s: float = 0.0, most: int | None = None) -> int:
        """Remove the versions that nothing leads to any more, as a pull that was aborted leaves them.

        Args:
            grace_s: What was made within so many seconds stays.
            most: So many at most, the newest first; None: all.

        Returns:
            How many. Space comes back when the database is packed.
        """
        if not self.is_tracked:
            return 0
        self._pin()
        contents = self.contents
        before_us = round((self._clock() - grace_s) * 1_000_000)
        records = {key: self._record(key) for key in unreachable(contents, self._waiting())}
        young = {record.id for record in records.values() if record.time_us > before_us}
        doomed = _beyond(records, young)[:most]
        remove_versions(contents, doomed)
        drop_lines(contents)
        return len(doomed)

    def _waiting(self) -> tuple[int, ...]:
        """Return the versions that a merge whose conflicts wait begins at."""
        pending = self._pending()
        return () if pending is None else pending.parents

    def _pin(self) -> None:
        """Let the transaction fail, and be tried again, where another one moves a branch or tag meanwhile."""
        references = self.contents.stored.references
        if references._p_jar is not None:
            references._p_jar.readCurrent(references)


def _beyond(records: Mapping[int, Record], young: set[bytes]) -> list[int]:
    """Return the versions that are neither young nor needed by one that is, the newest first."""
    needed = set(young)
    found = []
    for key in sorted(records, key=lambda key: (records[key].generation, key), reverse=True):
        record = records[key]
        if record.id in needed:
            needed.update(record.parents)
        else:
            found.append(key)
    return found
