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

Lanes are claimed in blocks, in a short transaction apart from the host's, and ahead of need: a
transaction cannot see what was made after it began. A lane that is full of actions not yet
collected is left for the next one, so that what a commit rewrites stays small; where none is free,
the lane grows.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

import transaction
from persistent.timestamp import TimeStamp
from transaction.interfaces import TransientError
from ZODB.POSException import POSKeyError, ReadConflictError
from ZODB.utils import p64, u64, z64

from ..action import CASCADING, UNDONE, ActionWrapper, trusted_action
from ..process import is_dead, this_process
from .packed import pack_changes, unpack_changes
from .stored import Collected, InboxPage, Lane, LaneBlock, StoredInbox

logger = logging.getLogger(__name__)

#: A lane with this many bytes or transactions that were not collected yet is full.
LANE_BYTES: Final = 4096
LANE_ENTRIES: Final = 64
#: Lanes a block, and blocks that lie ready for connections to come.
BLOCK_LANES: Final = 8
READY_BLOCKS: Final = 16
#: Changes in one page of a transaction too large for a lane.
PAGE_CHANGES: Final = 2000

Changes = Sequence[tuple[str, frozenset[str]]]
#: What a lane holds of a transaction: ``(user, note, ids, table, codes)`` or ``(user, note, None, pages)``.
Payload = tuple[Any, ...]
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


def new_inbox() -> StoredInbox:
    """Return an inbox with blocks of lanes that lie ready."""
    inbox = StoredInbox()
    for number in range(READY_BLOCKS):
        inbox.blocks[number] = _new_block()
    return inbox


def _new_block() -> LaneBlock:
    return LaneBlock(tuple(Lane() for _ in range(BLOCK_LANES)))


# -- payloads: pure ------------------------------------------------------------------------------


def small_payload(changes: Changes, user: str, note: str) -> Payload:
    """Return what a lane keeps of a transaction's changes."""
    return (user, note, *pack_changes(changes))


def paged_payload(pages: Iterable[InboxPage], user: str, note: str) -> Payload:
    """Return what a lane keeps of a very large transaction, whose changes are in ``pages``."""
    return (user, note, None, tuple(pages))


def payload_size(payload: Payload) -> int:
    """Return about how many bytes a payload takes in its lane."""
    if payload[2] is None:
        return LANE_BYTES  # not that many, but such a transaction has a lane to itself
    ids = payload[2]
    length = len(ids) if isinstance(ids, str) else sum(map(len, ids))
    return 40 + length + len(payload[4]) + len(payload[0]) + len(payload[1])


def undone_words(words: frozenset[str]) -> frozenset[str]:
    """Return the actions that stand for the undo of ``words``: ``undone``, and what reaches the inside."""
    return (words & CASCADING) | {UNDONE}


def _same(payload: Payload) -> Any:
    """Return what identifies a payload among those of its lane (persistent objects by their oid)."""
    if _mark(payload):
        return (payload[0], _same(payload[1]))
    if payload[2] is not None:
        return payload
    # while a conflict is resolved, persistent objects are stubs that only know their oid
    return payload[:3] + tuple(getattr(page, "oid", None) or page._p_oid for page in payload[3])


def _missing(these: Iterable[Payload], those: Iterable[Payload]) -> list[Payload]:
    """Return the payloads of ``these`` that are not in ``those``, each counted as often as it is there."""
    rest = [_same(payload) for payload in those]
    found = []
    for payload in these:
        try:
            rest.remove(_same(payload))
        except ValueError:
            found.append(payload)
    return found


#: Marks a payload that a resolved undo added: its words are those that were undone.
_UNDONE_MARK: Final = "undone"
_REDONE_MARK: Final = "redone"


def _mark(payload: Payload) -> str:
    return str(payload[0]) if len(payload) == 2 else ""


def _plain(payload: Payload) -> Payload:
    return payload[1] if len(payload) == 2 else payload


def _is_span(payload: Payload) -> bool:
    """Tell whether a payload is a span: ``(low, high, payloads)``.

    An undo went from the state that had replaced ``low`` to that which had replaced ``high``, or back;
    ``payloads`` are what the newer of the two had brought, for when the history is packed away.
    """
    return len(payload) == 3


def _latest(entries: Entries) -> list[Payload]:
    """Return what the append that made this state had brought."""
    return [payload for noted, payload in entries if noted is None and not _mark(payload)]


def _marks(entries: Entries) -> list[Payload]:
    return [payload for _, payload in entries if _mark(payload)]


def _marks_changed(one: Entries, other: Entries) -> list[Payload]:
    return _missing(_marks(one), _marks(other)) + _missing(_marks(other), _marks(one))


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
        added += [(_REDONE_MARK, payload) for payload in _latest(later)]
    if replaced[0] != replaced[1]:
        newest = _latest(later if replaced[0] > replaced[1] else earlier)
        added.append((_UNDONE_MARK, (min(replaced), max(replaced), tuple(newest))))
    return {**committed, "entries": (*committed.get("entries", ()), *((None, payload) for payload in added))}


class History:
    """The revisions that a lane has had; none where the storage keeps no history, and then has no undo."""

    def before(self, tid: bytes) -> Revision | None:
        """Return the lane's revision before a commit id; None when there is none, or it was packed away."""
        return None

    def after(self, tid: bytes) -> bytes | None:
        """Return the commit id of the revision that replaced that of ``tid``; None when nobody knows."""
        return None


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
                Item(noted or tid, _plain(payload), _mark(payload), noted or tid)
                for noted, payload in entries
                if (noted or tid) > taken and not _is_span(_plain(payload))
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
            if _is_span(_plain(payload)):
                spans.append(_plain(payload))
            else:
                yield _plain(payload), _mark(payload), tid
        for low, high, newest in spans:
            undone = history.after(high)
            if undone is None:  # its history is packed away
                yield from ((payload, _UNDONE_MARK, tid) for payload in newest)
                continue
            first = (history.after(low) if low != z64 else None) or low
            step = history.before(_next_id(undone))
            while step is not None and step[0] > first:
                earlier = history.before(step[0])
                if step[0] not in seen:
                    seen.add(step[0])
                    if earlier is None or earlier[0] == step[2]:
                        yield from ((payload, _UNDONE_MARK, step[0]) for payload in _latest(step[1]))
                    else:
                        waiting.append((step, earlier))
                step = earlier


def _next_id(tid: bytes) -> bytes:
    following: bytes = p64(u64(tid) + 1)
    return following


# -- claiming ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Claim:
    """The lanes of one connection, in the order in which they are used."""

    owner: tuple[Any, ...]
    pid: int
    numbers: list[int] = field(default_factory=list)
    current: tuple[int, int] = (0, 0)  # index into numbers, lane of that block


# Which lanes the connections of this process own: a fact of the process, beside the data that says so.
_claims: weakref.WeakKeyDictionary[Any, _Claim] = weakref.WeakKeyDictionary()
_claims_lock = threading.Lock()


def _claim_of(connection: Any) -> _Claim:
    with _claims_lock:
        claim = _claims.get(connection)
        if claim is None or claim.pid != os.getpid():  # a fork inherits connections, not lanes
            claim = _claims[connection] = _Claim((*this_process(), uuid.uuid4().hex), os.getpid())
        return claim


def _claim_block(inbox: StoredInbox, claim: _Claim) -> None:
    """Claim one more block for a connection, in a transaction and connection apart from it."""
    database = inbox._p_jar.db()
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(transaction_manager=manager)
    try:
        for attempt in range(20):
            manager.begin()
            try:
                number = _take_free_block(connection.get(inbox._p_oid), claim)
                manager.get().note("livesync: claim lanes")
                manager.commit()
            except TransientError:
                manager.abort()
                if attempt == 19:
                    raise
                continue
            except BaseException:
                manager.abort()
                raise
            claim.numbers.append(number)
            return
    finally:
        connection.close()


def _take_free_block(inbox: StoredInbox, claim: _Claim) -> int:
    owners = inbox.owners
    free = [number for number in inbox.blocks if number not in owners]
    if not free:
        for number, owner in owners.items():
            if is_dead(owner[:3]) and _is_drained(inbox, number):
                free.append(number)
    while len(free) < READY_BLOCKS:
        number = inbox.blocks.maxKey() + 1 if inbox.blocks else 0
        inbox.blocks[number] = _new_block()
        free.append(number)
    # The oldest first: a transaction that has begun already is most likely to see it.
    owners[free[0]] = claim.owner
    return int(free[0])


def _is_drained(inbox: StoredInbox, number: int) -> bool:
    taken = inbox.collected.tid
    return all(_serial(lane) <= taken or not lane.entries for lane in inbox.blocks[number].lanes)


def _serial(lane: Lane) -> bytes:
    lane._p_activate()
    serial: bytes = lane._p_serial
    return serial


# -- appending -----------------------------------------------------------------------------------


def append(inbox: StoredInbox, payload: Payload) -> None:
    """Write a payload into the lane of the inbox's connection, within its current transaction."""
    taken = inbox.collected.tid
    lane = _lane_for(inbox, taken)
    if not is_pending(lane):
        serial = lane._p_serial
        lane.entries = tuple(
            (noted or serial, kept) for noted, kept in lane.entries if (noted or serial) > taken
        )
        lane.replaced = serial
    lane.entries = (*lane.entries, (None, payload))
    lane._v_own = True


def is_pending(lane: Lane) -> bool:
    """Tell whether a lane holds something that the current transaction has put in and not committed."""
    return lane.replaced is not None and lane.replaced == lane._p_serial


def _lane_for(inbox: StoredInbox, taken: bytes) -> Lane:
    if inbox._p_jar is None or inbox._p_serial == z64:
        # The inbox is made in this very transaction: nobody else can see it.
        lane: Lane = inbox.blocks[inbox.blocks.minKey()].lanes[0]
        return lane
    claim = _claim_of(inbox._p_jar)
    if not claim.numbers:
        _claim_block(inbox, claim)
    block, at = claim.current
    lane = _lane(inbox, claim, block, at)
    if is_pending(lane):
        return lane
    if _serial(lane) <= taken and (block, at) != (0, 0):
        # All collected: begin again at the first, so that few lanes are used as long as collect keeps up.
        claim.current = (0, 0)
        lane = _lane(inbox, claim, 0, 0)
    if _is_usable(lane, taken):
        return lane
    return _next_lane(inbox, claim, taken)


def _next_lane(inbox: StoredInbox, claim: _Claim, taken: bytes) -> Lane:
    block, at = claim.current
    while True:
        at += 1
        if at == BLOCK_LANES:
            block, at = block + 1, 0
        if block == len(claim.numbers):
            _claim_block(inbox, claim)
        lane = _lane(inbox, claim, block, at)
        if _is_usable(lane, taken):
            break
    claim.current = (block, at)
    if block == len(claim.numbers) - 1 and at >= BLOCK_LANES // 2:
        _claim_block(inbox, claim)  # ahead of need
    return lane


def _lane(inbox: StoredInbox, claim: _Claim, block: int, at: int) -> Lane:
    number = claim.numbers[block]
    try:
        lane: Lane = inbox.blocks[number].lanes[at]
        lane._p_activate()
        return lane
    except (KeyError, POSKeyError):
        return _unseen_lane(inbox, number, at)


def _unseen_lane(inbox: StoredInbox, number: int, at: int) -> Lane:
    """Return a lane that was made after the connection's transaction began.

    Its writer is this connection alone, so it may be written without having been read: what lies
    there, and under which serial, is learned through another connection.
    """
    connection = inbox._p_jar
    manager = transaction.TransactionManager(explicit=True)
    other = connection.db().open(transaction_manager=manager)
    try:
        manager.begin()
        fresh = other.get(inbox._p_oid).blocks[number].lanes[at]
        fresh._p_activate()
        oid, serial, state = fresh._p_oid, fresh._p_serial, fresh.__getstate__()
        manager.abort()
    finally:
        other.close()
    known: Lane | None = connection._cache.get(oid)
    if known is not None:
        try:
            known._p_activate()  # written in this transaction already, perhaps before a savepoint
            return known
        except (ReadConflictError, POSKeyError):
            del connection._cache[oid]  # rolled back
    lane = Lane()
    lane.__setstate__(state or {})  # before it has a connection, or it would count as changed
    lane._p_oid, lane._p_jar = oid, connection
    connection._cache[oid] = lane
    lane._p_serial = serial
    return lane


def _is_usable(lane: Lane, taken: bytes) -> bool:
    """Tell whether an append to a lane stays small and keeps what an undo may have left there visible."""
    serial = _serial(lane)
    if serial <= taken:
        return True
    if not hasattr(lane, "_v_own") and not _written_by_append(lane):
        return False
    waiting = [payload for noted, payload in lane.entries if (noted or serial) > taken]
    return len(waiting) < LANE_ENTRIES and sum(map(payload_size, map(_plain, waiting))) < LANE_BYTES


def _written_by_append(lane: Lane) -> bool:
    before = _LaneHistory(lane).before(lane._p_serial)
    return before is None or before[0] == lane.replaced


# -- collecting ----------------------------------------------------------------------------------


class _LaneHistory(History):
    """The revisions of a stored lane."""

    def __init__(self, lane: Lane) -> None:
        self._connection = lane._p_jar
        self._storage = self._connection.db().storage
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
        found = self._load_before(_next_id(tid))
        return found[2] if found is not None and found[1] == tid else None

    def _load_before(self, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
        if not self._is_kept:
            return None
        try:
            found: tuple[bytes, bytes, bytes | None] | None = self._storage.loadBefore(self._oid, tid)
        except POSKeyError:
            return None
        return found


def _lanes(inbox: StoredInbox) -> Iterator[Lane]:
    blocks = list(inbox.blocks.values())
    lanes = [lane for block in blocks for lane in block.lanes]
    connection = inbox._p_jar
    if connection is not None and len(lanes) > BLOCK_LANES:
        ghosts = [lane for lane in lanes if lane._p_changed is None]
        for begin in range(0, len(ghosts), 500):
            connection.prefetch(ghosts[begin : begin + 500])
    return iter(lanes)


@dataclass(slots=True)
class Commit:
    """What one commit brought: ``actions`` in the order in which they were recorded."""

    tid: bytes
    time: float
    actions: list[ActionWrapper]


def _items(lane: Lane, taken: bytes) -> list[Item]:
    serial = _serial(lane)
    if serial == z64 or serial <= taken:
        return []
    if is_pending(lane):
        # the current transaction is about to add something: what was committed has been noted
        entries = tuple(entry for entry in lane.entries if entry[0] is not None)
        return untaken((serial, entries, None), taken, History())
    return untaken((serial, lane.entries, lane.replaced), taken, _LaneHistory(lane))


def _heads(inbox: StoredInbox, taken: bytes) -> deque[tuple[bytes, int, Lane]]:
    """Return the lanes that hold something to take, by the first commit of each."""
    heads = []
    for number, lane in enumerate(_lanes(inbox)):
        items = _items(lane, taken)
        if items:
            heads.append((items[0][0], number, lane))
        if number > 1000 and lane._p_changed is False:
            lane._p_deactivate()  # after a long pause there may be very many
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
        packed = (
            (payload[2:],) if payload[2] is not None else (_page_content(page, made) for page in payload[3])
        )
        for part in packed:
            yield Commit(tid, time, _actions(time, payload[:2], part, mark))


def waiting(inbox: StoredInbox) -> Iterator[Commit]:
    """Yield what lies in the inbox and was not collected, in commit order; a commit may come in parts."""
    done_tid, done = inbox.collected.partial or (z64, 0)
    for chunk in _chunks(inbox):
        if chunk.tid == done_tid and done:
            done, chunk.actions = max(0, done - len(chunk.actions)), chunk.actions[done:]
        if chunk.actions:
            yield chunk


def _page_content(page: InboxPage, made: bytes) -> Any:
    # By its revision: an undo takes the page away together with the transaction that made it.
    connection = page._p_jar
    try:
        return connection._reader.getState(connection.db().storage.loadSerial(page._p_oid, made))["packed"]
    except POSKeyError:
        return page.packed


def _actions(time: float, origin: tuple[str, str], packed: Any, mark: str) -> list[ActionWrapper]:
    user, note = origin
    changes = unpack_changes(packed)
    if mark == _UNDONE_MARK:
        changes = ((object_id, undone_words(words)) for object_id, words in changes)
    elif mark == _REDONE_MARK:
        changes = ((object_id, words | {UNDONE}) for object_id, words in changes)
    return [trusted_action(time, object_id, words, user, note) for object_id, words in changes]


def take(inbox: StoredInbox, limit: int) -> tuple[list[Commit], bool]:
    """Return at most ``limit`` actions in commit order, and move the marker past them.

    Returns:
        The commits, and whether nothing that this snapshot shows is left. Nothing is written
        when there is nothing to take.
    """
    marker: Collected = inbox.collected
    taken: list[Commit] = []
    count = 0
    complete = True
    tid, partial = marker.tid, marker.partial
    for commit in waiting(inbox):
        if taken and commit.tid != taken[-1].tid:
            tid, partial = taken[-1].tid, None
        if count == limit:
            complete = False
            break
        begun = partial[1] if partial is not None and partial[0] == commit.tid else 0
        if len(commit.actions) > limit - count:
            commit.actions = commit.actions[: limit - count]
            complete = False
        taken.append(commit)
        count += len(commit.actions)
        partial = (commit.tid, begun + len(commit.actions))
        if not complete:
            break
    if taken:
        if complete:
            tid, partial = taken[-1].tid, None
        marker.tid, marker.partial = tid, partial
        marker.count += count
    return taken, complete


def forget_waiting(inbox: StoredInbox) -> None:
    """Take everything that the inbox shows as collected, without looking at it."""
    newest = max((_serial(lane) for lane in _lanes(inbox)), default=z64)
    if newest > inbox.collected.tid:
        inbox.collected.tid = newest
    inbox.collected.partial = None
