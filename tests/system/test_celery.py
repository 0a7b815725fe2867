"""Celery for real: a broker, workers and beat in processes of their own, on a database they share."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from itertools import pairwise

import psutil
import pytest
from support.databases import shared_database
from support.redis_service import redis_server
from support.waiting import LONG_S
from syshost import Site
from test_leases import Keeper, edit, fill, serving

from livesync.delivery import ledger
from livesync.destinations.http import HTTPAgent
from livesync.periodic.running import add_task

Celery = pytest.importorskip("celery").Celery

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

_RECEIVED = re.compile(r"Task livesync\.run\[([0-9a-f-]+)\] received")


@pytest.fixture
def keeper():
    with serving(Keeper()) as server:
        yield server


class Place:
    """A site behind ZEO, a broker, and the processes of Celery."""

    def __init__(self, site, uri, broker, directory, environment):
        self.site = site
        self.directory = directory
        self.environment = {
            **environment,
            "LIVESYNC_DB": uri,
            "LIVESYNC_HOST": "syshost:NodeHost",
            "LIVESYNC_TICK_S": "0.2",
            "CELERY_BROKER_URL": broker,
        }
        self.processes = []

    def start(self, *args):
        """Start the command celery; what it says goes to a file."""
        number = len(self.processes)
        path = self.directory / f"celery-{number}.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "livesync.schedule.celery", *args],
                env=self.environment,
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.said = path.read_text
        self.processes.append(process)
        return process

    def worker(self, name):
        return self.start("worker", "-c", "2", "-n", f"{name}@%h", "-l", "INFO")

    def beat(self):
        return self.start("beat", "-s", str(self.directory / "beat"), "-l", "INFO")

    def send(self, message_id, *args):
        """Send a message with work for the agent, as a look does; one that was sent already comes again."""
        with Celery(broker=self.environment["CELERY_BROKER_URL"]) as app:
            app.send_task("livesync.run", args, task_id=message_id)

    def said(self):
        return "".join(path.read_text() for path in sorted(self.directory.glob("celery-*.log")))

    def eventually(self, condition):
        give_up = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < give_up, self.said()[-4000:]
            ended = [process for process in self.processes if process.poll() not in (None, -9)]
            assert not ended, self.said()[-4000:]
            time.sleep(0.02)

    def is_right(self, keeper):
        return keeper.documents == self.site.expected()

    def has_read_each_action_once(self):
        """Tell whether the runs that were noted have read all there is; none may be read twice."""
        with self.site.looking():
            actions = sum(1 for _ in self.site.manager.track)
            read = (self.site.manager.stored("a").totals or {}).get("read", 0)
        assert read <= actions
        return read == actions

    def lines(self):
        """The ledger's lines of what has ended or is at work, the oldest first."""
        with self.site.looking():
            return ledger.entries(self.site.manager.stored("a"))[::-1]

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(LONG_S)


@pytest.fixture
def place(tmp_path, child_environment):
    with shared_database("zeo", tmp_path) as database, redis_server() as broker:
        site = Site(tmp_path, open_with=database.open_storage)
        made = Place(site, database.uri, broker, tmp_path, child_environment)
        yield made
        made.close()
        site.close()


def add_agent(place, keeper):
    place.site.add_agent(HTTPAgent("a", url=keeper.url, batch_size=5, in_flight=1, max_attempts=1))
    with place.site.change():
        place.site.manager.set_interval("a", 3600.0)


def check_end_of_beat(beat):
    """Check that beat ended as it was asked to.

    Celery's beat closes its schedule and its connection in the handler of the signal, and raises SystemExit
    there. Where that falls into the sending of a message, Kombu stumbles over the connection as it cleans up;
    beat takes what that raises for a message that could not be sent, goes on, finds its schedule closed, and
    ends with exit code 1. A schedule of livesync's loses nothing by it: it says when to look, and no more.
    """
    code, said = beat.wait(LONG_S), beat.said()
    if code == 1:
        assert "Message Error" in said
        assert said.rstrip().endswith("ValueError: invalid operation on closed shelf")
    else:
        assert (code, "Traceback" in said) == (0, False)


def test_an_edit_arrives_by_worker_and_beat_and_tasks_run_as_well(place, keeper):
    add_agent(place, keeper)
    with place.site.change():
        add_task(place.site.manager, "tidy", "cleanup", {}, interval_s=3600)
    fill(place)
    worker = place.worker("one")
    beat = place.beat()

    place.eventually(lambda: place.is_right(keeper))
    edit(place, 1)
    place.eventually(lambda: place.is_right(keeper))

    def has_tidied():
        with place.site.looking():
            return bool(place.site.manager.task("tidy").last_run)

    place.eventually(has_tidied)
    worker.send_signal(signal.SIGTERM)
    beat.send_signal(signal.SIGTERM)
    assert worker.wait(LONG_S) == 0
    check_end_of_beat(beat)
    lines = place.lines()
    assert len(lines) >= 2
    assert all(ledger.balance(line) == 0 and line["ended"] for line in lines)
    assert "Traceback" not in worker.said()


def test_a_worker_killed_in_the_middle_of_a_run_is_replaced_by_another(place, keeper):
    add_agent(place, keeper)
    fill(place)
    keeper.go_on.clear()
    killed = place.worker("killed")
    place.beat()
    place.eventually(keeper.arrived.is_set)

    place.worker("other")
    holder = place.lines()[0]
    os.killpg(killed.pid, signal.SIGKILL)  # the worker and its pool, at once
    killed.wait(LONG_S)
    keeper.go_on.set()
    place.eventually(lambda: place.is_right(keeper))

    lines = place.lines()
    assert lines[0]["began"] == holder["began"]
    assert lines[0]["ended"] is None  # nothing of it was noted but that it began
    assert len(lines) >= 2
    place.eventually(place.has_read_each_action_once)


def test_one_process_of_a_pool_that_is_killed_is_replaced_too(place, keeper):
    add_agent(place, keeper)
    fill(place)
    keeper.go_on.clear()
    place.worker("one")
    place.beat()
    place.eventually(keeper.arrived.is_set)
    with place.site.looking():
        pid = place.site.manager.stored("a").lease.holder[1]

    psutil.Process(pid).kill()
    keeper.go_on.set()
    place.eventually(lambda: place.is_right(keeper))

    assert place.lines()[0]["ended"] is None


def test_a_message_that_comes_to_two_workers_at_once_runs_an_agent_once(place, keeper):
    add_agent(place, keeper)
    fill(place)
    keeper.go_on.clear()
    for name in "one", "two":
        place.worker(name)
    message_id = str(uuid.uuid4())
    place.send(message_id, "agent", "a")
    place.eventually(keeper.arrived.is_set)
    for _ in range(3):  # a broker whose patience is over gives it to whoever is free
        place.send(message_id, "agent", "a")
    place.eventually(lambda: Counter(_RECEIVED.findall(place.said()))[message_id] == 4)
    place.eventually(lambda: place.said().count("nothing to do, or a runner is at it") == 3)
    assert keeper.at_once == 1
    keeper.go_on.set()
    place.eventually(lambda: place.is_right(keeper))
    place.beat()
    edit(place, 1)
    place.eventually(lambda: place.is_right(keeper))

    lines = place.lines()
    assert keeper.most_at_once == 1
    for earlier, later in pairwise(lines):
        assert earlier["ended"] <= later["began"]
    place.eventually(place.has_read_each_action_once)
