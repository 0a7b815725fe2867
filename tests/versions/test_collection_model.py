"""Whatever is done to a collection, it says what a plain model says that keeps whole copies."""

import copy

import transaction
import ZODB
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ZODB.DemoStorage import DemoStorage

from livesync.versions import VersionedCollection
from livesync.versions.values import CODEC
from livesync.versions.working import MappingCopy

from .typed import documents as typed_documents

IDS = [f"d{number}" for number in range(7)]


def same(one, other):
    return CODEC.encode(one) == CODEC.encode(other)


class Model:
    """Branches as lists of whole copies."""

    def __init__(self, documents):
        self.versions = {(0, "main"): copy.deepcopy(documents)}
        self.bases = {"main": None}
        self.head = (0, "main")
        self.tags = {}

    def count(self, branch):
        return sum(1 for _, name in self.versions if name == branch)

    def tip(self, branch):
        return (self.count(branch) - 1, branch) if self.count(branch) else self.bases[branch]

    def parent(self, version):
        number, branch = version
        return (number - 1, branch) if number else self.bases[branch]

    def log(self, version):
        while version is not None:
            yield version
            version = self.parent(version)


class Collections(RuleBasedStateMachine):
    @initialize(documents=st.dictionaries(st.sampled_from(IDS), typed_documents, max_size=5))
    def begin(self, documents):
        self.db = ZODB.DB(DemoStorage())
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        self.now = 1_900_000_000.0
        # not stored themselves: pickles lose folds, and refuse time zones
        working = MappingCopy({}, "docs")
        self.memory = working.documents
        self.memory.update(copy.deepcopy(documents))
        self.docs = VersionedCollection(self.connection, "docs", working=working, clock=self.tick)
        self.docs.init()
        self.working = documents
        self.at = (0, "main")  # whose documents the working ones come from
        self.branch = "main"
        self.model = Model(documents)

    def tick(self):
        self.now += 1
        return self.now

    def teardown(self):
        if hasattr(self, "db"):
            self.tm.abort()
            self.connection.close()
            self.db.close()

    @property
    def is_detached(self):
        return self.model.tip(self.branch) != self.at

    @property
    def is_changed(self):
        return not self.equal(self.working, self.model.versions[self.at])

    @staticmethod
    def equal(one, other):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)

    # -- steps -------------------------------------------------------------------------------------

    @rule(document_id=st.sampled_from(IDS), document=typed_documents)
    def write(self, document_id, document):
        self.memory[document_id] = copy.deepcopy(document)
        self.working = {**self.working, document_id: document}

    @rule(document_id=st.sampled_from(IDS))
    def remove(self, document_id):
        if document_id in self.working:
            del self.memory[document_id]
            self.working = {key: value for key, value in self.working.items() if key != document_id}

    @rule()
    def register(self):
        name = self.branch
        if self.is_detached:
            name = f"b{len(self.model.bases)}"
        made = self.docs.register("x", name)
        assert made == self.is_changed
        if made:
            self.model.bases.setdefault(name, self.at)
            self.at = (self.model.count(name), name)
            self.model.versions[self.at] = copy.deepcopy(self.working)
            self.branch = name

    @rule()
    def branch_off(self):
        name = f"b{len(self.model.bases)}"
        assert self.docs.create_branch(name) == self.at
        self.model.bases[name] = self.at
        self.branch = name

    @precondition(lambda self: not self.is_changed)
    @rule(data=st.data())
    def checkout(self, data):
        version = data.draw(st.sampled_from(sorted(self.model.versions)))
        assert self.docs.checkout(*version)
        self.at, self.branch = version, version[1]
        self.working = copy.deepcopy(self.model.versions[version])

    @rule()
    def discard(self):
        self.docs.discard_changes()
        self.working = copy.deepcopy(self.model.versions[self.at])

    @rule()
    def commit(self):
        self.tm.commit()
        self.connection.cacheMinimize()

    @rule(data=st.data())
    def compare(self, data):
        one, other = (data.draw(st.sampled_from(sorted(self.model.versions))) for _ in range(2))
        before, after = self.model.versions[one], self.model.versions[other]
        expected = {
            key
            for key in {*before, *after}
            if not (key in before and key in after and same(before[key], after[key]))
        }
        assert self.docs.changed(one, other) == sorted(expected)

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def working_documents_and_head_are_right(self):
        if hasattr(self, "docs"):
            assert self.equal(dict(self.memory), self.working)
            assert self.docs.has_changes == self.is_changed
            assert self.docs.branch == self.branch
            assert self.docs.is_detached == self.is_detached

    def check(self):
        for version, documents in self.model.versions.items():
            assert self.equal(dict(self.docs.read_all(*version)), documents)
            log = [(entry.version, entry.branch) for entry in self.docs.get_log(version[1])]
            assert log == list(self.model.log(self.model.tip(version[1])))

    @rule()
    def everything_reads_back(self):
        self.check()


Collections.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_a_collection_says_what_a_plain_model_says = Collections.TestCase
