"""Capture: what a transaction does is in the inbox with its commit, or not at all."""

import subprocess
import sys

import pytest
import transaction
import zope.event
from persistent import Persistent
from support.folders import Folder, FolderHost
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.lifecycleevent import (
    Attributes,
    ObjectAddedEvent,
    ObjectCreatedEvent,
    ObjectModifiedEvent,
    ObjectMovedEvent,
    ObjectRemovedEvent,
    Sequence,
)

from livesync import Capture, LiveSyncError, SyncManager, gathering, record_action
from livesync.errors import NoConnection
from livesync.track import lanes

PARTS = {"created", "deleted"}


class Node(Folder):
    """A folder or a page."""

    name = ""
    title = ""


class Hidden(Persistent):
    __parent__ = None


class NodeHost(FolderHost):
    """Ids stay what they are."""

    def is_never_synced(self, obj):
        return not isinstance(obj, Node)


class PathHost(NodeHost):
    """Ids are paths."""

    def object_id(self, obj):
        names = []
        while obj is not None:
            names.append(obj.name)
            obj = obj.__parent__
        return "/".join(reversed(names))

    def former_id(self, obj, old_parent, old_name):
        return f"{self.object_id(old_parent)}/{old_name}"


def put(parent, name, uid=None):
    """Add a new node, as an application does."""
    node = Node(uid or name)
    attach(node, parent, name)
    zope.event.notify(ObjectAddedEvent(node, parent, name))
    return node


def attach(node, parent, name):
    parent[name] = node
    node.__parent__, node.name = parent, name


def remove(node):
    parent, name = node.__parent__, node.name
    del parent[name]
    zope.event.notify(ObjectRemovedEvent(node, parent, name))


def move(node, parent, name):
    old_parent, old_name = node.__parent__, node.name
    del old_parent[old_name]
    attach(node, parent, name)
    zope.event.notify(ObjectMovedEvent(node, old_parent, old_name, parent, name))


class Site:
    """A database with a manager, a root node and one connection in the thread's transaction."""

    def __init__(self, host, tm=None):
        self.db = DB(DemoStorage())
        self.tm = tm or transaction.manager
        with self.db.transaction() as connection:
            SyncManager.install(connection.root())
            connection.root()["site"] = Node("site")
        self.capture = Capture(host).install(self.db)
        self.connection = self.db.open(transaction_manager=self.tm)
        self.root = self.connection.root()["site"]

    def recorded(self):
        """Return ``{id: words}`` of what waits, and forget it."""
        found = {}
        for action in self.actions():
            assert action.object_id not in found
            found[action.object_id] = set(action.actions)
        return found

    def actions(self):
        with self.db.transaction() as connection:
            manager = SyncManager.get(connection.root())
            found = list(manager.waiting())
            manager.collect(4e9)
        return found

    def close(self):
        self.tm.abort()
        self.connection.close()
        self.capture.uninstall()
        self.db.close()


@pytest.fixture
def make_site():
    made = []

    def make(host=None, tm=None):
        made.append(Site(host or NodeHost(), tm))
        return made[-1]

    yield make
    transaction.abort()
    for site in made:
        site.close()


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture
def paths(make_site):
    return make_site(PathHost())


def test_an_added_object_is_created(site):
    put(site.root, "a")
    transaction.commit()

    assert site.recorded() == {"a": {"created"}}


def test_a_modified_object_is_changed(site):
    node = put(site.root, "a")
    transaction.commit()
    site.recorded()

    zope.event.notify(ObjectModifiedEvent(node))
    transaction.commit()

    assert site.recorded() == {"a": {"data_changed"}}


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (Attributes(None, "title"), {"data_changed", "title_changed"}),
        (Attributes(None, "text", "title"), {"data_changed", "title_changed"}),
        (Attributes(None, "IDublinCore.title"), {"data_changed", "title_changed"}),
        (Attributes(None, "text"), {"data_changed"}),
        (Attributes(None, "subtitle"), {"data_changed"}),
        (Sequence(None, "title"), {"data_changed", "title_changed"}),
        ({"title": 1}, {"data_changed"}),
    ],
)
def test_descriptions_tell_whether_the_title_changed(site, description, words):
    zope.event.notify(ObjectModifiedEvent(site.root, description))
    transaction.commit()

    assert site.recorded() == {"site": words}


def test_ten_changes_are_one_action(site):
    node = put(site.root, "a")
    for _ in range(10):
        zope.event.notify(ObjectModifiedEvent(node, Attributes(None, "title")))
    transaction.commit()

    [action] = site.actions()
    assert action.actions == {"created", "data_changed", "title_changed"}


def test_a_created_and_removed_object_is_both(site):
    remove(put(site.root, "a"))
    transaction.commit()

    assert site.recorded() == {"a": {"created", "deleted"}}


def test_what_is_inside_a_removed_container_is_deleted(site):
    folder = put(site.root, "a")
    put(put(folder, "b"), "c")
    transaction.commit()
    site.recorded()

    remove(folder)
    transaction.commit()

    assert site.recorded() == {name: {"deleted"} for name in "abc"}


def test_what_is_inside_an_added_container_is_created(site):
    folder = Node("a")
    attach(Node("b"), folder, "b")
    attach(folder, site.root, "a")
    zope.event.notify(ObjectAddedEvent(folder, site.root, "a"))
    transaction.commit()

    assert site.recorded() == {"a": {"created"}, "b": {"created"}}


def test_a_move_that_keeps_ids_is_moved(site):
    folder, other = put(site.root, "a"), put(site.root, "x")
    put(folder, "b")
    transaction.commit()
    site.recorded()

    move(folder, other, "a2")
    transaction.commit()

    assert site.recorded() == {"a": {"moved"}}


def test_a_move_that_changes_ids_deletes_the_old_and_creates_the_new(paths):
    folder, other = put(paths.root, "a"), put(paths.root, "x")
    put(put(folder, "b"), "c")
    transaction.commit()
    paths.recorded()

    move(folder, other, "n")
    transaction.commit()

    assert paths.recorded() == {
        "/a": {"deleted"},
        "/a/b": {"deleted"},
        "/a/b/c": {"deleted"},
        "/x/n": {"created"},
        "/x/n/b": {"created"},
        "/x/n/b/c": {"created"},
    }


def test_a_move_there_and_back_names_every_id_once(paths):
    folder = put(paths.root, "a")
    put(folder, "b")
    transaction.commit()
    paths.recorded()

    move(folder, paths.root, "n")
    move(folder, paths.root, "a")
    transaction.commit()

    assert paths.recorded() == dict.fromkeys(("/a", "/a/b", "/n", "/n/b"), PARTS)


def test_other_events_and_objects_are_none_of_ours(site):
    zope.event.notify(object())
    zope.event.notify(ObjectCreatedEvent(Node("new")))
    hidden = Hidden()
    site.connection.add(hidden)
    zope.event.notify(ObjectModifiedEvent(hidden))
    transaction.commit()

    assert site.recorded() == {}


def test_an_event_about_an_object_that_is_stored_nowhere_is_ignored(site):
    zope.event.notify(ObjectModifiedEvent(Node("nowhere")))
    transaction.commit()

    assert site.recorded() == {}


def test_an_object_that_is_added_later_is_found_at_the_commit(site):
    node = Node("late")
    zope.event.notify(ObjectModifiedEvent(node))
    site.capture.record(node, "created")
    site.root["late"] = node
    node.__parent__ = site.root
    transaction.commit()

    assert site.recorded() == {"late": {"created", "data_changed"}}


# -- by hand -------------------------------------------------------------------------------------


def test_an_object_is_recorded_by_hand(site):
    site.capture.record(site.root, "set_private", "acl_changed")
    record_action(site.root, "moved")
    transaction.commit()

    assert site.recorded() == {"site": {"set_private", "acl_changed", "moved"}}


def test_an_id_is_recorded_by_hand(site):
    site.capture.record("gone", "deleted", connection=site.connection)
    record_action("gone too", "deleted", connection=site.connection)
    transaction.commit()

    assert site.recorded() == {"gone": {"deleted"}, "gone too": {"deleted"}}


def test_an_id_without_connection_belongs_to_the_only_database_that_has_joined(site):
    site.root["x"] = 1
    site.capture.record("gone", "deleted")
    record_action("too", "deleted")
    transaction.commit()

    assert site.recorded() == {"gone": {"deleted"}, "too": {"deleted"}}


def test_an_id_belongs_nowhere_when_no_database_has_joined(site):
    site.capture.record("gone", "deleted")

    with pytest.raises(NoConnection, match="no attached one has"):
        transaction.commit()
    transaction.abort()
    assert site.recorded() == {}


def test_an_id_belongs_nowhere_when_several_databases_have_joined(site, make_site):
    other = make_site(site.capture.host)
    site.capture.install(site.db)
    other.capture.uninstall()
    site.capture.install(other.db)
    site.root["x"] = other.root["x"] = 1
    site.capture.record("gone", "deleted")

    with pytest.raises(NoConnection, match="several"):
        transaction.commit()


@pytest.mark.parametrize(
    ("words", "error"),
    [((), ValueError), (("two words",), ValueError), ((3,), TypeError), (("",), ValueError)],
)
def test_wrong_actions_are_refused(site, words, error):
    with pytest.raises(error):
        site.capture.record(site.root, *words)


@pytest.mark.parametrize("object_id", ["", "x" * 513])
def test_wrong_ids_are_refused(site, object_id):
    with pytest.raises(ValueError, match="1 to 512"):
        site.capture.record(object_id, "moved")


def test_a_database_that_is_not_attached_is_no_connection(site, memory_db):
    with memory_db.transaction() as connection:
        connection.root()["node"] = node = Node("other")
        connection.add(node)
        with pytest.raises(NoConnection, match="not attached"):
            site.capture.record(node, "moved")
        with pytest.raises(NoConnection, match="not attached"):
            record_action(node, "moved")
        zope.event.notify(ObjectModifiedEvent(node))
    transaction.commit()

    assert site.recorded() == {}


def test_record_action_without_a_capture_is_no_connection():
    with pytest.raises(NoConnection, match="call Capture"):
        record_action("an id", "moved")


def test_attached_is_for_the_time_of_a_block(memory_db):
    with memory_db.transaction() as connection:
        SyncManager.install(connection.root())
        connection.root()["node"] = Node("n")
    capture = Capture(NodeHost())

    with capture.attached(memory_db) as same:
        assert same is capture
        assert capture.is_attached(memory_db)
        with memory_db.transaction() as connection:
            record_action(connection.root()["node"], "moved")

    assert not capture.is_attached(memory_db)
    assert capture.notify not in zope.event.subscribers
    with memory_db.transaction() as connection:
        zope.event.notify(ObjectModifiedEvent(connection.root()["node"]))
    with memory_db.transaction() as connection:
        assert [a.object_id for a in SyncManager.get(connection.root()).waiting()] == ["n"]


def test_attaching_twice_records_once(site):
    site.capture.install(site.db)

    zope.event.notify(ObjectModifiedEvent(site.root))
    transaction.commit()

    assert len(site.actions()) == 1


def test_a_second_capture_of_a_database_is_refused(site):
    with pytest.raises(ValueError, match="another capture"):
        Capture(NodeHost()).install(site.db)


def test_a_database_without_a_manager_commits_as_ever(memory_db, caplog):
    with Capture(NodeHost()).attached(memory_db), memory_db.transaction() as connection:
        connection.root()["node"] = node = Node("n")
        connection.add(node)
        zope.event.notify(ObjectModifiedEvent(node))

    assert "not installed" in caplog.text


def test_two_databases_record_each_its_own(make_site):
    one, two = make_site(), make_site()
    put(one.root, "in-one")
    put(two.root, "in-two")
    record_action(two.root, "moved")
    transaction.commit()

    assert one.recorded() == {"in-one": {"created"}}
    assert two.recorded() == {"in-two": {"created"}, "site": {"moved"}}


def test_one_capture_of_two_databases_records_each_its_own(make_site):
    one, two = make_site(), make_site()
    two.capture.uninstall()
    one.capture.install(two.db)
    put(one.root, "in-one")
    put(two.root, "in-two")
    transaction.commit()

    assert one.recorded() == {"in-one": {"created"}}
    assert two.recorded() == {"in-two": {"created"}}


def test_a_connection_of_its_own_transaction_manager_is_served(make_site):
    site = make_site(tm=transaction.TransactionManager())
    put(site.root, "a")
    transaction.abort()
    site.tm.commit()

    assert site.recorded() == {"a": {"created"}}


# -- transactions --------------------------------------------------------------------------------


def test_an_aborted_transaction_leaves_nothing(site):
    put(site.root, "a")
    transaction.abort()
    put(site.root, "b")
    transaction.commit()

    assert site.recorded() == {"b": {"created"}}


def test_a_transaction_that_fails_leaves_nothing(site):
    class Fails:
        transaction_manager = transaction.manager

        def __getattr__(self, name):
            return lambda *args: None

        def tpc_vote(self, current):
            raise LiveSyncError("no")

        def sortKey(self):  # noqa: N802
            return "~~"

    put(site.root, "a")
    transaction.get().join(Fails())
    with pytest.raises(LiveSyncError):
        transaction.commit()
    transaction.abort()
    put(site.root, "b")
    transaction.commit()

    assert site.recorded() == {"b": {"created"}}


def test_a_retried_transaction_is_recorded_once(site):
    tries = []
    for attempt in transaction.manager.attempts(3):
        with attempt:
            tries.append(1)
            put(site.root, f"try-{len(tries)}")
            if len(tries) < 3:
                raise transaction.interfaces.TransientError

    assert site.recorded() == {"try-3": {"created"}}


def test_a_rollback_takes_back_what_came_after_the_savepoint(site):
    node = put(site.root, "a")
    savepoint = transaction.savepoint()
    put(site.root, "b")
    record_action(node, "moved")
    savepoint.rollback()
    put(site.root, "c")
    transaction.commit()

    assert site.recorded() == {"a": {"created"}, "c": {"created"}}


def test_a_rollback_to_before_the_first_record_takes_back_all(site):
    savepoint = transaction.savepoint()
    put(site.root, "a")
    savepoint.rollback()
    put(site.root, "b")
    savepoint.rollback()
    put(site.root, "c")
    transaction.commit()

    assert site.recorded() == {"c": {"created"}}


def test_nested_rollbacks(site):
    first = transaction.savepoint()
    put(site.root, "a")
    second = transaction.savepoint()
    put(site.root, "b")
    third = transaction.savepoint()
    put(site.root, "c")
    third.rollback()
    put(site.root, "d")
    second.rollback()
    put(site.root, "e")
    transaction.commit()
    assert first is not second

    assert site.recorded() == {"a": {"created"}, "e": {"created"}}


def test_a_rollback_takes_back_homeless_records(site):
    site.root["x"] = 1
    site.capture.record("kept", "deleted")
    savepoint = transaction.savepoint()
    site.capture.record("rolled back", "deleted")
    savepoint.rollback()
    site.root["x"] = 2
    transaction.commit()

    assert site.recorded() == {"kept": {"deleted"}}


def test_nothing_is_written_when_everything_was_rolled_back(site):
    savepoint = transaction.savepoint()
    put(site.root, "a")
    savepoint.rollback()
    before = site.db.storage.lastTransaction()
    transaction.commit()

    assert site.db.storage.lastTransaction() == before


def test_nothing_is_written_when_nothing_was_recorded(site):
    before = site.db.storage.lastTransaction()
    zope.event.notify(ObjectModifiedEvent(Node("nowhere")))
    zope.event.notify(object())
    transaction.commit()

    assert site.db.storage.lastTransaction() == before


def test_user_and_note_travel_with_the_actions(site):
    put(site.root, "a")
    transaction.get().setUser("ada")
    transaction.get().note("first line")
    transaction.commit()
    put(site.root, "b")
    transaction.get().setUser("bob", "/acl_users")
    transaction.commit()

    assert [(a.user, a.note) for a in site.actions()] == [("ada", "first line"), ("/acl_users bob", "")]


def test_hooks_that_still_change_objects_are_captured(site):
    def late():
        put(site.root, "late")
        transaction.get().addBeforeCommitHook(later)

    def later():
        put(site.root, "later")

    transaction.get().addBeforeCommitHook(late)
    put(site.root, "early")
    transaction.get().addBeforeCommitHook(lambda: put(site.root, "queued"))
    transaction.commit()

    assert site.recorded() == {name: {"created"} for name in ("early", "queued", "late", "later")}


def test_capture_asks_nothing_of_the_object_at_the_commit(site):
    node = put(site.root, "a")
    transaction.commit()
    site.recorded()
    zope.event.notify(ObjectModifiedEvent(node))
    del site.root["a"]
    node.__parent__ = None
    node.uid = "something else"
    transaction.commit()

    assert site.recorded() == {"a": {"data_changed"}}


# -- very large transactions ---------------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(gathering, "IDS_IN_MEMORY", 10)
    monkeypatch.setattr(gathering, "PAGE_CHANGES", 4)
    monkeypatch.setattr(gathering, "_PAGES_IN_MEMORY", 2)


@pytest.mark.parametrize("count", [4, 5, 9, 10, 11, 20, 57])
def test_a_large_transaction_goes_to_pages(site, small_limits, count):
    for number in range(count):
        site.capture.record(f"id-{number:03}", "created", connection=site.connection)
    transaction.commit()

    assert [action.object_id for action in site.actions()] == [f"id-{number:03}" for number in range(count)]


def test_rollbacks_of_a_large_transaction(site, small_limits):
    def record(first, last):
        for number in range(first, last):
            site.capture.record(f"id-{number:03}", "created", connection=site.connection)

    record(0, 25)
    savepoint = transaction.savepoint()
    record(25, 60)
    savepoint.rollback()
    record(60, 83)
    again = transaction.savepoint()
    record(83, 85)
    again.rollback()
    savepoint.rollback()
    record(90, 115)
    transaction.commit()

    expected = [*range(25), *range(90, 115)]
    assert [action.object_id for action in site.actions()] == [f"id-{number:03}" for number in expected]


def test_a_large_transaction_rolled_back_wholly_writes_nothing(site, small_limits):
    savepoint = transaction.savepoint()
    for number in range(50):
        site.capture.record(f"id-{number:03}", "created", connection=site.connection)
    savepoint.rollback()
    site.root["x"] = 1
    transaction.commit()

    assert site.recorded() == {}


def test_a_large_transaction_is_one_small_entry_of_its_lane(site, small_limits):
    for number in range(50):
        site.capture.record(f"id-{number:03}", "created", connection=site.connection)
    transaction.commit()
    put(site.root, "next")
    transaction.commit()

    assert lanes.LANE_BYTES == 2048
    assert len(site.actions()) == 51


MEMORY = """
import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from livesync import Capture, SyncManager
from livesync.demo.host import demo_host

db = DB(FileStorage({path!r}))
with db.transaction() as connection:
    SyncManager.install(connection.root())
capture = Capture(demo_host()).install(db)
connection = db.open()
for number in range({count}):
    capture.record("talk-%08d" % number, "data_changed", connection=connection)
transaction.commit()
connection.close()
# not getrusage: its peak is inherited from the process that started this one
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
db.close()
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_transaction(tmp_path):
    def peak(count):
        script = MEMORY.format(path=str(tmp_path / f"{count}.fs"), count=count)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak(1_000_000) <= 1.3 * peak(10_000)


def test_what_is_stored_nowhere_yet_belongs_to_the_one_open_transaction_or_is_refused():
    database = DB(DemoStorage())
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = database.open(transaction_manager=manager)
    SyncManager.install(connection.root())
    manager.commit()
    with Capture(NodeHost()).attached(database) as capture:
        manager.begin()
        connection.root()["new"] = Node("new")
        zope.event.notify(ObjectAddedEvent(connection.root()["new"], None, "new"))  # nor has it a parent
        manager.commit()
        manager.begin()
        recorded = [action.object_id for action in SyncManager.get(connection.root()).waiting()]
        manager.abort()

        other = database.open(transaction_manager=transaction.TransactionManager(explicit=True))
        with pytest.raises(NoConnection, match="several"):
            capture.record(Node("lost"), "created")
        zope.event.notify(ObjectAddedEvent(Node("lost"), None, "lost"))  # no failure of the application's
        manager.begin()
        capture.record("stored", "data_changed", connection=connection)
        capture.record(Node("same"), "created")  # the thread is at work in this transaction
        connection.root()["changed"] = True
        manager.commit()
        manager.begin()
        in_the_end = [action.object_id for action in SyncManager.get(connection.root()).waiting()]
        manager.abort()
        other.close()
    connection.close()
    database.close()

    assert recorded == ["new"]
    assert in_the_end == ["new", "stored", "same"]


def test_an_event_of_a_database_that_is_not_attached_stays_none_of_ours_after_a_refused_record():
    attached, other = DB(DemoStorage()), DB(DemoStorage())
    with attached.transaction() as connection:
        SyncManager.install(connection.root())
    foreign = other.open()
    foreign.root()["node"] = Node("foreign")
    transaction.commit()
    with Capture(NodeHost()).attached(attached) as capture:
        with pytest.raises(NoConnection):
            capture.record(foreign.root()["node"], "data_changed")
        zope.event.notify(ObjectModifiedEvent(foreign.root()["node"]))
        transaction.commit()
    foreign.close()
    with attached.transaction() as connection:
        assert list(SyncManager.get(connection.root()).waiting()) == []
    attached.close()
    other.close()


def test_a_note_holds_where_nothing_else_is_said(site):
    node = put(site.root, "a")
    transaction.commit()
    site.recorded()

    site.capture.note("a", "data_changed", site.connection)
    site.capture.note("b", "acl_changed", site.connection)
    zope.event.notify(ObjectModifiedEvent(node, Attributes(None, "title")))
    site.capture.record("b", "set_public", connection=site.connection)
    site.capture.note("c", "data_changed", site.connection)
    site.capture.note("c", "acl_changed", site.connection)
    transaction.commit()

    assert site.recorded() == {
        "a": {"data_changed", "title_changed"},
        "b": {"set_public"},
        "c": {"data_changed", "acl_changed"},
    }


def test_a_note_is_not_needed_where_an_action_reaches_inside(site):
    site.capture.note("in-moved", "data_changed", site.connection, inside=["box", "site"])
    site.capture.note("in-changed", "data_changed", site.connection, inside=["page", "site"])
    site.capture.record("box", "moved", connection=site.connection)
    site.capture.record("page", "data_changed", connection=site.connection)
    transaction.commit()

    assert site.recorded() == {
        "box": {"moved"},
        "page": {"data_changed"},
        "in-changed": {"data_changed"},
    }


def test_notes_go_with_their_savepoint_and_their_transaction(site):
    savepoint = transaction.savepoint()
    site.capture.note("a", "data_changed", site.connection)
    savepoint.rollback()
    site.capture.note("b", "data_changed", site.connection)
    savepoint = transaction.savepoint()
    site.capture.note("c", "data_changed", site.connection)
    savepoint.rollback()
    transaction.commit()
    assert site.recorded() == {"b": {"data_changed"}}

    site.capture.note("d", "data_changed", site.connection)
    transaction.abort()
    transaction.commit()
    assert site.recorded() == {}


def test_a_note_by_a_hook_that_comes_after_the_writing_lands_in_the_same_commit(site):
    def last_hook():
        site.capture.note("a", "data_changed", site.connection)
        site.capture.note("b", "data_changed", site.connection)

    site.capture.record("a", "set_public", connection=site.connection)
    transaction.get().addBeforeCommitHook(  # two steps back: capture has written before it
        lambda: transaction.get().addBeforeCommitHook(
            lambda: transaction.get().addBeforeCommitHook(last_hook)
        )
    )
    transaction.commit()

    actions = site.actions()
    assert sorted((action.object_id, sorted(action.actions)) for action in actions) == [
        ("a", ["set_public"]),
        ("b", ["data_changed"]),
    ]
    assert len({action.timestamp for action in actions}) == 1


def test_a_note_of_a_database_that_is_not_attached_is_refused(site):
    with DB(DemoStorage()).transaction() as other, pytest.raises(NoConnection):
        site.capture.note("a", "data_changed", other)


def test_very_many_notes_are_settled_before_the_commit(site, monkeypatch):
    monkeypatch.setattr(gathering, "IDS_IN_MEMORY", 100)
    for number in range(1000):
        site.capture.note(f"n{number}", "data_changed", site.connection)
    transaction.commit()

    assert len(site.recorded()) == 1000
