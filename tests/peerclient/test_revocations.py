"""What was revoked is known before anything else, and travels over everybody who meets."""

import pytest
from support.faulty_proxy import FaultyProxy
from support.peer_serving import NetworkNode, Served
from support.peer_world import FULL, PART, World

from livesync.errors import CertificateRefused, CertificateRevoked, LiveSyncError, PeerSaysNo
from livesync.peering.conversation import Conversation
from livesync.peering.revocation import revoke
from livesync.peering.scopes import Filter
from livesync.peerserver.gate import Gate

pytestmark = pytest.mark.slow


def revocation_of(world, chain):
    return revoke(tuple(chain), world.root, world.root_key, now=world.clock())


def known_to(node):
    return node.trust.read(lambda trust: set(trust.revoked))


def refused_to_a_thief(node, url, server_chain):
    """Begin a session as somebody does who does not want to know what was revoked."""
    connection = node.connection(url)
    with pytest.raises(PeerSaysNo, match="revoked") as caught:
        connection.create_sync_session(node.chain[-1].id, server_chain)
    assert (caught.value.status, caught.value.code) == (403, "revoked")


def test_it_is_known_though_the_session_was_cut_before_anything_travelled(world, served, node, stack):
    home, lost = node("home"), node("lost")
    home.fill(3)
    world.fill(3)
    world.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, lost.chain)))
    proxy = FaultyProxy(served.port, 0, share=0)
    stack.callback(proxy.close)
    proxy.lose_after = 2  # the server's info, and its revocations

    with pytest.raises(LiveSyncError):
        home.sync(home.peer(proxy.url))

    assert known_to(home) == {lost.chain[-1].id}
    assert len(home.contents()) == 3
    assert len(world.contents()) == 3


def test_it_is_told_to_a_server_as_the_session_begins(world, served, node, stack):
    home, lost = node("home"), node("lost")
    home.fill(3)
    home.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, lost.chain)))
    proxy = FaultyProxy(served.port, 0, share=0)
    stack.callback(proxy.close)
    proxy.lose_after = 2  # info with all that goes before a session, and the session

    with pytest.raises(LiveSyncError):
        home.sync(home.peer(proxy.url))

    assert known_to(world) == {lost.chain[-1].id}
    assert world.contents() == {}
    refused_to_a_thief(lost, served.url, world.chain)


def test_it_reaches_a_school_over_a_city_before_the_lost_tablet_comes(world, served, node, tmp_path, stack):
    """The cloud revokes; a city meets the cloud, then the school; there the tablet is refused."""
    city, tablet = node("city", FULL, {}), node("tablet")
    school_key = world.sign  # the school is a server below the same root
    school = World(stack, tmp_path / "school", name="school", clock=world.clock)
    school.root, school.root_key, school.root_chain = world.root, world.root_key, world.root_chain
    school.chain = [world.root, school_key(school.key, FULL, {})]
    school.trust.run(lambda trust: trust.save_chain(school.chain, world.clock(), trust_root=True))
    school_server = Served(school.app)
    stack.callback(school_server.close)
    tablet.fill(2)
    at_school = tablet.peer(school_server.url, "school")
    tablet.sync(at_school)
    assert len(school.contents()) == 2

    world.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, tablet.chain)))
    city.sync(city.peer(served.url, "cloud"))
    city.sync(city.peer(school_server.url, "school"))
    tablet.put("stolen", '"1"')

    refused_to_a_thief(tablet, school_server.url, school.chain)
    with pytest.raises(CertificateRevoked, match="ask for a new one: livesync peer cert request"):
        tablet.sync(at_school)
    assert "stolen" not in school.contents()


def test_a_server_that_was_revoked_is_not_spoken_to(world, served, node):
    home = node("home")
    world.fill(3)
    home.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, world.chain)))

    with pytest.raises(CertificateRefused, match="revoked"):
        home.sync(home.peer(served.url))

    assert home.contents() == {}


@pytest.mark.parametrize("direction", ["pull", "push"])
def test_one_that_comes_to_the_server_in_the_middle_ends_the_session_at_the_next_buffer(
    direction, world, served, node
):
    home = node("home")
    (home if direction == "push" else world).fill(23)
    connection = home.connection(served.url, chunk_size=5)
    client = connection.create_sync_session(home.chain[-1].id, world.chain)
    seen = []

    def take_away(found):
        seen.append(found.items)
        if len(seen) == 2:
            world.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, home.chain)))

    client.signals.transferring.in_progress.connect(take_away)
    with pytest.raises(PeerSaysNo, match="revoked"):
        getattr(client, f"initiate_{direction}")(Filter("F1"))

    # a client that receives had asked for one more buffer by then, and may have been given it before
    assert seen in ([5, 10], [5, 10, 15][: 3 if direction == "pull" else 2])
    # what had come before is neither claimed nor passed for the whole
    receiver = world if direction == "push" else home
    sender = "home" if direction == "push" else "server"
    assert not receiver.provider.get_claims(("F1",)).get("F1", {}).get(sender)


def test_one_that_comes_while_a_buffer_is_being_asked_for_counts_already(world, served, node, monkeypatch):
    home = node("home")
    world.fill(23)
    client = home.connection(served.url, chunk_size=5).create_sync_session(home.chain[-1].id, world.chain)
    seen, calls = [], iter(range(100))
    check_filter = Gate.check_filter

    def take_away(gate, *rest):
        check_filter(gate, *rest)
        if (
            next(calls) == 2
        ):  # the transfer was begun, one buffer was given, and the request for the next holds
            world.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, home.chain)))

    monkeypatch.setattr(Gate, "check_filter", take_away)
    client.signals.transferring.in_progress.connect(lambda found: seen.append(found.items))
    with pytest.raises(PeerSaysNo, match="revoked"):
        client.initiate_pull(Filter("F1"))

    assert seen == [5]


def test_what_comes_after_a_revocation_is_known_here_is_not_taken(world, served, node, monkeypatch):
    home = node("home")
    world.fill(23)
    client = home.connection(served.url, chunk_size=5).create_sync_session(home.chain[-1].id, world.chain)
    read_buffer = Conversation.read_buffer

    def take_away(conversation, transfer_id, number, cursor):
        buffer = read_buffer(conversation, transfer_id, number, cursor)
        if number == 0:
            home.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, world.chain)))
        return buffer

    monkeypatch.setattr(Conversation, "read_buffer", take_away)
    with pytest.raises(CertificateRevoked):
        client.initiate_pull(Filter("F1"))

    assert home.contents() == {}


def test_who_is_below_what_was_revoked_is_out_too(world, served, node):
    from livesync.peering.issuing import sign_certificate

    home, child = node("home"), NetworkNode(world, "child")
    below = sign_certificate(
        home.chain[-1], home.key, child.key.public, PART.get_scope({"part": "F1"}), now=world.clock()
    )
    child.chain = [*home.chain, below]
    child.trust.run(lambda trust: trust.save_chain(child.chain, world.clock(), trust_root=True))
    peer = child.peer(served.url, certificate_id=below.id)
    child.sync(peer)
    world.trust.run(lambda trust: trust.keep_revocation(revocation_of(world, home.chain)))

    with pytest.raises((PeerSaysNo, CertificateRevoked), match="revoked"):
        child.sync(peer)
