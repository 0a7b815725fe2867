"""A command line to call in this process, a database file of its own, and hosts and agents to try."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import transaction
import ZODB
from support.peer_sites import at, facility, prepared, tablet  # noqa: F401
from ZODB.FileStorage import FileStorage

from livesync import ActionWrapper, leases
from livesync.cli.main import main

PLUGINS = '''
from contextlib import contextmanager

from livesync.agent import SyncAgent
from livesync.delivery.record import DeadRecord, Op, RunResult
from livesync.destinations.memory import MemoryService
from livesync.errors import ServiceRefuses
from livesync.host import Host
from livesync.options import Option


class ShelfHost(Host):
    """Objects are the items of the root's "shelf"."""

    shelf = None

    @contextmanager
    def at(self, connection):
        reader = type(self)()
        reader.shelf = connection.root().get("shelf", {})
        yield reader

    def object_id(self, obj):
        return obj["id"]

    def get(self, object_id):
        return self.shelf.get(object_id)

    def iter_objects(self, after=None):
        for key in sorted(self.shelf):
            if after is None or key > after:
                yield self.shelf[key]

    def contents(self, obj):
        for other in self.shelf.values():
            if other.get("parent") == obj["id"]:
                yield other
                yield from self.contents(other)

    def is_excluded(self, obj, audience="public"):
        return bool(obj.get("private"))

    def document(self, obj, audience="public"):
        return dict(obj)

    def label(self, obj):
        return obj.get("title", obj["id"])


SERVICE = MemoryService()


def service():
    return SERVICE


class CrossHost(ShelfHost):
    """Raises whenever it is asked for anything."""

    def at(self, connection):
        raise RuntimeError("the shelf has fallen down")

    def get(self, object_id):
        raise RuntimeError("the shelf has fallen down")


class BlindHost(ShelfHost):
    """Cannot load objects."""

    def get(self, object_id):
        raise RuntimeError("cannot see")


def is_cup(host, obj):
    return obj["id"] == "cup"


def no_host():
    return object()


def broken_factory():
    raise ValueError("no config")


class CountingAgent(SyncAgent):
    """Does as its option says."""

    options = (
        Option("outcome", default="well", help="its end", choices=("well", "badly", "refused", "dead")),
        Option("size", "int", help="how much", minimum=1),
        Option("key", "secret", help="who we are"),
        Option("place", "path", help="where to", identifies=True),
    )

    def run(self, manager, host, now=None, stop=None):
        outcome = self.values["outcome"]
        if outcome == "badly":
            raise ZeroDivisionError("a fault in the agent")
        if outcome == "refused":
            raise ServiceRefuses("401 Unauthorized")
        if outcome == "dead":
            dead = [DeadRecord("a", Op.UPSERT, 7, "too big")]
            return RunResult(read=2, accepted=1, dead=1, till=7, dead_records=dead)
        return RunResult(read=3, accepted=2, coalesced=1, till=7)


class LookingAgent(SyncAgent):
    """Has no run."""
'''


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Keep settings of this machine out, and put the plug-ins where they can be imported."""
    for name in ("LIVESYNC_DB", "LIVESYNC_HOST", "LIVESYNC_SITE", "LIVESYNC_USERS", "LIVESYNC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    place = tmp_path / "plugins"
    place.mkdir()
    (place / "cliplugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("cliplugins", None)


@pytest.fixture
def data(tmp_path) -> Path:
    """The path of the database's file, which does not exist yet."""
    return tmp_path / "Data.fs"


@pytest.fixture
def cli(capsys, monkeypatch, data):
    """Call the command line: ``cli("agent", "list").code``, ``.out``, ``.err``, ``.json``, ``.lines``."""
    monkeypatch.setenv("LIVESYNC_DB", f"file://{data}")

    def call(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return SimpleNamespace(
            code=int(code),
            out=captured.out,
            err=captured.err,
            lines=captured.out.splitlines(),
            get_json=lambda: json.loads(captured.out),
        )

    return call


@pytest.fixture
def installed(cli):
    """The command line on a database with livesync installed."""
    assert cli("install").code == 0
    return cli


@pytest.fixture
def change(data):
    """Carry out a function on the database's root and its manager, in one transaction."""

    def carry_out(function):
        db = ZODB.DB(FileStorage(str(data)))
        manager = transaction.TransactionManager(explicit=True)
        connection = db.open(manager)
        try:
            with manager:
                return function(connection.root())
        finally:
            connection.close()
            db.close()

    return carry_out


@pytest.fixture
def put(change):
    """Put things on the shelf and record what was done: ``put(a={"title": "A"}, b=None)``; None takes off."""

    def carry_out(**things):
        def alter(root):
            shelf = dict(root.get("shelf", {}))
            for key, thing in things.items():
                word = "deleted" if thing is None else "data_changed" if key in shelf else "created"
                if thing is None:
                    del shelf[key]
                else:
                    shelf[key] = {"id": key, **thing}
                root["livesync"].record([ActionWrapper(0, key, [word])])
            root["shelf"] = shelf

        change(alter)

    return carry_out


class Shop(ThreadingHTTPServer):
    """A service that takes what is posted, but refuses documents in which something is ``bad``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ShopHandler)
        self.documents = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class ShopHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        items = [self._take(json.loads(line)) for line in lines]
        body = json.dumps({"items": items}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _take(self, record):
        object_id, document = record["id"], record.get("document")
        if document and "bad" in document:
            return {"id": object_id, "status": 422, "reason": f"bad: {document['bad']}"}
        if document:
            self.server.documents[object_id] = document
        else:
            self.server.documents.pop(object_id, None)
        return {"id": object_id, "status": 200}

    def log_message(self, *args):
        pass


@pytest.fixture
def shop(installed, monkeypatch):
    """A real HTTP service, and an active agent ``shop`` for it."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert installed("agent", "add", "shop", "--type", "http", "-o", f"url={server.url}").code == 0
        assert installed("agent", "activate", "shop", "--from-start").code == 0
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def held_elsewhere(change):
    """Let a runner on another machine hold an agent for an hour."""

    def hold(agent_id):
        def take(root):
            lease = root["livesync"].stored(agent_id).lease
            leases.take(agent_id, lease, ("elsewhere", 7, 0), "run", time.time(), 3600)

        change(take)

    return hold


@pytest.fixture
def locked(data):
    """Hold the database's file open, as a host's process does."""
    holders = []

    def hold():
        storage = FileStorage(str(data))
        holders.append(storage)

    yield hold
    for storage in holders:
        storage.close()
