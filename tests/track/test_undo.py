"""Undo: whatever is undone, a follower of the track learns of every object that changed.

The follower of these tests reads again exactly the objects that new actions name. Whenever the inbox is
empty, what it knows must be what the database holds.
"""

import shutil
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from persistent import Persistent
from support.databases import shared_database
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, MultipleUndoErrors, POSKeyError, UndoError

from livesync import manager as manager_module
from livesync.manager import SyncManager
from livesync.relundo import let_lanes_give_way
from livesync.track import lanes
from livesync.track.packed import pack_changes
from livesync.track.stored import InboxPage, Lane

CHANGED = frozenset({"data_changed"})
THINGS = [f"thing-{number}" for number in range(4)]
CELLS = [f"cell-{number}" for number in range(4)]  # in one BTree, which merges changes


class Thing(Persistent):
    value = 0


class World:
    """A host of a few objects, several connections to it, and a follower of its track."""

    def __init__(self, storage, connections=3):
        self.db = DB(storage)
        let_lanes_give_way(self.db)
        self.counter = 0
        setup = self._open()
        root = setup.root()
        root["things"] = OOBTree({name: Thing() for name in THINGS})
        root["cells"] = OOBTree()
        SyncManager.install(root)
        setup.transaction_manager.commit()
        self.connections = [self._open() for _ in range(connections)]
        self.collector = setup
        self.known = {}
        self.read = 0
        self.host_tids = []
        self.collected_now = 2e9
        self.follow()

    def _open(self):
        return self.db.open(transaction_manager=transaction.TransactionManager())

    def begin(self, at):
        self.connections[at].transaction_manager.begin()

    def write(self, at, names, delete=False, pages=0):
        connection = self.connections[at]
        root = connection.root()
        for name in names:
            self.counter += 1
            if name in CELLS:
                if delete:
                    root["cells"].pop(name, None)
                else:
                    root["cells"][name] = self.counter
            else:
                root["things"][name].value = self.counter
        changes = [(name, CHANGED) for name in names]
        manager = SyncManager.get(root)
        if pages:
            made = []
            for begin in range(0, len(changes), pages):
                made.append(InboxPage(pack_changes(changes[begin : begin + pages])))
                connection.add(made[-1])
            manager.record_pages(made, "", "")
        else:
            manager.record_changes(changes, "", "")

    def commit(self, at):
        connection = self.connections[at]
        connection.transaction_manager.get().note("host")
        try:
            connection.transaction_manager.commit()
        except ConflictError as exc:
            connection.transaction_manager.abort()
            self.check_is_not_ours(exc.oid)
            return False
        return True

    def do(self, at, names, **how):
        self.begin(at)
        self.write(at, names, **how)
        return self.commit(at)

    def host_commits(self):
        """Return the ids of all host transactions and undos, newest first."""
        return [entry["id"] for entry in self.db.undoInfo(0, -1000) if entry["description"] == "host"]

    def undo(self, *which):
        """Undo transactions by their place among the host's, 0 for the newest."""
        ids = self.host_commits()
        chosen = [ids[number] for number in which if number < len(ids)]
        undoing = transaction.TransactionManager()
        undoing.begin()
        undoing.get().note("host")
        try:
            self.db.undoMultiple(chosen, undoing.get())
            undoing.commit()
        except MultipleUndoErrors as exc:
            undoing.abort()
            self.check_is_not_ours(*(oid for oid, _ in exc._errs))
            return False
        except UndoError as exc:  # RelStorage's: it does not ask objects what they make of it
            undoing.abort()
            self.check_is_not_ours(exc._oid)
            return False
        return True

    def check_is_not_ours(self, *oids):
        """Assert that the inbox does not stand in the way, except of undoing twice what made pages."""
        self.collector.transaction_manager.begin()
        for oid in oids:
            with suppress(POSKeyError):  # a page that an earlier undo has taken away
                assert not isinstance(self.collector.get(oid), Lane)

    def collect(self):
        """Collect once; tell whether everything is collected."""
        self.collector.transaction_manager.begin()
        manager = SyncManager.get(self.collector.root())
        moved = manager.collect(now=self.collected_now)
        self.collector.transaction_manager.commit()
        self._read_named(manager.track)
        return moved < manager_module.COLLECT_LIMIT

    def follow(self):
        """Collect everything and check that the follower knows the truth; return the ids it read again."""
        named = set()
        done = False
        while not done:
            before = self.read
            done = self.collect()
            named |= set(self.named_since(before))
        assert self.known == self.truth()
        return named

    def named_since(self, number):
        track = SyncManager.get(self.collector.root()).track
        return [action.object_id for _, action in list(track.iterate())[number:]]

    def words_since(self, number):
        track = SyncManager.get(self.collector.root()).track
        return [(action.object_id, sorted(action.actions)) for _, action in list(track.iterate())[number:]]

    def _read_named(self, track):
        self.collector.transaction_manager.begin()
        truth = self.truth()
        actions = list(track.iterate())
        for _, action in actions[self.read :]:
            if action.object_id in truth:
                self.known[action.object_id] = truth[action.object_id]
            else:
                self.known.pop(action.object_id, None)
        self.read = len(actions)

    def truth(self):
        root = self.collector.root()
        found = {name: thing.value for name, thing in root["things"].items() if thing.value}
        return {**found, **root["cells"]}

    def close(self):
        for connection in (*self.connections, self.collector):
            connection.transaction_manager.abort()
            connection.close()
        self.db.close()


def storage_in(directory):
    return FileStorage(f"{directory}/Data.fs")


@contextmanager
def storage_in_postgresql():
    with shared_database("relstorage", None) as database:
        yield database.open_storage()


@pytest.fixture(params=["file", pytest.param("relstorage", marks=[pytest.mark.slow, pytest.mark.server])])
def world(request, tmp_path, no_fsync):
    with nullcontext(storage_in(tmp_path)) if request.param == "file" else storage_in_postgresql() as storage:
        made = World(storage)
        yield made
        made.close()


def test_undo_of_the_last_transaction_is_delivered(world):
    world.do(0, ["thing-0"])
    world.follow()

    world.undo(0)

    assert world.follow() == {"thing-0"}
    assert world.words_since(world.read - 1) == [("thing-0", ["undone"])]


def test_undo_of_an_uncollected_transaction_leaves_nothing_unsaid(world):
    world.do(0, ["thing-0"])

    world.undo(0)

    assert "thing-0" in world.follow()


def test_undo_of_an_older_transaction_is_delivered(world):
    world.do(0, ["thing-0"])
    world.do(0, ["thing-1"])
    world.follow()

    assert world.undo(1)

    assert world.follow() == {"thing-0"}


def test_undo_of_several_at_once_is_delivered(world):
    for name in THINGS:
        world.do(0, [name])
    world.follow()

    assert world.undo(0, 1, 3)

    assert world.follow() >= {"thing-0", "thing-2", "thing-3"}


def test_undo_of_several_of_which_some_were_dropped_from_the_lane_is_delivered(world):
    world.do(0, ["thing-0"])
    world.follow()
    world.do(0, ["thing-1"])  # drops what was collected from its lane
    world.follow()

    assert world.undo(0, 1)

    assert world.follow() == {"thing-0", "thing-1"}


def test_two_undos_before_a_collect_are_both_delivered(world):
    world.do(0, ["thing-0"])
    world.do(0, ["thing-1"])
    world.follow()

    assert world.undo(0)
    assert world.undo(2)

    assert world.follow() >= {"thing-0", "thing-1"}


def test_undo_of_an_undo_is_delivered(world):
    world.do(0, ["thing-0"])
    world.follow()
    world.undo(0)
    world.follow()

    assert world.undo(0)

    assert world.follow() == {"thing-0"}


def test_undo_of_an_undo_of_an_older_transaction_is_delivered(world):
    world.do(0, ["thing-0"])
    world.do(0, ["thing-1"])
    world.follow()
    world.undo(1)
    world.follow()

    assert world.undo(0)

    assert world.follow() == {"thing-0"}


def test_undo_of_the_first_use_of_a_lane_is_not_hidden_by_the_next(world):
    world.do(0, ["thing-0"])
    world.follow()
    world.undo(0)

    world.do(0, ["thing-1"])

    assert world.follow() >= {"thing-0", "thing-1"}


def test_commits_that_follow_an_undo_are_delivered(world):
    world.do(0, ["thing-0"])
    world.do(0, ["thing-1"])
    world.undo(1)
    world.do(0, ["thing-2"])
    world.do(1, ["thing-3"])

    assert world.follow() >= {"thing-0", "thing-1", "thing-2", "thing-3"}


def test_undo_of_a_transaction_whose_lane_was_used_again_is_delivered(world):
    world.do(0, ["thing-0"])
    world.follow()
    for _ in range(5):
        world.do(0, ["thing-1"])
        world.follow()

    assert world.undo(5)

    assert world.follow() >= {"thing-0"}


def test_undo_meets_a_transaction_that_writes_the_same_lane(world):
    world.do(0, ["thing-0"])
    world.follow()
    world.begin(0)
    world.write(0, ["thing-1"])

    assert world.undo(0)
    assert world.commit(0)

    assert world.follow() >= {"thing-0", "thing-1"}


def test_undo_of_a_transaction_on_pages_is_delivered(world):
    world.do(0, [*THINGS, *CELLS], pages=3)
    world.follow()

    assert world.undo(0)

    assert world.follow() == {*THINGS, *CELLS}


def test_undo_of_an_uncollected_transaction_on_pages_is_delivered(world):
    world.do(0, [*THINGS, *CELLS], pages=3)
    world.do(0, ["thing-0"])
    assert world.undo(0)

    assert world.undo(2)

    assert world.follow() == {*THINGS, *CELLS}


def test_undo_names_what_reaches_inside(world):
    world.begin(0)
    SyncManager.get(world.connections[0].root()).record_changes(
        [("thing-0", frozenset({"moved", "created"}))], "", ""
    )
    world.commit(0)
    world.follow()

    world.undo(0)
    world.follow()

    assert world.words_since(world.read - 1) == [("thing-0", ["moved", "undone"])]


def test_undo_of_an_empty_lane_leaves_it_usable(world):
    world.do(0, ["thing-0"])
    world.undo(0)
    world.follow()

    for number in range(10):
        world.do(0, [THINGS[number % 4]])

    assert world.follow() == set(THINGS)


class UndoMachine(RuleBasedStateMachine):
    """Commits, undos and collects in any order."""

    names = st.lists(st.sampled_from(THINGS + CELLS), min_size=1, max_size=3, unique=True)
    who = st.integers(0, 2)

    @initialize(limit=st.sampled_from([1, 2, 50_000]), entries=st.sampled_from([2, 64]))
    def start(self, limit, entries):
        self.patches = [
            (import_module("ZODB.FileStorage.FileStorage"), "fsync", None),
            (manager_module, "COLLECT_LIMIT", limit),
            (lanes, "LANE_ENTRIES", entries),
        ]
        self.before = [getattr(module, name) for module, name, _ in self.patches]
        for module, name, value in self.patches:
            setattr(module, name, value)
        self.place = self.new_place()
        self.world = World(self.place.__enter__())
        self.open = {}

    @contextmanager
    def new_place(self):
        directory = tempfile.mkdtemp()
        yield storage_in(directory)
        shutil.rmtree(directory)

    @rule(at=who, names=names, delete=st.booleans(), pages=st.sampled_from([0, 0, 0, 1]))
    def commit(self, at, names, delete, pages):
        if at in self.open:
            self.world.commit(at)
            del self.open[at]
        self.world.do(at, names, delete=delete, pages=pages)

    @rule(at=who, names=names)
    def begin(self, at, names):
        if at not in self.open:
            self.world.begin(at)
            self.open[at] = True
        self.world.write(at, names)

    @precondition(lambda self: getattr(self, "open", None))
    @rule(data=st.data())
    def finish(self, data):
        at = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[at]
        self.world.commit(at)

    @rule(which=st.integers(0, 7))
    def undo(self, which):
        self.world.undo(which)

    @rule(which=st.sets(st.integers(0, 6), min_size=2, max_size=4))
    def undo_several(self, which):
        self.world.undo(*sorted(which))

    @rule()
    def collect_once(self):
        self.world.collect()

    @rule()
    def follow(self):
        self.world.follow()

    def teardown(self):
        if not hasattr(self, "world"):
            return
        try:
            for at in self.open:
                self.world.commit(at)
            self.world.follow()
        finally:
            self.world.close()
            self.place.__exit__(None, None, None)
            for (module, name, _), value in zip(self.patches, self.before, strict=True):
                setattr(module, name, value)


TestUndo = UndoMachine.TestCase
TestUndo.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking one of these takes many minutes
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_page_that_was_undone_and_brought_back_again_and_again_is_still_read():
    story = UndoMachine()
    story.start(entries=64, limit=50_000)
    story.follow()
    story.undo(5)
    story.undo_several({0, 1, 2, 5})
    story.undo_several({0, 5})
    story.commit(2, ["thing-0", "cell-1"], delete=True, pages=0)
    story.follow()
    story.undo_several({0, 2, 3, 4})
    story.undo(4)
    story.commit(2, ["cell-3", "thing-2", "thing-0"], delete=False, pages=0)
    story.follow()
    story.commit(1, ["cell-3"], delete=False, pages=0)
    story.commit(0, ["thing-1", "thing-0", "thing-2"], delete=False, pages=1)
    story.commit(2, ["cell-1", "thing-1"], delete=False, pages=1)
    story.undo(0)
    story.follow()
    story.commit(2, ["thing-0"], delete=False, pages=0)
    story.follow()
    story.follow()
    story.undo(1)
    story.undo(7)
    story.undo_several({2, 3, 5})
    story.follow()
    story.commit(0, ["cell-1", "thing-2"], delete=True, pages=0)
    story.undo_several({2, 4, 5, 6})
    story.undo_several({0, 2, 3})
    story.undo_several({4, 5})
    story.undo(3)
    story.commit(1, ["cell-3", "thing-0", "cell-2"], delete=False, pages=0)
    story.undo_several({5, 6})
    story.teardown()


class UndoMachineInPostgreSQL(UndoMachine):
    """The same, where every connection has a snapshot of its own in the storage."""

    def new_place(self):
        return storage_in_postgresql()


@pytest.mark.slow
@pytest.mark.server
class TestUndoInPostgreSQL(UndoMachineInPostgreSQL.TestCase):
    settings = settings(TestUndo.settings, max_examples=4)
