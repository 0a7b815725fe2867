"""The peers that a database knows: where they are, as whom to speak to them, and how the last sessions went.

Each peer is an object of its own in the database, so that sessions with two of them never conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping

from ..agent import check_agent_id
from ..database import committed, connected
from ..errors import UnknownPeer, UsageError, check_schema
from .http import check_url
from .scopes import Filter, check_profile

T = TypeVar("T")

#: Where they lie in a database's root.
ROOT_KEY: Final = "livesync.peering.peers"

#: What ``StoredPeers.schema`` is for data of this code.
SCHEMA: Final = 1

#: Sessions with a peer whose outcome is kept.
KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as this one knows it.

    Attributes:
        name: What it is called here: of the form of an agent's id.
        url: Where its server is.
        profile: Of the certificates of both.
        certificate_id: With which this node speaks to it; "": the one that allows the most.
        server_certificate_id: With which it is to answer; "": the one that allows the most.
        push, pull: Prefixes that are sent and asked for; None: all that both certificates allow.
        insecure_http: Whether its URL may begin with ``http://``.
        ca_file: Certificates of TLS that are trusted in place of the system's; "" for none.
    """

    name: str
    url: str
    profile: str
    certificate_id: str = ""
    server_certificate_id: str = ""
    push: tuple[str, ...] | None = None
    pull: tuple[str, ...] | None = None
    insecure_http: bool = False
    ca_file: str = ""

    def checked(self) -> Peer:
        """Return it, in the one right form.

        Raises:
            UsageError: A part of it has a wrong form.
        """
        try:
            check_agent_id(self.name)
        except ValueError:
            raise UsageError(
                f"{self.name!r} is no name of a peer: 1 to 64 letters, digits, - _ or . (not beginning with"
                " - or .)"
            ) from None
        try:
            check_profile(self.profile)
            push, pull = (
                None if given is None else Filter.of(given).prefixes for given in (self.push, self.pull)
            )
        except (TypeError, ValueError) as exc:
            raise UsageError(str(exc)) from exc
        return replace(self, url=check_url(self.url, self.insecure_http), push=push, pull=pull)


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """How a session with a peer went, as the client has seen it.

    Attributes:
        session_id: The sync session; "" where none began.
        began, ended: Epoch seconds.
        error: Why it failed, in one line; "": it did not.
        pushed, pulled: Items.
        refused: Items that were left out, since they may not be written.
        conflicts: Conflicts that were settled here.
        bytes_sent, bytes_received: Of bodies, as they travelled.
        resumed: Whether it went on with one that was cut.
    """

    session_id: str
    began: float
    ended: float
    error: str = ""
    pushed: int = 0
    pulled: int = 0
    refused: int = 0
    conflicts: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resumed: bool = False


class StoredPeer(Persistent):
    """One peer in the database.

    Attributes:
        facts: The attributes of :class:`Peer`, as plain values.
        outcomes: Those of the last sessions, as plain values, the newest first.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = PersistentMapping(facts)
        self.outcomes: tuple[dict[str, Any], ...] = ()


class StoredPeers(Persistent):
    """All peers of this database, by name."""

    def __init__(self) -> None:
        self.schema = SCHEMA
        self.peers = OOBTree()


class PeerRegistry:
    """The peers of a database; each call is a transaction of its own.

    Args:
        db: An open ``ZODB.DB``.
    """

    def __init__(self, db: Any) -> None:
        self._db = db

    def all(self) -> list[Peer]:
        """Return all peers, by name."""
        return self._read(lambda tree: [_peer(stored) for stored in tree.values()])

    def get(self, name: str) -> Peer:
        """Return a peer.

        Raises:
            UnknownPeer: There is none of this name.
        """
        return self._read(lambda tree: _peer(_find(tree, name)))

    def add(self, peer: Peer) -> Peer:
        """Keep a new peer, and return it in the one right form.

        Raises:
            UsageError: It has a wrong form, or there is one of its name.
        """
        peer = peer.checked()

        def work(tree: OOBTree) -> None:
            if peer.name in tree:
                raise UsageError(f"there is a peer {peer.name!r} already: livesync peer remove {peer.name}")
            tree[peer.name] = StoredPeer(asdict(peer))

        self._change(work)
        return peer

    def remove(self, name: str) -> None:
        """Forget a peer, and how the sessions with it went.

        Raises:
            UnknownPeer: There is none of this name.
        """

        def work(tree: OOBTree) -> None:
            _find(tree, name)
            del tree[name]

        self._change(work)

    def note(self, name: str, outcome: SessionOutcome) -> None:
        """Keep how a session went; nothing happens where the peer was removed meanwhile."""

        def work(tree: OOBTree) -> None:
            stored = tree.get(name)
            if stored is not None:
                stored.outcomes = (asdict(outcome), *stored.outcomes)[:KEPT]

        self._change(work)

    def outcomes(self, name: str) -> list[SessionOutcome]:
        """Return how the last sessions with a peer went, the newest first.

        Raises:
            UnknownPeer: There is none of this name.
        """
        return self._read(lambda tree: [SessionOutcome(**each) for each in _find(tree, name).outcomes])

    def _read(self, work: Callable[[OOBTree], T]) -> T:
        with connected(self._db) as root:
            found = root.get(ROOT_KEY)
            return work(OOBTree() if found is None else _checked(found).peers)

    def _change(self, work: Callable[[OOBTree], T]) -> T:
        def change(root: Any) -> T:
            if ROOT_KEY not in root:
                root[ROOT_KEY] = StoredPeers()
            return work(_checked(root[ROOT_KEY]).peers)

        return committed(self._db, change)


def _checked(found: StoredPeers) -> StoredPeers:
    check_schema("the stored schema of peers", found.schema, SCHEMA)
    return found


def _find(tree: OOBTree, name: str) -> StoredPeer:
    stored = tree.get(name)
    if stored is None:
        raise UnknownPeer(f"there is no peer {name!r}; `livesync peer list` shows those there are")
    assert isinstance(stored, StoredPeer)
    return stored


def _peer(stored: StoredPeer) -> Peer:
    facts = dict(stored.facts)
    return Peer(
        **{
            **facts,
            **{name: None if facts[name] is None else tuple(facts[name]) for name in ("push", "pull")},
        }
    )
