"""Old data stay readable: the database of every release is opened, read and carried on."""

import shutil
from pathlib import Path

import pytest
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync import ActionWrapper, SyncManager
from livesync.agent import State
from livesync.manager import upgrade

RELEASES = sorted((Path(__file__).parent / "data").glob("release-*.fs"))


@pytest.fixture(params=RELEASES, ids=[path.stem for path in RELEASES])
def old_db(request, tmp_path, no_fsync):
    copy = tmp_path / "Data.fs"
    shutil.copyfile(request.param, copy)
    db = DB(FileStorage(str(copy)))
    db.written_last = db.undoInfo(0, -1)[0]["id"]
    with db.transaction() as connection:
        upgrade(connection.root())
    yield db
    db.close()


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
