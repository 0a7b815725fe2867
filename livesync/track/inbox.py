"""The inbox: where actions land inside host transactions, before they have a position.

Invariants:

- A lane is written by one connection only, and only within that connection's transactions. Collect
  writes no lane: it keeps a marker of its own, and the writer drops what the marker says is taken.
  So no two transactions ever write the same object, and livesync causes no conflict.
- The order is that of the commits. A commit's id is known only when it is made; the lane's own
  ``_p_serial`` is that id, which the next append notes. Ids grow in commit order, and nothing ever
  appears with an id at or below one that an earlier snapshot showed. So "everything up to this id
  has been taken" is a complete account.
- A lane revision that was not written by an append is the work of an undo. It shows by the
  revision that it replaced, which is not the one that the lane itself says it replaced. What such
  a revision removed or brought back is delivered with the action ``undone``.

How a connection comes by a lane is told in ``lanes.py``, what an undo does to one in ``undo.py``.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from persistent.timestamp import TimeStamp
from ZODB.POSException import POSKeyError
from ZODB.utils import z64

from ..action import UNDONE
from .changes import Commit
from .lanes import BLOCK_LANES, READY_BLOCKS, is_pending, new_block, serial_of
from .packed import count_changes, unpack_changes
from .payload import REDONE_MARK, UNDONE_MARK, decoded
from .stored import Collected, InboxPage, Lane, StoredInbox
from .undo import History, Item, LaneHistory, storage_of, undone_words, untaken

#: Lanes that collect leaves in its connection's cache; after a long pause there may be very many.
_LANES_IN_MEMORY: Final = 200
#: Changes in one page of a transaction too large for a lane.
PAGE_CHANGES: Final = 2000
#: So many revisions of a page are looked at for one that was not undone.
_REVISIONS: Final = 10_000


def new_inbox() -> StoredInbox:
    """Return an inbox with blocks of lanes that lie ready."""
    inbox = StoredInbox()
    for number in range(READY_BLOCKS):
        inbox.blocks[number] = new_block()
    return inbox


def _lanes(inbox: StoredInbox) -> Iterator[Lane]:
    blocks = list(inbox.blocks.values())
    lanes = [lane for block in blocks for lane in block.lanes]
    connection = inbox._p_jar
    if connection is not None and len(lanes) > BLOCK_LANES:
        ghosts = [lane for lane in lanes if lane._p_changed is None]
        for begin in range(0, len(ghosts), 500):
            connection.prefetch(ghosts[begin : begin + 500])
    return iter(lanes)


def _items(lane: Lane, taken: bytes) -> list[Item]:
    serial = serial_of(lane)
    if serial == z64 or serial <= taken:
        return []
    if is_pending(lane):
        # the current transaction is about to add something: what was committed has been noted
        entries = tuple(entry for entry in lane.entries if entry[0] is not None)
        return untaken((serial, entries, None), taken, History())
    return untaken((serial, lane.entries, lane.replaced), taken, LaneHistory(lane))


def _heads(inbox: StoredInbox, taken: bytes) -> deque[tuple[bytes, int, Lane]]:
    """Return the lanes that hold something to take, by the first commit of each."""
    heads = []
    for number, lane in enumerate(_lanes(inbox)):
        items = _items(lane, taken)
        if items:
            heads.append((items[0][0], number, lane))
        if number > _LANES_IN_MEMORY and lane._p_changed is False:
            lane._p_deactivate()
    heads.sort(key=lambda head: head[:2])
    return deque(heads)


def _chunks(inbox: StoredInbox) -> Iterator[Commit]:
    """Yield what was not collected as a whole, a payload or page at a time, in commit order."""
    taken = inbox.collected.tid
    heads = _heads(inbox, taken)
    opened: list[tuple[bytes, int, int, Item, Lane]] = []
    while heads or opened:
        while heads and (not opened or heads[0][0] <= opened[0][0]):
            _, number, lane = heads.popleft()
            for at, item in enumerate(_items(lane, taken)):
                heapq.heappush(opened, (item.tid, number, at, item, lane))
        *_, (tid, payload, mark, made), lane = heapq.heappop(opened)
        time = TimeStamp(tid).timeTime()
        user, note, *packed = decoded(payload)
        if packed[0] is None:
            for page in packed[1]:
                yield Commit(tid, time, user, note, *_changes(_page_content(page, made), mark))
        else:
            yield Commit(tid, time, user, note, *_changes(packed, mark))


def waiting(inbox: StoredInbox) -> Iterator[Commit]:
    """Yield what lies in the inbox and was not collected, in commit order; a commit may come in parts."""
    done_tid, done = inbox.collected.partial or (z64, 0)
    for chunk in _chunks(inbox):
        if chunk.tid == done_tid and done:
            done, chunk = max(0, done - len(chunk)), chunk.between(done)
        if chunk.ids:
            yield chunk


def count_waiting(inbox: StoredInbox) -> tuple[int, float | None]:
    """Return how many actions :func:`waiting` yields, and the time of the first; none of them is made."""
    taken = inbox.collected.tid
    counts: dict[bytes, int] = {}
    for number, lane in enumerate(_lanes(inbox)):
        for item in _items(lane, taken):
            counts[item.tid] = counts.get(item.tid, 0) + _count_of(item)
        if number > _LANES_IN_MEMORY and lane._p_changed is False:
            lane._p_deactivate()
    done_tid, done = inbox.collected.partial or (z64, 0)
    if done_tid in counts:
        counts[done_tid] = max(0, counts[done_tid] - done)
    oldest = min((tid for tid, count in counts.items() if count), default=None)
    return sum(counts.values()), None if oldest is None else TimeStamp(oldest).timeTime()


def _count_of(item: Item) -> int:
    _, _, *packed = decoded(item.payload)
    if packed[0] is not None:
        return count_changes((packed[0], packed[1], packed[2]))
    return sum(count_changes(_page_content(page, item.made)) for page in packed[1])


def _page_content(page: InboxPage, made: bytes) -> Any:
    # By its revision: an undo takes the page away together with the transaction that made it.
    storage = storage_of(page._p_jar)
    try:
        return _packed_at(page, made, storage)
    except POSKeyError:
        pass
    try:
        return page.packed
    except POSKeyError:
        # Undone and brought back more than once: no revision changes a page, so that any says what it was.
        for revision in storage.history(page._p_oid, size=_REVISIONS):
            with suppress(POSKeyError):
                return _packed_at(page, revision["tid"], storage)
        raise


def _packed_at(page: InboxPage, tid: bytes, storage: Any) -> Any:
    return page._p_jar._reader.getState(storage.loadSerial(page._p_oid, tid))["packed"]


def _changes(packed: Any, mark: str) -> tuple[Sequence[str], list[frozenset[str]]]:
    ids, words = unpack_changes(packed)
    if mark == UNDONE_MARK:
        words = [undone_words(each) for each in words]
    elif mark == REDONE_MARK:
        words = [each | {UNDONE} for each in words]
    return ids, words


class Taking:
    """Takes at most ``limit`` actions from an inbox in commit order: iterate, then look at the rest.

    The marker moves once everything is taken; nothing is written when there is nothing to take.

    Attributes:
        count: How many actions were taken.
        complete: Whether nothing that this snapshot shows is left.
    """

    def __init__(self, inbox: StoredInbox, limit: int) -> None:
        self._inbox = inbox
        self._limit = limit
        self.count = 0
        self.complete = True

    def __iter__(self) -> Iterator[Commit]:
        marker: Collected = self._inbox.collected
        tid, partial = marker.tid, marker.partial
        taken = 0
        for commit in waiting(self._inbox):
            if partial is not None and commit.tid != partial[0]:
                tid, partial = (partial[0], None) if self.count else (tid, partial)
            if self.count == self._limit:
                self.complete = False
                break
            taken = partial[1] if partial is not None and partial[0] == commit.tid else 0
            room = self._limit - self.count
            if len(commit) > room:
                commit = commit.between(0, room)
                self.complete = False
            self.count += len(commit)
            partial = (commit.tid, taken + len(commit))
            yield commit
            if not self.complete:
                break
        if not self.count:
            return
        if self.complete and partial is not None:
            tid, partial = partial[0], None
        marker.tid, marker.partial = tid, partial
        marker.count += self.count


def forget_waiting(inbox: StoredInbox) -> None:
    """Take everything that the inbox shows as collected, without looking at it."""
    newest = max((serial_of(lane) for lane in _lanes(inbox)), default=z64)
    if newest > inbox.collected.tid:
        inbox.collected.tid = newest
    inbox.collected.partial = None
