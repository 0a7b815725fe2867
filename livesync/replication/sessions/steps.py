"""The values of a session, one direction: what each step takes and gives.

Every step is a call on a provider with values, so that it makes no difference whether the other provider is
in this process or beyond a network: the sender's :class:`Offer` and :class:`Chunk`, the receiver's answers.
A session that was cut goes on at the cursor of the last chunk that was applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..metadata.claims import Range, ranges
from ..metadata.clocks import Stamps
from ..metadata.lives import Told
from ..metadata.states import ItemState
from ..stores.contract import IndexKey


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a provider says of itself when a session begins.

    Attributes:
        provider_id: Who it is now.
        database_id: Its database.
        past: Who it was.
        newest: Its own newest stamp; 0: none.
        known: The newest stamp that it claims of each other provider.
        held: The newest stamp of each in what it was ever sent, claimed or not.
    """

    provider_id: str
    database_id: str
    past: tuple[str, ...]
    newest: int
    known: Stamps
    held: Stamps = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a sender is going to send, pinned when the session begins.

    Attributes:
        session_id: The session.
        source: Who sends.
        prefixes: Of what: the session's filter.
        claims: What the sender claimed then, for these prefixes and everything below that it has claims
            for. The receiver claims it too, once everything is applied.
        receiver: What the receiver claimed then.
        collected: By partition, the clocks of tombstones that the sender has not got any more.
        snapshots: Partitions that come as a whole: what is missing is gone.
        digests: By prefix, the digest of what the sender held then (``digests.py``).
        lives: Those that the receiver may not know of (``lives.py``).
    """

    session_id: str
    source: str
    prefixes: tuple[str, ...]
    claims: Mapping[str, Stamps]
    receiver: Mapping[str, Stamps]
    collected: Mapping[str, Stamps] = field(default_factory=dict)
    snapshots: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    lives: tuple[Told, ...] = ()

    def ranges(self) -> list[Range]:
        """Return what is sent, in the order in which it is."""
        return ranges(self.claims, self.receiver, self.snapshots)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next chunk begins: after ``key`` in the range of this number."""

    range_number: int = 0
    key: IndexKey | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of what is sent.

    Attributes:
        session_id: The session.
        number: From 0; chunks may come in any order, and twice.
        states: Items in their newest state.
        cursor: Where the next one begins.
        is_last: There is no next one.
    """

    session_id: str
    number: int
    states: tuple[ItemState, ...]
    cursor: Cursor
    is_last: bool
