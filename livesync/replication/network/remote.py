"""A provider whose items lie at another node, which is spoken to over HTTP.

It stands for the node in a :class:`~livesync.replication.sessions.orchestrator.SyncOrchestrator`, beside this
database's own provider::

    with RemoteProvider(connection, peer) as remote:
        SyncOrchestrator(DatabaseSyncLock(store), [local, remote], 3600).run()

It speaks as :class:`~livesync.replication.network.client.SyncSessionClient` does: the same sessions,
certificates, filters and buffers. What it asks the node for is read from the node as it goes, and nothing of
it is kept here.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, TypeVar

from ...errors import (
    BufferGap,
    OfferChanged,
    PeerSaysNo,
    PeerUnreachable,
    SyncError,
    TransferEnded,
    UsageError,
)
from ...peering import wire
from ...peering.conversation import Conversation
from ...peering.partitions import EVERYTHING, contained_in_any, minimal
from ...peering.peers import Peer
from ...peering.rights import Rights, check_flow, may_flow
from ...peering.scopes import Filter
from ..events import EventsManager
from ..metadata.changes import ItemChangeBatch, SyncSession, SyncSessionStatus
from ..metadata.claims import cover, pinned
from ..metadata.clocks import Stamps, VectorClock, common, moment_of
from ..metadata.conversion import state_of
from ..metadata.ids import random_id
from ..metadata.query import Query
from ..metadata.states import ItemState
from ..models.executor import ChangesExecutor
from ..node import Node
from ..provider import BaseSyncProvider
from ..sessions.steps import Chunk, Cursor, Introduction, Offer
from ..stores.paging import Pages, follows
from .choosing import choose, own_certificates
from .client import SyncSessionClient
from .connection import NetworkSyncConnection
from .elsewhere import ElsewhereDataStore
from .transfers import check_sent
from .wired import chunk_of, chunk_to_wire, claims_of, cursor_to_wire, offer_of, offer_to_wire

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What a refusal's code means to an orchestrator: the transfer does not go on, a new one does.
_ANEW: Final[Mapping[str, Callable[[str], SyncError]]] = {
    "no_such_thing": TransferEnded,
    "ended": TransferEnded,
    "changed": OfferChanged,
    "gap": lambda text: BufferGap(text, 0),
}


class RemoteProvider(BaseSyncProvider):
    """Another node's provider, over the network. One thread at a time.

    Its sessions are between this connection's own provider and the node, so it is orchestrated with that
    one. What is exchanged is what the certificates of both allow. A session that was cut is gone on with by
    the same orchestrator; another one begins anew, and what the node had kept of it is cleaned up there.

    Args:
        connection: To the node; closed with :meth:`close`.
        peer: Who that is, and with which certificates they speak; it need not be kept in the database.
        events_manager: Who is told what happens.
    """

    def __init__(
        self, connection: NetworkSyncConnection, peer: Peer, events_manager: EventsManager | None = None
    ) -> None:
        # not BaseSyncProvider.__init__, which opens a store: there is none here
        self.connection = connection
        self.peer = peer
        self.data_store = ElsewhereDataStore(connection.base_url)
        self.events_manager = events_manager or EventsManager()
        self.changes_executor = ChangesExecutor()
        self.reader = None
        self.node = Node(self.data_store, self.changes_executor, self.events_manager, connection.clock)
        self.max_num = self.takes_items = connection.chunk_size
        self.takes_characters = wire.CHUNK_CHARACTERS
        self._client: SyncSessionClient | None = None
        #: The push that was begun and has no offer yet.
        self._asked: str | None = None
        #: The pushes that go on: session -> transfer; and the pulls.
        self._pushes: dict[str, str] = {}
        self._pulls: set[str] = set()
        self._pages: Pages | None = None
        self._chain: Stamps = {}

    # -- the session -------------------------------------------------------------------------------

    @property
    def provider_id(self) -> str:
        """The node's unique id, as it said last; "" before the first session."""
        return "" if self._client is None else self._client.view.peer_provider_id

    def __repr__(self) -> str:
        return f"<RemoteProvider {self.connection.base_url}>"

    def __enter__(self) -> RemoteProvider:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> SyncSessionClient:
        """Begin a session with the node, or go on with the one there is; return it.

        Both learn of what the other knows to be revoked, and look whether one of them was restored or copied.

        Raises:
            UsageError: This database has no certificate for it.
            CertificateRefused: One of the two does not believe the other's.
            PeerUnreachable: There is no usable answer.
            PeerSaysNo: It refuses.
            ClockAhead: The clocks are too far apart.
        """
        connection = self.connection
        if self._client is not None:
            self._client = connection.resume_sync_session(self._client.session_id)
            return self._client
        connection.prepare_session(self.peer.profile, own_certificates(connection, self.peer))
        connection.take_revocations(self.peer.profile)
        self.max_num = self.takes_items = connection.chunk_size  # or less, as the node says
        own, server = choose(connection, self.peer)
        self._client = connection.create_sync_session(own.certificate_id, server.chain)
        return self._client

    def close(self) -> None:
        """End the session, here and, if it can be told, there; and close the connection."""
        if self._client is not None:
            self.connection.close_sync_session(self._client)
            self._client = None
        self.connection.close()

    def _session(self) -> SyncSessionClient:
        return self.open() if self._client is None else self._client

    def _ask(self, what: Callable[[Conversation], T]) -> T:
        """Ask the node for something, while the certificates of both hold.

        Raises:
            TransferEnded, OfferChanged, BufferGap: The transfer does not go on.
        """
        conversation = self._session().conversation
        self.connection.check_rights(conversation)
        try:
            return what(conversation)
        except PeerSaysNo as exc:
            if exc.code in _ANEW:
                raise _ANEW[exc.code](str(exc)) from exc
            raise

    def introduce(self) -> Introduction:
        """Begin the session, in which both say who they are; see :meth:`open`."""
        return Introduction(self.open().view.peer_provider_id, "", (), 0, {})

    def meet(self, other: Introduction) -> bool:
        """Tell that nothing is to be done: both have met as the session began.

        Raises:
            UsageError: The other one is not the provider that this connection is for.
        """
        mine = self.connection.provider.provider_id
        if other.provider_id != mine:
            raise UsageError(
                f"the connection to {self.connection.base_url} is provider {mine}'s, and not"
                f" {other.provider_id}'s"
            )
        self._session()
        return False

    def would_rename(self, other: Introduction) -> bool:
        """Tell that nothing is known of that here: the node says so itself."""
        return False

    def may_send(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of a filter the node may send here; "everything" is all that it may.

        Raises:
            ScopeExceeded: The certificates do not allow it.
        """
        session = self._session()
        return _allowed(prefixes, session.server, session.client)

    def may_receive(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of a filter may be sent to the node; see :meth:`may_send`."""
        session = self._session()
        return _allowed(prefixes, session.client, session.server)

    def prepare(self, most: int | None = None) -> bool:
        """Do nothing: a node takes its own changes, and tries what it deferred, as each transfer begins."""
        return False

    # -- the node receives -------------------------------------------------------------------------

    def get_claims(self, prefixes: Iterable[str] = (EVERYTHING,)) -> dict[str, dict[str, int]]:
        """Begin a push, and return what the node claims of its filter."""
        filter_ = self.may_receive(minimal(prefixes))
        if self._asked is not None:
            self._end(self._asked)
        self._asked = transfer_id = random_id()
        body = wire.NewTransfer(id=transfer_id, direction="push", filter=list(filter_))
        return claims_of(self._ask(lambda talk: talk.new_transfer(body)).claims)

    def begin(self, offer: Offer) -> None:
        """Offer the node what will be sent; again does no harm."""
        transfer_id = self._pushes.get(offer.session_id)
        if transfer_id is None:
            if self._asked is None:
                self.get_claims(offer.prefixes)
            assert self._asked is not None
            transfer_id, self._asked = self._asked, None
            self._pushes[offer.session_id] = transfer_id
        drive = wire.Drive(stage="queuing", offer=offer_to_wire(offer))
        self._ask(lambda talk: talk.drive(transfer_id, drive))

    def has_enough(self, items: int, characters: int, at_once: int | None = None) -> bool:
        """Tell that each chunk is to be sent at once."""
        return True

    def receive(self, offer: Offer, *chunks: Chunk, also: Callable[[], None] | None = None) -> int:
        """Send chunks: once this returns, the node has them for good; return how many items it took.

        Raises:
            ChangesRefused: An item may not be sent, or is too large to travel; or the node says so.
            BufferGap, TransferEnded: The transfer does not go on.
        """
        transfer_id = self._push_of(offer.session_id)
        taken = 0
        for chunk in chunks:
            check_sent(chunk, offer.prefixes)
            buffer = chunk_to_wire(_of_session(chunk, transfer_id))
            confirmed = self._send(buffer)
            if confirmed.confirmed <= chunk.number:
                raise PeerUnreachable("the node has confirmed another buffer than it was sent")
            if confirmed.refused:
                logger.warning(
                    "transfer %s: the node has refused %d items of buffer %d",
                    transfer_id,
                    len(confirmed.refused),
                    chunk.number,
                )
            taken += len(chunk.states) - len(confirmed.refused)
        if also is not None:
            also()
        return taken

    def _send(self, buffer: wire.Buffer) -> wire.Confirmed:
        return self._ask(lambda talk: talk.send_buffer(buffer))

    def finish(self, offer: Offer) -> SyncSession:
        """Let the node claim what was sent, and return the session; its changes are listed there."""
        transfer_id = self._push_of(offer.session_id)
        told = self._ask(lambda talk: talk.drive_to_end(transfer_id))
        if told.refused:
            logger.warning("transfer %s: the node has refused %d items", transfer_id, told.refused)
        del self._pushes[offer.session_id]
        now = moment_of(self.node.now())
        return SyncSession(
            id=uuid.UUID(offer.session_id),
            started_at=now,
            ended_at=now,
            status=SyncSessionStatus.FINISHED,
            source_provider_id=offer.source,
            target_provider_id=self.provider_id,
            item_changes=(),
        )

    def fail(self, session_id: str, reason: str, source: str | None = None) -> SyncSession | None:
        """Return None: the node keeps what it knows of a session that broke off."""
        return None

    def abandon(self, session_id: str) -> int:
        """Let the node end a session that it receives, and clean up; it does not say what: return 0."""
        transfer_id = self._pushes.pop(session_id, None)
        if transfer_id is not None:
            self._end(transfer_id)
        return 0

    def unfinished(self, source: str | None = None) -> list[str]:
        """Return the ids of the sessions that this object has begun to send, the oldest first."""
        return list(self._pushes)

    def _push_of(self, session_id: str) -> str:
        transfer_id = self._pushes.get(session_id)
        if transfer_id is None:
            raise TransferEnded(f"session {session_id!r} is not under way here: it has ended, or never began")
        return transfer_id

    def _end(self, transfer_id: str) -> None:
        """End a transfer for good, if that can be told; one that nobody ends the node ends by itself."""
        try:
            self._ask(lambda talk: talk.end_transfer(transfer_id))
        except SyncError as exc:
            logger.info("transfer %s: its end could not be told: %s", transfer_id, exc)

    # -- the node sends ----------------------------------------------------------------------------

    def offer(
        self, prefixes: Iterable[str], receiver: Mapping[str, Stamps], receiver_id: str | None = None
    ) -> Offer:
        """Begin a pull: the node pins what it claims, and says what it will send.

        Raises:
            ScopeExceeded: The certificates do not allow it.
            ChangesRefused: The offer makes no sense.
        """
        filter_ = self.may_send(minimal(prefixes))
        for earlier in sorted(self._pulls):
            self._end(earlier)
        self._pulls.clear()
        transfer_id = random_id()
        body = wire.NewTransfer(
            id=transfer_id,
            direction="pull",
            filter=list(filter_),
            claims=pinned(receiver, filter_),
            chunk_size=self.max_num,
        )
        told = self._ask(lambda talk: talk.new_transfer(body)).offer
        self._pulls.add(transfer_id)
        if told is None or told.source != self.provider_id:
            raise PeerUnreachable("the node offers nothing for a pull, or what is another provider's")
        return offer_of(told, transfer_id, filter_)

    def may_resume(self, offer: Offer) -> bool:
        """Tell whether a session that the node sends may go on where it was."""
        if offer.session_id not in self._pulls or offer.source != self.provider_id:
            return False
        try:
            told = self._ask(lambda talk: talk.transfer(offer.session_id))
        except (TransferEnded, OfferChanged, BufferGap):
            return False
        return told.stage != "cleanup"

    def read(
        self,
        offer: Offer,
        number: int = 0,
        cursor: Cursor | None = None,
        *,
        size: int | None = None,
        characters: int | None = None,
    ) -> Chunk:
        """Return the chunk of an offer that begins at ``cursor``; the node says how large it is.

        What lies outside of the filter is left out, whatever the node sends.
        """
        begin = None if number == 0 else cursor_to_wire(cursor or Cursor())
        buffer = self._ask(lambda talk: talk.read_buffer(offer.session_id, number, begin))
        if (buffer.transfer_session_id, buffer.number) != (offer.session_id, number):
            raise PeerUnreachable("the node gives another buffer than it was asked for")
        chunk, refused = chunk_of(buffer, offer.prefixes)
        if refused:
            logger.warning(
                "transfer %s: %d items of buffer %d are outside of the filter; they were left out",
                offer.session_id,
                len(refused),
                number,
            )
        return chunk

    def confirm(self, offer: Offer) -> None:
        """Let the node make sure that what it pinned is still so, and end the transfer.

        Raises:
            OfferChanged: It is not; the next session begins anew.
        """
        self._ask(lambda talk: talk.drive_to_end(offer.session_id))
        self._pulls.discard(offer.session_id)

    # -- pages of changes --------------------------------------------------------------------------

    def get_vector_clock(self, query: Query | None = None) -> VectorClock:
        """Return what the node claims of all that may be sent to it.

        Args:
            query: Makes no difference: queries never move a clock.
        """
        filter_ = self.may_receive((EVERYTHING,))
        claims = self.get_claims(filter_)
        return VectorClock.of_stamps(common(cover(claims, prefix) for prefix in filter_))

    def download_changes(self, vector_clock: VectorClock, query: Query | None = None) -> ItemChangeBatch:
        """Return changes that lie after a clock: one page, of at most ``max_num``.

        All pages after a clock are fetched together, and kept until another clock is asked with: whoever has
        much to fetch takes sessions, which hold one chunk at a time.

        Args:
            vector_clock: What the other one has of all that the node may send.
            query: Must be None.

        Raises:
            UsageError: There is a query.
        """
        self._refuse(query)
        if self._pages is None or not self._pages.has(vector_clock):
            self._pages = self._fetch(vector_clock.stamps())
        return self._pages.after(vector_clock)

    def _fetch(self, after: Stamps) -> Pages:
        filter_ = self.may_send((EVERYTHING,))
        if not filter_:
            return Pages(after, {}, (), self.max_num)
        offer = self.offer(filter_, dict.fromkeys(filter_, after))
        states: list[ItemState] = []
        number, cursor, is_last = 0, Cursor(), False
        while not is_last:
            chunk = self.read(offer, number, cursor)
            self.connection.provider.check(chunk.states, offer.prefixes)
            states += chunk.states
            number, cursor, is_last = number + 1, chunk.cursor, chunk.is_last
        self.confirm(offer)
        return Pages(after, offer.claims, states, self.max_num)

    def upload_changes(self, item_change_batch: ItemChangeBatch, query: Query | None = None) -> None:
        """Send changes to the node, which applies them.

        What the certificates do not allow to send is left out. Its clock moves with the last page, if all
        pages since the node's clock were sent by this object.

        Args:
            item_change_batch: A page of this database's provider.
            query: Must be None.

        Raises:
            UsageError: There is a query.
            ChangesRefused, ClockAhead: The node says that they make no sense.
        """
        self._refuse(query)
        filter_ = self.may_receive((EVERYTHING,))
        if not filter_:
            return
        received = self.get_claims(filter_)
        claims = self._claimed(item_change_batch, common(cover(received, prefix) for prefix in filter_))
        states = [state_of(change) for change in item_change_batch.item_changes]
        allowed = [state for state in states if contained_in_any(filter_, state.partition)]
        source = self.connection.provider.provider_id
        offer = Offer(random_id(), source, filter_, pinned(claims, filter_), received)
        self.begin(offer)
        for chunk in _chunks(offer, allowed, self.max_num):
            self.receive(offer, chunk)
        self.finish(offer)

    def _claimed(self, batch: ItemChangeBatch, claimed: Stamps) -> Mapping[str, Stamps]:
        """Return what the node is to claim once it has a page; keep how far the pages have come."""
        self._chain, claims = follows(batch, claimed, self._chain)
        return claims

    def get_deferred_changes(self, vector_clock: VectorClock, query: Query | None = None) -> ItemChangeBatch:
        """Return nothing: what a node could not apply it tries again by itself, and tells nobody."""
        return ItemChangeBatch([], True, starts_at=vector_clock, ends_at=vector_clock)

    def _refuse(self, query: Query | None) -> None:
        if query is not None:
            raise UsageError(
                f"queries are not carried to {self.connection.base_url}: sync by partitions, which its"
                " certificates speak of"
            )


def _allowed(prefixes: tuple[str, ...], sender: Rights, receiver: Rights) -> tuple[str, ...]:
    if prefixes == (EVERYTHING,):
        return may_flow(sender, receiver).prefixes
    return check_flow(Filter.of(prefixes), sender, receiver).prefixes


def _of_session(chunk: Chunk, session_id: str) -> Chunk:
    return Chunk(session_id, chunk.number, chunk.states, chunk.cursor, chunk.is_last)


def _chunks(offer: Offer, states: list[ItemState], size: int) -> Iterable[Chunk]:
    """Yield states in chunks that a node takes: as many items and characters as one may have."""
    held: list[ItemState] = []
    number, room = 0, wire.CHUNK_CHARACTERS
    for state in states:
        room -= len(state.payload)
        if held and (len(held) == size or room < 0):
            yield Chunk(offer.session_id, number, tuple(held), Cursor(), False)
            number, held, room = number + 1, [], wire.CHUNK_CHARACTERS - len(state.payload)
        held.append(state)
    yield Chunk(offer.session_id, number, tuple(held), Cursor(), True)
