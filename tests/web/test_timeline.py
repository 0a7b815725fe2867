"""The time line: where the track, its bars and the agents' pointers are drawn."""

from __future__ import annotations

import bisect
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livesync.web import schemas
from livesync.web.timeline import BARS, LEAST, Axis, Scale, summary, timeline

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0


def agent(agent_id="a", state="active", position=None, lag=0, seconds=0.0, queued=0):
    return schemas.Agent(
        id=agent_id, type_name="sqlite", name=agent_id, description="", state=state, reason="", detail="",
        position=position, lag_actions=lag, lag_seconds=seconds, dead=0, queued=queued, holder="",
        last_error="", last_run=None, interval_s=None, totals=schemas.Counts(), batch_seconds=0.0,
    )  # fmt: skip


def status(positions=(), agents=(), waiting=0, granularity=1, now=NOW):
    return schemas.Status(
        time=now, version="", granularity=granularity, site="", site_matches=True, track_id="t",
        sealed=positions[-1] if positions else -1, oldest=positions[0] if positions else None,
        newest=positions[-1] if positions else None, entries=len(set(positions)), actions=len(positions),
        waiting=waiting, runner="none", agents=list(agents), readers=[],
    )  # fmt: skip


def counting(positions):
    """As ``track.count``: how many of the positions lie in ``]begin, end]``."""
    ordered = sorted(positions)

    def count(begin, end):
        last = len(ordered) if end is None else bisect.bisect_right(ordered, end)
        return max(0, last - (0 if begin is None else bisect.bisect_right(ordered, begin)))

    return count


def drawn(positions, agents=(), scale=Scale.RECENT, **more):
    positions = sorted(int(NOW - age) for age in positions)
    return timeline(status(positions, agents, **more), counting(positions), NOW, scale)


@example(scale=Scale.RECENT, oldest=30 * DAY, quiet=1.0, place=0.0)
@given(
    scale=st.sampled_from(Scale),
    oldest=st.floats(0, 40 * 365 * DAY),
    quiet=st.floats(0, 1),
    place=st.floats(0, 1),
)
def test_place_and_time_are_one_anothers_inverse(scale, oldest, quiet, place):
    axis = Axis(scale, NOW - oldest, NOW - oldest * quiet, NOW)

    assert axis.place(axis.time(place)) == pytest.approx(place, abs=1e-3)


@given(scale=st.sampled_from(Scale), ages=st.lists(st.floats(0, 10 * 365 * DAY), min_size=2))
def test_what_is_later_stands_further_to_the_right_and_all_of_it_within_the_line(scale, ages):
    axis = Axis(scale, NOW - max(ages), NOW - min(ages), NOW)
    places = [axis.place(NOW - age) for age in sorted(ages, reverse=True)]

    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert axis.place(NOW) == 1.0


@given(scale=st.sampled_from(Scale), oldest=st.floats(0, 40 * 365 * DAY))
def test_ticks_are_apart_from_one_another_and_stand_where_their_time_does(scale, oldest):
    axis = Axis(scale, NOW - oldest, NOW, NOW)
    ticks = list(axis.ticks())
    places = [tick.at for tick in ticks]

    assert 2 <= len(ticks) <= 12
    assert ticks[0].label == "now"
    assert all(left - right >= 0.08 for left, right in pairwise(places))
    assert all(tick.title.endswith("UTC") for tick in ticks)


@given(
    ages=st.lists(st.integers(0, 400 * 86_400), max_size=50),
    scale=st.sampled_from([Scale.RECENT, Scale.ALL]),
    waiting=st.integers(0, 3),
)
def test_the_bars_of_the_whole_line_hold_every_action_once(ages, scale, waiting):
    line = drawn(ages, scale=scale, waiting=waiting)

    assert sum(bar.count for bar in line.bars) == len(ages) + waiting
    assert all(0 < bar.height <= 1 for bar in line.bars)
    assert not line.bars or max(bar.height for bar in line.bars) == 1.0


def test_bars_of_the_last_hour_leave_out_what_is_older():
    line = drawn([10, 20, 3500, 3700, 90_000], scale=Scale.HOUR)

    assert sum(bar.count for bar in line.bars) == 3


def test_the_track_is_asked_a_fixed_number_of_times_however_long_it_is():
    asked = []
    positions = range(int(NOW) - 1_000_000, int(NOW))
    count = counting(positions)

    timeline(status(positions, [agent()]), lambda begin, end: (asked.append(1), count(begin, end))[1], NOW)

    assert len(asked) <= BARS + 2


def test_an_agent_that_is_up_to_date_has_delivered_all_up_to_its_pointer():
    (lane,) = drawn([60, 5], [agent(position=int(NOW) - 5)]).lanes

    assert lane.waiting is None
    assert (lane.delivered.begin, lane.delivered.end) == (0.0, lane.pointer)
    assert lane.words == "pointer at 2027-01-15 07:59:55 UTC, up to date"


def test_what_waits_begins_at_the_pointer_and_ends_at_the_newest_entry():
    line = drawn([HOUR, 60, 30], [agent(position=int(NOW - HOUR), lag=2, seconds=60.0)])
    (lane,) = line.lanes
    newest = Axis(Scale.RECENT, NOW - HOUR, NOW - 29, NOW).place(NOW - 29)

    assert lane.waiting.begin == lane.pointer
    assert lane.waiting.end == pytest.approx(newest)
    assert lane.words.endswith("2 actions waiting, 1 min behind")


def test_what_waits_in_the_inbox_reaches_to_now():
    (lane,) = drawn([HOUR], [agent(position=int(NOW - HOUR), lag=1, seconds=1.0)], waiting=1).lanes

    assert lane.waiting.end == 1.0


@given(age=st.integers(0, 400 * 86_400), pointer=st.integers(0, 400 * 86_400), scale=st.sampled_from(Scale))
def test_a_single_action_that_waits_is_seen_whatever_the_scale(age, pointer, scale):
    (lane,) = drawn(
        [400 * DAY, age], [agent(position=int(NOW) - pointer, lag=1, seconds=age)], scale=scale
    ).lanes

    assert lane.waiting.width >= LEAST - 1e-9
    assert lane.waiting.begin >= 0
    assert lane.waiting.end <= 1.0 + 1e-9


def test_a_pointer_before_what_is_shown_stands_at_the_left_end_and_says_so():
    (lane,) = drawn([DAY * 2, 5], [agent(position=int(NOW - DAY), lag=1)], scale=Scale.HOUR).lanes

    assert (lane.pointer, lane.is_outside) == (0.0, True)


def test_an_agent_that_has_not_begun_has_no_pointer_on_the_line():
    (lane,) = drawn([5], [agent(state="new")]).lanes

    assert (lane.pointer, lane.delivered, lane.waiting, lane.words) == (None, None, None, "no pointer yet")


def test_a_pointer_before_everything_stands_at_the_left_end():
    (lane,) = drawn([5], [agent(position=None, lag=1, seconds=5.0, queued=7)]).lanes

    assert lane.pointer == 0.0
    assert lane.words == ("pointer at before everything, 1 action waiting, 5 s behind; 7 in the slow queue")


def test_after_a_quiet_time_what_was_recorded_still_takes_most_of_the_line():
    line = drawn([2 * 365 * DAY, 365 * DAY])

    assert 0.5 < line.sealed < 0.9


def test_an_empty_track_is_drawn_with_nothing_on_it():
    line = drawn([], [agent(position=None)])

    assert (line.bars, line.sealed, line.words) == ((), None, "Nothing is on the track")
    assert line.lanes[0].pointer == 0.0


def test_positions_are_times_by_their_granularity():
    positions = [int(NOW // 60) - 10, int(NOW // 60) - 2]
    reader = agent(position=positions[0], lag=1, seconds=120.0)
    line = timeline(status(positions, [reader], granularity=60), counting(positions), NOW, Scale.HOUR)

    assert line.lanes[0].pointer == pytest.approx(1 - 9 * 60 / HOUR, abs=0.01)
    assert sum(bar.count for bar in line.bars) == 2


def test_the_summary_tells_how_many_agents_are_how():
    agents = [
        agent("a"),
        agent("b", lag=3),
        agent("c", state="stopped"),
        agent("d", state="recording"),
        agent("e", state="new"),
        agent("f", state="paused", lag=1),
        agent("g"),
    ]

    assert summary(agents) == (
        "Agents: 2 up to date, 1 with changes waiting, 1 paused, 1 stopped, 1 exporting, 1 new"
    )
    assert summary([]) == "There is no agent yet"
