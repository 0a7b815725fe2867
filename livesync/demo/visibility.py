"""The event for what zope's lifecycle events have no word for: an entry became private, or public."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, implementer
from zope.interface.interfaces import IObjectEvent, ObjectEvent


class IVisibilityChangedEvent(IObjectEvent):
    """An entry, and with it everything inside, became private or public."""

    private = Attribute("Whether it is private now")


@implementer(IVisibilityChangedEvent)
class VisibilityChangedEvent(ObjectEvent):
    """An entry became private or public by itself; what it lies in may still hide it.

    Args:
        obj: The entry.
        private: Whether it is private now.
    """

    def __init__(self, obj: Any, private: bool) -> None:
        super().__init__(obj)
        self.private = private
