"""Deletion for good over HTTP: what was said is gone on every node, and nobody brings it back."""

import pytest
import ZODB
from support import school
from support.peer_serving import NetworkNode, Served
from support.peer_world import FULL, World
from ZODB.FileStorage import FileStorage

from livesync import SyncManager
from livesync.database import committed
from livesync.errors import DocumentErased, ItemErased
from livesync.peering.records import StoredSessions
from livesync.peering.scopes import Filter
from livesync.replication import HostExecutor, Operation, TrackReader
from livesync.versions import VersionedCollection

pytestmark = pytest.mark.usefixtures("no_fsync")

#: What no file may hold in the end.
SECRET = "the-diagnosis-of-ada"


@pytest.fixture
def database(tmp_path, stack):
    """Open database files, whose bytes can be looked at."""

    def make(name):
        db = ZODB.DB(FileStorage(str(tmp_path / f"{name}.fs")))
        stack.callback(db.close)
        return db

    return make


@pytest.fixture
def places(tmp_path, stack, database):
    """A cloud that is served, a city and a school that sync with it, each on a file of its own."""
    cloud = World(stack, tmp_path / "keys", name="cloud", db=database("cloud"))
    server = Served(cloud.app)
    stack.callback(server.close)
    city, school = (NetworkNode(cloud, name, FULL, {}, db=database(name)) for name in ("city", "school"))
    peers = {city: city.peer(server.url), school: school.peer(server.url)}

    def sync(node):
        cloud.clock.now += 1
        outcome = node.sync(peers[node])
        cloud.clock.now += 1
        return outcome

    return cloud, city, school, sync


def hold(node):
    return node.provider.data_store.read(lambda: node.provider.data_store.get("ada"))


def is_anywhere(node):
    """Tell whether what was said lies in a node's packed file, or in what it lists."""
    listed = [state.payload for state in node.provider.items()]
    logs = [
        change.serialization_result.serialized_item
        for log in node.provider.conflict_logs()
        for change in (log.item_change_loser, log.item_change_winner)
        if change is not None
    ]
    version = node.provider.get_item_version("ada").current_item_change
    texts = [*listed, *logs, "" if version is None else version.serialization_result.serialized_item]
    return any(SECRET in text for text in texts) or is_in_file(node)


def is_in_file(node):
    node.db.pack()
    with open(node.db.storage.getName(), "rb") as file:
        return SECRET.encode() in file.read()


def test_what_was_deleted_for_good_is_gone_from_every_node_it_had_reached(places):
    cloud, city, school, sync = places
    school.put("ada", f'"{SECRET}"')
    school.put("ben", '"well"')
    sync(school)
    sync(city)
    assert all(map(is_in_file, places[:3]))

    school.provider.erase("ada")
    sync(school)
    sync(city)

    for node in (cloud, city, school):
        assert hold(node).hard, node.name
        assert hold(node).payload == ""
        assert not is_anywhere(node), node.name
        assert node.contents() == {"ben": '"well"'}


@pytest.mark.slow
def test_it_is_gone_from_conflict_logs_on_every_node(places):
    cloud, city, school, sync = places
    school.put("ada", '"first"')
    sync(school)
    sync(city)
    city.put("ada", f'"{SECRET} of the city"')
    cloud.clock.now += 5
    school.put("ada", f'"{SECRET} of the school"')
    sync(school)
    sync(city)
    sync(school)
    assert sum(len(node.provider.conflict_logs()) for node in (cloud, city, school)) >= 1
    assert any(map(is_in_file, places[:3]))

    city.provider.erase("ada")
    sync(city)
    sync(school)

    for node in (cloud, city, school):
        assert hold(node).hard
        assert not is_anywhere(node), node.name


@pytest.mark.slow
def test_it_is_gone_from_buffers_that_waited_to_be_applied(places):
    """A push is cut with the item in a buffer; the item is deleted for good, and the push goes on."""
    cloud, _, school, sync = places
    for number in range(7):
        school.put(f"note {number}", '"1"')
    school.put("ada", f'"{SECRET}"')
    connection = school.connection(f"http://127.0.0.1:{_port(school)}", chunk_size=4)
    client = connection.create_sync_session(school.chain[-1].id, cloud.chain)
    push = client.get_push_client()

    class Enough(Exception):
        pass

    def stop(found):
        if found.buffers == 2:
            raise Enough

    client.signals.transferring.in_progress.connect(stop)
    push.initialize(Filter.of(("",)))
    with pytest.raises(Enough):
        push.run()
    assert is_in_file(school)
    waiting = cloud.provider.data_store.read(lambda: cloud.provider.data_store.get("ada"))
    assert waiting is None  # it lies in a buffer, packed, which waits to be applied

    school.provider.erase("ada")
    sync(school)

    assert hold(cloud).hard
    for node in (cloud, school):
        assert not is_anywhere(node), node.name
    store = cloud.provider.data_store
    assert store.read(lambda: len(StoredSessions.get(store.connection.root()).buffers)) == 0


def _port(node):
    return node.registry.get("server").url.rpartition(":")[2]


@pytest.mark.slow
def test_an_old_update_that_comes_late_does_not_bring_it_back(places):
    cloud, city, school, sync = places
    school.put("ada", '"first"')
    sync(school)
    sync(city)
    # the city is away, and changes what the school deletes for good meanwhile
    city.put("ada", f'"{SECRET}"')
    school.provider.erase("ada")
    sync(school)
    assert hold(cloud).hard

    sync(city)
    sync(school)
    sync(city)

    for node in (cloud, city, school):
        assert hold(node).hard, node.name
        assert not is_anywhere(node), node.name
        assert "ada" not in node.contents()
        with pytest.raises(ItemErased):
            node.put("ada", '"again"')


@pytest.mark.slow
def test_one_that_was_deleted_and_made_anew_elsewhere_stays_deleted_for_good(places):
    cloud, city, school, sync = places
    school.put("ada", '"first"')
    sync(school)
    sync(city)
    city.provider.commit_item_change(Operation.DELETE, "note", "ada", None, "F1")
    city.put("ada", f'"{SECRET} revived"')
    school.provider.erase("ada")
    sync(city)
    sync(school)
    sync(city)

    for node in (cloud, city, school):
        assert hold(node).hard
        assert not is_anywhere(node)


@pytest.mark.slow
def test_it_is_gone_from_the_versions_of_every_node_that_keeps_them(tmp_path, stack, database):
    """School and cloud have an application, and versions of its documents: it leaves those, too."""
    cloud = World(stack, tmp_path / "keys", name="cloud", db=database("cloud"), changes_executor=executor())
    server = Served(cloud.app)
    stack.callback(server.close)
    home = NetworkNode(cloud, "school", FULL, {}, db=database("school"), changes_executor=executor())
    peer = home.peer(server.url)
    for node in (cloud, home):
        node.provider.reader = TrackReader()
        committed(node.db, SyncManager.install)

    def say(text):
        committed(home.db, lambda root: school.change(SyncManager.get(root), root, "ada", "F1", text))

    say(SECRET)
    home.sync(peer)
    for node in (cloud, home):
        committed(node.db, keep_versions)
    say("better")
    home.sync(peer)
    for node in (cloud, home):
        committed(node.db, lambda root: versions(root).register("as it is now"))
        assert committed(node.db, lambda root: versions(root).read("ada", 0)["says"]) == SECRET
        assert is_in_file(node)

    (item,) = home.provider.items()
    home.provider.erase(item.item_id)
    home.sync(peer)

    for node in (cloud, home):
        with pytest.raises(DocumentErased):
            committed(node.db, lambda root: versions(root).read("ada", 0))
        assert committed(node.db, lambda root: dict(root["records"])) == {}
        assert not is_in_file(node), node.name


def executor():
    return HostExecutor(school.host())


def keep_versions(root):
    made = VersionedCollection(root, "records")
    made.documents.update({key: dict(found) for key, found in root["records"].items()})
    made.init("as it was")


def versions(root):
    made = VersionedCollection(root, "records")
    for key, found in root.get("records", {}).items():
        if made.documents.get(key) != dict(found):
            made.documents[key] = dict(found)
    return made
