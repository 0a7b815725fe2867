"""A remote provider: two providers are orchestrated, and one of them is a node behind a server."""

import pytest
from support.faulty_proxy import FaultyProxy
from support.peer_world import FULL, READER, SUBPART, WRITER

from livesync.errors import PeerSaysNo, ScopeExceeded, UsageError
from livesync.peering.peers import Peer
from livesync.peering.revocation import revoke
from livesync.replication import (
    MemoryDataStore,
    MemorySyncProvider,
    Operation,
    RemoteProvider,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    VectorClock,
)
from livesync.replication.events import EventsManager
from livesync.replication.metadata.query import Query

HOUR_S = 3600.0


class Clock:
    """Seconds that only rise when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def remote_of(served, stack):
    """Return a node's remote provider: the server as it sees it."""

    def make(node, url=None, chunk_size=5, **peer):
        connection = node.connection(url or served.url, chunk_size=chunk_size)
        remote = RemoteProvider(connection, Peer("server", url or served.url, "notes", **peer))
        stack.callback(remote.close)
        return remote

    return make


def orchestrated(node, remote, clock=None):
    return SyncOrchestrator(SyncLock(), [node.provider, remote], HOUR_S, clock or Clock())


def finished(sessions):
    assert [session.reason for session in sessions] == ["", ""]
    assert {session.status for session in sessions} == {SyncSessionStatus.FINISHED}
    return sessions


def below(world, *prefixes):
    return {state.item_id: state.payload for state in world.provider.items() if state.partition in prefixes}


# -- sessions --------------------------------------------------------------------------------------


def test_two_providers_over_a_network_come_to_hold_what_both_may(world, remote_of, node):
    home = node("home")
    home.fill(12)
    home.put("of another", '"kept at home"', "F2")
    world.fill(17)
    world.fill(3, "F2")
    remote = remote_of(home)

    pushed, pulled = finished(orchestrated(home, remote).run())

    assert home.contents() == below(world, "F1") | {"of another": '"kept at home"'}
    assert len(below(world, "F1")) == 29
    assert len(below(world, "F2")) == 3
    assert (pushed.source_provider_id, pushed.target_provider_id) == ("home", "server")
    assert (pulled.source_provider_id, pulled.target_provider_id) == ("server", "home")
    assert len(pulled.item_changes) == 17
    assert repr(remote) == f"<RemoteProvider {remote.connection.base_url}>"


def test_a_second_run_goes_on_in_the_same_session_and_sends_what_is_new(world, remote_of, node):
    home = node("home")
    home.fill(12)
    remote = remote_of(home)
    orchestrator = orchestrated(home, remote)
    finished(orchestrator.run())
    session_id = remote.open().session_id
    sent = remote.connection.bytes_sent

    home.put("home F1 3", '"changed"')
    world.put("home F1 4", '"changed there"')
    _, pulled = finished(orchestrator.run())

    assert remote.open().session_id == session_id
    assert [change.serialization_result.item_id for change in pulled.item_changes] == ["home F1 4"]
    assert home.contents() == world.contents()
    assert remote.connection.bytes_sent - sent < 6_000


def test_the_side_that_sends_first_can_be_told(world, remote_of, node):
    home = node("home")
    remote = remote_of(home)
    assert remote.provider_id == ""
    remote.open()

    first, second = finished(orchestrated(home, remote).run("server"))

    assert (first.source_provider_id, second.source_provider_id) == ("server", "home")
    one_way = orchestrated(home, remote).synchronize_providers("home", "server")
    assert one_way.status is SyncSessionStatus.FINISHED


def test_a_conflict_is_settled_alike_on_both_sides_and_its_loser_is_kept(world, remote_of, node):
    home = node("home")
    home.put("one", '"first"')
    finished(orchestrated(home, remote_of(home)).run())
    world.clock.now += 10
    home.put("one", '"of home"')
    world.clock.now += 10
    world.put("one", '"of the server"')

    finished(orchestrated(home, remote_of(home)).run())

    assert home.contents() == world.contents() == {"one": '"of the server"'}
    (log,) = world.provider.conflict_logs()
    assert log.item_change_loser.serialization_result.serialized_item == '"of home"'


def test_deletions_cross_soft_and_for_good(world, remote_of, node):
    home = node("home")
    home.fill(3)
    orchestrator = orchestrated(home, remote_of(home))
    finished(orchestrator.run())

    home.provider.commit_item_change(Operation.DELETE, "note", "home F1 0", None, "F1")
    world.provider.erase("home F1 1")
    finished(orchestrator.run())

    assert home.contents() == world.contents() == {"home F1 2": '"2"'}
    assert home.provider.data_store.read(lambda: home.provider.data_store.get("home F1 1")).hard


def test_large_items_are_sent_in_chunks_that_a_node_takes(world, remote_of, node):
    home = node("home")
    for number in range(6):
        home.put(f"large {number}", '"' + "x" * 900_000 + '"')

    finished(orchestrated(home, remote_of(home, chunk_size=500)).run())

    assert home.contents() == world.contents()


def test_an_item_that_is_too_large_to_travel_is_named(world, remote_of, node):
    home = node("home")
    home.put("huge", '"' + "x" * 9_000_000 + '"')

    pushed, _ = orchestrated(home, remote_of(home)).run()

    assert pushed.status is SyncSessionStatus.FAILED
    assert "item 'huge' has 9,000,002 characters" in pushed.reason


# -- scopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "params", "arrives", "comes"),
    [
        (READER, {"part": "F1"}, set(), {"F1"}),
        (WRITER, {"part": "F1"}, {"F1"}, set()),
        (SUBPART, {"part": "F1", "sub": "U1"}, {"F1:U1"}, {"F1:U1"}),
        (FULL, {}, {"F1", "F1:U1", "F2"}, {"F1", "F1:U1", "F2"}),
    ],
)
def test_a_certificate_says_what_flows_and_what_stays(world, remote_of, node, scope, params, arrives, comes):
    home = node("home", scope, params)
    for partition in ("F1", "F1:U1", "F2"):
        home.fill(2, partition)
        world.fill(2, partition)
    within = {
        part: {p for p in ("F1", "F1:U1", "F2") if p == part or p.startswith(part + ":")} for part in ("F1",)
    }
    arrives = set().union(*(within.get(part, {part}) for part in arrives))
    comes = set().union(*(within.get(part, {part}) for part in comes))

    finished(orchestrated(home, remote_of(home)).run())

    def partitions(items, prefix):
        return {state.partition for state in items if state.item_id.startswith(prefix)}

    assert partitions(world.provider.items(), "home") == arrives
    assert partitions(home.provider.items(), "server") == comes


def test_more_than_the_certificates_allow_is_refused_by_name(world, remote_of, node):
    home = node("home")

    for session in orchestrated(home, remote_of(home)).run(prefixes=("F1", "F2")):
        assert session.status is SyncSessionStatus.FAILED
        assert session.reason.startswith(ScopeExceeded.__name__)
        assert "do not allow to send F2" in session.reason


def test_less_may_be_asked_for(world, remote_of, node):
    home = node("home")
    world.fill(2, "F1:U1")
    world.fill(2, "F1:U2")

    finished(orchestrated(home, remote_of(home)).run(prefixes=("F1:U2",)))

    assert {state.partition for state in home.provider.items()} == {"F1:U2"}


def test_a_certificate_that_was_revoked_is_refused_in_the_next_session_and_within_one(world, remote_of, node):
    home = node("home")
    world.fill(12)
    remote = remote_of(home)
    orchestrator = orchestrated(home, remote)
    finished(orchestrator.run())
    revocation = revoke(home.chain, world.root, world.root_key, now=world.clock())
    world.trust.run(lambda trust: trust.take_revocations([revocation.signed], world.clock()))
    world.fill(20)

    for session in orchestrator.run():
        assert session.status is SyncSessionStatus.FAILED
        assert "revoked" in session.reason
    assert len(home.contents()) == 12


# -- cuts ------------------------------------------------------------------------------------------


@pytest.fixture
def cut_line(served, stack):
    proxy = FaultyProxy(served.port, 0, share=0)
    stack.callback(proxy.close)
    return proxy


@pytest.mark.slow
@pytest.mark.parametrize("after", range(4, 23, 3))
def test_a_session_that_is_cut_goes_on_where_it_was(world, remote_of, node, cut_line, after):
    home = node("home")
    home.fill(23)
    world.fill(23)
    remote = remote_of(home, cut_line.url)
    orchestrator = orchestrated(home, remote)
    cut_line.lose_after = after

    broken = orchestrator.run()
    assert {session.status for session in broken} & {SyncSessionStatus.FAILED}
    assert all(session.reason for session in broken if session.status is SyncSessionStatus.FAILED)
    before = cut_line.requests
    cut_line.lose_after = None
    finished(orchestrator.run())

    assert home.contents() == world.contents()
    assert len(home.contents()) == 46
    # what was confirmed is not sent again: both ways there are five buffers, and the rest is a frame of 15
    assert cut_line.requests - before <= 10 + 15
    assert not world.provider.unfinished()
    assert not home.provider.unfinished()


def test_buffers_that_were_confirmed_are_not_sent_again(world, remote_of, node, served):
    home = node("home")
    home.fill(23)
    remote = remote_of(home)
    clock = Clock()
    sent = []

    class Slow(EventsManager):
        def on_item_changes_sent(self, item_changes):
            sent.append(len(item_changes))
            if len(sent) == 3:
                clock.now += 2 * HOUR_S

    home.provider.events_manager = Slow()
    orchestrator = orchestrated(home, remote, clock)
    pushed, _ = orchestrator.run()
    assert pushed.status is SyncSessionStatus.FAILED
    assert "longer than it may" in pushed.reason
    assert len(world.contents()) == 0  # they wait there, and nothing is claimed
    finished(orchestrator.run())

    assert sent == [5, 5, 5, 5, 3]
    assert world.contents() == home.contents()


def test_a_server_that_was_begun_anew_goes_on_with_a_transfer(world, remote_of, node, served):
    home = node("home")
    world.fill(23)
    remote = remote_of(home)
    clock = Clock()
    orchestrator = orchestrated(home, remote, clock)
    read, seen = remote.read, []

    def read_and_restart(offer, number=0, *args, **options):
        seen.append(number)
        if seen == [0, 1, 2]:
            world.restart()
            served.app = world.app
        return read(offer, number, *args, **options)

    remote.read = read_and_restart
    finished(orchestrator.run())

    assert home.contents() == world.contents()
    assert seen == [0, 1, 2, 3, 4]


def test_a_transfer_that_the_node_gave_up_begins_anew(world, remote_of, node, cut_line):
    home = node("home")
    home.fill(23)
    remote = remote_of(home, cut_line.url)
    orchestrator = orchestrated(home, remote)
    cut_line.lose_after = 10
    pushed, _ = orchestrator.run()
    assert pushed.status is SyncSessionStatus.FAILED
    cut_line.lose_after = None
    from livesync.replication.network.expiring import cleanup

    world.clock.now += 7 * HOUR_S
    assert cleanup(world.provider).transfers == 1
    world.clock.now += 1

    sessions = [session for _ in range(3) for session in orchestrator.run()]

    finished(sessions[-2:])
    assert world.contents() == home.contents()


def test_a_node_that_was_restored_is_noticed_and_nothing_is_lost(world, remote_of, node):
    home = node("home")
    home.fill(4)
    remote = remote_of(home)
    orchestrator = orchestrated(home, remote)
    finished(orchestrator.run())
    before = home.provider.provider_id
    # home's database is set back to before it told anybody of its last items
    store = home.provider.data_store
    stamp = store.read(lambda: store.own_stamp)
    store.run(lambda: store._set(store.facts, "own", stamp - 1))
    for mark in store.read(lambda: list(store.tables.marks)):
        store.run(lambda mark=mark: store._discard(store.tables.marks, mark))

    home.put("after", '"later"')
    finished(orchestrator.run())

    assert home.provider.provider_id != before
    assert home.contents() == world.contents()


def test_a_node_that_cannot_be_reached_is_said_so(world, node, stack):
    home = node("home")
    remote = RemoteProvider(
        home.connection("http://127.0.0.1:9", timeout_s=1), Peer("x", "http://127.0.0.1:9", "notes")
    )
    stack.callback(remote.close)

    for session in orchestrated(home, remote).run():
        assert session.status is SyncSessionStatus.FAILED
        assert "did not answer" in session.reason


# -- pages of changes ------------------------------------------------------------------------------


def pages_of(source, clock):
    found = []
    while True:
        batch = source.download_changes(clock)
        found.append(batch)
        clock = batch.get_vector_clock_after_done(clock)
        if batch.is_last_batch:
            return found


def copied(source, target):
    for batch in pages_of(source, target.get_vector_clock()):
        batch.reset_status()
        target.upload_changes(batch)


def test_pages_that_a_node_gives_are_those_it_would_give_beside_us(world, remote_of, node):
    home = node("home", FULL, {})
    world.fill(9)
    for number in range(4):
        world.put(f"more {number}", '"x"', f"F1:U{number}")
    remote = remote_of(home)
    world.provider.max_num = 5

    there = pages_of(world.provider, VectorClock())
    here = pages_of(remote, VectorClock())

    assert [batch.item_changes for batch in here] == [batch.item_changes for batch in there]
    assert [batch.ends_at for batch in here] == [batch.ends_at for batch in there]
    assert [len(batch.item_changes) for batch in here] == [5, 5, 3]
    assert here[-1].claims == there[-1].claims


def test_pages_go_both_ways_and_clocks_move_with_the_last(world, remote_of, node):
    home = node("home", FULL, {})
    home.fill(12)
    world.fill(13)
    home.provider.max_num = 5
    remote = remote_of(home)

    copied(remote, home.provider)
    copied(home.provider, remote)

    assert world.contents() == home.contents()
    assert len(world.contents()) == 25
    assert remote.get_vector_clock() == world.provider.get_vector_clock() == home.provider.get_vector_clock()
    (batch,) = pages_of(remote, home.provider.get_vector_clock())
    assert batch.item_changes == []


def test_pages_hold_what_the_certificates_allow(world, remote_of, node):
    home = node("home")
    home.fill(7)
    home.put("secret", '"kept"', "F2")
    world.fill(13)
    world.fill(2, "F2")
    remote = remote_of(home)

    copied(remote, home.provider)
    copied(home.provider, remote)

    assert below(home, "F1") == below(world, "F1")
    assert len(below(world, "F1")) == 20
    assert below(home, "F2") == {"secret": '"kept"'}
    assert len(below(world, "F2")) == 2
    assert home.provider.get_claims(("F1",))["F1"]["server"]
    assert world.provider.get_claims(("F1",))["F1"]["home"]
    assert not home.provider.get_claims(("F2",)).get("F2", {}).get("server")


def test_a_page_can_be_asked_for_again(world, remote_of, node):
    home = node("home")
    world.fill(12)
    remote = remote_of(home)
    first = remote.download_changes(VectorClock())
    clock = first.get_vector_clock_after_done(VectorClock())
    second = remote.download_changes(clock)

    assert remote.download_changes(clock).item_changes == second.item_changes
    assert remote.download_changes(VectorClock()).item_changes == first.item_changes
    world.put("new", '"1"')
    last = pages_of(remote, VectorClock())
    assert sum(len(batch.item_changes) for batch in last) == 13


def test_where_a_page_is_missing_nothing_is_claimed(world, remote_of, node):
    home = node("home")
    home.fill(12)
    home.provider.max_num = 5
    remote = remote_of(home)
    first, second, third = pages_of(home.provider, VectorClock())

    remote.upload_changes(first)
    remote.upload_changes(third)

    assert not world.provider.get_claims(("F1",)).get("F1", {}).get("home")
    for batch in (first, second, third):
        remote.upload_changes(batch)
    assert world.provider.get_claims(("F1",))["F1"]["home"]
    assert below(world, "F1") == home.contents()


def test_what_a_node_cannot_do_from_afar_is_said_in_one_line(world, remote_of, node):
    home = node("home")
    remote = remote_of(home)

    for call in (
        lambda: remote.download_changes(VectorClock(), Query("note")),
        lambda: remote.items(),
        lambda: remote.conflict_logs(),
        lambda: remote.commit_item_change(Operation.UPDATE, "note", "x", '"x"', "F1"),
        lambda: remote.data_store.tables,
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert remote.get_deferred_changes(VectorClock()).item_changes == []
    for session in orchestrated(home, remote).run(query=Query("note")):
        assert session.status is SyncSessionStatus.FAILED
        assert session.reason.startswith("UsageError")


def test_a_connection_of_one_provider_is_not_orchestrated_with_another(world, remote_of, node):
    remote = remote_of(node("home"))
    other = MemorySyncProvider("other", MemoryDataStore())

    for session in SyncOrchestrator(SyncLock(), [other, remote], HOUR_S).run():
        assert "is provider home's, and not other's" in session.reason


def test_the_end_is_told_to_the_node(world, remote_of, node):
    home = node("home")
    remote = remote_of(home)
    with remote:
        finished(orchestrated(home, remote).run())
        client = remote.open()
    with pytest.raises(PeerSaysNo, match="ended"):
        client.conversation.transfer("0" * 32)
