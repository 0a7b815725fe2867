"""Push and pull: branches of one collection, and everything they need, brought to another one.

Both have the same name and the same first version. Ids of versions say what the other one lacks, so that a
push that is repeated does nothing.
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import InvalidCollectionState, InvalidOperation
from . import merging
from .ancestry import is_ancestor, merge_bases
from .contents import Contents
from .exchange import TravellingVersion, missing, received, received_root, sent, sent_all
from .joining import Joined, JoiningCollection
from .names import MAIN, Names
from .parts import travelled
from .stored import StoredHistory, find_histories
from .tree import NO_VERSION, Branch, way_up

#: How local versions are called once a pull has put others into their place.
REBRANCHED: Final = "__rebranched_"


class RemoteCollection(JoiningCollection):
    """The part of a collection that exchanges versions with another one."""

    def push(self, remote: RemoteCollection, branch: str | None = None, do_checkout: bool = True) -> bool:
        """Bring a branch to another collection, whose branch is only ever gone on with.

        Only the other collection is written, within its own transaction. One without versions and documents
        gets all that the branch needs.

        Args:
            remote: The other collection, of the same name.
            branch: None: the current one.
            do_checkout: Where the other one is on that branch, its working documents follow.

        Returns:
            False where this collection has no versions.

        Raises:
            ValueError: The names differ.
            InvalidOperation: They are one collection; HEAD is detached and no branch is named, or there is
                none of this name; the other one has versions that this one lacks (pull first), lacks the
                version that the branch begins at, or has changes that a checkout would meet, or documents and
                no versions.
            InvalidCollectionState: They began with other versions.
        """
        self._check_other(remote)
        if not self.is_tracked:
            return False
        name = self._own_branch(branch)
        tip = self.names.branch(name).tip
        if not remote.is_tracked:
            remote._begin_with(self, name)
            return True
        remote._check_same_root(self)
        here, there = self.contents, remote.contents
        their_branch = remote.names.branches().get(name)
        own = self.names.branch(name)
        their_key = self._their_key(remote, own, their_branch, name)
        tip_id = self._record(tip).id
        if their_branch is not None and remote._record(their_branch.tip).id == tip_id:
            return True
        is_on_it = remote.names.head[0] == name and not remote.names.is_detached and do_checkout
        if is_on_it:
            remote._check_no_conflicts("a push into it")
            remote._check_clean("a push into it")
        if their_branch is None:
            remote.names.set_branch(name, Branch(their_key))
        lacking = missing(here, tip, there.stored.keys.__contains__)
        for version in sent_all(here, self.names, lacking):
            remote._keep(version, name)
        if is_on_it:
            remote._go_to(name, remote.names.branch(name).tip)
        return True

    def _their_key(
        self, remote: RemoteCollection, own: Branch, their_branch: Branch | None, name: str
    ) -> int:
        """Return the key over there of what a branch goes on from.

        Raises:
            InvalidOperation: It cannot go on from there.
        """
        if their_branch is None:
            base_id = self._record(own.base if own.base != NO_VERSION else own.tip).id
            if base_id not in remote.contents.stored.keys:
                number, base_name = self.names.place(own.base)
                raise InvalidOperation(
                    f"the remote lacks version {number} of {base_name!r}, where {name!r} begins:"
                    " push that first"
                )
            return int(remote.contents.stored.keys[base_id])
        their_id = remote._record(their_branch.tip).id
        known = self.contents.stored.keys.get(their_id)
        if known is not None and is_ancestor(self.contents, known, own.tip):
            return their_branch.tip
        own_id = self._record(own.tip).id
        ours_there = remote.contents.stored.keys.get(own_id)
        if ours_there is not None and is_ancestor(remote.contents, ours_there, their_branch.tip):
            raise InvalidOperation(f"push rejected: the tip of {name!r} is behind the remote's; pull first")
        raise InvalidOperation(f"push rejected: {name!r} and the remote's have diverged; pull first")

    def pull(self, remote: RemoteCollection, branch: str | None = None) -> bool:
        """Bring a branch of another collection here.

        Where both have gone on, the other one's versions take the place of the local ones, which stay on a
        branch of their own, ``__rebranched_<branch>_<n>``, and are merged, as one version with two parents.
        Where they disagree, the merge waits for :meth:`resolve_conflicts`; :meth:`abort_merge` leaves the
        branch as the other one has it, with the local versions on theirs.

        Args:
            remote: The other collection, of the same name; nothing of it is written.
            branch: None: the current one.

        Returns:
            False where the other one has no versions.

        Raises:
            ValueError: The names differ.
            InvalidOperation: They are one collection; HEAD is detached and no branch is named; there are
                changes or conflicts on that branch; the other one has no such branch; both have gone on, and
                HEAD is elsewhere; or there are documents and no versions.
            InvalidCollectionState: They began with other versions, or what came is damaged.
        """
        self._check_other(remote)
        if not remote.is_tracked:
            return False
        if not self.is_tracked:
            self._begin_with(remote, MAIN if branch is None else branch)
            return True
        name = self.names.head[0] if branch is None else branch
        if branch is None and self.names.is_detached:
            raise InvalidOperation("HEAD is detached: name the branch that is to be pulled")
        if name not in remote.names.branches():
            raise InvalidOperation(f"the remote has no branch {name!r}")
        self._check_same_root(remote)
        is_on_it = self.names.head[0] == name and not self.names.is_detached
        if is_on_it:
            self._check_no_conflicts("a pull")
            self._check_clean("a pull")
        self._pulled(remote, name, is_on_it)
        return True

    def _pulled(self, remote: RemoteCollection, name: str, is_on_it: bool) -> Joined | None:
        theirs = remote.names.branch(name)
        tip_id = remote._record(theirs.tip).id
        own = self.names.branches().get(name)
        known = self.contents.stored.keys.get(tip_id)
        if own is not None and known is not None and is_ancestor(self.contents, known, own.tip):
            return None
        self._fetch(remote, theirs.tip)
        tip = int(self.contents.stored.keys[tip_id])
        if own is None or is_ancestor(self.contents, own.tip, tip):
            self._lay_out(remote, name, own)
            if is_on_it:
                self._go_to(name, self.names.branch(name).tip)
            return None
        if not is_on_it:
            raise InvalidOperation(f"{name!r} and the remote's have diverged: check it out, and pull then")
        return self._rejoined(remote, name, own, tip)

    def _fetch(self, remote: RemoteCollection, tip: int) -> None:
        here = self.contents
        lacking = missing(remote.contents, tip, here.stored.keys.__contains__)
        for version in sent_all(remote.contents, remote.names, lacking):
            self._keep(version, "")

    def _keep(self, version: TravellingVersion, name: str) -> None:
        """Keep a version; of the branches that are here only ``name`` goes on with it."""
        is_free = version.branch == name or version.branch not in self.names.branches()
        received(self.contents, version if is_free else version._replace(branch=""))

    def _lay_out(self, remote: RemoteCollection, name: str, own: Branch | None) -> None:
        """Make a branch what the other one has; ours is where it goes on from."""
        theirs = remote.names.branch(name)
        base = Branch(self._here(remote, theirs.base)) if own is None else own
        for key in list(theirs.versions())[base.total :]:
            base = base.with_next(self._here(remote, key))
        self.names.set_branch(name, base)

    def _here(self, remote: RemoteCollection, key: int) -> int:
        if key == NO_VERSION:
            return NO_VERSION
        return int(self.contents.stored.keys[remote._record(key).id])

    def _rejoined(self, remote: RemoteCollection, name: str, own: Branch, tip: int) -> Joined:
        """Put the other one's versions in the place of ours, and merge ours as one version."""
        names = self.names
        theirs = remote.names.branch(name)
        their_keys = [self._here(remote, key) for key in theirs.versions()]
        own_keys = list(own.versions())
        shared = 0
        while shared < min(len(own_keys), len(their_keys)) and own_keys[shared] == their_keys[shared]:
            shared += 1
        fork = own_keys[shared - 1] if shared else own.base
        number = sum(one.startswith(f"{REBRANCHED}{name}_") for one in names.branches())
        aside = f"{REBRANCHED}{name}_{number}"
        names.set_branch(aside, Branch(fork, own.since(shared)))
        branch = own.until(shared)
        for key in their_keys[shared:]:
            branch = branch.with_next(key)
        names.set_branch(name, branch)
        messages = [self._record(key).message for key in way_up(self.contents.forks, own.tip, fork)]
        self._go_to(name, tip)
        why = self._why("[Auto-Merged]\n" + "\n".join(reversed(messages)), None, {"rebranched": aside})
        bases = merge_bases(self.contents, tip, own.tip)
        return self._joined(merging.merged(self.contents, bases, own.tip, (tip, own.tip), why))

    # -- what both share ---------------------------------------------------------------------------

    def _check_other(self, remote: Any) -> None:
        if remote is self or (remote.is_tracked and remote.stored is self.stored):
            raise InvalidOperation("a collection exchanges nothing with itself")
        if remote.name != self.name:
            raise ValueError(f"the names must be the same, and are {self.name!r} and {remote.name!r}")

    def _own_branch(self, branch: str | None) -> str:
        if branch is None and self.names.is_detached:
            raise InvalidOperation("HEAD is detached: name the branch that is to be pushed")
        name = self.names.head[0] if branch is None else branch
        if name not in self.names.branches():
            raise InvalidOperation(f"there is no branch {name!r}")
        return name

    def _root_id(self) -> bytes:
        return self._record(next(iter(self.contents.stored.records))).id

    def _check_same_root(self, other: RemoteCollection) -> None:
        if self._root_id() != other._root_id():
            raise InvalidCollectionState("the two collections began with other versions: diverging roots")

    def _begin_with(self, other: RemoteCollection, name: str) -> None:
        """Take over another one's branch, and the first one, where there are no versions yet."""
        self._check_empty()
        if name not in other.names.branches():
            raise InvalidOperation(f"the remote has no branch {name!r}")
        stored = StoredHistory(self.name)
        contents = Contents(stored, self._codec)
        tip = other.names.branch(name).tip
        root, *others = missing(other.contents, tip, lambda _: False)
        first = received_root(stored, contents, sent(other.contents, other.names, root))
        names = Names(stored.references)
        names.set_head(MAIN if MAIN in names.branches() else next(iter(names.branches())), first)
        for version in sent_all(other.contents, other.names, others):
            received(contents, version)
        self._keep_collections(stored, travelled(contents))
        find_histories(self._root, create=True)[self.name] = stored
        self._check_empty()  # now it is known of which collections it is
        if name not in names.branches():
            base = other.names.branch(name).base
            names.set_branch(name, Branch(self._here(other, base)))
        self.working.write(list(self.contents.documents(first)))
        self._settle()
        self._go_to(name, names.branch(name).tip)

    def _check_empty(self) -> None:
        if next(self.working.ids(), None) is not None:
            raise InvalidOperation(
                f"{self.name!r} has documents there, and no versions: they would be lost; remove them first,"
                " or give that collection a history of its own"
            )
