"""RelStorage's cache shows no state that was replaced, whoever polls when."""

import pytest
import transaction
from persistent.mapping import PersistentMapping
from support.databases import shared_database
from ZODB.DB import DB
from ZODB.utils import u64

from livesync.capture import Capture
from livesync.database import open_database
from livesync.demo.host import demo_host
from livesync.relcache import forget_replaced_states, read_past_cache

pytestmark = pytest.mark.server


@pytest.fixture(params=["relstorage", "relstorage-free"])
def database(request, tmp_path):
    with shared_database(request.param, tmp_path) as made:
        db = made.open()
        with db.transaction() as connection:
            connection.root().update({"x": PersistentMapping(n=0), "y": PersistentMapping(n=0)})
        db.close()
        yield made


class Viewer:
    """A connection that begins when it is told to, and keeps no objects from one transaction to the next."""

    def __init__(self, db):
        self.transactions = transaction.TransactionManager(explicit=True)
        self.transactions.begin()
        self.connection = db.open(transaction_manager=self.transactions)

    def begin(self):
        self.transactions.abort()
        self.transactions.begin()
        self.connection.cacheMinimize()

    def value(self, key):
        return self.connection.root()[key]["n"]

    def while_it_polls(self, do):
        """Begin; ``do`` is called between this connection's poll and what comes of it."""
        poller = self.connection._storage._cache.adapter.poller
        poll = poller.poll_invalidations

        def polled(*args):
            poller.poll_invalidations = poll  # not for those who poll meanwhile
            answer = poll(*args)
            do()
            return answer

        poller.poll_invalidations = polled
        self.begin()

    def close(self):
        self.transactions.abort()
        self.connection.close()


def change(db, key):
    with db.transaction() as connection:
        connection.root()[key]["n"] += 1


def value_in_overlapping_polls(db, elsewhere):
    """Return what a snapshot shows of x, and what it is to show.

    Args:
        db: Where it is looked at, by two connections whose polls overlap.
        elsewhere: The same database in, as it were, another process.
    """
    one, other = Viewer(db), Viewer(db)
    # the state of x that all begins with is frozen
    for viewer in one, other:
        viewer.begin()
    one.value("x")
    for _ in range(3):
        change(elsewhere, "y")
        for viewer in one, other:
            viewer.begin()
    # it changes; nobody here loads it
    change(elsewhere, "x")
    for viewer in one, other:
        viewer.begin()
    change(elsewhere, "y")
    other.begin()

    def overtaken():
        change(elsewhere, "x")
        other.begin()

    change(elsewhere, "y")
    one.while_it_polls(overtaken)
    change(elsewhere, "y")
    other.begin()  # what nobody seems to need is thrown away
    shown = one.value("x")
    for viewer in one, other:
        viewer.close()
    return shown, 1


@pytest.fixture
def elsewhere(database):
    db = database.open()
    yield db
    db.close()


def test_relstorage_alone_shows_a_state_that_was_replaced(database, elsewhere):
    """Why all this is there. Where this fails, RelStorage has been mended, and it may go."""
    db = DB(database.open_storage())

    shown, right = value_in_overlapping_polls(db, elsewhere)

    assert (shown, right) == (0, 1)
    db.close()


def opened(database):
    return open_database(database.uri)


def captured(database):
    db = DB(database.open_storage())
    Capture(demo_host()).install(db)
    return db


@pytest.mark.parametrize("open_it", [opened, captured])
def test_a_snapshot_shows_what_was_committed_before_it_though_polls_overlap(database, elsewhere, open_it):
    db = open_it(database)

    shown, right = value_in_overlapping_polls(db, elsewhere)

    assert shown == right
    db.close()


def test_a_cache_is_changed_once(database):
    db = open_database(database.uri)
    client = db.storage._cache.local_client
    kind = type(client)

    forget_replaced_states(db)

    assert type(client) is kind
    assert isinstance(client, kind.__mro__[2])
    db.close()


def test_a_storage_without_such_a_cache_is_left_alone(tmp_path):
    db = open_database(f"file://{tmp_path}/Data.fs", create=True)

    forget_replaced_states(db)  # and nothing is imported for it

    assert type(db.storage).__module__ == "ZODB.FileStorage.FileStorage"
    db.close()


def test_what_a_cache_holds_can_be_passed_by(database):
    db = open_database(database.uri)
    viewer = Viewer(db)
    viewer.begin()
    x, y = (viewer.connection.root()[key] for key in "xy")
    storage = viewer.connection._storage
    state, serial = storage.load(x._p_oid)
    other_state, _ = storage.load(y._p_oid)
    client = storage._cache.local_client
    client.invalidate_all([u64(x._p_oid)])
    client[u64(x._p_oid), u64(serial)] = (other_state + b"wrong", u64(serial))

    viewer.begin()
    held = storage.load(x._p_oid)[0]
    viewer.begin()
    read_past_cache(viewer.connection)
    past = storage.load(x._p_oid)[0]
    viewer.begin()

    assert held == other_state + b"wrong"
    assert past == state
    assert storage._cache.object_index is not None  # from the next transaction on it is used again
    viewer.close()
    db.close()
