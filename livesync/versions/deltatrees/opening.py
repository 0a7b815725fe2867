"""Open versions: those that deltas were added to one by one, and that have no record yet.

Their rows and entries lie where those of all versions do. In the table of branches there is nothing of them,
so that nobody checks one out, or pushes it; until they are closed, their branch does not go on otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import InvalidOperation
from ..names import Names
from ..store.contents import Contents
from ..store.records import Counts, Record, RowSums
from ..store.tree import Branch, Run, parent_of
from ..store.writing import Why, keep_record


class AllNames(Names):
    """The names of one history with those of open versions, at the ends of their branches.

    Args:
        contents: Of the history.
    """

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents.stored.references)
        self._records = contents.stored.records
        # deltas without versions: nothing has a record there, and all names lie in one table
        self._has_records = bool(self._records)

    def branches(self) -> dict[str, Branch]:
        """Return all branches by name, with their open versions."""
        found = super().branches()
        for name, opened in self.opened().items():
            known = found.get(name)
            found[name] = opened if known is None else known._replace(runs=(*known.runs, *opened.runs))
        return found

    def branch(self, name: str) -> Branch:
        """Return a branch with its open versions; see :meth:`Names.branch`."""
        found = self.branches().get(name)
        return super().branch(name) if found is None else found

    def _runs(self, name: str) -> tuple[tuple[int, int, int, int], ...]:
        return self.branch(name).runs

    def set_branch(self, name: str, branch: Branch) -> None:
        """Make a branch what is given: up to the first version without a record, and what is open."""
        if not self._has_records:
            super().set_branch(name, branch)
            return
        keys = list(branch.versions())
        count = next((number for number, key in enumerate(keys) if key not in self._records), len(keys))
        closed = branch.until(count)
        self.set_opened(name, None)
        if count or not keys or name in super().branches():
            super().set_branch(name, closed)
        if count < len(keys):
            self.set_opened(name, Branch(closed.tip, _from(branch, count)))

    def drop_branch(self, name: str) -> None:
        """Forget a name, and that anything is open there."""
        self.set_opened(name, None)
        super().drop_branch(name)


def _from(branch: Branch, number: int) -> tuple[Run, ...]:
    """Return the runs of a branch from a number on, which they keep."""
    return tuple(run._replace(number=run.number + number) for run in branch.since(number))


def opened(contents: Contents) -> Iterator[tuple[int, int, str]]:
    """Yield (key, number, branch) of the open versions, each branch's oldest first."""
    for name, branch in Names(contents.stored.references).opened().items():
        for key in branch.versions():
            number = branch.number(key)
            assert number is not None, "it is one of its own"
            yield key, number, name


def check_none_open(contents: Contents, what: str, keys: set[int] | None = None) -> None:
    """Make sure that no version is open, or that none of some versions is what an open one follows.

    Raises:
        InvalidOperation: One is.
    """
    for key, number, branch in opened(contents):
        parent = parent_of(contents.forks, key)
        if keys is None or parent in keys:
            raise InvalidOperation(
                f"version {number} of {branch!r} is open: close it, or delete its deltas, before {what}"
            )


def closed(contents: Contents, name: str, why: Why) -> int:
    """Write the record of a branch's oldest open version; return the version.

    Raises:
        BranchNotFound: There is no such branch.
        InvalidOperation: None is open there, or it follows an open one of another branch.
    """
    names = Names(contents.stored.references)
    found = names.opened().get(name)
    if found is None:
        names.branch(name)
        raise InvalidOperation(f"no version of {name!r} is open")
    key = next(found.versions())
    parent = parent_of(contents.forks, key)
    if parent not in contents.stored.records:
        number, before = AllNames(contents).place(parent)
        raise InvalidOperation(f"it follows version {number} of {before!r}, which is open: close that first")
    branch = AllNames(contents).branch(name)
    hashes = [
        (document_id, contents.hash(document_id, parent), contents.hash(document_id, key))
        for document_id, _, _ in contents.short_hashes(key)
    ]
    created = sum(not before for _, before, _ in hashes)
    deleted = sum(not after for _, _, after in hashes)
    counts = Counts(created, len(hashes) - created - deleted, deleted)
    parents = [Record.unpacked(contents.stored.records[parent])]
    keep_record(contents, key, parents, RowSums(hashes), counts, why)
    AllNames(contents).set_branch(name, branch)
    return key
