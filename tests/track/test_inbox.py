"""The inbox: no conflict of livesync's making, nothing lost, nothing twice, in commit order."""

import time
from contextlib import contextmanager

import pytest
import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError
from ZODB.utils import u64

from livesync import ActionWrapper
from livesync import manager as manager_module
from livesync.manager import SyncManager
from livesync.track import inbox, lanes
from livesync.track.packed import pack_changes
from livesync.track.stored import Collected, InboxPage, Lane, LaneBlock

CHANGED = frozenset({"data_changed"})
NOW = 4e9


class Writer:
    """One connection of the host, in a transaction manager of its own."""

    def __init__(self, db):
        self.connection = db.open(transaction_manager=transaction.TransactionManager())
        self.tm = self.connection.transaction_manager

    def begin(self):
        self.tm.begin()
        self.connection.root()  # the snapshot is taken here
        return self

    def record(self, *ids, user="", note=""):
        SyncManager.get(self.connection.root()).record_changes([(name, CHANGED) for name in ids], user, note)
        return self

    def record_pages(self, *pages):
        made = []
        for ids in pages:
            made.append(InboxPage(pack_changes([(name, CHANGED) for name in ids])))
            self.connection.add(made[-1])
        SyncManager.get(self.connection.root()).record_pages(made, "", "")
        return self

    def commit(self):
        self.tm.commit()
        return self

    def abort(self):
        self.tm.abort()
        return self

    def do(self, *ids, **how):
        return self.begin().record(*ids, **how).commit()

    def close(self):
        self.tm.abort()
        self.connection.close()


class Reader(Writer):
    """Collects, and tells what is on the track."""

    def collect(self, now=NOW):
        self.begin()
        moved = SyncManager.get(self.connection.root()).collect(now)
        self.commit()
        return moved

    def collect_all(self):
        counts = [self.collect()]
        while counts[-1] == manager_module.COLLECT_LIMIT:
            counts.append(self.collect())
        return counts

    def track(self):
        self.begin()
        try:
            return [action.object_id for _, action in SyncManager.get(self.connection.root()).track]
        finally:
            self.abort()

    def positions(self):
        self.begin()
        try:
            return [position for position, _ in SyncManager.get(self.connection.root()).track]
        finally:
            self.abort()

    def waiting(self):
        self.begin()
        try:
            manager = SyncManager.get(self.connection.root())
            found = list(manager.waiting())
            since = found[0].timestamp if found else None
            assert inbox.count_waiting(manager._inbox) == (len(found), since)
            return [action.object_id for action in found]
        finally:
            self.abort()

    def inbox(self):
        return SyncManager.get(self.connection.root())._inbox


def install(db, **root):
    with db.transaction() as connection:
        SyncManager.install(connection.root())
        connection.root().update(root)


@contextmanager
def people(db, count=1):
    """Open a database's reader and some writers."""
    db.setPoolSize(500)
    reader, writers = Reader(db), [Writer(db) for _ in range(count)]
    try:
        yield (reader, *writers)
    finally:
        for one in (reader, *writers):
            one.close()


@pytest.fixture(params=["memory", "file", pytest.param("zeo", marks=pytest.mark.slow)])
def db(request, tmp_path):
    """An open database with a manager; over ZEO with a server of its own."""
    if request.param != "zeo":
        made = request.getfixturevalue(f"{request.param}_db")
        install(made)
        yield made
        return
    zeo = pytest.importorskip("ZEO")
    address, stop = zeo.server(str(tmp_path / "Served.fs"))
    made = zeo.DB(address)
    try:
        install(made)
        yield made
    finally:
        made.close()
        stop()


@pytest.fixture
def quick_db(memory_db):
    install(memory_db)
    return memory_db


def test_what_is_recorded_waits_until_it_is_collected(db):
    with people(db) as (reader, writer):
        writer.do("a", "b").do("c")

        assert reader.waiting() == ["a", "b", "c"]
        assert reader.track() == []
        assert reader.collect() == 3
        assert reader.track() == ["a", "b", "c"]
        assert reader.waiting() == []
        assert reader.collect() == 0


def test_interleaved_transactions_of_many_connections_never_conflict(db):
    with people(db, 6) as (reader, *writers):
        expected = []
        for turn in range(8):
            for writer in writers:
                writer.begin()
            for number, writer in enumerate(writers):
                writer.record(f"{turn}-{number}")
            if turn % 3 == 1:
                reader.collect()
            order = writers[turn % 6 :] + writers[: turn % 6]
            for writer in order:
                writer.commit()
                expected.append(f"{turn}-{writers.index(writer)}")
            if turn % 2:
                reader.collect()

        reader.collect()
        assert reader.track() == expected


@pytest.mark.parametrize("count", [60])
def test_connections_that_all_began_before_any_claim_never_conflict(db, count):
    with people(db, count) as (reader, *writers):
        for writer in writers:
            writer.begin()
        for number, writer in enumerate(writers):
            writer.record(f"id-{number}")
        for writer in reversed(writers):
            writer.commit()

        reader.collect()
        assert reader.track() == [f"id-{number}" for number in reversed(range(count))]

        for turn in range(2):
            for writer in writers:
                writer.begin()
            for number, writer in enumerate(writers):
                writer.record(f"again-{turn}-{number}")
            for writer in writers:
                writer.commit()
        reader.collect()
        assert len(reader.track()) == 3 * count
        assert len(set(reader.track())) == 3 * count


def test_a_lane_that_the_transaction_cannot_see_yet_takes_rollbacks_and_aborts(quick_db):
    with people(quick_db, 40) as (reader, *writers):
        for writer in writers:
            writer.begin()
        for number, writer in enumerate(writers[:-1]):
            writer.record(f"id-{number}")
        last = writers[-1]
        savepoint = last.tm.savepoint()
        last.record("rolled back")
        savepoint.rollback()
        last.record("kept")
        last.tm.savepoint()
        last.record("kept too")
        for writer in writers:
            writer.commit()
        last.begin().record("aborted").abort()
        last.do("later")

        reader.collect()
        assert reader.track()[39:] == ["kept", "kept too", "later"]


def test_a_transaction_that_stays_open_over_several_collects_is_not_lost(db):
    with people(db, 3) as (reader, slow, quick, other):
        slow.begin().record("slow")
        for turn in range(5):
            quick.do(f"quick-{turn}")
            reader.collect()
            other.do(f"other-{turn}")
        slow.record("slow too").commit()

        reader.collect()

        assert reader.track()[-2:] == ["slow", "slow too"]
        assert len(reader.track()) == 12
        assert reader.positions() == sorted(reader.positions())


def test_an_aborted_transaction_leaves_nothing(db):
    with people(db) as (reader, writer):
        writer.do("a").begin().record("aborted").abort()
        writer.do("b")

        reader.collect()
        assert reader.track() == ["a", "b"]


def test_savepoints_between_records(db):
    with people(db) as (reader, writer):
        writer.begin().record("a")
        writer.tm.savepoint()
        writer.record("b")
        second = writer.tm.savepoint()
        writer.connection.cacheMinimize()
        writer.record("rolled back")
        second.rollback()
        writer.record("c").commit()

        reader.collect()
        assert reader.track() == ["a", "b", "c"]


def test_user_and_note_travel_with_the_actions(quick_db):
    with people(quick_db) as (reader, writer):
        writer.do("a", user="ada", note="a note")
        reader.collect()
        reader.begin()
        [(_, action)] = SyncManager.get(reader.connection.root()).track

    assert (action.user, action.note) == ("ada", "a note")


def test_the_time_of_an_action_is_that_of_its_commit(quick_db):
    from persistent.timestamp import TimeStamp

    with people(quick_db) as (reader, writer):
        writer.do("a")
        tid = quick_db.storage.lastTransaction()
        reader.collect()
        reader.begin()
        [(position, action)] = SyncManager.get(reader.connection.root()).track

    assert action.timestamp == TimeStamp(tid).timeTime()
    assert position == int(action.timestamp)


def test_manager_record_keeps_each_actions_origin(quick_db):
    actions = [
        ActionWrapper(0, "a", {"created"}, "ada", "one"),
        ActionWrapper(0, "b", {"moved"}, "ada", "one"),
        ActionWrapper(0, "c", {"moved"}, "bob"),
    ]
    with people(quick_db) as (reader, writer):
        writer.begin()
        SyncManager.get(writer.connection.root()).record(actions)
        writer.commit()
        reader.collect()
        reader.begin()
        found = [action for _, action in SyncManager.get(reader.connection.root()).track]

    assert [(a.object_id, a.user, a.note) for a in found] == [
        ("a", "ada", "one"),
        ("b", "ada", "one"),
        ("c", "bob", ""),
    ]


def written_by(db, tid):
    return [record.oid for commit in db.storage.iterator(tid, tid) for record in commit]


def test_collect_writes_no_lane(file_db):
    install(file_db)
    with people(file_db, 3) as (reader, *writers):
        for turn in range(5):
            for writer in writers:
                writer.do(f"{turn}")
        before = file_db.storage.lastTransaction()
        reader.collect()
        collected = file_db.storage.lastTransaction()

        reader.begin()
        classes = {type(reader.connection.get(oid)) for oid in written_by(file_db, collected)}

    assert before != collected
    assert Collected in classes
    assert not classes & {Lane, LaneBlock, InboxPage}


def test_a_transaction_writes_one_object_of_livesyncs(file_db):
    install(file_db)
    with people(file_db) as (_, writer):
        writer.do("a")
        writer.do("b")
        tid = file_db.storage.lastTransaction()
        assert [type(writer.begin().connection.get(oid)) for oid in written_by(file_db, tid)] == [Lane]


def test_a_collect_with_nothing_to_do_writes_nothing(file_db):
    install(file_db)
    with people(file_db) as (reader, writer):
        writer.do("a")
        reader.collect()
        reader.collect()
        before = file_db.storage.lastTransaction()

        reader.collect()

        assert file_db.storage.lastTransaction() == before


def used_lanes(reader):
    reader.begin()
    return sum(
        1 for block in reader.inbox().blocks.values() for lane in block.lanes if lane.replaced is not None
    )


def test_a_full_lane_is_left_for_the_next(quick_db, monkeypatch):
    monkeypatch.setattr(lanes, "LANE_ENTRIES", 4)
    with people(quick_db) as (reader, writer):
        ids = [f"id-{number}" for number in range(4 * 8 * 3)]
        for name in ids:
            writer.do(name)

        assert used_lanes(reader) >= 20
        reader.begin()
        longest = max(len(lane.entries) for block in reader.inbox().blocks.values() for lane in block.lanes)
        assert longest <= 5
        assert reader.waiting() == ids
        reader.collect()
        assert reader.track() == ids


def test_a_lane_with_many_bytes_is_full(quick_db):
    with people(quick_db) as (reader, writer):
        for number in range(10):
            writer.do(*(f"a rather long id of object {number}-{at}" for at in range(150)))

        assert used_lanes(reader) >= 9
        assert len(reader.waiting()) == 1500


def test_few_lanes_are_used_once_collect_has_caught_up(quick_db, monkeypatch):
    monkeypatch.setattr(lanes, "LANE_ENTRIES", 2)
    with people(quick_db) as (reader, writer):
        for number in range(30):
            writer.do(f"id-{number}")
        before = used_lanes(reader)
        owners = len(reader.inbox().owners)
        reader.collect()
        for number in range(200):
            writer.do(f"more-{number}")
            reader.collect()

        assert used_lanes(reader) == before
        assert len(reader.inbox().owners) == owners
        assert len(reader.track()) == 230


def test_what_a_commit_rewrites_stays_small_while_collect_keeps_up(file_db):
    install(file_db)
    with people(file_db) as (reader, writer):
        for number in range(100):
            writer.do(f"id-{number}")
            reader.collect()
        writer.begin()
        block = reader.begin().inbox().blocks[0]

        assert max(len(lane.entries) for lane in block.lanes) <= 2


def test_a_transaction_on_pages_comes_back_whole(db):
    pages = [[f"{page}-{at}" for at in range(5)] for page in range(4)]
    with people(db, 2) as (reader, writer, other):
        other.do("before")
        writer.begin().record_pages(*pages).commit()
        other.do("after")

        reader.collect()

        assert reader.track() == ["before", *(name for page in pages for name in page), "after"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 19, 20, 21])
def test_the_limit_cuts_inside_a_commit_and_loses_nothing(quick_db, monkeypatch, limit):
    monkeypatch.setattr(manager_module, "COLLECT_LIMIT", limit)
    pages = [[f"{page}-{at}" for at in range(5)] for page in range(4)]
    expected = ["before", *(name for page in pages for name in page), "after", "and", "more"]
    with people(quick_db, 2) as (reader, writer, other):
        other.do("before")
        writer.begin().record_pages(*pages).commit()
        other.do("after", "and", "more")
        seen = []
        while reader.collect() == limit:
            seen.append(len(reader.track()))
            assert reader.track() + reader.waiting() == expected

        assert reader.track() == expected
        assert seen == [limit * (number + 1) for number in range(len(seen))]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 2), st.integers(1, 7)),
        st.tuples(st.just("pages"), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("collect"), st.integers(1, 6), st.integers(0, 0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, entries=st.sampled_from([1, 3, 64]))
def test_nothing_is_lost_or_doubled_whatever_the_limits(steps, entries):
    db = DB(DemoStorage())
    before = manager_module.COLLECT_LIMIT, lanes.LANE_ENTRIES
    try:
        install(db)
        lanes.LANE_ENTRIES = entries
        with people(db, 3) as (reader, *writers):
            expected = []
            for number, (what, one, size) in enumerate(steps):
                ids = [f"{number}-{at}" for at in range(size)]
                if what == "collect":
                    manager_module.COLLECT_LIMIT = one
                    reader.collect()
                    continue
                expected += ids
                if what == "commit":
                    writers[one].do(*ids)
                else:
                    writers[one].begin().record_pages(ids[:3], ids[3:] or ["extra"]).commit()
                    expected += [] if ids[3:] else ["extra"]
                assert reader.track() + reader.waiting() == expected
            manager_module.COLLECT_LIMIT = 4
            reader.collect_all()
            assert reader.track() == expected
            assert reader.positions() == sorted(reader.positions())
    finally:
        manager_module.COLLECT_LIMIT, lanes.LANE_ENTRIES = before
        db.close()


def test_waiting_counts_what_the_current_transaction_will_not_have_committed(quick_db):
    with people(quick_db) as (_, writer):
        writer.do("a").begin().record("b")

        waiting = [action.object_id for action in SyncManager.get(writer.connection.root()).waiting()]

        assert waiting == ["a"]


def test_a_collect_in_a_transaction_that_records_takes_what_was_committed(quick_db):
    with people(quick_db) as (reader, writer):
        writer.do("a").begin().record("b")
        assert SyncManager.get(writer.connection.root()).collect(NOW) == 1
        writer.commit()

        reader.collect()
        assert reader.track() == ["a", "b"]


def test_a_manager_can_be_installed_and_recorded_into_in_one_transaction(memory_db):
    with memory_db.transaction() as connection:
        manager = SyncManager.install(connection.root())
        manager.record([ActionWrapper(0, "a", {"created"})])
        manager.record([ActionWrapper(0, "b", {"created"})])
    with people(memory_db) as (reader, writer):
        writer.do("c")
        reader.collect()
        assert reader.track() == ["a", "b", "c"]


def test_two_databases_have_inboxes_of_their_own(memory_db, file_db):
    install(memory_db)
    install(file_db)
    with people(memory_db) as (first, one), people(file_db) as (second, two):
        one.do("in memory")
        two.do("in a file")
        first.collect()
        second.collect()

        assert (first.track(), second.track()) == (["in memory"], ["in a file"])


def test_a_connection_that_comes_back_from_the_pool_goes_on_in_its_lane(quick_db):
    reader = Reader(quick_db)
    for number in range(20):
        with quick_db.transaction() as connection:
            SyncManager.get(connection.root()).record_changes([(f"id-{number}", CHANGED)], "", "")
    reader.collect()
    assert len(reader.track()) == 20
    assert used_lanes(reader) == 1
    reader.close()


def test_reset_forgets_what_waits(quick_db):
    with people(quick_db) as (reader, writer):
        writer.do("a").begin().record_pages(["b"], ["c"]).commit()
        reader.begin()
        SyncManager.get(reader.connection.root()).reset()
        reader.commit()

        assert reader.waiting() == []
        writer.do("d")
        assert reader.collect() == 1
        assert reader.track() == ["d"]


def test_conflicts_of_the_host_stay_the_hosts(memory_db):
    install(memory_db, thing=PersistentMapping())
    with people(memory_db, 2) as (reader, one, two):
        for attempt in range(3):
            one.begin().record("one")
            two.begin().record("two")
            one.connection.root()["thing"]["x"] = attempt
            two.connection.root()["thing"]["x"] = -attempt - 1
            one.commit()
            with pytest.raises(Exception, match="PersistentMapping"):
                two.commit()
            two.abort()

        reader.collect()
        assert reader.track() == ["one"] * 3


def test_commit_ids_grow(quick_db):
    with people(quick_db) as (reader, writer):
        writer.do("a")
        reader.collect()
        first = u64(reader.begin().inbox().collected.tid)
        writer.do("b")
        reader.collect()

        assert u64(reader.begin().inbox().collected.tid) > first > 0
        assert reader.inbox().collected.count == 2


# collect beside others that work on the track


def two_collectors(db):
    """Two connections that began at the same time, each with the manager."""
    sides = []
    for _ in range(2):
        manager = transaction.TransactionManager(explicit=True)
        connection = db.open(manager)
        manager.begin()
        sides.append((manager, connection, SyncManager.get(connection.root())))
    return sides


def close_all(sides):
    for manager, connection, _ in sides:
        manager.abort()
        connection.close()


def committed_in_turn(sides):
    """Commit one after the other; return how many were refused with a conflict."""
    refused = 0
    for manager, _, _ in sides:
        try:
            manager.commit()
        except ConflictError:
            manager.abort()
            refused += 1
        manager.begin()
    return refused


@pytest.mark.parametrize("collects_first", [True, False])
def test_nothing_is_appended_at_a_position_that_another_seals_at_the_same_time(file_db, collects_first):
    with file_db.transaction() as connection:
        manager = SyncManager.install(connection.root())
        manager.record([ActionWrapper(0, "a", {"created"})])
    now = time.time()
    with file_db.transaction() as connection:
        SyncManager.get(connection.root()).collect(now)  # its position stays open
    with file_db.transaction() as connection:
        SyncManager.get(connection.root()).record([ActionWrapper(0, "b", {"created"})])

    sides = two_collectors(file_db)
    (_, _, sealing), (_, _, collecting) = sides
    sealing.track.seal(sealing.track.most_recent_ts())
    assert collecting.collect(now) == 1
    refused = committed_in_turn(sides[::-1] if collects_first else sides)
    close_all(sides)

    # what lies there before it is sealed does no harm
    assert refused == (0 if collects_first else 1)
    with file_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        manager.collect(now)
        manager.track.seal(manager.track.most_recent_ts())
        assert [action.object_id for _, action in manager.track] == ["a", "b"]


@pytest.mark.parametrize("collects_first", [True, False])
def test_what_is_collected_while_the_track_is_pruned_stays_on_it(file_db, collects_first):
    with file_db.transaction() as connection:
        manager = SyncManager.install(connection.root())
        manager.record([ActionWrapper(0, "a", {"created"})])
    now = time.time()
    with file_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        manager.collect(now)
        manager.track.seal(manager.track.most_recent_ts())
    with file_db.transaction() as connection:
        SyncManager.get(connection.root()).record([ActionWrapper(0, "b", {"created"})])

    sides = two_collectors(file_db)
    (_, _, pruning), (_, _, collecting) = sides
    assert pruning.prune() == 1
    assert collecting.collect(now) == 1
    refused = committed_in_turn(sides[::-1] if collects_first else sides)
    close_all(sides)

    assert refused == 1
    with file_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        on_track = [action.object_id for _, action in manager.track]
        assert [*on_track, *(action.object_id for action in manager.waiting())][-1] == "b"
