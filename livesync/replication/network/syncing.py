"""A whole sync with a peer: the certificates are chosen, what was cut goes on, both ways, and it is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final

from ...errors import LiveSyncError, SyncError
from ...host import Host
from ...peering import wire
from ...peering.controller import SessionController, one_line
from ...peering.keyring import KeyRing
from ...peering.peers import Peer, PeerRegistry, SessionOutcome
from ...peering.retrying import Retries
from ...peering.scopes import Filter
from ...peering.signals import SyncClientSignals, TransferProgress
from ...peering.trust import TrustStore
from ..events import EventsManager
from ..provider import ZODBSyncProvider
from ..sessions.locking import DatabaseSyncLock
from ..stores.zodbstore import ZODBDataStore
from .choosing import choose, filter_of, own_certificates
from .client import SyncSessionClient
from .connection import NetworkSyncConnection
from .operations import operations_with
from .remote import RemoteProvider

logger = logging.getLogger(__name__)

#: Is told of the session as it begins, and returns what is to be said of it so far.
_Listen = Callable[[SyncSessionClient], SessionOutcome]

#: What is done, in this order: what others have changed comes in first, so that what goes out has seen it.
DIRECTIONS: Final = ("pull", "push")


class Stopped(SyncError):
    """Raised in a sync that was asked to end; the next one goes on where it was."""


@dataclass(frozen=True)
class PeerSync:
    """Syncs this database with its peers.

    Attributes:
        provider: This database's side of two-way sync.
        trust: Whom it believes.
        keys: Its private keys.
        name: How it is called, for the people at the other end.
        retries: How often a request is sent again.
        stop: Asked between buffers; True ends the sync in good order, to go on another time.
        connect: Called with the signals of each session, before it does anything.
        clock: Epoch seconds.
        timeout_s: Seconds to wait for an answer.
        chunk_size: Items in a buffer, at most.
        host: The application, whose operations are asked first in each stage; None: there is none.
    """

    provider: ZODBSyncProvider
    trust: TrustStore
    keys: KeyRing
    name: str = ""
    retries: Retries = field(default_factory=Retries)
    stop: Callable[[], bool] = lambda: False
    connect: Callable[[SyncClientSignals], None] = lambda signals: None
    clock: Callable[[], float] = time.time
    timeout_s: float = 60.0
    chunk_size: int = wire.CHUNK_SIZE
    host: Host | None = None

    def run(self, peer: Peer, directions: Sequence[str] = DIRECTIONS) -> SessionOutcome:
        """Sync with a peer once, and note how it went.

        What was cut before goes on where it was. A session that fails is left as it is, to be gone on with.

        Args:
            peer: Of the registry.
            directions: ``pull``, ``push``, or both; the pull comes first.

        Raises:
            SyncRunning: Another session of this database is under way.
            LiveSyncError: Whatever ends it; it is noted, and raised.
        """

        def work(connection: NetworkSyncConnection, listen: _Listen) -> SessionOutcome:
            client = self._session(connection, peer)
            outcome = listen(client)
            for direction in DIRECTIONS:
                if direction in directions:
                    sync_filter = filter_of(peer, direction, client.client, client.server)
                    outcome = self._through(client, peer, direction, sync_filter, outcome)
            connection.close_sync_session(client)
            return outcome

        return self._noted(peer, work)

    def resume(self, peer: Peer, session_id: str, ignore_existing_process: bool = False) -> SessionOutcome:
        """Go on with the transfers of a session that was cut, and close it; see :meth:`run`.

        Args:
            peer: With whom it is.
            session_id: The sync session.
            ignore_existing_process: Even if the process that began it seems to be at work.

        Raises:
            UnknownPeer: This database has begun no such session.
            SyncRunning: Another process is at work on it.
            LiveSyncError: Whatever ends it; it is noted, and raised.
        """

        def work(connection: NetworkSyncConnection, listen: _Listen) -> SessionOutcome:
            client = connection.resume_sync_session(
                session_id, ignore_existing_process=ignore_existing_process
            )
            outcome = listen(client)
            for view in client.transfers():
                outcome = self._through(client, peer, view.direction, Filter.of(view.prefixes), outcome)
            connection.close_sync_session(client)
            return outcome

        return self._noted(peer, work)

    def _noted(
        self, peer: Peer, work: Callable[[NetworkSyncConnection, _Listen], SessionOutcome]
    ) -> SessionOutcome:
        """Do the work of a session while nobody else syncs this database, and note how it went."""
        store = self.provider.data_store
        assert isinstance(store, ZODBDataStore)
        events = self.provider.events_manager
        conflicts = _Conflicts()
        self.provider.events_manager = self.provider.node.events = conflicts
        try:
            with DatabaseSyncLock(store, clock=self.clock).lock():
                return self._note(peer, work, PeerRegistry(store.db), conflicts)
        finally:
            self.provider.events_manager = self.provider.node.events = events

    def _note(
        self,
        peer: Peer,
        work: Callable[[NetworkSyncConnection, _Listen], SessionOutcome],
        registry: PeerRegistry,
        conflicts: _Conflicts,
    ) -> SessionOutcome:
        connection = self.connection(peer)
        outcome = SessionOutcome("", self.clock(), self.clock())
        error = "it was broken off"

        def listen(client: SyncSessionClient) -> SessionOutcome:
            nonlocal outcome
            outcome = replace(outcome, session_id=client.session_id)
            client.signals.transferring.in_progress.connect(self._check_stop)
            self.connect(client.signals)
            return outcome

        try:
            with closing(connection):
                outcome = work(connection, listen)
                error = ""
        except BaseException as exc:
            error = str(exc) if isinstance(exc, LiveSyncError) else one_line(exc)
            raise
        finally:
            outcome = replace(
                outcome,
                ended=self.clock(),
                error=" ".join(error.split())[:1000],
                conflicts=conflicts.count,
                bytes_sent=connection.bytes_sent,
                bytes_received=connection.bytes_received,
            )
            registry.note(peer.name, outcome)
            logger.info(
                "peer %s: session %s: %d pulled, %d pushed, %d refused, %d conflicts, %.3f s%s",
                peer.name,
                outcome.session_id,
                outcome.pulled,
                outcome.pushed,
                outcome.refused,
                outcome.conflicts,
                outcome.ended - outcome.began,
                f": {outcome.error}" if outcome.error else "",
            )
        return outcome

    def connection(self, peer: Peer) -> NetworkSyncConnection:
        """Return a connection to a peer; nothing is sent yet."""
        return NetworkSyncConnection(
            peer.url,
            self.provider,
            self.trust,
            self.keys,
            client_name=self.name,
            controller=SessionController(operations_with(self.host)),
            retries=self.retries,
            ca_file=peer.ca_file or None,
            insecure_http=peer.insecure_http,
            clock=self.clock,
            timeout_s=self.timeout_s,
            chunk_size=self.chunk_size,
        )

    def remote(self, peer: Peer) -> RemoteProvider:
        """Return a peer's provider, to be orchestrated with this database's; it is to be closed."""
        return RemoteProvider(self.connection(peer), peer)

    def _session(self, connection: NetworkSyncConnection, peer: Peer) -> SyncSessionClient:
        connection.prepare_session(peer.profile, own_certificates(connection, peer))  # is anybody there?
        connection.take_revocations(peer.profile)
        own, server = choose(connection, peer)
        client = connection.create_sync_session(own.certificate_id, server.chain)
        # we hold the lock: nobody is at work on an earlier one, and its transfers go on in this one
        connection.end_earlier(client.session_id)
        return client

    @staticmethod
    def _through(
        client: SyncSessionClient, peer: Peer, direction: str, sync_filter: Filter, outcome: SessionOutcome
    ) -> SessionOutcome:
        if not sync_filter:
            logger.info("peer %s: the certificates allow no %s", peer.name, direction)
            return outcome
        initiate = client.initiate_push if direction == "push" else client.initiate_pull
        was_cut = client.unfinished(direction, sync_filter.prefixes) is not None
        done = initiate(sync_filter)
        if was_cut:
            # it was pinned when it began: what has changed since may be left
            news = initiate(sync_filter)
            done = replace(done, items=done.items + news.items, refused=done.refused + news.refused)
        if direction == "push":
            outcome = replace(outcome, pushed=done.items)
        else:
            outcome = replace(outcome, pulled=done.items)
        return replace(
            outcome,
            refused=outcome.refused + done.refused,
            resumed=outcome.resumed or bool(done.resumed),
        )

    def _check_stop(self, progress: TransferProgress) -> None:
        if self.stop():
            raise Stopped("the sync was asked to end; the next one goes on where it was")


class _Conflicts(EventsManager):
    """Counts conflicts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_conflict_resolved(self, conflict_log: object) -> None:
        """Count one."""
        self.count += 1
