"""What two peers say to each other about histories of documents: bodies and limits. Values only.

All of it happens within sessions, as :mod:`~livesync.peering.wire` describes them. Who only wants histories
begins one without introducing a provider. A certificate may read or write the history of a collection
``talks`` where its read or write filter contains the partition ``version:talks`` (:func:`partition_of`), as
for items what flows is what the sender may write and the receiver may read.

**A pull**::

    GET    histories?collection=C           -> History          branches and tags
    POST   historytransfers                 NewHistoryTransfer  -> HistoryTransfer   what is sent is pinned
    GET    historychunks?transfer=ID&cursor=...                 -> HistoryChunk
    DELETE historytransfers/ID

**A push**::

    GET    histories?collection=C           -> History
    POST   knownversions                    AskVersions         -> KnownVersions
    POST   historytransfers                 NewHistoryTransfer  -> HistoryTransfer
    POST   historychunks                    HistoryChunk        -> Confirmed         each one is confirmed
    PATCH  historytransfers/ID              EndHistoryTransfer  -> HistoryTransfer   checked, all or nothing

A transfer that was cut goes on, in the same session or another one between the same certificates, after the
last chunk that was confirmed. What a chunk's ``data`` holds, :mod:`livesync.versions.remotes.chunks` says.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

from .wire import Direction, Id, Input, Number, Value

#: The first level of the partitions that histories lie in.
LEVEL: Final = "version"

#: Bytes of a chunk's data, packed and unpacked, at most; and how many are aimed at.
MAX_CHUNK_BYTES: Final = 32_000_000
CHUNK_BYTES: Final = 1_000_000

#: Ids that are asked about at once.
MAX_IDS: Final = 1_000

VersionId = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}$", max_length=64, description="a version: 64 hexadecimal digits")
]
#: Of branches, tags and collections.
RefName = Annotated[str, Meta(min_length=1, max_length=250)]
#: A collection's.
CollectionName = Annotated[str, Meta(min_length=1, max_length=200)]


def partition_of(collection: str) -> str:
    """Return the partition that the history of a collection lies in."""
    return f"{LEVEL}:{collection}"


class HistoryBranch(Value, frozen=True):
    """A branch.

    Attributes:
        tip: Its newest version; while it has none of its own, the one that it begins at.
        base: The version that it begins at; "" for the first branch.
        total: How many versions of its own it has.
    """

    tip: str
    base: str
    total: int


class History(Value, frozen=True):
    """What a collection's history is called by.

    Attributes:
        root: Its first version; "": it has none.
        branches, tags: By name.
    """

    root: str
    branches: dict[str, HistoryBranch]
    tags: dict[str, str]


class AskVersions(Input, frozen=True):
    """Asks which versions the server has."""

    collection: CollectionName
    ids: Annotated[list[VersionId], Meta(max_length=MAX_IDS)]


class KnownVersions(Value, frozen=True):
    """Those that it has."""

    ids: list[str]


class HistoryWant(Input, frozen=True):
    """A branch that is asked for.

    Attributes:
        branch: Its name.
        marks: (number, id) of some of its versions that the client has.
    """

    branch: RefName
    marks: Annotated[list[tuple[Number, VersionId]], Meta(max_length=100)] = field(default_factory=list)


class NewHistoryTransfer(Input, frozen=True):
    """Begins to send a history one way.

    Attributes:
        id: Made by the client, at random.
        direction: ``push``: the client sends; ``pull``: the server does.
        collection: Whose history.
        wants, tags: With ``pull``: branches and tags.
        haves: With ``pull``: versions that the client has, with all before them.
    """

    id: Id
    direction: Direction
    collection: CollectionName
    wants: Annotated[list[HistoryWant], Meta(max_length=1_000)] = field(default_factory=list)
    tags: Annotated[list[RefName], Meta(max_length=10_000)] = field(default_factory=list)
    haves: Annotated[list[VersionId], Meta(max_length=10_000)] = field(default_factory=list)


class HistoryCursor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a chunk begins.

    Attributes:
        part: How many parts (versions, pieces of branches, tags) are done.
        after: The document of the next version that was the last one; None: none of it was sent.
    """

    part: Number = 0
    after: Annotated[str, Meta(max_length=4_000)] | None = None


class HistoryTransfer(Value, frozen=True):
    """A transfer as the server has it.

    Attributes:
        confirmed: With ``push``: chunks that the server has for good.
        cursor: With ``push``: where the next one begins.
        complete: With ``push``: the last one is among them.
        active: Whether it goes on.
        parts: With ``pull``: how many parts there are.
    """

    id: Id
    direction: Direction
    collection: str
    confirmed: int
    complete: bool
    active: bool
    cursor: HistoryCursor = HistoryCursor()
    parts: int = 0


class HistoryChunk(Input, frozen=True):
    """A part of a transfer.

    Attributes:
        transfer: The transfer.
        number: From 0, one after the other.
        data: A zstd frame.
        next: Where the following one begins.
        last: There is no following one.
    """

    transfer: Id
    number: Number
    data: bytes
    next: HistoryCursor
    last: bool = False


class EndHistoryTransfer(Input, frozen=True):
    """Ends a push: what came is checked and kept, all or nothing.

    Attributes:
        checkout: Where the server is on a branch that goes on, its documents follow.
    """

    checkout: bool = True
