"""Pushing: what is sent to another collection, and what becomes of what another one sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ...errors import InvalidCollectionState, InvalidOperation
from ..store.ancestry import is_ancestor, path_between
from ..store.tree import NO_VERSION, Branch
from .ends import Layout, OtherEnd, Outgoing, Part, Refs, Tag, end_of, id_of, lacking, layouts_of, public_of
from .receiving import Moved, ReceivingCollection

if TYPE_CHECKING:
    from ...peering.keyring import KeyRing


class PushingCollection(ReceivingCollection):
    """The part of a collection that is pushed, or pushed into."""

    # -- push ----------------------------------------------------------------------------------------

    def push(
        self,
        remote: ReceivingCollection | OtherEnd | str,
        branch: str | None = None,
        do_checkout: bool = True,
        *,
        tags: bool = False,
        everything: bool = False,
        keys: KeyRing | None = None,
    ) -> bool:
        """Bring a branch to another collection, whose branch is only ever gone on with.

        The other collection is written within its own transaction, all or nothing; here is only noted where
        its branches are. One without versions and documents gets all that the branch needs.

        Args:
            remote: The other collection, of the same name. Of another node the address, ``https://…``, or
                the name of a peer: what is committed is sent, and taken there in a transaction of its own.
            branch: None: the current one.
            do_checkout: Where the other one is on that branch, its working documents follow.
            tags: Bring all tags, too.
            everything: Bring all branches but those that pulls have put aside.
            keys: The private keys of this database, for another node.

        Returns:
            False where this collection has no versions.

        Raises:
            ValueError: The names differ.
            InvalidOperation: They are one collection; HEAD is detached and no branch is named, or there is
                none of this name; the other one has versions that this one lacks (pull first), lacks the
                version that the branch begins at, has changes that a checkout would meet, a tag of this name
                at another version, or documents and no versions.
            InvalidCollectionState: They began with other versions.
            SyncError, PeerRefused: The other node does not answer, or refuses.
        """
        if isinstance(remote, str):
            with self._named_end(remote, "push", keys) as end:
                return self.push_refs(end, branch, do_checkout, tags, everything) is not None
        return self.push_refs(remote, branch, do_checkout, tags, everything) is not None

    def push_refs(
        self,
        remote: ReceivingCollection | OtherEnd,
        branch: str | None = None,
        do_checkout: bool = True,
        tags: bool = False,
        everything: bool = False,
    ) -> list[Moved] | None:
        """Push as :meth:`push` does; return what became of each branch and tag, None without versions."""
        end = end_of(remote)
        prepared = self.prepare_push(end, branch, tags, everything)
        if prepared is None:
            return None
        refs, outgoing, moved = prepared
        if outgoing is not None:
            end.take(self.contents, outgoing, do_checkout)
        self.note_pushed(end.address, refs, moved)
        return moved

    def prepare_push(
        self, end: OtherEnd, branch: str | None = None, tags: bool = False, everything: bool = False
    ) -> tuple[Refs, Outgoing | None, list[Moved]] | None:
        """Return what the other one has, what is to be sent (None: nothing), and what will have become of it.

        None without versions. Nothing is sent or written.

        Raises:
            ValueError, InvalidOperation, InvalidCollectionState: As :meth:`push`.
        """
        self._check_other(end)
        if not self.is_tracked:
            return None
        chosen = public_of(self.names) if everything else [self._own_branch(branch)]
        refs = end.refs()
        return refs, *self._to_push(end, refs, chosen, sorted(self.names.tags) if tags else [])

    def note_pushed(self, address: str, refs: Refs, moved: Sequence[Moved]) -> None:
        """Note where branches of another end are after a push."""
        own = self.names.branches() if self.is_tracked else {}
        pushed = {one.name: one.new for one in moved if "tag" not in one.what and one.name in own}
        self.note_remote(address, {name: far.tip for name, far in refs.branches.items()} | pushed)

    def _to_push(
        self, end: OtherEnd, refs: Refs, chosen: Sequence[str], tags: Sequence[str]
    ) -> tuple[Outgoing | None, list[Moved]]:
        """Return what is to be sent, None for nothing, and what will have become of each name."""
        contents, names = self.contents, self.names
        stored = contents.stored
        if refs.root:
            self._check_same_root(refs)
        known_bases = self._check_bases(end, refs, chosen)
        moved, sent_names, tips = [], list[Layout | Tag](), set[int]()
        haves = {far.tip for far in refs.branches.values()} | set(refs.tags.values()) | known_bases
        for name in chosen:
            own, far = names.branch(name), refs.branches.get(name)
            tip_id = id_of(stored, own.tip)
            if far is not None and far.tip == tip_id:
                moved.append(Moved(name, "up to date", tip_id, tip_id))
                continue
            if far is None:
                since, layouts = 0, list(layouts_of(stored, name, own, 0))
            else:
                self._check_goes_on(end, name, own.tip, far.tip)
                since = far.total
                if since and own.total >= since and id_of(stored, own.at(since - 1)) == far.tip:
                    layouts = list(layouts_of(stored, name, own, since))
                else:
                    way = path_between(contents, int(stored.keys[far.tip]), own.tip)
                    ids = tuple(id_of(stored, key) for key in way)
                    layouts = [Layout(name, far.base, since, ids)]
            what = "new branch" if far is None else "fast-forward"
            moved.append(Moved(name, what, b"" if far is None else far.tip, tip_id))
            sent_names += layouts
            tips.add(own.tip)
        for name in tags:
            key, known = names.tags[name], refs.tags.get(name)
            tag = Tag(name, id_of(stored, key))
            if known not in (None, tag.id):
                raise InvalidOperation(f"push rejected: the remote has a tag {name!r} at another version")
            moved.append(Moved(name, "new tag" if known is None else "same tag", known or b"", tag.id))
            if known is None:
                sent_names.append(tag)
                tips.add(key)
        if not sent_names:
            return None, moved
        keys = lacking(
            contents, tips, {int(stored.keys[one]) for one in haves if one in stored.keys and refs.root}
        )
        return Outgoing(tuple(id_of(stored, key) for key in keys), tuple(sent_names)), moved

    def _check_bases(self, end: OtherEnd, refs: Refs, chosen: Sequence[str]) -> set[bytes]:
        """Make sure that the other one has, or gets, the versions that new branches begin at.

        Returns:
            Ids of those that it has.
        """
        stored, names = self.contents.stored, self.names
        branches = {name: names.branch(name) for name in chosen}
        new = {
            name: own.base if own.base != NO_VERSION else own.tip
            for name, own in branches.items()
            if refs.root and name not in refs.branches
        }
        known = end.known([id_of(stored, base) for base in new.values()]) if new else set()
        for name, base in new.items():
            others = (own.tip for other, own in branches.items() if other != name)
            if id_of(stored, base) not in known and not any(
                is_ancestor(self.contents, base, other) for other in others
            ):
                number, base_name = names.place(base)
                raise InvalidOperation(
                    f"the remote lacks version {number} of {base_name!r}, where {name!r} begins:"
                    " push that first"
                )
        return known

    def _check_goes_on(self, end: OtherEnd, name: str, tip: int, their_id: bytes) -> None:
        contents = self.contents
        known = contents.stored.keys.get(their_id)
        if known is not None and is_ancestor(contents, known, tip):
            return
        is_behind = (
            is_ancestor(contents, tip, known)
            if known is not None
            else bool(end.known([id_of(contents.stored, tip)]))
        )
        if is_behind:
            raise InvalidOperation(f"push rejected: the tip of {name!r} is behind the remote's; pull first")
        raise InvalidOperation(f"push rejected: {name!r} and the remote's have diverged; pull first")

    # -- what a push brings ----------------------------------------------------------------------------

    def check_pushed(self, names: Iterable[Layout | Tag], do_checkout: bool) -> None:
        """Make sure that working documents may follow a push, before anything of it is written.

        Raises:
            InvalidOperation: There are changes or conflicts.
        """
        if not self.is_tracked or not do_checkout or self.names.is_detached:
            return
        if any(isinstance(one, Layout) and one.branch == self.names.head[0] for one in names):
            self._check_no_conflicts("a push into it")
            self._check_clean("a push into it")

    def take_pushed(
        self,
        parts: Iterable[Part],
        do_checkout: bool = True,
        check_places: Callable[[Iterable[str]], None] = lambda names: None,
    ) -> None:
        """Take what another collection pushes, within the caller's transaction.

        Where it raises, the transaction is to be aborted.

        Args:
            parts: What comes.
            do_checkout: Working documents that come from a branch that goes on follow.
            check_places: Called with the names of the collections of a history that begins here, before their
                documents are written.

        Raises:
            InvalidOperation: A branch would not be gone on with, a tag be put elsewhere; there are changes or
                conflicts that a checkout would meet; or there are documents and no versions.
            InvalidCollectionState: What came is not what it says.
        """
        if not self.is_tracked:
            self._begin_with(parts, check_places)
            return
        before, head = self.names.branches(), self.names.head[0]
        is_attached = do_checkout and not self.names.is_detached
        layouts, tags = self._received(parts, before.keys())
        for name, layout in layouts.items():
            known = before.get(name)
            branch = self._readable(name, self._pushed(layout, known))
            if known is not None and not is_ancestor(self.contents, known.tip, branch.tip):
                raise InvalidOperation(
                    f"push rejected: the tip of {name!r} is behind the remote's; pull first"
                )
            if name == head and is_attached and known is not None and branch.tip != known.tip:
                self._check_no_conflicts("a push into it")
                self._check_clean("a push into it")
                self.names.set_branch(name, branch)
                self._go_to(name, branch.tip)
            self.names.set_branch(name, branch)
        for tag in tags:
            key = self._there(tag.id)
            if self.names.tags.get(tag.name, key) != key:
                raise InvalidOperation(f"push rejected: the remote has a tag {tag.name!r} at another version")
            self.names.set_tag(tag.name, key)

    def _pushed(self, layout: Layout, known: Branch | None) -> Branch:
        if known is None:
            return self._with_ids(self._based(layout), layout.ids)
        if layout.since > known.total:
            raise InvalidCollectionState(f"versions of branch {layout.branch!r} are left out")
        return self._with_ids(known.until(layout.since), layout.ids)
