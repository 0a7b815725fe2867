"""Looking at versions: logs, documents as they were, what differs, and a document's history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..errors import DocumentErased
from .blame import Blamed, blamed
from .diffs.threeway import ABSENT
from .log import LogEntry, documents_history, log_entries
from .showing import unified
from .store.ways import changed_ids, net_rows
from .store.writing import differs
from .tracked import TrackedCollection

_DIRECTIONS: Final = ("from", "to", "bidirectional")


class LookingCollection(TrackedCollection):
    """The part of a collection that answers questions; nothing is written."""

    def get_log(self, branch: str | None = None, *, limit: int | None = None) -> list[LogEntry]:
        """Return the versions from a branch's tip to the root, the newest first.

        Args:
            branch: None: from the current version on.
            limit: How many at most; the rest is not read.

        Raises:
            BranchNotFound: There is no such branch.
        """
        if not self.is_tracked:
            return []
        key = self.names.head[1] if branch is None else self.names.branch(branch).tip
        return log_entries(self.contents, self.names.places(), key, limit)

    def read(self, document_id: str, version: int | None = None, branch: str | None = None) -> Any:
        """Return a document as it was at a version, without a checkout; None where there was none.

        Args:
            document_id: The document.
            version, branch: As :meth:`find` takes them; neither: the current version.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            DocumentErased: There was one, and its content was erased.
            InvalidCollectionState: It is damaged.
        """
        key = self._key(version, branch)
        value = self.contents.value(document_id, key)
        if value is ABSENT and self.contents.is_erased(document_id, key):
            raise DocumentErased(document_id)
        return None if value is ABSENT else value

    def read_all(self, version: int | None = None, branch: str | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (id, document) of a whole version, in order of the ids; arguments as :meth:`read`."""
        return self.contents.documents(self._key(version, branch))

    def read_under(
        self, prefix: str, version: int | None = None, branch: str | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Yield (id without the prefix, document) of those ids of a version that begin so, in their order."""
        contents, key = self.contents, self._key(version, branch)
        for document_id in contents.ids(prefix):
            value = contents.value(document_id, key)
            if value is not ABSENT:
                yield document_id.removeprefix(prefix), value

    def changed(self, start: tuple[int | None, str | None], end: tuple[int | None, str | None]) -> list[str]:
        """Return the ids of the documents that differ between two versions, sorted.

        Args:
            start, end: (number, branch), as :meth:`find` takes them.
        """
        return changed_ids(self.contents, self._key(*start), self._key(*end))

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
        pairs = list(self.against_working(key))
        sides: dict[str, Any] = {
            "from": {one: _shown(then, now, deep) for one, then, now in pairs},
            "to": {one: _shown(now, then, deep) for one, then, now in pairs},
        }
        return sides if direction == "bidirectional" else sides[direction]

    def against_working(self, key: int) -> Iterator[tuple[str, Any, Any]]:
        """Yield (id, document at a version, working document) where they differ.

        Args:
            key: The version, as this database finds it.
        """
        contents, working, head = self.contents, self.working, self.names.head[1]
        edited = [document_id for _, document_id in self.changes()]
        for document_id in sorted({*edited, *changed_ids(contents, key, head)}):
            then, now = contents.value(document_id, key), working.get(document_id)
            if differs(contents, document_id, now, key):
                yield document_id, then, now

    def history(
        self,
        document_id: str,
        version: int | None = None,
        branch: str | None = None,
        *,
        limit: int | None = None,
    ) -> list[LogEntry]:
        """Return the versions that changed a document, the newest first.

        Args:
            document_id, version, branch: As :meth:`read` takes them.
            limit: How many at most; the rest is not read.
        """
        if not self.is_tracked:
            return []
        key = self._key(version, branch)
        return documents_history(self.contents, self.names.places(), document_id, key, limit)

    def blame(self, document_id: str, version: int | None = None, branch: str | None = None) -> list[Blamed]:
        """Return every value of a document with the version that made it so; arguments as :meth:`read`.

        Values come in the document's order; nothing where there is no such document then.

        Raises:
            BranchNotFound, InvalidCollectionVersion: There is no such version.
            InvalidCollectionState: What is stored is damaged.
        """
        if not self.is_tracked:
            return []
        return blamed(self.contents, self.names.places(), document_id, self._key(version, branch))


def _or_none(value: Any) -> Any:
    return None if value is ABSENT else value


def _shown(before: Any, after: Any, deep: bool) -> Any:
    return (_or_none(before), _or_none(after)) if deep else unified(before, after, "old", "new")
