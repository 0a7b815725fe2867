"""What the application tells of itself, beside zope.lifecycleevent: who may see something has changed."""

from zope.interface.interfaces import ObjectEvent


class Hidden(ObjectEvent):
    """A folder or a note became a draft, and with it everything inside."""


class Published(ObjectEvent):
    """A folder or a note is no draft any more."""
