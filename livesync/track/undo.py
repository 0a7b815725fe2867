"""What an undo of host transactions did to a lane, and what a lane holds that was not collected.

A lane is written by appends; each says which revision it replaced. Where the storage says otherwise,
the revision is the work of an undo. Pure functions of revisions, but for :class:`LaneHistory`, which
reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from ZODB.interfaces import IMVCCStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64, z64

from ..action import CASCADING, UNDONE
from .payload import REDONE_MARK, UNDONE_MARK, Payload, is_span, mark_of, missing, plain
from .stored import Lane

Entries = tuple[tuple[bytes | None, Payload], ...]
#: ``(commit id, entries, replaced)`` of a stored revision of a lane.
Revision = tuple[bytes, Entries, bytes | None]


class Item(NamedTuple):
    """What one commit brought, in one payload.

    Attributes:
        tid: The commit.
        payload: What it recorded.
        mark: "" for what was recorded, ``undone`` for what an undo took away or brought back, ``redone``
            for what was recorded while an undo came in between.
        made: The commit that stored the payload's pages.
    """

    tid: bytes
    payload: Payload
    mark: str
    made: bytes


def undone_words(words: frozenset[str]) -> frozenset[str]:
    """Return the actions that stand for the undo of ``words``: ``undone``, and what reaches the inside."""
    return (words & CASCADING) | {UNDONE}


def _latest(entries: Entries) -> list[Payload]:
    """Return what the append that made this state had brought."""
    return [payload for noted, payload in entries if noted is None and not mark_of(payload)]


def _marks(entries: Entries) -> list[Payload]:
    return [payload for _, payload in entries if mark_of(payload)]


def _marks_changed(one: Entries, other: Entries) -> list[Payload]:
    return missing(_marks(one), _marks(other)) + missing(_marks(other), _marks(one))


def resolve_undo(old: dict[str, Any], committed: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return a lane's state after the undo of a transaction that is not its last.

    What was undone is only named here; collect, which knows the lane's history, looks it up.

    Args:
        old: The state that the undone transaction made.
        committed: The state as it is now.
        new: The state before the undone transaction.
    """
    earlier, later = old.get("entries", ()), new.get("entries", ())
    replaced = (new.get("replaced") or z64, old.get("replaced") or z64)
    added: list[Payload] = _marks_changed(earlier, later)
    if replaced[0] > replaced[1]:
        # The undo of an undo; or a transaction that began before an undo and ends after it.
        added += [(REDONE_MARK, payload) for payload in _latest(later)]
    if replaced[0] != replaced[1]:
        newest = _latest(later if replaced[0] > replaced[1] else earlier)
        added.append((UNDONE_MARK, (min(replaced), max(replaced), tuple(newest))))
    return {**committed, "entries": (*committed.get("entries", ()), *((None, payload) for payload in added))}


def storage_of(connection: Any) -> Any:
    """Return what is asked for other revisions than the current ones, as a connection sees them.

    A storage that gives every connection a snapshot of its own (RelStorage) is asked in that one: the
    database's storage is in nobody's transaction there, what it sees grows old, and it belongs to one thread.
    """
    storage = connection.db().storage
    return connection._storage if IMVCCStorage.providedBy(storage) else storage


class History:
    """The revisions that a lane has had; none where the storage keeps no history, and then has no undo."""

    def before(self, tid: bytes) -> Revision | None:
        """Return the lane's revision before a commit id; None when there is none, or it was packed away."""
        return None

    def after(self, tid: bytes) -> bytes | None:
        """Return the commit id of the revision that replaced that of ``tid``; None when nobody knows."""
        return None


class LaneHistory(History):
    """The revisions of a stored lane."""

    def __init__(self, lane: Lane) -> None:
        self._connection = lane._p_jar
        self._storage = storage_of(self._connection)
        self._oid = lane._p_oid
        self._is_kept = getattr(self._storage, "supportsUndo", lambda: False)()

    def before(self, tid: bytes) -> Revision | None:
        """Return the revision before ``tid``."""
        found = self._load_before(tid)
        if found is None or not found[0]:
            return None
        state = self._connection._reader.getState(found[0])
        return found[1], state.get("entries", ()), state.get("replaced")

    def after(self, tid: bytes) -> bytes | None:
        """Return the id of the revision that replaced the one of ``tid``."""
        found = self._load_before(next_id(tid))
        return found[2] if found is not None and found[1] == tid else None

    def _load_before(self, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
        if not self._is_kept:
            return None
        try:
            found: tuple[bytes, bytes, bytes | None] | None = self._storage.loadBefore(self._oid, tid)
        except POSKeyError:
            return None
        return found


def untaken(lane: Revision, taken: bytes, history: History) -> list[Item]:
    """Return what a lane holds that was committed after ``taken``.

    Args:
        lane: The lane's current revision.
        taken: Everything committed at or before this id is accounted for.
        history: The revisions before.

    Returns:
        Items, oldest first.
    """
    found: list[Item] = []
    revision: Revision | None = lane
    while revision is not None and revision[0] > taken:
        tid, entries, replaced = revision
        before = history.before(tid)
        if before is None or before[0] == replaced:
            # An append; it came after another append, or after everything before was taken.
            found += [
                Item(noted or tid, plain(payload), mark_of(payload), noted or tid)
                for noted, payload in entries
                if (noted or tid) > taken and not is_span(plain(payload))
            ]
            break
        found += [Item(tid, *undone) for undone in _undone_by(revision, before, history)]
        revision = before
    return sorted(found, key=attrgetter("tid"))


def _undone_by(
    revision: Revision, before: Revision, history: History
) -> Iterator[tuple[Payload, str, bytes]]:
    """Yield what an undo undid or brought back: ``(payload, mark, commit that stored its pages)``.

    A state is known by what its append had replaced. So an undo that led from one state to another
    undid (or did again) what every revision had done that lies between the appends of the two.
    """
    seen = set()
    waiting = [(revision, before)]
    while waiting:
        (tid, entries, replaced), (_, entries_before, replaced_before) = waiting.pop()
        low, high = sorted((replaced or z64, replaced_before or z64))
        newest = tuple(_latest(entries if high == replaced else entries_before))
        spans: list[Payload] = [(low, high, newest)] if low < high else []
        for payload in _marks_changed(entries, entries_before):
            if is_span(plain(payload)):
                spans.append(plain(payload))
            else:
                yield plain(payload), mark_of(payload), tid
        for low, high, newest in spans:
            undone = history.after(high)
            if undone is None:  # its history is packed away
                yield from ((payload, UNDONE_MARK, tid) for payload in newest)
                continue
            first = (history.after(low) if low != z64 else None) or low
            step = history.before(next_id(undone))
            while step is not None and step[0] > first:
                earlier = history.before(step[0])
                if step[0] not in seen:
                    seen.add(step[0])
                    if earlier is None or earlier[0] == step[2]:
                        yield from ((payload, UNDONE_MARK, step[0]) for payload in _latest(step[1]))
                    else:
                        waiting.append((step, earlier))
                step = earlier


def next_id(tid: bytes) -> bytes:
    following: bytes = p64(u64(tid) + 1)
    return following
