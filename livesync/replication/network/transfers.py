"""One end's side of a transfer that crosses a network: what is kept of it, and what its stages do.

Client and server use the same: a push is sent by the client's :class:`Transfer` and received by the server's,
a pull the other way round. What is kept lies in the database (:mod:`~livesync.peering.records`), so that a
transfer goes on where it was, whoever was killed.

The receiver confirms each buffer once it is in the database for good. Where there is an application, it is
applied at once; elsewhere buffers wait, packed, until there are enough of them to be applied together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import msgspec

from ...errors import BufferGap, ChangesRefused, ClockAhead, NotFound, TransferEnded
from ...forms import decode_json
from ...peering import compression, wire
from ...peering.partitions import contained_in_any, minimal
from ...peering.records import Packet, StoredSessions, TransferRecord, TransferView
from ...peering.stages import Stage, Status
from ..metadata.clocks import moment_of
from ..provider import BaseSyncProvider
from ..sessions.receiving import CannotApply
from ..sessions.sending import count_offered
from ..sessions.steps import Chunk, Offer
from ..stores.zodbstore import ZODBDataStore
from .wired import chunk_of, chunk_to_wire, claims_of, cursor_of, offer_of, offer_to_wire

_encode = msgspec.json.Encoder().encode

#: Items that are applied in one transaction, about: the more they are, the more share each page that is
#: written; they are in memory until it ends.
APPLIED_AT_ONCE: Final = 10_000


T = TypeVar("T")


class UnknownTransfer(NotFound):
    """Raised when this database knows no transfer of this id."""


def check_sent(chunk: Chunk, prefixes: tuple[str, ...]) -> None:
    """Look once more at what is about to be sent.

    Raises:
        ChangesRefused: An item lies outside of the filter, or is too large to travel.
    """
    for state in chunk.states:
        if not contained_in_any(prefixes, state.partition):
            raise ChangesRefused("the store has read something that is outside the filter; nothing is sent")
        if len(state.payload) > wire.MAX_BUFFER_UNPACKED // 8:
            raise ChangesRefused(
                f"item {state.item_id!r} has {len(state.payload):,} characters: too much to be sent"
            )


def _is_before(record: TransferRecord, stage: Stage, status: Status) -> bool:
    """Tell whether a record has not come so far yet."""
    if record.stage is stage:
        return record.status is not status
    return record.stage.number < stage.number


class Transfer:
    """A transfer of this database's provider. Threads may share it, one call at a time.

    Args:
        provider: This end's; its store is a :class:`ZODBDataStore`.
        transfer_id: The transfer.
    """

    def __init__(self, provider: BaseSyncProvider, transfer_id: str) -> None:
        store = provider.data_store
        if not isinstance(store, ZODBDataStore):
            raise TypeError("transfers need a store in a database")
        self.provider = provider
        self.store = store
        self.transfer_id = transfer_id
        self._offer: Offer | None = None
        #: Takes the application's own changes, which are to be sent, or to be known before others come.
        self.prepare: Callable[[], object] = provider.prepare
        #: The chunks of the buffers that wait, of those that this object took.
        self._waiting: list[Chunk] = []
        #: Makes the record, until it is written for the first time.
        self._make: Callable[[], TransferRecord] | None = None
        #: How far it has come, where that is not written yet.
        self._passed: tuple[Stage, Status] | None = None

    @classmethod
    def begin(
        cls,
        provider: BaseSyncProvider,
        transfer_id: str,
        sync_session_id: str,
        direction: str,
        *,
        is_sender: bool,
        prefixes: Sequence[str],
        chunk_size: int = wire.CHUNK_SIZE,
    ) -> Transfer:
        """Begin a transfer, or go on with the one of this id; what is noted first writes a new record.

        Raises:
            TransferEnded: There is another one of this id.
        """
        transfer = cls(provider, transfer_id)
        filter_ = minimal(prefixes)
        started = provider.node.clock()

        def make() -> TransferRecord:
            return TransferRecord(
                transfer_id,
                sync_session_id=sync_session_id,
                direction=direction,
                is_sender=is_sender,
                prefixes=filter_,
                started=started,
                chunk_size=chunk_size,
            )

        def check() -> None:
            found = transfer._sessions().transfers.get(transfer_id)
            if found is None:
                transfer._make = make
            elif (found.direction, found.is_sender, found.prefixes) != (direction, is_sender, filter_):
                raise TransferEnded(f"there is another transfer {transfer_id} already")

        transfer.store.read(check)
        return transfer

    def save(self) -> None:
        """Write what is not written yet, in a transaction: others of this database may go on with it."""
        if self._make is not None or self._passed is not None:
            self.run(self.record)

    def run(self, work: Callable[[], T]) -> T:
        """Carry out ``work`` in a transaction; with it is written how far the transfer has come.

        Within another transaction of the store it is a part of that one.
        """

        def inside() -> T:
            done = work()
            if self._passed is not None:
                self.record()
            return done

        found = self.store.run(inside)
        self._written()
        return found

    def _written(self) -> None:
        if self.store.connection is None:
            self._make = self._passed = None

    # -- what is kept ------------------------------------------------------------------------------

    def _sessions(self) -> StoredSessions:
        connection = self.store.connection
        assert connection is not None, "within a transaction of the store"
        return StoredSessions.get(connection.root())

    def record(self) -> TransferRecord:
        """Return the record, within a transaction of the store; it says how far the transfer has come.

        Raises:
            UnknownTransfer: There is none.
        """
        sessions = self._sessions()
        found: TransferRecord | None = sessions.transfers.get(self.transfer_id)
        if found is None and self._make is not None:
            found = self._make()
            sessions.add_transfer(found)
        if found is None:
            raise UnknownTransfer(f"there is no transfer {self.transfer_id}")
        if self._passed is not None and _is_before(found, *self._passed):
            found.become(*self._passed, self.provider.node.clock())
        return found

    def view(self) -> TransferView:
        """Return the record as a value.

        Raises:
            UnknownTransfer: There is none.
        """
        return self.store.read(lambda: self.record().view())

    def standing(self) -> tuple[Stage, Status]:
        """Return how far it has come."""
        view = self.view()
        return view.stage, view.status

    def become(self, stage: Stage, status: Status, error: str = "") -> None:
        """Note how far it has come now; what has ended keeps its record only.

        That a stage in between is completed is written with whatever comes next: it is run again where it is
        not known to be.
        """
        if status is Status.COMPLETED and stage is not Stage.CLEANUP:
            self._passed = stage, status
            return

        def work() -> None:
            self.record().become(stage, status, self.provider.node.clock(), error)
            if stage is Stage.CLEANUP and status is Status.COMPLETED:
                self.close()

        self.run(work)

    def is_long(self, stage: Stage) -> bool:
        """Tell whether a stage may take long: taking the application's changes, and applying what waits."""
        if stage is Stage.SERIALIZING:
            return self.provider.has_much_to_prepare()
        return stage is Stage.DEQUEUING and self.view().waiting_items > 0

    def offer(self) -> Offer:
        """Return what is sent.

        Raises:
            TransferEnded: Nothing was offered yet, or the transfer has ended.
        """
        if self._offer is None:
            self._offer = self.store.read(self._load_offer)
        return self._offer

    def _load_offer(self) -> Offer:
        record = self.record()
        if record.offer is None:
            raise TransferEnded(f"transfer {self.transfer_id} has no offer: it has not begun, or has ended")
        told = decode_json(record.offer.data, wire.Offer)
        return offer_of(told, self.transfer_id, record.prefixes)

    # -- both ends ---------------------------------------------------------------------------------

    def claims(self) -> dict[str, dict[str, int]]:
        """Return what this provider claims of the filter: of a receiver, for the sender's offer."""
        return self.provider.get_claims(self.view().prefixes)

    # -- the sender --------------------------------------------------------------------------------

    def make_offer(self, claims: Mapping[str, Mapping[str, int]], receiver_id: str) -> wire.Offer:
        """Pin what this provider claims, keep the offer, and return it; again returns the same one.

        Args:
            claims: Of the receiver.
            receiver_id: Its provider's id.
        """
        view = self.view()
        if view.has_offer:
            return offer_to_wire(self.offer(), view.total)
        filter_ = view.prefixes
        believed = {
            prefix: clock for prefix, clock in claims_of(claims).items() if contained_in_any(filter_, prefix)
        }

        def work() -> tuple[Offer, wire.Offer]:
            made = self.provider.offer(filter_, believed, receiver_id)
            offer = replace(made, session_id=self.transfer_id)
            record = self.record()
            record.total = count_offered(self.provider.node, offer)
            told = offer_to_wire(offer, record.total)
            record.offer = Packet(_encode(told))
            return offer, told

        self._offer, told = self.run(work)
        return told

    def read(self, number: int, cursor: wire.Cursor | None, size: int = wire.CHUNK_SIZE) -> wire.Buffer:
        """Return the buffer of this number, which begins at ``cursor``.

        What the filter does not contain is never sent, whatever the store says.

        Raises:
            ChangesRefused: An item is too large to travel.
        """
        offer = self.offer()
        found = cursor_of(cursor)
        if found.range_number and found.range_number > len(offer.ranges()):
            raise ChangesRefused("there is no such cursor in this transfer")
        chunk = self.provider.read(offer, number, found, size=size, characters=wire.CHUNK_CHARACTERS)
        check_sent(chunk, offer.prefixes)
        return chunk_to_wire(chunk)

    def note_sent(self, number: int, size: int = 0, items: int = 0) -> None:
        """Note that the receiver asks for a buffer of this number: it has those before.

        Args:
            number: The buffer's.
            size: Bytes that were sent since this was noted last.
            items: Items in them.
        """

        def work() -> None:
            record = self.record()
            now = self.provider.node.clock()
            record.confirmed = max(record.confirmed, number)
            record.bytes_sent += size
            record.items += items
            if record.stage is Stage.QUEUING:
                record.become(Stage.TRANSFERRING, Status.STARTED, now)
            record.last_active = now

        self.run(work)

    # -- the receiver ------------------------------------------------------------------------------

    def take_offer(self, told: wire.Offer) -> None:
        """Keep the sender's offer, and begin to receive; again does no harm.

        Raises:
            ChangesRefused: It makes no sense.
            ClockAhead: It claims what lies too far in the future.
            TransferEnded: There was another one before.
        """
        view = self.view()
        if view.has_offer:
            if self.offer() != offer_of(told, self.transfer_id, view.prefixes):
                raise TransferEnded(f"transfer {self.transfer_id} was offered something else before")
            return
        offer = offer_of(told, self.transfer_id, view.prefixes)
        self._check_claims(offer)

        def work() -> None:
            self.provider.begin(offer)
            record = self.record()
            record.offer = Packet(_encode(told))
            record.total = told.total

        self.run(work)
        self._offer = offer

    def _check_claims(self, offer: Offer) -> None:
        node = self.provider.node
        latest = node.now() + round(node.max_drift_s * 1_000_000)
        clocks = (*offer.claims.values(), *offer.collected.values())
        newest = max((stamp for clock in clocks for stamp in clock.values()), default=0)
        if newest > latest:
            moment = moment_of(newest).isoformat(timespec="seconds")
            raise ClockAhead(
                f"the sender claims something of {moment}, too far in the future; set the clocks of both"
                " nodes, and sync again"
            )

    def take(
        self,
        told: wire.Buffer,
        bytes_received: int = 0,
        packed: bytes | None = None,
        *,
        careful: bool | None = None,
    ) -> wire.Confirmed:
        """Take a buffer: once this returns, it is in the database for good. Again does no harm.

        Args:
            told: The buffer.
            bytes_received: Of its body, as it travelled.
            packed: The body itself, where it was packed with zstd: it is kept so where it has to wait.
            careful: Apply it, however small it is, as a part of a transaction that is taken back where the
                application cannot take an item; True: it is applied so that this need not happen.

        Raises:
            BufferGap: It is not the one that is due.
            ChangesRefused, ClockAhead: It makes no sense; nothing of it is taken.
            TransferEnded: Nothing is received now.
            CannotApply: ``careful`` is False, and the application cannot take an item.
        """
        record = self._receiving()
        if told.transfer_session_id != self.transfer_id:
            raise ChangesRefused(f"buffer {told.number} belongs to another transfer")
        chunk, refused = chunk_of(told, record.prefixes)
        left_out = [wire.Refusal(id=state.item_id, partition=state.partition) for state in refused]
        if told.number < record.confirmed:
            return wire.Confirmed(confirmed=record.confirmed, refused=left_out)
        self._check_due(record, told.number)
        self.provider.check(chunk.states, record.prefixes)
        items = record.waiting_items + len(chunk.states)
        characters = record.waiting_characters + sum(len(state.payload) for state in chunk.states)
        if careful is not None or self.provider.has_enough(items, characters, APPLIED_AT_ONCE):
            also = partial(self._note, told, chunk, len(refused), None, bytes_received)
            self._apply(chunk, also, careful)
        else:
            kept = packed or compression.pack(_encode(told), "zstd")
            self.run(lambda: self._note(told, chunk, len(refused), kept, bytes_received))
            self._waiting.append(chunk)
        return wire.Confirmed(confirmed=told.number + 1, refused=left_out)

    def take_whole(
        self,
        offer: wire.Offer,
        buffer: wire.Buffer,
        proceed_to: Callable[[Stage], object],
        bytes_received: int = 0,
    ) -> wire.Confirmed:
        """Take an offer and the only buffer of it, and end the transfer: in one transaction, or not at all.

        Args:
            offer: Of the sender, which has vouched for it.
            buffer: The buffer.
            proceed_to: Runs the stages up to and with one; what it raises undoes everything.
            bytes_received: Of the buffer's body, as it travelled.

        Raises:
            ChangesRefused, ClockAhead: It makes no sense.
            BufferGap: It is not the only buffer.
            TransferEnded: There was another offer before.
        """
        if buffer.number or not buffer.last:
            raise BufferGap("a buffer that comes with its offer is the only one", 0)

        def work(careful: bool) -> wire.Confirmed:
            self.take_offer(offer)
            proceed_to(Stage.QUEUING)
            confirmed = self.take(buffer, bytes_received, careful=careful)
            proceed_to(Stage.CLEANUP)
            return confirmed

        try:
            return self.run(lambda: work(False))
        except CannotApply:
            return self.run(lambda: work(True))

    def _receiving(self) -> TransferView:
        view = self.view()
        if view.is_sender or not view.has_offer or not view.active:
            raise TransferEnded(
                f"transfer {self.transfer_id} takes no buffers: it has not begun, or has ended"
            )
        return view

    @staticmethod
    def _check_due(record: TransferView, number: int) -> None:
        if number > record.confirmed or record.has_last:
            raise BufferGap(
                f"buffer {number} is not due: {record.confirmed} have come"
                + (", all there are" if record.has_last else ""),
                record.confirmed,
            )

    def _note(self, told: wire.Buffer, chunk: Chunk, refused: int, packed: bytes | None, size: int) -> None:
        """Note within a transaction that a buffer has come; keep it, unless it is applied in the same one."""
        record = self.record()
        if told.number != record.confirmed:
            raise BufferGap(f"buffer {told.number} came twice at once", record.confirmed)
        sessions = self._sessions()
        if packed is None:
            sessions.drop_waiting(self.transfer_id)
            record.waiting_items = record.waiting_characters = 0
        else:
            sessions.buffers[(self.transfer_id, told.number)] = Packet(packed)
            record.waiting_items += len(chunk.states)
            record.waiting_characters += sum(len(state.payload) for state in chunk.states)
        record.confirmed = told.number + 1
        record.cursor = _encode(told.next)
        record.has_last = told.last
        record.items += len(told.items)
        record.refused += refused
        record.bytes_received += size
        now = self.provider.node.clock()
        if record.stage is not Stage.TRANSFERRING or record.status is not Status.STARTED:
            record.become(Stage.TRANSFERRING, Status.STARTED, now)
        record.last_active = now

    def _apply(self, chunk: Chunk | None, also: Callable[[], None], careful: bool | None = None) -> None:
        """Apply the buffers that wait, and one more; all of them were looked at as they came."""
        offer = self.offer()
        chunks = self.store.read(lambda: self._waiting_chunks(offer.prefixes))
        if chunk is not None:
            chunks.append(chunk)
        self.provider.apply_checked(offer, chunks, also, careful)
        self.forget_waiting()
        self._written()

    def _waiting_chunks(self, prefixes: tuple[str, ...]) -> list[Chunk]:
        """Return the chunks that wait: those in memory, where they are all; else as they are kept."""
        sessions, held = self._sessions(), self._waiting
        if [chunk.number for chunk in held] == sessions.waiting_numbers(self.transfer_id):
            return [*held]
        return [self._unpacked(data, prefixes) for _, data in sessions.waiting(self.transfer_id)]

    @staticmethod
    def _unpacked(data: bytes, prefixes: tuple[str, ...]) -> Chunk:
        body = compression.unpack(data, "zstd", wire.MAX_BUFFER_UNPACKED)
        return chunk_of(decode_json(body, wire.Buffer), prefixes)[0]

    def forget_waiting(self) -> None:
        """Hold nothing in memory of the buffers that wait: they are in the database, too. From any thread."""
        self._waiting = []

    def dequeue(self) -> None:
        """Apply the buffers that wait.

        Raises:
            BufferGap: The last buffer has not come.
        """
        record = self._receiving()
        if not record.has_last:
            raise BufferGap(
                f"{record.confirmed} buffers have come, and the last is missing", record.confirmed
            )
        if record.waiting_items or self.store.read(lambda: any(self._sessions().waiting(self.transfer_id))):
            self._apply(None, self._note_dequeued)

    def _note_dequeued(self) -> None:
        record = self.record()
        self._sessions().drop_waiting(self.transfer_id)
        record.waiting_items = record.waiting_characters = 0

    def finish(self) -> None:
        """Claim what the sender claimed: of the receiver, when everything is applied; again does no harm."""
        offer = self.offer()
        if self.transfer_id in self.provider.unfinished(offer.source):
            self.provider.finish(offer)

    def give_up(self) -> int:
        """End the transfer for good, and clean up; return how many items were touched.

        Buffers that wait and were not applied are dropped: they are claimed by nobody.
        """
        touched = self.provider.abandon(self.transfer_id)
        self.run(self.close)
        return touched

    def close(self) -> None:
        """Keep nothing of the transfer but its record, within the caller's transaction of the store."""
        record = self.record()
        self._sessions().drop_waiting(self.transfer_id)
        record.waiting_items = record.waiting_characters = 0
        record.offer = None
        record.active = False
        record.last_active = self.provider.node.clock()
        self._sessions().open_transfers.discard(self.transfer_id)
