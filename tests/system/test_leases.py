"""One runner at a time, over several processes: they race, one is frozen, one is asked to end."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
import ZODB
from support.databases import EACH, shared_database
from support.waiting import LONG_S
from syshost import Site, rows_of_sqlite
from ZODB.FileStorage import FileStorage

from livesync.delivery import ledger
from livesync.destinations.http import HTTPAgent
from livesync.destinations.sqlite import SQLiteAgent

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


class _Keeper(BaseHTTPRequestHandler):
    """Keeps what is posted by the rule of positions; waits before it answers where it is told to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with server.lock:
            server.posts += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            for line in body.splitlines():
                record = json.loads(line)
                if record["position"] >= server.rows.get(record["id"], (-1, None))[0]:
                    server.rows[record["id"]] = (record["position"], record.get("document"))
        server.arrived.set()
        assert server.go_on.wait(LONG_S)
        with server.lock:
            server.at_once -= 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Keeper(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Keeper)
        self.rows = {}
        self.posts = self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.arrived = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"

    @property
    def documents(self):
        return {key: document for key, (_, document) in self.rows.items() if document is not None}


@contextmanager
def serving(server):
    """Let a server of this module serve for the time of a ``with`` block."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def keeper():
    with serving(Keeper()) as server:
        yield server


class Place:
    """A site in a shared database, its runners in processes of their own, and where its pointer has stood."""

    def __init__(self, database, directory, environment):
        self.database = database
        self._directory = directory
        self._environment = environment
        self.site = Site(directory, open_with=database.open_storage)
        self.processes = []

    def start(self, *args):
        """Start a runner; see ``lease_runner.py``."""
        return self._started(str(HERE / "lease_runner.py"), self.database.uri, *map(str, args))

    def start_command(self, *args):
        """Start the command line."""
        return self._started("-m", "livesync", "--db", self.database.uri, "--host", "syshost:NodeHost", *args)

    def _started(self, *args):
        process = subprocess.Popen(
            [sys.executable, *args],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            for stream in process.stdin, process.stdout, process.stderr:
                stream.close()
            process.wait(LONG_S)
        self.processes = []
        self.site.close()

    def pointers(self):
        """Every place where the agent's pointer ever stood, in order; the site is closed for it."""
        self.close()
        with closing(self._storage()) as storage:
            tids = [record.tid for record in storage.iterator()]
        found = []
        # a few at a time: on RelStorage, each view of the past has a session of its own
        for begin in range(0, len(tids), 20):
            with closing(ZODB.DB(self._storage())) as db:
                for tid in tids[begin : begin + 20]:
                    connection = db.open(at=tid)
                    manager = connection.root().get("livesync")
                    if manager is not None and manager.track.has_pointer("a"):
                        found.append(manager.track.get_pointer_timestamp("a"))
                    connection.close()
        return [-1 if position is None else position for position in found]

    def _storage(self):
        if self.database.kind == "zeo":
            return FileStorage(str(self._directory / "Data.fs"), read_only=True)
        return self.database.open_storage()


@pytest.fixture(params=EACH)
def place(request, tmp_path, child_environment):
    with shared_database(request.param, tmp_path) as database:
        made = Place(database, tmp_path, child_environment)
        yield made
        if made.site.db is not None:
            made.close()


def told(process):
    """Wait for the end of a runner and return what it came to."""
    out, err = process.communicate("", LONG_S)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def wait_for_line(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line {beginning!r}: {process.stderr.read()}")


def fill(place, count=24):
    with place.site.change() as store:
        for number in range(count):
            store.add(None, f"n{number:02}", f"Number {number}")


def edit(place, turn):
    """Change, remove and add something of what there is."""
    with place.site.change() as store:
        names = sorted(store.top.children)
        store.edit(store.top.children[names[turn % len(names)]], f"Edited in turn {turn}")
        store.remove(store.top.children[names[-1]])
        store.add(None, f"added-{turn}", "Added")
    with place.site.change() as store:
        child = store.add(None, f"gone-{turn}", "Comes and goes")
    with place.site.change() as store:
        store.remove(store.top.children[child.__name__])


def agent_of(kind, tmp_path, keeper):
    if kind == "http":
        return HTTPAgent("a", url=keeper.url, batch_size=5, max_attempts=1)
    return SQLiteAgent("a", path=str(tmp_path / "index.sqlite"), batch_size=5, max_attempts=1)


def documents_of(agent, keeper):
    if isinstance(agent, HTTPAgent):
        return keeper.documents
    return {key: document for key, (_, document) in rows_of_sqlite(agent.values["path"]).items()}


def pointer_at(agent):
    """The pointer that an SQLite destination keeps."""
    with closing(sqlite3.connect(agent.values["path"])) as connection:
        return connection.execute("SELECT position FROM pointers").fetchone()[0]


@pytest.mark.parametrize("kind", ["sqlite", "http"])
def test_two_runners_that_race_for_an_agent_take_every_change_once(place, tmp_path, keeper, kind):
    agent = place.site.add_agent(agent_of(kind, tmp_path, keeper))
    fill(place)
    races = 25 if place.database.kind == "zeo" else 8  # of whose every transaction is looked at in the end
    racing = [place.start("race", races) for _ in range(2)]
    turn = 0
    while any(process.poll() is None for process in racing):
        edit(place, turn)
        turn += 1

    both = [told(process) for process in racing]
    last = place.site.run("a")
    with place.site.looking():
        stored = place.site.manager.stored("a")
        lines, totals, token = ledger.entries(stored), stored.totals, stored.lease.token
        actions = sum(1 for _ in place.site.manager.track)
    expected = place.site.expected()

    assert [came["error"] for came in both] == ["", ""]
    assert all(came["runs"] + came["leased"] + came["not now"] == races for came in both)
    # each action was taken once: what all runs have read is what there is
    assert sum(came["read"] for came in both) + last.read == totals["read"] == actions
    assert documents_of(agent, keeper) == expected
    # one began only when the other had ended
    assert token >= len(lines) >= 2
    for later, earlier in pairwise(lines):
        assert ledger.balance(later) == 0
        assert earlier["ended"] <= later["began"]
    pointers = place.pointers()
    assert pointers == sorted(pointers)


@pytest.mark.parametrize(("kind", "batch"), [("sqlite", 1), ("http", 1), ("http", 3)])
def test_a_runner_that_was_frozen_is_overtaken_and_does_no_harm_when_it_wakes_up(
    place, tmp_path, keeper, kind, batch
):
    agent = place.site.add_agent(agent_of(kind, tmp_path, keeper))
    fill(place)
    frozen = place.start("freeze", batch)
    wait_for_line(frozen, "sending")
    frozen.send_signal(signal.SIGSTOP)
    frozen.stdin.write("\n")
    frozen.stdin.flush()
    with place.site.looking():
        until = place.site.manager.stored("a").lease.until

    edit(place, 1)
    edit(place, 2)
    overtaking = told(place.start("take"))
    edit(place, 3)
    again = told(place.start("take"))
    before = documents_of(agent, keeper) == place.site.expected()
    frozen.send_signal(signal.SIGCONT)
    woken = told(frozen)
    found, expected = documents_of(agent, keeper), place.site.expected()
    last = place.site.run("a")
    with place.site.looking():
        lines = ledger.entries(place.site.manager.stored("a"))
        pointer = place.site.manager.track.get_pointer_timestamp("a")

    assert woken["error"] == "LeaseLost"
    assert lines[-2]["began"] >= until  # not before the lease had run out
    assert (overtaking["runs"], again["runs"]) >= (1, 1)
    assert before
    assert found == expected
    assert last.read == 0
    assert documents_of(agent, keeper) == expected
    if kind == "sqlite":
        assert pointer_at(agent) == pointer
    # of the one that was frozen nothing is noted but that it began
    assert (lines[-1]["ended"], "read" in lines[-1]) == (None, False)
    assert all(ledger.balance(line) == 0 and line["ended"] for line in lines[:-1])
    pointers = place.pointers()
    assert pointers == sorted(pointers)


def test_one_that_was_frozen_with_the_destination_in_its_hands_lets_go_of_it(place, tmp_path, keeper):
    """It holds the write lock of the file: nobody gets past it, and what it began must not be kept."""
    agent = place.site.add_agent(agent_of("sqlite", tmp_path, keeper))
    fill(place)
    frozen = place.start("freeze", 2)
    wait_for_line(frozen, "sending")
    frozen.send_signal(signal.SIGSTOP)
    frozen.stdin.write("\n")
    frozen.stdin.flush()

    edit(place, 1)
    overtaking = place.start("take")
    wait_for_line(overtaking, "not now")
    frozen.send_signal(signal.SIGCONT)
    woken, came = told(frozen), told(overtaking)
    with place.site.looking():
        pointer = place.site.manager.track.get_pointer_timestamp("a")
        totals = place.site.manager.stored("a").totals
        actions = sum(1 for _ in place.site.manager.track)

    assert woken["error"] == "LeaseLost"
    assert came["read"] == totals["read"] == actions
    assert documents_of(agent, keeper) == place.site.expected()
    assert pointer_at(agent) == pointer
    pointers = place.pointers()
    assert pointers == sorted(pointers)


def test_a_runner_that_is_asked_to_end_ends_its_slice_saves_and_gives_the_lease_back(place, keeper):
    place.site.add_agent(HTTPAgent("a", url=keeper.url, batch_size=5))
    fill(place, 12)
    with place.site.looking():
        queued = [node.uid for node in place.site.store.by_uid.values()]
    with place.site.change():
        place.site.manager.enqueue("a", queued)
    keeper.go_on.clear()
    running = place.start_command("run")
    assert keeper.arrived.wait(LONG_S)
    with place.site.looking():
        holder = place.site.manager.status().agents[0].holder

    running.send_signal(signal.SIGTERM)
    keeper.go_on.set()
    _, err = running.communicate("", LONG_S)
    with place.site.looking():
        status = place.site.manager.status().agents[0]
        stored = place.site.manager.stored("a")
        [line] = ledger.entries(stored)
        free, sealed = stored.lease.holder is None, place.site.manager.track.sealed
        state = stored.state

    assert holder.startswith(f"run by process {running.pid} on ")
    assert running.returncode == 130, err
    assert keeper.posts == 3  # the whole slice, and nothing of the queue
    assert keeper.documents == place.site.expected()
    assert (status.position, status.lag_actions) == (sealed, 0)
    assert (free, status.holder, state) == (True, "", "active")
    assert (line["read"], line["accepted"], line["error"]) == (12, 12, "")
    assert line["ended"] is not None
    assert status.queued == 12
