"""Real edits of a real catalogue, replayed with runs at random times: every destination ends equal to it.

``LIVESYNC_HISTORY`` names a directory with histories (``*.jsonl.gz``), all of which are replayed; without it
the small history that comes with the package is.
"""

import os
import random
import threading
import time
from itertools import islice
from pathlib import Path

import pytest
import transaction
import ZODB
from destinations.conftest import KINDS, Receiver
from ZODB.FileStorage import FileStorage

from livesync.delivery import ledger
from livesync.delivery.record import encode_document
from livesync.demo.history import find_history, read_history
from livesync.demo.host import demo_host
from livesync.demo.replay import prepare, replay
from livesync.demo.wiring import recorded
from livesync.manager import SyncManager
from livesync.upkeep.export import export

KINDS_OF_HISTORY = [kind for kind in KINDS if not kind.startswith(("memory", "webhook-", "http-"))]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def histories():
    named = os.environ.get("LIVESYNC_HISTORY")
    if not named:
        return [find_history("history-small.jsonl.gz", {})]
    return sorted(path for path in Path(named).glob("*.jsonl.gz") if "small" not in path.name)


@pytest.fixture
def catalogue(tmp_path, no_fsync):
    """A database with an empty catalogue whose changes are recorded."""
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    prepare(db)
    with recorded(db, demo_host()):
        yield db
    db.close()


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def looking(db, function):
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    try:
        return function(connection)
    finally:
        manager.abort()
        connection.close()


def expected_of(connection, audience="public"):
    with demo_host().at(connection) as host:
        return {
            host.object_id(obj): encode_document(host.document(obj, audience))
            for obj in host.iter_objects()
            if not host.is_excluded(obj, audience)
        }


def run(db, agent_id):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    stored = SyncManager.get(connection.root())
    if stored.stored(agent_id).state == "new":
        result = export(stored, agent_id, demo_host())
    else:
        result = stored.get_agent(agent_id).run(stored, demo_host())
    manager.abort()
    connection.close()
    return result


def replay_with_runs(db, dice):
    """Replay everything, with runs of each agent now and then and in the end; return how many lines."""
    applied = 0
    for path in histories():
        lines = read_history(path)
        while part := list(islice(lines, dice.randrange(1, 40))):
            applied += replay(db, part).applied
            for kind in KINDS_OF_HISTORY:
                if dice.random() < 0.3:
                    run(db, kind)
    for kind in KINDS_OF_HISTORY:
        run(db, kind)
    return applied


def test_every_destination_ends_equal_to_the_catalogue(tmp_path, catalogue, receiver):
    dice = random.Random("run times")
    destinations = {}
    for kind in KINDS_OF_HISTORY:
        place = tmp_path / kind
        place.mkdir()
        destinations[kind] = KINDS[kind](place, receiver)
        with catalogue.transaction() as connection:
            manager = SyncManager.get(connection.root())
            manager.register_agent(destinations[kind].agent(kind))
            if dice.random() < 0.5:
                manager.activate(kind, from_start=True)

    applied = replay_with_runs(catalogue, dice)

    assert applied >= 90
    expected = looking(catalogue, expected_of)
    assert len(expected) > 100
    for kind, destination in destinations.items():
        found = destination.documents()
        wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
        assert not wrong, f"{kind}: {len(wrong)} differ: {wrong[:5]}"

    def check_ledgers(connection):
        manager = SyncManager.get(connection.root())
        for kind in KINDS_OF_HISTORY:
            lines = ledger.entries(manager.stored(kind))
            assert [line for line in lines if ledger.balance(line) or line["ended"] is None] == [], kind
        assert {agent.lag_actions for agent in manager.status(now=time.time()).agents} == {0}

    looking(catalogue, check_ledgers)
