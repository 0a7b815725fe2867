"""Three-way merges: the table of cases, strategies, and what holds for any values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync.versions.diffs.threeway import ABSENT, Conflict, ItemOf, Kind, Strategies, merge
from livesync.versions.values import CODEC

from .typed import documents, values

DOC = ("field",)


def merged(base, ours, theirs, strategy=None):
    strategies = None if strategy is None else Strategies({(): strategy})
    return merge(base, ours, theirs, CODEC, strategies)


def same(one, other):
    return one is other or (ABSENT not in (one, other) and CODEC.equal(one, other))


CLEAN = {
    "one side changed": ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
    "other keys": ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
    "the same change": ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
    "other keys of a nested dict": (
        {"n": {"a": 1, "b": 1}},
        {"n": {"a": 2, "b": 1}},
        {"n": {"a": 1, "b": 2}},
        {"n": {"a": 2, "b": 2}},
    ),
    "a key removed, untouched": ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1}, {"a": 1}),
    "a key removed on both": ({"a": 1, "b": 1}, {"a": 1}, {"a": 1}, {"a": 1}),
    "a key added, equal": ({}, {"a": 1}, {"a": 1}, {"a": 1}),
    "a key added, dicts": ({}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
    "1 becomes True": ({"a": 1}, {"a": True}, {"a": 1}, {"a": True}),
    "both append": ([1], [1, 2], [1, 3], [1, 2, 3]),
    "insert in front, delete at the end": ([1, 2, 3], [0, 1, 2, 3], [1, 2], [0, 1, 2]),
    "items with ids, other fields": (
        [{"id": 1, "x": 1, "y": 1}, {"id": 2}],
        [{"id": 1, "x": 2, "y": 1}, {"id": 2}],
        [{"id": 1, "x": 1, "y": 2}, {"id": 2}],
        [{"id": 1, "x": 2, "y": 2}, {"id": 2}],
    ),
    "items with ids, moved and edited": (
        [{"id": 1, "x": 1}, {"id": 2}, {"id": 3}],
        [{"id": 2}, {"id": 3}, {"id": 1, "x": 1}],
        [{"id": 1, "x": 2}, {"id": 2}, {"id": 3}],
        [{"id": 2}, {"id": 3}, {"id": 1, "x": 2}],
    ),
    "sets": ({1, 2}, {2, 3}, {1, 2, 4}, {2, 3, 4}),
    "other lines": ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n"),
    "a value edited, keys reordered": (
        {"a": 1, "b": 2},
        {"a": 3, "b": 2},
        {"b": 2, "a": 1},
        {"b": 2, "a": 3},
    ),
    "deleted on both": ({"a": 1}, ABSENT, ABSENT, ABSENT),
    "added on both, other keys": (ABSENT, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    "both append the same": ([1], [1, 2], [1, 2], [1, 2]),
}

CONFLICTS = {
    "one scalar": ({"a": 1}, {"a": 2}, {"a": 3}, ("a",), Kind.EDIT_EDIT),
    "a key removed, edited": ({"a": 1}, {}, {"a": 2}, ("a",), Kind.DELETE_EDIT),
    "a key added, scalars differ": ({}, {"a": 1}, {"a": 2}, ("a",), Kind.ADD_ADD),
    "1 becomes True, and 1.0": ({"a": 1}, {"a": True}, {"a": 1.0}, ("a",), Kind.TYPE),
    "the same item edited": ([1, 2, 3], [1, 4, 3], [1, 5, 3], (1,), Kind.EDIT_EDIT),
    "items with ids, deleted and edited": (
        [{"id": 1, "x": 1}, {"id": 2}],
        [{"id": 2}],
        [{"id": 1, "x": 2}, {"id": 2}],
        (ItemOf("id", 1),),
        Kind.DELETE_EDIT,
    ),
    "the same line": ("a\nb\n", "A\nb\n", "x\nb\n", (), Kind.EDIT_EDIT),
    "a dict edited, and made a list": ({"a": {"x": 1}}, {"a": {"x": 2}}, {"a": [1]}, ("a",), Kind.TYPE),
    "a document deleted, edited": ({"a": 1}, ABSENT, {"a": 2}, (), Kind.DELETE_EDIT),
}


@pytest.mark.parametrize(("base", "ours", "theirs", "expected"), CLEAN.values(), ids=CLEAN)
def test_what_does_not_contradict_is_merged(base, ours, theirs, expected):
    result = merged(base, ours, theirs)

    assert result.conflicts == ()
    assert same(result.value, expected)


@pytest.mark.parametrize(("base", "ours", "theirs", "path", "kind"), CONFLICTS.values(), ids=CONFLICTS)
def test_what_contradicts_is_a_conflict_that_names_its_place(base, ours, theirs, path, kind):
    result = merged(base, ours, theirs)

    assert [(conflict.path, conflict.kind) for conflict in result.conflicts] == [(path, kind)]
    assert same(result.value, ours)


def test_a_conflict_tells_all_three_values_and_reads_well():
    (conflict,) = merged(
        {"n": [{"id": 7, "x": 1}]}, {"n": [{"id": 7, "x": 2}]}, {"n": [{"id": 7, "x": 3}]}
    ).conflicts

    assert conflict == Conflict(("n", ItemOf("id", 7), "x"), Kind.EDIT_EDIT, 1, 2, 3)
    assert str(conflict) == "edit/edit at n[id=7].x"


@pytest.mark.parametrize(
    ("strategy", "base", "ours", "theirs", "expected"),
    [
        ("theirs", 1, 2, 3, 3),
        ("ours", 1, 2, 3, 2),
        (lambda o, a, b: a + b - o, 10, 12, 13, 15),
        ("list:set", ["x"], ["x", "y"], ["x", "y", "z"], ["x", "y", "z"]),
        ("list:set", [1, 2], [1], [2, 3], [3]),
        (
            "list:diff3",
            [{"id": 1}],
            [{"id": 1}, {"id": 2}],
            [{"id": 1}, {"id": 3}],
            [{"id": 1}, {"id": 2}, {"id": 3}],
        ),
        ("text", "a", "a", "b", "b"),
    ],
)
def test_a_strategy_decides_where_there_is_one(strategy, base, ours, theirs, expected):
    result = merged(base, ours, theirs, strategy)

    assert result.conflicts == ()
    assert same(result.value, expected)


@pytest.mark.parametrize(
    ("strategy", "base", "ours", "theirs"),
    [("list:whole", [1], [1, 2], [1, 3]), ("list:ids", [1], [1, 2], [1, 3]), ("text", "a", "b", "c")],
)
def test_a_strategy_may_make_a_conflict(strategy, base, ours, theirs):
    result = merged(base, ours, theirs, strategy)

    assert [conflict.kind for conflict in result.conflicts] == [Kind.EDIT_EDIT]
    assert same(result.value, ours)


def test_a_star_stands_for_any_one_step_and_exact_paths_go_first():
    strategies = Strategies({("*", "n"): "theirs", ("keep", "n"): "ours"})
    base, ours, theirs = ({key: {"n": n} for key in ("keep", "other")} for n in (1, 2, 3))

    assert merge(base, ours, theirs, CODEC, strategies).value == {"keep": {"n": 2}, "other": {"n": 3}}


def test_an_unknown_strategy_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'list:both'.*list:diff3"):
        Strategies({("a",): "list:both"})


def test_members_that_only_look_equal_are_a_conflict():
    assert merged({2}, {2, 1}, {2, True}).conflicts


def test_a_conflict_inside_a_list_leaves_no_half_merged_list():
    result = merged([1, 2, 3], [4, 5, 3, 6], [7, 3], None)

    assert [conflict.path for conflict in result.conflicts] == [()]
    assert result.value == [4, 5, 3, 6]


def test_a_key_that_is_new_there_comes_after_its_left_neighbour_there():
    base = {"a": 1, "b": 2, "c": 3}
    theirs = {"a": 1, "new": 0, "b": 2, "c": 3}

    assert list(merged(base, {**base, "own": 1}, theirs).value) == ["a", "new", "b", "c", "own"]


@settings(max_examples=50)
@given(values, values)
def test_one_side_alone_goes_through_exactly(base, changed):
    for ours, theirs in ((base, changed), (changed, base)):
        result = merged(base, ours, theirs)
        assert result.conflicts == ()
        assert same(result.value, changed)


@settings(max_examples=50)
@given(values, values)
def test_the_same_change_on_both_sides_is_no_conflict(base, changed):
    result = merged(base, changed, changed)

    assert result.conflicts == ()
    assert same(result.value, changed)


@settings(max_examples=40)
@given(documents, documents, documents)
def test_whether_there_is_a_conflict_does_not_depend_on_which_side_is_ours(base, ours, theirs):
    one, other = merged(base, ours, theirs), merged(base, theirs, ours)

    assert bool(one.conflicts) == bool(other.conflicts)
    assert sorted(conflict.kind.value for conflict in one.conflicts) == sorted(
        conflict.kind.value for conflict in other.conflicts
    )


@settings(max_examples=40)
@given(documents, documents, documents)
def test_a_merge_changes_none_of_its_sides_and_can_be_kept(base, ours, theirs):
    before = [CODEC.encode(side) for side in (base, ours, theirs)]

    result = merged(base, ours, theirs)

    assert [CODEC.encode(side) for side in (base, ours, theirs)] == before
    CODEC.encode(result.value)


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_a_merged_list_holds_nothing_that_no_side_had(base, ours, theirs):
    result = merged(base, ours, theirs)

    assert set(result.value) <= {*base, *ours, *theirs}
