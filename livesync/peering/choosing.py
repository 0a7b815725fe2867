"""With which certificates two nodes talk: one of this database's, and one that the server shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import CertificateExpired, CertificateRefused, CertificateRevoked, UsageError
from .certificates import Certificate
from .http import check_url
from .keyring import KeyRing
from .peers import Peer, PeerRegistry
from .rights import Rights
from .trust import Trust, TrustStore


def peer_at(
    db: Any,
    keys: KeyRing,
    text: str,
    profile: str | None = None,
    *,
    insecure_http: bool = False,
    ca_file: str = "",
) -> Peer:
    """Return the peer that somebody names, or gives the address of.

    Args:
        db: An open ``ZODB.DB``.
        keys: The private keys of this database.
        text: A name, or ``https://…``. A peer that is known at this address is that one.
        profile: Of the certificates, with an address; None: the only one that there are certificates of.
        insecure_http: Take an address that begins with ``http://``, too.
        ca_file: Certificates of TLS that are trusted in place of the system's; "" for none.

    Raises:
        UnknownPeer: There is none of this name.
        UsageError: The address is none, or it is not known which profile is meant.
        NotInstalled: This database has no certificates.
    """
    registry = PeerRegistry(db)
    if not text.lower().startswith(("http://", "https://")):
        return registry.get(text)
    given = check_url(text, insecure_http=True)
    for peer in registry.all():
        if peer.url == given and profile in (None, peer.profile):
            return peer
    url = check_url(text, insecure_http)
    if profile is None:
        chains = TrustStore(db).read(lambda trust: trust.own_chains(keys))
        profiles = sorted({chain[-1].profile for chain in chains})
        if len(profiles) != 1:
            raise UsageError(
                f"say which profile: --profile {' or '.join(profiles)}"
                if profiles
                else "this database has no certificate; ask for one: livesync peer cert request"
            )
        profile = profiles[0]
    return Peer(url, url, profile, insecure_http=insecure_http, ca_file=ca_file)


def own_rights(trust: Trust, keys: KeyRing, peer: Peer, now: float) -> list[Rights]:
    """Return the rights of this database's certificates for a peer, within a transaction.

    Raises:
        UsageError: There is no certificate of the profile, or none that is to be used.
        CertificateRefused: None of them holds.
    """
    found = []
    refused: CertificateRefused | None = None
    for chain in trust.own_chains(keys, peer.profile):
        if peer.certificate_id in ("", chain[-1].id):
            try:
                found.append(trust.verify(chain, now))
            except CertificateRefused as exc:
                refused = exc
    if refused is not None and not found:
        if isinstance(refused, (CertificateExpired, CertificateRevoked)):
            raise type(refused)(f"{refused}; ask for a new one: livesync peer cert request") from refused
        raise refused
    if not found:
        which = f"certificate {peer.certificate_id}" if peer.certificate_id else "certificate"
        raise UsageError(
            f"this database has no {which} of profile {peer.profile}; ask for one: livesync peer cert request"
        )
    return found


def believed(trust: Trust, shown: Sequence[tuple[Certificate, ...]], peer: Peer, now: float) -> list[Rights]:
    """Return the rights of those certificates that a server shows which are believed, within a transaction.

    Raises:
        CertificateRefused: None is.
    """
    found = []
    reason = "it shows none"
    for chain in shown:
        if peer.server_certificate_id in ("", chain[-1].id):
            try:
                found.append(trust.verify(chain, now, peer.profile))
            except CertificateRefused as exc:
                reason = str(exc)
    if not found:
        raise CertificateRefused(
            f"no certificate of profile {peer.profile} of peer {peer.name} is believed here: {reason}"
        )
    return found
