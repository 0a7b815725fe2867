"""Filters and scopes: of which partitions a certificate lets its holder read and write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.trust import FULL, OWN, USER

from livesync.peering.partitions import contained_in_any
from livesync.peering.scopes import Filter, Scope, ScopeDefinition

LEVELS = st.text("aF1", min_size=1, max_size=2)
PARTITIONS = st.lists(LEVELS, max_size=3).map(":".join)
FILTERS = st.lists(PARTITIONS, max_size=5).map(Filter.of)


def test_a_filter_is_read_from_prefixes_in_lines():
    found = Filter("${d}:ro\n${d}:user:${u}\n", {"d": "F1", "u": "U1"})

    assert found.prefixes == ("F1:ro", "F1:user:U1")
    assert found.contains_partition("F1:user:U1:log")
    assert not found.contains_partition("F1:user:U10")
    assert str(found) == "F1:ro\nF1:user:U1"


def test_an_empty_filter_contains_nothing_and_a_colon_stands_for_everything():
    nothing, everything = Filter(""), Filter(":")

    assert not nothing
    assert not nothing.contains_partition("")
    assert not nothing.contains_partition("F1")
    assert everything.contains_partition("")
    assert everything.contains_partition("F1")
    assert str(everything) == ":"
    assert nothing.is_subset_of(everything)
    assert not everything.is_subset_of(Filter("F1"))


@given(FILTERS, FILTERS, PARTITIONS)
def test_filters_are_sets_of_partitions(one, other, partition):
    in_one, in_other = one.contains_partition(partition), other.contains_partition(partition)

    assert in_one == contained_in_any(one.prefixes, partition)
    assert (one + other).contains_partition(partition) == (in_one or in_other)
    assert (one & other).contains_partition(partition) == (in_one and in_other)
    if one.is_subset_of(other):
        assert in_other or not in_one


@given(FILTERS, FILTERS)
def test_what_is_in_both_is_a_subset_of_either(one, other):
    assert (one & other).is_subset_of(one)
    assert (one & other).is_subset_of(other)
    assert one.is_subset_of(one + other)
    assert one.is_subset_of(other) == (one & other == one)


@given(FILTERS)
def test_a_filter_is_read_back_from_its_text(found):
    assert Filter(str(found)) == found
    assert hash(Filter(str(found))) == hash(found)


@pytest.mark.parametrize("value", ["U1\nF2", "U1 F2", "U1:F2", "", "\u2028", "x" * 129, "U1\x00"])
def test_a_value_never_brings_in_another_prefix(value):
    with pytest.raises(ValueError, match="user_id"):
        USER.get_scope({"dataset_id": "F1", "user_id": value})
    with pytest.raises(ValueError, match="user_id"):
        Filter("F1:${user_id}", {"user_id": value})


def test_a_value_is_not_read_as_a_template():
    scope = USER.get_scope({"dataset_id": "F1", "user_id": "${dataset_id}"})

    assert scope.write_filter.prefixes == ("F1:anonymous", "F1:user-rw:${dataset_id}")


def test_a_scope_reads_and_writes_what_its_definition_says():
    scope = USER.get_scope({"dataset_id": "F1", "user_id": "U1"})

    assert scope.read_filter == Filter("F1:allusers-ro F1:user-ro:U1 F1:user-rw:U1")
    assert scope.write_filter == Filter("F1:anonymous F1:user-rw:U1")
    assert scope.is_subset_of(FULL.get_scope({"dataset_id": "F1"}))
    assert not scope.is_subset_of(FULL.get_scope({"dataset_id": "F2"}))
    assert not FULL.get_scope({"dataset_id": "F1"}).is_subset_of(scope)
    assert USER.get_description({"user_id": "U1"}) == "What user U1 of facility ${dataset_id} needs."


def test_reading_more_is_no_subset_even_if_writing_is():
    reader = ScopeDefinition("reader", "p", read_filter_template="F1")
    writer = ScopeDefinition("writer", "p", write_filter_template="F1")

    assert not Scope(reader, {}).is_subset_of(Scope(writer, {}))
    assert not Scope(writer, {}).is_subset_of(Scope(reader, {}))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "needs a value for dataset_id"),
        ({"dataset_id": "F1", "user_id": "U1"}, "has no parameter user_id"),
        ({"dataset_id": "F1", "$": "U1"}, "has no parameter"),
    ],
)
def test_parameters_are_just_those_of_the_definition(params, message):
    with pytest.raises(ValueError, match=message):
        FULL.get_scope(params)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": "a b"}, "no id"),
        ({"profile": ""}, "no name of a profile"),
        ({"version": 0}, "at least 1"),
        ({"read_filter_template": "a$"}, "no template"),
        ({"read_filter_template": "a::b"}, "one of its levels is empty"),
        ({"read_filter_template": "x" * 1001}, "characters"),
        ({"primary_scope_param_key": "dataset_id"}, "primary"),
    ],
)
def test_a_definition_of_a_wrong_form_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ScopeDefinition(**{"id": "x", "profile": "p", **values})


def test_a_definition_knows_its_parameters():
    assert USER.parameters == {"dataset_id", "user_id"}
    assert OWN.parameters == {"dataset_id"}
