import pytest
import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync.versions import VersionedCollection

from .sites import Site


class Clock:
    """A clock that goes on by a second with each look at it."""

    def __init__(self):
        self.now = 1_900_000_000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def new_root():
    """Makes the root of a new database each time; all are closed in the end."""
    opened = []

    def make():
        db = ZODB.DB(DemoStorage())
        manager = transaction.TransactionManager()
        connection = db.open(transaction_manager=manager)
        opened.append((db, connection, manager))
        return connection

    yield make
    for db, connection, manager in opened:
        manager.abort()
        connection.close()
        db.close()


@pytest.fixture
def new_collection(new_root, clock):
    def make(documents=(), name="docs", init=True, **options):
        made = VersionedCollection(new_root(), name, clock=clock, **options)
        made.documents.update(documents)
        if init:
            made.init()
        return made

    return make


@pytest.fixture
def new_site():
    made = []

    def make(*args, **kwargs):
        made.append(Site(*args, **kwargs))
        return made[-1]

    yield make
    for site in made:
        site.close()
