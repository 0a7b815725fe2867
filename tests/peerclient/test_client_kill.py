"""Kill -9 of a real client at one commit after the other, and a disk that is full: the sync goes on."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import ZODB
from support import peer_world
from support.peer_serving import NetworkNode
from support.peer_world import PART, World
from support.small_disk import run_on_small_disk
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.replication import ZODBDataStore, ZODBSyncProvider

TESTS = Path(__file__).parents[1]

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def world(stack, tmp_path, monkeypatch):
    """One whose clock is that of the wall, as the client's is."""
    monkeypatch.setattr(peer_world, "NOW", time.time())
    return World(stack, tmp_path, clock=time.time)


def run_client(path, keys, url, commits):
    """Sync once in a process of its own; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "peerclient.sync_peer", str(path), str(keys), url, str(commits)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )
    assert done.returncode in (0, -9), done.stdout + done.stderr
    return done.returncode, done.stdout


def test_a_client_that_is_killed_at_one_commit_after_the_other_goes_on(world, served, tmp_path):
    path = tmp_path / "home.fs"
    db = ZODB.DB(FileStorage(str(path)))
    home = NetworkNode(world, "home", PART, {"part": "F1"}, db=db, directory=tmp_path / "rings")
    home.fill(30)
    world.fill(30)
    keys = home.keys.directory
    expected = home.contents() | world.contents()
    db.close()

    kills, held = 0, []
    for commits in (1, 2, 3, 4, 5, 7, 8, 11, 14, 0):
        code, said = run_client(path, keys, served.url, commits)
        kills += code == -9
        held.append(len(world.contents()))
        if code == 0:
            break
    assert kills >= 5
    # nothing that had come is ever lost
    assert held == sorted(held)
    code, said = run_client(path, keys, served.url, 0)
    assert (code, said.split()) == (0, ["0", "0"])

    db = ZODB.DB(FileStorage(str(path)))
    provider = ZODBSyncProvider(None, ZODBDataStore(db))
    contents = {state.item_id: state.payload for state in provider.items()}
    claims, unfinished = provider.get_claims(["F1"]), provider.unfinished()
    db.close()
    assert contents == world.contents() == expected
    assert claims == world.provider.get_claims(["F1"])
    assert unfinished == world.provider.unfinished() == []


FULL_CLIENT = """
import time
from contextlib import ExitStack
from pathlib import Path

import ZODB
from ZODB.FileStorage import FileStorage

sys.path[:0] = [{tests!r}, {root!r}]
from support.peer_serving import NetworkNode, Served
from support.peer_world import FULL, World
from livesync.errors import LiveSyncError

with ExitStack() as stack:
    elsewhere = Path({elsewhere!r})
    world = World(stack, elsewhere, clock=time.time)
    server = Served(world.app)
    stack.callback(server.close)
    db = ZODB.DB(FileStorage(os.path.join(disk, "home.fs")))
    stack.callback(db.close)
    home = NetworkNode(world, "home", FULL, {{}}, db=db, directory=elsewhere)
    home.put("mine", '"1"')
    peer = home.peer(server.url)
    home.sync(peer)
    text = '"' + os.urandom(150).hex() + '"'
    for number in range(1_500):
        world.put(f"item {{number}}", text)

    fill(220)
    failed = ""
    try:
        home.sync(peer)
    except LiveSyncError as exc:
        failed = str(exc)
    except OSError as exc:
        failed = f"{{type(exc).__name__}}: {{exc}}"
    assert "No space left on device" in failed, failed
    assert len(home.contents()) < 1_501
    assert home.contents()["mine"] == '"1"'
    held = len(home.contents())

    empty()
    outcome = home.sync(peer)
    assert outcome.error == ""
    assert home.contents() == world.contents(), (held, len(home.contents()))
    assert home.provider.get_claims(("",)) == world.provider.get_claims(("",))
"""


def test_a_client_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = FULL_CLIENT.format(tests=str(TESTS), root=str(TESTS.parent), elsewhere=str(elsewhere))

    run_on_small_disk(disk, 6_000, script)
