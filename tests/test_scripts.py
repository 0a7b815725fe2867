"""Scripts and functions without events: what they do is recorded once, in the transaction that does it."""

import pytest
import transaction
import zope.event
from test_capture import Node, NodeHost, attach
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from zope.lifecycleevent import ObjectModifiedEvent

import livesync
from livesync import Capture, Host, NoConnection, SyncManager, recorded, recording


class TreeHost(NodeHost):
    """A host that can be made by its name."""


@pytest.fixture
def db(memory_db):
    with memory_db.transaction() as connection:
        SyncManager.install(connection.root())
        root = connection.root()["tree"] = Node("root")
        for name in "ab":
            attach(Node(name), root, name)
    return memory_db


def waiting(db):
    """What lies in the inbox: id, actions, user, note."""
    with db.transaction() as connection:
        return [
            (action.object_id, set(action.actions), action.user, action.note)
            for action in SyncManager.get(connection.root()).waiting()
        ]


def told(db):
    return [(object_id, actions) for object_id, actions, *_ in waiting(db)]


@recorded("data_changed")
def rename(node, title):
    node.title = title


# -- a block -------------------------------------------------------------------------------------


def test_a_script_without_a_capture_is_recorded_for_the_time_of_the_block(db):
    with recording(TreeHost(), db) as capture, db.transaction() as connection:
        rename(connection.root()["tree"]["a"], "A")
        capture.record("gone", "deleted")

    assert told(db) == [("a", {"data_changed"}), ("gone", {"deleted"})]
    assert not capture.is_attached(db)
    with db.transaction() as connection, pytest.raises(NoConnection):
        rename(connection.root()["tree"]["a"], "B")


def test_what_the_script_aborts_leaves_nothing(db):
    def fail():
        with db.transaction() as connection:
            rename(connection.root()["tree"]["a"], "A")
            raise ZeroDivisionError

    with recording(TreeHost(), db), pytest.raises(ZeroDivisionError):
        fail()

    assert waiting(db) == []


def test_user_and_note_stand_with_every_transaction_that_has_none(db):
    with recording(TreeHost(), db, user="nightly", note="tidy up"):
        for name in "ab":
            with db.transaction() as connection:
                rename(connection.root()["tree"][name], "x")
        with db.transaction("by hand") as connection:
            connection.transaction_manager.get().user = "ada"
            rename(connection.root()["tree"]["a"], "y")

    assert waiting(db) == [
        ("a", {"data_changed"}, "nightly", "tidy up"),
        ("b", {"data_changed"}, "nightly", "tidy up"),
        ("a", {"data_changed"}, "ada", "by hand"),
    ]


def test_user_and_note_are_those_of_the_database_too(db):
    with recording(TreeHost(), db, user="nightly", note="tidy up"), db.transaction() as connection:
        rename(connection.root()["tree"]["a"], "A")

    *_, last = db.storage.changes.iterator()
    assert (last.user, last.description) == (b"nightly", b"tidy up")


def test_afterwards_transactions_say_nothing_of_the_script(db):
    with recording(TreeHost(), db, user="nightly"):
        pass
    with Capture(TreeHost()).attached(db), db.transaction() as connection:
        rename(connection.root()["tree"]["a"], "A")

    assert waiting(db) == [("a", {"data_changed"}, "", "")]


def test_where_the_application_is_attached_already_nothing_is_recorded_twice(db):
    application = Capture(TreeHost()).install(db)
    try:
        with recording(TreeHost(), db, user="nightly") as capture, db.transaction() as connection:
            node = connection.root()["tree"]["a"]
            rename(node, "A")
            zope.event.notify(ObjectModifiedEvent(node))
        assert capture is application
        assert application.is_attached(db)
        assert waiting(db) == [("a", {"data_changed"}, "nightly", "")]
    finally:
        application.uninstall()


def test_events_are_heard_in_the_block(db):
    with recording(TreeHost(), db), db.transaction() as connection:
        zope.event.notify(ObjectModifiedEvent(connection.root()["tree"]["b"]))

    assert told(db) == [("b", {"data_changed"})]


def test_a_connection_stands_for_its_database(db):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    with recording(TreeHost(), connection):
        rename(connection.root()["tree"]["a"], "A")
        manager.commit()
    connection.close()

    assert told(db) == [("a", {"data_changed"})]


def test_several_databases_each_get_their_own(db):
    other = DB(DemoStorage())
    with other.transaction() as connection:
        SyncManager.install(connection.root())
        connection.root()["tree"] = Node("elsewhere")
    with recording(TreeHost(), db, other):
        with db.transaction() as connection:
            rename(connection.root()["tree"]["a"], "A")
        with other.transaction() as connection:
            rename(connection.root()["tree"], "E")

    assert (told(db), told(other)) == ([("a", {"data_changed"})], [("elsewhere", {"data_changed"})])
    other.close()


def test_a_block_is_a_decorator_too(db):
    @recording(TreeHost(), db, note="nightly")
    def tidy_up():
        with db.transaction() as connection:
            rename(connection.root()["tree"]["a"], "A")

    tidy_up()
    tidy_up()

    assert [note for *_, note in waiting(db)] == ["nightly", "nightly"]


def test_a_host_may_be_named(db):
    with recording("livesync.demo.host:demo_host", db) as capture:
        assert isinstance(capture.host, Host)
    with pytest.raises(livesync.LiveSyncError, match="nowhere"), recording("nowhere:Host", db):
        pass


def test_a_database_must_be_named():
    with pytest.raises(ValueError, match="database"), recording(TreeHost()):
        pass


# -- a function ----------------------------------------------------------------------------------


@pytest.fixture
def tree(db):
    """The tree within one transaction of a script, and the manager that commits it."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    with recording(TreeHost(), db):
        yield connection.root()["tree"], manager
    manager.abort()
    connection.close()


def test_a_function_returns_what_it_returns_and_keeps_its_name(tree):
    node, _ = tree

    @recorded("data_changed")
    def double(node, by=2):
        """Says it."""
        return by * 2

    assert double(node, by=4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Says it.")


def test_ten_calls_are_one_action(db, tree):
    node, manager = tree
    for number in range(10):
        rename(node["a"], str(number))
    manager.commit()

    assert told(db) == [("a", {"data_changed"})]


def test_a_function_that_raises_has_recorded_nothing(db, tree):
    node, manager = tree

    @recorded("data_changed")
    def fail(node):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(node["a"])
    manager.commit()

    assert waiting(db) == []


def test_the_object_is_the_parameter_that_is_named(db, tree):
    node, manager = tree

    @recorded("moved", "title_changed", argument="what")
    def move(where, *, what):
        what.title = where

    move("there", what=node["b"])
    manager.commit()

    assert told(db) == [("b", {"moved", "title_changed"})]


def test_a_default_counts_as_given(db, tree):
    node, manager = tree

    @recorded("data_changed")
    def touch(what=node["b"]):
        what.title = "touched"

    touch()
    manager.commit()

    assert told(db) == [("b", {"data_changed"})]


def test_of_a_method_it_is_the_object_of_the_method(db, tree):
    node, manager = tree
    Node.retitle = recorded("title_changed")(lambda self, title: setattr(self, "title", title))
    try:
        node["a"].retitle("A")
    finally:
        del Node.retitle
    manager.commit()

    assert told(db) == [("a", {"title_changed"})]


def test_what_is_made_is_what_is_returned(db, tree):
    node, manager = tree

    @recorded("created", argument="return")
    def make(parent, name):
        attach(Node(name), parent, name)
        return parent[name]

    make(node, "c")
    manager.commit()

    assert told(db) == [("c", {"created"})]


def test_what_is_deleted_is_recorded_with_everything_inside(db, tree):
    node, manager = tree
    attach(Node("inner"), node["a"], "inner")

    @recorded("deleted", argument="what")
    def drop(parent, what):
        what.clear()
        del parent[what.name]

    drop(node, node["a"])
    manager.commit()

    assert told(db) == [("a", {"deleted"}), ("inner", {"deleted"})]


def test_where_livesync_is_not_attached_it_is_said_unless_that_is_fine(memory_db):
    calls = []
    loud = recorded("data_changed")(calls.append)
    quiet = recorded("data_changed", optional=True)(calls.append)
    with memory_db.transaction() as connection:
        node = connection.root()["tree"] = Node("root")
        connection.add(node)

        quiet(node)
        with pytest.raises(NoConnection):
            loud(node)

    assert calls == [node, node]


async def later(node):
    pass


def piece_by_piece(node):
    yield node


@pytest.mark.parametrize(
    ("actions", "options", "function", "error"),
    [
        ((), {}, rename, "at least one"),
        (("no word",), {}, rename, "no action word"),
        (("data_changed",), {"argument": "page"}, rename, "no parameter 'page'"),
        (("data_changed",), {}, lambda: None, "no parameter ''"),
        (("deleted",), {"argument": "return"}, rename, "before the function returns"),
        (("data_changed",), {}, later, "record_action inside"),
        (("data_changed",), {}, piece_by_piece, "record_action inside"),
    ],
)
def test_what_cannot_work_is_said_where_it_is_written(actions, options, function, error):
    with pytest.raises((ValueError, TypeError), match=error):
        recorded(*actions, **options)(function)
