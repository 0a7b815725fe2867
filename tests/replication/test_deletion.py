"""Tombstones collected, and peers that come back after that."""

import pytest

from livesync.replication import SyncSessionStatus


def tombstones(provider):
    return provider.data_store.read(lambda: len(provider.data_store.tables.tombstones))


@pytest.fixture
def abc(new_provider, tools):
    """Three providers that know one another and hold two items, one of them deleted at a."""
    a, b, c = (new_provider(name) for name in "abc")
    tools.put(a, "gone", "1")
    tools.put(a, "stays", "2")
    for other in (b, c):
        tools.sync(a, other)
    tools.remove(a, "gone")
    return a, b, c


def test_a_tombstone_goes_when_every_peer_has_passed_it(abc, tools):
    a, b, c = abc
    tools.sync(a, b)
    assert a.collect_tombstones() == 0  # c does not know yet
    tools.sync(a, c)
    tools.sync(a, b)
    tools.sync(a, c)  # only now do their claims say so

    assert a.collect_tombstones() == 1
    assert tombstones(a) == 0
    assert tombstones(b) == 1
    assert tools.contents(a) == {"stays": "2"}
    for one, other in ((a, b), (b, c), (a, c)):
        tools.sync(one, other)
    assert tools.contents(a) == tools.contents(b) == tools.contents(c) == {"stays": "2"}


@pytest.fixture
def late(abc, tools, clock):
    """The same, and a has collected its tombstone, since it waits for c no more."""
    a, b, c = abc
    clock.now += 100
    tools.sync(a, b)
    tools.sync(a, b)
    assert a.collect_tombstones(peer_expires_s=50) == 1
    return a, b, c


def test_a_peer_that_comes_back_later_loses_what_is_gone(late, tools):
    a, _, c = late
    tools.sync(a, c)

    assert tools.contents(c) == {"stays": "2"}
    offer = a.offer(("",), c.get_claims(), "c")
    assert (offer.ranges(), offer.snapshots) == ([], ())


def test_what_that_peer_wrote_since_is_not_gone(late, tools):
    a, _, c = late
    tools.put(c, "gone", '"written by c"')
    tools.put(c, "new", "3")
    tools.sync(a, c)
    tools.sync(a, c)

    assert tools.contents(a) == tools.contents(c) == {"stays": "2", "new": "3", "gone": '"written by c"'}


def test_who_learned_from_the_collector_passes_it_on_that_something_is_gone(late, new_provider, tools):
    a, _, c = late
    d = new_provider("d")
    tools.sync(a, d)  # never had the item, nor its tombstone
    tools.sync(d, c)

    assert tools.contents(c) == {"stays": "2"}


def test_a_session_under_which_tombstones_are_collected_claims_nothing(abc, tools, clock):
    a, b, c = abc
    tools.sync(a, b)
    tools.sync(a, b)
    offer = a.offer(("",), c.get_claims(), "c")
    c.begin(offer)
    clock.now += 100
    a.data_store.run(lambda: a.data_store._remove(a.data_store.tables.peers, "c"))
    assert a.collect_tombstones() == 1
    c.receive(offer, a.read(offer))

    assert not a.may_resume(offer)
    assert [session.status for session in tools.sync(a, c)] == [SyncSessionStatus.FINISHED] * 2
    assert tools.contents(c) == {"stays": "2"}


def test_a_delete_for_good_leaves_its_mark_for_ever(abc, tools):
    a, b, c = abc
    a.erase("stays")
    for _ in range(2):
        tools.sync(a, b)
        tools.sync(a, c)
    a.collect_tombstones()

    assert a.data_store.read(lambda: a.data_store.get("stays").hard)


def test_only_peers_that_may_hold_a_partition_are_waited_for(new_provider, tools):
    a, b = new_provider("a"), new_provider("b")
    tools.put(a, "1", "1", "F1")
    tools.sync(a, b, prefixes=("F2",))
    tools.remove(a, "1", "F1")

    assert a.collect_tombstones() == 1


def test_reinstating_makes_a_new_change_that_travels(new_provider, tools, clock):
    a, b = new_provider("a"), new_provider("b")
    tools.put(a, "1", '"mine"')
    clock.now += 1
    tools.put(b, "1", '"theirs"')
    tools.sync(a, b)
    (log,) = b.conflict_logs()
    assert tools.contents(b) == {"1": '"theirs"'}

    change = b.reinstate(str(log.id)[:6])
    tools.sync(a, b)

    assert change.serialization_result.serialized_item == '"mine"'
    assert tools.contents(a) == tools.contents(b) == {"1": '"mine"'}
    assert len(b.conflict_logs()) == 1


def test_a_deletion_that_lost_can_be_reinstated_too(new_provider, tools, clock):
    a, b = new_provider("a"), new_provider("b")
    tools.put(a, "1", "1")
    tools.sync(a, b)
    tools.remove(a, "1")
    tools.put(a, "1", '"revived"')  # beats a delete that had not seen it
    tools.remove(b, "1")
    tools.sync(a, b)
    (log,) = [*a.conflict_logs(), *b.conflict_logs()][:1]
    holder = a if a.conflict_logs() else b
    holder.reinstate(str(log.id))
    tools.sync(a, b)

    assert tools.contents(a) == tools.contents(b) == {}
