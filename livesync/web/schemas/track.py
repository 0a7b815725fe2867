"""What lies on the track, and in the inbox."""

from __future__ import annotations

from .base import Input, Position, Seconds, Value


class TrackEntry(Value, frozen=True):
    """One action; ``position`` is None while it waits in the inbox, ``label`` where the host knows none."""

    position: int | None
    object_id: str
    label: str | None
    actions: list[str]
    timestamp: float
    user: str
    note: str


class TrackPage(Value, frozen=True):
    """A part of the track, the newest first; ``next`` is the cursor of what is older, None at the end."""

    entries: list[TrackEntry]
    next: str | None


class WaitingPage(Value, frozen=True):
    """What waits in the inbox, the oldest first; ``more``: not all of it."""

    entries: list[TrackEntry]
    more: bool


class Prune(Input, frozen=True):
    """What the track may drop: what is older than ``keep_s`` (seven days), or lies below ``before``."""

    keep_s: Seconds | None = None
    before: Position | None = None
    leave_behind: bool = False


class HeldBack(Value, frozen=True):
    """An agent for whose sake much is kept; ``text`` for people."""

    agent_id: str
    days: float
    actions: int
    bytes: int
    text: str


class Pruned(Value, frozen=True):
    """How many actions were dropped; agents that lost something and need an export; who holds much back."""

    dropped: int
    left_behind: list[str]
    held_back: list[HeldBack]
