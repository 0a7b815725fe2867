"""What people call versions: branches with numbers, and tags; and where HEAD is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ..errors import BranchNotFound, InvalidCollectionState, InvalidCollectionVersion, InvalidOperation
from .store.tree import Branch, Run, key_of, line_of, position_of
from .stored import References

#: The branch of the first version.
MAIN: Final = "main"

#: Names that begin so are livesync's own.
RESERVED: Final = "__"


def check_name(name: str) -> str:
    """Return a name that a collection may be given.

    Raises:
        ValueError: It is empty, begins with ``__``, or holds white space, a colon or control characters.
    """
    if not name or name.startswith(RESERVED) or len(name) > 200:
        raise ValueError(f"{name!r} is no name: 1 to 200 characters, and no {RESERVED} at its beginning")
    if any(letter.isspace() or letter == ":" or not letter.isprintable() for letter in name):
        raise ValueError(f"{name!r} is no name: white space, colons and control characters are not for names")
    return name


def check_branch_name(name: str) -> str:
    """Return a name that a branch, or a tag, may be given: one by which people can call it.

    Raises:
        ValueError: It is none that a collection may be given, or stands for something else where a version is
            named (:mod:`~livesync.versions.refs`).
    """
    check_name(name)
    if name == "HEAD" or name.isdecimal() or name.startswith("-") or "~" in name or ".." in name:
        raise ValueError(
            f"{name!r} is no name of a branch or a tag: HEAD and numbers stand for something else, as do ~"
            " and .. anywhere, and - at the beginning"
        )
    return name


def check_foreign_name(name: str) -> None:
    """Make sure that a branch or a tag that came has a name that it could have here; our own are among them.

    Raises:
        InvalidCollectionState: It has not.
    """
    try:
        check_branch_name(name.removeprefix(RESERVED))
    except ValueError as exc:
        raise InvalidCollectionState(f"a branch or a tag has come that cannot be called so: {exc}") from None


class Next(NamedTuple):
    """The key that a next version gets, and the version that its line begins after."""

    key: int
    fork: int


class Names:
    """The names of one history. Changes are made within the caller's transaction."""

    def __init__(self, references: References) -> None:
        self._refs = references

    # -- branches ----------------------------------------------------------------------------------

    def branches(self) -> dict[str, Branch]:
        """Return all branches by name."""
        return {name: self._made(kept) for name, kept in self._refs.branches.items()}

    @staticmethod
    def _made(kept: tuple[int, tuple[tuple[int, int, int, int], ...]]) -> Branch:
        base, runs = kept
        return Branch(base, tuple(Run(*run) for run in runs))

    def branch(self, name: str) -> Branch:
        """Return a branch.

        Raises:
            BranchNotFound: There is none of this name.
        """
        kept = self._refs.branches.get(name)
        if kept is None:
            raise BranchNotFound(name)
        return self._made(kept)

    def set_branch(self, name: str, branch: Branch) -> None:
        """Make a branch what is given.

        Raises:
            InvalidOperation: It has open versions, which could not follow any more.
        """
        opened = self.opened().get(name)
        if opened is not None and branch.tip != opened.base:
            self.check_closed(name)
        self._refs.branches = {**self._refs.branches, name: _kept(branch)}

    def drop_branch(self, name: str) -> None:
        """Forget a name; its versions stay."""
        self._refs.branches = {key: kept for key, kept in self._refs.branches.items() if key != name}

    def rename_branch(self, name: str, new: str) -> None:
        """Call a branch otherwise, with what is open there."""
        branch, opened = self.branch(name), self.opened().get(name)
        self.set_opened(name, None)
        self.set_branch(new, branch)
        self.set_opened(new, opened)
        self.drop_branch(name)

    # -- open versions -----------------------------------------------------------------------------

    def opened(self) -> dict[str, Branch]:
        """Return what is open, by branch: which versions, and after which they come."""
        return {name: self._made(kept) for name, kept in self._refs.opened.items()}

    def set_opened(self, name: str, branch: Branch | None) -> None:
        """Say what is open at the end of a branch; None: nothing."""
        if branch is None and name not in self._refs.opened:
            return
        rest = {other: kept for other, kept in self._refs.opened.items() if other != name}
        self._refs.opened = rest if branch is None else {**rest, name: _kept(branch)}

    def check_closed(self, name: str) -> None:
        """Make sure that a branch may go on.

        Raises:
            InvalidOperation: It has open versions.
        """
        opened = self.opened().get(name)
        if opened is not None:
            raise InvalidOperation(
                f"version {opened.runs[0].number} of {name!r} is open: close it, or delete its deltas, before"
                " the branch goes on"
            )

    # -- versions ----------------------------------------------------------------------------------

    def place(self, key: int) -> tuple[int, str]:
        """Return (number, branch) of a version; (-1, "") for none that has a name."""
        for name, branch in self.branches().items():
            number = branch.number(key)
            if number is not None:
                return number, name
        return -1, ""

    def called(self, key: int) -> str:
        """Return how a version is called where something is wrong with it."""
        number, name = self.place(key)
        return f"version {number} of {name}" if name else f"version {key:#x}"

    def places(self) -> Places:
        """Return what finds many places at once."""
        return Places(self.branches())

    def key(self, number: int, name: str) -> int:
        """Return the version of a number on a branch.

        Raises:
            BranchNotFound: There is no such branch.
            InvalidCollectionVersion: It has no version of this number.
        """
        for line, position, first, length in self._runs(name):
            if first <= number < first + length:
                return key_of(line, position + number - first)
        raise InvalidCollectionVersion(number, name)

    def _runs(self, name: str) -> tuple[tuple[int, int, int, int], ...]:
        """Return the runs of a branch as they are stored."""
        kept = self._refs.branches.get(name)
        if kept is None:
            raise BranchNotFound(name)
        runs: tuple[tuple[int, int, int, int], ...] = kept[1]
        return runs

    def next_key(self, branch: Branch) -> Next:
        """Return what a branch's next version is called; on a line of its own where it cannot follow."""
        if branch.runs:
            line, position = line_of(branch.tip), position_of(branch.tip) + 1
            if self._refs.used[line] == position:
                return Next(key_of(line, position), self._refs.forks[line])
        return Next(key_of(max(self._refs.forks, default=-1) + 1, 0), branch.tip)

    def next_after(self, key: int) -> Next:
        """Return what a version that follows another one is called, whatever branch it belongs to."""
        line, position = line_of(key), position_of(key) + 1
        if self._refs.used[line] == position:
            return Next(key_of(line, position), self._refs.forks[line])
        return Next(key_of(max(self._refs.forks) + 1, 0), key)

    def take(self, following: Next) -> None:
        """Give a key to a version; none is ever given twice."""
        line = line_of(following.key)
        self._refs.used = {**self._refs.used, line: position_of(following.key) + 1}
        if line not in self._refs.forks:
            self._refs.forks = {**self._refs.forks, line: following.fork}

    def move_forks(self, moved: Mapping[int, int]) -> None:
        """Let lines that begin after versions whose keys have changed begin after these."""
        self._refs.forks = {line: moved.get(key, key) for line, key in self._refs.forks.items()}

    # -- HEAD --------------------------------------------------------------------------------------

    @property
    def head(self) -> tuple[str, int]:
        """The branch, and the version that the working documents come from."""
        branch, key = self._refs.head
        return branch, key

    def set_head(self, name: str, key: int) -> None:
        """Put HEAD elsewhere."""
        self._refs.head = (name, key)

    @property
    def is_detached(self) -> bool:
        """Whether HEAD is not at the tip of its branch."""
        name, key = self.head
        return self.branch(name).tip != key

    # -- tags --------------------------------------------------------------------------------------

    @property
    def tags(self) -> dict[str, int]:
        """Name -> key."""
        return dict(self._refs.tags)

    def set_tag(self, name: str, key: int | None) -> None:
        """Make a tag, or put it elsewhere; None removes it."""
        tags = {other: kept for other, kept in self._refs.tags.items() if other != name}
        self._refs.tags = tags if key is None else {**tags, name: key}


def _kept(branch: Branch) -> tuple[int, tuple[tuple[int, ...], ...]]:
    return branch.base, tuple(tuple(run) for run in branch.runs)


class Places:
    """Finds (number, branch) of keys, fast for many."""

    def __init__(self, branches: dict[str, Branch]) -> None:
        self._by_line: dict[int, list[tuple[Run, str]]] = {}
        for name, branch in branches.items():
            for run in branch.runs:
                self._by_line.setdefault(run.line, []).append((run, name))

    def __getitem__(self, key: int) -> tuple[int, str]:
        position = position_of(key)
        for run, name in self._by_line.get(line_of(key), ()):
            if run.first <= position < run.first + run.length:
                return run.number + position - run.first, name
        return -1, ""

    def around(self, key: int) -> tuple[int, int, int, str]:
        """Return the run of a branch that a version lies in.

        Returns:
            (its first version, the one after its last, number of the first, branch); a version without a
            name is one by itself, with the number -1.
        """
        for run, name in self._by_line.get(line_of(key), ()):
            if run.holds(key):
                low = key_of(run.line, run.first)
                return low, low + run.length, run.number, name
        return key, key + 1, -1, ""

    def keys(self) -> Iterator[int]:
        """Yield the keys of all versions that have a place."""
        for found in self._by_line.values():
            for run, _ in found:
                yield from (key_of(run.line, run.first + offset) for offset in range(run.length))
