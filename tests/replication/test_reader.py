"""The reader of the track: everything that changed is looked at, and nothing more than once."""

import json
import uuid
from collections import Counter

import pytest
import ZODB
from hypothesis import given
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage

from livesync import SyncManager
from livesync.demo.editor import Editor
from livesync.demo.host import demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.places import Place
from livesync.demo.replay import prepare
from livesync.demo.wiring import recorded
from livesync.replication import HostExecutor, TrackReader, ZODBDataStore, ZODBSyncProvider, reader
from livesync.replication.models.model import calculate_item_id

POINTER = "livesync.replication"


class Watched(HostExecutor):
    """Counts the looks at each object; ``before`` is called before each."""

    def __init__(self, host):
        super().__init__(host)
        self.looks = Counter()
        self.before = lambda: None

    def draft(self, store, object_id):
        self.before()
        self.looks[object_id] += 1
        return super().draft(store, object_id)


class Site:
    """A catalogue, whose clock stands still."""

    def __init__(self):
        self.now = 2_000_000_000.0
        self.db = ZODB.DB(DemoStorage())
        prepare(self.db)
        self.host = demo_paths_host()
        self.open()

    def open(self):
        self.executor = Watched(self.host)
        self.provider = ZODBSyncProvider(
            None,
            ZODBDataStore(self.db),
            changes_executor=self.executor,
            reader=TrackReader(),
            clock=lambda: self.now,
        )

    def edit(self, *names, title="a title"):
        with recorded(self.db, self.host):
            for name in names:
                with self.db.transaction() as connection:
                    editor = Editor(connection.root()[ROOT_KEY], lambda path: f"uid of {path}")
                    editor.write(Place("pycon-2020", name), {"title": title})

    def erase(self, name):
        with self.db.transaction() as connection:
            catalogue = connection.root()[ROOT_KEY]
            editor = Editor(catalogue, lambda path: f"uid of {path}")
            editor.erase(catalogue.find(Place("pycon-2020", name)))

    def reset(self):
        with self.db.transaction() as connection:
            SyncManager.get(connection.root()).reset()

    def looked(self):
        """Let the reader look, and return what at."""
        self.executor.looks.clear()
        self.provider.prepare()
        return self.executor.looks

    def held(self):
        return {json.loads(state.payload)["id"] for state in self.provider.items()}

    def objects(self):
        with self.db.transaction() as connection, self.host.at(connection) as bound:
            return set(bound.iter_ids())

    def track(self):
        """Return where the pointer stands: position and offset; and what is sealed."""
        with self.db.transaction() as connection:
            track = SyncManager.get(connection.root()).track
            return (track.get_pointer_timestamp(POINTER), track.pointer_offset(POINTER)), track.sealed


@pytest.fixture
def site():
    made = Site()
    yield made
    made.db.close()


def names(count):
    return [f"talk {number}" for number in range(count)]


def test_the_first_look_at_everything_is_the_only_one(site):
    site.edit(*names(5))

    looks = site.looked()

    assert looks.keys() == site.objects()
    assert set(looks.values()) == {1}
    assert site.held() == site.objects()


def test_what_is_new_is_stamped_one_after_the_other_as_own_writes(site):
    site.edit(*names(5))
    site.looked()

    store, items = site.provider.data_store, site.provider.items()
    stamps = sorted(state.dot[1] for state in items)
    assert len(set(stamps)) == len(items) == len(site.objects())
    assert store.read(lambda: store.own_stamp) == stamps[-1]
    assert {state.dot[0] for state in items} == {site.provider.provider_id}
    assert store.read(lambda: all(store.has_written(state.item_id, state.dot[1]) for state in items))
    bound = store.read(lambda: {store.bound(state.item_id)[0] for state in items})
    assert bound == site.objects()


def test_with_nothing_new_nothing_is_looked_at_or_written(site):
    site.edit(*names(5))
    site.looked()
    last = site.db.lastTransaction()

    assert site.looked() == {}
    site.now += 1000
    assert site.looked() == {}
    assert site.db.lastTransaction() == last


def test_a_change_is_looked_at_at_once_and_not_again_when_it_is_sealed(site):
    site.edit(*names(3))
    site.looked()

    site.edit("talk 1", title="changed")
    assert set(site.looked()) == {"pycon/pycon-2020/talk 1"}
    (_, offset), _ = site.track()
    assert offset > 0  # what it lies among is not sealed yet

    site.now += 1000
    site.edit("talk 2", title="changed")
    assert set(site.looked()) == {"pycon/pycon-2020/talk 2"}
    place, sealed = site.track()
    assert place == (sealed, 0)


@pytest.mark.parametrize(("at_once", "characters"), [(1, 1), (3, 10**6), (100, 1), (4, 200)])
def test_many_changes_are_taken_in_several_transactions(site, monkeypatch, at_once, characters):
    monkeypatch.setattr(reader, "_AT_ONCE", at_once)
    monkeypatch.setattr(reader, "_CHARACTERS_AT_ONCE", characters)
    site.edit(*names(9))
    site.looked()
    site.edit(*names(9), title="changed")
    site.now += 1000

    site.looked()

    assert {json.loads(state.payload)["document"]["title"] for state in site.provider.items()} >= {"changed"}
    assert all(
        json.loads(state.payload)["document"]["title"] == "changed"
        for state in site.provider.items()
        if "/talk " in state.payload
    )
    assert site.looked() == {}


@pytest.mark.parametrize(("at_once", "most"), [(2, 3), (100, 3), (3, 1), (2, 4)])
def test_changes_are_taken_in_parts_each_of_them_once(site, monkeypatch, at_once, most):
    monkeypatch.setattr(reader, "_AT_ONCE", at_once)
    site.edit(*names(9))

    def take():
        looks, parts, more = site.executor.looks, [], True
        looks.clear()
        while more:
            before = looks.total()
            more = site.provider.prepare(most)
            parts.append(looks.total() - before)
        assert len(parts) >= 3
        assert all(0 < part <= most for part in parts[:-1])
        return looks

    assert take() == dict.fromkeys(site.objects(), 1)
    site.edit(*names(9), title="changed")
    site.now += 1000
    site.edit("talk 3", "talk 7", title="waits yet")

    assert set(take()) == {f"pycon/pycon-2020/{name}" for name in names(9)}
    assert site.looked() == {}


def test_what_is_little_more_than_a_part_is_taken_with_it(site):
    site.edit(*names(9))
    site.looked()
    site.edit(*names(8), title="changed")
    site.executor.looks.clear()

    assert not site.provider.prepare(6)
    assert site.executor.looks.total() == 8


def test_what_is_gone_is_noticed_among_what_there_is(site, monkeypatch):
    monkeypatch.setattr(reader, "_AT_ONCE", 2)
    site.edit(*names(7))
    site.looked()
    site.reset()
    for name in ("talk 0", "talk 3", "talk 6"):
        site.erase(name)  # and nobody has recorded it

    looks = site.looked()

    assert site.held() == site.objects()
    assert set(looks.values()) == {1}


def test_a_first_look_that_was_broken_off_goes_on_where_it_was(site, monkeypatch):
    monkeypatch.setattr(reader, "_AT_ONCE", 3)
    site.edit(*names(9))
    left = iter(range(7))

    def stumble():
        if next(left, None) is None:
            raise KeyboardInterrupt

    site.executor.before = stumble
    with pytest.raises(KeyboardInterrupt):
        site.looked()

    site.open()
    looks = site.looked()

    assert looks.keys() < site.objects()
    assert site.held() == site.objects()


def test_a_track_that_is_reset_while_the_reader_looks_is_looked_at_from_the_beginning(site):
    site.edit(*names(3))
    site.looked()
    site.edit("talk 1", title="changed")
    resets = iter([site.reset])
    site.executor.before = lambda: next(resets, lambda: None)()

    site.looked()
    assert site.track()[0] == (None, 0)

    assert site.looked().keys() == site.objects()


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_an_item_s_id_is_a_uuid_of_its_partition_source_and_model(partition, source_id, name):
    namespace = uuid.UUID("0f3f7d7c-6a55-5d1f-8f7e-7f6f3c2b1a90")

    made = calculate_item_id(partition, source_id, name)

    assert made == str(uuid.uuid5(namespace, json.dumps([partition, source_id, name])))
