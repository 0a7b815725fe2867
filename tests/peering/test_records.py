import pytest
from ZODB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.errors import UpgradeNeeded
from livesync.peering.records import Packet, StoredSessions, SyncSessionRecord, TransferRecord
from livesync.peering.stages import Stage, Status


@pytest.fixture
def stored():
    db = DB(DemoStorage())
    connection = db.open()
    yield StoredSessions.get(connection.root())
    connection.transaction_manager.abort()
    connection.close()
    db.close()


def session(session_id):
    return SyncSessionRecord(
        session_id,
        is_server=True,
        profile="p",
        client_certificate_id="c",
        server_certificate_id="s",
        started=1.0,
    )


def transfer(transfer_id, session_id="s1", started=1.0):
    return TransferRecord(
        transfer_id,
        sync_session_id=session_id,
        direction="push",
        is_sender=False,
        prefixes=("F1",),
        started=started,
        chunk_size=500,
    )


def test_what_has_ended_is_not_among_what_goes_on_and_not_looked_at_again(stored):
    for name in ("s1", "s2"):
        stored.add_sync(session(name))
    for number in range(4):
        stored.add_transfer(transfer(f"t{number}", f"s{1 + number % 2}", 9.0 - number))
    stored.sync["s1"].active = False
    stored.transfers["t0"].active = False
    del stored.transfers["t1"]

    assert [record.id for record in stored.sessions_going_on()] == ["s2"]
    assert [record.id for record in stored.transfers_going_on()] == ["t3", "t2"]
    assert [record.id for record in stored.transfers_going_on("s1")] == ["t2"]
    assert [record.id for record in stored.transfers_of("s1")] == ["t2", "t0"]
    assert (list(stored.open_sync), list(stored.open_transfers)) == (["s2"], ["t2", "t3"])


def test_a_transfer_never_goes_back(stored):
    record = transfer("t")
    record.become(Stage.TRANSFERRING, Status.COMPLETED, 2.0)

    with pytest.raises(ValueError, match="back from transferring to queuing"):
        record.become(Stage.QUEUING, Status.COMPLETED, 3.0)
    with pytest.raises(ValueError, match="back into transferring"):
        record.become(Stage.TRANSFERRING, Status.STARTED, 3.0)
    record.become(Stage.DEQUEUING, Status.ERRORED, 4.0, "no room")

    view = record.view()
    assert (view.stage, view.status, view.error, view.last_active) == (
        Stage.DEQUEUING,
        Status.ERRORED,
        "no room",
        4.0,
    )


def test_buffers_that_wait_are_those_of_one_transfer_in_order(stored):
    for key in (("t", 2), ("t", 0), ("t", 1), ("t1", 0), ("s", 5)):
        stored.buffers[key] = Packet(b"%d" % key[1])

    assert list(stored.waiting("t")) == [(0, b"0"), (1, b"1"), (2, b"2")]
    assert stored.drop_waiting("t") == 3
    assert sorted(stored.buffers) == [("s", 5), ("t1", 0)]


def test_what_a_newer_livesync_wrote_is_left_alone():
    root = {}
    StoredSessions.get(root).schema += 1

    with pytest.raises(UpgradeNeeded, match="schema of sessions is 2"):
        StoredSessions.get(root)
    with pytest.raises(LookupError, match="no session"):
        StoredSessions.get({}, create=False)
