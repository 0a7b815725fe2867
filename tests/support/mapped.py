"""An application whose objects lie in one tree by id, and what makes it take part in two-way sync."""

from contextlib import contextmanager

import ZODB
from BTrees.OOBTree import OOBTree
from ZODB.DemoStorage import DemoStorage

from livesync import ActionWrapper, Host, SyncManager
from livesync.action import DATA_CHANGED
from livesync.replication import (
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)

#: Where they lie in the root.
KEY = "objects"


class MappedHost(Host):
    """Objects by id: dicts with an ``id``, which are documents as they are."""

    def __init__(self, connection=None):
        self.connection = connection

    @contextmanager
    def at(self, connection):
        yield type(self)(connection)

    @property
    def objects(self):
        return self.connection.root()[KEY]

    def object_id(self, obj):
        return obj["id"]

    def get(self, object_id):
        return self.objects.get(object_id)

    def iter_objects(self, after=None):
        return iter(self.objects.values(after, excludemin=after is not None))

    def contents(self, obj):
        return iter(())

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        return dict(obj)

    def restore(self, object_id, document):
        if document is None:
            del self.objects[object_id]
        else:
            self.objects[object_id] = document


class Application:
    """A database with such objects, and its side of two-way sync.

    Args:
        name: The provider's id.
        host: What knows the objects.
        models: Its syncable models.
        db: An open database with nothing in it; None: one in memory.
        options: The provider's.
    """

    def __init__(self, name, host=None, models=None, db=None, **options):
        self.db = ZODB.DB(DemoStorage()) if db is None else db
        with self.db.transaction() as connection:
            SyncManager.install(connection.root())
            connection.root()[KEY] = OOBTree()
        self.provider = ZODBSyncProvider(
            name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(host or MappedHost(), models),
            reader=TrackReader(),
            **options,
        )

    def change(self, object_id, change, word=DATA_CHANGED):
        """Let the application call ``change(objects)``, and say what that has done to one of them."""
        with self.db.transaction() as connection:
            change(connection.root()[KEY])
            SyncManager.get(connection.root()).record([ActionWrapper(0, object_id, {word})])

    def write(self, object_id, **document):
        """Let the application write a document."""
        self.change(object_id, lambda objects: objects.update({object_id: {"id": object_id, **document}}))

    def remove(self, object_id):
        """Let the application remove an object."""
        self.change(object_id, lambda objects: objects.pop(object_id), "deleted")

    def holds(self):
        """Return what the application has, by id."""
        with self.db.transaction() as connection:
            return dict(connection.root()[KEY])

    def close(self):
        self.db.close()


def sync(one, other, *arguments, **options):
    """Sync two applications both ways; return the sessions, all of which went well."""
    sessions = SyncOrchestrator(SyncLock(), [one.provider, other.provider], 1e9).run(*arguments, **options)
    assert [session.status for session in sessions] == [SyncSessionStatus.FINISHED] * 2, sessions
    return sessions
