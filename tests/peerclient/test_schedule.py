"""What sessions over HTTP leave to be done: the periodic task does it, as the command does."""

import time

import pytest
from support import school
from support.faulty_proxy import FaultyProxy
from support.peer_serving import NetworkNode, Served
from support.peer_world import World

from livesync import SyncManager
from livesync.database import committed, connected
from livesync.errors import LiveSyncError
from livesync.peering.records import StoredSessions
from livesync.periodic.running import DueTasks, add_task

HOUR_S = 3600.0


class Earlier:
    """The wall's clock, some time ago; it can be set right."""

    def __init__(self, hours):
        self.behind_s = hours * HOUR_S

    def __call__(self):
        return time.time() - self.behind_s


def going_on(node):
    """Return how many transfers and sessions go on, and how many buffers wait."""
    with connected(node.db) as root:
        stored = StoredSessions.get(root)
        return len(stored.transfers_going_on()), len(stored.sessions_going_on()), len(stored.buffers)


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "left"), [(1, (1, 1, 2)), (7, (0, 0, 0))], ids=["an hour", "seven hours"])
def test_a_cut_session_is_ended_by_the_schedule_once_nobody_goes_on_with_it(stack, tmp_path, hours, left):
    clock = Earlier(hours)
    world = World(stack, tmp_path, clock=clock)
    server = Served(world.app)
    stack.callback(server.close)
    home = NetworkNode(world, "home")
    committed(home.db, SyncManager.install)
    for number in range(1_200):
        world.put(f"note {number}", '"1"')
    proxy = FaultyProxy(server.port, 1, share=0)
    stack.callback(proxy.close)
    proxy.lose_after = 5
    peer = home.peer(proxy.url)
    with pytest.raises(LiveSyncError):
        home.sync(peer)
    assert going_on(home) == (1, 1, 2)
    committed(home.db, lambda root: add_task(SyncManager.get(root), "two-way", "two-way", interval_s=60.0))

    (ran,) = DueTasks(home.db, school.host()).run(time.time())

    assert not ran.error
    assert ran.summary["transfers"] == ran.summary["sessions"] == 1 - left[0]
    assert going_on(home) == left
    # and either way, the next sync brings everything
    proxy.lose_after, clock.behind_s = None, 0.0
    outcome = home.sync(peer)
    assert outcome.resumed == (hours == 1)
    assert outcome.pulled == 1_200
    assert home.contents() == world.contents()
