"""A server that lies, with the right key: what it says beyond what it may is refused, and nothing is kept."""

import functools
import json
import tracemalloc
import zlib

import msgspec
import pytest
import zstandard
from support.peer_serving import Served
from support.peer_world import READER
from webob import Request

from livesync.errors import LiveSyncError
from livesync.peering import wire
from livesync.peering.signatures import sign_answer
from livesync.replication.network.wired import item_to_wire

_encode = msgspec.json.Encoder().encode


class Liar:
    """A server whose signed answers are changed on the way out, and signed anew.

    Args:
        world: Whose key signs.
        method, path: Which answers.
        change: Called with the body as JSON; returns a body, or bytes and headers.

    One that lies about buffers says that it sends and takes nothing as a whole.
    """

    def __init__(self, world, method, path, change):
        self.world, self.method, self.path, self.change = world, method, path, change
        self.lies = 0

    def __call__(self, environ, start_response):
        request = Request(environ)
        environ["HTTP_ACCEPT_ENCODING"] = "identity"
        response = request.get_response(self.world.app)
        if self.path == "/buffers" and request.path.endswith("/info"):
            told = json.loads(response.body)
            told["capabilities"].remove("whole")
            response.body = _encode(told)
        if request.method == self.method and self.path in request.path and response.status_int < 300:
            self.lies += 1
            self.lie(response)
        return response(environ, start_response)

    def lie(self, response):
        found = self.change(json.loads(response.body) if response.body else None)
        body, headers = found if isinstance(found, tuple) else (_encode(found), {})
        is_signed = "Signature" in response.headers
        response.body = body
        response.headers.update(headers)
        if is_signed:
            for name in ("Signature", "Signature-Input", "Content-Digest"):
                response.headers.pop(name, None)
            response.headers.update(
                sign_answer(
                    response.status_int,
                    dict(response.headers),
                    body,
                    self.world.key,
                    self.world.chain[-1].id,
                    self.world.clock(),
                )
            )


@pytest.fixture
def lying(world, stack):
    def make(method, path, change):
        liar = Liar(world, method, path, change)
        server = Served(liar)
        stack.callback(server.close)
        return liar, server

    return make


def state_of(node):
    store = node.provider.data_store
    return store.read(
        lambda: (
            {state.item_id: state for state in store.items()},
            store.claims(),
            store.collected(),
            store.provider_id,
        )
    )


def refused(node, url):
    """Sync with a liar; return what is said of it. Nothing of what it said may stay."""
    before = state_of(node)
    with pytest.raises(LiveSyncError) as caught:
        node.sync(node.peer(url), "pull")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 20
    assert state_of(node) == before
    return str(caught.value)


def offering(**changes):
    def change(told):
        told["offer"].update(changes)
        return told

    return change


FUTURE = 63_900_000_000_000_000

OFFERS = {
    "more than was asked for": (offering(prefixes=[""]), "prefixes are not the filter"),
    "another partition too": (offering(prefixes=["F1", "F2"]), "prefixes are not the filter"),
    "claims elsewhere": (offering(claims={"F2": {"server": 5}}), "outside the filter"),
    "collected elsewhere": (offering(collected={"F2": {"server": 5}}), "outside the filter"),
    "snapshots elsewhere": (offering(snapshots=["F2"]), "outside the filter"),
    "digests elsewhere": (offering(digests={"F2": "0" * 32}), "outside the filter"),
    "as somebody else": (offering(source="another"), "another provider's"),
    "as the client": (offering(source="home"), "another provider's"),
    "of the future": (offering(claims={"F1": {"server": FUTURE}}), "too far in the future"),
    "a partition that is none": (offering(snapshots=["F1::x"]), "F1::x"),
    "nothing": (lambda told: {**told, "offer": None}, "offers nothing"),
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_that_says_more_than_it_may_is_refused(name, world, lying, node):
    change, says = OFFERS[name]
    home = node("home")
    home.fill(3)
    world.fill(5)
    liar, server = lying("POST", "/transfersessions", change)

    assert says in refused(home, server.url)
    assert liar.lies


def test_claims_of_the_clients_own_writes_are_not_believed(world, lying, node):
    home = node("home")
    home.fill(3)
    world.fill(5)
    own = home.provider.data_store.read(lambda: home.provider.data_store.own_stamp)
    change = offering(claims={"F1": {"server": 1, "home": own + 1_000_000}})
    _, server = lying("POST", "/transfersessions", change)

    home.sync(home.peer(server.url), "pull")

    assert home.provider.get_claims(("F1",))["F1"]["home"] == own


def in_buffer(change):
    """Return what changes the buffer that comes with an offer."""

    def changed(told):
        return {**told, "buffer": change(told["buffer"])} if "buffer" in told else told

    return changed


def lie_about_buffer(lying, way, change):
    if way == "alone":
        return lying("GET", "/buffers", change)
    return lying("POST", "/transfersessions", in_buffer(change))


@pytest.mark.parametrize("way", ["alone", "whole"])
def test_items_outside_of_the_filter_are_left_out_and_said_so(way, world, lying, node):
    home = node("home")
    world.fill(5)
    world.fill(2, "F2")
    strange = [msgspec.to_builtins(item_to_wire(s)) for s in world.provider.items() if s.partition == "F2"]
    liar, server = lie_about_buffer(lying, way, lambda told: {**told, "items": [*told["items"], *strange]})

    outcome = home.sync(home.peer(server.url), "pull")

    assert liar.lies
    assert (outcome.pulled, outcome.refused) == (7, 2)
    assert {state.partition for state in home.provider.items()} == {"F1"}


def test_a_server_whose_certificate_may_not_write_sends_nothing(world, lying, node):
    reader = world.sign(world.key, READER, {"part": "F1"})
    world.chain = [world.root, reader]
    world.trust.run(lambda trust: trust.save_chain(world.chain, world.clock()))
    world.restart()
    home = node("home")
    world.fill(5)
    _, server = lying("GET", "/nowhere", None)

    outcome = home.sync(home.peer(server.url, server_certificate_id=reader.id))

    assert outcome.pulled == 0
    assert home.contents() == {}


ITEMS = {
    "no JSON": {"payload": "{"},
    "no model": {"entity": ""},
    "of the future": {"dot": ["server", FUTURE], "vector": {"server": FUTURE}},
    "a clock that has not seen its dot": {"vector": {"server": 1}},
    "a partition that is none": {"partition": "F1::"},
    "no id": {"id": ""},
    "a key that nobody knows": {"surprise": 1},
    "erased and yet it speaks": {"hard": True, "payload": '"x"'},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["alone", "whole"])
@pytest.mark.parametrize("name", ITEMS)
def test_an_item_that_makes_no_sense_is_not_taken(name, way, world, lying, node):
    home = node("home")
    world.fill(3)

    def change(told):
        told["items"][1].update(ITEMS[name])
        return told

    liar, server = lie_about_buffer(lying, way, change)

    refused(home, server.url)
    assert liar.lies


#: What the bombs unpack to, twice what is taken.
BOMB = 2 * wire.MAX_BUFFER_UNPACKED
PIECE = bytes(1_000_000)


@functools.cache
def bomb_of_gzip():
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(PIECE) for _ in range(BOMB // len(PIECE))) + packer.flush()


@functools.cache
def bomb_of_zstd(says_its_size):
    packer = zstandard.ZstdCompressor().compressobj(size=BOMB if says_its_size else -1)
    return b"".join(packer.compress(PIECE) for _ in range(BOMB // len(PIECE))) + packer.flush()


BODIES = {
    "a bomb of zstd": lambda _: (bomb_of_zstd(True), {"Content-Encoding": "zstd"}),
    "a bomb of gzip": lambda _: (bomb_of_gzip(), {"Content-Encoding": "gzip"}),
    "a bomb that does not say how large it is": lambda _: (bomb_of_zstd(False), {"Content-Encoding": "zstd"}),
    "a packing that nobody knows": lambda _: (b"x" * 40, {"Content-Encoding": "br"}),
    "what is not packed and says so": lambda _: (b"{}", {"Content-Encoding": "zstd"}),
    "more than is taken": lambda _: (b'{"x":"' + b"x" * wire.MAX_BUFFER_BYTES + b'"}', {}),
    "no JSON": lambda _: (b"{", {}),
    "nothing": lambda _: (b"", {}),
    "a list": lambda _: (b"[]", {}),
    "very deep": lambda _: (b"[" * 100_000, {}),
    "another transfer's buffer": lambda told: {**told, "transfer_session_id": "0" * 32},
    "another number": lambda told: {**told, "number": 7},
    "too many items": lambda told: {**told, "items": told["items"] * 501},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_is_refused_and_takes_no_memory(name, world, lying, node):
    home = node("home")
    world.fill(1)
    liar, server = lying("GET", "/buffers", BODIES[name])
    bomb_of_gzip(), bomb_of_zstd(True), bomb_of_zstd(False)

    tracemalloc.start()
    try:
        refused(home, server.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert liar.lies
    if "bomb" in name:
        assert peak < 1.5 * wire.MAX_BUFFER_UNPACKED


def test_a_confirmation_of_what_was_not_sent_is_not_believed(world, lying, node):
    home = node("home")
    home.fill(3)
    _, server = lying("POST", "/buffers", lambda told: {**told, "confirmed": 9})

    with pytest.raises(LiveSyncError, match="confirmed another buffer"):
        home.sync(home.peer(server.url), "push")


def test_an_end_that_is_none_is_not_believed(world, lying, node):
    home = node("home")
    home.fill(3)
    liar, server = lying("PATCH", "/transfersessions", lambda told: {**told, "stage": "queuing"})

    with pytest.raises(LiveSyncError, match="has not ended"):
        home.sync(home.peer(server.url), "push")

    assert liar.lies


@pytest.mark.parametrize(
    "lie",
    [
        {"transfer_session_id": "0" * 32},
        {"number": 7},
        {"last": False},
        {"items": [{"id": "x", "entity": "note", "partition": "F1", "dot": ["server", 1]}] * 501},
    ],
)
def test_a_whole_that_is_none_is_refused(lie, world, lying, node):
    world.fill(1)
    liar, server = lying("POST", "/transfersessions", in_buffer(lambda told: {**told, **lie}))

    refused(node("home"), server.url)

    assert liar.lies


def test_a_session_with_a_server_that_knows_of_the_future_is_not_begun(world, lying, node):
    home = node("home")

    def change(told):
        told["introduction"]["newest"] = FUTURE
        return told

    _, server = lying("POST", "/syncsessions", change)

    assert "too far in the future" in refused(home, server.url)
