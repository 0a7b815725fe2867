"""Database files that were restored from a backup, or copied: whoever they sync with over HTTP notices."""

import shutil

import pytest
import ZODB
from support.peer_serving import NetworkNode, Served
from support.peer_world import FULL, World
from ZODB.FileStorage import FileStorage

from livesync.replication import SyncLock, SyncOrchestrator
from livesync.replication.identity import WITNESS_SUFFIX

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_fsync")]


class Place:
    """A database file of one node, which can be closed, put back as it was, copied, and opened anew."""

    def __init__(self, directory, stack):
        directory.mkdir()
        self.path, self.stack = directory / "Data.fs", stack
        self.db = None

    def open(self):
        self.db = ZODB.DB(FileStorage(str(self.path)))
        return self.db

    def close(self):
        if self.db is not None:
            self.db.close()
            self.db = None

    def restore(self, backup):
        """Put the file back; no witness says so, as where several processes share a database."""
        self.close()
        for left in self.path.parent.iterdir():
            left.unlink()
        shutil.copyfile(backup, self.path)

    def backup(self, path):
        shutil.copyfile(self.path, path)
        return path


@pytest.fixture
def place(tmp_path, stack):
    def make(name):
        found = Place(tmp_path / name, stack)
        stack.callback(found.close)
        return found

    return make


def without_witness(monkeypatch):
    """Let nothing tell a database that it was restored, but the peers."""
    monkeypatch.setattr("livesync.replication.identity.witness_of", lambda db: None)


def everybody_agrees(*nodes):
    first, *rest = (node.contents() for node in nodes)
    assert all(each == first for each in rest)
    return first


def test_a_client_that_was_restored_is_noticed_by_its_server(world, served, place, tmp_path, monkeypatch):
    without_witness(monkeypatch)
    here = place("home")
    home = NetworkNode(world, "home", FULL, {}, db=here.open())
    peer = home.peer(served.url)
    home.fill(3)
    home.sync(peer)
    backup = here.backup(tmp_path / "backup.fs")
    home.put("lost", '"1"')
    home.sync(peer)
    assert "lost" in world.contents()

    here.restore(backup)
    restored = NetworkNode(world, "restored", FULL, {}, db=here.open(), provider_id=None)
    assert restored.provider.provider_id == "home"
    restored.put("new", '"2"')
    restored.sync(restored.registry.get("server"))

    assert restored.provider.provider_id != "home"
    found = everybody_agrees(restored, world)
    assert {"lost", "new"} <= found.keys()


def test_a_server_that_was_restored_is_noticed_by_its_client(world, place, tmp_path, monkeypatch, stack):
    without_witness(monkeypatch)
    here = place("city")
    city = World(stack, tmp_path / "keys", name="city", db=here.open())
    server = Served(city.app)
    stack.callback(server.close)
    home = NetworkNode(city, "home", FULL, {})
    peer = home.peer(server.url)
    city.fill(3)
    home.sync(peer)
    backup = here.backup(tmp_path / "backup.fs")
    city.put("lost", '"1"')
    home.sync(peer)

    here.restore(backup)
    restored = _served_again(city, here.open())
    server.app = restored.app
    restored.put("new", '"2"')
    assert restored.provider.provider_id == "city"
    home.sync(peer)

    assert restored.provider.provider_id != "city"
    assert {"lost", "new"} <= everybody_agrees(home, restored).keys()


def losers(*nodes):
    logs = [log for node in nodes for log in node.provider.conflict_logs()]
    return {log.item_change_loser.serialization_result.serialized_item for log in logs}


@pytest.mark.parametrize("edits", [["2"], [str(number) for number in range(2, 16)]], ids=len)
def test_what_a_client_has_told_since_it_was_restored_hides_no_change_of_the_lost_time(
    world, served, place, tmp_path, monkeypatch, edits
):
    """The clock stands still: the edit that was lost and the first one since have the same timestamp."""
    without_witness(monkeypatch)
    here = place("home")
    home = NetworkNode(world, "home", FULL, {}, db=here.open())
    desk = NetworkNode(world, "desk", FULL, {})
    at_desk = desk.peer(served.url)
    home.put("talk", '"0"')
    home.sync(home.peer(served.url))
    desk.sync(at_desk)
    backup = here.backup(tmp_path / "backup.fs")
    home.put("talk", '"1 lost"')
    SyncOrchestrator(SyncLock(), [home.provider, desk.provider], 60).run()

    here.restore(backup)
    restored = NetworkNode(world, "restored", FULL, {}, db=here.open(), provider_id=None)
    for text in edits:
        restored.put("talk", f'"{text}"')
    restored.sync(restored.registry.get("server"))
    assert restored.provider.provider_id == "home"  # it has not noticed
    for _ in range(3):
        desk.sync(at_desk)

    assert everybody_agrees(desk, world) == {"talk": f'"{edits[-1]}"'}
    assert losers(desk, world) == {'"1 lost"'}


def _served_again(world, db):
    """Return the same server, with a database that was opened anew."""
    from livesync.peering.trust import TrustStore
    from livesync.replication import ZODBDataStore, ZODBSyncProvider

    world.db = db
    world.provider = ZODBSyncProvider(None, ZODBDataStore(db), clock=world.clock)
    world.trust = TrustStore(db)
    world.restart()
    return world


def test_a_copy_that_syncs_with_the_same_server_is_noticed(world, served, place, tmp_path, monkeypatch):
    without_witness(monkeypatch)
    here, there = place("home"), place("copy")
    home = NetworkNode(world, "home", FULL, {}, db=here.open())
    home.fill(3)
    home.sync(home.peer(served.url))
    here.backup(there.path)
    copy = NetworkNode(world, "copy", FULL, {}, db=there.open(), provider_id=None)
    assert copy.provider.provider_id == home.provider.provider_id

    home.put("of home", '"1"')
    copy.put("of the copy", '"2"')
    home.sync(home.registry.get("server"))
    copy.sync(copy.registry.get("server"))
    home.sync(home.registry.get("server"))
    copy.sync(copy.registry.get("server"))

    assert copy.provider.provider_id != home.provider.provider_id
    assert {"of home", "of the copy"} <= everybody_agrees(home, copy, world).keys()


def test_a_copy_of_a_file_notices_by_itself_before_it_says_anything(world, served, place, tmp_path):
    here, there = place("home"), place("copy")
    home = NetworkNode(world, "home", FULL, {}, db=here.open())
    home.fill(3)
    home.sync(home.peer(served.url))
    assert here.path.with_name(here.path.name + WITNESS_SUFFIX).exists()
    here.backup(there.path)

    copy = NetworkNode(world, "copy", FULL, {}, db=there.open(), provider_id=None)
    assert copy.provider.provider_id != home.provider.provider_id
    copy.put("of the copy", '"2"')
    copy.sync(copy.registry.get("server"))
    home.sync(home.registry.get("server"))

    assert "of the copy" in everybody_agrees(home, copy, world)
