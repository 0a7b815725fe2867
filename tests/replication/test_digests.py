"""Claims that were wrong show by digests, and are mended; what cannot be mended disturbs nobody."""

from dataclasses import replace

import pytest
from msgspec import structs
from support.sync_world import World, image_of

from livesync.replication import Comparison, Operation, Query
from livesync.replication.metadata.digests import Digest, differ, digest_of, lessened
from livesync.replication.metadata.states import written
from livesync.replication.sessions.steps import Cursor


def put(provider, item_id, payload, partition="F1"):
    provider.commit_item_change(Operation.UPDATE, "thing", item_id, payload, partition)


def one_way(source, target, prefixes=("",), **changes):
    """One session by its steps; ``changes`` are what a sender that lies says in its offer."""
    target.meet(source.introduce())
    source.meet(target.introduce())
    made = source.offer(prefixes, target.get_claims(prefixes), target.provider_id)
    offer = replace(made, **changes)
    target.begin(offer)
    number, cursor, sent = 0, Cursor(), 0
    while True:
        chunk = source.read(offer, number, cursor)
        target.receive(offer, chunk)
        sent += len(chunk.states)
        number, cursor = number + 1, chunk.cursor
        if chunk.is_last:
            break
    if not changes:
        source.confirm(offer)
    return target.finish(offer), sent


def until_quiet(*pairs, rounds=8, prefixes=("",)):
    """Sync each pair both ways, until nothing is sent and nothing is in doubt."""
    for _ in range(rounds):
        quiet = True
        for one, other in pairs:
            for source, target in ((one, other), (other, one)):
                _, sent = one_way(source, target, prefixes)
                quiet = quiet and not sent and not doubts(target)
        if quiet:
            return
    raise AssertionError("there is always something more to send")


def doubts(provider):
    store = provider.data_store
    return store.read(lambda: [kept["doubt"] for kept in store.tables.differences.values()])


@pytest.fixture
def lives_of_one_id(new_provider, tools):
    """Return a, which was restored and has written under the stamps of its lost life, b and c.

    What b was told in the lost life ends with the stamp that the new life has told c, so nothing that a hears
    of itself is unknown to it.
    """
    a, b, c = new_provider("a"), new_provider("b"), new_provider("c")
    put(a, "1", '"before"')
    tools.sync(a, b)
    tools.sync(a, c)
    image = image_of(a.data_store)
    put(a, "lost", '"in the lost life"')
    one_way(a, b)
    again = new_provider("a", image)
    put(again, "new", '"in the new life"')
    assert again.data_store.read(lambda: again.data_store.own_stamp) == a.data_store.read(
        lambda: a.data_store.own_stamp
    )
    one_way(again, c)
    return again, b, c


def test_writes_of_two_lives_under_one_stamp_reach_everybody(lives_of_one_id, tools):
    a, b, c = lives_of_one_id

    until_quiet((a, b), (b, c), (a, c))

    assert tools.contents(a) == tools.contents(b) == tools.contents(c)
    assert set(tools.contents(a)) == {"1", "lost", "new"}
    assert a.get_claims() == b.get_claims() == c.get_claims()


def test_they_do_even_where_the_restored_one_never_comes_back(lives_of_one_id, tools):
    _, b, c = lives_of_one_id

    until_quiet((b, c))

    assert tools.contents(b) == tools.contents(c)
    assert set(tools.contents(b)) == {"1", "lost", "new"}


def test_they_do_by_way_of_a_node_in_the_middle(lives_of_one_id, new_provider, tools):
    a, b, _ = lives_of_one_id
    middle = new_provider("middle")

    until_quiet((a, middle), (b, middle))

    assert tools.contents(a) == tools.contents(b) == tools.contents(middle)
    assert set(tools.contents(a)) == {"1", "lost", "new"}


def test_a_session_says_where_both_differ(lives_of_one_id, caplog):
    _, b, c = lives_of_one_id
    put(b, "elsewhere", "1", "F2")
    sessions = [one_way(*pair)[0] for pair in ((b, c), (c, b), (b, c))]

    # at first it may have been news under way
    assert [session.differences for session in sessions] == [(), (), ("F1",)]
    assert {session.id: session.differences for session in c.sessions()}[sessions[2].id] == ("F1",)
    assert "'F1'" in caplog.text
    assert "'b'" in caplog.text


def test_only_what_is_in_doubt_is_sent_again(lives_of_one_id):
    _, b, c = lives_of_one_id
    for number in range(20):
        put(b, f"other {number}", "1", "F2")
    sent = [one_way(*pair)[1] for _ in range(4) for pair in ((b, c), (c, b))]

    # c is sent the twenty others once, and then no more than what lies in F1, each way
    assert sent[0] == 20
    assert max(sent[1:]) <= 3


def test_nothing_is_in_doubt_while_news_is_under_way(new_provider, tools):
    a, b = new_provider("a"), new_provider("b")
    for number in range(4):
        put(a, f"{number}", "1")
        put(b, f"b{number}", "1")
        tools.sync(a, b)
    put(a, "1", '"more"')
    one_way(b, a)

    assert doubts(a) == doubts(b) == []


def test_one_that_lies_about_its_digest_is_not_asked_for_everything_again_and_again(new_provider, tools):
    a, b = new_provider("a"), new_provider("b")
    for number in range(5):
        put(a, f"{number}", "1")
    tools.sync(a, b)
    before = b.data_store.read(lambda: b.data_store.own_stamp)
    lie = {"digests": {"": "0" * 64}}
    results = [one_way(a, b, **lie) for _ in range(6)]

    assert [sent for _, sent in results] == [0, 0, 5, 0, 0, 0]
    assert [session.differences for session, _ in results] == [(), *[("",)] * 5]
    assert b.data_store.read(lambda: b.data_store.own_stamp) == before  # nothing was touched
    assert tools.contents(a) == tools.contents(b)
    assert one_way(a, b)[0].differences == ()
    assert doubts(b) == []


def test_one_that_claims_what_it_never_sends_is_found_out_by_a_third(new_provider, tools):
    a, b, liar = new_provider("a"), new_provider("b"), new_provider("liar")
    put(a, "1", '"kept back"')
    claims = a.get_claims()
    one_way(liar, b, claims=claims, digests={})
    assert tools.contents(b) == {}

    until_quiet((a, b))

    assert tools.contents(b) == {"1": '"kept back"'}


def test_what_is_here_for_a_query_only_makes_no_difference(new_provider, tools):
    a, b, c = new_provider("a"), new_provider("b"), new_provider("c")
    put(c, "1", '{"n": 1}', "F1")
    tools.sync(b, c, query=Query("thing", Comparison("n", "==", 1)))
    assert set(tools.contents(b)) == {"1"}
    for _ in range(4):
        tools.sync(a, b)

    assert doubts(a) == doubts(b) == []
    assert tools.contents(a) == {}
    tools.sync(b, c)
    until_quiet((a, b), (b, c))
    assert set(tools.contents(a)) == {"1"}


def test_tombstones_that_one_has_collected_make_no_difference(new_provider, tools):
    a, b = new_provider("a"), new_provider("b")
    put(a, "1", "1")
    put(a, "2", "2")
    tools.sync(a, b)
    tools.remove(a, "1")
    for _ in range(2):
        tools.sync(a, b)
    assert a.collect_tombstones() == 1
    for _ in range(3):
        tools.sync(a, b)

    assert doubts(a) == doubts(b) == []


def test_digests_are_those_of_what_is_held_after_any_history():
    world = World(7, "zodb", failures=0.2, restores=True)
    world.run(40)

    for node in world.nodes:
        world.check_digests(node)


def test_a_digest_tells_contents_and_clocks_apart_and_not_the_order_of_a_vector():
    state = written(None, "i", "thing", "F1", "1", ("a", 5))
    one, other = (
        structs.replace(state, vector=dict(pairs)) for pairs in ((("a", 5), ("b", 1)), (("b", 1), ("a", 5)))
    )

    assert digest_of(one) == digest_of(other)
    assert len({digest_of(found) for found in (state, one, structs.replace(state, payload="2"))}) == 3
    assert Digest.unpack(Digest(5, 6).pack()) == Digest(5, 6)
    assert Digest.unpack(b"") == Digest()
    assert differ(Digest(5, 6).text(True), Digest(5, 7).text(True))
    assert not differ(Digest(5, 6).text(True), Digest(5, 7).text(False))


def test_claims_say_nothing_of_what_is_in_doubt_and_all_of_the_rest():
    claims = {"": {"a": 5}, "F1:U1": {"b": 3}, "F2": {"c": 1}}
    known = ["", "F1", "F1:U1", "F1:U2", "F2"]

    assert lessened(claims, ["F1:U1"], known) == {"F1:U2": {"a": 5}, "F2": {"a": 5, "c": 1}}
    assert lessened(claims, ["F3"], known) == {
        "F1": {"a": 5},
        "F1:U1": {"b": 3},
        "F2": {"a": 5, "c": 1},
    }
    assert lessened(claims, [""], known) == {}
