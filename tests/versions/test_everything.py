"""Random sequences of all that can be done to two databases' versions, against whole copies.

How many is set by ``LIVESYNC_TEST_HISTORIES`` (25); ``bin/test --soak`` sets it to 2,000.
"""

import copy
import io
import os
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from zodbpickle import fastpickle as zodbpickle

from livesync.errors import InvalidOperation, VersionPruned
from livesync.versions.diffs.threeway import ABSENT
from livesync.versions.remotes.bundles import read_bundle, write_bundle
from livesync.versions.store.records import Record
from livesync.versions.upkeep.retention import Policy

from . import typed
from .plainmodel import Side, World, same

HISTORIES = int(os.environ.get("LIVESYNC_TEST_HISTORIES", "25"))

IDS = [f"d{number}" for number in range(5)]

WORDS = " ".join(f"word{number}" for number in range(30))


def as_zodb_keeps(document):
    """Tell whether ZODB's own pickles keep a working document: not with folds, nor zones by name."""
    try:
        return same(zodbpickle.loads(zodbpickle.dumps(document, 3)), document)
    except zodbpickle.PicklingError:
        return False


DOCUMENTS = st.one_of(
    st.fixed_dictionaries({"n": st.integers(0, 3)}),
    st.fixed_dictionaries({"n": st.integers(0, 3), "m": st.lists(st.integers(0, 3), max_size=3)}),
    st.fixed_dictionaries(
        {"n": st.sampled_from([0, True, 1.5]), "text": st.sampled_from([WORDS, WORDS[::-1]])}
    ),
    typed.documents.filter(as_zodb_keeps),
)

SIDES = st.sampled_from(["here", "there"])


class Histories(RuleBasedStateMachine):
    @initialize(documents=st.dictionaries(st.sampled_from(IDS), DOCUMENTS, max_size=4))
    def begin(self, documents):
        self.world = World()
        self.sides = {name: Side(self.world, name) for name in ("here", "there")}
        here = self.sides["here"]
        here.docs.documents.update(copy.deepcopy(documents))
        here.docs.init()
        root = here.docs.get_log()[0].id
        self._begun(here, {"main": [None, [root]]}, documents)
        self.world.parents[root] = ()
        self.world.documents[root] = copy.deepcopy(documents)
        here.seen = {root}
        here.commit()
        self.count = 0

    def _begun(self, side, branches, documents):
        side.is_tracked = True
        side.branches = branches
        side.working = copy.deepcopy(documents)
        name = next(iter(branches))
        side.head = (name, side.tip(name))

    def teardown(self):
        for side in getattr(self, "sides", {}).values():
            side.close()

    def side(self, name):
        found = self.sides[name]
        return found if found.is_tracked else self.sides["here"]

    def other(self, side):
        return self.sides["there" if side.name == "here" else "here"]

    def name(self):
        self.count += 1
        return f"b{self.count}"

    def go_to(self, side, branch, version):
        """The working documents become another version's; they are clean. What both have stays as it is."""
        content, before = side.content(version), side.head[1]
        for one in {*side.working, *self.world.documents[version], *self.world.documents[before]}:
            is_erased = [(known, one) in side.erased for known in (before, version)]
            if (
                same(self.world.get(before, one), self.world.get(version, one))
                and is_erased[0] == is_erased[1]
            ):
                continue
            side.working.pop(one, None)
            if one in content:
                side.working[one] = copy.deepcopy(content[one])
        side.head = (branch, version)

    def made(self, side, branch, documents):
        """A version of the current branch was made, and HEAD is there."""
        new = side.docs.id_of(side.docs.names.head[1])
        side.branches[branch][1].append(new)
        side.adopt({new: documents})
        side.head = (branch, new)
        return new

    # -- editing -----------------------------------------------------------------------------------

    @rule(name=SIDES, document_id=st.sampled_from(IDS), document=DOCUMENTS)
    def write(self, name, document_id, document):
        side = self.side(name)
        side.docs.documents[document_id] = copy.deepcopy(document)
        side.working[document_id] = document
        side.commit()

    @rule(name=SIDES, document_id=st.sampled_from(IDS))
    def remove(self, name, document_id):
        side = self.side(name)
        if document_id in side.working:
            del side.docs.documents[document_id]
            del side.working[document_id]
            side.commit()

    @rule(name=SIDES, document_id=st.sampled_from(IDS), document=DOCUMENTS)
    def write_and_register(self, name, document_id, document):
        self.write(name=name, document_id=document_id, document=document)
        self.register(name=name)

    @rule(name=SIDES)
    def register(self, name):
        side = self.side(name)
        branch = self.name() if side.is_detached else side.head[0]
        expected = side.is_changed
        documents = side.registered()
        assert side.docs.register("x", branch) == expected
        if expected:
            side.branches.setdefault(branch, [side.head[1], []])
            self.made(side, branch, documents)
        side.commit()

    @rule(name=SIDES)
    def discard(self, name):
        side = self.side(name)
        side.docs.discard_changes()
        self.discarded(side)
        side.commit()

    def discarded(self, side):
        content = side.content(side.head[1])
        for one in [one for one in {*side.working, *content} if side.is_changed_at(one)]:
            side.working.pop(one, None)
            if one in content:
                side.working[one] = copy.deepcopy(content[one])

    @rule(name=SIDES)
    def stash(self, name):
        side = self.side(name)
        if side.is_changed:
            ids = {*side.working, *side.world.documents[side.head[1]]}
            kept = {one: side.working.get(one, ABSENT) for one in ids if side.is_changed_at(one)}
            assert side.docs.stash(overwrite=True)
            content = side.content(side.head[1])
            for one in kept:
                side.working.pop(one, None)
                if one in content:
                    side.working[one] = copy.deepcopy(content[one])
            side.stash = copy.deepcopy(kept)
        else:
            assert side.docs.stash(overwrite=True) is False
        side.commit()

    @rule(name=SIDES)
    def stash_apply(self, name):
        side = self.side(name)
        if side.stash is None:
            assert side.docs.stash_apply() is False
        elif side.is_changed:
            self.refused(side, side.docs.stash_apply)
            return
        else:
            assert side.docs.stash_apply()
            for one, value in side.stash.items():
                side.working.pop(one, None)
                if value is not ABSENT:
                    side.working[one] = value
            side.stash = None
        side.commit()

    @rule(name=SIDES)
    def stash_discard(self, name):
        side = self.side(name)
        assert side.docs.stash_discard() == (side.stash is not None)
        side.stash = None
        side.commit()

    def refused(self, side, call, *kinds):
        with pytest.raises(kinds or InvalidOperation):
            call()
        for one in self.sides.values():
            one.tm.abort()

    # -- branches and tags -------------------------------------------------------------------------

    @rule(name=SIDES)
    def branch_off(self, name):
        side, branch = self.side(name), self.name()
        side.docs.create_branch(branch)
        side.branches[branch] = [side.head[1], []]
        side.head = (branch, side.head[1])
        side.commit()

    @rule(name=SIDES, data=st.data())
    def rename_branch(self, name, data):
        side, new = self.side(name), self.name()
        old = data.draw(st.sampled_from(sorted(side.branches)))
        side.docs.rename_branch(old, new)
        side.branches[new] = side.branches.pop(old)
        if side.head[0] == old:
            side.head = (new, side.head[1])
        side.commit()

    @rule(name=SIDES, data=st.data(), force=st.booleans())
    def delete_branch(self, name, data, force):
        side = self.side(name)
        branch = data.draw(st.sampled_from(sorted(side.branches)))
        others = {one: kept for one, kept in side.branches.items() if one != branch}
        starts = {side.tip(one) for one in others} | set(side.tags.values())
        is_led_to = any(side.tip(branch) in self.world.ancestors(one) for one in starts)
        is_needed = any(base in side.branches[branch][1] for base, _ in others.values())
        if side.head[0] == branch or is_needed or not (force or is_led_to):
            self.refused(side, lambda: side.docs.delete_branch(branch, force))
            return
        side.docs.delete_branch(branch, force)
        del side.branches[branch]
        side.commit()

    @rule(name=SIDES, data=st.data())
    def tag(self, name, data):
        side, tag = self.side(name), self.name()
        number, branch, version = data.draw(st.sampled_from(list(side.places())))
        side.docs.tag(tag, number, branch)
        side.tags[tag] = version
        side.commit()

    @rule(name=SIDES, data=st.data())
    def untag(self, name, data):
        side = self.side(name)
        if side.tags:
            tag = data.draw(st.sampled_from(sorted(side.tags)))
            assert side.docs.untag(tag)
            del side.tags[tag]
            side.commit()

    @rule(name=SIDES, data=st.data())
    def checkout(self, name, data):
        side = self.side(name)
        number, branch, version = data.draw(st.sampled_from(list(side.places())))

        def call():
            return side.docs.checkout(number, branch)

        if (branch, version) == side.head:
            assert call()
        elif side.is_changed:
            self.refused(side, call)
            return
        elif version in side.pruned:
            self.refused(side, call, VersionPruned)
            return
        else:
            assert call()
            self.go_to(side, branch, version)
        side.commit()

    @rule(name=SIDES, data=st.data())
    def checkout_branch(self, name, data):
        side = self.side(name)
        branch = data.draw(st.sampled_from(sorted(side.branches)))
        if side.is_changed:
            return
        assert side.docs.checkout(branch=branch)
        self.go_to(side, branch, side.tip(branch))
        side.commit()

    # -- bringing together -------------------------------------------------------------------------

    @rule(name=SIDES, data=st.data(), how=st.sampled_from(["ours", "theirs", "base", "abort"]))
    def merge(self, name, data, how):
        side = self.side(name)
        number, branch, theirs = data.draw(st.sampled_from(list(side.places())))
        ours = side.head[1]

        def call():
            return side.docs.merge(branch, number)

        if side.is_changed or side.is_detached:
            self.refused(side, call)
            return
        if theirs in self.world.ancestors(ours):
            assert call().version is None
            return
        if theirs in side.pruned:
            self.refused(side, call, VersionPruned)
            return
        bases = self.world.bases(ours, theirs)
        joined = call()
        is_plain = len(bases) == 1 and not side.erased
        expected = None
        if is_plain:
            expected, conflicts = self.world.merged(*bases, ours, theirs)
            assert bool(joined.conflicts) == conflicts
        self.joined(side, joined, expected, how)

    @rule(name=SIDES, data=st.data(), how=st.sampled_from(["ours", "theirs", "abort"]), undo=st.booleans())
    def replay(self, name, data, how, undo):
        """Cherry-pick, and revert."""
        side = self.side(name)
        number, branch, version = data.draw(st.sampled_from(list(side.places())))
        parents = self.world.parents[version]

        def call():
            return (side.docs.revert if undo else side.docs.cherry_pick)(number, branch)

        if side.is_changed or side.is_detached or not parents:
            self.refused(side, call)
            return
        if {version, parents[0]} & side.pruned:
            self.refused(side, call, VersionPruned)
            return
        base, theirs = (version, parents[0]) if undo else (parents[0], version)
        joined = call()
        expected = None
        if not side.erased:
            expected, conflicts = self.world.merged(base, side.head[1], theirs)
            assert bool(joined.conflicts) == conflicts
        self.joined(side, joined, expected, how)

    def joined(self, side, joined, expected, how):
        if joined.conflicts:
            expected = None if how != "ours" else expected
            side.commit()
            self.refused(side, lambda: side.docs.register("x"))
            self.refused(side, lambda: side.docs.squash_keys(0, 0))
            if how == "abort":
                assert side.docs.abort_merge()
                side.commit()
                return
            joined = side.docs.resolve_conflicts(how)
            assert not joined.conflicts
        if joined.version is not None:
            branch = side.head[0]
            new = side.docs.id_of(side.docs.names.head[1])
            side.branches[branch][1].append(new)
            self.adopt_merge(side, new, expected)
            self.go_to(side, branch, new)
        side.commit()

    def adopt_merge(self, side, new, expected):
        """A version that came of a merge; where the model does not say what it holds it is read."""
        documents = expected
        if documents is None:
            key = side.docs.names.head[1]
            documents = side.read(key)
        side.adopt({new: documents})

    # -- taking away -------------------------------------------------------------------------------

    def children(self, side):
        """Return id -> ids of versions that are there and follow it along first parents."""
        found = {}
        for version in side.present():
            parents = self.world.parents[version]
            if parents:
                found.setdefault(parents[0], []).append(version)
        return found

    @rule(name=SIDES, data=st.data())
    def delete_subtree(self, name, data):
        side = self.side(name)
        number, branch, version = data.draw(st.sampled_from(list(side.places())))
        parents = self.world.parents[version]
        if not parents:
            return
        children, doomed, todo = self.children(side), set(), [version]
        while todo:
            one = todo.pop()
            doomed.add(one)
            todo += children.get(one, [])
        is_needed = any(set(self.world.parents[one]) & doomed for one in side.present() if one not in doomed)

        def call():
            return side.docs.delete_version_subtree(number, branch)

        if is_needed or parents[0] in side.pruned:
            self.refused(side, call)
            return
        assert call()
        for one, (base, own) in list(side.branches.items()):
            left = own[: next((at for at, known in enumerate(own) if known in doomed), len(own))]
            side.branches[one] = [base, left]
            if one == branch and not left:
                side.branches[one] = [parents[0], []]
            elif base in doomed and not left:
                del side.branches[one]
        side.tags = {tag: known for tag, known in side.tags.items() if known not in doomed}
        if side.head[1] in doomed:
            self.discarded(side)
            self.go_to(side, branch, parents[0])
        if side.head[0] not in side.branches:
            side.head = (side.place(side.head[1])[1], side.head[1])
        self.gone(side, doomed)
        side.commit()

    def gone(self, side, versions):
        side.seen -= set(versions)
        side.pruned -= set(versions)
        side.erased = {(version, one) for version, one in side.erased if version not in versions}

    @rule(name=SIDES)
    def collect(self, name):
        side = self.side(name)
        starts = {side.tip(branch) for branch in side.branches} | {*side.tags.values(), side.head[1]}
        reached = set().union(*(self.world.ancestors(one) for one in starts))
        unreached = set(side.present()) - reached
        assert side.docs.collect_garbage(most=1) == min(1, len(unreached))
        assert side.docs.collect_garbage() == max(0, len(unreached) - 1)
        assert set(side.present()) == reached
        self.gone(side, unreached)
        side.commit()

    @rule(name=SIDES, newest=st.integers(0, 3), most=st.sampled_from([1, 2, 100]))
    def prune(self, name, newest, most):
        side = self.side(name)
        present = side.present()
        children = self.children(side)
        needed = {side.tip(branch) for branch in side.branches} | {*side.tags.values(), side.head[1]}
        needed |= {one for one in present if len(children.get(one, ())) != 1}
        for one in present:
            parents = self.world.parents[one]
            needed |= set(parents) if len(parents) > 1 else set() if parents else {one}
        for _, own in side.branches.values():
            rest = [one for one in own if one not in side.pruned]
            needed |= set(rest[-newest:] if newest else ())
        unnamed = {one for one in present if side.place(one) is None}
        while side.docs.prune(Policy(newest=newest), most):
            side.commit()
            assert side.docs.check() == []
        pruned = {one for one, key in side.present().items() if side.docs.contents.is_pruned(key)}
        may, newly = set(present) - needed - side.pruned, pruned - side.pruned
        assert newly <= may
        assert may - newly <= (unnamed if newest else set())  # those are counted as a branch of their own
        side.pruned = pruned
        side.erased = {(version, one) for version, one in side.erased if version not in pruned}
        side.commit()

    @rule(name=SIDES, data=st.data(), force=st.booleans())
    def squash(self, name, data, force):
        side = self.side(name)
        branch = data.draw(st.sampled_from(sorted(name for name, (_, own) in side.branches.items() if own)))
        own = list(side.branches[branch][1])
        first = data.draw(st.integers(0, len(own) - 1))
        last = data.draw(st.integers(first, len(own) - 1))
        run = own[first : last + 1]
        before, after = own[:first], own[last + 1 :]
        if any(self.world.parents[after][0] != before for before, after in pairwise(run)):
            return  # a pull went on along another parent
        parent = self.world.parents[run[0]][:1]
        world, docs = self.world, side.docs
        is_refused = not parent or {parent[0], run[-1]} & side.pruned or self.is_inside(side, run)
        if is_refused:
            self.refused(
                side,
                lambda: docs.squash(first, last, branch, "s", force=force),
                InvalidOperation,
                VersionPruned,
            )
            return
        olds = {name: (base, list(own)) for name, (base, own) in side.branches.items()}
        made = docs.squash(first, last, branch, "s", force=force)
        has_merged = any(len(world.parents[one]) > 1 for one in run)
        ids = {*world.documents[run[-1]], *world.documents[parent[0]]}
        is_empty = all(same(world.get(run[-1], one), world.get(parent[0], one)) for one in ids)
        assert (made is None) == (is_empty and not has_merged)
        moved = {run[-1]: parent[0] if made is None else docs.id_of(docs.find(*made)[1])}
        reals = side.real_branches()
        for name_, (_, ids) in olds.items():
            kept = [one for one in ids if one not in (run if made is None else run[:-1])]
            assert len(kept) == len(reals[name_][1])
            moved.update({one: new for one, new in zip(kept, reals[name_][1]) if one != new})
        for old, new in moved.items():
            if new not in world.documents:
                key = side.present()[new]
                record = Record.unpacked(side.stored.records[key])
                world.parents[new] = tuple(one.hex() for one in record.parents)
                world.documents[new] = copy.deepcopy(world.documents[old])
            if new != parent[0]:
                if old in side.pruned:
                    side.pruned.add(new)
                side.erased |= {(new, one) for version, one in side.erased if version == old}
        assert reals[branch][1][: len(before)] == before
        assert len(reals[branch][1]) == len(before) + len(after) + (made is not None)
        side.branches = {
            name_: [moved.get(base, base), [moved.get(one, one) for one in ids
                                            if one not in (run if made is None else run[:-1])]]
            for name_, (base, ids) in olds.items()
        }  # fmt: skip
        side.tags = {tag: moved.get(one, one) for tag, one in side.tags.items()}
        side.head = (side.head[0], moved.get(side.head[1], side.head[1]))
        present = set(side.present())
        self.gone(side, {*run, *(old for old in moved if old not in present)})
        side.seen = present
        for one in present - set(world.documents):  # versions without a name that came after the run
            key = side.present()[one]
            record = Record.unpacked(side.stored.records[key])
            world.parents[one] = tuple(parent.hex() for parent in record.parents)
            world.documents[one] = side.read(key) if not docs.contents.is_pruned(key) else {}
            if docs.contents.is_pruned(key):
                side.pruned.add(one)
        side.commit()

    def is_inside(self, side, run):
        """Tell whether something needs one of the run but the last."""
        inner = set(run[:-1])
        named = {side.tip(branch) for branch in side.branches} | {*side.tags.values(), side.head[1]}
        needed = any(set(self.world.parents[one]) & inner for one in side.present() if one not in run)
        return bool(named & inner) or needed

    @rule(name=SIDES, document_id=st.sampled_from(IDS))
    def erase(self, name, document_id):
        side = self.side(name)
        side.docs.erase(document_id)
        self.world.erased.add(document_id)
        for version in side.present():
            if version not in side.pruned and document_id in self.world.documents[version]:
                side.erased.add((version, document_id))
        if side.stash is not None:
            side.stash.pop(document_id, None)
            side.stash = side.stash or None
        side.commit()

    @rule(name=SIDES)
    def rename(self, name):
        side = self.side(name)
        side.docs = side.docs.rename("others").rename("docs")
        side.commit()

    @rule(remove=st.booleans())
    def drop(self, remove):
        """The second database begins anew, for instance with what is pulled or pushed next."""
        side = self.sides["there"]
        if side.is_tracked and remove:
            side.docs.drop()
            side.forget()
            side.commit()

    # -- two databases -----------------------------------------------------------------------------

    def lengths(self, side):
        return {name: list(own) for name, (_, own) in side.branches.items()}

    @rule(name=SIDES, data=st.data(), tags=st.booleans())
    def push(self, name, data, tags):
        side = self.side(name)
        other = self.other(side)
        branch = data.draw(st.sampled_from(sorted(side.branches)))
        if not other.is_tracked and other.working:
            return
        moved = tags and any(other.tags.get(tag, one) != one for tag, one in side.tags.items())
        old = copy.deepcopy(other.branches)
        is_on_it = other.is_tracked and other.head[0] == branch and not other.is_detached
        try:
            assert side.docs.push(other.docs, branch, tags=tags)
            assert not moved
        except InvalidOperation:
            for one in self.sides.values():
                one.tm.abort()
            if other.is_tracked and branch in old and not (is_on_it and other.is_changed):
                tip, theirs = side.tip(branch), other.tip(branch)
                goes_on = theirs in self.world.ancestors(tip)
                assert not goes_on or moved or other.pruned or side.pruned
            return
        other.tags.update(side.tags if tags else {})
        if not other.is_tracked:
            self._taken_over(other)
        else:
            other.adopt()
            reals = other.real_branches()
            assert other_tip(reals[branch]) == side.tip(branch)
            assert all(reals[one] == kept for one, kept in old.items() if one != branch)
            other.branches = reals
            if is_on_it and other.head[1] != other.tip(branch):
                self.go_to(other, branch, other.tip(branch))
        for one in self.sides.values():
            one.commit()

    def _taken_over(self, other):
        other.seen = set()
        other.is_tracked = True
        other.adopt()
        other.branches = other.real_branches()
        branch, key = other.docs.names.head
        other.head = (branch, other.docs.id_of(key))
        other.working = copy.deepcopy(other.content(other.head[1]))

    @rule(
        name=SIDES,
        data=st.data(),
        how=st.sampled_from(["ours", "theirs", "abort"]),
        bundle=st.booleans(),
        tags=st.booleans(),
    )
    def pull(self, name, data, how, bundle, tags):
        side = self.sides[name]
        other = self.other(side)
        if not other.is_tracked or (not side.is_tracked and side.working):
            return
        branch = data.draw(st.sampled_from(sorted(other.branches)))
        source = self.carried(other) if bundle else other.docs
        if bundle and branch not in source.branches():
            return  # put aside by a pull, and merged by none
        is_on_it = side.is_tracked and side.head[0] == branch and not side.is_detached
        mine = self.lengths(side).get(branch, [])
        try:
            assert side.docs.pull(source, branch, tags=tags)
        except (InvalidOperation, VersionPruned):
            for one in self.sides.values():
                one.tm.abort()
            return
        if tags:
            side.tags = {**other.tags, **side.tags}
        if not side.is_tracked:
            self._taken_over(side)
            side.commit()
            return
        if side.docs.has_conflicts:
            side.adopt()
            side.commit()
            if how == "abort":
                side.docs.abort_merge()
            else:
                assert not side.docs.resolve_conflicts(how).conflicts
        side.adopt(self.merges_of(side))
        side.branches = side.real_branches()
        named = {one for _, _, one in side.places()}
        assert set(mine) <= named
        assert other.tip(branch) in self.world.ancestors(side.tip(branch))
        if is_on_it and side.docs.id_of(side.docs.names.head[1]) != side.head[1]:
            self.go_to(side, branch, side.tip(branch))
        side.commit()

    def merges_of(self, side):
        """Return what the versions hold that a pull has made of a merge here."""
        new = {one: key for one, key in side.present().items() if one not in self.world.documents}
        return {one: side.read(key) for one, key in new.items()}

    def carried(self, other):
        file = io.BytesIO()
        write_bundle(other.docs, file)
        file.seek(0)
        found = read_bundle(file)
        for number, name, version in other.places():
            if version not in other.pruned and name in found.branches():
                key = found.contents.stored.keys[bytes.fromhex(version)]
                read = dict(found.contents.documents(key))
                assert read.keys() == other.content(version).keys(), (number, name)
        return found

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def all_is_as_the_model_says(self):
        for side in getattr(self, "sides", {}).values():
            side.look()


def other_tip(branch):
    base, own = branch
    return own[-1] if own else base


Histories.TestCase.settings = settings(max_examples=HISTORIES, stateful_step_count=30, deadline=None)
test_whatever_is_done_all_is_as_whole_copies_say = Histories.TestCase
