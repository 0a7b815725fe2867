"""A runner killed at random, again and again, while eight writers go on: nothing is lost, for any service.

How often is set by ``LIVESYNC_TEST_KILLS`` (20); ``bin/test --soak`` sets it to 100.
"""

import json
import os
import random
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import transaction
from destinations.conftest import KINDS, Receiver
from keep_writing import WRITERS
from support.databases import shared_database
from syshost import NodeHost, Store

from livesync.delivery import ledger
from livesync.delivery.record import encode_document
from livesync.manager import SyncManager

KILLS = int(os.environ.get("LIVESYNC_TEST_KILLS", "20"))
HERE = Path(__file__).parent
KILLED = [kind for kind in KINDS if not kind.startswith(("memory", "webhook-", "marcxml"))]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@contextmanager
def prepared(storage, directory):
    """The URI of a shared database, and the database, with a store and a place for each writer."""
    with shared_database(storage, directory) as shared:
        db = shared.open()
        with db.transaction() as connection:
            store = connection.root()["store"] = Store()
            for number in range(WRITERS):
                store.add(None, f"w{number}", "A writer's", announce=False)
            SyncManager.install(connection.root())
        try:
            yield shared.uri, db
        finally:
            db.close()


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def started(script, environment, *args):
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, args)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", (process.communicate(), process.returncode)
    return process


def killed_after(process, seconds):
    """Kill a process after so many seconds; return how it ended where it had by itself."""
    try:
        process.wait(seconds)
        return f"exit code {process.returncode}: {process.communicate()[1]}"
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""


def expected_of(db):
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    with NodeHost().at(connection) as host:
        found = {
            host.object_id(obj): encode_document(host.document(obj))
            for obj in host.iter_objects()
            if not host.is_excluded(obj)
        }
    manager.abort()
    connection.close()
    return found


def was_in_the_middle(db):
    """Tell whether the last line of the ledger has no end: its runner was killed at work."""
    with db.transaction() as connection:
        lines = ledger.entries(SyncManager.get(connection.root()).stored("a"))
        return bool(lines) and lines[0]["ended"] is None


@pytest.mark.parametrize("kind", KILLED)
def test_a_runner_killed_at_random_loses_nothing(kind, tmp_path, receiver, child_environment):
    with prepared("zeo", tmp_path) as (uri, db):
        kill_at_random(kind, tmp_path, receiver, uri, db, child_environment)


@pytest.mark.server
def test_a_runner_killed_at_random_loses_nothing_on_relstorage(tmp_path, receiver, child_environment):
    with prepared("relstorage-free", tmp_path) as (uri, db):
        kill_at_random("sqlite", tmp_path, receiver, uri, db, child_environment)


def kill_at_random(kind, tmp_path, receiver, uri, db, child_environment):
    place = tmp_path / "service"
    place.mkdir()
    destination = KINDS[kind](place, receiver)
    agent = destination.agent("a", batch_size=7)
    with db.transaction() as connection:
        SyncManager.get(connection.root()).register_agent(agent)
    # what the agent names, secrets and functions, must be there for the runner too
    environment = {**child_environment, **{k: v for k, v in os.environ.items() if k.startswith("LIVESYNC_")}}
    environment["PYTHONPATH"] += os.pathsep + str(HERE.parent)
    dice = random.Random(f"kills of {kind}")

    writers = started("keep_writing.py", environment, uri, 1)
    ended, in_the_middle, within_s = [], 0, 0.5
    for _ in range(KILLS):
        runner = started("keep_running.py", environment, uri, "a")
        ended.append(killed_after(runner, dice.random() * within_s))
        if was_in_the_middle(db):
            in_the_middle += 1
        else:
            within_s = min(within_s * 1.5, 10)  # a machine that is busy takes longer to get anywhere
    told = json.loads(writers.communicate("")[0])
    last = started("keep_running.py", environment, uri, "a", "once")
    _, said = last.communicate(timeout=120 + 6 * KILLS)

    assert [text for text in ended if text] == []
    assert last.returncode == 0, said
    assert (told["errors"], told["conflicts"]) == ([], 0)
    assert told["commits"] > KILLS
    assert destination.documents() == expected_of(db)
    with db.transaction() as connection:
        stored = SyncManager.get(connection.root()).stored("a")
        lines = ledger.entries(stored)
        assert [entry for entry in lines if ledger.balance(entry)] == []
        assert in_the_middle
        assert stored.lease.holder is None
        assert dict(stored.dead) == {}
