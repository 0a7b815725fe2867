"""The demo wired to livesync: capture hears its events, and knows the one that is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import zope.event

from ..action import SET_PRIVATE, SET_PUBLIC
from ..capture import Capture, record_action
from ..errors import NoConnection
from ..host import Host
from .visibility import IVisibilityChangedEvent


@contextmanager
def recorded(db: Any, host: Host) -> Iterator[Capture]:
    """Record, as long as the context lasts, what is done to the objects of ``db`` that ``host`` knows.

    Args:
        db: A ``ZODB.DB`` with a sync manager.
        host: How livesync sees the catalogue.
    """
    with Capture(host).attached(db) as capture, visibility_recorded():
        yield capture


@contextmanager
def visibility_recorded() -> Iterator[None]:
    """Record, as long as the context lasts, what became private or public as such.

    Capture understands zope's own lifecycle events; that something is private is the application's
    idea, so here is said what its event means. The application's code itself never names livesync.
    """

    # A function of its own each time: contexts may overlap, and each takes away what it brought.
    def subscriber(event: Any) -> None:
        if IVisibilityChangedEvent.providedBy(event):
            # As with zope's events: what happens in a database that nobody records is none of ours.
            with suppress(NoConnection):
                record_action(event.object, SET_PRIVATE if event.private else SET_PUBLIC)

    zope.event.subscribers.append(subscriber)
    try:
        yield
    finally:
        zope.event.subscribers.remove(subscriber)
