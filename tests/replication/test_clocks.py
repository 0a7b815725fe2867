"""Vector clocks: the laws they keep, and their form."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.replication import VectorClock, VectorClockItem, concurrent, descends, merge
from livesync.replication.metadata.clocks import MINIMUM, following, moment_of, stamp_of, stamp_of_epoch

T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)


def at(seconds, provider="a"):
    return VectorClockItem(provider, T0 + timedelta(seconds=seconds))


MOMENTS = st.one_of(st.just(MINIMUM), st.integers(0, 5).map(lambda seconds: T0 + timedelta(seconds=seconds)))
CLOCKS = st.dictionaries(st.sampled_from("abc"), MOMENTS).map(
    lambda items: VectorClock(*(VectorClockItem(provider, moment) for provider, moment in items.items()))
)


@given(CLOCKS, CLOCKS)
def test_merge_commutes(one, other):
    assert merge(one, other) == merge(other, one)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_merge_associates(one, two, three):
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) == merge(one, two, three)


@given(CLOCKS)
def test_merge_with_itself_changes_nothing(clock):
    assert merge(clock, clock) == clock == merge(clock)


@given(CLOCKS, CLOCKS)
def test_a_merge_descends_from_both_and_from_nothing_more(one, other):
    both = merge(one, other)

    assert descends(both, one)
    assert descends(both, other)
    assert {item.timestamp for item in both} <= {item.timestamp for clock in (one, other) for item in clock}


@given(CLOCKS, CLOCKS)
def test_of_two_clocks_one_descends_or_they_are_equal_or_concurrent(one, other):
    assert (descends(one, other) and descends(other, one)) == (one == other)
    assert concurrent(one, other) == (not descends(one, other) and not descends(other, one))
    assert concurrent(one, other) == concurrent(other, one)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_descending_is_transitive(one, two, three):
    assert not (descends(one, two) and descends(two, three)) or descends(one, three)


@given(CLOCKS, st.sampled_from("abc"), MOMENTS)
def test_an_update_only_moves_forward(clock, provider, moment):
    before = clock.get_vector_clock_item(provider)
    clock.update(VectorClockItem(provider, moment))

    assert clock.get_vector_clock_item(provider).timestamp == max(before.timestamp, moment)


@given(st.integers(0, 10**17), st.integers(0, 10**17))
def test_timestamps_of_one_provider_strictly_increase_whatever_the_clock_says(newest, now):
    assert following(newest, now) > newest
    assert following(newest, now) >= now


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_stamps_and_moments_are_the_same(moment):
    assert moment_of(stamp_of(moment)) == moment


def test_epoch_seconds_are_stamps_too():
    assert moment_of(stamp_of_epoch(1_700_000_000.25)) == datetime.fromtimestamp(
        1_700_000_000.25, timezone.utc
    )


def test_a_missing_provider_is_at_the_minimum():
    clock = VectorClock(at(1))
    item = clock.get_vector_clock_item("nobody")

    assert item == VectorClockItem("nobody", datetime.min.replace(tzinfo=timezone.utc))
    assert item.is_empty()
    assert not at(1).is_empty()
    assert [found.provider_id for found in clock] == ["a"]


def test_an_item_at_the_minimum_is_as_good_as_none():
    assert VectorClock(VectorClockItem("a", MINIMUM)) == VectorClock()
    assert VectorClock.create_empty(["a", "b"]) == VectorClock()
    assert VectorClock(at(1)) != VectorClock()
    assert VectorClock() != 1


def test_iteration_is_by_provider():
    clock = VectorClock(at(1, "b"), at(2, "a"))

    assert [item.provider_id for item in clock] == ["a", "b"]
    assert len(clock) == 2
    assert repr(clock).startswith("<VectorClock a: 2026-01-01T00:00:02")


def test_two_items_of_one_provider_are_refused():
    with pytest.raises(ValueError, match="two items"):
        VectorClock(at(1), at(2))


def test_a_clock_is_made_of_items():
    with pytest.raises(TypeError):
        VectorClock(T0)


def test_a_naive_timestamp_is_refused():
    with pytest.raises(ValueError, match="naive"):
        VectorClockItem("a", datetime(2026, 1, 1))


@pytest.mark.parametrize("provider", [1, None])
def test_a_provider_id_is_text(provider):
    with pytest.raises(TypeError):
        VectorClockItem(provider, T0)


def test_a_provider_id_is_not_empty_and_a_timestamp_a_datetime():
    with pytest.raises(ValueError, match="not empty"):
        VectorClockItem("", T0)
    with pytest.raises(TypeError):
        VectorClockItem("a", 1)


def test_items_of_one_provider_are_ordered_by_time():
    assert at(1) < at(2) <= at(2)
    assert at(3) > at(2) >= at(2)
    assert max(at(1), at(3), at(2)) == at(3)


def test_items_of_two_providers_have_no_order():
    with pytest.raises(TypeError, match="no order"):
        at(1, "a") < at(2, "b")  # noqa: B015
    with pytest.raises(TypeError):
        at(1) < 2  # noqa: B015


def test_a_time_of_another_zone_is_kept_in_utc():
    item = VectorClockItem("a", datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))

    assert item == at(0)
    assert item.timestamp.utcoffset() == timedelta(0)


def test_a_year_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no such year"):
        moment_of(10**19)
