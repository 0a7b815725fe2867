"""Whoever keeps what the application's objects have said, beside the application: histories do.

What is erased for good has to go from there too. Whoever erases it knows nothing of histories, and histories
nothing of it: a keeper lies in the root of the database, in a tree under a key of livesync's, and is found by
what is stored there. So none can be missed since nobody has imported it, and its code is loaded only where
there is something of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

from BTrees.OOBTree import OOBTree

#: What the keys of livesync's trees in the root of a database begin with.
PREFIX: Final = "livesync."


@runtime_checkable
class Keeper(Protocol):
    """A persistent object that keeps what objects have said."""

    def forget_object(self, object_id: str) -> bool:
        """Erase what an object has said, within the caller's transaction; again does no harm.

        Args:
            object_id: The object's id; that there is something of it is not needed.

        Returns:
            Whether there was something.

        Raises:
            LiveSyncError: It cannot be erased now; the caller's transaction must not be committed.
        """


def keepers(root: Mapping[str, Any]) -> list[tuple[str, Keeper]]:
    """Return ``(name, keeper)`` of all that a database has, by key and by name."""
    trees = [root[key] for key in sorted(key for key in root if str(key).startswith(PREFIX))]
    return [
        (name, keeper)
        for tree in trees
        if isinstance(tree, OOBTree)
        for name, keeper in tree.items()
        if isinstance(keeper, Keeper)
    ]


def forget_object(root: Mapping[str, Any], object_id: str) -> tuple[str, ...]:
    """Have everybody forget what an object has said, within the caller's transaction.

    Args:
        root: Of the database.
        object_id: The object.

    Returns:
        The names of the keepers that had something.

    Raises:
        LiveSyncError: As :meth:`Keeper.forget_object`.
    """
    return tuple(name for name, keeper in keepers(root) if keeper.forget_object(object_id))
