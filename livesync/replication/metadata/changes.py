"""What one provider tells another, and what is noted about it: the metadata of two-way sync.

Names, arguments and meanings are those of maestro's documentation.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from .clocks import Stamps, VectorClock, VectorClockItem


class Operation(Enum):
    """An operation that can be performed on an item."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class ConflictStatus(Enum):
    """What became of a conflict: nothing yet, or it is settled."""

    DEFERRED = "DEFERRED"
    RESOLVED = "RESOLVED"


class ConflictType(Enum):
    """What met what, as the node that logs it sees it."""

    LOCAL_UPDATE_REMOTE_UPDATE = "LOCAL_UPDATE_REMOTE_UPDATE"
    LOCAL_UPDATE_REMOTE_DELETE = "LOCAL_UPDATE_REMOTE_DELETE"
    LOCAL_DELETE_REMOTE_UPDATE = "LOCAL_DELETE_REMOTE_UPDATE"
    LOCAL_DELETE_REMOTE_DELETE = "LOCAL_DELETE_REMOTE_DELETE"
    LOCAL_UPDATE_REMOTE_INSERT = "LOCAL_UPDATE_REMOTE_INSERT"
    LOCAL_INSERT_REMOTE_UPDATE = "LOCAL_INSERT_REMOTE_UPDATE"
    LOCAL_INSERT_REMOTE_INSERT = "LOCAL_INSERT_REMOTE_INSERT"
    LOCAL_INSERT_REMOTE_DELETE = "LOCAL_INSERT_REMOTE_DELETE"
    LOCAL_DELETE_REMOTE_INSERT = "LOCAL_DELETE_REMOTE_INSERT"
    EXCEPTION_OCCURRED = "EXCEPTION_OCCURRED"


class SyncSessionStatus(Enum):
    """Where a session stands."""

    IN_PROGRESS = "IN_PROGRESS"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class SerializationResult:
    """The result of serializing an item.

    Args:
        item_id: The item's primary key.
        entity_name: The type of entity that it is.
        serialized_item: Its JSON text.
        partition: Where it belongs, a colon-separated path.
    """

    item_id: str
    entity_name: str
    serialized_item: str
    partition: str = ""


@dataclass(slots=True)
class ItemChange:
    """A change performed to an item.

    Args:
        id: The change's primary key; the same on every node.
        date_created: When the change was saved in the data store (aware UTC); None before.
        operation: What was done.
        change_vector_clock_item: Who made the change, and when.
        insert_vector_clock_item: Who first inserted the item, and when.
        serialization_result: The item.
        should_ignore: It lost a conflict.
        is_applied: It has been applied to the item here.
        vector_clock: Every write that the item had seen when the change was made.
        length: How often the item was created, deleted and revived; None: 1, or 2 for a delete.
        hard: The item was deleted for good.
    """

    id: uuid.UUID
    date_created: datetime | None
    operation: Operation
    change_vector_clock_item: VectorClockItem
    insert_vector_clock_item: VectorClockItem
    serialization_result: SerializationResult
    should_ignore: bool
    is_applied: bool
    vector_clock: VectorClock
    length: int | None = field(default=None, kw_only=True)
    hard: bool = field(default=False, kw_only=True)

    def reset_status(self) -> None:
        """Forget what makes sense only here: called before the change is sent to another provider."""
        self.should_ignore = False
        self.is_applied = False
        self.date_created = None


@dataclass(slots=True)
class ItemChangeBatch:
    """A page of changes.

    Args:
        item_changes: The changes.
        is_last_batch: There are no more.
        starts_at: The clock after which the changes were selected, where a provider made the batch.
        ends_at: The clock to ask with for the next page, where a provider made the batch.
        claims: With the last page: what its maker claims to hold by prefix, all pages together.
    """

    item_changes: list[ItemChange]
    is_last_batch: bool
    starts_at: VectorClock | None = field(default=None, kw_only=True, compare=False)
    ends_at: VectorClock | None = field(default=None, kw_only=True, compare=False)
    claims: dict[str, Stamps] | None = field(default=None, kw_only=True, compare=False)

    def get_vector_clock_after_done(self, initial_vector_clock: VectorClock) -> VectorClock:
        """Return the clock that a provider has when it has applied all of these; a new one.

        It is what to ask with for the next page.

        Args:
            initial_vector_clock: The clock before; it stays as it is.
        """
        clock = VectorClock(*initial_vector_clock)
        news = self.ends_at if self.ends_at is not None else _clock_items(self.item_changes)
        for item in news:
            clock.update(item)
        return clock

    def reset_status(self) -> None:
        """Forget what makes sense only here, in all changes."""
        for change in self.item_changes:
            change.reset_status()


def _clock_items(changes: Sequence[ItemChange]) -> list[VectorClockItem]:
    return [change.change_vector_clock_item for change in changes]


@dataclass(slots=True)
class ItemVersion:
    """The current version of an item: it links the item to the last change applied to it.

    Args:
        current_item_change: That change; None only while the item does not exist here.
        item_id: The item's primary key.
        date_created: When the item was first added here (aware UTC); None while it does not exist here.
        vector_clock: The last change's, if not given; empty where there is none.
    """

    current_item_change: ItemChange | None
    item_id: str
    date_created: datetime | None
    vector_clock: VectorClock | None = None

    def __post_init__(self) -> None:
        if self.vector_clock is None:
            change = self.current_item_change
            self.vector_clock = VectorClock() if change is None else change.vector_clock


@dataclass(slots=True)
class ConflictLog:
    """A conflict that was met during a session.

    Args:
        id: Its primary key.
        created_at: When it was noticed (aware UTC).
        resolved_at: When it was settled; None while it is deferred.
        item_change_loser: The change that lost, or that raised.
        item_change_winner: The change that won; None for an exception.
        status: Settled or deferred.
        conflict_type: What met what.
        description: The stack trace of an exception; else None.
        query_ids: The queries that tried to sync the change.
    """

    id: uuid.UUID
    created_at: datetime
    resolved_at: datetime | None
    item_change_loser: ItemChange
    item_change_winner: ItemChange | None
    status: ConflictStatus
    conflict_type: ConflictType
    description: str | None
    query_ids: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The last line of the description: what to show of an exception."""
        lines = (self.description or "").strip().splitlines()
        return lines[-1] if lines else ""


@dataclass(slots=True)
class SyncSession:
    """A session: deferred changes, then those of the source, applied at the target.

    Args:
        id: Its primary key.
        started_at: When it began (aware UTC).
        ended_at: When it ended; None until then.
        status: Where it stands.
        source_provider_id: Who sends.
        target_provider_id: Who receives.
        item_changes: What was exchanged; read from the store as it is asked for.
        query_id: The query that was synced; None: by partitions.
        reason: Why it failed; empty otherwise.
        differences: Prefixes under which both hold other things, though they claim the same: claims were
            wrong. The next session mends it.
    """

    id: uuid.UUID
    started_at: datetime
    ended_at: datetime | None
    status: SyncSessionStatus
    source_provider_id: str
    target_provider_id: str
    item_changes: Sequence[ItemChange]
    query_id: str | None = None
    reason: str = field(default="", kw_only=True)
    differences: tuple[str, ...] = field(default=(), kw_only=True)
