"""The other end of a push or a pull, whatever lies in between: what is asked of it, and what travels.

:class:`OtherEnd` is what both :mod:`~livesync.versions.remotes.both` and the peers' server know of a
collection elsewhere; :class:`LocalEnd` is one in a database that this process has open.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import OfferChanged
from ..names import RESERVED, Names
from ..store.contents import Contents
from ..store.records import Record
from ..store.tree import NO_VERSION, Branch
from ..stored import StoredHistory
from .exchange import TravellingVersion, sent

if TYPE_CHECKING:
    from .pushing import PushingCollection

#: Ids in one :class:`Layout`.
_LAYOUT_IDS: Final = 4_096


class FarBranch(NamedTuple):
    """A branch elsewhere.

    Attributes:
        tip: Id of its newest version; while it has none of its own, of the one that it begins at.
        base: Id of the version that it begins at; b"" for the first branch.
        total: How many versions of its own it has.
    """

    tip: bytes
    base: bytes
    total: int


@dataclass(frozen=True, slots=True)
class Refs:
    """What a collection elsewhere says of itself.

    Attributes:
        root: Id of its first version; b"": it has none.
        branches, tags: By name.
    """

    root: bytes = b""
    branches: Mapping[str, FarBranch] = field(default_factory=dict)
    tags: Mapping[str, bytes] = field(default_factory=dict)


class Want(NamedTuple):
    """A branch that is asked for.

    Attributes:
        branch: Its name.
        marks: (number, id) of some of the versions that it has here, the newest first.
    """

    branch: str
    marks: tuple[tuple[int, bytes], ...] = ()


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        wants: Branches.
        haves: Ids of versions that are here, with all before them.
        tags: Names of tags.
    """

    wants: tuple[Want, ...]
    haves: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()


class Layout(NamedTuple):
    """Which versions a branch has; they travel before it.

    Attributes:
        branch: Its name.
        base: Id of the version that it begins at; b"" for the first branch.
        since: Number of the first of these; those before are known.
        ids: Of its versions.
    """

    branch: str
    base: bytes
    since: int
    ids: tuple[bytes, ...]


class Tag(NamedTuple):
    """A tag, and the id of its version."""

    name: str
    id: bytes


#: What travels, in this order: versions (parents first), branches, tags.
Part = TravellingVersion | Layout | Tag


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent: which versions, and what they are called.

    Attributes:
        versions: Ids, parents first.
        names: Branches and tags.
    """

    versions: tuple[bytes, ...]
    names: tuple[Layout | Tag, ...]

    def parts(self, contents: Contents) -> Iterator[Part]:
        """Yield it as it travels."""
        places = Names(contents.stored.references).places()
        for version_id in self.versions:
            yield sent(contents, places, contents.stored.keys[version_id])
        yield from self.names


class OtherEnd(ABC):
    """A collection elsewhere.

    Attributes:
        name: The collection's.
        address: How it is called here; "": what it has is not noted.
    """

    name: str
    address: str

    @abstractmethod
    def refs(self) -> Refs:
        """Return its branches and tags."""

    @abstractmethod
    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """Return which of these versions it has."""

    @abstractmethod
    def pack(self, asked: Asked) -> Iterator[Part]:
        """Return what is asked for."""

    @abstractmethod
    def take(self, contents: Contents, outgoing: Outgoing, do_checkout: bool) -> None:
        """Take what is sent, all or nothing.

        Args:
            contents: Of the sender.
            outgoing: What is sent.
            do_checkout: Where it is on a branch that goes on, its working documents follow.
        """


class LocalEnd(OtherEnd):
    """A collection in a database that this process has open; all happens within its transaction.

    Args:
        collection: The collection.
        address: How it is called here; "": what it has is not noted.
    """

    def __init__(self, collection: PushingCollection, address: str = "") -> None:
        self.collection = collection
        self.name = collection.name
        self.address = address

    def refs(self) -> Refs:
        """See :class:`OtherEnd`."""
        return refs_of(self.collection.contents) if self.collection.is_tracked else Refs()

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """See :class:`OtherEnd`."""
        if not self.collection.is_tracked:
            return set()
        keys = self.collection.contents.stored.keys
        return {one for one in ids if one in keys}

    def pack(self, asked: Asked) -> Iterator[Part]:
        """See :class:`OtherEnd`."""
        contents = self.collection.contents
        return outgoing_of(contents, pinned(contents, asked)).parts(contents)

    def take(self, contents: Contents, outgoing: Outgoing, do_checkout: bool) -> None:
        """See :class:`OtherEnd`."""
        self.collection.check_pushed(outgoing.names, do_checkout)
        self.collection.take_pushed(outgoing.parts(contents), do_checkout)


# -- what is there -------------------------------------------------------------------------------------


def id_of(stored: StoredHistory, key: int) -> bytes:
    """Return the id of a version; b"" for none."""
    return b"" if key == NO_VERSION else Record.unpacked(stored.records[key]).id


def refs_of(contents: Contents) -> Refs:
    """Return the branches and tags of a history."""
    stored = contents.stored
    names = Names(stored.references)
    return Refs(
        id_of(stored, next(iter(stored.records))),
        {
            name: FarBranch(id_of(stored, branch.tip), id_of(stored, branch.base), branch.total)
            for name, branch in names.branches().items()
        },
        {name: id_of(stored, key) for name, key in names.tags.items()},
    )


def marks_of(contents: Contents, branch: Branch) -> tuple[tuple[int, bytes], ...]:
    """Return some of the versions of a branch: the newest, then ever fewer; the first is among them."""
    marks = []
    number, step = branch.total - 1, 1
    while number >= 0:
        marks.append((number, id_of(contents.stored, branch.at(number))))
        if number == 0:
            break
        number, step = max(0, number - step), step * 2
    return tuple(marks)


def public_of(names: Names) -> list[str]:
    """Return the branches but those that pulls have put aside, sorted."""
    return sorted(name for name in names.branches() if not name.startswith(RESERVED))


# -- what is sent --------------------------------------------------------------------------------------


def lacking(contents: Contents, tips: Iterable[int], haves: Iterable[int]) -> list[int]:
    """Return the versions up to ``tips``, along all parents, that are not up to ``haves``; parents first.

    Both are walked down by generation, until all that is left is had.
    """
    stored = contents.stored
    is_had: dict[int, bool] = {}
    heap: list[tuple[int, int]] = []
    records: dict[int, Record] = {}

    def note(key: int, had: bool) -> None:
        known = is_had.get(key)
        if known is None:
            records[key] = Record.unpacked(stored.records[key])
            heapq.heappush(heap, (-records[key].generation, key))
            wanted[0] += not had
        elif had and not known:
            wanted[0] -= 1
        is_had[key] = bool(known) or had

    wanted = [0]
    for key in tips:
        note(key, False)
    for key in haves:
        note(key, True)
    found = []
    while wanted[0]:
        generation, key = heapq.heappop(heap)
        had, record = is_had[key], records.pop(key)
        if not had:
            wanted[0] -= 1
            found.append((-generation, key))
        for parent in record.parents:
            note(int(stored.keys[parent]), had)
    return [key for _, key in sorted(found)]


class PinnedBranch(NamedTuple):
    """A branch as it was when it was asked for: what is sent does not change while it is sent.

    Attributes:
        name: The branch.
        tip: Id of its newest version.
        total: How many versions of its own it has.
        since: Number of the first one that the other one may lack.
    """

    name: str
    tip: bytes
    total: int
    since: int


class Pinned(NamedTuple):
    """What is sent to somebody who has asked.

    Attributes:
        branches, tags: Those that there are.
        haves: Ids of versions that both have.
    """

    branches: tuple[PinnedBranch, ...]
    tags: tuple[Tag, ...]
    haves: tuple[bytes, ...]


def pinned(contents: Contents, asked: Asked) -> Pinned:
    """Return what is sent to somebody who asks.

    What there is not is passed over: names that are gone, versions that only the other one has.
    """
    stored = contents.stored
    names = Names(stored.references)
    branches, tags = names.branches(), names.tags
    found = []
    for want in asked.wants:
        branch = branches.get(want.branch)
        if branch is not None:
            since = _shared(stored, branch, dict(want.marks))
            found.append(PinnedBranch(want.branch, id_of(stored, branch.tip), branch.total, since))
    named = tuple(Tag(name, id_of(stored, tags[name])) for name in asked.tags if name in tags)
    marked = {version_id for want in asked.wants for _, version_id in want.marks}
    haves = {one for one in (*asked.haves, *marked) if one in stored.keys}
    return Pinned(tuple(found), named, tuple(sorted(haves)))


def _shared(stored: StoredHistory, branch: Branch, known: Mapping[int, bytes]) -> int:
    """Return how many versions of a branch are those that the other one has, as far as is known."""
    for number in sorted(known, reverse=True):
        if number < branch.total and id_of(stored, branch.at(number)) == known[number]:
            return number + 1
    return 0


def outgoing_of(contents: Contents, pins: Pinned) -> Outgoing:
    """Return what a history sends.

    Raises:
        OfferChanged: Something that was pinned is gone.
    """
    stored = contents.stored
    branches = Names(stored.references).branches()
    tips, layouts = set(), list[Layout]()
    for pin in pins.branches:
        branch = branches.get(pin.name)
        branch = None if branch is None or branch.total < pin.total else branch.until(pin.total)
        if branch is None or id_of(stored, branch.tip) != pin.tip:
            raise OfferChanged(f"branch {pin.name!r} was put elsewhere meanwhile: pull again")
        tips.add(branch.tip)
        layouts += layouts_of(stored, pin.name, branch, pin.since)
    gone = [one for one in (*(tag.id for tag in pins.tags), *pins.haves) if one not in stored.keys]
    if gone:
        raise OfferChanged(f"version {gone[0].hex()[:12]} is gone meanwhile: pull again")
    tips |= {int(stored.keys[tag.id]) for tag in pins.tags}
    keys = lacking(contents, tips, [int(stored.keys[one]) for one in pins.haves])
    return Outgoing(tuple(id_of(stored, key) for key in keys), (*layouts, *pins.tags))


def layouts_of(stored: StoredHistory, name: str, branch: Branch, since: int) -> Iterator[Layout]:
    """Yield which versions a branch has, from a number on, in pieces."""
    base = id_of(stored, branch.base)
    keys = [branch.at(number) for number in range(since, branch.total)]
    for start in range(0, max(1, len(keys)), _LAYOUT_IDS):
        ids = tuple(id_of(stored, key) for key in keys[start : start + _LAYOUT_IDS])
        yield Layout(name, base, since + start, ids)


def end_of(remote: Any) -> OtherEnd:
    """Return what stands for the other end: itself, or that of a collection."""
    return remote if isinstance(remote, OtherEnd) else LocalEnd(remote)
