"""The operations before a session: who the server is, certificates, nonces, revocations."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import unquote

from .. import __version__
from ..errors import NotAllowed
from ..peering import wire
from ..peering.certificates import Certificate
from ..peering.chains import read_chain
from ..peering.nonces import FOR_PUSH
from ..peering.signing import answer_request, check_login, read_login, take_pushed
from .operations import PARAMETERS, Call, Operation

logger = logging.getLogger(__name__)


def info(call: Call) -> wire.Info:
    """Tell what this server is, and can do."""
    app = call.app
    profile = call.headers.get(wire.PROFILE)
    clients = [each for each in call.headers.get(wire.CLIENTS, "").split(",") if each]

    def look() -> tuple[list[tuple[Certificate, ...]], wire.Meeting | None]:
        own = app.gate.trust().own_chains(app.gate.keys)
        return own, None if profile is None else _meeting(call, unquote(profile), clients)

    own, meeting = app.store.read(look)
    return wire.Info(
        name=app.name,
        version=__version__,
        protocol=wire.PROTOCOL,
        capabilities=sorted(app.capabilities),
        provider_id=app.provider.provider_id,
        profiles=sorted({chain[-1].profile for chain in own}),
        time=app.clock(),
        chunk_size=app.chunk_size,
        meeting=meeting,
    )


def _meeting(call: Call, profile: str, clients: list[str]) -> wire.Meeting:
    """Return what else a session of a profile needs, within a transaction of the store."""
    app = call.app
    trust, now = app.gate.trust(), app.clock()
    return wire.Meeting(
        profile=profile,
        revocations=app.gate.pending(profile),
        chains=[[each.signed for each in chain] for chain in _shown(call, profile)],
        nonces={client: trust.issue_nonce(client, now).value for client in clients},
    )


def public_key(call: Call) -> wire.PublicKey:
    """Tell the key that a certificate may be pushed for."""
    _needs(call, "certificate-pushing")
    shared = call.app.store.read(lambda: call.app.gate.trust().shared_key)
    if shared is None:
        raise NotAllowed("this server shares no key: certificates cannot be pushed to it")
    return wire.PublicKey(public_key=str(shared))


def _needs(call: Call, capability: str) -> None:
    if capability not in call.app.capabilities:
        raise NotAllowed("this server does not do that: see the capabilities in its info")


def certificates(call: Call) -> wire.Certificates:
    """Tell the chains of this server's certificates of a profile that hold."""
    prefix = call.query.get("primary_partition")
    chains = call.app.store.read(lambda: _shown(call, call.query["profile"], prefix))
    return wire.Certificates(chains=[[each.signed for each in chain] for chain in chains])


def _shown(call: Call, profile: str, prefix: str | None = None) -> list[tuple[Certificate, ...]]:
    """Return the chains of a profile that hold, within a transaction of the store."""
    app = call.app
    trust, now = app.gate.trust(), app.clock()
    return [
        chain
        for chain in trust.own_chains(app.gate.keys, profile)
        if chain[0].id in trust.roots
        and not any(each.id in trust.revoked for each in chain)
        and all(each.not_before <= now <= each.not_after for each in chain)
        and (prefix is None or _speaks_of(chain[-1], prefix))
    ]


def _speaks_of(certificate: Certificate, prefix: str) -> bool:
    scope = certificate.scope
    return scope.read_filter.contains_partition(prefix) or scope.write_filter.contains_partition(prefix)


def sign_request(call: Call) -> wire.NewCertificate:
    """Answer a signing request, for whom a user's password speaks."""
    app, request = call.app, call.request
    asked: wire.SigningRequest = call.body
    _needs(call, "signing-requests")
    if app.login is None:
        raise NotAllowed("this server has nobody who gives certificates")
    authorization = request.headers.get("Authorization")
    name, _ = read_login(authorization)
    keys = (f"address {request.client_addr}", f"name {name}")
    app.throttle.begin(*keys)
    user = check_login(authorization, app.login)
    app.throttle.succeeded(*keys)
    chain = app.store.run(
        lambda: answer_request(
            app.gate.trust(), app.gate.keys, asked, app.clock(), user=user, may_give=app.may_give
        ),
        note="a certificate was signed for a peer",
    )
    logger.info("certificate %s was given to a peer, by %s", chain[-1].id, user)
    return wire.NewCertificate(chain=[each.signed for each in chain])


def take_chain(call: Call) -> wire.NewCertificate:
    """Take a chain that is pushed to this server."""
    app = call.app
    pushed: wire.PushedChain = call.body
    _needs(call, "certificate-pushing")
    chain = read_chain(pushed.chain)
    rights = app.store.run(
        lambda: take_pushed(app.gate.trust(), chain, app.clock()), note="a certificate was pushed by a peer"
    )
    logger.info("certificate %s was pushed by a peer", rights.certificate_id)
    return wire.NewCertificate(chain=[each.signed for each in chain])


def new_nonce(call: Call) -> wire.Nonce:
    """Give a nonce."""
    app = call.app
    asked: wire.NewNonce = call.body
    if asked.client == FOR_PUSH:
        _needs(call, "certificate-pushing")
    nonce = app.store.read(lambda: app.gate.trust().issue_nonce(asked.client, app.clock()))
    return wire.Nonce(nonce=nonce.value, expires=nonce.expires)


def revocations(call: Call) -> wire.RevocationList:
    """Tell the revocations of a profile."""
    profile = call.query["profile"]
    return wire.RevocationList(revocations=call.app.store.read(lambda: call.app.gate.pending(profile)))


OPERATIONS: Final = (
    Operation(
        "getInfo",
        "GET",
        "/info",
        "Tell what this server is, and can do.",
        info,
        answer=wire.Info,
        parameters=PARAMETERS["meeting"],
    ),
    Operation(
        "getPublicKey",
        "GET",
        "/publickey",
        "Tell the key that a certificate may be pushed for.",
        public_key,
        answer=wire.PublicKey,
        errors=("forbidden",),
    ),
    Operation(
        "listCertificates",
        "GET",
        "/certificates",
        "Tell the chains of this server's certificates.",
        certificates,
        answer=wire.Certificates,
        parameters=PARAMETERS["certificates"],
    ),
    Operation(
        "signCertificate",
        "POST",
        "/certificates",
        "Answer a signing request.",
        sign_request,
        answer=wire.NewCertificate,
        body=wire.SigningRequest,
        status=201,
        takes_password=True,
        errors=("certificate", "expired", "revoked", "profile", "scope", "forbidden"),
    ),
    Operation(
        "pushChain",
        "POST",
        "/certificatechains",
        "Take a chain that ends with a certificate for this server's public key.",
        take_chain,
        answer=wire.NewCertificate,
        body=wire.PushedChain,
        status=201,
        errors=("certificate", "expired", "revoked", "profile", "nonce", "forbidden"),
    ),
    Operation(
        "newNonce",
        "POST",
        "/nonces",
        "Give a nonce, to be used once, soon.",
        new_nonce,
        answer=wire.Nonce,
        body=wire.NewNonce,
        status=201,
        errors=("forbidden",),
    ),
    Operation(
        "listRevocations",
        "GET",
        "/revocations",
        "Tell the revocations of a profile.",
        revocations,
        answer=wire.RevocationList,
        parameters=PARAMETERS["profile"],
    ),
)
