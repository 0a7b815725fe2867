"""Two-way sync: peers, sessions, conflicts."""

from __future__ import annotations

from .base import Value


class PeerOutcome(Value, frozen=True):
    """How a session with a peer went: a :class:`~livesync.peering.peers.SessionOutcome`."""

    session_id: str
    began: float
    ended: float
    error: str
    pushed: int
    pulled: int
    refused: int
    conflicts: int
    bytes_sent: int
    bytes_received: int
    resumed: bool


class Peer(Value, frozen=True):
    """Another node that this one syncs with.

    Attributes:
        push, pull: Partitions that are sent and asked for; None: all that the certificates allow.
        outcomes: Of the last sessions, the newest first.
    """

    name: str
    url: str
    profile: str
    push: list[str] | None
    pull: list[str] | None
    outcomes: list[PeerOutcome]


class PeerTransfer(Value, frozen=True):
    """What travels one way in a session: how far it has come; ``total`` is None where nobody knows it."""

    id: str
    sends: bool
    filter: list[str]
    stage: str
    status: str
    active: bool
    items: int
    total: int | None
    refused: int
    started: float
    last_active: float
    bytes_sent: int
    bytes_received: int
    error: str


class PeerSession(Value, frozen=True):
    """A session with a peer, begun or (``served``) served here; times are epoch seconds.

    Attributes:
        name: What the peer is called here, where it is one of those that are known.
        peer: Its address, or what it calls itself.
        error: Why it broke off, of one that was begun here; else empty.
    """

    id: str
    served: bool
    name: str
    peer: str
    peer_provider: str
    profile: str
    started: float
    last_active: float
    active: bool
    error: str
    transfers: list[PeerTransfer]


class PeerConflict(Value, frozen=True):
    """What was changed on several nodes at once, or could not be applied; open while ``resolved`` is None."""

    id: str
    created: float
    resolved: float | None
    kind: str
    entity: str
    item: str
    partition: str
    reason: str


class UntakenObject(Value, frozen=True):
    """An object of the application that cannot be taken into two-way sync, and why."""

    object: str
    reason: str


class Peers(Value, frozen=True):
    """Two-way sync of this database.

    Attributes:
        provider: Its id; None: it takes no part.
        peers: Those that it knows, by name.
        sessions: The last fifty, the newest first.
        conflicts: The last fifty, the newest first.
        open_conflicts: How many could not be applied yet.
        untaken: What does not travel.
    """

    provider: str | None
    peers: list[Peer]
    sessions: list[PeerSession]
    conflicts: list[PeerConflict]
    open_conflicts: int
    untaken: list[UntakenObject]
