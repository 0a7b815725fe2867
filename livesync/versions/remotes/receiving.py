"""Receiving versions from elsewhere, branches and tags: what push and pull share.

A large history does not have to fit into memory: what was received is put into the database's own buffer from
time to time. It is committed with the caller's transaction, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import InvalidCollectionState, InvalidOperation, UsageError
from ..joining import JoiningCollection
from ..names import MAIN, Names, check_foreign_name
from ..several.parts import Address, travelled
from ..store.contents import Contents
from ..store.tree import NO_VERSION, Branch
from ..stored import StoredHistory, find_histories
from .ends import Layout, LocalEnd, OtherEnd, Part, Refs, Tag, id_of, lacking
from .exchange import Told, TravellingVersion, received, received_root

if TYPE_CHECKING:
    from ...peering.keyring import KeyRing
    from .network import NetworkEnd

#: Versions, and bytes of what they change, after which what was received is put out of memory.
_BREATH_VERSIONS: Final = 64
_BREATH_BYTES: Final = 2_000_000

#: Branches of another end of which is noted where they were.
_NOTED: Final = 1_000


class Moved(NamedTuple):
    """What became of a branch or a tag.

    Attributes:
        name: The branch or the tag.
        what: ``new branch``, ``fast-forward``, ``up to date``, ``merged``, ``conflicts``, ``diverged`` (it
            was left as it is), ``new tag``, ``same tag``, or ``other tag`` (there is one of this name,
            which was left).
        old, new: Ids of the versions before and after; b"" where there was none.
        aside: Where ``merged`` or ``conflicts``, the branch that has the versions that were here before.
    """

    name: str
    what: str
    old: bytes
    new: bytes
    aside: str = ""


class Standing(NamedTuple):
    """How the current branch stands beside that of another end, as it was last seen.

    Attributes:
        address: How the other end is called here.
        ahead, behind: Versions that only this one has, and only the other one; None: the other one has some
            that have not come.
    """

    address: str
    ahead: int | None
    behind: int | None


class ReceivingCollection(JoiningCollection):
    """The part of a collection that takes in what comes from another one."""

    def note_remote(self, address: str, tips: dict[str, bytes]) -> None:
        """Note where branches of another end are; without an address nothing is noted."""
        if not address or not self.is_tracked:
            return
        references = self.contents.stored.references
        known = dict(sorted(tips.items())[:_NOTED])
        if references.remotes.get(address) != known:
            references.remotes = {**references.remotes, address: known}

    def standings(self) -> list[Standing]:
        """Return how the current branch stands beside those of other ends, as they were last seen."""
        if not self.is_tracked:
            return []
        contents = self.contents
        name = self.names.head[0]
        tip, found = self.names.branch(name).tip, []
        for address, tips in sorted(contents.stored.references.remotes.items()):
            if name in tips:
                key = contents.stored.keys.get(tips[name])
                ahead = None if key is None else len(lacking(contents, [tip], [key]))
                behind = None if key is None else len(lacking(contents, [key], [tip]))
                found.append(Standing(address, ahead, behind))
        return found

    def _named_end(self, remote: str, direction: str, keys: KeyRing | None) -> NetworkEnd:
        """Return the other end that an address or the name of a peer stands for.

        Raises:
            UsageError: Where the private keys are is not given, or the address is none.
            UnknownPeer: There is no such peer.
        """
        if keys is None:
            raise UsageError("another node is talked to with a certificate: give the key ring (keys=…)")
        from ...peering.choosing import peer_at
        from .network import NetworkEnd

        db = self._root._p_jar.db()
        peer = peer_at(db, keys, remote)
        return NetworkEnd(db, self.name, peer, keys, direction, codec=self._codec, clock=self._clock)

    def _check_other(self, end: OtherEnd) -> None:
        remote = end.collection if isinstance(end, LocalEnd) else None
        if remote is not None and (remote is self or is_same_object(remote.stored, self.stored)):
            raise InvalidOperation("a collection exchanges nothing with itself")
        if end.name != self.name:
            raise ValueError(f"the names must be the same, and are {self.name!r} and {end.name!r}")

    def _own_branch(self, branch: str | None) -> str:
        if branch is None and self.names.is_detached:
            raise InvalidOperation("HEAD is detached: name the branch that is to be pushed")
        name = self.names.head[0] if branch is None else branch
        if name not in self.names.branches():
            raise InvalidOperation(f"there is no branch {name!r}")
        return name

    def _check_same_root(self, refs: Refs) -> None:
        stored = self.contents.stored
        if id_of(stored, next(iter(stored.records))) != refs.root:
            raise InvalidCollectionState("the two collections began with other versions: diverging roots")

    def _check_nothing_lost(self) -> None:
        if next(self.working.ids(), None) is not None:
            raise InvalidOperation(
                f"{self.name!r} has documents there, and no versions: they would be lost; remove them first,"
                " or give that collection a history of its own"
            )

    # -- what comes --------------------------------------------------------------------------------

    def _received(self, parts: Iterable[Part], held: Collection[str]) -> tuple[dict[str, Layout], list[Tag]]:
        """Keep the versions of what comes; return what it says of branches and tags.

        Args:
            parts: What comes.
            held: Branches that do not go on with a version because of the name that it comes with.
        """
        layouts: dict[str, Layout] = {}
        tags: list[Tag] = []
        count = size = 0
        is_several = bool(self.collections)
        for part in parts:
            if isinstance(part, TravellingVersion):
                if is_several:
                    _check_addresses(part)
                received(self.contents, part, held)
                count, size = count + 1, size + sum(len(row.payload) for row in part.rows)
                if count >= _BREATH_VERSIONS or size > _BREATH_BYTES:
                    self._put_out_of_memory()
                    count = size = 0
            elif isinstance(part, Tag):
                check_foreign_name(part.name)
                tags.append(part)
            else:
                check_foreign_name(part.branch)
                _add(layouts, part)
        return layouts, tags

    def _put_out_of_memory(self) -> None:
        """Let the database hold what the transaction has written so far."""
        connection = getattr(self._root, "_p_jar", None)
        if connection is not None:
            connection.transaction_manager.savepoint(optimistic=True)
            connection.cacheMinimize()

    def _based(self, layout: Layout) -> Branch:
        if layout.since:
            raise InvalidCollectionState(f"versions of branch {layout.branch!r} are left out")
        return Branch(self._there(layout.base) if layout.base else NO_VERSION)

    def _with_ids(self, branch: Branch, ids: Iterable[bytes]) -> Branch:
        for version_id in ids:
            branch = branch.with_next(self._there(version_id))
        if branch.tip == NO_VERSION:
            raise InvalidCollectionState("a branch without a version has come")
        return branch

    def _readable(self, name: str, branch: Branch) -> Branch:
        """Return what a branch is to be, if what it ends at can be read here.

        Raises:
            InvalidOperation: That version was pruned here.
        """
        if self.contents.is_pruned(branch.tip):
            number, other = self.names.place(branch.tip)
            raise InvalidOperation(
                f"branch {name!r} ends at version {number} of {other!r}, which was pruned here: let it go on"
                " first"
            )
        return branch

    def _there(self, version_id: bytes) -> int:
        key = self.contents.stored.keys.get(version_id)
        if key is None:
            raise InvalidCollectionState(f"version {version_id.hex()[:12]} is named and has not come")
        return int(key)

    def _begin_with(
        self, parts: Iterable[Part], check_places: Callable[[Iterable[str]], None] = lambda names: None
    ) -> list[Moved]:
        """Take over what comes where there are no versions yet; the documents become the first branch's."""
        self._check_nothing_lost()
        coming = iter(parts)
        root = next(coming, None)
        if not isinstance(root, TravellingVersion):
            raise InvalidCollectionState("no first version has come")
        stored = StoredHistory(self.name)
        first = received_root(stored, Contents(stored, self._codec), root)
        histories = find_histories(self._root, create=True)
        histories[self.name] = stored
        try:
            return self._begun(Names(stored.references), first, coming, check_places)
        except BaseException:
            histories.pop(self.name).name = ""
            self._contents = None
            raise

    def _begun(
        self,
        names: Names,
        first: int,
        coming: Iterable[Part],
        check_places: Callable[[Iterable[str]], None],
    ) -> list[Moved]:
        # the names that versions come with are theirs: branches that others begin at
        names.set_head(next(iter(names.branches()), MAIN), first)
        layouts, tags = self._received(coming, ())
        stored = self.contents.stored
        collections = travelled(self.contents)
        check_places(collections or (self.name,))
        self._keep_collections(stored, collections)
        self._check_nothing_lost()  # now it is known of which collections it is
        for layout in layouts.values():
            branch = self._with_ids(self._based(layout), layout.ids)
            if self.contents.is_pruned(branch.tip):
                raise InvalidCollectionState("a branch has come whose newest version has no contents")
            names.set_branch(layout.branch, branch)
        for tag in tags:
            names.set_tag(tag.name, self._there(tag.id))
        if not layouts:
            raise InvalidCollectionState("no branch has come")
        name = next(iter(layouts))
        key = names.branch(name).tip
        self.working.write(self.contents.documents(key))
        names.set_head(name, key)
        self._settle()
        moved = [Moved(one, "new branch", b"", id_of(stored, names.branch(one).tip)) for one in layouts]
        return moved + [Moved(tag.name, "new tag", b"", tag.id) for tag in tags]


def is_same_object(one: Any, other: Any) -> bool:
    """Tell whether two persistent objects are one, be it of two connections to a database; None is none."""
    if one is None or other is None or one is other:
        return one is not None and one is other
    jars = one._p_jar, other._p_jar
    return None not in jars and jars[0].db() is jars[1].db() and bool(one._p_oid == other._p_oid)


def _check_addresses(version: TravellingVersion) -> None:
    """Make sure that a version of several collections says of which each of its documents is.

    Raises:
        InvalidCollectionState: It does not.
    """
    for row in version.rows:
        if row.kind not in (Told.PRUNED, Told.SINCE):
            try:
                Address.parse(row.document_id)
            except ValueError as exc:
                raise InvalidCollectionState(f"what came is not of these collections: {exc}") from exc


def _add(layouts: dict[str, Layout], part: Layout) -> None:
    """Add a piece of a branch to those that came before it."""
    known = layouts.get(part.branch)
    if known is None:
        layouts[part.branch] = part
    elif part.base == known.base and part.since == known.since + len(known.ids):
        layouts[part.branch] = known._replace(ids=known.ids + part.ids)
    else:
        raise InvalidCollectionState(f"versions of branch {part.branch!r} are left out")
