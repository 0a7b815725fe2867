"""A processor of the indexing queue of Products.CMFCore: it sees what no event announces.

Scripts set attributes and call ``obj.reindexObject()``: the catalogue then knows, and so is livesync to.
Events say more (what kind of change it was), so they go first. The queue is worked off before the commit, but
also whenever somebody searches, which may be before the event is sent. So what it says is only noted
(:meth:`~livesync.capture.Capture.note`): when capture writes, after all other hooks and in the same
transaction, it holds where nothing else was recorded of the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from Products.CMFCore.interfaces import IIndexQueueProcessor
from zope.interface import implementer
from zope.proxy import removeAllProxies

from ..action import ACL_CHANGED, DATA_CHANGED
from ..capture import capture_for
from ..gathering import connection_of

#: What ``reindexObjectSecurity`` asks for.
_SECURITY: Final = frozenset({"allowedRolesAndUsers"})


@implementer(IIndexQueueProcessor)
class QueueProcessor:
    """Records what the catalogue is told and no event says; indexes nothing."""

    def index(self, obj: Any, attributes: Any = None) -> None:
        """Note that an object is new to the catalogue."""
        _note(obj, DATA_CHANGED)

    def reindex(self, obj: Any, attributes: Any = None, update_metadata: Any = 1) -> None:
        """Note that an object changed, or who may see it. (Plone indexes new and moved ones so, too.)"""
        of_security = bool(attributes) and _SECURITY.issuperset(attributes)
        _note(obj, ACL_CHANGED if of_security else DATA_CHANGED)

    def unindex(self, obj: Any) -> None:
        """Note that an object left the catalogue; it comes in a proxy that remembers its path."""
        _note(removeAllProxies(obj), DATA_CHANGED)

    def begin(self) -> None:
        """Nothing to do: what was noted belongs to the transaction."""

    commit = abort = begin


def _note(obj: Any, word: str) -> None:
    capture = capture_for(obj)
    if capture is not None and not capture.host.is_never_synced(obj):
        capture.note(capture.host.object_id(obj), word, connection_of(obj), _ids_above(obj))


def _ids_above(obj: Any) -> Iterator[str]:
    """Yield the ids of the containers of an object, the nearest first."""
    from Acquisition import aq_chain, aq_inner

    from .plone_host import uid_of

    for parent in aq_chain(aq_inner(obj))[1:]:
        uid = uid_of(parent)
        if uid is None:
            return
        yield uid
