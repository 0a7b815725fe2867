"""Claims: what covers what, what is pinned, what is to be sent."""

from hypothesis import given
from hypothesis import strategies as st

from livesync.peering.partitions import contains
from livesync.replication.metadata.claims import (
    Covers,
    Range,
    absorbed,
    cover,
    is_covered,
    newest_of,
    pinned,
    ranges,
)

PREFIXES = ("", "F1", "F1:U1", "F1:U1:x", "F10", "F2")
CLAIMS = st.dictionaries(st.sampled_from(PREFIXES), st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)))


@given(CLAIMS, CLAIMS, st.sampled_from(PREFIXES))
def test_absorbing_covers_what_either_covers_and_no_more(one, other, prefix):
    both = absorbed(one, other)
    expected = cover(one, prefix)
    for provider, stamp in cover(other, prefix).items():
        expected[provider] = max(stamp, expected.get(provider, 0))

    assert cover(both, prefix) == expected


@given(CLAIMS, CLAIMS)
def test_absorbing_is_commutative_and_repeatable(one, other):
    assert absorbed(one, other) == absorbed(other, one)
    assert absorbed(absorbed(one, other), other) == absorbed(one, other)


@given(CLAIMS, st.sampled_from(PREFIXES), st.sampled_from(PREFIXES))
def test_what_is_pinned_covers_as_much_within_the_filter_as_all_claims(claims, prefix, partition):
    if contains(prefix, partition):
        assert cover(pinned(claims, [prefix]), partition) == cover(claims, partition)


@given(CLAIMS, CLAIMS, st.sampled_from(PREFIXES))
def test_who_has_absorbed_what_was_pinned_is_sent_nothing_more(sender, receiver, prefix):
    theirs = pinned(sender, [prefix])

    assert ranges(theirs, absorbed(receiver, theirs)) == []


def test_a_narrow_claim_says_nothing_of_the_rest():
    claims = {"F1": {"a": 5}}

    assert cover(claims, "F1:U1") == {"a": 5}
    assert cover(claims, "F10") == cover(claims, "") == {}
    assert is_covered(claims, "F1:U1", {"a": 5})
    assert not is_covered(claims, "F1:U1", {"a": 6})


def test_a_node_that_holds_a_part_passes_it_on_in_a_wider_session():
    theirs = pinned({"F1:U1": {"a": 5}}, [""])

    assert ranges(theirs, {}) == [Range("F1:U1", "a")]
    assert ranges(theirs, {"F1": {"a": 3}}) == [Range("F1:U1", "a")]
    assert ranges(theirs, {"": {"a": 5}}) == []


def test_a_partition_that_comes_as_a_whole_has_a_range_for_every_provider():
    assert ranges({"": {"a": 5, "b": 2}}, {"": {"a": 5, "b": 2}}, ["F1"]) == [
        Range("F1", "a", whole=True),
        Range("F1", "b", whole=True),
    ]


def test_a_range_holds_what_lies_under_it_and_is_newer_than_what_is_covered_there():
    found, covers = Range("F1", "a"), Covers({"F1": {"a": 3}, "F1:U1": {"a": 5}})

    assert found.holds(covers, "F1", {"a": 4})
    assert not found.holds(covers, "F1", {"a": 3})
    assert not found.holds(covers, "F1:U1", {"a": 4})
    assert found.holds(covers, "F1:U1", {"a": 6})
    assert not found.holds(covers, "F10", {"a": 4})
    assert Range("F1", "a", whole=True).holds(covers, "F1", {"a": 1})
    assert not Range("F1", "a", whole=True).holds(covers, "F1:U1", {"a": 9})


def test_the_newest_stamp_of_a_provider_is_found_under_any_prefix():
    assert newest_of({"": {"a": 1}, "F1": {"a": 4, "b": 9}}, "a") == 4
    assert newest_of({}, "a") == 0
