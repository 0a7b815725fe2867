"""What people call versions: branches, which go on, and tags, which stay."""

from __future__ import annotations

from ..errors import InvalidOperation
from .names import check_branch_name
from .store.ancestry import is_ancestor
from .store.tree import Branch
from .tracked import TrackedCollection


class NamingCollection(TrackedCollection):
    """The part of a collection that gives names to versions; no version is made, no document written."""

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
        names.branch(name)
        names.rename_branch(name, self._new_name(new))
        if names.head[0] == name:
            names.set_head(new, names.head[1])

    def delete_branch(self, name: str, force: bool = False) -> None:
        """Forget a branch. Its versions stay while something leads to them; else they are collected later.

        Args:
            name: The branch.
            force: Although nothing else leads to its newest version.

        Raises:
            BranchNotFound: There is none of this name.
            InvalidOperation: HEAD is on it, another branch begins at one of its own versions, it has an open
                version, or nothing else leads to its newest version.
        """
        contents, names = self.contents, self.names
        branch = names.branch(name)
        if names.head[0] == name:
            raise InvalidOperation(f"HEAD is on {name!r}: check out another branch before it is deleted")
        names.check_closed(name)
        others = {other: kept for other, kept in names.branches().items() if other != name}
        own = set(branch.versions())
        for other, kept in others.items():
            if kept.base in own:
                raise InvalidOperation(
                    f"branch {other!r} begins at version {branch.number(kept.base)} of {name!r}, and needs it"
                )
        starts = {*(kept.tip for kept in others.values()), *names.tags.values()}
        if not force and not any(is_ancestor(contents, branch.tip, start) for start in starts):
            raise InvalidOperation(
                f"nothing else leads to version {branch.total - 1} of {name!r}: merge, or force it"
            )
        names.drop_branch(name)

    def tag(self, name: str, version: int | None = None, branch: str | None = None) -> None:
        """Give a version a name that stays with it; without arguments the current one.

        Raises:
            ValueError: The name is taken, or is none.
            BranchNotFound, InvalidCollectionVersion: There is no such version.
        """
        self.tag_key(name, self._key(version, branch))

    def tag_key(self, name: str, key: int) -> None:
        """Give a version, as this database finds it, a name.

        Raises:
            ValueError: The name is taken, or is none.
        """
        check_branch_name(name)
        if name in self.names.tags:
            raise ValueError(f"there is a tag {name!r} already")
        self.names.set_tag(name, key)

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
