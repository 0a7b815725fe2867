"""Sites as people run them: a database file and keys, the command line, and server processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from support import school
from support.waiting import LONG_S

from livesync import SyncManager
from livesync.database import committed, connected, open_database
from livesync.replication import HostExecutor, TrackReader, ZODBDataStore, ZODBSyncProvider

TESTS = Path(__file__).parent.parent
PROFILE = "learning"


class Site:
    """One site.

    Args:
        directory: Where all of it lies.
        name: What it is called.
    """

    def __init__(self, directory, name):
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.uri = f"file://{self.directory / 'Data.fs'}"
        self.url = ""
        self._server = None

    # -- commands ----------------------------------------------------------------------------------

    def start(self, *argv, **options):
        """Begin a command in a process of its own."""
        environ = {key: text for key, text in os.environ.items() if not key.startswith("LIVESYNC_")}
        environ |= {
            "PYTHONPATH": str(TESTS),
            "PYTHONWARNINGS": "ignore::UserWarning:pyramid",
            "LIVESYNC_DB": self.uri,
            "LIVESYNC_HOST": "support.school:host",
            "LIVESYNC_SITE": self.name,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "livesync", *argv],
            cwd=self.directory,
            env=environ,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def livesync(self, *argv, code=0):
        """Carry out a command; return what it printed, on standard error where it is to fail."""
        process = self.start(*argv)
        out, err = process.communicate(timeout=LONG_S)
        assert process.returncode == code, (argv, process.returncode, out, err)
        assert "Traceback" not in err
        return err if code else out

    def json(self, *argv):
        return json.loads(self.livesync("--json", *argv))

    # -- the server --------------------------------------------------------------------------------

    def serve(self, port=0):
        """Serve peers, until :meth:`stop` or :meth:`kill`; on a free port unless one is given."""
        log = self.directory / "server.log"
        with log.open("a") as said:
            self._server = self.start("serve", "--no-web", "--peers", f"127.0.0.1:{port}", stderr=said)
        line = self._server.stdout.readline()
        assert "peers at " in line, log.read_text()
        self.url = line.split("peers at ")[1].strip().rstrip("/")
        return self.url

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def is_serving(self):
        return self._server is not None and self._server.poll() is None

    def stop(self, with_signal=signal.SIGTERM):
        if self._server is not None:
            self._server.send_signal(with_signal)
            self._server.wait(LONG_S)
            self._server.stdout.close()
            self._server = None

    def kill(self):
        self.stop(signal.SIGKILL)

    # -- the application ---------------------------------------------------------------------------

    def edit(self, changes):
        """Let the application make changes while nobody has the file open: (id, partition, what it says)."""
        assert not self.is_serving
        db = open_database(self.uri)
        try:

            def work(root):
                manager = SyncManager.get(root)
                for each in changes:
                    school.change(manager, root, *each)

            committed(db, work)
        finally:
            db.close()

    def erase(self, object_id):
        """Let the application delete a record for good."""
        assert not self.is_serving
        db = open_database(self.uri)
        try:
            provider = ZODBSyncProvider(
                None, ZODBDataStore(db), changes_executor=HostExecutor(school.host()), reader=TrackReader()
            )
            provider.prepare()
            (item,) = [
                item.item_id for item in provider.items() if json.loads(item.payload)["id"] == object_id
            ]
            provider.erase(item)
        finally:
            db.close()

    def records(self):
        """Return what the application has: id -> (partition, what it says)."""
        assert not self.is_serving
        db = open_database(self.uri, read_only=True)
        try:
            with connected(db) as root:
                return {
                    key: (found["partition"], found["says"]) for key, found in root.get("records", {}).items()
                }
        finally:
            db.close()
