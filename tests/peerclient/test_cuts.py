"""A session that is cut anywhere goes on where it was: what was confirmed is never sent again."""

import os
import threading

import pytest
from support.faulty_proxy import FaultyProxy
from support.peer_serving import NetworkNode
from support.peer_world import PART, PROFILE, WRITER

from livesync.errors import (
    CertificateRevoked,
    LiveSyncError,
    PeerSaysNo,
    PeerUnreachable,
    ScopeExceeded,
    SyncError,
    SyncRunning,
    UnknownPeer,
    UsageError,
)
from livesync.peering import wire
from livesync.peering.records import StoredSessions
from livesync.peering.retrying import Retries
from livesync.peering.revocation import revoke
from livesync.peering.scopes import Filter
from livesync.replication.network.expiring import views
from livesync.replication.network.transfers import Transfer
from livesync.replication.sessions.sending import count_offered

F1 = Filter("F1")


def begin(node, world, url, **options):
    connection = node.connection(url, chunk_size=5, **options)
    return connection, connection.create_sync_session(node.chain[-1].id, world.chain)


@pytest.fixture
def proxy(served, stack):
    found = FaultyProxy(served.port, 0, share=0)
    stack.callback(found.close)
    return found


@pytest.fixture
def home(node):
    return node("home")


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_cut_after_any_request_it_goes_on_at_the_last_confirmed_buffer(
    direction, world, served, node, proxy, monkeypatch
):
    sent, take, cuts = [], Transfer.take, 0
    monkeypatch.setattr(
        Transfer,
        "take",
        lambda self, told, *rest, **options: sent.append(told.number) or take(self, told, *rest, **options),
    )
    for lost in range(3, 14):
        home = node(f"home {lost}")
        (home if direction == "push" else world).fill(23)
        proxy.requests, proxy.lose_after, home.retries = 0, lost, Retries(most=0)
        try:
            _, client = begin(home, world, proxy.url)
            getattr(client, f"initiate_{direction}")(F1)
        except SyncError:
            cuts += 1
        taken = len(sent)
        proxy.lose_after = None
        _, client = begin(home, world, served.url)
        done = getattr(client, f"initiate_{direction}")(F1)

        assert set(home.contents().items()) <= set(world.contents().items())
        confirmed = [number for number in sent if number < done.buffers]
        assert sorted(set(confirmed)) == list(range(done.buffers))
        assert len(confirmed) <= done.buffers + 1, f"{taken} were confirmed, and then {sent[taken:]} came"
        sent.clear()
        client.initiate_pull(F1)
        assert home.contents() == world.contents()
        sent.clear()
    assert cuts >= 6


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_what_was_changed_since_a_cut_comes_with_the_sync_that_goes_on(direction, world, served, home, proxy):
    sender = home if direction == "push" else world
    sender.fill(1_200, "F1:z")
    peer = home.peer(proxy.url)
    proxy.lose_after = 5
    with pytest.raises(SyncError):
        home.sync(peer, direction)
    # lies before what was read already
    sender.put("changed since", '"1"', "F1:a")
    proxy.lose_after = None

    outcome = home.sync(peer, direction)

    assert outcome.resumed
    assert {"push": outcome.pushed, "pull": outcome.pulled}[direction] == 1_201
    assert home.contents() == world.contents()


def test_a_server_that_is_started_again_goes_on_with_the_session(world, served, home):
    home.fill(12)
    _, client = begin(home, world, served.url)
    push = client.get_push_client()
    push.initialize(F1)
    world.restart()
    served.app = world.app

    push.run()
    world.restart()
    served.app = world.app
    push.finalize()

    assert home.contents() == world.contents()


def test_a_sender_that_was_restored_begins_anew_and_the_receiver_is_cleaned_up(world, served, home):
    home.fill(12)
    _, client = begin(home, world, served.url)
    push = client.get_push_client()
    push.initialize(F1)
    first = push.transfer_id
    push.transfer.provider.data_store.run(push.transfer.close)

    done = client.initiate_push(F1)

    assert done.transfer_id != first
    assert home.contents() == world.contents()


def test_a_disk_that_is_full_fails_the_request_and_the_same_session_goes_on(world, served, home, monkeypatch):
    home.fill(12)
    _, client = begin(home, world, served.url)
    push = client.get_push_client()
    push.initialize(F1)
    full = [OSError(28, "No space left on device")] * 2
    take = Transfer.take

    def no_room(self, *told):
        if full:
            raise full.pop()
        return take(self, *told)

    monkeypatch.setattr(Transfer, "take", no_room)
    push.run()
    push.finalize()

    assert not full
    assert home.contents() == world.contents()


def test_a_disk_that_stays_full_is_one_clear_line(world, served, home, monkeypatch):
    home.fill(2)
    _, client = begin(home, world, served.url)

    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Transfer, "take", no_room)
    with pytest.raises(PeerSaysNo, match=r"refuses \(database\): the database does not answer") as caught:
        client.initiate_push(F1)

    assert (caught.value.code, caught.value.is_signed) == ("database", True)
    assert len(home.waits) == 4


def test_waits_grow_with_full_jitter_and_have_a_limit():
    retries = Retries(base_s=1.0, cap_s=10.0, random=lambda: 0.5)

    assert [retries.delay_s(tries) for tries in (1, 2, 3, 4, 5, 99)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert retries.delay_s(1, 7.0) == 7.0
    assert retries.delay_s(1, 10_000.0) == 120.0
    assert Retries(random=lambda: 0.0).delay_s(3) == 0.0


def test_two_ways_to_pack_and_none(world, served, node):
    for number, encodings in enumerate((("zstd",), ("gzip",), ())):
        home = node(f"home {number}")
        home.fill(30)
        connection, client = begin(home, world, served.url, encodings=encodings)
        done = client.initiate_push(F1)

        assert set(home.contents().items()) <= set(world.contents().items())
        assert done.bytes_sent <= connection.bytes_sent
        assert done.bytes_received <= connection.bytes_received
        assert done.bytes_sent > 500


def test_listeners_are_told_of_each_part_in_order(world, served, home):
    home.fill(12)
    _, client = begin(home, world, served.url)
    heard = []
    for name, group in client.signals.groups():
        for moment in ("started", "in_progress", "completed"):
            getattr(group, moment).connect(
                lambda found, word=f"{name} {moment}": heard.append((word, found.items))
            )

    client.initiate_push(F1)

    assert heard == [
        ("session started", 0),
        ("queuing started", 0),
        ("queuing in_progress", 0),
        ("queuing completed", 0),
        ("transferring started", 0),
        ("transferring in_progress", 5),
        ("session in_progress", 5),
        ("transferring in_progress", 10),
        ("session in_progress", 10),
        ("transferring in_progress", 12),
        ("session in_progress", 12),
        ("transferring completed", 12),
        ("dequeuing started", 12),
        ("dequeuing in_progress", 12),
        ("dequeuing completed", 12),
        ("session completed", 12),
    ]


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_listeners_know_how_many_items_there_will_be(world, served, home, direction):
    (home if direction == "push" else world).fill(12)
    _, client = begin(home, world, served.url)
    totals = []
    client.signals.queuing.started.connect(lambda found: totals.append(found.total))
    client.signals.queuing.in_progress.connect(lambda found: totals.append(found.total))
    client.signals.transferring.in_progress.connect(lambda found: totals.append((found.items, found.total)))

    getattr(client, f"initiate_{direction}")(F1)

    assert totals == [None, 12, (5, 12), (10, 12), (12, 12)]
    views = world.provider.data_store.read(lambda: _transfers(world))
    assert [view.total for view in views] == [12]


def test_an_item_that_two_have_written_is_counted_once(world, served, home):
    world.fill(3)
    _, client = begin(home, world, served.url)
    client.initiate_pull(F1)
    for number in range(2):
        home.put(f"server F1 {number}", '"mine"')
    home.put("another", '"mine"')

    offer = home.provider.offer(("F1",), {})

    assert len(offer.ranges()) == 2
    assert home.provider.data_store.read(lambda: count_offered(home.provider.node, offer)) == 4


def _transfers(world):
    connection = world.provider.data_store.connection
    return [record.view() for record in StoredSessions.get(connection.root()).transfers.values()]


def test_what_is_too_much_to_be_counted_beforehand_has_no_total(world, served, home, monkeypatch):
    monkeypatch.setattr(count_offered, "__defaults__", (11,))
    home.fill(12)
    _, client = begin(home, world, served.url)
    totals = []
    client.signals.transferring.in_progress.connect(lambda found: totals.append(found.total))

    client.initiate_push(F1)

    assert set(totals) == {None}


# -- what the client does not let happen -----------------------------------------------------------


def test_more_than_the_certificates_allow_is_not_even_asked_for(world, served, home, node):
    _, client = begin(home, world, served.url)
    for wrong in (Filter("F2"), Filter(":"), Filter("F10")):
        with pytest.raises(ScopeExceeded, match="do not allow to send"):
            client.initiate_pull(wrong)
    writer = node("writer", WRITER)
    _, client = begin(writer, world, served.url)
    with pytest.raises(ScopeExceeded):
        client.initiate_pull(F1)


def test_what_a_server_sends_outside_of_the_filter_is_left_out(world, served, home, monkeypatch):
    world.fill(3)
    world.fill(2, "F2")
    strange = [state for state in world.provider.items() if state.partition == "F2"]
    from livesync.replication.network.wired import item_to_wire

    def read(self, *args, read=Transfer.read):
        found = read(self, *args)
        return wire.Buffer(
            transfer_session_id=found.transfer_session_id,
            number=found.number,
            items=[*found.items, *map(item_to_wire, strange)],
            next=found.next,
            last=found.last,
        )

    monkeypatch.setattr(Transfer, "read", read)
    _, client = begin(home, world, served.url)
    done = client.initiate_pull(F1)

    assert done.refused == 2
    assert {state.partition for state in home.provider.items()} == {"F1"}


def test_a_certificate_that_is_revoked_in_the_middle_ends_the_transfer(world, served, home):
    world.fill(12)
    _, client = begin(home, world, served.url)
    revocation = revoke(world.chain, world.root, world.root_key, now=world.clock())

    def take_away(found):
        now = world.clock()
        home.trust.run(lambda trust: trust.take_revocations([revocation.signed], now))

    client.signals.transferring.in_progress.connect(take_away)
    with pytest.raises(CertificateRevoked):
        client.initiate_pull(F1)

    assert len(home.provider.items()) < 12


def test_a_server_with_another_key_is_not_believed(world, served, home, node):
    stranger = node("stranger", PART, {"part": "F1"})
    _, client = begin(home, world, served.url)
    object.__setattr__(client.conversation, "server", stranger.trust.read(_rights_of(stranger)))

    with pytest.raises(PeerUnreachable, match="not believed"):
        client.initiate_pull(F1)


def _rights_of(node):
    return lambda trust: trust.rights(node.chain[-1].id, node.world.clock())


def test_a_session_of_another_process_at_work_is_not_taken_over(world, served, home):
    connection, client = begin(home, world, served.url)
    other = ":".join((os.uname().nodename, "1", "0"))
    connection.run_stored(lambda stored: setattr(stored.sync[client.session_id], "process", other))

    with pytest.raises(SyncRunning, match="process 1 of"):
        connection.resume_sync_session(client.session_id)
    assert connection.resume_sync_session(client.session_id, ignore_existing_process=True)
    with pytest.raises(UnknownPeer):
        connection.resume_sync_session("0" * 32)


def test_a_session_that_the_server_has_forgotten_goes_on_in_a_new_one(world, served, home):
    home.fill(12)
    connection, client = begin(home, world, served.url)
    push = client.get_push_client()
    push.initialize(F1)
    client.conversation.end()

    resumed = connection.resume_sync_session(client.session_id, chunk_size=5)

    assert resumed.session_id != client.session_id
    assert [view.id for view in resumed.transfers()] == [push.transfer_id]
    assert resumed.initiate_push(F1).transfer_id == push.transfer_id
    assert home.contents() == world.contents()


def test_a_copy_of_the_server_takes_a_new_id(world, served, node):
    copy = NetworkNode(world, "server")
    copy.put("of the copy", '"x"')
    _, client = begin(copy, world, served.url)

    client.initiate_push(F1)

    assert copy.provider.provider_id != "server"
    assert world.contents() == {"of the copy": '"x"'}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "not encrypted"),
        ("https://h?x=1", "no address"),
        ("https://h#x", "no address"),
        ("https://u:secret@h", "no user name and no password"),
        ("https://h:99999", "no address"),
        ("h", "no address"),
        ("", "no address"),
    ],
)
def test_addresses_that_are_none(home, url, says):
    with pytest.raises(UsageError, match=says) as caught:
        home.connection(url, insecure_http=False)

    assert "secret" not in str(caught.value)


def test_a_server_that_is_none_of_ours_is_named(home, served, world):
    def saying(status, *headers):
        def app(environ, start):
            start(status, [*headers])
            return [b"<h1>"]

        return app

    served.app = saying("200 OK", ("Content-Type", "text/html"))

    with pytest.raises(PeerUnreachable, match="cannot be understood"):
        home.connection(served.url).server_info  # noqa: B018
    served.app = saying("301 Moved", ("Location", "https://x"))
    with pytest.raises(PeerUnreachable, match="leads elsewhere"):
        home.connection(served.url).server_info  # noqa: B018


def test_one_database_syncs_with_one_peer_at_a_time(world, served, home):
    from livesync.replication.sessions.locking import DatabaseSyncLock

    school = home.peer(served.url)
    with DatabaseSyncLock(home.provider.data_store, clock=world.clock).lock(), pytest.raises(SyncRunning):
        home.sync(school)

    assert home.sync(school).error == ""
    assert home.registry.get("server").profile == PROFILE


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_the_next_buffer_is_made_while_the_one_before_is_taken(direction, world, served, home, monkeypatch):
    (home if direction == "push" else world).fill(23)
    _, client = begin(home, world, served.url)
    made = {number: threading.Event() for number in range(5)}
    read, take, met = Transfer.read, Transfer.take, []

    def noting(self, number, *more):
        found = read(self, number, *more)
        made[number].set()
        return found

    def waiting(self, told, *more):
        met.append(told.last or made[told.number + 1].wait(10))
        return take(self, told, *more)

    monkeypatch.setattr(Transfer, "read", noting)
    monkeypatch.setattr(Transfer, "take", waiting)

    getattr(client, f"initiate_{direction}")(F1)

    assert met == [True] * 5
    assert home.contents() == world.contents()


@pytest.mark.slow
def test_both_ends_count_the_same_of_a_push_that_was_cut(world, served, home, proxy):
    home.fill(30)
    peer = home.peer(proxy.url)
    proxy.lose_after = 9

    with pytest.raises(LiveSyncError):
        home.sync(peer, "push", chunk_size=2)
    (cut,) = views(home.provider)[1]
    proxy.lose_after = None
    home.sync(peer, "push", chunk_size=2)

    assert cut.confirmed < 15
    for sent, received in zip(views(home.provider)[1], views(world.provider)[1], strict=True):
        assert (sent.id, sent.items, sent.confirmed) == (received.id, received.items, received.confirmed)
    assert max(view.items for view in views(home.provider)[1]) == 30
