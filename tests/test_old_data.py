"""Old data stay readable: the database of every release is opened, read and carried on."""

import shlex
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync import ActionWrapper, Capture, Host, PushSyncAgent, SyncManager, leases
from livesync.agent import State
from livesync.cli.main import main
from livesync.delivery import ledger
from livesync.destinations.memory import MemoryService
from livesync.errors import Leased, NoDocument, StateForbids, UpgradeNeeded
from livesync.manager import upgrade
from livesync.periodic.running import add_task
from livesync.process import this_process
from livesync.track.stored import SCHEMA

RELEASES = sorted((Path(__file__).parent / "data").glob("release-*.fs"))


@pytest.fixture(params=RELEASES, ids=[path.stem for path in RELEASES])
def old_file(request, tmp_path, no_fsync):
    """A copy of the database, as the release has left it."""
    copy = tmp_path / "Data.fs"
    shutil.copyfile(request.param, copy)
    return copy


@pytest.fixture
def old_db(old_file):
    """The database, open, and brought up to this code's schema."""
    db = DB(FileStorage(str(old_file)))
    db.written_last = db.undoInfo(0, -1)[0]["id"]
    with db.transaction() as connection:
        upgrade(connection.root())
    yield db
    db.close()


class Titles(Host):
    """A host whose objects are all ids: each has a document, but those that are said to be broken."""

    def __init__(self, broken=()):
        self.broken = broken

    @contextmanager
    def at(self, connection):
        yield self

    def object_id(self, obj):
        return obj

    def get(self, object_id):
        return object_id

    def iter_objects(self, after=None):
        return iter(())

    def contents(self, obj):
        return iter(())

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        if obj in self.broken:
            raise NoDocument("still no title")
        return {"title": obj, "for": audience}


@pytest.fixture
def deliver(old_db):
    """Run an agent of the old database, with a service in memory in the place of its own."""
    service = MemoryService()

    class Agent(PushSyncAgent):
        uploader = service.uploader_type()

    def run(agent_id="hook", host=None):
        transactions = transaction.TransactionManager()
        connection = old_db.open(transaction_manager=transactions)
        try:
            return Agent(agent_id).run(SyncManager.get(connection.root()), host or Titles(), now=4e9)
        finally:
            transactions.abort()
            connection.close()

    run.service = service
    return run


def test_there_is_a_database_of_a_release():
    assert RELEASES


def test_the_track_is_read(old_db):
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        found = [(position, value.object_id, value.user, value.note) for position, value in manager.track]

        assert found[:2] == [(100_000_000, "old-1", "ada", "the first"), (100_000_001, "old\n2", "", "")]
        assert found[2][1:] == ("collected", "bob", "a note")
        assert manager.track[100_000_001][0].actions == {"moved", "set_private"}
        assert 100_000_002 in manager.track
        assert manager.track.sealed == 100_000_002
        assert (manager.granularity, manager.site) == (10, "museum")


def test_the_agents_are_read(old_db):
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        hook, reader = manager.agents["hook"], manager.agents["reader"]

        assert (hook.name, hook.description) == ("A hook", "for the test of old data")
        assert hook.values["url"] == "https://search.example/records"
        assert reader.audience == "staff"
        assert manager.stored("hook").state == State.ACTIVE.value
        assert manager.stored("hook").interval_s == 60
        assert manager.stored("reader").state == State.PAUSED.value
        assert manager.dead_letters("hook")["old-9"]["reason"] == "no title"
        assert [value.object_id for _, value in manager.query("hook")] == ["old\n2"]
        assert list(manager.query("reader")) == []


def test_the_inbox_is_read_and_carried_on(old_db):
    with old_db.transaction() as connection:
        SyncManager.get(connection.root()).record([ActionWrapper(0, "new", {"created"})])
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        waiting = [value.object_id for value in manager.waiting()]

        assert set(waiting) == {"waiting-1", "paged-0", "paged-1", "waiting-2", "new"}
        assert manager.collect(4e9) == len(waiting)
        assert [value.object_id for _, value in manager.track][3:] == waiting
        assert manager.track.lag("hook") == 2 + len(waiting)


def test_undo_of_what_an_old_release_wrote_is_delivered(old_db):
    with old_db.transaction() as connection:
        SyncManager.get(connection.root()).collect(4e9)
    undoing = transaction.TransactionManager()
    undoing.begin()
    old_db.undo(old_db.written_last, undoing.get())
    undoing.commit()

    with old_db.transaction() as connection:
        assert any("undone" in action.actions for action in SyncManager.get(connection.root()).waiting())


def test_an_agent_is_run_after_an_upgrade(old_db, deliver):
    result = deliver()

    # what was on the track, and what lay in the inbox, an undo among it
    assert (result.read, result.coalesced, result.accepted) == (8, 2, 6)
    assert {"old\n2", "waiting-1", "waiting-2", "paged-0", "paged-1"} <= deliver.service.documents.keys()
    with old_db.transaction() as connection:
        stored = SyncManager.get(connection.root()).stored("hook")

        assert SyncManager.get(connection.root()).track.get_pointer_timestamp("hook") == result.till
        assert (stored.lease.token, stored.lease.holder) == (1, None)
        assert [entry["read"] for entry in ledger.entries(stored)] == [8]
        assert stored.totals["accepted"] == 6
        assert stored.generation == 1


def test_objects_are_enqueued_for_it(old_db, deliver):
    with old_db.transaction() as connection:
        assert SyncManager.get(connection.root()).enqueue("hook", ["x", "y"], ["moved"]) == 2
    result = deliver()

    assert result.cascaded == 2
    assert {"x", "y"} <= deliver.service.documents.keys()
    with old_db.transaction() as connection:
        status = {agent.id: agent for agent in SyncManager.get(connection.root()).status().agents}

        assert (status["hook"].queued, status["hook"].holder) == (0, "")
        assert status["reader"].totals == {}


def test_it_is_held_by_one_at_a_time(old_db, deliver):
    process = ("elsewhere", *this_process()[1:])
    with old_db.transaction() as connection:
        lease = SyncManager.get(connection.root()).stored("hook").lease
        leases.take("hook", lease, process, "run", time.time(), 1000.0)

    with pytest.raises(Leased, match="on elsewhere"):
        deliver()


def test_a_dead_letter_of_an_old_release_may_die_again_and_be_cleared(old_db, deliver):
    with old_db.transaction() as connection:
        SyncManager.get(connection.root()).enqueue("hook", ["old-9"])
    deliver(host=Titles(broken={"old-9"}))
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        again = dict(manager.dead_letters("hook")["old-9"])
        manager.enqueue("hook", ["old-9"])
    deliver()

    assert (again["reason"], again["attempts"]) == ("still no title", 2)
    assert (again["first_time"], again["time"]) == (1e9, 4e9)
    with old_db.transaction() as connection:
        assert dict(SyncManager.get(connection.root()).dead_letters("hook")) == {}


def test_it_can_be_given_another_schedule_and_tasks(old_db):
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        assert manager.task_ids() == []
        status = manager.status(now=2e9)
        assert (status.tasks, status.agents[0].cron, status.agents[0].failures) == ((), "", 0)
        manager.set_schedule("hook", cron="0 3 * * *")
        add_task(manager, "prune", "prune", interval_s=60.0)
    with old_db.transaction() as connection:
        manager = SyncManager.get(connection.root())

        assert manager.task_ids() == ["prune"]
        assert (manager.stored("hook").interval_s, manager.stored("hook").cron) == (None, "0 3 * * *")


def test_an_agent_that_was_paused_is_paused_still(old_db, deliver):
    with pytest.raises(StateForbids, match="is paused"):
        deliver("reader")


def test_an_upgrade_is_done_once(old_file):
    db = DB(FileStorage(str(old_file)))
    done = []
    for _ in range(2):
        with db.transaction() as connection:
            done.append(upgrade(connection.root()))
    db.close()

    assert done == [True, False]


# before the upgrade


def test_data_of_an_older_schema_are_refused_and_the_way_on_is_told(old_file):
    db = DB(FileStorage(str(old_file)))
    with (
        db.transaction() as connection,
        pytest.raises(UpgradeNeeded, match="run: livesync upgrade") as caught,
    ):
        SyncManager.get(connection.root())
    db.close()

    assert (caught.value.stored, caught.value.expected) == (1, SCHEMA)


def test_an_application_works_on_until_the_upgrade_and_nothing_of_it_is_lost(old_file):
    db = DB(FileStorage(str(old_file)))
    transactions = transaction.TransactionManager()
    connection = db.open(transaction_manager=transactions)
    with Capture(Titles()).attached(db) as capture:
        connection.root()["something"] = "new"
        capture.record("changed before the upgrade", "created", connection=connection)
        transactions.commit()

    assert SyncManager.get(connection.root(), to_record=True).schema == 1
    upgrade(connection.root())
    transactions.commit()
    waiting = [action.object_id for action in SyncManager.get(connection.root()).waiting()]
    transactions.abort()
    connection.close()
    db.close()
    assert waiting[-1] == "changed before the upgrade"


def test_an_application_does_not_change_anything_that_a_newer_schema_might_record_otherwise(old_file):
    db = DB(FileStorage(str(old_file)))
    transactions = transaction.TransactionManager()
    connection = db.open(transaction_manager=transactions)
    SyncManager.get(connection.root(), to_record=True).schema = SCHEMA + 1
    transactions.commit()
    with Capture(Titles()).attached(db) as capture:
        connection.root()["something"] = "new"
        capture.record("x", "created", connection=connection)
        with pytest.raises(UpgradeNeeded):
            transactions.commit()
        transactions.abort()
    refused = "something" not in connection.root()
    transactions.abort()
    connection.close()
    db.close()

    assert refused


@pytest.mark.parametrize(
    "command",
    [
        "list", "status", "run", "prune", "adopt --site x", "doctor", "agent list", "agent show hook",
        "agent run hook", "agent simulate hook", "agent export hook", "agent activate hook",
        "agent pause hook", "agent rewind reader --to 5", "agent edit hook --name x",
    ],
)  # fmt: skip
def test_every_command_refuses_them_with_a_code_of_its_own(old_file, command, capsys, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "museum")
    before = old_file.read_bytes()

    code = main(["--db", f"file://{old_file}", "--host", "demo", *shlex.split(command)])

    told = capsys.readouterr()
    assert int(code) == 12
    assert "the stored schema is 1" in told.out + told.err
    assert "run: livesync upgrade" in told.out + told.err
    assert old_file.read_bytes() == before


def test_the_command_that_is_told_brings_them_up(old_file, capsys, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "museum")

    codes = [int(main(["--db", f"file://{old_file}", command])) for command in ("upgrade", "status")]

    assert codes == [0, 0]
    assert "hook" in capsys.readouterr().out
