"""Pulling: what is asked of another collection, and what becomes of the branches here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...errors import InvalidCollectionState, InvalidOperation
from .. import merging
from ..names import MAIN, RESERVED
from ..saying import gathered
from ..store.ancestry import is_ancestor, merge_bases, path_between
from ..store.tree import Branch, way_up
from .ends import Asked, Layout, OtherEnd, Refs, Tag, Want, end_of, id_of, marks_of
from .receiving import Moved, ReceivingCollection

if TYPE_CHECKING:
    from ...peering.keyring import KeyRing
    from .network import NetworkEnd

#: How local versions are called once a pull has put others into their place.
REBRANCHED: Final = "__rebranched_"


def _forget(is_committed: bool, end: NetworkEnd) -> None:
    if is_committed:
        end.forget()


def _fork(own: Branch, shared: int) -> int:
    return own.at(shared - 1) if shared else own.base


class PullingCollection(ReceivingCollection):
    """The part of a collection that pulls."""

    # -- pull ----------------------------------------------------------------------------------------

    def pull(
        self,
        remote: ReceivingCollection | OtherEnd | str,
        branch: str | None = None,
        *,
        tags: bool = False,
        everything: bool = False,
        keys: KeyRing | None = None,
    ) -> bool:
        """Bring a branch of another collection here.

        Where both have gone on, the other one's versions take the place of the local ones, which stay on a
        branch of their own, ``__rebranched_<branch>_<n>``, and are merged, as one version with two parents.
        Where they disagree, the merge waits for :meth:`resolve_conflicts`; :meth:`abort_merge` leaves the
        branch as the other one has it, with the local versions on theirs.

        Documents that have changes stay as they are, changed, where the pull does not write them.

        Args:
            remote: The other collection, of the same name; nothing of it is written. Of another node the
                address, ``https://…``, or the name of a peer. What comes over a network is kept before it is
                looked at, in transactions of its own, until the caller has committed.
            branch: None: the current one.
            tags: Bring all tags, too; one that is here at another version stays where it is.
            everything: Bring all branches but those that pulls have put aside there. Where another branch
                than the current one has diverged, it is left as it is.
            keys: The private keys of this database, for another node.

        Returns:
            False where the other one has no versions.

        Raises:
            ValueError: The names differ.
            InvalidOperation: They are one collection; HEAD is detached and no branch is named; conflicts wait
                on that branch, or documents have changes that the pull would write; the other one has no such
                branch; both have gone on, and HEAD is elsewhere; or there are documents and no versions.
            InvalidCollectionState: They began with other versions, or what came is damaged.
            SyncError, PeerRefused: The other node does not answer, or refuses.
        """
        if isinstance(remote, str):
            with self._named_end(remote, "pull", keys) as end:
                moved = self.pull_refs(end, branch, tags, everything)
            # what was fetched is needed until it is in the history for good
            self._root._p_jar.transaction_manager.get().addAfterCommitHook(_forget, (end,))
            return moved is not None
        return self.pull_refs(remote, branch, tags, everything) is not None

    def pull_refs(
        self,
        remote: ReceivingCollection | OtherEnd,
        branch: str | None = None,
        tags: bool = False,
        everything: bool = False,
    ) -> list[Moved] | None:
        """Pull as :meth:`pull` does; return what became of each branch and tag, None without versions."""
        end = end_of(remote)
        self._check_other(end)
        refs = end.refs()
        if not refs.root:
            return None
        asked = self.to_ask(refs, branch, tags, everything)
        if not self.is_tracked:
            moved = self._begin_with(end.pack(asked))
        else:
            with self._wholly():
                moved = self._pulled(end, refs, asked, is_named=not everything)
        self.note_remote(end.address, {name: far.tip for name, far in refs.branches.items()})
        return moved

    def to_ask(
        self, refs: Refs, branch: str | None = None, tags: bool = False, everything: bool = False
    ) -> Asked:
        """Return what :meth:`pull` asks another collection for, given what that says of itself.

        Raises:
            InvalidOperation: As :meth:`pull`, as far as it is known before anything comes.
            InvalidCollectionState: They began with other versions.
        """
        chosen = sorted(name for name in refs.branches if not name.startswith(RESERVED))
        if not everything:
            chosen = [self._wanted(refs, branch)]
        tag_names = tuple(sorted(refs.tags)) if tags else ()
        if not self.is_tracked:
            self._check_nothing_lost()
            # the branch that the documents are to come from first
            chosen.sort(key=lambda name: name != (branch or MAIN))
            return Asked(tuple(Want(name) for name in chosen), (), tag_names)
        self._check_same_root(refs)
        contents, names = self.contents, self.names
        name, _ = names.head
        if name in chosen and not names.is_detached:
            self._check_no_conflicts("a pull")
        own = names.branches()
        wants = [
            Want(one, marks_of(contents, own[one]) if one in own else ())
            for one in chosen
            if not self._has(one, refs.branches[one].tip)
        ]
        tips = {id_of(contents.stored, one.tip) for one in own.values()}
        haves = sorted({*tips, *(id_of(contents.stored, key) for key in names.tags.values())})
        return Asked(tuple(wants), tuple(haves), tag_names)

    def is_needed(self, refs: Refs, asked: Asked) -> bool:
        """Tell whether anything that is asked for has to come."""
        if not self.is_tracked or asked.wants:
            return True
        keys = self.contents.stored.keys
        return any(refs.tags[tag] not in keys for tag in asked.tags)

    def _wanted(self, refs: Refs, branch: str | None) -> str:
        name = branch
        if name is None:
            if self.is_tracked and self.names.is_detached:
                raise InvalidOperation("HEAD is detached: name the branch that is to be pulled")
            name = self.names.head[0] if self.is_tracked else MAIN
        if name not in refs.branches:
            raise InvalidOperation(f"the remote has no branch {name!r}")
        return name

    def _has(self, name: str, tip_id: bytes) -> bool:
        """Tell whether a branch is here, and as far as a version or further."""
        own = self.names.branches().get(name)
        known = self.contents.stored.keys.get(tip_id)
        return own is not None and known is not None and is_ancestor(self.contents, known, own.tip)

    def _pulled(self, end: OtherEnd, refs: Refs, asked: Asked, is_named: bool) -> list[Moved]:
        stored = self.contents.stored
        before = self.names.branches()
        asked_names = [want.branch for want in asked.wants]
        tags = [Tag(name, refs.tags[name]) for name in asked.tags]
        layouts: dict[str, Layout] = {}
        if self.is_needed(refs, asked):
            layouts, tags = self._received(end.pack(asked), {*before, *asked_names})
        moved = []
        head, detached = self.names.head[0], self.names.is_detached
        # the current branch last: where its merge has to wait, everything else is done
        for name in sorted(layouts, key=lambda name: name == head):
            is_on_it = name == head and not detached
            moved.append(self._branch_pulled(layouts[name], before.get(name), is_on_it, is_named))
        moved += [self._tag_pulled(*tag) for tag in tags]
        if not asked.wants and not moved:
            tips = {
                name: id_of(stored, branch.tip) for name, branch in before.items() if name in refs.branches
            }
            moved = [Moved(name, "up to date", tip, tip) for name, tip in tips.items() if name == head]
        return moved

    def _branch_pulled(self, layout: Layout, own: Branch | None, is_on_it: bool, is_named: bool) -> Moved:
        contents, name = self.contents, layout.branch
        stored = contents.stored
        if own is None:
            branch = self._readable(name, self._with_ids(self._based(layout), layout.ids))
            self.names.set_branch(name, branch)
            return Moved(name, "new branch", b"", id_of(stored, branch.tip))
        old = id_of(stored, own.tip)
        shared, rest = self._shared(layout, own)
        # without a version of its own there, it is at the version that it begins at
        tip = rest[-1] if rest else self._there(layout.ids[-1] if layout.ids else layout.base or old)
        if is_ancestor(contents, own.tip, tip):
            going_on = rest if shared == own.total else path_between(contents, own.tip, tip)
            branch = own
            for key in going_on:
                branch = branch.with_next(key)
            self.names.set_branch(name, self._readable(name, branch))
            if is_on_it:
                self._go_to(name, tip, self._edited())
            return Moved(name, "fast-forward", old, id_of(stored, tip))
        if not is_on_it:
            if is_named:
                raise InvalidOperation(
                    f"{name!r} and the remote's have diverged: check it out, and pull then"
                )
            return Moved(name, "diverged", old, id_of(stored, tip))
        aside = self._put_aside(name, own, shared)
        what = "conflicts" if self._rejoined(layout, own, shared, rest, tip, aside) else "merged"
        return Moved(name, what, old, id_of(stored, self.names.branch(name).tip), aside)

    def _shared(self, layout: Layout, own: Branch) -> tuple[int, list[int]]:
        """Return how many versions of its own a branch shares with the other one's, and those after."""
        if layout.since > own.total:
            raise InvalidCollectionState(f"versions of branch {layout.branch!r} are left out")
        keys = [self._there(version_id) for version_id in layout.ids]
        shared = layout.since
        while shared < own.total and shared - layout.since < len(keys):
            if own.key(shared) != keys[shared - layout.since]:
                break
            shared += 1
        return shared, keys[shared - layout.since :]

    def _put_aside(self, name: str, own: Branch, shared: int) -> str:
        """Make a branch of the versions that only we have; return its name."""
        number = 0
        while (aside := f"{REBRANCHED}{name}_{number}") in self.names.branches():
            number += 1
        self.names.set_branch(aside, Branch(_fork(own, shared), own.since(shared)))
        return aside

    def _rejoined(
        self, layout: Layout, own: Branch, shared: int, rest: list[int], tip: int, aside: str
    ) -> bool:
        """Put the other one's versions in the place of ours, and merge ours; tell whether conflicts wait."""
        names, name = self.names, layout.branch
        fork = _fork(own, shared)
        branch = own.until(shared) if shared else self._based(layout)
        for key in rest:
            branch = branch.with_next(key)
        names.set_branch(name, self._readable(name, branch))
        messages = [self._record(key).message for key in way_up(self.contents.forks, own.tip, fork)]
        message = gathered("[Auto-Merged]\n" + "\n".join(reversed(messages)))
        why = self._why(message, None, {"rebranched": aside})
        bases = merge_bases(self.contents, tip, own.tip)
        found = merging.merged(self.contents, bases, own.tip, (tip, own.tip), why)
        edited = self._edited()
        # what only ours changed is as the merge has it: where it need not wait, that is not written
        made = None if found.conflicts else self._joined(found, edited)
        if made is None or made.version is None:
            self._go_to(name, tip, edited)
        return made is None and bool(self._joined(found).conflicts)

    def _edited(self) -> list[str]:
        return [document_id for _, document_id in self.changes()]

    def _tag_pulled(self, name: str, version_id: bytes) -> Moved:
        key, known = self._there(version_id), self.names.tags.get(name)
        if known is None:
            self.names.set_tag(name, key)
            return Moved(name, "new tag", b"", version_id)
        old = id_of(self.contents.stored, known)
        return Moved(name, "same tag" if known == key else "other tag", old, old)
