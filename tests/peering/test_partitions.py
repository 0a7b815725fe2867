"""Partitions: what lies within what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.peering.partitions import (
    check_partition,
    contained_in_any,
    contains,
    key_ranges,
    lineage,
    minimal,
)

LEVELS = st.text("aF1_%'", min_size=1, max_size=3)
PARTITIONS = st.lists(LEVELS, max_size=4).map(":".join)


@pytest.mark.parametrize(
    ("prefix", "partition", "expected"),
    [
        ("F1", "F1", True),
        ("F1", "F1:U1", True),
        ("F1", "F10", False),
        ("F1:U1", "F1", False),
        ("", "F1", True),
        ("", "", True),
        ("F1", "", False),
        ("a_b", "axb:1", False),
        ("a_b", "A_B:1", False),
    ],
)
def test_containment_ends_at_a_colon(prefix, partition, expected):
    assert contains(prefix, partition) is expected


@given(PARTITIONS, PARTITIONS)
def test_what_contains_a_partition_is_its_lineage(prefix, partition):
    assert contains(prefix, partition) == (prefix in set(lineage(partition)))


@given(PARTITIONS, PARTITIONS)
def test_key_ranges_hold_just_what_a_prefix_contains(prefix, partition):
    inside = any(first <= partition and (end is None or partition < end) for first, end in key_ranges(prefix))

    assert inside == contains(prefix, partition)


@given(st.lists(PARTITIONS, max_size=6), PARTITIONS)
def test_minimal_prefixes_contain_the_same(prefixes, partition):
    kept = minimal(prefixes)

    assert contained_in_any(kept, partition) == contained_in_any(prefixes, partition)
    assert not any(contains(one, other) for one in kept for other in kept if one != other)


@pytest.mark.parametrize("wrong", ["a::b", ":a", "a:", "a b", "a\nb", "a\x00", "x" * 513])
def test_a_partition_of_a_wrong_form_is_refused(wrong):
    with pytest.raises(ValueError, match="partition"):
        check_partition(wrong)


def test_a_partition_is_text():
    with pytest.raises(TypeError):
        check_partition(1)
