"""An application in a database: pages, its host, and somebody who edits them."""

from contextlib import contextmanager

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from ZODB.DemoStorage import DemoStorage

from livesync import Capture, Host, SyncManager
from livesync.errors import NoDocument
from livesync.versions import VersionedCollection

BEGIN = 1_700_000_000.0


class Pages(Host):
    """Pages by path; a page lies in the one whose path its own begins with."""

    def __init__(self, pages=None, looked=None):
        self._pages = pages
        self.looked = [] if looked is None else looked  # at which ids, in order

    @contextmanager
    def at(self, connection):
        yield type(self)(connection.root()["pages"], self.looked)

    def object_id(self, obj):
        return obj["id"]

    def get(self, object_id):
        self.looked.append(object_id)
        return self._pages.get(object_id)

    def iter_objects(self, after=None):
        return iter(self._pages.values(after, excludemin=after is not None))

    def contents(self, obj):
        return (page for key, page in self._pages.items() if key.startswith(obj["id"] + "/"))

    def is_excluded(self, obj, audience="public"):
        return bool(obj.get("private"))

    def document(self, obj, audience="public"):
        if obj.get("blank"):
            raise NoDocument("it is blank")
        return {key: value for key, value in obj.items() if key != "id"}

    def restore(self, object_id, document):
        if document is None:
            del self._pages[object_id]
        else:
            self._pages[object_id] = {"id": object_id, **document}


class Forgetful(Pages):
    """Loses what it is given of one key."""

    def restore(self, object_id, document):
        super().restore(object_id, document and {**document, "n": 0})


class Printed(Pages):
    """Takes nothing back."""

    restore = Host.restore


class Site:
    """An application with its database: a manager, pages, and somebody who edits them."""

    def __init__(self, host_type=Pages, track=True):
        self.db = ZODB.DB(DemoStorage())
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        root = self.connection.root()
        root["pages"] = OOBTree()
        self.pages = root["pages"]
        if track:
            SyncManager.install(root)
        self.tm.commit()
        self.host = host_type()
        self.capture = Capture(self.host)
        self.capture.install(self.db)
        self.now = BEGIN

    def close(self):
        self.capture.uninstall(self.db)
        self.tm.abort()
        self.connection.close()
        self.db.close()

    @property
    def manager(self):
        return SyncManager.get(self.connection.root())

    def edit(self, user="", word=None, **pages):
        for key, document in pages.items():
            was_there = key in self.pages
            if document is None:
                del self.pages[key]
            else:
                self.pages[key] = {"id": key, **document}
            said = word or ("deleted" if document is None else "data_changed" if was_there else "created")
            self.capture.record(key, said, connection=self.connection)
        if user:
            self.tm.get().setUser(user)
        self.tm.commit()

    def collect(self):
        self.now += 1_000_000_000
        self.manager.collect(self.now)
        self.tm.commit()

    def collection(self, name="pages", **options):
        return VersionedCollection(self.connection, name, host=self.host, clock=lambda: self.now, **options)

    @property
    def documents(self):
        return {key: self.host.document(page) for key, page in self.pages.items()}
