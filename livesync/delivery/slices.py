"""Slices: what a run takes from the track at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..action import ActionWrapper
from ..manager import SyncManager

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

    A slice ends at a position. A position larger than a slice is read in parts. Where nothing lies
    between the pointer and what is sealed, the slice is empty: its pointer moves all the same, so that
    it does not look as if it were behind, here and at its destination.
    """
    track = manager.track
    items: list[Item] = list(islice(manager.query(agent_id), SLICE_SIZE + 1))
    stored = manager.stored(agent_id)
    pointer = track.get_pointer_timestamp(agent_id)
    if not items and (-1 if pointer is None else pointer) >= track.sealed:
        return None
    begun = track.pointer_offset(agent_id)
    if len(items) <= SLICE_SIZE:
        till, offset = max(track.sealed, items[-1][0] if items else -1), 0
    elif items[0][0] == items[-1][0]:
        items = items[:SLICE_SIZE]
        till, offset = items[0][0], begun + SLICE_SIZE
    else:
        following = items[-1][0]
        items = [item for item in items if item[0] < following]
        till, offset = items[-1][0], 0
    before = -1 if pointer is None else pointer
    return Slice(items, till, before, offset, till <= stored.catching_up_to)
