"""Charts: from points to where they are drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync import words
from livesync.web.charts import BOX, chart, number_step, rates, thinned, time_step

points = st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1e9, allow_subnormal=False)), max_size=400).map(
    sorted
)


@given(points)
def test_every_point_is_drawn_within_the_box_and_below_the_highest_tick(found):
    made = chart("x", found, 0.0, 1000.0)
    places = [tuple(map(float, pair.split(","))) for pair in made.line.split()]

    assert bool(places) == bool(found)
    assert all(0 <= x <= BOX and -0.1 <= y <= BOX for x, y in places)
    assert made.up[-1].at == pytest.approx(1.0)
    assert 2 <= len(made.up) <= 6


def test_what_lies_before_the_chart_is_left_out():
    assert len(chart("x", [(1, 1), (5, 1), (9, 1)], 4, 10).dots) == 2


def test_a_chart_without_points_says_so():
    made = chart("Lag", [], 0, 10)

    assert (made.line, made.area, made.latest, made.words) == ("", "", "", "Lag: nothing yet")


def test_a_chart_is_told_in_words():
    made = chart("Lag", [(1, 30), (2, 90), (3, 60)], 0, 10, words.duration, is_time=True)

    assert made.words == "Lag: 1 min at the end, between 30 s and 1 min 30 s over 3 points"
    assert [mark.label for mark in made.up] == ["0 s", "30 s", "1 min", "1 min 30 s"]


@given(st.floats(1e-6, 1e12))
def test_a_few_round_steps_reach_the_highest_value(most):
    assert 1 <= most / number_step(most) <= 3.001


@given(st.floats(1.01, 4 * 30 * 86_400))
def test_steps_of_time_are_round_in_their_units(most):
    step = time_step(most)

    assert most / step <= 4
    assert step in (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 14_400, 86_400, 604_800, 2_592_000)


def test_many_points_are_thinned_to_their_peaks():
    found = [(float(time), 1.0) for time in range(10_000)]
    found[4321] = (4321.0, 99.0)

    kept = thinned(found)

    assert len(kept) <= 240
    assert (4321.0, 99.0) in kept


def test_a_rate_is_how_fast_a_total_grew():
    assert rates([(0, 10), (10, 30), (20, 30)]) == [(10, 2.0), (20, 0.0)]


def test_no_rate_is_told_where_a_total_began_anew_or_nobody_looked():
    assert rates([(0, 50), (10, 5), (20, 25), (500, 26)], longest_s=100) == [(20, 2.0)]


@pytest.mark.parametrize(("span", "label"), [(600, "00:00:00"), (7200, "00:00"), (10 * 86_400, "1970-01-01")])
def test_times_below_a_chart_are_as_fine_as_it_is_long(span, label):
    assert chart("x", [], 0, span).across[0].label == label
