"""What a provider tells whoever wants to know: a progress bar, a log, a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .metadata.changes import ConflictLog, ItemChange, SyncSession

#: The steps of a session, in their order.
STAGES: Final = ("deferred", "serializing", "transferring", "finishing")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is.

    Attributes:
        stage: One of :data:`STAGES`.
        status: ``started``, ``in_progress`` or ``completed``.
        count: Items, so far in this stage.
    """

    stage: str
    status: str
    count: int = 0


class EventsManager:
    """Is told what happens in sessions; each method does nothing unless it is overridden.

    Sessions and conflict logs are kept by the store whatever becomes of the events: they are written with
    the changes, in one transaction. Events are told after the transaction that made them.

    Args:
        on_progress: Called with each :class:`Progress`.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._on_progress = on_progress

    def on_start_sync_session(self, session: SyncSession) -> None:
        """Be told that a session begins."""

    def on_end_sync_session(self, session: SyncSession) -> None:
        """Be told that a session has ended well."""

    def on_failed_sync_session(self, session: SyncSession) -> None:
        """Be told that a session has failed; ``session.reason`` says why."""

    def on_item_changes_sent(self, item_changes: list[ItemChange]) -> None:
        """Be told that these changes were sent."""

    def on_item_change_applied(self, item_change: ItemChange) -> None:
        """Be told that a change was applied."""

    def on_conflict_resolved(self, conflict_log: ConflictLog) -> None:
        """Be told of a conflict that is settled, by its winner."""

    def on_exception(self, conflict_log: ConflictLog) -> None:
        """Be told of a change that could not be applied, and is tried again in the next session."""

    def on_progress(self, progress: Progress) -> None:
        """Be told how far a session is."""
        if self._on_progress is not None:
            self._on_progress(progress)
