"""Sessions with a peer over HTTP: they are begun, gone on with, and closed here.

A session that was cut is gone on with: in the same one, if the server still knows it, or else in a new one
between the same certificates. Its transfers go on at the last buffer that the receiver has confirmed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ...errors import ClockAhead, PeerSaysNo, PeerUnreachable, SyncError, SyncRunning, UnknownPeer
from ...peering import wire
from ...peering.certificates import Certificate
from ...peering.connection import PeerConnection
from ...peering.controller import SessionController
from ...peering.conversation import Conversation
from ...peering.keyring import KeyRing
from ...peering.records import StoredSessions, SyncSessionRecord, SyncSessionView
from ...peering.rights import Rights
from ...peering.trust import TrustStore
from ...process import ProcessIdentity, is_dead, this_process
from .. import identity
from ..metadata.clocks import moment_of
from ..provider import BaseSyncProvider
from ..sessions.steps import Introduction
from ..stores.zodbstore import ZODBDataStore
from .client import SyncSessionClient
from .operations import OPERATIONS
from .transfers import Transfer
from .wired import introduction_of, introduction_to_wire

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a session is begun anew: since this database takes a new id, or a nonce came too late.
_BEGINNINGS: Final = 4


class NetworkSyncConnection(PeerConnection):
    """A connection to a peer, for sessions with it. One thread at a time.

    Args:
        base_url: Where its server is: ``https://sync.example.org``, or with a prefix.
        provider: This database's side of two-way sync.
        trust: Whom it believes.
        keys: Its private keys.
        client_name: How it is called, for the people at the other end.
        controller: Runs the stages of transfers; None: livesync's own.
        options: As of :class:`~livesync.peering.connection.PeerConnection`.

    Raises:
        UsageError: The URL is none that can be used.
    """

    def __init__(
        self,
        base_url: str,
        provider: BaseSyncProvider,
        trust: TrustStore,
        keys: KeyRing,
        *,
        client_name: str = "",
        controller: SessionController[Transfer] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(base_url, trust, keys, **options)
        store = provider.data_store
        if not isinstance(store, ZODBDataStore):
            raise TypeError("sessions with peers need a store in a database")
        self.provider = provider
        self.store = store
        self.client_name = client_name
        self.controller = controller or SessionController(OPERATIONS)

    # -- sessions --------------------------------------------------------------------------------------

    def create_sync_session(
        self, client_certificate_id: str, server_chain: Sequence[Certificate], chunk_size: int | None = None
    ) -> SyncSessionClient:
        """Begin a session.

        Args:
            client_certificate_id: A certificate of this database.
            server_chain: The server's certificate, last, with those above it.
            chunk_size: Items in a buffer, at most; None: as the connection says.

        Raises:
            UnknownCertificate: There is no such certificate here.
            CertificateRefused: One of the two does not hold.
            KeyUnusable: The private key is not here.
            PeerUnreachable: There is no usable answer.
            PeerSaysNo: The server refuses.
            ClockAhead: Its clock is too far ahead.
        """
        self.server_info  # noqa: B018 - that the versions fit, and how bodies may be packed
        now = self.clock()
        client = self.trust.read(lambda trust: trust.rights(client_certificate_id, now))
        server = self.trust.read(lambda trust: trust.verify(server_chain, now, client.profile))
        for _ in range(_BEGINNINGS):
            try:
                conversation, told = self._begin(client, server)
            except PeerSaysNo as exc:
                if exc.code == "copy" and exc.is_signed:
                    logger.warning("this database is a copy of the server's: it takes a new id")
                    identity.renew(self.provider.node, truthful=False)
                elif exc.code != "nonce":
                    raise
                failure: Exception = exc
                continue
            if not self._meet(told):
                view = self._note_session(conversation, told)
                return SyncSessionClient(self, conversation, view, chunk_size or self.chunk_size)
            logger.warning("this database was restored or copied: it has a new id")
            failure = PeerUnreachable(f"{self.base_url} and this database do not come to know each other")
            conversation.end()
        raise failure

    def _begin(self, client: Rights, server: Rights) -> tuple[Conversation, wire.SyncSession]:
        known = self.server_info.provider_id
        introduction = introduction_to_wire(self.provider.introduce(), known)
        return self.begin_session(client, server, introduction, self.client_name)

    def _meet(self, told: wire.SyncSession) -> bool:
        """Compare what the server knows of this database; tell whether this one took a new id."""
        other = introduction_of(_introduction(told))
        self._check_clock(other)
        return self.provider.meet(other)

    def _check_clock(self, other: Introduction) -> None:
        node = self.provider.node
        latest = node.now() + round(node.max_drift_s * 1_000_000)
        newest = max((other.newest, *other.known.values()))
        if newest > latest:
            moment = moment_of(newest).isoformat(timespec="seconds")
            raise ClockAhead(
                f"the server speaks of {moment}, too far in the future; set the clocks of both nodes, and"
                " sync again"
            )

    def resume_sync_session(
        self, sync_session_id: str, chunk_size: int | None = None, ignore_existing_process: bool = False
    ) -> SyncSessionClient:
        """Go on with a session that was cut; its transfers are gone on with as they are asked for again.

        Args:
            sync_session_id: A session that this database has begun.
            chunk_size: Items in a buffer, at most; None: as the connection says.
            ignore_existing_process: Go on even if the process that began it seems to be at work.

        Raises:
            UnknownPeer: There is no such session.
            SyncRunning: Another process is at work on it.
        """
        view = self.run_stored(lambda stored: self._client_record(stored, sync_session_id).view())
        if not view.peer_provider_id:
            raise UnknownPeer(
                f"session {view.id} is one of a history: what was cut goes on with the next"
                " `livesync version push` or `livesync version pull`"
            )
        process = _process_of(view.process)
        if not (ignore_existing_process or process is None or process == this_process() or is_dead(process)):
            raise SyncRunning(f"process {process[1]} of {process[0]} is at work on session {view.id}")
        self.server_info  # noqa: B018 - how bodies may be packed
        now = self.clock()
        client = self.trust.read(lambda trust: trust.rights(view.client_certificate_id, now))
        chain = next(
            (
                found
                for found in self.get_remote_certificates(view.profile)
                if found[-1].id == view.server_certificate_id
            ),
            None,
        )
        if chain is None:
            raise PeerUnreachable(
                f"{self.base_url} does not have certificate {view.server_certificate_id} any more: begin a"
                " new session"
            )
        server = self.trust.read(lambda trust: trust.verify(chain, now, view.profile))
        key = self.keys.get(client.public_key)
        conversation = Conversation(self._asking, view.id, key, client, server, self.clock)
        told = self._standing(conversation, view)
        if told is None:
            resumed = self.create_sync_session(client.certificate_id, chain, chunk_size)
            self.run_stored(lambda stored: _move(stored, view.id, resumed.session_id))
            return resumed
        self.trust.run(lambda trust: trust.take_revocations(told.revocations, now))
        self.check_rights(conversation)
        self.run_stored(lambda stored: self._take_over(stored, view.id))
        return SyncSessionClient(self, conversation, view, chunk_size or self.chunk_size)

    def _standing(self, conversation: Conversation, view: SyncSessionView) -> wire.SyncSession | None:
        """Return how a session stands at the server; None: it does not go on there."""
        try:
            told = conversation.standing()
        except PeerSaysNo as exc:
            if exc.code in ("no_such_thing", "ended", "signature"):
                return None
            raise
        same = told.active and _introduction(told).provider_id == view.peer_provider_id
        return told if same and not self._meet(told) else None

    def close_sync_session(self, client: SyncSessionClient) -> None:
        """End a session, here and, if it can be told, there."""
        try:
            client.conversation.end()
        except SyncError as exc:
            logger.info("session %s: its end could not be told: %s", client.session_id, exc)
        now = self.clock()

        def work(stored: StoredSessions) -> None:
            record = stored.sync.get(client.session_id)
            if record is not None:
                stored.end_sync(record, now)

        self.run_stored(work)

    def end_earlier(self, session_id: str) -> int:
        """Note that the sessions which this database began with this peer before are at work no more.

        Their transfers stay, to be gone on with.

        Args:
            session_id: The one that is at work.

        Returns:
            How many there were.
        """

        def work(stored: StoredSessions) -> int:
            earlier = [
                record
                for record in stored.sessions_going_on()
                if not record.is_server and record.peer == self.base_url and record.id != session_id
            ]
            for record in earlier:
                record.active = False
            return len(earlier)

        return self.run_stored(work)

    # -- what is kept ----------------------------------------------------------------------------------

    def run_stored(self, work: Callable[[StoredSessions], T]) -> T:
        """Carry out ``work`` on what is kept of sessions, in a transaction of its own."""

        def inside() -> T:
            assert self.store.connection is not None
            return work(StoredSessions.get(self.store.connection.root()))

        return self.store.run(inside)

    def _note_session(self, conversation: Conversation, told: wire.SyncSession) -> SyncSessionView:
        def work(stored: StoredSessions) -> SyncSessionView:
            record = SyncSessionRecord(
                told.id,
                is_server=False,
                profile=told.profile,
                client_certificate_id=conversation.client.certificate_id,
                server_certificate_id=conversation.server.certificate_id,
                started=self.clock(),
                peer=self.base_url,
                peer_provider_id=_introduction(told).provider_id,
                process=":".join(map(str, this_process())),
            )
            stored.add_sync(record)
            return record.view()

        return self.run_stored(work)

    def _take_over(self, stored: StoredSessions, session_id: str) -> None:
        record = self._client_record(stored, session_id)
        record.process = ":".join(map(str, this_process()))
        record.last_active = self.clock()

    @staticmethod
    def _client_record(stored: StoredSessions, session_id: str) -> SyncSessionRecord:
        record = stored.sync.get(session_id)
        if record is None or record.is_server:
            raise UnknownPeer(f"this database has begun no session {session_id!r}: livesync peer sessions")
        assert isinstance(record, SyncSessionRecord)
        return record


def _introduction(told: wire.SyncSession) -> wire.Introduction:
    """Return how the server introduces itself.

    Raises:
        PeerUnreachable: It does not.
    """
    if told.introduction is None:
        raise PeerUnreachable("the server does not say which provider it is")
    return told.introduction


def _move(stored: StoredSessions, old: str, new: str) -> None:
    """Let the transfers of one session go on in another."""
    for record in stored.transfers_going_on(old):
        record.sync_session_id = new
    if old in stored.sync:
        stored.sync[old].active = False


def _process_of(text: str) -> ProcessIdentity | None:
    host, _, rest = text.rpartition(":")
    host, _, pid = host.rpartition(":")
    return (host, int(pid), int(rest)) if host and pid.isdigit() and rest.isdigit() else None
