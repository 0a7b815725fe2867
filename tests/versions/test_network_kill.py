"""Kill -9 of either end of a push or a pull, at one commit after the other: both are whole, always."""

import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import transaction
import ZODB
from support.peer_world import FULL, PROFILE
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.errors import SyncError
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keyring import KeyRing
from livesync.peering.keys import PrivateKey
from livesync.peering.peers import Peer
from livesync.peering.retrying import Retries
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.trust import TrustStore
from livesync.replication import ZODBDataStore, ZODBSyncProvider
from livesync.versions import VersionedCollection
from livesync.versions.remotes.network import NetworkEnd

TESTS = Path(__file__).parents[1]

pytestmark = [pytest.mark.server, pytest.mark.slow]

DOCS = ScopeDefinition(id="docs", profile=PROFILE, read_write_filter_template="version:docs")


class Node:
    """A database file with a certificate."""

    def __init__(self, directory, name, root, root_key, definition):
        self.path, self.keys = directory / f"{name}.fs", KeyRing(directory / f"{name}.keys")
        key = PrivateKey.generate()
        self.keys.add(key)
        scope = definition.get_scope({})
        chain = [root, sign_certificate(root, root_key, key.public, scope, now=time.time())]
        with self.opened() as db:
            ZODBSyncProvider(name, ZODBDataStore(db))
            TrustStore(db, create=True).run(
                lambda trust: trust.save_chain(chain, time.time(), trust_root=True)
            )

    @contextmanager
    def opened(self):
        db = ZODB.DB(FileStorage(str(self.path)))
        try:
            yield db
        finally:
            db.close()

    @contextmanager
    def docs(self, db):
        manager = transaction.TransactionManager()
        connection = db.open(transaction_manager=manager)
        yield VersionedCollection(connection, "docs")
        manager.commit()
        connection.close()

    def grow(self, count):
        with self.opened() as db, self.docs(db) as docs:
            if not docs.is_tracked:
                docs.init()
            for n in range(count):
                for m in range(4):
                    docs.documents[f"d{m}"] = {"n": n, "m": m, "text": random.Random(n).randbytes(200).hex()}
                docs.register(f"v{n}")

    def standing(self):
        """Return the log, the documents, and what is wrong."""
        with self.opened() as db, self.docs(db) as docs:
            return [one.id for one in docs.get_log()], dict(docs.documents), docs.check()


class Server(Node):
    """One that is served by a process of its own."""

    process = None
    url = ""

    def serve(self, commits=0):
        self.stop()
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "peerserver.serve_peers"),
                str(self.path),
                str(self.keys.directory),
                str(commits),
                "1",
                "1500",
            ],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=LONG_S)
            self.process = None


@pytest.fixture
def root():
    key = PrivateKey.generate()
    return generate_root_certificate(key, FULL, {}, now=time.time()), key


@pytest.fixture
def server(tmp_path, root):
    made = Server(tmp_path, "office", *root, FULL)
    yield made
    made.stop()


@pytest.fixture
def client(tmp_path, root):
    return Node(tmp_path, "home", *root, DOCS)


#: After how many steps the killed end is killed, one time after the other.
COMMITS = {"push": (2, 5, 7, 10, 11, 14, 0), "pull": (1, 2, 3, 4, 0)}
STEPS = (3, 8, 10, 13, 0)


def exchange(node, url, direction, resumed):
    """Push or pull once, in this process; note whether one that was cut went on."""
    peer = Peer("office", url, PROFILE, insecure_http=True)
    retries = Retries(most=1, sleep=lambda seconds: None)
    with (
        node.opened() as db,
        NetworkEnd(db, "docs", peer, node.keys, direction, retries=retries, chunk_bytes=1_500) as end,
    ):
        try:
            with node.docs(db) as docs:
                docs.push(end) if direction == "push" else docs.pull(end)
            end.forget()
        finally:
            resumed.append(end.resumed)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_server_that_is_killed_again_and_again_has_all_or_nothing(server, client, direction):
    sender, receiver = (client, server) if direction == "push" else (server, client)
    sender.grow(10)
    kills, resumed = 0, []
    for commits in COMMITS[direction]:
        server.serve(commits)
        try:
            exchange(client, server.url, direction, resumed)
            break
        except SyncError:
            kills += 1
        finally:
            server.stop()
            log, documents, faults = receiver.standing()
            whole = sender.standing()
            assert faults == whole[2] == []
            assert (log, documents) in (([], {}), whole[:2])
    assert receiver.standing() == sender.standing()
    assert kills >= (4 if direction == "push" else 2)
    assert any(resumed) or direction == "pull"


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_client_that_is_killed_again_and_again_goes_on_where_it_was(server, client, direction):
    sender, receiver = (client, server) if direction == "push" else (server, client)
    sender.grow(10)
    kills, said = 0, ""
    for steps in STEPS:
        server.serve()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "versions.exchange_history", direction, str(client.path)),
                *(str(client.keys.directory), server.url, str(steps)),
            ],
            cwd=TESTS,
            capture_output=True,
            text=True,
            timeout=LONG_S,
            check=False,
        )
        server.stop()
        log, documents, faults = receiver.standing()
        whole = sender.standing()
        assert faults == whole[2] == []
        assert (log, documents) in (([], {}), whole[:2])
        said += done.stdout
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        kills += 1
    assert receiver.standing() == sender.standing()
    assert kills >= 2
    assert "resumed" in said
