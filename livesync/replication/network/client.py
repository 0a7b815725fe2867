"""The client's side of transfers: a push sends, a pull receives; each is begun, run, and finished.

::

    client = connection.create_sync_session(own_certificate_id, server_chain)
    client.initiate_pull(Filter("F1"))
    client.initiate_push(Filter("F1"))
    connection.close_sync_session(client)

A transfer that was cut goes on where it was: :meth:`TransferClient.initialize` finds it by its direction and
filter. One that cannot go on (the sender was restored, the receiver has given it up) is cleaned up after, and
a new one begun.
"""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from ...errors import (
    BufferGap,
    OfferChanged,
    PeerSaysNo,
    PeerUnreachable,
    StageWaits,
    SyncError,
    TransferEnded,
)
from ...forms import decode_json
from ...peering import wire
from ...peering.conversation import Body, Conversation
from ...peering.records import StoredSessions, SyncSessionRecord, SyncSessionView, TransferView
from ...peering.rights import Rights, check_flow
from ...peering.scopes import Filter
from ...peering.signals import Signal, SyncClientSignals, TransferProgress
from ...peering.stages import Stage, Status
from .ahead import Ahead
from .parts import Parts
from .supply import Supply
from .transfers import Transfer, UnknownTransfer

if TYPE_CHECKING:
    from .connection import NetworkSyncConnection

logger = logging.getLogger(__name__)

#: Buffers of a push after which it is noted here how far it has come.
_NOTED_EVERY: Final = 20

#: Buffers of a push that are made before they are sent, and bytes that they have, at most: a server takes
#: most of them in a moment, and then applies several at once.
_MADE_AHEAD: Final = 8
_BYTES_AHEAD: Final = 4_000_000

#: Codes of refusals after which a transfer cannot go on, and a new one can.
_ANEW: Final = frozenset({"no_such_thing", "ended", "changed", "gap"})

#: How often a transfer is begun anew.
_BEGINNINGS: Final = 3


class SyncSessionClient:
    """A session with a peer, as the client has it; made by its connection. One thread at a time.

    Args:
        connection: To the peer.
        conversation: The session's requests.
        view: What is kept of it.
        chunk_size: Items in a buffer, at most.
    """

    def __init__(
        self,
        connection: NetworkSyncConnection,
        conversation: Conversation,
        view: SyncSessionView,
        chunk_size: int,
    ) -> None:
        self.connection = connection
        self.conversation = conversation
        self.view = view
        self.chunk_size = chunk_size
        #: Fired by all transfers of this session.
        self.signals = SyncClientSignals()
        self._parts: Parts | None = Parts(connection.provider) if "parts" in connection.capabilities else None

    @property
    def session_id(self) -> str:
        """The sync session."""
        return self.conversation.session_id

    @property
    def client(self) -> Rights:
        """This end's rights."""
        return self.conversation.client

    @property
    def server(self) -> Rights:
        """The server's rights."""
        return self.conversation.server

    def get_push_client(self) -> PushClient:
        """Return what sends."""
        return PushClient(self)

    def get_pull_client(self) -> PullClient:
        """Return what receives."""
        return PullClient(self)

    def initiate_push(self, sync_filter: Filter) -> TransferProgress:
        """Send what lies within a filter, from beginning to end, and return what came of it.

        Where the application has changed much, it is sent in parts, each by a transfer of its own: while one
        is on its way, the next is taken from the application. They are counted together.

        Raises:
            ScopeExceeded: The certificates do not allow it.
            SyncError: It was cut, and can be gone on with; or it is refused.
            CertificateRefused: A certificate does not hold any more.
        """
        parts = self._parts
        if parts is None:
            return self._through(self.get_push_client, sync_filter)
        with parts:
            done = self._through(partial(PushClient, self, parts), sync_filter)
            while parts.has_more:
                follows = done.transfer_id
                done = done.with_next(
                    self._through(partial(PushClient, self, parts, follows=follows), sync_filter)
                )
        return done

    def initiate_pull(self, sync_filter: Filter) -> TransferProgress:
        """Receive what lies within a filter, from beginning to end; see :meth:`initiate_push`.

        Where nothing comes in, only a part of what the application has changed may have been taken.
        """
        return self._through(partial(PullClient, self, self._parts), sync_filter)

    def _through(self, make: Callable[[], TransferClient], sync_filter: Filter) -> TransferProgress:
        for beginning in range(_BEGINNINGS):
            transfer = make()
            try:
                transfer.initialize(sync_filter)
                transfer.run()
                transfer.finalize()
            except (PeerSaysNo, OfferChanged, TransferEnded, BufferGap, UnknownTransfer) as exc:
                if not _begins_anew(exc) or beginning + 1 == _BEGINNINGS:
                    raise
                logger.warning("transfer %s cannot go on: %s; a new one begins", transfer.transfer_id, exc)
                transfer.abandon()
            else:
                return transfer.progress
        raise AssertionError("the last beginning raises")

    def transfers(self) -> list[TransferView]:
        """Return what is kept of this session's transfers that go on, the oldest first."""
        session_id = self.session_id

        def work(stored: StoredSessions) -> list[TransferView]:
            return [record.view() for record in stored.transfers_going_on(session_id)]

        return self.connection.run_stored(work)

    def unfinished(self, direction: str, prefixes: tuple[str, ...]) -> TransferView | None:
        """Return what is kept of a transfer with this peer that was cut; the newest one."""
        view = self.view

        def work(stored: StoredSessions) -> TransferView | None:
            found = [
                record.view()
                for record in stored.transfers_going_on()
                if record.direction == direction
                and record.is_sender == (direction == "push")
                and record.prefixes == prefixes
                and _is_with(stored.sync.get(record.sync_session_id), view)
            ]
            return max(found, key=lambda each: each.started, default=None)

        return self.connection.run_stored(work)


def _is_with(record: SyncSessionRecord | None, view: SyncSessionView) -> bool:
    """Tell whether a session is between the same two, as the client has it."""
    names = ("is_server", "client_certificate_id", "server_certificate_id", "peer_provider_id")
    return record is not None and all(getattr(record, name) == getattr(view, name) for name in names)


def _begins_anew(exc: Exception) -> bool:
    return exc.code in _ANEW if isinstance(exc, PeerSaysNo) else True


class TransferClient(ABC):
    """A transfer of a session: :meth:`initialize`, :meth:`run`, :meth:`finalize`, in this order.

    Args:
        session: The session.
        parts: Takes the application's changes in parts; None: they are taken at once.
    """

    #: ``push`` or ``pull``.
    direction: str

    def __init__(self, session: SyncSessionClient, parts: Parts | None = None) -> None:
        self.session = session
        self._parts = parts
        self.connection = session.connection
        self.conversation = session.conversation
        self.controller = session.connection.controller
        self.signals = session.signals
        self.provider = session.connection.provider
        self._transfer: Transfer | None = None
        #: All there is to send or receive, with its offer, where it goes in one request.
        self._whole: tuple[wire.Offer, wire.Buffer] | None = None
        self._progress = TransferProgress("", self.direction)
        self._sent_before = self._received_before = 0

    @property
    def transfer_id(self) -> str:
        """The transfer; "" before it is initialized."""
        return "" if self._transfer is None else self._transfer.transfer_id

    @property
    def transfer(self) -> Transfer:
        """This end's side of the transfer.

        Raises:
            TransferEnded: It was not initialized.
        """
        if self._transfer is None:
            raise TransferEnded("the transfer has not begun: initialize it")
        return self._transfer

    @property
    def progress(self) -> TransferProgress:
        """How far it has come."""
        return replace(
            self._progress,
            bytes_sent=self.connection.bytes_sent - self._sent_before,
            bytes_received=self.connection.bytes_received - self._received_before,
        )

    def initialize(self, sync_filter: Filter) -> None:
        """Begin a transfer, or go on with one of this filter that was cut: both agree on what is sent.

        Raises:
            ScopeExceeded: The certificates do not allow to send that.
            SyncError: It was cut or refused.
        """
        self._check(sync_filter)
        self._sent_before = self.connection.bytes_sent
        self._received_before = self.connection.bytes_received
        prefixes = sync_filter.prefixes
        cut = self.session.unfinished(self.direction, prefixes)
        transfer_id = uuid.uuid4().hex if cut is None else cut.id
        self._transfer = Transfer.begin(
            self.provider,
            transfer_id,
            self.session.session_id,
            self.direction,
            is_sender=self.direction == "push",
            prefixes=prefixes,
            chunk_size=self.session.chunk_size,
        )
        if self._parts is not None:
            self._transfer.prepare = self._parts.take
        if cut is not None:
            self._adopt()
        before = 0 if cut is None else cut.items
        self._progress = TransferProgress(transfer_id, self.direction, items=before, resumed=before)
        self._fire(self.signals.session.started)
        self._fire(self.signals.queuing.started)
        self._initialize(is_new=cut is None)
        total = self.transfer.view().total if self._whole is None else self._whole[0].total
        self._progress = replace(self._progress, total=total or None)
        self._fire(self.signals.queuing.in_progress)
        self._fire(self.signals.queuing.completed)

    def _adopt(self) -> None:
        """Let a transfer of an earlier session be one of this session."""
        transfer, session_id = self.transfer, self.session.session_id

        def work() -> None:
            record = transfer.record()
            if record.sync_session_id != session_id:
                record.sync_session_id = session_id

        transfer.run(work)

    def _check(self, sync_filter: Filter) -> None:
        """Make sure that both certificates allow the filter, and still hold."""
        own, server = self.session.client, self.session.server
        sender, receiver = (own, server) if self.direction == "push" else (server, own)
        check_flow(sync_filter, sender, receiver)
        self.connection.check_rights(self.conversation)

    def run(self) -> None:
        """Send or receive buffers until there are no more.

        Raises:
            CertificateRefused: A certificate does not hold any more.
            SyncError: It was cut or refused; it goes on where it was when it is initialized again.
        """
        self._fire(self.signals.transferring.started)
        self._run()
        self._fire(self.signals.transferring.completed)

    def finalize(self) -> None:
        """Apply and claim what has come, at the receiver, and keep nothing but the record.

        Raises:
            SyncError: It was cut or refused.
        """
        self._fire(self.signals.dequeuing.started)
        if self._whole is None:
            self.connection.check_rights(self.conversation)
            self._vouch()
            told = self.conversation.drive_to_end(self.transfer_id)
            self._fire(self.signals.dequeuing.in_progress)
            self._finished(told)
        else:
            self._fire(self.signals.dequeuing.in_progress)
        self._fire(self.signals.dequeuing.completed)
        self._fire(self.signals.session.completed)

    def abandon(self) -> None:
        """End the transfer for good, here and, if it can be told, there; clean up after it."""
        if self._transfer is None:
            return
        try:
            self.conversation.end_transfer(self.transfer_id)
        except SyncError as exc:
            logger.info("transfer %s: its end could not be told: %s", self.transfer_id, exc)
        if self.transfer.view().active:
            self._give_up()

    def _step(self, items: int, confirmed: wire.Confirmed) -> None:
        self._progress = replace(
            self._progress,
            items=self._progress.items + items,
            buffers=confirmed.confirmed,
            refused=self._progress.refused + len(confirmed.refused),
        )
        self._fire(self.signals.transferring.in_progress)
        self._fire(self.signals.session.in_progress)

    def _proceed(self, until: Stage) -> None:
        """Run the stages of this end.

        Raises:
            StageWaits: The application lets one wait.
        """
        if self.controller.proceed_to(until, self.transfer) is Status.PENDING:
            stage, status = self.transfer.standing()
            if status is Status.PENDING and stage.number <= until.number:
                raise StageWaits(
                    f"the application lets the stage {stage.value} wait: sync again later, and it goes on"
                )

    def _fire(self, signal: Signal) -> None:
        signal.fire(self.progress)

    @abstractmethod
    def _initialize(self, is_new: bool) -> None: ...

    @abstractmethod
    def _run(self) -> None: ...

    def _vouch(self) -> None:
        """Make sure that what was sent is all that was offered, where this end is the sender."""
        if self.direction == "push":
            self.provider.confirm(self.transfer.offer())

    @abstractmethod
    def _finished(self, told: wire.Transfer) -> None: ...

    @abstractmethod
    def _give_up(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ready:
    """A buffer that can be sent: its number, how many items it has, where the next begins, and its body."""

    number: int
    items: int
    next: wire.Cursor
    last: bool
    body: Body


@dataclass(slots=True)
class _Noted:
    """The number of buffers and bytes that were noted last, and the items that were sent since."""

    number: int
    size: int
    items: int = 0


def _weight(ready: _Ready) -> int:
    return len(ready.body.data)


#: A buffer that has come, and the bytes that it took.
_Come = tuple[wire.Buffer, int]


class PushClient(TransferClient):
    """Sends what lies within a filter to the server.

    Args:
        session, parts: See :class:`TransferClient`.
        follows: The transfer that sent the part before.
    """

    direction = "push"

    def __init__(
        self, session: SyncSessionClient, parts: Parts | None = None, *, follows: str | None = None
    ) -> None:
        super().__init__(session, parts)
        self._follows = follows

    #: The number of the next buffer, and where it begins; whether there is none.
    _number: int = 0
    _cursor: wire.Cursor | None = None
    _is_done: bool = False
    #: What was noted last of how far it has come.
    _noted: _Noted

    def _initialize(self, is_new: bool) -> None:
        transfer, view = self.transfer, self.transfer.view()
        self._is_done = False
        if view.has_offer and not is_new:
            if not self.provider.may_resume(transfer.offer()):
                raise OfferChanged("what this database holds has changed under the transfer")
            self._proceed(Stage.QUEUING)
            self._go_on(self.conversation.transfer(self.transfer_id))
            return
        told = self.conversation.new_transfer(
            wire.NewTransfer(
                id=self.transfer_id, direction="push", filter=list(view.prefixes), follows=self._follows
            )
        )
        self._proceed(Stage.SERIALIZING)
        offer = transfer.make_offer(told.claims, told.provider_id)
        self._proceed(Stage.QUEUING)
        if is_new and offer.total <= self.session.chunk_size and "whole" in self.connection.capabilities:
            buffer = transfer.read(0, None, self.session.chunk_size)
            if buffer.last and wire.is_little(offer, buffer):
                self._whole = offer, buffer
                return
        self._go_on(self.conversation.drive(self.transfer_id, wire.Drive(stage="queuing", offer=offer)))

    def _go_on(self, told: wire.Transfer) -> None:
        stage = Stage(told.stage)
        if stage.number < Stage.QUEUING.number or (told.status == "errored" and stage is Stage.QUEUING):
            told = self.conversation.drive(
                self.transfer_id,
                wire.Drive(stage="queuing", offer=self.transfer.make_offer(told.claims, told.provider_id)),
            )
        missing = told.items - self.transfer.view().items
        if missing > 0:  # confirmed, and not noted before this end was cut
            self.transfer.note_sent(told.confirmed, items=missing)
        self._number, self._cursor = told.confirmed, told.cursor
        self._is_done = stage.number > Stage.TRANSFERRING.number
        self._progress = replace(
            self._progress, items=told.items, buffers=told.confirmed, refused=told.refused, resumed=told.items
        )

    def _run(self) -> None:
        if self._whole is not None:
            self._send_whole(*self._whole)
            return
        self._noted = _Noted(self._number, self.connection.bytes_sent)
        while not self._is_done:
            made = self._make_buffers(self._number, self._cursor)
            with Supply(made, _MADE_AHEAD, _weight, _BYTES_AHEAD) as supply:
                while self._send(supply.take()):
                    pass

    def _make_buffers(self, number: int, cursor: wire.Cursor | None) -> Iterator[_Ready]:
        """Make one buffer after the other, in any thread; then the next part of what is sent may be taken."""
        is_last = False
        while not is_last:
            buffer = self.transfer.read(number, cursor, self.session.chunk_size)
            number, cursor, is_last = number + 1, buffer.next, buffer.last
            body = self.conversation.pack(buffer)
            if is_last and self._parts is not None:
                self._parts.begin_next()
            yield _Ready(buffer.number, len(buffer.items), buffer.next, is_last, body)

    def _send(self, ready: _Ready) -> bool:
        """Send a buffer; tell whether the one that comes next is the one that was made next."""
        self.connection.check_rights(self.conversation)
        try:
            confirmed = self.conversation.send_buffer(ready.body)
        except PeerSaysNo as exc:
            if exc.code != "gap" or not self._catch_up():
                raise
            return False
        if confirmed.confirmed != ready.number + 1:
            raise PeerUnreachable("the server has confirmed another buffer than it was sent")
        self._number, self._cursor, self._is_done = confirmed.confirmed, ready.next, ready.last
        noted = self._noted
        noted.items += ready.items
        if self._is_done or self._number == 1 or self._number - noted.number >= _NOTED_EVERY:
            self.transfer.note_sent(self._number, self.connection.bytes_sent - noted.size, noted.items)
            self._noted = _Noted(self._number, self.connection.bytes_sent)
        self._step(ready.items, confirmed)
        return not self._is_done

    def _send_whole(self, offer: wire.Offer, buffer: wire.Buffer) -> None:
        """Send all there is with its offer; the server claims it at once."""
        if self._parts is not None:
            self._parts.begin_next()
        self.connection.check_rights(self.conversation)
        self._vouch()
        before = self.connection.bytes_sent
        drive = wire.Drive(stage="cleanup", offer=offer, buffer=buffer)
        told = self.conversation.drive_to_end(self.transfer_id, drive)
        self._step(len(buffer.items), wire.Confirmed(confirmed=1))
        size = self.connection.bytes_sent - before
        self.transfer.run(lambda: self._ended(told, size, len(buffer.items)))

    def _ended(self, told: wire.Transfer, size: int, items: int) -> None:
        self.transfer.note_sent(1, size, items)
        self._finished(told)

    def _catch_up(self) -> bool:
        """Go on where the server is; tell whether that is another place than where this end thought."""
        told = self.conversation.transfer(self.transfer_id)
        if told.confirmed == self._number:
            # it has the last buffer: the answer that said so was lost with the process that asked
            self._is_done = True
            return True
        if told.confirmed > self._number:
            self._number, self._cursor = told.confirmed, told.cursor
            return True
        return False

    def _finished(self, told: wire.Transfer) -> None:
        self._progress = replace(self._progress, items=told.items, refused=told.refused)
        if self.transfer.view().stage is Stage.QUEUING:
            self.transfer.note_sent(self._number)
        self._proceed(Stage.CLEANUP)

    def _give_up(self) -> None:
        self.transfer.run(self.transfer.close)


class PullClient(TransferClient):
    """Receives what lies within a filter from the server."""

    direction = "pull"

    def _initialize(self, is_new: bool) -> None:
        transfer, view = self.transfer, self.transfer.view()
        if view.has_offer and not is_new:
            self.conversation.transfer(self.transfer_id)  # that it goes on there
            self._proceed(Stage.QUEUING)
        else:
            self._proceed(Stage.SERIALIZING)
            whole = "whole" in self.connection.capabilities
            told = self.conversation.new_transfer(
                wire.NewTransfer(
                    id=self.transfer_id,
                    direction="pull",
                    whole=whole,
                    filter=list(view.prefixes),
                    claims=transfer.claims(),
                    chunk_size=self.session.chunk_size,
                )
            )
            if told.offer is None:
                raise PeerUnreachable("the server offers nothing for a pull")
            if told.offer.source != self.session.view.peer_provider_id:
                raise PeerUnreachable("the offer is another provider's than that of this session")
            buffer = told.buffer if whole else None
            if self._parts is not None and (buffer is None or buffer.items or told.offer.snapshots):
                self._parts.take_all()
            if buffer is not None:
                self._check_buffer(buffer, 0)
                self._whole = told.offer, buffer
                return
            transfer.take_offer(told.offer)
            self._proceed(Stage.QUEUING)
        view = transfer.view()
        self._progress = replace(
            self._progress, items=view.items, buffers=view.confirmed, refused=view.refused, resumed=view.items
        )

    def _check_buffer(self, buffer: wire.Buffer, number: int) -> None:
        if (buffer.transfer_session_id, buffer.number) != (self.transfer_id, number):
            raise PeerUnreachable("the server gives another buffer than it was asked for")

    def _take_whole(self, offer: wire.Offer, buffer: wire.Buffer) -> None:
        """Apply and claim all there is; the server has vouched for it."""
        self.connection.check_rights(self.conversation)
        transfer, size = self.transfer, self.connection.bytes_received - self._received_before
        self._step(len(buffer.items), transfer.take_whole(offer, buffer, self._proceed, size))

    def _run(self) -> None:
        transfer = self.transfer
        if self._whole is not None:
            self._take_whole(*self._whole)
            return
        view = transfer.view()
        number, has_last = view.confirmed, view.has_last
        cursor = None if view.cursor is None else _cursor_of(view.cursor)
        with Ahead[_Come]() as ahead:
            while not has_last:
                buffer, size = (ahead.take() or self._asking(number, cursor))()
                self.connection.check_rights(self.conversation)  # as it is when the buffer is here
                if not buffer.last:
                    # the next one is on its way while this one is taken in
                    ahead.begin(self._asking(number + 1, buffer.next))
                confirmed = transfer.take(buffer, size)
                number, cursor, has_last = confirmed.confirmed, buffer.next, buffer.last
                self._step(len(buffer.items), confirmed)

    def _asking(self, number: int, cursor: wire.Cursor | None) -> Callable[[], _Come]:
        """Return what asks for a buffer, in any thread while no other asks for anything."""

        def ask() -> _Come:
            before = self.connection.bytes_received
            buffer = self.conversation.read_buffer(self.transfer_id, number, cursor)
            self._check_buffer(buffer, number)
            return buffer, self.connection.bytes_received - before

        return ask

    def _finished(self, told: wire.Transfer) -> None:
        self._proceed(Stage.CLEANUP)

    def _give_up(self) -> None:
        self.transfer.give_up()


def _cursor_of(packed: bytes) -> wire.Cursor:
    """Return a cursor as it is kept."""
    return decode_json(packed, wire.Cursor)
