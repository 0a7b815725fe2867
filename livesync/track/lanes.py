"""Lanes: which one a connection writes, and the writing.

Lanes are claimed in blocks, in a short transaction apart from the host's, and ahead of need: a
transaction cannot see what was made after it began. A lane that is full of actions not yet
collected is left for the next one, so that what a commit rewrites stays small.
"""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from dataclasses import dataclass, field
from typing import Any, Final

import transaction
from ZODB.POSException import POSKeyError, ReadConflictError
from ZODB.utils import z64

from ..attempts import attempts
from ..process import is_dead, this_process
from .payload import Payload, payload_size
from .stored import Lane, LaneBlock, StoredInbox
from .undo import LaneHistory

#: A lane with this many bytes or transactions that were not collected yet is full.
LANE_BYTES: Final = 2048
LANE_ENTRIES: Final = 32
#: Lanes a block, and blocks that lie ready for connections to come.
BLOCK_LANES: Final = 8
READY_BLOCKS: Final = 16


def new_block() -> LaneBlock:
    """Return a block of lanes that nobody owns."""
    return LaneBlock(tuple(Lane() for _ in range(BLOCK_LANES)))


def serial_of(lane: Lane) -> bytes:
    """Return the id of the commit that last wrote a lane."""
    lane._p_activate()
    serial: bytes = lane._p_serial
    return serial


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
    if serial_of(lane) <= taken and (block, at) != (0, 0):
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
    serial = serial_of(lane)
    if serial <= taken:
        return True
    if not hasattr(lane, "_v_own") and not _written_by_append(lane):
        return False
    waiting = [payload for noted, payload in lane.entries if (noted or serial) > taken]
    return len(waiting) < LANE_ENTRIES and sum(map(payload_size, waiting)) < LANE_BYTES


def _written_by_append(lane: Lane) -> bool:
    before = LaneHistory(lane).before(lane._p_serial)
    return before is None or before[0] == lane.replaced


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
        for attempt in attempts(manager):
            with attempt as current:
                number = _take_free_block(connection.get(inbox._p_oid), claim)
                current.note("livesync: claim lanes")
        claim.numbers.append(number)
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
        inbox.blocks[number] = new_block()
        free.append(number)
    # The oldest first: a transaction that has begun already is most likely to see it.
    owners[free[0]] = claim.owner
    return int(free[0])


def free_blocks_of_the_dead(inbox: StoredInbox) -> int:
    """Take the blocks of processes of this machine that are gone from them, where all is collected.

    Returns:
        How many there were; connections to come can have them.
    """
    dead = [
        number for number, owner in inbox.owners.items() if is_dead(owner[:3]) and _is_drained(inbox, number)
    ]
    for number in dead:
        del inbox.owners[number]
    return len(dead)


def _is_drained(inbox: StoredInbox, number: int) -> bool:
    taken = inbox.collected.tid
    return all(serial_of(lane) <= taken or not lane.entries for lane in inbox.blocks[number].lanes)
