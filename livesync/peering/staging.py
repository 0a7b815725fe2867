"""Chunks of a history on their way: kept as they come, until all are there.

A transfer's record is one as items have, of a direction of its own, so that it is listed, gone on with, and
cleaned up as they are (``livesync peer sessions``, ``livesync peer cleanup``). Everything happens within the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ..errors import BodyTooLarge, BufferGap, NotFound, TransferEnded
from ..forms import decode_json
from .historywire import HistoryCursor, partition_of
from .records import Packet, StoredSessions, TransferRecord
from .stages import Stage, Status

#: What a record's direction is called, beside ``push`` and ``pull`` of items.
DIRECTIONS: Final = {"push": "history push", "pull": "history pull"}

#: Bytes of chunks that one transfer may have waiting.
MAX_STAGED_BYTES: Final = 16_000_000_000

_encode = msgspec.json.Encoder().encode


def is_of_history(record: TransferRecord) -> bool:
    """Tell whether a transfer is one of a history."""
    return record.direction in DIRECTIONS.values()


def begin(
    stored: StoredSessions,
    transfer_id: str,
    session_id: str,
    direction: str,
    collection: str,
    asked: bytes,
    now: float,
    *,
    is_sender: bool,
) -> TransferRecord:
    """Make the record of a transfer.

    Args:
        stored: What the database keeps of sessions.
        transfer_id, session_id: Of the transfer and its session.
        direction: ``push`` or ``pull``, as the client has it.
        collection: Whose history.
        asked: What tells it apart, and what is sent.
        now: Epoch seconds.
        is_sender: Whether this end sends.
    """
    record = TransferRecord(
        transfer_id,
        sync_session_id=session_id,
        direction=DIRECTIONS[direction],
        is_sender=is_sender,
        prefixes=(partition_of(collection),),
        started=now,
        chunk_size=0,
    )
    record.offer = Packet(asked)
    record.become(Stage.TRANSFERRING, Status.STARTED, now)
    stored.add_transfer(record)
    return record


def find(stored: StoredSessions, transfer_id: str) -> TransferRecord:
    """Return the record of a history's transfer.

    Raises:
        NotFound: There is none.
    """
    record: TransferRecord | None = stored.transfers.get(transfer_id)
    if record is None or not is_of_history(record):
        raise NotFound(f"there is no transfer {transfer_id} of a history")
    return record


def asked_of(record: TransferRecord) -> bytes:
    """Return what :func:`begin` was given.

    Raises:
        TransferEnded: It has ended.
    """
    if record.offer is None:
        raise TransferEnded("this transfer has ended: begin a new one")
    data: bytes = record.offer.data
    return data


def cursor_of(record: TransferRecord) -> HistoryCursor:
    """Return where the next chunk begins."""
    return HistoryCursor() if record.cursor is None else decode_json(record.cursor, HistoryCursor)


def take(
    stored: StoredSessions,
    record: TransferRecord,
    number: int,
    data: bytes,
    following: HistoryCursor,
    last: bool,
    now: float,
) -> int:
    """Keep a chunk; return how many have come. One that came before is passed over.

    Raises:
        BufferGap: It is not the one that is due.
        TransferEnded: Nothing is received now.
        BodyTooLarge: So much may not wait.
    """
    if not record.active or record.is_sender:
        raise TransferEnded("this transfer takes no chunks: it has ended, or is sent from here")
    if number < record.confirmed:
        return record.confirmed
    if number > record.confirmed or record.has_last:
        raise BufferGap(f"chunk {number} is not due: {record.confirmed} have come", record.confirmed)
    if record.bytes_received + len(data) > MAX_STAGED_BYTES:
        raise BodyTooLarge(f"a transfer has at most {MAX_STAGED_BYTES:,} bytes: push fewer versions at once")
    packet = stored.buffers[(record.id, number)] = Packet(data)
    _let_go(stored, packet)
    record.confirmed = record.waiting_items = number + 1
    record.waiting_characters += len(data)
    record.bytes_received += len(data)
    record.cursor = _encode(following)
    record.has_last = last
    record.last_active = now
    return number + 1


def _let_go(stored: StoredSessions, packet: Packet) -> None:
    """Keep a chunk no longer in memory than it takes to commit it: caches count objects, not bytes."""
    connection = stored._p_jar
    if connection is not None:
        current = connection.transaction_manager.get()
        current.addAfterCommitHook(lambda is_committed: packet._p_deactivate())


def chunks(stored: StoredSessions, transfer_id: str) -> Iterator[bytes]:
    """Yield the chunks that wait, in order; one at a time is in memory."""
    for key in stored.buffers.keys((transfer_id,), (transfer_id + "\0",), excludemax=True):
        packet = stored.buffers[key]
        data: bytes = packet.data
        packet._p_deactivate()
        yield data


def is_done(record: TransferRecord) -> bool:
    """Tell whether a transfer has ended well."""
    return not record.active and record.stage is Stage.CLEANUP


def close(stored: StoredSessions, record: TransferRecord, now: float, *, is_done: bool = False) -> None:
    """Keep nothing of a transfer but its record, and whether all of it was carried out."""
    if is_done:
        record.become(Stage.CLEANUP, Status.COMPLETED, now)
    stored.drop_waiting(record.id)
    record.waiting_items = record.waiting_characters = 0
    record.offer = None
    record.active = False
    record.last_active = now
