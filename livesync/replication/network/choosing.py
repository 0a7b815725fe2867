"""Which certificates of both ends a session with a peer begins with, and what is sent with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import CertificateRefused
from ...peering.choosing import believed, own_rights
from ...peering.peers import Peer
from ...peering.rights import Rights, may_flow
from ...peering.scopes import Filter

if TYPE_CHECKING:
    from .connection import NetworkSyncConnection


def own_certificates(connection: NetworkSyncConnection, peer: Peer) -> list[str]:
    """Return the ids of the certificates of this database that a session with a peer may begin with."""
    if peer.certificate_id:
        return [peer.certificate_id]
    chains = connection.trust.read(lambda trust: trust.own_chains(connection.keys, peer.profile))
    return [chain[-1].id for chain in chains]


def choose(connection: NetworkSyncConnection, peer: Peer) -> tuple[Rights, Rights]:
    """Return the rights of both ends that a session with a peer begins with: those that allow the most.

    Raises:
        UsageError: This database has no certificate of the profile, or none that it is told to use.
        CertificateRefused: The server shows none that is believed here, or none that goes with ours.
        PeerUnreachable: There is no usable answer.
    """
    now, trust = connection.clock(), connection.trust
    own = trust.read(lambda found: own_rights(found, connection.keys, peer, now))
    shown = connection.get_remote_certificates(peer.profile)
    servers = trust.read(lambda found: believed(found, shown, peer, now))
    pairs = [(mine, theirs) for mine in own for theirs in servers]
    useful = [pair for pair in pairs if any(_flows(pair))]
    if not useful:
        raise CertificateRefused(
            f"no certificate of this database and none of peer {peer.name} allow to exchange anything"
        )
    return max(useful, key=lambda pair: sum(_contains(_flows(pair), _flows(other)) for other in useful))


def _flows(pair: tuple[Rights, Rights]) -> tuple[Filter, Filter]:
    own, server = pair
    return may_flow(own, server), may_flow(server, own)


def _contains(one: tuple[Filter, Filter], other: tuple[Filter, Filter]) -> bool:
    return all(small.is_subset_of(large) for small, large in zip(other, one, strict=True))


def filter_of(peer: Peer, direction: str, own: Rights, server: Rights) -> Filter:
    """Return what is to be sent one way: what the peer's entry says, or all that the certificates allow."""
    asked = peer.push if direction == "push" else peer.pull
    if asked is not None:
        return Filter.of(asked)
    return may_flow(own, server) if direction == "push" else may_flow(server, own)
