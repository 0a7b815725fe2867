"""Slices: what a run takes from the track at a time, and the dead letters that it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ..action import ActionWrapper
from ..manager import SyncManager
from .record import DeadRecord

#: The most actions that a run takes from the track at a time.
SLICE_SIZE: Final = 10_000

Item = tuple[int, ActionWrapper]


@dataclass(slots=True)
class Slice:
    """A part of the track: ``items`` up to and including ``till``, or ``offset`` values into it."""

    items: list[Item]
    till: int
    before: int  # where the pointer stood; -1: before everything
    offset: int = 0  # where the pointer stands inside ``till`` afterwards; 0: ``till`` is done
    catching_up: bool = False


def read_slice(manager: SyncManager, agent_id: str) -> Slice | None:
    """Return what comes next for an agent, at most :data:`SLICE_SIZE` actions; None: nothing.

    A slice ends at a position. A position larger than a slice is read in parts.
    """
    track = manager.track
    items: list[Item] = list(islice(manager.query(agent_id), SLICE_SIZE + 1))
    if not items:
        return None
    stored = manager.stored(agent_id)
    pointer = track.get_pointer_timestamp(agent_id)
    begun = track.pointer_offset(agent_id)
    if len(items) <= SLICE_SIZE:
        till, offset = max(track.sealed, items[-1][0]), 0
    elif items[0][0] == items[-1][0]:
        items = items[:SLICE_SIZE]
        till, offset = items[0][0], begun + SLICE_SIZE
    else:
        following = items[-1][0]
        items = [item for item in items if item[0] < following]
        till, offset = items[-1][0], 0
    before = -1 if pointer is None else pointer
    return Slice(items, till, before, offset, till <= stored.catching_up_to)


def store_dead(stored: Any, dead: Iterable[DeadRecord], delivered: Iterable[str], now: float) -> None:
    """Keep dead records as dead letters, and clear those of objects that were delivered since."""
    dead = list(dead)
    for object_id in set(delivered) - {record.object_id for record in dead}:
        stored.dead.pop(object_id, None)
    for record in dead:
        known = stored.dead.get(record.object_id)
        stored.dead[record.object_id] = {
            "op": record.op.value,
            "position": record.position,
            "reason": record.reason,
            "time": now,
            "first_time": now if known is None else known["first_time"],
            "attempts": 1 if known is None else known["attempts"] + 1,
        }
