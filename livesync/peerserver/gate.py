"""Whom the server lets in, and what to: chains, signatures, revocations, filters.

A client's chain is verified when its session begins, and what it allows is kept in memory with the session;
whether its certificates are still valid and not revoked is looked at with every request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyramid.request import Request
from pyramid.response import Response

from ..errors import CertificateRefused, ProfileDiffers, UnknownCertificate
from ..peering import wire
from ..peering.chains import read_chain, verify_signatures
from ..peering.rights import Rights, check_flow
from ..peering.scopes import Filter
from ..peering.signatures import sign_answer, verify_request
from ..peering.stored import find_trust
from ..peering.trust import Trust
from ..replication.stores.zodbstore import ZODBDataStore

if TYPE_CHECKING:
    from ..peering.keyring import KeyRing
    from ..peering.records import SyncSessionRecord, SyncSessionView

#: Sessions whose rights are kept in memory.
_KEPT: Final = 1_000


class Gate:
    """Whom the server lets in. Threads may share it.

    Args:
        store: The database.
        keys: The private keys of its certificates.
        clock: Epoch seconds.
    """

    def __init__(self, store: ZODBDataStore, keys: KeyRing, clock: Callable[[], float]) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self._rights: OrderedDict[str, Rights] = OrderedDict()
        self._own: dict[str, Rights] = {}
        self._lock = threading.Lock()

    def trust(self) -> Trust:
        """Return whom the database believes, within a transaction of the store."""
        connection = self.store.connection
        assert connection is not None, "within a transaction of the store"
        return Trust(find_trust(connection.root()))

    # -- signatures --------------------------------------------------------------------------------

    def verify(self, request: Request, packed: bytes, rights: Rights) -> None:
        """Make sure that a request was signed by the holder of a certificate.

        Raises:
            SignatureRefused, DigestDiffers: It was not, or the body is another one.
        """
        keys = {rights.certificate_id: rights.public_key}
        headers = dict(request.headers)
        verify_request(request.method, target_of(request), headers, packed, keys.get, self.clock())

    def sign(self, response: Response, certificate_id: str) -> None:
        """Sign an answer with the key of one of this server's certificates."""
        key = self.keys.get(self.own(certificate_id).public_key)
        headers = dict(response.headers)
        signed = sign_answer(response.status_int, headers, response.body, key, certificate_id, self.clock())
        response.headers.update(signed)

    # -- the client --------------------------------------------------------------------------------

    def admit(self, request: Request, packed: bytes, asked: wire.NewSyncSession) -> Rights:
        """Let a client begin a session: revocations first, then its chain; return its rights.

        Raises:
            PeerRefused: Its chain does not hold, or the request is not signed with its key.
        """
        chain = read_chain(asked.client_chain)
        verify_signatures(chain)
        rights = Rights(tuple(chain))
        # before anything is believed that somebody else may have recorded
        self.verify(request, packed, rights)
        now = self.clock()
        if asked.revocations:
            self.store.run(lambda: self.trust().take_revocations(asked.revocations, now))

        def check() -> None:
            trust = self.trust()
            trust.verify(chain, now, asked.profile)
            self._check_own(trust, asked.server_certificate_id, asked.profile)

        self.store.read(check)
        self._keep(asked.id, rights)
        return rights

    def forget(self, session_id: str) -> None:
        """Keep nothing of a session in memory."""
        with self._lock:
            self._rights.pop(session_id, None)

    def _keep(self, session_id: str, rights: Rights) -> None:
        with self._lock:
            self._rights[session_id] = rights
            self._rights.move_to_end(session_id)
            while len(self._rights) > _KEPT:
                self._rights.popitem(last=False)

    def client_rights(self, record: SyncSessionRecord) -> Rights:
        """Return the rights of a session's client, within a transaction of the store.

        Whether they still hold is for :meth:`check_session` to say.
        """
        with self._lock:
            found = self._rights.get(record.id)
        if found is None:
            chain = read_chain([wire.Signed(text=text, signature=mark) for text, mark in record.client_chain])
            verify_signatures(chain)
            found = Rights(tuple(chain))
            self._keep(record.id, found)
        return found

    def check_session(self, session: SyncSessionView, rights: Rights) -> None:
        """Make sure, within a transaction of the store, that both ends' certificates still hold.

        Raises:
            CertificateRefused: One has expired, or was revoked, or its root is not trusted any more.
        """
        trust = self.trust()
        for each in (rights, self.own(session.server_certificate_id)):
            if each.chain[0].id not in trust.roots:
                raise CertificateRefused(f"root {each.chain[0].id} is not trusted here any more")
            each.check(self.clock(), trust.revoked)

    def check_filter(
        self, session: SyncSessionView, rights: Rights, direction: str, prefixes: tuple[str, ...]
    ) -> None:
        """Make sure that what both certificates allow to be sent contains a filter.

        Raises:
            ScopeExceeded: It does not.
        """
        own = self.own(session.server_certificate_id)
        sender, receiver = (rights, own) if direction == "push" else (own, rights)
        check_flow(Filter.of(prefixes), sender, receiver)

    # -- the server's own certificates -------------------------------------------------------------

    def own(self, certificate_id: str) -> Rights:
        """Return the rights of one of this server's certificates, whether they hold or not.

        Raises:
            CertificateRefused: It is none, or its key is not here.
        """
        found = self._own.get(certificate_id)
        if found is None:
            try:
                chain = self.store.read(lambda: self.trust().chain(certificate_id))
            except UnknownCertificate:
                chain = ()
            if not chain or chain[-1].id != certificate_id or not self.keys.has(chain[-1].public_key):
                raise CertificateRefused(f"certificate {certificate_id} is none of this server's") from None
            verify_signatures(chain)
            found = self._own[certificate_id] = Rights(chain)
        return found

    def _check_own(self, trust: Trust, certificate_id: str, profile: str) -> None:
        own = self.own(certificate_id)
        if own.profile != profile:
            raise ProfileDiffers(f"certificate {certificate_id} is of another profile than the session")
        trust.verify(own.chain, self.clock())

    def pending(self, profile: str, asked: wire.NewSyncSession | None = None) -> list[wire.Signed]:
        """Return the revocations that a client is to be told, within a transaction of the store."""
        told = set() if asked is None else {each.text for each in asked.revocations}
        return [each for each in self.trust().pending(profile) if each.text not in told]


def target_of(request: Request) -> str:
    """Return the path and query of a request as the client wrote them, where the server tells."""
    found: str | None = request.environ.get("REQUEST_URI")
    if found is None:
        found = request.path_qs
    if not found.startswith("/"):  # the absolute form, as it comes through some proxies
        found = "/" + found.partition("://")[2].partition("/")[2]
    return found
