"""A database with everything that the page Peers can show: all of it came by real sessions."""

from __future__ import annotations

import time

import pytest
from support.faulty_proxy import FaultyProxy
from support.peer_serving import NetworkNode, Served
from support.peer_world import World

from livesync.errors import LiveSyncError
from livesync.replication import HostExecutor, Operation


def sync_with_everybody(db, host, directory, stack):
    """Sync a database with a school, with one that is away, and with one that breaks off; serve a tablet.

    There are a conflict that was settled, one that could not be applied, a session that failed, one that was
    cut in the middle, and one that is served and goes on.

    Args:
        db: Of an application that knows no notes.
        host: The application.
        directory: For keys.
        stack: Closes what is open.

    Returns:
        A function that lets the tablet send so many buffers more.
    """
    school = World(stack, directory / "school", clock=time.time)
    server = Served(school.app)
    site = NetworkNode(school, "catalogue", directory=directory, db=db)
    _sync_well(site, school, site.peer(server.url, "school"))
    for peer in (
        site.peer("http://127.0.0.1:9", "away", pull=("F1:U1",), push=()),
        _cut(site, school, server, stack),
    ):
        with pytest.raises(LiveSyncError):
            site.sync(peer)
    send = _serve_a_tablet(stack, directory, db)
    _meet_what_is_not_known(school, host, site, server)
    server.close()
    return send


def _sync_well(site, school, peer):
    for number in range(1_204):
        school.put(f"lesson {number}", '"what there is to learn"', "F1:lessons")
    school.put("both", '"of the school"')
    site.put("both", '"of the catalogue"')
    site.fill(87)
    site.sync(peer)


def _cut(site, school, server, stack):
    """Return a peer with whom the next session breaks off."""
    for number in range(1_700):
        school.put(f"answer {number}", '"done"', "F1:answers")
    proxy = FaultyProxy(int(server.port), 1, share=0)
    stack.callback(proxy.close)
    proxy.lose_after = 5
    return site.peer(proxy.url, "tablet")


def _meet_what_is_not_known(school, host, site, server):
    """Receive an item of a model that the application does not have."""
    school.provider.commit_item_change(Operation.INSERT, "exercise", "x-7", '"one"', "F1:exercises")
    site.provider.node.executor = site.provider.changes_executor = HostExecutor(host)
    peer = site.peer(server.url, "exercises", pull=("F1:exercises",), push=())
    site.sync(peer, "pull")


def _serve_a_tablet(stack, directory, db):
    """Let somebody who is still at it send to this database; return what lets them send more."""
    here = World(stack, directory / "here", name="catalogue", clock=time.time, db=db)
    tablet = here.node("tablet of ada")
    tablet.fill(1_700)
    caller = here.session(tablet)
    transfer_id = tablet.begin_push(caller)
    tablet.send(caller, transfer_id, most=2)
    return lambda buffers: tablet.send(caller, transfer_id, most=buffers)
