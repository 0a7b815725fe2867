"""The client's side of a transfer: begun, run, and finished; what a push and a pull have in common."""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import StageWaits, SyncError, TransferEnded
from ...peering import wire
from ...peering.rights import check_flow
from ...peering.scopes import Filter
from ...peering.signals import Signal, TransferProgress
from ...peering.stages import Stage, Status
from .parts import Parts
from .transfers import Transfer

if TYPE_CHECKING:
    from .client import SyncSessionClient

logger = logging.getLogger(__name__)


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
