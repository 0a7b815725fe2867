"""A connection to another livesync node over HTTP, for what comes before a session: who it is, and trust.

:class:`livesync.replication.network.connection.NetworkSyncConnection` adds sessions to it.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from ..errors import CertificateRefused, PeerSaysNo, PeerUnreachable, ProfileDiffers, UsageError
from . import compression, wire
from .certificates import Certificate
from .chains import read_chain, verify_signatures
from .conversation import Asking, Conversation
from .http import PeerHTTP
from .keyring import KeyRing
from .keys import PublicKey
from .nonces import FOR_PUSH
from .retrying import Retries
from .revocation import Revocation
from .rights import Rights
from .scopes import ScopeDefinition
from .signing import sign_for_push
from .trust import Trust, TrustStore

#: Seconds to wait for a connection, and for each part of an answer.
TIMEOUT_S: Final = 60.0


class PeerConnection:
    """A connection to a peer. One thread at a time.

    Args:
        base_url: Where its server is: ``https://sync.example.org`` or with a prefix.
        trust: Whom this database believes.
        keys: The private keys of this database.
        retries: How often a request is sent again, and after which waits.
        chunk_size: Items in a buffer, at most.
        encodings: How bodies may be packed, of :data:`~livesync.peering.compression.ENCODINGS`; those that
            the server knows are used.
        timeout_s: Seconds to wait for each part of an answer; for a connection, 15 at most.
        ca_file: Certificates of TLS that are trusted in place of the system's.
        insecure_http: Take a URL that begins with ``http://``, too.
        clock: Returns epoch seconds.

    Raises:
        UsageError: The URL is none that can be used.
    """

    def __init__(
        self,
        base_url: str,
        trust: TrustStore,
        keys: KeyRing,
        *,
        retries: Retries | None = None,
        chunk_size: int = wire.CHUNK_SIZE,
        encodings: Collection[str] = compression.ENCODINGS,
        timeout_s: float = TIMEOUT_S,
        ca_file: str | None = None,
        insecure_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 1 <= chunk_size <= wire.CHUNK_SIZE:
            raise UsageError(f"a buffer holds 1 to {wire.CHUNK_SIZE} items, not {chunk_size}")
        self.trust = trust
        self.keys = keys
        self.chunk_size = chunk_size
        self.clock = clock
        self._http = PeerHTTP(base_url, timeout_s=timeout_s, ca_file=ca_file, insecure_http=insecure_http)
        self._asking = Asking(self._http, retries or Retries(), ())
        self._encodings = tuple(name for name in compression.ENCODINGS if name in encodings)
        self._info: wire.Info | None = None
        #: What the server told with that, and was not used yet.
        self._revocations: dict[str, list[wire.Signed]] = {}
        self._chains: dict[str, list[list[wire.Signed]]] = {}
        self._nonces: dict[str, str] = {}

    @property
    def base_url(self) -> str:
        """Where the peer is."""
        return self._http.base_url

    @property
    def bytes_sent(self) -> int:
        """Bytes of bodies sent, as they travelled."""
        return self._http.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of bodies received, as they travelled."""
        return self._http.bytes_received

    @property
    def server_info(self) -> wire.Info:
        """What the server says of itself; asked for once.

        Raises:
            PeerUnreachable: It gives no usable answer, or talks another version of the protocol.
        """
        if self._info is None:
            self._meet_server({})
        assert self._info is not None
        return self._info

    def prepare_session(self, profile: str, certificate_ids: Sequence[str]) -> None:
        """Ask who the server is, and for what else a session needs: a server that can tells it in one answer.

        What it tells so is used once; nothing happens where it was asked before.

        Args:
            profile: Of the session.
            certificate_ids: Of the certificates that it may begin with.

        Raises:
            PeerUnreachable: It gives no usable answer, or talks another version of the protocol.
        """
        headers = {wire.PROFILE: quote(profile, safe="")}
        if certificate_ids:
            headers[wire.CLIENTS] = ",".join(certificate_ids[: wire.MAX_CLIENTS])
        if self._info is None:
            self._meet_server(headers)

    def _meet_server(self, headers: Mapping[str, str]) -> None:
        def check(told: wire.Info) -> None:
            if told.meeting is not None:
                _check_revocations(told.meeting.revocations)
                for signed in told.meeting.chains:
                    self._checked_chain(signed, told.meeting.profile)

        info = self._asking.ask("GET", "/info", wire.Info, headers=headers, check=check)
        if info.protocol != wire.PROTOCOL:
            raise PeerUnreachable(
                f"{self.base_url} talks version {info.protocol} of the protocol, this livesync"
                f" version {wire.PROTOCOL}: the older one of both is to be updated"
            )
        self._asking.encodings = tuple(name for name in self._encodings if name in info.capabilities)
        self.chunk_size = max(1, min(self.chunk_size, info.chunk_size))
        self._info = info
        if info.meeting is not None:
            self._revocations[info.meeting.profile] = info.meeting.revocations
            self._chains[info.meeting.profile] = info.meeting.chains
            self._nonces.update(info.meeting.nonces)

    @property
    def capabilities(self) -> frozenset[str]:
        """What both ends can do."""
        return wire.CAPABILITIES & frozenset(self.server_info.capabilities)

    def _check_capability(self, word: str, what: str) -> None:
        if word not in self.server_info.capabilities:
            raise PeerUnreachable(f"{self.base_url} does not {what}")

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """Wait longer for answers within the block."""
        before = self._http.timeout_s
        self._http.timeout_s = max(before, seconds)
        try:
            yield
        finally:
            self._http.timeout_s = before

    # -- trust ---------------------------------------------------------------------------------------

    def get_remote_certificates(
        self, profile: str, primary_partition: str | None = None, scope_definition_id: str | None = None
    ) -> list[tuple[Certificate, ...]]:
        """Return chains of certificates that the server has keys for.

        Their signatures hold; whether their roots are trusted here is not looked at.

        Args:
            profile: Of which profile.
            primary_partition: Only those whose scope has something to do with this partition.
            scope_definition_id: Only those with this scope.

        Raises:
            PeerUnreachable: There is no usable answer: what it shows are no certificates, for example.
            PeerSaysNo: It refuses.
        """
        self.server_info  # noqa: B018 - that the versions fit
        query = {"profile": profile}
        if primary_partition is not None:
            query["primary_partition"] = primary_partition
        found: list[tuple[Certificate, ...]] = []

        def check(told: wire.Certificates) -> None:
            found[:] = [self._checked_chain(signed, profile) for signed in told.chains]

        met = self._chains.pop(profile, None) if primary_partition is None else None
        if met is not None:
            check(wire.Certificates(chains=met))
        else:
            self._asking.ask("GET", "/certificates", wire.Certificates, query=query, check=check)
        return [chain for chain in found if scope_definition_id in (None, chain[-1].scope_definition_id)]

    @staticmethod
    def _checked_chain(signed: Sequence[wire.Signed], profile: str) -> tuple[Certificate, ...]:
        chain = tuple(read_chain(signed))
        verify_signatures(chain)
        if chain[-1].profile != profile:
            raise ProfileDiffers(
                f"the peer shows a certificate of profile {chain[-1].profile}, not {profile}"
            )
        return chain

    def certificate_signing_request(
        self,
        parent: Certificate,
        scope_definition_id: str,
        scope_params: Mapping[str, str],
        username: str,
        password: str,
        *,
        trust_root: bool = False,
        valid_s: float = 0.0,
    ) -> tuple[Certificate, ...]:
        """Ask the server for a certificate for a new key of this database, and keep it.

        Args:
            parent: Of the server's certificates, the one that is to sign.
            scope_definition_id: What kind of rights.
            scope_params: Values of its parameters.
            username, password: Of somebody who may give them, on the server.
            trust_root: Believe the root of the chain from now on.
            valid_s: For how many seconds; 0: as long as the server gives it.

        Returns:
            The chain of the new certificate, the root first.

        Raises:
            PeerUnreachable: There is no usable answer.
            PeerSaysNo: It refuses.
            CertificateRefused: It answers something else than was asked for, or its root is not trusted.
            KeyUnusable: The new key cannot be kept.
        """
        self._check_capability("signing-requests", "answer signing requests")
        if ":" in username:
            raise UsageError("a user name with a colon cannot be sent (HTTP Basic)")
        login = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        with self.keys.new_key() as key:
            body = wire.SigningRequest(
                parent=parent.id,
                profile=parent.profile,
                scope_definition=scope_definition_id,
                scope_params=dict(scope_params),
                public_key=str(key.public),
                valid_s=valid_s,
            )
            answer = self._asking.ask(
                "POST",
                "/certificates",
                wire.NewCertificate,
                body,
                headers={"Authorization": f"Basic {login}"},
            )
            chain = self._checked_chain(answer.chain, parent.profile)
            given = chain[-1]
            asked = (key.public, parent.id, scope_definition_id, dict(scope_params))
            said = (given.public_key, given.parent, given.scope_definition_id, dict(given.scope_params))
            if said != asked:
                raise CertificateRefused("the peer gives another certificate than it was asked for")
            now = self.clock()
            self.trust.run(lambda trust: trust.save_chain(chain, now, parent.profile, trust_root=trust_root))
        return chain

    def push_signed_client_certificate_chain(
        self,
        local_parent: Certificate,
        scope_definition: ScopeDefinition,
        scope_params: Mapping[str, str],
        valid_s: float | None = None,
    ) -> tuple[Certificate, ...]:
        """Sign a certificate for the key that the server shares, and give it to the server.

        Args:
            local_parent: A certificate of this database, whose key signs.
            scope_definition: What kind of rights the server gets.
            scope_params: Values of its parameters.
            valid_s: For how many seconds; None: a year.

        Returns:
            The chain that was pushed, the root first.

        Raises:
            PeerUnreachable: There is no usable answer.
            PeerSaysNo: It refuses.
            CertificateRefused: The parent does not allow it.
            KeyUnusable: Its key is not here.
        """
        self._check_capability("certificate-pushing", "take certificates")
        text = self._asking.ask("GET", "/publickey", wire.PublicKey).public_key
        try:
            public_key = PublicKey.read(text)
        except ValueError as exc:
            raise CertificateRefused("what the peer shares is no public key") from exc
        nonce = self.get_nonce(FOR_PUSH)
        now = self.clock()
        more = {} if valid_s is None else {"valid_s": valid_s}
        chain = self.trust.run(
            lambda trust: sign_for_push(
                trust,
                self.keys,
                local_parent.id,
                scope_definition,
                scope_params,
                public_key,
                nonce,
                now,
                **more,
            )
        )
        body = wire.PushedChain(chain=[certificate.signed for certificate in chain])
        try:
            self._asking.ask("POST", "/certificatechains", None, body)
        except PeerSaysNo as exc:
            # sent twice, since the first answer was lost: then the nonce is used, and the chain is there
            if exc.code != "nonce" or not self._has(chain):
                raise
        return chain

    def _has(self, chain: Sequence[Certificate]) -> bool:
        shown = self.get_remote_certificates(chain[-1].profile)
        return any(found[-1].id == chain[-1].id for found in shown)

    def get_nonce(self, client: str) -> str:
        """Return a nonce for a client: the id of its certificate, or that a certificate is pushed."""
        met = self._nonces.pop(client, None)
        return met or self._asking.ask("POST", "/nonces", wire.Nonce, wire.NewNonce(client=client)).nonce

    def take_revocations(self, profile: str) -> int:
        """Take in what the server knows of revocations; return how many were new.

        Raises:
            PeerUnreachable: There is no usable answer: one of them is none, for example. Nothing is kept.
        """
        told = self._revocations.pop(profile, None)
        if told is None:
            told = self._asking.ask(
                "GET",
                "/revocations",
                wire.RevocationList,
                query={"profile": profile},
                check=lambda each: _check_revocations(each.revocations),
            ).revocations
        now = self.clock()
        return len(self.trust.run(lambda trust: trust.take_revocations(told, now)))

    # -- sessions ------------------------------------------------------------------------------------

    def begin_session(
        self,
        client: Rights,
        server: Rights,
        introduction: wire.Introduction | None = None,
        client_name: str = "",
    ) -> tuple[Conversation, wire.SyncSession]:
        """Begin a session; return it, and what the server said.

        Args:
            client, server: The rights that both begin it with.
            introduction: Of a provider of two-way sync; None: the session is for histories only.
            client_name: How this database is called, for the people at the other end.

        Raises:
            CertificateRefused: One of the two does not hold.
            KeyUnusable: The private key is not here.
            PeerUnreachable: There is no usable answer.
            PeerSaysNo: The server refuses.
        """
        conversation = Conversation(
            self._asking, uuid.uuid4().hex, self.keys.get(client.public_key), client, server, self.clock
        )
        body = wire.NewSyncSession(
            id=conversation.session_id,
            nonce=self.get_nonce(client.certificate_id),
            profile=client.profile,
            client_chain=[certificate.signed for certificate in client.chain],
            server_certificate_id=server.certificate_id,
            introduction=introduction,
            revocations=self.trust.read(lambda trust: trust.pending(client.profile)),
            client_name=client_name[:200],
        )
        told = conversation.begin(body)
        now = self.clock()
        self.trust.run(lambda trust: trust.take_revocations(told.revocations, now))
        self.check_rights(conversation)
        return conversation, told

    def check_rights(self, conversation: Conversation) -> None:
        """Make sure that the certificates of both ends still hold.

        Raises:
            CertificateRefused: One has expired, or was revoked, or its root is not trusted any more.
        """
        now = self.clock()

        def work(trust: Trust) -> None:
            for rights in (conversation.client, conversation.server):
                rights.check(now, trust.revoked)

        self.trust.read(work)

    def close(self) -> None:
        """Close the connections of HTTP."""
        self._http.close()


def _check_revocations(told: Sequence[wire.Signed]) -> None:
    for each in told:
        Revocation.read(each)
