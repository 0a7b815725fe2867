"""Push and pull: branches of one collection, and everything they need, brought to another one.

Both have the same name and the same first version. Ids of versions say what the other one lacks, so that a
push that is repeated does nothing. The other one is an :class:`~livesync.versions.remotes.ends.OtherEnd`: a
collection of another database here, or one beyond a network.
"""

from __future__ import annotations

from .pulling import REBRANCHED, PullingCollection
from .pushing import PushingCollection

__all__ = ["REBRANCHED", "RemoteCollection"]


class RemoteCollection(PushingCollection, PullingCollection):
    """The part of a collection that exchanges versions with another one."""
