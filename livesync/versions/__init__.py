"""The history of documents: versions of a collection, branches, deltas and three-way merges."""

from typing import TYPE_CHECKING

from ..imports import at_first_use as _at_first_use

if TYPE_CHECKING:
    from .collection import VersionedCollection as VersionedCollection
    from .deltatrees.deltas import DeltasCollection as DeltasCollection

# the pure core needs no database
_HOMES = {"DeltasCollection": "deltatrees.deltas", "VersionedCollection": "collection"}

__all__ = ["DeltasCollection", "VersionedCollection"]

__getattr__, __dir__ = _at_first_use(__name__, _HOMES, globals())
