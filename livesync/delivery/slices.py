"""Slices: what a run takes from the track at a time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from ..manager import SyncManager
from ..track.changes import Changes, enough_of, first_of

#: The most actions that a run takes from the track at a time.
SLICE_SIZE: Final = 10_000

#: Where several requests are under way, a slice has so many batches for each of them: at its end all
#: have to be settled, and while the last ones are, nobody renders the next. (But no more actions than
#: :data:`MOST_IN_SLICE`.)
BATCHES_PER_STREAM: Final = 8
MOST_IN_SLICE: Final = 100_000


@dataclass(slots=True)
class Slice:
    """A part of the track: ``changes`` up to and including ``till``, or ``offset`` values into it."""

    changes: Changes
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
    parts = enough_of(manager.query_parts(agent_id), size + 1)
    positions = [position for part in parts for position in part.positions]
    before = _pointer(manager, agent_id)
    if not positions and before >= track.sealed:
        return None
    begun = track.pointer_offset(agent_id)
    offset = 0
    if len(positions) <= size:
        count = len(positions)
        till = max(track.sealed, positions[-1] if positions else -1)
    elif positions[0] == positions[size]:
        count = size
        till, offset = positions[0], begun + size
    else:
        count = bisect_left(positions, positions[size])
        till = positions[count - 1]
    changes = Changes(first_of(parts, count))
    return Slice(changes, till, before, offset, till <= manager.stored(agent_id).catching_up_to)
