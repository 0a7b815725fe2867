"""Comparing the versions of two collections of one name: which of them has all that the other one has.

Ids of versions are made of all that these hold, so that the same ids are the same versions. What is changed
and not registered does not count, nor where HEAD is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..store.tree import NO_VERSION
from ..tracked import TrackedCollection


class Tree(NamedTuple):
    """The versions of a collection, as they are the same in every database.

    Attributes:
        ids: Of all versions.
        branches: Name -> (id of the version that it begins at, ids of its own); b"": at none.
    """

    ids: frozenset[bytes]
    branches: dict[str, tuple[bytes, tuple[bytes, ...]]]

    def is_within(self, other: Tree) -> bool:
        """Tell whether another tree has all versions and branches of this one, and went on from them only."""
        if not self.ids <= other.ids:
            return False
        for name, (base, own) in self.branches.items():
            theirs = other.branches.get(name)
            if theirs is None or theirs[0] != base or theirs[1][: len(own)] != own:
                return False
        return True


class ComparedCollection(TrackedCollection):
    """The part of a collection that is compared with another one.

    Two are equal where they have the same name, versions and branches. ``a < b``: ``b`` has all that ``a``
    has, and more; where both have gone on, neither is less than the other. Collections of different names are
    different, and none of them is less: ``ValueError``.
    """

    @property
    def version_tree(self) -> Tree:
        """Its versions and branches; empty without versions."""
        if not self.is_tracked:
            return Tree(frozenset(), {})
        keys = self.contents.stored.keys
        ids = {int(key): bytes(version_id) for version_id, key in keys.items()}
        ids[NO_VERSION] = b""
        branches = {
            name: (ids[branch.base], tuple(ids[key] for key in branch.versions()))
            for name, branch in self.names.branches().items()
        }
        return Tree(frozenset(keys), branches)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComparedCollection):
            return NotImplemented
        if self is other:
            return True
        return self.name == other.name and self.version_tree == other.version_tree

    def __hash__(self) -> int:
        return hash((ComparedCollection, self.name))

    def __le__(self, other: object) -> bool:
        mine, theirs = self._trees(other)
        return NotImplemented if theirs is None else mine.is_within(theirs)

    def __lt__(self, other: object) -> bool:
        mine, theirs = self._trees(other)
        return NotImplemented if theirs is None else mine != theirs and mine.is_within(theirs)

    def __ge__(self, other: object) -> bool:
        mine, theirs = self._trees(other)
        return NotImplemented if theirs is None else theirs.is_within(mine)

    def __gt__(self, other: object) -> bool:
        mine, theirs = self._trees(other)
        return NotImplemented if theirs is None else mine != theirs and theirs.is_within(mine)

    def _trees(self, other: Any) -> tuple[Tree, Tree | None]:
        if not isinstance(other, ComparedCollection):
            return self.version_tree, None
        if self.name != other.name:
            raise ValueError(f"collections of one name are compared, not {self.name!r} and {other.name!r}")
        return self.version_tree, other.version_tree
