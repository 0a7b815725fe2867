"""Who is given a certificate: signing requests with a password, and chains that are pushed.

A client that has none asks a server for one: it sends its public key, the scope that it wants, and the name
and password of somebody who may give it. Or, the other way round, a client that has a certificate signs one
for the key that a server shares, and pushes the chain to it.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping, Sequence

from ..errors import (
    CertificateRefused,
    LoginRefused,
    NotAllowed,
    ProfileDiffers,
    ScopeExceeded,
    UnknownCertificate,
    UnknownScope,
)
from .certificates import Certificate
from .issuing import VALID_S, sign_certificate
from .keyring import KeyRing
from .keys import PublicKey
from .nonces import FOR_PUSH
from .randomness import Random
from .rights import Rights
from .scopes import Scope, ScopeDefinition
from .trust import Trust, TrustStore
from .wire import SigningRequest

#: Tells whether a user of this name has this password and may give certificates.
Login = Callable[[str, str], bool]

#: Tells whether a user may give this scope; what a host knows of its users.
MayGive = Callable[[str, Scope], bool]

_MAX_HEADER = 4_000


def read_login(authorization: str | None) -> tuple[str, str]:
    """Return name and password of ``Authorization`` (HTTP Basic, RFC 7617).

    Raises:
        LoginRefused: It holds none.
    """
    kind, _, value = (authorization or "").strip().partition(" ")
    try:
        if kind.lower() != "basic" or len(value) > _MAX_HEADER:
            raise LoginRefused("a signing request comes with a user name and a password (HTTP Basic)")
        text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise LoginRefused("the user name and the password cannot be read (HTTP Basic)") from None
    name, colon, password = text.partition(":")
    if not (name and colon):
        raise LoginRefused("a signing request comes with a user name and a password (HTTP Basic)")
    return name, password


def check_login(authorization: str | None, login: Login) -> str:
    """Return the name of the user of ``Authorization``.

    Raises:
        LoginRefused: It holds no name and password, or not the right ones; which one is wrong is not told.
    """
    name, password = read_login(authorization)
    if not login(name, password):
        raise LoginRefused("the user name or the password is wrong, or this user gives no certificates")
    return name


def answer_request(
    trust: Trust,
    keys: KeyRing,
    request: SigningRequest,
    now: float,
    *,
    user: str,
    may_give: MayGive | None = None,
    random: Random = os.urandom,
) -> tuple[Certificate, ...]:
    """Return the chain that ends with the certificate that was asked for, which is kept.

    Args:
        trust: This server's.
        keys: Its keys: that of the parent is among them.
        request: What the client asks for.
        now: Epoch seconds.
        user: Who answers for it, as :func:`check_login` says.
        may_give: Whether this user may give this scope; None: whoever may log in.
        random: Returns random bytes.

    Raises:
        PeerRefused: It cannot have it; its subclasses say why.
        KeyUnusable: The parent's key cannot be used.
    """
    try:
        rights = trust.rights(request.parent, now)
        definition = trust.definition(request.profile, request.scope_definition)
    except (UnknownCertificate, UnknownScope) as exc:
        raise NotAllowed(str(exc).partition(";")[0]) from None
    parent = rights.certificate
    if not keys.has(parent.public_key):
        raise NotAllowed(f"this server does not sign with certificate {parent.id}")
    if parent.profile != request.profile:
        raise ProfileDiffers(f"certificate {parent.id} is of profile {parent.profile}, not {request.profile}")
    scope, public_key = _asked(definition, request)
    if not scope.is_subset_of(parent.scope):
        raise ScopeExceeded(f"certificate {parent.id} does not allow all that is asked for")
    if may_give is not None and not may_give(user, scope):
        raise NotAllowed("this user may not give a certificate for that")
    child = sign_certificate(
        parent,
        keys.get(parent.public_key),
        public_key,
        scope,
        now=now,
        valid_s=min(request.valid_s or VALID_S, VALID_S),
        random=random,
    )
    chain = (*rights.chain, child)
    trust.save_chain(chain, now)
    return chain


def _asked(definition: ScopeDefinition, request: SigningRequest) -> tuple[Scope, PublicKey]:
    try:
        return definition.get_scope(request.scope_params), PublicKey.read(request.public_key)
    except ValueError as exc:
        raise CertificateRefused(f"this certificate cannot be made: {exc}") from exc


def sign_for_push(
    trust: Trust,
    keys: KeyRing,
    parent: str,
    definition: ScopeDefinition,
    params: Mapping[str, str],
    public_key: PublicKey,
    nonce: str,
    now: float,
    valid_s: float = VALID_S,
) -> tuple[Certificate, ...]:
    """Return a chain for the key that a server shares, to be pushed to it; it is kept here, too.

    Args:
        trust: The client's.
        keys: Its keys: that of the parent is among them.
        parent: The id of the certificate that is to sign.
        definition: Of the scope that the server gets.
        params: Values of its parameters.
        public_key: The server's shared one.
        nonce: The server's, asked for :data:`~livesync.peering.nonces.FOR_PUSH`.
        now: Epoch seconds.
        valid_s: For how long, in seconds.

    Raises:
        UnknownCertificate, CertificateRefused: The parent is not here, does not hold, or does not allow it.
        KeyUnusable: Its key is not here.
        ValueError: The parameters are not those of the definition.
    """
    rights = trust.rights(parent, now)
    child = sign_certificate(
        rights.certificate,
        keys.get(rights.public_key),
        public_key,
        definition.get_scope(params),
        now=now,
        valid_s=valid_s,
        salt=nonce,
    )
    chain = (*rights.chain, child)
    trust.save_chain(chain, now)
    return chain


def take_pushed(trust: Trust, chain: Sequence[Certificate], now: float) -> Rights:
    """Keep a chain that was pushed to this server, and return its rights.

    Its root need not be trusted before, if it rules over its own and nothing else: what the chain allows
    then is nothing that anybody had before.

    Raises:
        NotAllowed: It is not for the key that this server shares, or its root is unknown and rules over
            more than its own.
        NonceRefused: Its salt is no nonce of this server's.
        CertificateRefused: The chain does not hold.
    """
    if not chain:
        raise CertificateRefused("a chain has at least one certificate")
    if trust.shared_key is None or chain[-1].public_key != trust.shared_key:
        raise NotAllowed("the last certificate is not for the key that this server shares: ask for it again")
    root = chain[0]
    known = root.id in trust.roots
    if not known and not root.rules_its_own:
        raise NotAllowed(f"root {root.id} is not trusted here, and rules over more than its own")
    trust.use_nonce(chain[-1].salt, FOR_PUSH, now)
    return trust.save_chain(chain, now, trust_root=not known)


class SharedKey:
    """The key of a server that certificates may be pushed for."""

    @staticmethod
    def get_or_create_shared_key(store: TrustStore, keys: KeyRing, force_new: bool = False) -> PublicKey:
        """Return the shared public key, whose private one is in the key ring.

        Args:
            store: The server's.
            keys: Its keys.
            force_new: Make another one; certificates for the one before hold on.

        Raises:
            KeyUnusable: It cannot be written.
        """
        found = store.read(lambda trust: trust.shared_key)
        if found is not None and keys.has(found) and not force_new:
            return found
        public = keys.generate().public
        return store.run(lambda trust: _share(trust, public, found))


def _share(trust: Trust, public: PublicKey, before: PublicKey | None) -> PublicKey:
    """Share a new key, unless another process has done so since."""
    if trust.shared_key != before:
        assert trust.shared_key is not None
        return trust.shared_key
    trust.share_key(public)
    return public
