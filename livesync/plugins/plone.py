"""Plone: its host, and what its own events and its indexing queue say beyond the lifecycle events.

``plone.zcml`` registers the subscribers. What every event becomes stands in :data:`SAID`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..action import ACL_CHANGED, SET_PRIVATE, SET_PUBLIC
from ..capture import capture_for
from ..errors import NoConnection

if TYPE_CHECKING:
    from .plone_host import PloneHost

#: Environment variable: paths of the Plone sites that are told of, separated by white space; all when empty.
SITES: Final = "LIVESYNC_PLONE_SITES"

#: What happens in Plone -> the actions that are recorded, and of which object. For documentation; tested.
SAID: Final[Mapping[str, tuple[str, str]]] = {
    "an object is added": ("created", "the object, and everything that came with it"),
    "an object is edited": ("data_changed", "the object"),
    "its title is edited": ("data_changed, title_changed", "the object"),
    "an object is renamed, or cut and pasted": ("moved", "the object; it reaches everything inside"),
    "an object is copied and pasted": ("created", "the copy, and everything inside, under UIDs of their own"),
    "an object is deleted": ("deleted", "the object, and everything that was in it"),
    "something is added to, removed from or ordered in a folder": ("data_changed", "the folder"),
    "a transition after which everybody may see it": (
        "set_public",
        "the object; it reaches everything inside",
    ),
    "a transition after which not everybody may any more": (
        "set_private",
        "the object; it reaches everything inside",
    ),
    "any other transition": ("acl_changed", "the object; it reaches everything inside"),
    "it is shared (local roles)": ("acl_changed, data_changed", "the object; it reaches everything inside"),
    "reindexObject, and no event": ("data_changed", "the object"),
    "reindexObjectSecurity, and no event": ("acl_changed", "the object; it reaches everything inside"),
    "an undo in Zope": ("undone", "what the undone transaction had changed"),
}


def plone_host() -> PloneHost:
    """Return the host ``plone``: all Plone sites of a Zope, or those that ``LIVESYNC_PLONE_SITES`` names."""
    from .plone_host import PloneHost

    return PloneHost(os.environ.get(SITES, "").split())


class _SeenBefore:
    """Key in a transaction's data: which objects everybody could see before their transitions."""


def transition_begins(obj: Any, event: Any) -> None:
    """Note whether everybody may see an object whose workflow state is about to change."""
    if event.transition is not None and _recorded(obj):
        _seen_before(obj)[_uid(obj)] = _is_public(obj)


def transition_ended(obj: Any, event: Any) -> None:
    """Record what the change of an object's workflow state means for who may see it.

    The first state of a new object says nothing: that it was created does.
    """
    if event.transition is None or not _recorded(obj):
        return
    now = _is_public(obj)
    before = _seen_before(obj).pop(_uid(obj), now)
    _record(obj, ACL_CHANGED if now == before else SET_PUBLIC if now else SET_PRIVATE)


def local_roles_changed(obj: Any, event: Any) -> None:
    """Record that an object was shared otherwise."""
    if _recorded(obj):
        _record(obj, ACL_CHANGED)


def _recorded(obj: Any) -> bool:
    """Tell whether an object's database is recorded, and the object one of the host's."""
    capture = capture_for(obj)
    return capture is not None and not capture.host.is_never_synced(obj)


def _record(obj: Any, word: str) -> None:
    capture = capture_for(obj)
    if capture is not None:
        with suppress(NoConnection):  # a fault of ours must not fail the application
            capture.record(obj, word)


def _uid(obj: Any) -> str:
    capture = capture_for(obj)
    assert capture is not None
    return capture.host.object_id(obj)


def _is_public(obj: Any) -> bool:
    from ._plone_access import EVERYBODY, VIEW

    return EVERYBODY.may(VIEW, obj)


def _seen_before(obj: Any) -> dict[str, bool]:
    import transaction

    current = transaction.get()
    try:
        found: dict[str, bool] = current.data(_SeenBefore)
    except KeyError:
        found = {}
        current.set_data(_SeenBefore, found)
    return found
