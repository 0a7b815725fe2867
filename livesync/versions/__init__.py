"""The history of documents: versions of a collection, branches, deltas and three-way merges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collection import VersionedCollection as VersionedCollection
    from .deltatrees.deltas import DeltasCollection as DeltasCollection

__all__ = ["DeltasCollection", "VersionedCollection"]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use: the pure core needs no database."""
    if name == "VersionedCollection":
        from .collection import VersionedCollection

        return VersionedCollection
    if name == "DeltasCollection":
        from .deltatrees.deltas import DeltasCollection

        return DeltasCollection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
