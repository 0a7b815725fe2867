"""Queries: what they select, and that they are subscriptions and never claims."""

import json

import pytest

from livesync.replication import (
    Comparator,
    Comparison,
    Connector,
    Filter,
    Query,
    SortOrder,
    SyncSessionStatus,
)
from livesync.replication.metadata.query import select
from livesync.replication.metadata.states import written
from livesync.replication.sessions import queries


def where(name, comparator, value):
    return Filter((Comparison(name, comparator, value),))


def items(**payloads):
    return [
        written(None, item_id, "thing", "F1", json.dumps(data), ("a", number + 1))
        for number, (item_id, data) in enumerate(payloads.items())
    ]


STATES = items(
    a={"n": 1, "name": "x"},
    b={"n": 2, "name": "y", "deep": {"er": 5}},
    c={"n": 3.5},
    d={"n": None, "name": "x"},
    e={"n": True, "name": "1"},
)


def selected(found=None, **options):
    return "".join(state.item_id for state in select(Query("thing", found, **options), STATES))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "abcde"),
        (where("n", "==", 1), "a"),
        (where("n", "!=", 1), "bcde"),
        (where("n", "<", 2), "a"),
        (where("n", "<=", 2), "ab"),
        (where("n", ">", 2), "c"),
        (where("n", ">=", 2), "bc"),
        (where("name", "in", ["x", "1"]), "ade"),
        (where("name", "<", "y"), "ade"),
        (where("deep.er", Comparator.EQUALS, 5), "b"),
        (where("missing", "==", None), "abcde"),
        (where("n", "==", 1) | where("n", "==", 2), "ab"),
        (where("n", ">", 1) & where("name", "==", "y"), "b"),
        (where("n", "==", 1) | where("n", "==", 2) & where("name", "==", "x"), "a"),
        ((where("n", "==", 1) | where("n", "==", 2)) & where("name", "==", "y"), "b"),
        (Filter((), Connector.OR), ""),
        (Filter(), "abcde"),
    ],
)
def test_a_filter_is_a_tree_of_comparisons(found, expected):
    assert selected(found) == expected


def test_order_limit_and_offset():
    assert selected(ordering=[SortOrder("n", descending=True)]) == "cbaed"
    assert selected(ordering=[SortOrder("name"), SortOrder("n", descending=True)]) == "ceadb"
    assert selected(ordering=[SortOrder("n")], limit=2, offset=1) == "ea"


def test_a_limit_needs_an_order():
    with pytest.raises(ValueError, match="ordering"):
        Query("thing", limit=1)
    with pytest.raises(ValueError, match="negative"):
        Query("thing", ordering=[SortOrder("n")], limit=-1)
    with pytest.raises(ValueError, match="in"):
        Comparison("n", "in", 5)
    with pytest.raises(ValueError, match="Comparator"):
        Comparison("n", "~", 5)


def test_ids_of_queries_are_the_same_in_every_process_and_tell_fields_apart():
    one, other = Query("t", where("name", "==", "x")), Query("t", where("version", "==", "x"))

    assert one.id != other.id
    assert one.id == "a7f08136364f5b099084d5b839438ee3"
    assert Comparison("name", "==", "x") != Comparison("version", "==", "x")


def test_other_models_and_what_is_deleted_are_not_selected():
    deleted = written(STATES[0], "a", "thing", "F1", None, ("a", 9))

    assert select(Query("thing"), [deleted]) == []
    assert select(Query("other"), STATES) == []


# -- as subscriptions --------------------------------------------------------------------------------

SMALL = Query("thing", where("n", "<", 10))


@pytest.fixture
def ab(new_provider, tools):
    a, b = new_provider("a", max_num=2), new_provider("b")
    for number in (1, 2, 3, 50):
        tools.put(a, f"i{number}", json.dumps({"n": number}))
    return a, b


def held(provider):
    return sorted(state.item_id for state in provider.items())


def changes(session):
    return sorted(change.serialization_result.item_id for change in session.item_changes)


def test_a_query_sends_what_it_selects_and_moves_no_claim(ab, tools):
    """A clock moved by a query makes full syncs skip the rest, for ever."""
    a, b = ab
    there, back = tools.sync(a, b, query=SMALL)

    assert held(b) == ["i1", "i2", "i3"]
    assert (there.status, there.query_id) == (SyncSessionStatus.FINISHED, SMALL.id)
    assert back.status is SyncSessionStatus.FINISHED
    assert changes(there) == ["i1", "i2", "i3"]
    assert b.get_claims() == {}
    tools.sync(a, b)
    assert held(b) == held(a)


def test_it_looks_at_the_items_of_its_model_only(ab, tools, monkeypatch):
    a, b = ab
    for number in range(20):
        tools.put(a, f"other{number}", json.dumps({"n": 1}), entity="other")
    looked_at = []
    monkeypatch.setattr(
        queries,
        "select",
        lambda query, states: looked_at.append(list(states)) or select(query, looked_at[-1]),
    )

    there, _ = tools.sync(a, b, query=SMALL)

    assert changes(there) == ["i1", "i2", "i3"]
    assert [sorted(state.item_id for state in states) for states in looked_at] == [
        ["i1", "i2", "i3", "i50"],
        ["i1", "i2", "i3"],
    ]


def test_it_remembers_what_it_has_delivered(ab, tools):
    a, b = ab
    tools.sync(a, b, query=SMALL)
    assert changes(tools.sync(a, b, query=SMALL)[0]) == []
    tools.put(a, "i1", json.dumps({"n": 4}))

    assert changes(tools.sync(a, b, query=SMALL)[0]) == ["i1"]
    assert tools.contents(b)["i1"] == '{"n": 4}'


def test_what_leaves_it_is_removed_there_and_what_enters_is_sent(ab, tools):
    a, b = ab
    tools.sync(a, b, query=SMALL)
    tools.put(a, "i1", json.dumps({"n": 99}))
    tools.put(a, "i50", json.dumps({"n": 5}))
    tools.sync(a, b, query=SMALL)

    assert held(b) == ["i2", "i3", "i50"]
    tools.put(a, "i1", json.dumps({"n": 1}))
    tools.sync(a, b, query=SMALL)
    assert held(b) == ["i1", "i2", "i3", "i50"]


def test_a_deletion_of_what_it_had_delivered_is_sent(ab, tools):
    a, b = ab
    tools.sync(a, b, query=SMALL)
    tools.remove(a, "i1")
    tools.sync(a, b, query=SMALL)

    assert held(b) == ["i2", "i3"]


def test_what_is_there_for_a_partition_too_is_not_removed(ab, tools):
    a, b = ab
    tools.sync(a, b, query=SMALL)
    tools.sync(a, b)
    tools.put(a, "i1", json.dumps({"n": 99}))
    tools.sync(a, b, query=SMALL)

    assert held(b) == ["i1", "i2", "i3", "i50"]
    assert tools.contents(b)["i1"] == '{"n": 99}'


def test_an_edit_of_the_subscriber_comes_back_and_is_never_lost(ab, new_provider, tools):
    a, b = ab
    tools.sync(a, b, query=SMALL)
    tools.put(b, "i1", json.dumps({"n": 77}))  # leaves the query, at the subscriber
    tools.sync(a, b, query=SMALL)
    tools.sync(a, b, query=SMALL)

    assert tools.contents(a)["i1"] == '{"n": 77}'
    assert held(b) == ["i2", "i3"]
    c = new_provider("c")
    tools.sync(b, c)
    tools.sync(a, c)
    assert tools.contents(c) == tools.contents(a)


def test_several_queries_keep_their_memories_apart(ab, tools):
    a, b = ab
    large = Query("thing", where("n", ">=", 3))
    tools.sync(a, b, query=SMALL)
    there, _ = tools.sync(a, b, query=large)

    assert changes(there) == ["i50"]
    assert held(b) == ["i1", "i2", "i3", "i50"]
