"""What to send for a slice of the track: one record an object. Pure functions of values.

What an object *is* decides between upsert and delete, and that is seen only when it is rendered
(``render.py``). What is decided here is which objects need a record at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..action import CASCADING, CREATED, DELETED, UNDONE, ActionWrapper
from .record import Op, Record

Item = tuple[int, ActionWrapper]


def reduce(data: Iterable[Item], till: int, attempted: int | None, shown: float = 0.0) -> Iterator[Record]:
    """Yield one record an object, in the order of their last actions.

    The op is what the last action says; rendering settles it. An object that was created and then
    deleted is left out, but only where nothing of it can have been sent: its creation lies after
    ``attempted`` and ``shown``, and no undo is involved.

    Args:
        data: ``(position, action)``, oldest first.
        till: The end of the slice, which is the records' position.
        attempted: Highest position that may have been sent before; None: anything may have been
            (an export is under way), so nothing is left out.
        shown: Commit time, in epoch seconds, up to which something that lies after ``attempted``
            may have been sent all the same.
    """
    histories: dict[str, Item | _History] = {}
    for item in data:
        action = item[1]
        history = histories.pop(action.object_id, None)
        if history is None:
            histories[action.object_id] = item  # most objects have one action, which is all there is to know
            continue
        if isinstance(history, tuple):
            history = _History(*history)
        history.add(action)
        histories[action.object_id] = history  # moved to the end: the order is that of last actions
    for object_id, history in histories.items():
        if isinstance(history, tuple):
            words = history[1].actions
            yield Record(Op.DELETE if _ends_deleted(words) else Op.UPSERT, object_id, till, words)
        elif attempted is None or not history.came_and_went_after(attempted, shown):
            op = Op.DELETE if _ends_deleted(history.last) else Op.UPSERT
            yield Record(op, object_id, till, history.all)


def _ends_deleted(last: frozenset[str]) -> bool:
    return DELETED in last and CREATED not in last


class _History:
    """What a slice says of an object with several actions."""

    __slots__ = ("all", "first", "last", "since", "time")

    def __init__(self, position: int, action: ActionWrapper) -> None:
        self.since = position
        self.time = action.timestamp
        self.first = self.last = self.all = action.actions

    def add(self, action: ActionWrapper) -> None:
        self.last = action.actions
        self.all |= action.actions

    def came_and_went_after(self, attempted: int, shown: float) -> bool:
        # A first action that holds both words may be a deletion followed by a creation under the
        # same id, and the object may have been sent long ago.
        created = CREATED in self.first and DELETED not in self.first
        unseen = self.since > attempted and self.time > shown
        return created and _ends_deleted(self.last) and unseen and UNDONE not in self.all


def cascading(data: Iterable[Item]) -> dict[str, frozenset[str]]:
    """Return the objects whose actions reach everything inside them, each with those actions.

    In the order of their first such action.
    """
    found: dict[str, frozenset[str]] = {}
    for _, action in data:
        words = action.actions & CASCADING
        if words:
            found[action.object_id] = found.get(action.object_id, frozenset()) | words
    return found


def count_unsent(data: Sequence[Item], sent: set[str]) -> tuple[int, int]:
    """Return ``(coalesced, cancelled)``: actions that another of the same object stands for, and
    actions of objects for which there is no record.

    With a record for each id of ``sent``: ``len(data) == len(sent) + coalesced + cancelled``.
    """
    coalesced = cancelled = 0
    seen: set[str] = set()
    for _, action in data:
        object_id = action.object_id
        if object_id not in sent:
            cancelled += 1
        elif object_id in seen:
            coalesced += 1
        else:
            seen.add(object_id)
    return coalesced, cancelled
