"""Between the engine's states and the changes that people see."""

from __future__ import annotations

from datetime import datetime

from .applying import operation_of
from .changes import ItemChange, Operation, SerializationResult
from .clocks import VectorClock, VectorClockItem, merged, moment_of
from .states import Dot, ItemState


def change_of(
    state: ItemState,
    date_created: datetime | None = None,
    is_applied: bool = False,
    should_ignore: bool = False,
) -> ItemChange:
    """Return a state as the change that made it."""
    return ItemChange(
        id=state.change_id,
        date_created=date_created,
        operation=operation_of(state),
        change_vector_clock_item=_item(state.dot),
        insert_vector_clock_item=_item(state.inserted),
        serialization_result=SerializationResult(
            state.item_id, state.entity_name, state.payload, state.partition
        ),
        should_ignore=should_ignore,
        is_applied=is_applied,
        vector_clock=VectorClock.of_stamps(state.vector),
        length=state.length,
        hard=state.hard,
    )


def state_of(change: ItemChange) -> ItemState:
    """Return a change as the state that it makes of its item."""
    result = change.serialization_result
    dot, inserted = _dot(change.change_vector_clock_item), _dot(change.insert_vector_clock_item)
    length = change.length
    if length is None:
        length = 2 if change.operation is Operation.DELETE else 1
    vector = merged(change.vector_clock.stamps(), {dot[0]: dot[1]})
    return ItemState(
        result.item_id,
        result.entity_name,
        result.partition,
        "" if change.hard else result.serialized_item,
        dot,
        vector,
        length,
        change.hard,
        inserted,
        met=((0, max(vector.values())),),  # a change does not say more than its clock does
    )


def _item(dot: Dot) -> VectorClockItem:
    return VectorClockItem(dot[0], moment_of(dot[1]))


def _dot(item: VectorClockItem) -> Dot:
    return (item.provider_id, item.stamp)
