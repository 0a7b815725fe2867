"""A pull: buffers are asked for, the next one while one is taken; what fits into one comes as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...errors import PeerUnreachable
from ...forms import decode_json
from ...peering import wire
from ...peering.stages import Stage
from .ahead import Ahead
from .transferclient import TransferClient

#: A buffer that has come, and the bytes that it took.
_Come = tuple[wire.Buffer, int]


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
