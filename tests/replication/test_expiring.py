import pytest
from ZODB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.peering.controller import SessionController
from livesync.peering.records import StoredSessions, SyncSessionRecord
from livesync.peering.stages import Stage
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider
from livesync.replication.network.expiring import Cleaned, Selection, cleanup, views
from livesync.replication.network.operations import OPERATIONS
from livesync.replication.network.transfers import Transfer

DAY = 86_400.0


@pytest.fixture
def node(clock):
    db = DB(DemoStorage())
    yield ZODBSyncProvider("city", ZODBDataStore(db), clock=clock, applied_at_once=1)
    db.close()


@pytest.fixture
def home(clock):
    db = DB(DemoStorage())
    provider = ZODBSyncProvider("home", ZODBDataStore(db), clock=clock)
    for number in range(4):
        provider.commit_item_change(Operation.UPDATE, "thing", f"i{number}", "1", "F1")
    yield provider
    db.close()


def begin(node, session_id, peer, clock):
    def work():
        root = node.data_store.connection.root()
        record = SyncSessionRecord(
            session_id,
            is_server=True,
            profile="p",
            client_certificate_id="c",
            server_certificate_id="s",
            started=clock(),
            peer=peer,
        )
        StoredSessions.get(root).add_sync(record)

    node.data_store.run(work)


def receive(home, node, transfer_id, session_id, prefixes=("F1",), buffers=1):
    controller = SessionController(OPERATIONS)
    ends = [
        Transfer.begin(each, transfer_id, session_id, "push", is_sender=each is home, prefixes=prefixes)
        for each in (home, node)
    ]
    ends[1].take_offer(ends[0].make_offer(ends[1].claims(), "city"))
    for end in ends:
        controller.proceed_to(Stage.QUEUING, end)
    cursor = None
    for number in range(buffers):
        buffer = ends[0].read(number, cursor, 2)
        ends[1].take(buffer)
        cursor = buffer.next


def end(node, session_id, clock):
    stored = StoredSessions.get(node.data_store.connection.root())
    stored.end_sync(stored.sync[session_id], clock())


def test_a_session_that_nothing_is_heard_of_is_ended_and_cleaned_up_after(node, home, clock):
    begin(node, "s1", "home", clock)
    receive(home, node, "t1", "s1")
    held = len(node.items())

    early = cleanup(node)
    clock.now += 6 * 3600
    late = cleanup(node)

    assert early == Cleaned(0, 0, 0, 0)
    assert late == Cleaned(transfers=1, sessions=1, touched=held, forgotten=0)
    assert held == 2
    sessions, transfers = views(node)
    assert not sessions[0].active
    assert not transfers[0].active
    assert node.unfinished() == []


def test_a_session_with_a_transfer_that_goes_on_is_left_alone(node, home, clock):
    begin(node, "s1", "home", clock)
    clock.now += 7 * 3600
    receive(home, node, "t1", "s1")

    assert cleanup(node) == Cleaned(0, 0, 0, 0)


def test_only_what_is_selected_is_ended(node, home, clock):
    for name, prefix in (("s1", "F1"), ("s2", "F1:U1"), ("s3", "F2")):
        begin(node, name, f"peer of {name}", clock)
        receive(home, node, name.replace("s", "t"), name, (prefix,))
    clock.now += DAY

    assert cleanup(node, selection=Selection(direction="pull")).transfers == 0
    assert cleanup(node, selection=Selection(ids=["t1"])).transfers == 1
    assert cleanup(node, selection=Selection(peer="peer of s1", prefix="F1")).transfers == 0
    assert cleanup(node, selection=Selection(prefix="F1")) == Cleaned(1, 1, 0, 0)
    assert cleanup(node, selection=Selection(peer="peer of s3", direction="push")) == Cleaned(1, 1, 0, 0)


def test_the_records_of_what_ended_are_dropped_after_a_month(node, home, clock):
    begin(node, "s1", "home", clock)
    receive(home, node, "t1", "s1")
    clock.now += DAY
    cleanup(node)

    clock.now += 29 * DAY
    assert cleanup(node).forgotten == 0
    clock.now += 2 * DAY
    assert cleanup(node, keep_s=-1).forgotten == 0
    assert cleanup(node).forgotten == 2
    assert views(node) == ([], [])


def test_no_more_than_the_newest_records_are_kept_however_young(node, home, clock):
    for number in range(5):
        begin(node, f"s{number}", "home", clock)
        receive(home, node, f"t{number}", f"s{number}")
        if number != 1:
            Transfer(node, f"t{number}").give_up()
            node.data_store.run(lambda number=number: end(node, f"s{number}", clock))
        clock.now += 60

    done = cleanup(node, keep_most=2)

    sessions, transfers = views(node)
    assert done == Cleaned(0, 0, 0, forgotten=4)
    assert [view.id for view in sessions] == ["s4", "s3", "s1"]  # s1 goes on
    assert [view.id for view in transfers] == ["t4", "t3", "t1"]
    assert cleanup(node, keep_most=2).forgotten == 0


def test_the_session_of_a_transfer_that_was_cut_is_kept_as_long_as_that_can_go_on(node, home, clock):
    for number in range(4):
        begin(node, f"s{number}", "home", clock)
        receive(home, node, f"t{number}", f"s{number}")
        if number:
            Transfer(node, f"t{number}").give_up()
        node.data_store.run(lambda number=number: end(node, f"s{number}", clock))
        clock.now += 60

    assert cleanup(node, keep_most=1).forgotten == 4
    assert [[view.id for view in found] for found in views(node)] == [["s3", "s0"], ["t3", "t0"]]

    clock.now += 6 * 3600
    assert cleanup(node, keep_most=1) == Cleaned(transfers=1, sessions=0, touched=2, forgotten=2)


def test_a_database_without_sessions_has_nothing_to_clean(node):
    assert cleanup(node) == Cleaned(0, 0, 0, 0)
    assert views(node) == ([], [])
