"""What to send for a slice of the track: one record an object. Pure functions of values.

What an object *is* decides between upsert and delete, and that is seen only when it is rendered
(``render.py``). What is decided here is which objects need a record at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from ..action import CASCADING, CREATED, DELETED, UNDONE
from ..track.changes import Changes, Item
from .record import Op, Record


def reduce(data: Iterable[Item], till: int, attempted: int | None, shown: float = 0.0) -> Iterator[Record]:
    """Yield one record an object, in the order of their last actions.

    The op is what the last action says; rendering settles it. An object that was created and then
    deleted is left out, but only where nothing of it can have been sent: its creation lies after
    ``attempted`` and ``shown``, and no undo is involved.

    Args:
        data: ``(position, action)``, oldest first; quickest as :class:`~livesync.track.changes.Changes`.
        till: The end of the slice, which is the records' position.
        attempted: Highest position that may have been sent before; None: anything may have been
            (an export is under way), so nothing is left out.
        shown: Commit time, in epoch seconds, up to which something that lies after ``attempted``
            may have been sent all the same.
    """
    changes = Changes.of(data)
    ids, words = changes.ids, changes.words
    last = dict(zip(ids, range(len(ids))))
    histories = _histories(changes, last) if len(last) < len(ids) else {}
    delete, upsert = Op.DELETE, Op.UPSERT
    for at in sorted(last.values()) if histories else range(len(ids)):
        object_id = ids[at]
        history = histories.get(object_id) if histories else None
        if history is None:  # most objects have one action, which is all there is to know
            said = all_said = words[at]
        elif attempted is not None and history.came_and_went_after(attempted, shown):
            continue
        else:
            said, all_said = history.last, history.all
        yield Record(delete if _ends_deleted(said) else upsert, object_id, till, all_said)


def _histories(changes: Changes, last: dict[str, int]) -> dict[str, _History]:
    """Return what is said of the objects that have several actions, given where each has its last."""
    ids = changes.ids
    earlier = [at for at, object_id in enumerate(ids) if last[object_id] != at]
    several = {ids[at] for at in earlier}
    histories: dict[str, _History] = {}
    for at in sorted(earlier + [last[object_id] for object_id in several]):
        history = histories.get(ids[at])
        if history is None:
            histories[ids[at]] = _History(changes.positions[at], changes.timestamps[at], changes.words[at])
        else:
            history.add(changes.words[at])
    return histories


def _ends_deleted(last: frozenset[str]) -> bool:
    return DELETED in last and CREATED not in last


class _History:
    """What a slice says of an object with several actions."""

    __slots__ = ("all", "first", "last", "since", "time")

    def __init__(self, position: int, time: float, words: frozenset[str]) -> None:
        self.since = position
        self.time = time
        self.first = self.last = self.all = words

    def add(self, words: frozenset[str]) -> None:
        self.last = words
        self.all |= words

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
    changes = Changes.of(data)
    reaching = {words for words in set(changes.words) if words & CASCADING}
    found: dict[str, frozenset[str]] = {}
    if reaching:
        for object_id, words in zip(changes.ids, changes.words):
            if words in reaching:
                found[object_id] = found.get(object_id, frozenset()) | (words & CASCADING)
    return found


def count_unsent(data: Iterable[Item], sent: Set[str]) -> tuple[int, int]:
    """Return ``(coalesced, cancelled)``: actions that another of the same object stands for, and
    actions of objects for which there is no record.

    With a record for each id of ``sent``: ``len(data) == len(sent) + coalesced + cancelled``.
    """
    ids = Changes.of(data).ids
    objects = set(ids)
    unsent = objects - sent
    cancelled = sum(object_id in unsent for object_id in ids) if unsent else 0
    return len(ids) - cancelled - (len(objects) - len(unsent)), cancelled
