"""Runners in several processes at one database: agents are shared by leases, whoever dies is replaced."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.databases import EACH, shared_database
from support.runners import Place
from support.waiting import LONG_S, eventually

from livesync.delivery import ledger
from livesync.destinations.sqlite import SQLiteAgent

HERE = Path(__file__).parent
HOST = "support.runners:things_host"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def shared(request, tmp_path):
    """A database that several processes open, and in it two agents that are woken by what changes."""
    with shared_database(getattr(request, "param", "zeo"), tmp_path) as database:
        db = database.open()
        yield _prepared(db, database.uri, tmp_path)
        db.close()


def _prepared(db, uri, tmp_path):
    place = Place(db)
    place.uri = uri

    def add(manager):
        for agent_id in ("a", "b"):
            manager.register_agent(SQLiteAgent(agent_id, path=str(tmp_path / f"{agent_id}.db")))
            manager.activate(agent_id, from_start=True)
            manager.set_interval(agent_id, 3600.0)

    place.change(add)
    return place


@pytest.fixture
def start(shared, child_environment):
    """Start a process of this environment; gives it once it has said its first line."""
    started = []
    paths = [child_environment["PYTHONPATH"], str(HERE.parent)]
    environment = {**child_environment, "PYTHONPATH": os.pathsep.join(paths)}

    def run(*args):
        process = subprocess.Popen(
            [sys.executable, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        process.first = process.stdout.readline()
        assert process.first, process.stderr.read()
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LONG_S)


@pytest.fixture
def serve(shared, start):
    return lambda: start("-m", "livesync", "--db", shared.uri, "--host", HOST, "serve", "--no-web")


def delivered(place, count):
    """Tell whether both agents have read so many actions, each of them once."""
    return all(totals(place, agent_id).get("read") == count for agent_id in ("a", "b"))


def totals(place, agent_id):
    return place.change(lambda manager: dict(manager.stored(agent_id).totals or {}))


@pytest.mark.parametrize("shared", EACH, indirect=True)
def test_two_processes_that_serve_share_the_agents_and_take_every_change_once(shared, serve):
    first, second = serve(), serve()

    for number in range(30):
        shared.put(f"thing-{number:02}")
    eventually(lambda: delivered(shared, 30))
    for process in (first, second):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(LONG_S) for process in (first, second)] == [0, 0]

    for agent_id in ("a", "b"):
        assert totals(shared, agent_id)["accepted"] == 30
        runs = shared.change(lambda manager, agent_id=agent_id: ledger.entries(manager.stored(agent_id)))
        assert {ledger.balance(run) for run in runs} == {0}
        assert shared.agent(agent_id)["holder"] is None
        assert shared.agent(agent_id)["failures"] == 0


@pytest.mark.parametrize("shared", EACH, indirect=True)
def test_when_one_is_killed_the_other_goes_on(shared, serve):
    first, _second = serve(), serve()
    shared.put("before")
    eventually(lambda: delivered(shared, 1))

    first.kill()
    first.wait(LONG_S)
    shared.put("after")

    eventually(lambda: delivered(shared, 2))


def test_positions_do_not_run_ahead_of_the_time_with_several_runners(shared, serve):
    serve(), serve()

    for number in range(60):
        shared.put(f"thing-{number:02}")
    eventually(lambda: delivered(shared, 60))

    def ahead(manager):
        newest = manager.track.most_recent_ts()
        return newest - manager.track[newest][-1].timestamp // manager.granularity

    assert shared.change(ahead) <= 2


PREFORK = """
import os, signal, sys
import ZEO
from livesync.cli.hosting import HostRunner
from support.runners import ThingsHost
from support.waiting import LONG_S

# each worker opens the database after the fork, as it has to with ZEO
children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        db = ZEO.DB({address!r}, wait_timeout=LONG_S)
        runner = HostRunner(db, ThingsHost())
        runner.start()
        runner.start()
        assert runner.is_alive()
        os.write(1, b"ready\\n")  # in one piece: print() writes two where Python does not buffer
        while True:
            signal.pause()
    children.append(pid)
signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in children] and None)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
sys.exit(max(codes))
"""


def test_in_a_server_that_forks_its_workers_each_change_is_taken_once(shared, start):
    host, _, port = shared.uri.removeprefix("zeo://").partition("?")[0].rpartition(":")
    server = start("-c", PREFORK.format(address=(host, int(port))))
    for _ in range(2):
        assert server.stdout.readline() == "ready\n"

    for number in range(20):
        shared.put(f"thing-{number:02}")
    eventually(lambda: delivered(shared, 20))
    server.terminate()

    assert server.wait(LONG_S) == 0, server.stderr.read()
    assert [totals(shared, agent_id)["accepted"] for agent_id in ("a", "b")] == [20, 20]
    assert [shared.agent(agent_id)["holder"] for agent_id in ("a", "b")] == [None, None]


def test_a_run_by_cron_beside_a_runner_does_no_harm(shared, serve, start):
    serve()
    for number in range(5):
        shared.put(f"thing-{number:02}")
        done = start("-m", "livesync", "--db", shared.uri, "--host", HOST, "run", "--due")
        assert done.wait(LONG_S) == 0

    eventually(lambda: delivered(shared, 5))
