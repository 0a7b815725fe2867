"""A collection on another node: the session with it, with which certificates, and what it says of itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ...database import committed
from ...errors import InvalidOperation, PeerSaysNo, PeerUnreachable, ScopeExceeded, SyncError
from ...peering import historywire
from ...peering.choosing import believed, own_rights
from ...peering.connection import PeerConnection
from ...peering.conversation import Conversation
from ...peering.historywire import partition_of
from ...peering.keyring import KeyRing
from ...peering.peers import Peer
from ...peering.records import StoredSessions, SyncSessionRecord
from ...peering.retrying import Retries
from ...peering.rights import Rights, check_flow
from ...peering.scopes import Filter
from ...peering.trust import TrustStore
from ...process import this_process
from ..values import CODEC, Codec
from .ends import FarBranch, OtherEnd, Refs

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Is told how many bytes have gone or come so far, and how many of all parts are done.
Progress = Callable[[int, int, int], None]


class NodeEnd(OtherEnd):
    """A collection on another node, and what it says of itself. One thread at a time; close it in the end.

    Args:
        db: An open ``ZODB.DB``: this node's.
        name: The collection's.
        peer: Where the other node is, and which certificates are used.
        keys: The private keys of this database.
        direction: ``push`` or ``pull``: what the certificates have to allow.
        client_name: How this database is called, for the people at the other end.
        retries: How often a request is sent again.
        codec: Encodes documents.
        progress: Is told how far a transfer has come.
        chunk_bytes: Bytes of a chunk that are aimed at.
        clock: Epoch seconds.

    Raises:
        NotInstalled: This database has no certificates.
    """

    def __init__(
        self,
        db: Any,
        name: str,
        peer: Peer,
        keys: KeyRing,
        direction: str,
        *,
        client_name: str = "",
        retries: Retries | None = None,
        codec: Codec = CODEC,
        progress: Progress = lambda size, done, total: None,
        chunk_bytes: int = historywire.CHUNK_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.address = peer.name
        #: Whether a transfer went on that was cut before.
        self.resumed = False
        self._db = db
        self._peer = peer
        self._keys = keys
        self._direction = direction
        self._client_name = client_name
        self._codec = codec
        self._progress = progress
        self._chunk_bytes = chunk_bytes
        self._clock = clock
        self._connection = PeerConnection(
            peer.url,
            TrustStore(db),
            keys,
            retries=retries,
            ca_file=peer.ca_file or None,
            insecure_http=peer.insecure_http,
            clock=clock,
        )
        # made before a transaction of the caller's begins, which may change the root, too
        self._stored(lambda stored: None)
        self._conversation: Conversation | None = None
        self._refs: Refs | None = None

    # -- the session ---------------------------------------------------------------------------------

    def _talk(self) -> Conversation:
        """Return the session; it is begun where there is none."""
        if self._conversation is None:
            connection = self._connection
            if "history" not in connection.capabilities:
                raise PeerUnreachable(f"{connection.base_url} exchanges no histories: it is to be updated")
            connection.take_revocations(self._peer.profile)
            own, server = self._choose()
            conversation, _ = connection.begin_session(own, server, client_name=self._client_name)
            self._conversation = conversation
            self._stored(lambda stored: self._note_session(stored, conversation))
        return self._conversation

    def _choose(self) -> tuple[Rights, Rights]:
        """Return the rights of both ends that the session begins with: those that allow what is to be done.

        Raises:
            ScopeExceeded: There are none.
        """
        connection, peer, now = self._connection, self._peer, self._clock()
        own = connection.trust.read(lambda trust: own_rights(trust, self._keys, peer, now))
        shown = connection.get_remote_certificates(peer.profile)
        servers = connection.trust.read(lambda trust: believed(trust, shown, peer, now))
        wanted = Filter.of([partition_of(self.name)])
        refused: ScopeExceeded | None = None
        for mine in own:
            for theirs in servers:
                sender, receiver = (mine, theirs) if self._direction == "push" else (theirs, mine)
                try:
                    check_flow(wanted, sender, receiver)
                except ScopeExceeded as exc:
                    refused = exc
                else:
                    return mine, theirs
        assert refused is not None, "there is a pair of certificates"
        raise ScopeExceeded(
            f"no certificate of this database and none of {peer.name} allow to {self._direction} the history"
            f" of {self.name!r} (partition {partition_of(self.name)})"
        )

    def _note_session(self, stored: StoredSessions, conversation: Conversation) -> None:
        record = SyncSessionRecord(
            conversation.session_id,
            is_server=False,
            profile=self._peer.profile,
            client_certificate_id=conversation.client.certificate_id,
            server_certificate_id=conversation.server.certificate_id,
            started=self._clock(),
            peer=self._connection.base_url,
            process=":".join(map(str, this_process())),
        )
        stored.add_sync(record)

    def _stored(self, work: Callable[[StoredSessions], T]) -> T:
        return committed(self._db, lambda root: work(StoredSessions.get(root)))

    def _ask(self, method: str, path: str, form: type[T] | None, body: Any = None, **options: Any) -> T:
        """Ask within the session.

        Raises:
            InvalidOperation: The other node's history does not take that.
            PeerUnreachable, PeerSaysNo: As of the session.
        """
        conversation = self._talk()
        self._connection.check_rights(conversation)
        try:
            return conversation.ask(method, path, form, body, **options)
        except PeerSaysNo as exc:
            if exc.code == "rejected" and exc.is_signed:
                raise InvalidOperation(str(exc)) from exc
            raise

    def close(self) -> None:
        """End the session, here and, if it can be told, there; what has come in part is kept."""
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            try:
                conversation.end()
            except SyncError as exc:
                logger.info("session %s: its end could not be told: %s", conversation.session_id, exc)
            session_id = conversation.session_id

            def work(stored: StoredSessions) -> None:
                record = stored.sync.get(session_id)
                if record is not None:
                    record.active = False
                    record.last_active = self._clock()

            self._stored(work)
        self._connection.close()

    # -- what it says of itself ----------------------------------------------------------------------

    def refs(self) -> Refs:
        """See :class:`~livesync.versions.remotes.ends.OtherEnd`; asked for once."""
        if self._refs is None:
            query = {"collection": self.name}
            told = self._ask("GET", "/histories", historywire.History, query=query)
            with _understood():
                self._refs = Refs(
                    bytes.fromhex(told.root),
                    {
                        name: FarBranch(bytes.fromhex(one.tip), bytes.fromhex(one.base), one.total)
                        for name, one in told.branches.items()
                    },
                    {name: bytes.fromhex(version) for name, version in told.tags.items()},
                )
        return self._refs

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """See :class:`~livesync.versions.remotes.ends.OtherEnd`."""
        found: set[bytes] = set()
        for start in range(0, len(ids), historywire.MAX_IDS):
            part = [one.hex() for one in ids[start : start + historywire.MAX_IDS]]
            body = historywire.AskVersions(collection=self.name, ids=part)
            told = self._ask("POST", "/knownversions", historywire.KnownVersions, body)
            with _understood():
                found.update(map(bytes.fromhex, told.ids))
        return found & set(ids)


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise PeerUnreachable("the server names versions that are none") from exc
