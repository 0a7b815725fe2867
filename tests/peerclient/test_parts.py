"""What an application has changed is sent in parts, and all of it is there in the end, once."""

import json
from functools import partial

import pytest
import ZODB
from support.faulty_proxy import FaultyProxy
from support.peer_world import FULL
from ZODB.DemoStorage import DemoStorage

from livesync.demo.editor import Editor
from livesync.demo.host import demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.places import Place
from livesync.demo.replay import prepare
from livesync.demo.wiring import recorded
from livesync.errors import HostFailed, SyncError
from livesync.peering import wire
from livesync.peering.http import PeerHTTP
from livesync.peering.retrying import Retries
from livesync.replication import HostExecutor, TrackReader, untaken
from livesync.replication.network import client as client_module
from livesync.replication.network.parts import Parts
from livesync.replication.network.transfers import Transfer

HOST = demo_paths_host()


class Watched(HostExecutor):
    """``before`` is called before each look at an object."""

    before = staticmethod(lambda: None)

    def draft(self, store, object_id):
        self.before()
        return super().draft(store, object_id)


@pytest.fixture(autouse=True)
def parts_of_four(monkeypatch):
    monkeypatch.setattr(client_module, "Parts", partial(Parts, first=4))


@pytest.fixture
def site(node, stack):
    """Make a node with an application of talks."""

    def make(name):
        db = ZODB.DB(DemoStorage())
        stack.callback(db.close)
        prepare(db)
        return node(name, FULL, {}, db=db, changes_executor=Watched(HOST), reader=TrackReader())

    return make


@pytest.fixture
def home(site):
    """A node with an application."""
    return site("home")


@pytest.fixture
def begun(monkeypatch):
    """The transfers that were begun: their directions, and whether they follow another one."""
    found = []
    send = PeerHTTP.send

    def noting(http, request, headers, limit):
        if request.path_url.endswith("/transfersessions"):
            told = json.loads(request.body)
            found.append((told["direction"], "follows" in told))
        return send(http, request, headers, limit)

    monkeypatch.setattr(PeerHTTP, "send", noting)
    return found


@pytest.fixture
def taken(monkeypatch):
    """The items of each buffer that was taken."""
    found = []
    take = Transfer.take

    def noting(transfer, told, *rest, **options):
        found.extend(item.id for item in told.items)
        return take(transfer, told, *rest, **options)

    monkeypatch.setattr(Transfer, "take", noting)
    return found


def write(site, *names, title="a title"):
    with recorded(site.db, HOST), site.db.transaction() as connection:
        editor = Editor(connection.root()[ROOT_KEY], lambda path: f"uid of {path}")
        for name in names:
            editor.write(Place("pycon-2020", name), {"title": title})


def titles(node):
    """Return the titles of talks by name, as the items of a node say."""
    documents = [json.loads(state.payload) for state in node.provider.items()]
    return {
        found["id"].rsplit("/", 1)[1]: found["document"]["title"]
        for found in documents
        if "talk" in found["id"]
    }


def names(count):
    return [f"talk {number}" for number in range(count)]


@pytest.mark.parametrize("chunk_size", [500, 2])
def test_much_is_sent_in_parts_each_item_once_and_all_is_counted(
    chunk_size, world, served, home, begun, taken
):
    write(home, *names(30))

    outcome = home.sync(home.peer(served.url), chunk_size=chunk_size)

    assert titles(world) == dict.fromkeys(names(30), "a title")
    assert outcome.pushed == len(world.contents()) == len(taken) == len(set(taken))
    assert begun[:3] == [("pull", False), ("push", False), ("push", True)]
    assert len(begun) > 4
    assert world.contents() == home.contents()
    assert not home.provider.reader.is_behind(home.provider.node)


def test_changes_of_what_is_known_are_sent_in_parts_each_once(world, served, home, begun, taken):
    write(home, *names(30))
    peer = home.peer(served.url)
    home.sync(peer)
    begun.clear()
    taken.clear()
    write(home, *names(30), title="changed")

    outcome = home.sync(peer)

    assert titles(world) == dict.fromkeys(names(30), "changed")
    assert outcome.pushed == len(taken) == len(set(taken)) == 30
    assert ("push", True) in begun


def test_what_is_left_is_sent_with_what_comes_before_it_where_it_is_little(served, home, begun):
    write(home, *names(3))
    peer = home.peer(served.url)
    home.sync(peer)
    begun.clear()
    write(home, *names(5), title="changed")

    assert home.sync(peer).pushed == 5
    assert begun == [("pull", False), ("push", False)]


def test_the_server_looks_at_its_own_application_once_for_all_parts(world, served, home, begun, monkeypatch):
    looks = []
    look = world.provider.prepare
    monkeypatch.setattr(world.provider, "prepare", lambda: looks.append(len(begun)) or look())
    write(home, *names(30))

    home.sync(home.peer(served.url))

    assert len(begun) > 4
    assert looks == [1, 2]


def test_a_server_that_knows_no_parts_is_sent_all_at_once(world, served, home, begun):
    world.options["capabilities"] = wire.CAPABILITIES - {"parts"}
    world.restart()
    served.app = world.app
    write(home, *names(30))

    home.sync(home.peer(served.url))

    assert begun == [("pull", False), ("push", False)]
    assert world.contents() == home.contents()


def test_what_is_edited_while_a_part_is_on_its_way_comes_too(world, served, home, taken):
    write(home, *names(30))
    edits = iter([("talk 0", "edited"), ("talk 29", "edited")])

    def edit(progress):
        for name, title in edits:
            write(home, name, title=title)

    syncer = home.syncer(connect=lambda signals: signals.transferring.in_progress.connect(edit))
    syncer.run(home.peer(served.url), ["push"])

    assert titles(world)["talk 29"] == "edited"
    assert world.contents() == home.contents()


def test_before_anything_comes_in_all_that_was_changed_here_is_known(world, served, home, site):
    other = site("other")
    write(home, *names(30))
    peer = home.peer(served.url)
    home.sync(peer)
    other_peer = other.peer(served.url, "server-too")
    other.sync(other_peer)
    write(other, "talk 29", title="there")
    other.sync(other_peer)
    write(home, *names(30), title="here")
    behind = []
    take = Transfer.take

    def watched(transfer, *rest, **options):
        if transfer.provider is home.provider:
            behind.append(home.provider.reader.is_behind(home.provider.node))
        return take(transfer, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transfer, "take", watched)
        outcome = home.sync(peer)

    assert behind == [False]
    assert outcome.conflicts == 1
    assert titles(home)["talk 28"] == titles(world)["talk 28"] == "here"
    assert home.contents() == world.contents()


@pytest.mark.parametrize(("requests", "chunk_size"), [(6, 500), (9, 500), (9, 3), (15, 3), (22, 3)])
def test_a_push_that_is_cut_in_any_part_goes_on_and_leaves_nothing_out(
    requests, chunk_size, world, served, home, stack, taken
):
    proxy = FaultyProxy(served.port, 0, share=0)
    stack.callback(proxy.close)
    peer = home.peer(proxy.url)
    write(home, *names(30))
    home.retries = Retries(most=0)
    proxy.lose_after = requests
    with pytest.raises(SyncError):
        home.sync(peer, chunk_size=chunk_size)
    proxy.lose_after = None

    home.sync(peer, chunk_size=chunk_size)

    assert titles(world) == dict.fromkeys(names(30), "a title")
    assert world.contents() == home.contents()
    assert len(taken) <= len(world.contents()) + 16, "no more comes twice than a part"


def test_an_application_that_fails_at_a_later_part_ends_the_sync_which_goes_on(
    world, served, home, monkeypatch
):
    monkeypatch.setattr(untaken, "MOST", 3)
    write(home, *names(30))
    peer = home.peer(served.url)
    left = iter(range(12))

    def stumble():
        if next(left, None) is None:
            raise RuntimeError("a title of lead")

    home.provider.changes_executor.before = stumble
    with pytest.raises(HostFailed, match=r"more than 3 objects .*lead"):
        home.sync(peer)
    assert 0 < len(world.contents()) < len(names(30))
    home.provider.changes_executor.before = Watched.before

    home.sync(peer)

    assert world.contents() == home.contents()
    assert len(titles(world)) == 30
