"""One provider's parts, held together: what the steps of a session work with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .events import EventsManager
from .metadata.clocks import stamp_of_epoch
from .metadata.ids import NewId, random_id
from .models.executor import ChangesExecutor
from .stores.base import BaseDataStore

#: How far ahead of this node's clock a received timestamp may be, in seconds.
MAX_DRIFT_S: Final = 86_400.0


@dataclass(slots=True)
class Node:
    """What one provider is made of.

    Attributes:
        store: Where its items lie.
        executor: What carries changes out in the application.
        events: Who is told.
        clock: Returns epoch seconds.
        max_drift_s: How far ahead a received timestamp may be.
        new_id: Makes ids.
    """

    store: BaseDataStore
    executor: ChangesExecutor = field(default_factory=ChangesExecutor)
    events: EventsManager = field(default_factory=EventsManager)
    clock: Callable[[], float] = time.time
    max_drift_s: float = MAX_DRIFT_S
    new_id: NewId = random_id

    def now(self) -> int:
        """Return the wall clock as a stamp."""
        return stamp_of_epoch(self.clock())

    def next_stamp(self) -> int:
        """Issue a stamp of the store's, within its transaction."""
        return self.store.next_stamp(self.now(), self.new_id)

    def next_stamps(self, count: int) -> range:
        """Issue some stamps of the store's, one after the other, within its transaction; at least one."""
        return self.store.next_stamps(self.now(), count, self.new_id)

    def latest(self) -> int:
        """Return the newest stamp that is believed."""
        return self.now() + round(self.max_drift_s * 1_000_000)

    def new_key(self) -> tuple[int, str]:
        """Return (now, a new id): the key of what is kept in the order in which it happened."""
        return (self.now(), self.new_id())
