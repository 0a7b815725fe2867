"""Databases with runners at them, and services in memory that agents find by name."""

import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from livesync.capture import Capture
from livesync.database import committed, connected
from livesync.destinations.file import FileAgent, FileUploader
from livesync.destinations.memory import MemoryAgent, MemoryService
from livesync.manager import SyncManager

from .shelf import Shelf

#: By name; emptied by the fixture that uses them.
SERVICES = defaultdict(MemoryService)


class ThingsHost(Shelf):
    """The things of the root, also outside of a snapshot, where only their ids are asked for."""

    @contextmanager
    def at(self, connection):
        yield Shelf(connection.root()["things"])


def things_host():
    return ThingsHost()


def good():
    return SERVICES["good"]


def bad():
    return SERVICES["bad"]


def slow():
    return SERVICES["slow"]


class Place:
    """One database with livesync in it, and a way to change things there as an application does."""

    def __init__(self, db, site=""):
        self.db = db
        self.host = ThingsHost()
        self.capture = Capture(self.host)
        committed(db, lambda root: self._install(root, site))

    @staticmethod
    def _install(root, site):
        root["things"] = OOBTree()
        SyncManager.install(root, site=site)

    def add_agent(self, agent_id="good", interval_s=3600.0, service=None, **schedule):
        """Add an active agent whose service is the function of its name in this module."""
        agent = MemoryAgent(agent_id, service=f"{__name__}:{service or agent_id}")

        def change(root):
            manager = SyncManager.get(root)
            manager.register_agent(agent)
            manager.activate(agent_id, from_start=True)
            manager.set_schedule(agent_id, None if schedule else interval_s, **schedule)

        committed(self.db, change)
        return SERVICES[service or agent_id]

    def has_run(self, agent_id="good"):
        """Let the agent have run a moment ago, so that it is not due by its interval."""

        def change(root):
            SyncManager.get(root).stored(agent_id).last_run = {"time": time.time(), "seconds": 0.0}

        committed(self.db, change)

    def put(self, *ids, title="a title"):
        """Change things in one transaction, captured as in an application."""
        manager = transaction.TransactionManager()
        connection = self.db.open(transaction_manager=manager)
        with self.capture.attached(self.db):
            things = connection.root()["things"]
            for object_id in ids:
                is_new = object_id not in things
                things[object_id] = PersistentMapping(id=object_id, title=title)
                self.capture.record(object_id, "created" if is_new else "data_changed", connection=connection)
            manager.commit()
        connection.close()

    def change(self, function):
        """Change something in the manager."""
        return committed(self.db, lambda root: function(SyncManager.get(root)))

    def agent(self, agent_id="good"):
        """Return what is kept of an agent: its state, failures, last run and lease's holder."""
        with connected(self.db) as root:
            stored = SyncManager.get(root).stored(agent_id)
            return {
                "state": stored.state,
                "failures": stored.failures,
                "last_run": dict(stored.last_run or {}),
                "holder": stored.lease.holder,
                "runs": stored.runs_begun,
            }


class SlowFileUploader(FileUploader):
    """Takes a second for each batch, and leaves a sign that it has begun."""

    def _upload_batch(self, batch):
        (Path(self.agent.values["directory"]) / "sending").touch()
        time.sleep(1.0)
        return super()._upload_batch(batch)


class SlowFileAgent(FileAgent):
    uploader = SlowFileUploader
