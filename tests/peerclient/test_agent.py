"""The peer agent: syncs whenever it is run, on a schedule as any agent."""

import time

import pytest
from support import peer_world
from support.peer_serving import NetworkNode
from support.peer_world import PART

from livesync import SyncManager
from livesync.agent import load_agent_type
from livesync.database import committed, connected
from livesync.demo.host import demo_paths_host
from livesync.demo.replay import prepare
from livesync.errors import PeerUnreachable, StateForbids, UnknownPeer
from livesync.peering.peers import PeerRegistry
from livesync.tasks import LiveSyncUpdateTask


@pytest.fixture
def world(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(peer_world, "NOW", time.time())
    return peer_world.World(stack, tmp_path)


@pytest.fixture
def home(world, monkeypatch, tmp_path):
    """A node with the demo's catalogue, and an agent that syncs with ``school``."""
    made = NetworkNode(world, "home", PART, {"part": "F1"})
    monkeypatch.setenv("LIVESYNC_PEER_KEYS", str(made.keys.directory))
    monkeypatch.setattr("livesync.peering.retrying.Retries.wait", lambda self, tries, after_s=None: None)
    prepare(made.db)
    agent = load_agent_type("peer")("school", peer="school", timeout_s="5")
    committed(made.db, lambda root: SyncManager.get(root).register_agent(agent))
    return made


def run(home, now=None, **options):
    task = LiveSyncUpdateTask(home.db, demo_paths_host(), agents=["school"], only_due=False, **options)
    (outcome,) = task.run(time.time() if now is None else now)
    return outcome


def activate(home):
    committed(home.db, lambda root: SyncManager.get(root).activate("school", from_now=True))


def test_a_run_syncs_both_ways_and_is_noted(home, world, served):
    home.peer(served.url, "school")
    activate(home)
    home.fill(4)
    world.fill(3)

    outcome = run(home)

    assert outcome.error is None
    assert (outcome.result.read, outcome.result.accepted) == (7, 7)
    assert outcome.result.balance() == 0
    assert home.contents() == world.contents()
    with connected(home.db) as root:
        (line,) = [entry.entry for entry in SyncManager.get(root).stored("school").runs.values()]
    assert (line["kind"], line["accepted"], line["error"]) == ("run", 7, "")


def test_an_active_agent_runs_when_it_is_due(home, world, served):
    home.peer(served.url, "school")
    activate(home)
    committed(home.db, lambda root: SyncManager.get(root).set_interval("school", 60))
    world.fill(2)

    due = LiveSyncUpdateTask(home.db, demo_paths_host()).run(time.time())

    assert [outcome.agent_id for outcome in due] == ["school"]
    assert home.contents() == world.contents()


def test_one_that_is_not_active_does_not_run(home, served):
    home.peer(served.url, "school")

    assert isinstance(run(home).error, StateForbids)


def test_a_peer_that_is_away_fails_the_run_and_the_next_one_goes_on(home, world, served):
    home.peer("http://127.0.0.1:9", "school")
    activate(home)
    failed = run(home)
    home.registry.remove("school")
    home.peer(served.url, "school")
    world.fill(2)

    again = run(home)

    assert isinstance(failed.error, PeerUnreachable)
    assert again.error is None
    assert home.contents() == world.contents()


def test_without_its_peer_it_says_so(home):
    activate(home)

    outcome = run(home)

    assert isinstance(outcome.error, UnknownPeer)
    assert PeerRegistry(home.db).all() == []


def test_its_pointer_follows_what_was_taken_so_it_holds_nothing_back(home, world, served):
    home.peer(served.url, "school")
    activate(home)
    run(home)
    with connected(home.db) as root:
        before = SyncManager.get(root).track.get_pointer_timestamp("school")
    committed(
        home.db,
        lambda root: SyncManager.get(root).record_changes([("talk", frozenset({"created"}))], "", ""),
    )

    result = run(home).result

    with connected(home.db) as root:
        track = SyncManager.get(root).track
        assert track.get_pointer_timestamp("school") == track.get_pointer_timestamp("livesync.replication")
    assert result.till is not None
    assert before is None or result.till >= before
