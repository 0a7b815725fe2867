"""Whoever keeps what objects have said is found by what is stored, and asked to forget."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from support.shelf import Shelf
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.database import committed, connected
from livesync.errors import InvalidOperation
from livesync.keepers import Keeper, forget_object, keepers
from livesync.manager import SyncManager
from livesync.replication import HostExecutor, TrackReader, ZODBDataStore, ZODBSyncProvider
from livesync.versions import VersionedCollection


class Archive(Persistent):
    """Keeps everything that it is given."""

    def __init__(self, **kept):
        self.kept = kept

    def forget_object(self, object_id):
        if self.kept.get(object_id) == "held":
            raise InvalidOperation("somebody reads it at the moment")
        had = object_id in self.kept
        self.kept = {key: text for key, text in self.kept.items() if key != object_id}
        return had


@pytest.fixture
def root(memory_db):
    with memory_db.transaction() as connection:
        yield connection.root()


def test_keepers_are_found_in_trees_of_livesyncs_and_nowhere_else(root):
    first, second = Archive(cup="a cup"), Archive()
    root["livesync.archives"] = OOBTree({"second": second, "first": first})
    root["livesync.things"] = PersistentMapping(other=Archive())  # no tree
    root["archives"] = OOBTree({"third": Archive()})  # the application's
    root["livesync.numbers"] = OOBTree({"one": 1})
    SyncManager.install(root)

    assert keepers(root) == [("first", first), ("second", second)]


def test_all_forget_and_those_that_had_something_are_named(root):
    both, one = Archive(cup="a cup", pot="a pot"), Archive(pot="a pot")
    root["livesync.archives"] = OOBTree({"a": both, "b": one, "c": Archive()})

    assert forget_object(root, "cup") == ("a",)
    assert forget_object(root, "pot") == ("a", "b")
    assert forget_object(root, "pot") == ()
    assert forget_object({}, "pot") == ()


def test_histories_are_keepers(root):
    docs = VersionedCollection(root, "docs")
    docs.documents["cup"] = {"says": "a secret"}
    docs.init()
    docs.create_branch("side")

    ((name, keeper),) = keepers(root)

    assert (name, isinstance(keeper, Keeper)) == ("docs", True)
    assert forget_object(root, "cup") == ("docs",)
    assert forget_object(root, "pot") == ()


@pytest.fixture
def provider(file_db):
    def prepare(root):
        root["things"] = OOBTree()
        root["livesync.archives"] = OOBTree({"a": Archive(cup="a cup", pot="held")})
        SyncManager.install(root)
        for key in "cup", "pot":
            root["things"][key] = PersistentMapping(id=key, title=f"a {key}")

    committed(file_db, prepare)
    executor = HostExecutor(Things())
    return ZODBSyncProvider("here", ZODBDataStore(file_db), changes_executor=executor, reader=TrackReader())


class Things(Shelf):
    """The things of the root, which come and go as documents."""

    def __init__(self, things=None):
        super().__init__(things)

    def at(self, connection):
        return nullcontext(Things(connection.root()["things"]))

    def restore(self, object_id, document):
        if document is None:
            del self._things[object_id]
        else:
            self._things[object_id] = PersistentMapping(document)


def item_of(provider, object_id):
    return provider.data_store.read(lambda: provider.data_store.item_of(object_id))


def test_what_two_way_sync_deletes_for_good_is_forgotten_by_whoever_keeps_it(provider, file_db):
    provider.prepare()

    provider.erase(item_of(provider, "cup"))

    with connected(file_db) as root:
        assert root["livesync.archives"]["a"].kept == {"pot": "held"}
        assert [*root["things"]] == ["pot"]


def test_where_one_cannot_forget_nothing_is_deleted(provider, file_db):
    provider.prepare()

    with pytest.raises(InvalidOperation, match="somebody reads it"):
        provider.erase(item_of(provider, "pot"))

    with connected(file_db) as root:
        assert "pot" in root["livesync.archives"]["a"].kept
        assert [*root["things"]] == ["cup", "pot"]


def test_two_way_sync_loads_nothing_of_histories(tmp_path):
    path = tmp_path / "Data.fs"
    db = ZODB.DB(FileStorage(str(path)))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    SyncManager.install(connection.root())
    manager.commit()
    db.close()
    script = (
        "import sys; from livesync.database import open_database, committed\n"
        "from livesync.keepers import forget_object; import livesync.replication.models.hostexecutor\n"
        f"committed(open_database('file://{path}'), lambda root: forget_object(root, 'cup'))\n"
        "print([name for name in sys.modules if name.startswith('livesync.versions')])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG_S)

    assert done.stdout.strip() == "[]", done.stderr
