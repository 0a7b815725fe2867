"""Random work on a history of two collections, against whole copies of both."""

import copy
import random

import pytest

from livesync.versions import VersionedCollection

PARTS = ("events", "talks")


class Both:
    """The history, and what its two collections have to hold."""

    def __init__(self, root, clock, mood):
        self.mood, self.count = mood, 0
        self.docs = VersionedCollection(root, "catalogue", collections=PARTS, clock=clock)
        for name in PARTS:
            self.docs.part(name).documents["x"] = {"n": 0}
        self.docs.init()
        self.working = self.held()
        self.versions = {self.head: copy.deepcopy(self.working)}

    @property
    def head(self):
        return self.docs.names.head[1]

    @property
    def is_clean(self):
        return self.working == self.versions[self.head]

    def held(self):
        return {name: copy.deepcopy(dict(self.docs.part(name).documents)) for name in PARTS}

    def new_name(self):
        self.count += 1
        return f"b{self.count}"

    def edit(self):
        name, one = self.mood.choice(PARTS), self.mood.choice("xyz")
        if one in self.working[name] and self.mood.random() < 0.3:
            del self.docs.part(name).documents[one]
            del self.working[name][one]
        else:
            document = {"n": self.mood.randrange(4), "of": name}
            self.docs.part(name).documents[one] = document
            self.working[name][one] = dict(document)

    def register(self):
        is_made = not self.is_clean
        assert self.docs.register("x", self.new_name()) == is_made
        if is_made:
            self.versions[self.head] = copy.deepcopy(self.working)

    def branch(self):
        self.docs.create_branch(self.new_name())

    def checkout(self):
        if self.is_clean:
            key = self.mood.choice(list(self.versions))
            self.docs.checkout(*self.docs.names.place(key))
            self.working = copy.deepcopy(self.versions[key])

    def merge(self):
        if self.is_clean and not self.docs.is_detached:
            joined = self.docs.merge(self.mood.choice(sorted(self.docs.branches())))
            if joined.conflicts:
                self.docs.resolve_conflicts(self.mood.choice(["ours", "theirs"]))
            self.working = self.held()
            self.versions[self.head] = copy.deepcopy(self.working)

    def stash(self):
        if self.docs.stash():
            assert self.held() == self.versions[self.head]
            assert self.docs.stash_apply()


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 60))]
)
def test_both_collections_are_at_every_version_what_they_were(new_root, clock, seed):
    mood = random.Random(seed)
    both = Both(new_root(), clock, mood)
    steps = (both.edit, both.edit, both.edit, both.register, both.register, both.branch, both.checkout)
    for _ in range(40):
        mood.choice((*steps, both.merge, both.stash))()
        assert both.held() == both.working

    assert both.docs.check() == []
    other = VersionedCollection(new_root(), "catalogue", clock=clock)
    other.pull(both.docs, everything=True)
    assert other.check() == []
    for docs in (both.docs, other):
        for key, documents in both.versions.items():
            number, branch = docs.names.place(docs.stored.keys[bytes.fromhex(both.docs.id_of(key))])
            for name in PARTS:
                read = {one: docs.part(name).read(one, number, branch) for one in "xyz"}
                assert {one: value for one, value in read.items() if value is not None} == documents[name]
