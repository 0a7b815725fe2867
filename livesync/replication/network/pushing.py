"""A push: buffers are made ahead, sent, and confirmed; what fits into one buffer goes as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ...errors import OfferChanged, PeerSaysNo, PeerUnreachable
from ...peering import wire
from ...peering.conversation import Body
from ...peering.stages import Stage
from .parts import Parts
from .supply import Supply
from .transferclient import TransferClient

if TYPE_CHECKING:
    from .client import SyncSessionClient

#: Buffers of a push after which it is noted here how far it has come.
_NOTED_EVERY: Final = 20

#: Buffers of a push that are made before they are sent, and bytes that they have, at most: a server takes
#: most of them in a moment, and then applies several at once.
_MADE_AHEAD: Final = 8
_BYTES_AHEAD: Final = 4_000_000


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
    #: Whether all that is offered was read.
    _is_read: bool = False
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
        if self._is_read and self._parts is not None:
            # not sooner: taking it would keep this process from sending; now the server applies what it has
            self._parts.begin_next()

    def _make_buffers(self, number: int, cursor: wire.Cursor | None) -> Iterator[_Ready]:
        """Make one buffer after the other, in any thread."""
        is_last = False
        while not is_last:
            buffer = self.transfer.read(number, cursor, self.session.chunk_size)
            number, cursor, is_last = number + 1, buffer.next, buffer.last
            body = self.conversation.pack(buffer)
            self._is_read = is_last
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
