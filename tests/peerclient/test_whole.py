"""What fits into one buffer travels as a whole: few requests, few commits, and all or nothing of it."""

import errno
import json

import pytest
import requests
from support.peer_serving import Served
from webob import Request
from ZODB.Connection import Connection

from livesync.errors import PeerUnreachable
from livesync.peering import wire
from livesync.peering.http import PeerHTTP
from livesync.peering.stages import Stage, Status
from livesync.replication.network.transfers import Transfer


class Interrupted:
    """A server that is started again right after some answer of its, which is lost.

    Args:
        world: Whose server.
        method, path: Of which requests the answer is lost.
        times: How often.
    """

    def __init__(self, world, method, path, times=1):
        self.world, self.method, self.path, self.left = world, method, path, times
        self.served = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        response = request.get_response(self.world.app)
        self.served.append(f"{request.method} {request.path}")
        if self.left and request.method == self.method and self.path in request.path:
            self.left -= 1
            self.world.restart()
            response.status_int, response.body = 502, b"gone"
        return response(environ, start_response)


@pytest.fixture
def commits(monkeypatch):
    """Counts the commits of each database that write something."""
    counted = []
    vote = Connection.tpc_vote

    def counting(connection, transaction):
        if connection._modified:
            counted.append(connection.db())
        return vote(connection, transaction)

    monkeypatch.setattr(Connection, "tpc_vote", counting)
    return counted


@pytest.fixture
def asked(monkeypatch):
    """Counts requests."""
    counted = []
    send = PeerHTTP.send

    def counting(http, request, headers, limit):
        counted.append(f"{request.method} {request.path_url.removeprefix(wire.BASE).split('?')[0]}")
        return send(http, request, headers, limit)

    monkeypatch.setattr(PeerHTTP, "send", counting)
    return counted


@pytest.mark.parametrize("count", [0, 3])
def test_a_small_sync_both_ways_takes_few_requests_and_commits(count, world, served, node, asked, commits):
    home = node("home")
    home.fill(10)
    world.fill(10)
    peer = home.peer(served.url)
    home.sync(peer)
    for number in range(count):
        home.put(f"new {number}", '"here"')
        world.put(f"new there {number}", '"there"')
    asked.clear()
    commits.clear()

    outcome = home.sync(peer)

    assert (outcome.pulled, outcome.pushed) == (count, count)
    assert home.contents() == world.contents()
    assert len(asked) <= 6, asked
    assert commits.count(home.db) <= 8
    assert commits.count(world.db) <= 5


def test_a_server_that_tells_no_meeting_is_asked_for_the_rest(world, node, asked, stack):
    """As servers did that passed over the headers."""

    def older(environ, start_response):
        for name in (wire.PROFILE, wire.CLIENTS):
            environ.pop("HTTP_" + name.upper().replace("-", "_"), None)
        return world.app(environ, start_response)

    served = Served(older)
    stack.callback(served.close)
    home = node("home")
    home.fill(3)

    home.sync(home.peer(served.url))

    assert home.contents() == world.contents()
    assert asked[:5] == [
        "GET /info",
        "GET /revocations",
        "GET /certificates",
        "POST /nonces",
        "POST /syncsessions",
    ]


def test_a_meeting_with_what_is_no_revocation_is_not_believed(world, node, stack):
    def lying(environ, start_response):
        response = Request(environ).get_response(world.app)
        if environ["PATH_INFO"].endswith("/info"):
            told = json.loads(response.body)
            told["meeting"]["revocations"] = [{"text": "{}", "signature": "x"}]
            response.body = json.dumps(told).encode()
        return response(environ, start_response)

    served = Served(lying)
    stack.callback(served.close)
    home = node("home")

    with pytest.raises(PeerUnreachable, match="not believed"):
        home.sync(home.peer(served.url))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (wire.PROFILE, ""),
        (wire.PROFILE, "a b"),
        (wire.CLIENTS, "x"),
        (wire.CLIENTS, ",".join(["0" * 32] * 9)),
    ],
)
def test_a_meeting_that_is_asked_for_otherwise_is_refused(name, value, served):
    answer = requests.get(f"{served.url}{wire.BASE}/info", headers={name: value}, timeout=60)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_peers_that_send_nothing_as_a_whole_are_synced_with_all_the_same(world, served, node, asked):
    world.options["capabilities"] = wire.CAPABILITIES - {"whole"}
    world.restart()
    served.app = world.app
    home = node("home")
    home.fill(3)
    world.fill(4)

    outcome = home.sync(home.peer(served.url))

    assert (outcome.pulled, outcome.pushed) == (4, 3)
    assert home.contents() == world.contents()
    assert asked.count("POST /buffers") == asked.count("GET /buffers") == 1


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/transfersessions/"), ("POST", "/transfersessions"), ("DELETE", "/syncs")]
)
def test_a_server_that_is_started_again_before_it_could_answer_has_everything_once(
    method, path, world, node, stack
):
    interrupted = Interrupted(world, method, path)
    served = Served(interrupted)
    stack.callback(served.close)
    home = node("home")
    home.fill(5)
    world.fill(4)

    outcome = home.sync(home.peer(served.url))

    assert interrupted.left == 0
    assert (outcome.pulled, outcome.pushed) == (4, 5)
    assert home.contents() == world.contents()
    assert home.sync(home.registry.get("server")).pushed == 0


def test_a_whole_that_cannot_be_written_leaves_nothing_and_goes_on(world, served, node, monkeypatch):
    home = node("home")
    home.fill(5)
    failures, held = [OSError(errno.ENOSPC, "No space left on device")] * 2, []
    finish = Transfer.finish

    def no_room(self):
        if failures and self.provider is world.provider:
            held.append(len(world.provider.data_store.tables.incoming))
            raise failures.pop()
        return finish(self)

    monkeypatch.setattr(Transfer, "finish", no_room)
    transfers = []
    take_whole = Transfer.take_whole

    def noting(self, *args):
        try:
            return take_whole(self, *args)
        finally:
            if self.provider is world.provider:
                transfers.append((len(world.contents()), self.view().has_offer))

    monkeypatch.setattr(Transfer, "take_whole", noting)

    outcome = home.sync(home.peer(served.url), "push")

    assert held == [1, 1]
    assert transfers == [(0, False), (0, False), (5, False)]
    assert outcome.pushed == 5
    assert home.contents() == world.contents()
    view = Transfer(world.provider, _only_transfer(world)).view()
    assert (view.stage, view.status, view.active, view.items) == (
        Stage.CLEANUP,
        Status.COMPLETED,
        False,
        5,
    )


def _only_transfer(world):
    transfer = Transfer(world.provider, "")
    (found,) = world.provider.data_store.read(lambda: list(transfer._sessions().transfers))
    return found


def test_what_is_too_much_for_one_body_goes_by_buffers(world, served, node, asked):
    home = node("home")
    home.put("large", '"' + "x" * wire.MAX_BODY_BYTES + '"')
    world.put("large there", '"' + "y" * wire.MAX_BODY_BYTES + '"')

    home.sync(home.peer(served.url))

    assert home.contents() == world.contents()
    assert asked.count("POST /buffers") == asked.count("GET /buffers") == 1
