"""What follows upon what is held is held at once, and nothing comes out otherwise than one by one."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.sync_world import STORES

from livesync.replication.metadata.applying import merge_states
from livesync.replication.metadata.lives import Birth, nothing_known
from livesync.replication.metadata.states import written
from livesync.replication.node import Node
from livesync.replication.sessions import conflicts, receiving, successors
from livesync.replication.stored import unpack
from livesync.replication.stores import lifetimes

#: Lives as they are told: two that come from the same, one of them from where it had come further.
LIVES = ((11, "a", 0, 0), (12, "a", 11, 8), (13, "a", 11, 4), (21, "b", 0, 0))
BIRTHS = {
    life: Birth(provider, parent, until, int(bool(parent)), parent or life)
    for life, provider, parent, until in LIVES
}


def first(payload="1", dot=("a", 5), life=0):
    return written(None, "i", "thing", "F1", payload, dot, life=life)


def after(before, payload="2", dot=("b", 9), life=0, find=nothing_known, hard=False):
    return written(before, "i", "thing", "F1", payload, dot, hard, life, find)


def test_what_its_maker_made_of_what_is_held_succeeds_it():
    for dot in (("a", 9), ("b", 9)):
        assert successors.succeeds(after(first(), dot=dot), first(), nothing_known)
    assert successors.succeeds(after(after(first()), "3", ("a", 12)), first(), nothing_known)


@pytest.mark.parametrize(
    ("what", "held", "comes"),
    [
        ("the same", first(), first()),
        ("an older one", after(first()), first()),
        ("one that had not seen it", after(first(), dot=("b", 9)), after(first(), dot=("c", 10))),
        ("a delete", first(), after(first(), None)),
        ("a revival", after(first(), None, ("b", 7)), after(after(first(), None, ("b", 7)), "2", ("b", 9))),
        ("a hard delete", first(), after(first(), None, hard=True)),
        ("another partition", first(), replace(after(first()), partition="F2")),
        ("another model", first(), replace(after(first()), entity_name="other")),
        ("another beginning", first(), replace(after(first()), inserted=("c", 1))),
        ("a lesser rank", first(), replace(after(first()), dot=("b", 4))),
        ("what is held touched only", first(), first().touched("b", 9)),
    ],
)
def test_what_is_anything_else_does_not_succeed_what_is_held(what, held, comes):
    assert not successors.succeeds(comes, held, nothing_known), what


def test_what_was_made_in_a_life_that_does_not_come_from_that_of_what_is_held_does_not_succeed_it():
    held = first(dot=("a", 6), life=12 - 1)
    assert successors.succeeds(after(held, dot=("a", 9), life=12, find=BIRTHS.get), held, BIRTHS.get)
    unseen = first(dot=("a", 9), life=13)
    assert not successors.succeeds(unseen, held, BIRTHS.get)
    assert not successors.succeeds(replace(after(held, dot=("a", 9), life=13), met=()), held, BIRTHS.get)


@st.composite
def histories(draw):
    """Return states of a few items, in the order in which they were made, of writers who saw some of them."""
    stamps, made = {}, []
    for _ in range(draw(st.integers(1, 14))):
        item_id = draw(st.sampled_from(("i", "j", "k")))
        earlier = [state for state in made if state.item_id == item_id]
        before = draw(st.sampled_from([*earlier[-3:], None])) if earlier else None
        if len(earlier) > 1 and draw(st.booleans()):
            made.append(merge_states(before or earlier[0], earlier[-1], find=BIRTHS.get).state)
            continue
        provider = draw(st.sampled_from(("a", "a", "b", "me")))
        stamps[provider] = stamps.get(provider, 0) + draw(st.integers(1, 3))
        payload = draw(st.sampled_from(("1", "2", "3", None))) if before is not None else "0"
        made.append(
            written(
                before,
                item_id,
                "thing",
                "F1",
                payload,
                (provider, stamps[provider]),
                payload is None and draw(st.booleans()),
                {"a": draw(st.sampled_from((11, 12, 13))), "b": 21, "me": 0}[provider],
                BIRTHS.get,
            )
        )
    return made


def row(found):
    """Return what lies in an index; entries of vectors have no order."""
    key, packed = found
    return key, unpack(key[2], packed) if packed else None


def received(kind, batches):
    """Return all that a node has come to hold and to tell, that took these batches."""
    numbers = count()
    store = STORES[kind]()
    node = Node(store, clock=lambda: 100.0, new_id=lambda: f"{next(numbers):032x}")
    store.run(lambda: store.begin("me", node.new_id))
    store.run(lambda: lifetimes.learn(store, LIVES))
    applied = []
    for batch in batches:
        done = receiving.apply_states(node, batch, "peer")
        applied.append(sorted((one.item_id, *one.dot, *sorted(one.vector)) for one in done.states))

    def all_of_it():
        tables = store.tables
        return (
            applied,
            [(one, one.life, sorted(one.met)) for one in store.items()],
            {
                provider: list(map(row, tables.index[provider].items(("", 0, ""), None)))
                for provider in tables.index
            },
            list(store.items_of("thing")),
            store.digest("F1"),
            list(tables.tombstones),
            {provider: dict(tables.issued[provider]) for provider in tables.issued},
            dict(tables.heard),
            dict(tables.facts),
            [conflicts.load(store, key) for key in tables.conflicts],
        )

    found = store.read(all_of_it)
    if hasattr(store, "db"):
        store.db.close()
    return found


@pytest.mark.parametrize("kind", sorted(STORES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=histories(), data=st.data())
def test_any_mixture_of_states_comes_to_the_same_one_by_one_and_at_once(kind, made, data):
    order = data.draw(st.permutations(made)) if data.draw(st.booleans()) else made
    size = data.draw(st.integers(1, 5))
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    at_once = received(kind, batches)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(successors, "hold_successors", lambda node, states, repeated: {})
        assert received(kind, batches) == at_once


@pytest.mark.parametrize("kind", sorted(STORES))
def test_the_next_versions_of_many_items_take_the_short_way(kind, monkeypatch):
    before = [replace(first(), item_id=f"i{number:02}") for number in range(12)]
    newer = [replace(after(first()), item_id=state.item_id) for state in before]
    other = replace(after(first(), None), item_id="i03")
    long_way = []
    receive = receiving.Receiver.receive

    def noting(self, remote):
        long_way.append(remote.item_id)
        receive(self, remote)

    monkeypatch.setattr(receiving.Receiver, "receive", noting)
    monkeypatch.setattr(successors, "_AT_ONCE", 5)
    found = received(kind, [before, [other if state.item_id == "i03" else state for state in newer]])

    assert long_way == ["i03"]
    assert [(state.item_id, state.vector, state.is_live) for state, _, _ in found[1]] == [
        (state.item_id, {"a": 5, "b": 9}, state.item_id != "i03") for state in before
    ]
