"""How two states of an item become one."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from livesync.replication import ConflictType
from livesync.replication.metadata.applying import merge_states
from livesync.replication.metadata.clocks import merged
from livesync.replication.metadata.lives import born, nothing_known
from livesync.replication.metadata.states import written

#: One for each provider.
LIVES = {"a": 1, "b": 2, "c": 3}


@st.composite
def histories(draw):
    """States of one item at up to three nodes that write to it and tell one another."""
    nodes: dict[str, object] = dict.fromkeys("abc")
    found = []
    for stamp in range(1, draw(st.integers(2, 9))):
        name = draw(st.sampled_from("abc"))
        if draw(st.booleans()) and any(nodes.values()):
            other = draw(st.sampled_from([key for key in "abc" if nodes[key] is not None]))
            nodes[name] = merge_states(nodes[name], nodes[other]).state
        elif nodes[name] is None or not nodes[name].hard:
            live = nodes[name] is None or draw(st.booleans())
            payload = str(stamp) if live else None
            hard = payload is None and draw(st.integers(0, 5)) == 0
            # clocks are wrong: only what a node has seen is certainly older
            seen = max(nodes[name].vector.values()) if nodes[name] else 0
            at = max(seen + 1, draw(st.integers(1, 20)))
            nodes[name] = written(nodes[name], "i", "thing", "F1", payload, (name, at), hard, LIVES[name])
        if nodes[name] is not None:
            found.append(nodes[name])
    return found


@given(histories())
def test_whatever_meets_in_whatever_order_becomes_the_same(states):
    one, other, third = states[0], states[-1], states[len(states) // 2]

    ab_c = merge_states(merge_states(one, other).state, third).state
    a_bc = merge_states(one, merge_states(other, third).state).state

    assert merge_states(one, other).state == merge_states(other, one).state
    assert ab_c == a_bc
    assert merge_states(one, one).state == one


@given(histories())
def test_the_vector_is_the_maximum_and_the_content_that_of_the_greater_rank(states):
    one, other = states[0], states[-1]
    state = merge_states(one, other).state

    assert state.vector == merged(one.vector, other.vector)
    assert state.rank == max(one.rank, other.rank)


@given(histories())
def test_ranks_agree_with_causality(states):
    for one in states:
        for other in states:
            if one.dot != other.dot and one.has_seen(other.dot) and not other.has_seen(one.dot):
                assert one.rank > other.rank


@given(histories())
def test_who_has_seen_a_write_has_met_it_where_nobody_was_restored(states):
    for one in states:
        for other in states:
            assert one.has_met(other) == one.has_seen(other.dot)


def write(before, payload, provider, stamp, hard=False, life=0, find=nothing_known):
    return written(before, "i", "thing", "F1", payload, (provider, stamp), hard, life, find)


BASE = write(None, "1", "a", 1)


@pytest.mark.parametrize(
    ("local", "remote", "winner", "kind"),
    [
        ("2", "3", "remote", ConflictType.LOCAL_UPDATE_REMOTE_UPDATE),
        ("2", None, "remote", ConflictType.LOCAL_UPDATE_REMOTE_DELETE),
        (None, "3", "local", ConflictType.LOCAL_DELETE_REMOTE_UPDATE),
        (None, None, "remote", ConflictType.LOCAL_DELETE_REMOTE_DELETE),
    ],
)
def test_conflicts_are_told_apart_and_a_delete_beats_an_update(local, remote, winner, kind):
    mine, theirs = write(BASE, local, "a", 10), write(BASE, remote, "b", 11)
    union = merge_states(mine, theirs)

    assert union.conflict_type is kind
    assert union.state.dot == (theirs if winner == "remote" else mine).dot
    assert union.loser == (mine if winner == "remote" else theirs)


def test_the_same_item_made_on_two_nodes_is_a_conflict_of_inserts():
    mine, theirs = write(None, "1", "a", 10), write(None, "2", "b", 9)
    union = merge_states(mine, theirs)

    assert union.conflict_type is ConflictType.LOCAL_INSERT_REMOTE_INSERT
    assert (union.state.dot, union.loser) == (mine.dot, theirs)
    assert union.state.inserted == mine.dot  # the line that the content comes from
    assert merge_states(theirs, mine).state == union.state


@pytest.mark.parametrize(
    ("mine", "theirs", "kind"),
    [
        (
            write(None, "1", "a", 2),
            write(write(None, "2", "b", 1), "3", "b", 3),
            "LOCAL_INSERT_REMOTE_UPDATE",
        ),
        (
            write(write(None, "2", "b", 1), "3", "b", 3),
            write(None, "1", "a", 2),
            "LOCAL_UPDATE_REMOTE_INSERT",
        ),
        (
            write(None, "1", "a", 2),
            write(write(None, "2", "b", 1), None, "b", 3),
            "LOCAL_INSERT_REMOTE_DELETE",
        ),
        (
            write(write(None, "2", "b", 1), None, "b", 3),
            write(None, "1", "a", 2),
            "LOCAL_DELETE_REMOTE_INSERT",
        ),
    ],
)
def test_an_insert_may_meet_anything(mine, theirs, kind):
    assert merge_states(mine, theirs).conflict_type is ConflictType[kind]


def test_equal_timestamps_are_settled_by_the_provider_alike_on_both_sides():
    mine, theirs = write(BASE, "2", "a", 10), write(BASE, "3", "b", 10)

    assert merge_states(mine, theirs).state == merge_states(theirs, mine).state
    assert merge_states(mine, theirs).state.payload == "3"


def test_what_was_seen_is_no_conflict():
    later = write(BASE, "2", "b", 11)

    assert merge_states(BASE, later).loser is None
    assert merge_states(later, BASE).loser is None
    assert merge_states(later, BASE).state == later


def test_equal_contents_are_no_conflict():
    union = merge_states(write(BASE, "2", "a", 10), write(BASE, "2", "b", 11))

    assert union.loser is None
    assert not union.is_new_content
    assert union.state.dot == ("b", 11)


def test_a_revival_that_has_seen_the_delete_beats_it_and_every_update():
    deleted = write(BASE, None, "a", 10)
    revived = write(deleted, "4", "b", 5)  # its clock is behind
    updated = write(BASE, "9", "c", 99)

    assert (deleted.length, revived.length) == (2, 3)
    assert merge_states(deleted, revived).state.payload == "4"
    assert merge_states(updated, revived).state.payload == "4"
    assert merge_states(merge_states(updated, deleted).state, revived).state.payload == "4"


def test_a_hard_delete_beats_everything_for_ever():
    erased = write(BASE, None, "a", 10, hard=True)
    revived = write(write(BASE, None, "b", 11), "5", "b", 12)

    assert merge_states(revived, erased).state.hard
    assert merge_states(erased, revived).state.payload == ""


def test_a_write_under_an_id_that_was_in_use_already_shows():
    original = write(BASE, "2", "a", 10)
    copied = write(BASE, "3", "a", 12)  # had not seen it, and says so of nothing
    union = merge_states(original, copied)

    assert union.state.payload == "3"
    assert not union.is_impossible
    assert merge_states(write(BASE, None, "a", 10), copied).is_impossible


#: Lives of provider a: 12 and 13 both come from a copy that was made when 11 had issued 5.
BIRTHS = {11: born(nothing_known, 11, "a", 0, 0)}
BIRTHS[12] = born(BIRTHS.get, 12, "a", 11, 5)
BIRTHS[13] = born(BIRTHS.get, 13, "a", 11, 5)


def lived(before, payload, stamp, life, provider="a"):
    return write(before, payload, provider, stamp, life=life, find=BIRTHS.get)


@pytest.mark.parametrize("stamp", [6, 7], ids=["the same stamp", "a later one"])
@pytest.mark.parametrize("others", [0, 30])
def test_what_one_provider_wrote_in_two_lives_was_not_seen_although_the_clock_says_so(stamp, others):
    first = lived(None, "1", 5, 11)
    lost, since = lived(first, "2", 6, 12), lived(first, "3", stamp, 13)
    for number in range(others):
        since = lived(since, f"4{number}", stamp + 1 + number, 99, "b")
    union = merge_states(lost, since, find=BIRTHS.get)

    assert since.has_seen(lost.dot)
    assert not since.has_met(lost, BIRTHS.get)
    assert since.has_met(first, BIRTHS.get)
    assert (union.state, union.loser) == (since, lost)
    assert union.state.has_met(lost, BIRTHS.get)
    assert merge_states(union.state, lost, find=BIRTHS.get).loser is None


def test_a_later_life_has_seen_what_the_earlier_wrote_and_a_state_names_the_last_writes_only():
    state = lived(None, "1", 4, 11)
    for stamp in range(5, 60, 2):
        early, state = state, lived(state, str(stamp), stamp, 11 if stamp < 6 else 12)
        assert state.has_met(early, BIRTHS.get)
        early, state = state, lived(state, str(stamp), stamp + 1, 99, "b")
        assert state.has_met(early, BIRTHS.get)

    assert state.met == ((12, 59),)


def test_of_a_change_of_which_nobody_says_in_which_life_it_was_made_the_clock_is_believed():
    change = structs.replace(write(BASE, "2", "b", 2), met=((0, 2),))
    later = lived(change, "3", 9, 12)

    assert later.has_met(lived(None, "1", 1, 11), BIRTHS.get)
    assert later.has_met(change, BIRTHS.get)
    assert lived(change, "3", 9, 12).has_met(structs.replace(change, life=98), BIRTHS.get)


def test_a_state_is_a_value_that_no_garbage_collector_goes_through():
    state = written(None, "i", "thing", "F1", "1", ("a", 5))
    another = written(None, "i", "thing", "F1", "1", ("a", 5))

    gc.collect()

    assert state == another
    assert state != structs.replace(another, vector={"a": 5, "b": 1})
    assert state != "i"
    with pytest.raises(AttributeError, match="immutable"):
        state.payload = "2"
    assert not gc.is_tracked(state)
