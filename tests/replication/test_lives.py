"""Lives: which of one provider's writes come from one another."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from support.sync_world import image_of

from livesync.forms import decode_json
from livesync.peering import wire
from livesync.replication.metadata.lives import born, has_lived_through, newest_deeds, random_life
from livesync.replication.metadata.states import written
from livesync.replication.network.wired import item_to_wire, offer_of, offer_to_wire, state_of
from livesync.replication.sessions.steps import Offer
from livesync.replication.stores import lifetimes
from livesync.replication.stores.memory import MemoryDataStore


@st.composite
def trees(draw):
    """Lives, each opened from a copy of an earlier one, as (parent, until), and what each had seen when."""
    begun = {1: (0, 0)}
    path = {1: {}}  # life -> its ancestors: how far they had come
    for life in range(2, draw(st.integers(2, 40))):
        likely = life - 1 if draw(st.integers(0, 3)) else draw(st.integers(1, life - 1))
        until = begun[likely][1] + draw(st.integers(1, 5))
        begun[life] = (likely, until)
        path[life] = {**{above: min(stamp, until) for above, stamp in path[likely].items()}, likely: until}
    return begun, path


def learned(begun, order):
    births = {}
    for life in order:
        births[life] = born(births.get, life, "a", *begun[life])
    return births


@given(trees(), st.data())
def test_a_write_has_seen_those_of_its_own_life_and_of_those_that_it_comes_from(tree, data):
    begun, path = tree
    births = learned(begun, data.draw(st.permutations(list(begun))))

    for life, ancestors in path.items():
        stamp = begun[life][1] + data.draw(st.integers(1, 5))
        for other, (_, until) in begun.items():
            for earlier in range(until + 1, until + 8):
                has_seen = earlier <= (stamp if other == life else ancestors.get(other, 0))
                assert has_lived_through(births.get, (life, stamp), (other, earlier)) == has_seen


def test_a_life_is_found_among_many_in_few_steps():
    births = {}
    for life in range(1, 20_001):
        births[life] = born(births.get, life, "a", life - 1, 10 * (life - 1))
    asked = []

    def find(life):
        asked.append(life)
        return births.get(life)

    assert has_lived_through(find, (20_000, 200_000), (77, 765))
    assert not has_lived_through(find, (20_000, 200_000), (77, 771))
    assert len(asked) < 200


@pytest.mark.parametrize(
    "births",
    [
        {1: (2, 9), 2: (1, 9)},
        {1: (1, 5)},
        {1: (2, 5), 2: (3, 50), 3: (1, 40)},
        {1: (0, 5)},
    ],
    ids=["a ring", "its own parent", "older than its parent", "of nobody"],
)
def test_what_makes_no_sense_has_an_end_and_says_of_nothing_that_it_was_seen(births):
    made = {life: born(lambda _: None, life, "a", *row) for life, row in births.items()}

    assert not has_lived_through(made.get, (1, 100), (4, 3))


def test_of_the_writes_that_were_seen_those_are_kept_that_no_other_comes_after():
    begun = {1: (0, 0), 2: (1, 5), 3: (1, 5)}
    births = learned(begun, begun)

    def newest(own, seen, more):
        return newest_deeds(births.get, own, seen, more)

    assert newest((), (), ((1, 3), (2, 7))) == ((2, 7),)
    assert newest(((2, 7),), (), ((1, 3), (1, 5))) == ()
    assert newest(((2, 7),), (), ((1, 6), (3, 6))) == ((1, 6), (3, 6))
    assert newest((), ((1, 4), (9, 9)), ((3, 6), (3, 6), (9, 8))) == ((9, 9), (3, 6))


def test_a_new_life_is_a_number_that_fits():
    lives = {random_life(lambda number=number: str(number)) for number in range(1000)}

    assert len(lives) == 1000
    assert all(0 < life < 1 << 62 for life in lives)


def test_lives_travel_with_items_and_offers():
    state = written(None, "i", "thing", "F1", "1", ("a", 9), life=(1 << 62) - 1)
    state = structs.replace(state, vector={"a": 9, "b": 8}, met=((7, 8), (0, 2)))
    offer = Offer("s", "a", ("",), {}, {}, lives=((7, "b", 6, 5), (6, "b", 0, 0), (5, "a", 0, 0)))
    item = decode_json(msgspec.json.encode(item_to_wire(state)), wire.Item)
    told = decode_json(msgspec.json.encode(offer_to_wire(offer)), wire.Offer)

    assert (state_of(item).life, state_of(item).met) == (state.life, state.met)
    assert offer_of(told, "s", ("",)).lives == offer.lives


def stamped(store, *times):
    store.run(lambda: store.begin("a"))
    return [store.run(lambda now=now: store.next_stamp(now)) for now in times]


def test_a_store_begins_a_life_when_it_first_stamps_something_and_stays_in_it(new_store):
    store = new_store()
    stamped(store, 5)
    life = store.read(lambda: store.life)
    stamped(store, 6, 6)

    assert life
    assert store.read(lambda: store.life) == life
    assert store.read(lambda: list(store.tables.lives)) == [life]
    assert store.read(lambda: store.birth_of(life).until) == 0


def test_one_that_was_opened_again_begins_another_and_only_when_it_writes(new_store):
    store = new_store()
    stamped(store, 5, 6)
    life = store.read(lambda: store.life)
    image = image_of(store)
    opened = new_store(image)
    stamped(opened)
    assert opened.read(lambda: opened.life) == life
    stamped(opened, 7)
    new = opened.read(lambda: opened.life)

    assert new != life
    birth = opened.read(lambda: opened.birth_of(new))
    assert (birth.provider, birth.parent, birth.until) == ("a", life, 6)


def test_a_life_whose_beginning_was_undone_begins_another_time(new_store):
    store = new_store()
    stamped(store)

    def work():
        store.next_stamp(5)
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        store.run(work)
    assert store.read(lambda: store.life) == 0
    stamped(store, 6)

    assert store.read(lambda: store.life)


def test_a_life_goes_on_under_a_new_id_and_the_next_comes_from_all_of_it(new_store):
    store = new_store()
    stamped(store, 5)
    life = store.read(lambda: store.life)
    store.run(lambda: store.renew(truthful=True))
    opened = new_store(image_of(store))
    opened.run(lambda: opened.next_stamp(9))
    birth = opened.read(lambda: opened.birth_of(opened.life))

    assert (birth.parent, birth.until) == (life, 5)
    assert birth.provider == opened.read(lambda: opened.provider_id)


def told(store, claims, has_news=False):
    return store.read(lambda: [row[0] for row in lifetimes.told_to(store, claims, has_news)])


def test_those_are_told_that_began_since_what_is_claimed_and_the_last_few_where_there_is_news():
    store, other = MemoryDataStore(), MemoryDataStore()
    rows = [(life, "a", life - 1, 10 * life) for life in range(1, 40)]
    rows += [(100 + life, "b", 99 + life, 10 * life) for life in range(1, 40)]
    store.run(lambda: lifetimes.learn(store, rows))

    everything = told(store, {})
    assert sorted(everything) == [*range(1, 40), *range(101, 140)]
    assert told(store, {"": {"a": 370}, "F1": {"a": 200, "b": 1000}}) == [37, 38, 39]
    assert told(store, {"": {"a": 1000, "b": 1000}}) == []
    news = told(store, {"": {"a": 1000, "b": 390}}, has_news=True)
    assert sorted(news) == [*range(24, 40), *range(124, 140)]
    other.run(lambda: lifetimes.learn(other, store.read(lambda: lifetimes.told_to(store, {}, False))))
    assert other.read(lambda: dict(other.tables.lives)) == store.read(lambda: dict(store.tables.lives))


def test_of_very_many_the_last_ones_are_told(monkeypatch):
    monkeypatch.setattr(lifetimes, "MOST_TOLD", 5)
    store = MemoryDataStore()
    store.run(lambda: lifetimes.learn(store, [(life, "a", life - 1, 10 * life) for life in range(1, 40)]))

    assert told(store, {}) == [35, 36, 37, 38, 39]
