"""Moves in applications: an object whose partition changes is another item, and one object all the same."""

import itertools
from contextlib import contextmanager

import pytest
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.DemoStorage import DemoStorage

from livesync import ActionWrapper, Host, SyncManager
from livesync.replication import (
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)


class Drawers(Host):
    """Documents by id, each in a drawer: its partition."""

    def __init__(self, connection=None):
        self.connection = connection

    @contextmanager
    def at(self, connection):
        yield Drawers(connection)

    @property
    def _all(self):
        return self.connection.root()["drawers"]

    def object_id(self, obj):
        return obj["id"]

    def get(self, object_id):
        return self._all.get(object_id)

    def iter_objects(self, after=None):
        return iter(self._all.values(after, excludemin=after is not None))

    def contents(self, obj):
        return iter(())

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        return dict(obj)

    def restore(self, object_id, document):
        if document is None:
            del self._all[object_id]
        elif object_id in self._all:
            self._all[object_id].update(document)
        else:
            self._all[object_id] = PersistentMapping(document)

    def sync_partition(self, obj):
        return obj["drawer"]


class Office:
    def __init__(self, name, clock, max_num):
        self.db = ZODB.DB(DemoStorage())
        with self.db.transaction() as connection:
            SyncManager.install(connection.root())
            connection.root()["drawers"] = OOBTree()
        self.provider = ZODBSyncProvider(
            name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(Drawers()),
            reader=TrackReader(),
            max_num=max_num,
            clock=clock,
        )

    def write(self, object_id, **values):
        with self.db.transaction() as connection:
            drawers = connection.root()["drawers"]
            known = drawers.setdefault(object_id, PersistentMapping(id=object_id, drawer="A"))
            known.update(values)
            SyncManager.get(connection.root()).record([ActionWrapper(0, object_id, {"data_changed"})])

    def remove(self, object_id):
        with self.db.transaction() as connection:
            del connection.root()["drawers"][object_id]
            SyncManager.get(connection.root()).record([ActionWrapper(0, object_id, {"deleted"})])

    def holds(self):
        with self.db.transaction() as connection:
            return {
                key: (obj["drawer"], obj.get("text")) for key, obj in connection.root()["drawers"].items()
            }

    def items(self):
        return [(state.partition, state.item_id) for state in self.provider.items()]


@pytest.fixture(params=[1, 500], ids=["one in a chunk", "all in a chunk"])
def offices(request):
    now = itertools.count(2_000_000_000)
    made = [Office(name, lambda: next(now), request.param) for name in "abc"]
    yield made
    for office in made:
        office.db.close()


def sync(one, other, **options):
    sessions = SyncOrchestrator(SyncLock(), [one.provider, other.provider], 1e9).run(**options)
    assert [session.status for session in sessions] == [SyncSessionStatus.FINISHED] * 2, sessions


def exchange(*offices):
    for _ in range(3):
        for one, other in itertools.combinations(offices, 2):
            sync(one, other)


def test_an_object_that_moved_is_moved_and_not_removed_elsewhere(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    sync(a, b)
    a.write("x", drawer="B")
    sync(a, b)

    assert a.holds() == b.holds() == {"x": ("B", "hello")}
    assert a.items() == b.items()
    assert len(a.items()) == 1
    with b.db.transaction() as connection:
        assert connection.root()["drawers"]["x"]["text"] == "hello"
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []
    assert b.provider.data_store.read(lambda: list(b.provider.data_store.tables.displaced)) == []


def test_it_may_move_back(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    for drawer in "BAB":
        sync(a, b)
        a.write("x", drawer=drawer)
    sync(a, b)
    b.write("x", drawer="A", text="home")
    sync(a, b)

    assert a.holds() == b.holds() == {"x": ("A", "home")}
    assert a.items() == b.items()


def test_what_moves_out_of_a_filter_is_gone_there_and_what_moves_in_comes(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    a.write("y", drawer="B", text="there")
    sync(a, b, prefixes=("A",))
    assert b.holds() == {"x": ("A", "hello")}
    a.write("x", drawer="B")
    a.write("y", drawer="A")
    sync(a, b, prefixes=("A",))

    assert b.holds() == {"y": ("A", "there")}


def test_a_move_beats_an_edit_in_the_old_place_and_the_edit_is_kept(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    sync(a, b)
    a.write("x", drawer="B")
    b.write("x", text="edited")
    exchange(a, b)

    assert a.holds() == b.holds() == {"x": ("B", "hello")}
    logs = [*a.provider.conflict_logs(), *b.provider.conflict_logs()]
    assert any("edited" in log.item_change_loser.serialization_result.serialized_item for log in logs)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_two_that_move_one_object_apart_agree_on_the_later_move(offices, order):
    a, b, c = offices
    a.write("x", text="hello")
    exchange(a, b, c)
    a.write("x", drawer="B")
    sync(a, c)
    b.write("x", drawer="C", text="moved by b")
    exchange(*(offices[number] for number in order))

    assert a.holds() == b.holds() == c.holds() == {"x": ("C", "moved by b")}
    assert a.items() == b.items() == c.items()
    assert len(a.items()) == 1
    logs = [log for office in offices for log in office.provider.conflict_logs()]
    assert any('"drawer":"B"' in log.item_change_loser.serialization_result.serialized_item for log in logs)


def test_after_two_moves_it_can_be_removed_and_stays_away(offices):
    a, b, c = offices
    a.write("x", text="hello")
    exchange(a, b, c)
    a.write("x", drawer="B")
    b.write("x", drawer="C")
    exchange(a, b, c)
    a.remove("x")
    exchange(a, b, c)

    assert a.holds() == b.holds() == c.holds() == {}
    assert a.items() == b.items() == c.items() == []
