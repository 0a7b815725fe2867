"""A session with a peer, as the client has it: what is sent and received in it, from beginning to end.

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
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ...errors import BufferGap, OfferChanged, PeerSaysNo, TransferEnded
from ...peering.conversation import Conversation
from ...peering.records import StoredSessions, SyncSessionRecord, SyncSessionView, TransferView
from ...peering.rights import Rights
from ...peering.scopes import Filter
from ...peering.signals import SyncClientSignals, TransferProgress
from .parts import Parts
from .pulling import PullClient
from .pushing import PushClient
from .transferclient import TransferClient
from .transfers import UnknownTransfer

if TYPE_CHECKING:
    from .connection import NetworkSyncConnection

logger = logging.getLogger(__name__)

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
