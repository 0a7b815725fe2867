"""The periodic task that keeps histories small."""

import pytest
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync.errors import LiveSyncError, OptionError
from livesync.manager import SyncManager
from livesync.periodic.running import add_task, run_task
from livesync.periodic.versions import PruneVersions
from livesync.versions import VersionedCollection

from .editing import edit


@pytest.fixture
def db():
    made = ZODB.DB(DemoStorage())
    with made.transaction() as connection:
        SyncManager.install(connection.root(), site="here")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def long_ago(clock):
    clock.now = 1_500_000_000.0


def grow(db, name, number, clock):
    with db.transaction() as connection:
        docs = VersionedCollection(connection, name, clock=clock)
        docs.init()
        for n in range(number):
            edit(docs, f"v{n}", a={"n": n})
        docs.create_branch("side")
        edit(docs, "side", b={"n": 1})
        docs.checkout(branch="main")
        docs.names.drop_branch("side")


def run(db, **options):
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        if manager.task_ids():
            manager.remove_task("tidy")
        add_task(manager, "tidy", "versions", options, interval_s=3600)
    return run_task(db, "tidy", None)


def test_old_versions_lose_what_they_held_and_garbage_goes(db, clock):
    for name in ("one", "two"):
        grow(db, name, 12, clock)

    assert run(db, grace_s="1e9").summary == {name: {"pruned": 0, "removed": 0} for name in ("one", "two")}
    outcome = run(db, keep="3, yearly", collection="two", grace_s="0")

    assert outcome.error is None
    assert outcome.summary == {"two": {"pruned": 9, "removed": 1}}
    with db.transaction() as connection:
        two = VersionedCollection(connection, "two")
        assert two.check() == []
        assert [two.contents.is_pruned(two.find(n)[1]) for n in (0, 1, 9, 10, 12)] == [
            False,
            True,
            True,
            False,
            False,
        ]
    assert run(db, keep="1", grace_s="0").summary == {
        "one": {"pruned": 11, "removed": 1},
        "two": {"pruned": 2, "removed": 0},
    }


def test_a_collection_that_is_damaged_keeps_no_other_from_it(db, clock):
    for name in ("one", "two"):
        grow(db, name, 12, clock)
    with db.transaction() as connection:
        history = VersionedCollection(connection, "one").stored.documents["a"]
        history.tail = history.tail[:-1] + b"x"

    outcome = run(db, keep="3")

    assert isinstance(outcome.error, LiveSyncError)
    assert "collection one: document 'a'" in str(outcome.error)
    with db.transaction() as connection:
        two = VersionedCollection(connection, "two")
        assert two.contents.is_pruned(two.find(1)[1])


def test_a_collection_without_versions_is_an_error(db):
    assert "'nobody' has no versions yet" in str(run(db, collection="nobody", keep="1").error)
    assert run(db, keep="1").summary == {}


def test_words_that_say_not_what_to_keep_are_refused_when_they_are_set():
    with pytest.raises(OptionError, match="option keep: 'weakly' says not what to keep"):
        PruneVersions(keep="weakly")


def test_it_ends_when_it_is_told_to(db, clock):
    grow(db, "one", 12, clock)
    with db.transaction() as connection:
        add_task(SyncManager.get(connection.root()), "tidy", "versions", {"keep": "1"}, interval_s=3600)
    outcome = run_task(db, "tidy", None, stop=lambda: True)
    assert outcome.error is None
    with db.transaction() as connection:
        assert not VersionedCollection(connection, "one").contents.stored.settings.get("pruned")
