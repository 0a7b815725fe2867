"""Slices: what a run takes from the track at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..action import ActionWrapper
from ..manager import SyncManager

#: The most actions that a run takes from the track at a time.
SLICE_SIZE: Final = 10_000

#: Where several requests are under way, a slice has so many batches for each of them: at its end all
#: have to be settled, and while the last ones are, nobody renders the next. (But no more actions than
#: :data:`MOST_IN_SLICE`.)
BATCHES_PER_STREAM: Final = 8
MOST_IN_SLICE: Final = 100_000

Item = tuple[int, ActionWrapper]


@dataclass(slots=True)
class Slice:
    """A part of the track: ``items`` up to and including ``till``, or ``offset`` values into it."""

    items: list[Item]
    till: int
    before: int  # where the pointer stood; -1: before everything
    offset: int = 0  # where the pointer stands inside ``till`` afterwards; 0: ``till`` is done
    catching_up: bool = False


def slice_size(batch_size: int, in_flight: int) -> int:
    """Return how many actions a slice has at most, for an uploader with these limits."""
    if in_flight == 1:
        return SLICE_SIZE
    return max(SLICE_SIZE, min(BATCHES_PER_STREAM * in_flight * batch_size, MOST_IN_SLICE))


def is_behind(manager: SyncManager, agent_id: str) -> bool:
    """Tell whether there is a slice to read for an agent; only its first action is looked at.

    Raises:
        PositionPruned: Something after its pointer has been pruned.
    """
    return (
        next(manager.query(agent_id), None) is not None or _pointer(manager, agent_id) < manager.track.sealed
    )


def _pointer(manager: SyncManager, agent_id: str) -> int:
    position = manager.track.get_pointer_timestamp(agent_id)
    return -1 if position is None else position


def read_slice(manager: SyncManager, agent_id: str, size: int | None = None) -> Slice | None:
    """Return what comes next for an agent, at most ``size`` actions (:data:`SLICE_SIZE`); None: nothing.

    A slice ends at a position. A position larger than a slice is read in parts. Where nothing lies
    between the pointer and what is sealed, the slice is empty: its pointer moves all the same, so that
    it does not look as if it were behind, here and at its destination.
    """
    track = manager.track
    size = size or SLICE_SIZE
    items: list[Item] = list(islice(manager.query(agent_id), size + 1))
    before = _pointer(manager, agent_id)
    if not items and before >= track.sealed:
        return None
    begun = track.pointer_offset(agent_id)
    if len(items) <= size:
        till, offset = max(track.sealed, items[-1][0] if items else -1), 0
    elif items[0][0] == items[-1][0]:
        items = items[:size]
        till, offset = items[0][0], begun + size
    else:
        following = items[-1][0]
        items = [item for item in items if item[0] < following]
        till, offset = items[-1][0], 0
    return Slice(items, till, before, offset, till <= manager.stored(agent_id).catching_up_to)
