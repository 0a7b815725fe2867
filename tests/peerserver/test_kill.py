"""Kill -9 of a real server at one commit after the other, and a disk that is full: the session goes on."""

import http.client
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import ZODB
from support.peer_caller import Answer, Caller
from support.peer_world import CONTROLLER, FULL, PART, PROFILE, Client
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.peering import wire
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keyring import KeyRing
from livesync.peering.keys import PrivateKey
from livesync.peering.stages import Stage
from livesync.peering.trust import TrustStore
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider
from livesync.replication.network.transfers import Transfer

TESTS = Path(__file__).parents[1]


class Gone(Exception):
    """The server was killed."""


class HTTPCaller(Caller):
    """Asks a server beyond a socket."""

    port = 0

    def _send(self, method, target, data, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
        try:
            connection.request(method, target, data or None, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as exc:
            raise Gone from exc
        finally:
            connection.close()


class Site:
    """A database file with a certificate, served by a process of its own."""

    def __init__(self, directory):
        self.path, self.keys = directory / "city.fs", KeyRing(directory / "keys")
        self.clock = time.time
        self.root_key, self.key = PrivateKey.generate(), PrivateKey.generate()
        self.root = generate_root_certificate(self.root_key, FULL, {}, now=time.time())
        self.root_chain = [self.root]
        self.chain = [self.root, self.sign(self.key, FULL, {})]
        self.keys.add(self.key)
        db = ZODB.DB(FileStorage(str(self.path)))
        self.provider = ZODBSyncProvider("city", ZODBDataStore(db))
        TrustStore(db, create=True).run(
            lambda trust: trust.save_chain(self.chain, time.time(), trust_root=True)
        )
        db.close()
        self.process = None

    def sign(self, key, definition, params):
        scope = definition.get_scope(params)
        return sign_certificate(self.root, self.root_key, key.public, scope, now=time.time())

    def serve(self, commits, at_once):
        self.stop()
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "peerserver.serve_peers"),
                str(self.path),
                str(self.keys.directory),
                str(commits),
                str(at_once),
            ],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            text=True,
        )
        HTTPCaller.port = int(self.process.stdout.readline())

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=LONG_S)

    def opened(self):
        db = ZODB.DB(FileStorage(str(self.path)))
        return db, ZODBSyncProvider(None, ZODBDataStore(db))


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def site(tmp_path, stack):
    site = Site(tmp_path)
    stack.callback(site.stop)
    return site


class Away(Client):
    """A node whose server is beyond a socket."""

    def __init__(self, site, stack):
        site.stack = stack
        super().__init__(site, "home", PART, {"part": "F1"})

    def introduction(self):
        told = self.provider.introduce()
        return wire.Introduction(
            provider_id=told.provider_id, database_id=told.database_id, newest=told.newest
        )

    def session(self):
        caller = HTTPCaller(None, self.key, self.chain, time.time)
        answer = caller.begin(self.world.chain, self.introduction())
        assert answer.status == 201, answer
        assert answer.of(wire.SyncSession).profile == PROFILE
        return caller


def go_on(node, caller, direction, transfer, chunk):
    """Do what is left of a transfer, from wherever it stands."""
    standing = caller.signed("GET", f"/transfersessions/{transfer}").of(wire.Transfer)
    own = Transfer(node.provider, transfer)
    if direction == "pull":
        node.receive(caller, transfer, chunk)
    else:
        offer = own.make_offer(standing.claims, standing.provider_id)
        CONTROLLER.proceed_to(Stage.QUEUING, own)
        if standing.stage in ("serializing", "queuing") and standing.confirmed == 0:
            caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="queuing", offer=offer))
        if standing.stage != "cleanup":
            node.send(caller, transfer, chunk)
    answer = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))
    assert answer.status == 200, answer
    CONTROLLER.proceed_to(Stage.CLEANUP, own)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 12], ids=["applied one by one", "applied together"])
def test_a_push_to_a_server_that_is_killed_again_and_again_goes_on_where_it_was(site, stack, at_once):
    node = Away(site, stack)
    node.fill(40)
    site.serve(0, at_once)
    transfer = node.begin_push(node.session())
    kills, confirmed = 0, [0]
    for commits in (2, 3, 4, 5, 6, 7, 9, 11, 0, 0):
        site.serve(commits, at_once)
        try:
            caller = node.session()
            standing = caller.signed("GET", f"/transfersessions/{transfer}").of(wire.Transfer)
            confirmed.append(standing.confirmed)
            go_on(node, caller, "push", transfer, 4)
            break
        except Gone:
            kills += 1
    site.stop()

    db, provider = site.opened()
    contents = {state.item_id: state.payload for state in provider.items()}
    claims, unfinished = provider.get_claims(["F1"]), provider.unfinished()
    db.close()
    assert kills >= 5
    assert confirmed == sorted(confirmed)
    assert confirmed[-1] > 0
    assert contents == node.contents()
    assert claims == node.provider.get_claims(["F1"])
    assert unfinished == []


@pytest.mark.server
@pytest.mark.slow
def test_a_pull_from_a_server_that_is_killed_in_the_middle_goes_on_where_it_was(site, stack):
    db, provider = site.opened()
    for number in range(30):
        provider.commit_item_change(Operation.UPDATE, "note", f"i{number}", f'"{number}"', "F1")
    expected = {state.item_id: state.payload for state in provider.items()}
    db.close()
    node = Away(site, stack)
    site.serve(0, 1)
    caller = node.session()
    transfer = node.begin_pull(caller, chunk=4)
    for number in range(3):
        view = Transfer(node.provider, transfer).view()
        query = {"transfer_session_id": transfer, "number": number}
        if view.cursor is not None:
            query["cursor"] = view.cursor.decode()
        buffer = caller.signed("GET", "/buffers", query=query).of(wire.Buffer)
        Transfer(node.provider, transfer).take(buffer)
    site.serve(0, 1)

    go_on(node, node.session(), "pull", transfer, 4)

    assert node.contents() == expected
    assert node.provider.unfinished() == []
