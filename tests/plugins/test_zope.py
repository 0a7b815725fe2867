"""Zope's start-up: what is attached, installed, refused; and what its events become."""

from types import SimpleNamespace

import pytest
import transaction
import zope.event
from support.folders import Folder
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from zope.lifecycleevent import (
    ObjectAddedEvent,
    ObjectCopiedEvent,
    ObjectModifiedEvent,
    ObjectMovedEvent,
    ObjectRemovedEvent,
)

from livesync import SyncManager
from livesync.errors import UsageError
from livesync.plugins import zope as plugin
from livesync.plugins._zope_settings import KEYS, ZopeSettings, read_zope_settings
from livesync.settings import Settings
from livesync.track import inbox


def settings(**given):
    return ZopeSettings(Settings(host="support.folders:FolderHost", site=given.pop("site", "")), **given)


@pytest.fixture
def databases():
    """Zope's databases: main, one that is mounted, and a temporary one."""
    found = {}
    for name, storage in (("main", DemoStorage()), ("mount", DemoStorage()), ("temporary", MappingStorage())):
        DB(storage, databases=found, database_name=name)
    yield found
    transaction.abort()
    for database in found.values():
        database.close()


@pytest.fixture
def attach(databases):
    """Attach as Zope's start does; detach in the end."""
    captures = []

    def carry_out(**given):
        captures.append(plugin.attach(databases["main"], settings(**given)))
        return captures[-1]

    yield carry_out
    for capture in captures:
        capture.uninstall()


def is_installed(database):
    with database.transaction() as connection:
        return "livesync" in connection.root()


def recorded(database):
    with database.transaction() as connection:
        manager = SyncManager.get(connection.root())
        return {
            action.object_id: set(action.actions)
            for commit in inbox.waiting(manager._inbox)
            for action in commit.actions
        }


def test_all_databases_that_are_kept_are_attached_and_installed(databases, attach):
    capture = attach(site="production")

    assert [name for name in databases if capture.is_attached(databases[name])] == ["main", "mount"]
    assert [name for name in databases if is_installed(databases[name])] == ["main", "mount"]
    with databases["main"].transaction() as connection:
        assert SyncManager.get(connection.root()).site == "production"


def test_databases_can_be_named(databases, attach, caplog):
    capture = attach(databases=frozenset({"mount", "mont"}))

    assert [name for name in databases if capture.is_attached(databases[name])] == ["mount"]
    assert "there is no database mont to record" in caplog.text


def test_installing_can_be_left_to_people(databases, attach, caplog):
    attach(install=False)

    assert not is_installed(databases["main"])
    assert "livesync is not installed in database main" in caplog.text


def test_a_manager_that_is_there_stays_what_it_is(databases, attach):
    with databases["main"].transaction() as connection:
        track_id = SyncManager.install(connection.root(), granularity=7).track_id

    attach()

    with databases["main"].transaction() as connection:
        manager = SyncManager.get(connection.root())
        assert (manager.track_id, manager.granularity) == (track_id, 7)


def test_what_happens_in_a_database_is_recorded_there(databases, attach):
    attach()
    connection = databases["main"].open()
    mounted = connection.get_connection("mount")
    connection.root()["a"], mounted.root()["b"] = Folder("a"), Folder("b")
    transaction.commit()

    zope.event.notify(ObjectModifiedEvent(connection.root()["a"]))
    zope.event.notify(ObjectModifiedEvent(mounted.root()["b"]))
    transaction.commit()

    assert recorded(databases["main"]) == {"a": {"data_changed"}}
    assert recorded(databases["mount"]) == {"b": {"data_changed"}}
    connection.close()


def dispatched(obj, event):
    """Send an event as OFS does: once by zope.event, and then to everything inside by its subscribers."""
    zope.event.notify(event)
    for inner in obj.values():
        dispatched_inside.append((inner.uid, type(event).__name__))


dispatched_inside = []


def test_each_lifecycle_event_says_what_it_is_for_all_that_is_inside(databases, attach):
    attach()
    with databases["main"].transaction() as connection:
        root = connection.root()["root"] = Folder("root")
        for name in ("old", "box"):
            root[name] = Folder(name)
        root["box"]["page"] = Folder("page")
    told = {}

    def happen(name, make_event):
        connection = databases["main"].open()
        before = recorded(databases["main"])
        dispatched(*make_event(connection.root()["root"]))
        transaction.commit()
        connection.close()
        after = recorded(databases["main"])
        told[name] = {uid: words - before.get(uid, set()) for uid, words in after.items()}
        told[name] = {uid: words for uid, words in told[name].items() if words}
        with databases["main"].transaction() as connection:
            SyncManager.get(connection.root()).collect(4e9)

    happen("added", lambda root: (root["box"], ObjectAddedEvent(root["box"], root, "box")))
    happen("copied", lambda root: (root["box"], ObjectCopiedEvent(root["box"], root["old"])))
    happen("moved", lambda root: (root["box"], ObjectMovedEvent(root["box"], root["old"], "x", root, "box")))
    happen("removed", lambda root: (root["box"], ObjectRemovedEvent(root["box"], root, "box")))

    assert told == {
        "added": {"box": {"created"}, "page": {"created"}},
        "copied": {},  # it lies nowhere yet; that it is added is said next
        "moved": {"box": {"moved"}},
        "removed": {"box": {"deleted"}, "page": {"deleted"}},
    }


def test_a_copy_of_another_site_is_recorded_but_not_run(databases, attach, caplog):
    with databases["main"].transaction() as connection:
        SyncManager.install(connection.root(), site="production")

    capture = attach(site="staging", runner=True, databases=frozenset({"main"}))

    assert capture.is_attached(databases["main"])
    assert "agents do not run here" in caplog.text
    assert "a runner is at work" not in caplog.text


def test_a_fault_of_ours_does_not_keep_zope_from_starting(databases, monkeypatch, caplog):
    monkeypatch.setattr(plugin, "zope_settings", lambda: settings(databases=3))

    plugin.databases_opened(SimpleNamespace(database=databases["main"]))

    assert "livesync could not be started; nothing is recorded" in caplog.text


def test_without_a_host_nothing_is_recorded(databases, monkeypatch, caplog):
    monkeypatch.setattr(plugin, "zope_settings", lambda: ZopeSettings(Settings()))

    plugin.databases_opened(SimpleNamespace(database=databases["main"]))

    assert "nothing is recorded: no host is set" in caplog.text
    assert not is_installed(databases["main"])


def test_zope_conf_goes_before_the_environment():
    found = read_zope_settings(
        {"host": "demo", "runner": "thread", "databases": "main other"},
        {
            "LIVESYNC_HOST": "demo-paths",
            "LIVESYNC_SITE": "here",
            "LIVESYNC_RUNNER": "off",
            "LIVESYNC_INSTALL": "off",
        },
    )

    assert (found.settings.host, found.settings.site) == ("demo", "here")
    assert (found.runner, found.install) == (True, False)
    assert found.databases == {"main", "other"}


def test_by_default_it_is_installed_and_nothing_runs():
    found = read_zope_settings({}, {})

    assert (found.settings.host, found.runner, found.install, found.databases) == (
        "",
        False,
        True,
        frozenset(),
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hots": "demo"}, "has no key 'hots'; it has host, site"),
        ({"runner": "process"}, "runner is off or thread, not 'process'"),
        ({"install": "maybe"}, "install is on or off, not 'maybe'"),
        ({"pages-url": "javascript:alert(1)"}, "pages-url begins with"),
        ({"config": "/no/such/file.toml"}, "cannot be read"),
    ],
)
def test_wrong_settings_are_named(given, said):
    with pytest.raises(UsageError, match=said):
        read_zope_settings(given, {})


def test_every_key_is_understood():
    given = dict.fromkeys(KEYS, "") | {"host": "demo", "pages-url": "https://example.com/livesync"}

    assert read_zope_settings(given, {}).pages_url == "https://example.com/livesync"
