"""A history as people think of it: whole copies of all documents for each version, in plain dicts and lists.

A *world* knows every version that was ever made, by id, with a whole copy; a *side* is one database, with its
branches as lists of ids. Nothing here is quick.
"""

import copy

import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync.versions import VersionedCollection
from livesync.versions.diffs.threeway import ABSENT, merge
from livesync.versions.store.records import Record
from livesync.versions.values import CODEC, hash_of


def same(one, other):
    if one is ABSENT or other is ABSENT:
        return one is other
    return CODEC.encode(one) == CODEC.encode(other)


def hash_or_none(value):
    return b"" if value is ABSENT else hash_of(CODEC.encode(value))


class World:
    """All versions of all databases.

    Attributes:
        documents: Id -> whole copy, as it was registered, what was erased since included.
        parents: Id -> ids.
        erased: Documents that were erased in any database.
    """

    def __init__(self):
        self.documents = {}
        self.parents = {}
        self.erased = set()  # documents that were erased anywhere
        self.now = 1_700_000_000.0

    def tick(self):
        self.now += 1_000
        return self.now

    def ancestors(self, version):
        """Return a version and all before it."""
        found, todo = set(), [version]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.parents[one]
        return found

    def bases(self, one, other):
        """Return the best common ancestors."""
        common = self.ancestors(one) & self.ancestors(other)
        return {a for a in common if not any(a != b and a in self.ancestors(b) for b in common)}

    def get(self, version, document_id):
        return self.documents[version].get(document_id, ABSENT)

    def merged(self, base, ours, theirs):
        """Return (documents, whether they disagree) of a merge with one base; ours stands where they do."""
        found, conflicts = dict(self.documents[ours]), False
        for one in sorted({*self.documents[base], *self.documents[ours], *self.documents[theirs]}):
            made = merge(self.get(base, one), self.get(ours, one), self.get(theirs, one), CODEC)
            conflicts |= bool(made.conflicts)
            if made.value is ABSENT:
                found.pop(one, None)
            else:
                found[one] = made.value
        return found, conflicts


class Side:
    """One database: the real collection, and what the model says of it."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.db = ZODB.DB(DemoStorage())
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        self.docs = VersionedCollection(self.connection, "docs", clock=world.tick)
        self.is_tracked = False
        self.branches = {}  # name -> [id of the base or None, own ids]
        self.tags = {}
        self.head = ("", "")  # branch, id
        self.working = {}
        self.stash = None
        self.pruned = set()
        self.erased = set()  # (id, document)
        self.seen = set()  # ids that were compared with the world's copies
        self.commit()

    def forget(self):
        """Know nothing any more: the collection was dropped."""
        self.is_tracked, self.stash = False, None
        self.branches, self.tags, self.working = {}, {}, {}
        self.pruned, self.erased, self.seen = set(), set(), set()

    def close(self):
        self.tm.abort()
        self.connection.close()
        self.db.close()

    def commit(self):
        self.tm.commit()
        self.connection.cacheMinimize()

    # -- what the model knows --------------------------------------------------------------------------

    def tip(self, name):
        base, own = self.branches[name]
        return own[-1] if own else base

    @property
    def is_detached(self):
        return self.tip(self.head[0]) != self.head[1]

    def content(self, version):
        """Return what can be read of a version: without what was erased."""
        found = self.world.documents[version]
        return {one: value for one, value in found.items() if (version, one) not in self.erased}

    def is_changed_at(self, document_id):
        now = self.working.get(document_id, ABSENT)
        if now is ABSENT and (self.head[1], document_id) in self.erased:
            return False
        return not same(now, self.world.get(self.head[1], document_id))

    @property
    def is_changed(self):
        return any(self.is_changed_at(one) for one in {*self.working, *self.world.documents[self.head[1]]})

    def places(self):
        """Yield (number, branch, id) of all versions that have a name."""
        for name, (_, own) in sorted(self.branches.items()):
            for number, version in enumerate(own):
                yield number, name, version

    def place(self, version):
        return next(((number, name) for number, name, one in self.places() if one == version), None)

    def registered(self):
        """Return what a version of the working documents would hold: erased ones as they were."""
        found = copy.deepcopy(self.working)
        for one, value in self.world.documents[self.head[1]].items():
            if one not in found and (self.head[1], one) in self.erased:
                found[one] = value
        return found

    # -- what the collection says ----------------------------------------------------------------------

    @property
    def stored(self):
        return self.docs.contents.stored

    def present(self):
        """Return the ids of all versions that are there, and their keys."""
        return {one.hex(): key for one, key in self.stored.keys.items()}

    def id_at(self, number, branch):
        return self.docs.id_of(self.docs.names.key(number, branch))

    def real_branches(self):
        id_of = self.docs.id_of
        return {
            name: [
                None if branch.base == -1 else id_of(branch.base),
                [id_of(key) for key in branch.versions()],
            ]
            for name, branch in self.docs.names.branches().items()
        }

    def adopt(self, expected=None):
        """Take in versions that are new here: check them where the world knows them, or ``expected`` says.

        Args:
            expected: Id -> whole copy of versions that the world does not know; one that is lacking is read,
                and has to be a merge whose outcome the model does not foretell.
        """
        contents, world = self.docs.contents, self.world
        new = {one: key for one, key in self.present().items() if one not in self.seen}
        for one, key in sorted(new.items(), key=lambda item: item[1]):
            record = Record.unpacked(self.stored.records[key])
            parents = tuple(parent.hex() for parent in record.parents)
            if contents.is_pruned(key):
                assert one in world.documents, "nobody prunes what was never whole"
                self.pruned.add(one)
                continue
            if one not in world.documents:
                world.parents[one] = parents
                assert len(parents) > 1 or one in (expected or {}), "this version comes from nowhere"
                known = (expected or {}).get(one)
                world.documents[one] = self.read(key) if known is None else copy.deepcopy(known)
            assert world.parents[one] == parents
            self._note_erased(one, key)
        self.seen |= set(new)

    def read(self, key):
        """Return a version's documents as they are read; of what was erased, what it was."""
        contents, found = self.docs.contents, {}
        for one in contents.ids():
            value, content_hash = contents.value(one, key), contents.hash(one, key)
            if value is ABSENT and content_hash:
                known = [copied[one] for copied in self.world.documents.values() if one in copied]
                value = next(value for value in known if hash_or_none(value) == content_hash)
            if value is not ABSENT:
                found[one] = value
        return found

    def _note_erased(self, version, key):
        for one in self.world.documents[version]:
            if self.docs.contents.is_erased(one, key):
                assert one in self.world.erased
                self.erased.add((version, one))

    # -- what always holds -----------------------------------------------------------------------------

    def look(self):
        """Compare everything with the model."""
        docs = self.docs
        if not self.is_tracked:
            assert not docs.is_tracked
            return
        faults = [str(fault) for fault in docs.check()]
        assert not faults, faults
        assert self.real_branches() == self.branches
        assert {name: docs.id_of(key) for name, key in docs.names.tags.items()} == self.tags
        assert (docs.names.head[0], docs.id_of(docs.names.head[1])) == self.head
        assert docs.is_detached == self.is_detached
        assert dict(docs.documents).keys() == self.working.keys()
        assert all(same(docs.documents[one], value) for one, value in self.working.items())
        assert docs.has_changes == self.is_changed
        assert docs.has_stash == (self.stash is not None)
        present = self.present()
        for number, name, version in self.places():
            if version in self.pruned:
                assert docs.contents.is_pruned(present[version])
                continue
            read = dict(docs.read_all(number, name))
            content = self.content(version)
            assert read.keys() == content.keys(), (number, name)
            assert all(same(read[one], content[one]) for one in read), (number, name)
