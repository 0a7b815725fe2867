"""How fast an agent may send, and how much of it may be refused."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import LONG_S

from livesync.delivery.pace import Pace, Refusals
from livesync.errors import TooManyRefused


class Clock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# requests a second


def test_without_a_limit_nobody_waits():
    pace = Pace(None, Clock())

    assert [pace.take_turn() for _ in range(5)] == [0.0] * 5


def test_turns_lie_apart_as_the_limit_says():
    pace = Pace(4, Clock())

    assert [pace.take_turn() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_less_than_one_request_a_second():
    clock = Clock()
    pace = Pace(0.1, clock)

    pace.take_turn()
    clock.now += 4

    assert pace.take_turn() == pytest.approx(6)


def test_time_in_which_nobody_sends_is_not_saved_up():
    clock = Clock()
    pace = Pace(2, clock)
    pace.take_turn()

    clock.now += 60

    assert [pace.take_turn() for _ in range(3)] == [0.0, 0.5, 1.0]


@given(
    st.floats(0.01, 1000),
    st.lists(st.floats(0, 10), min_size=1, max_size=30),
)
def test_no_two_requests_leave_closer_together_than_the_limit(per_second, pauses):
    clock = Clock()
    pace = Pace(per_second, clock)
    left = []

    for pause in pauses:
        clock.now += pause
        left.append(clock.now + pace.take_turn())

    for earlier, later in pairwise(left):
        assert later - earlier >= 1 / per_second - 1e-6


def test_a_hold_is_for_everybody():
    clock = Clock()
    pace = Pace(None, clock)

    pace.hold(30)
    waits = [pace.take_turn(), pace.take_turn()]
    clock.now += 30

    assert waits == [30, 30]
    assert pace.take_turn() == 0


def test_a_shorter_hold_does_not_end_a_longer_one():
    pace = Pace(None, Clock())

    pace.hold(30)
    pace.hold(1)

    assert pace.take_turn() == 30


def test_after_a_hold_requests_lie_apart_again():
    pace = Pace(2, Clock())

    pace.hold(10)

    assert [pace.take_turn() for _ in range(3)] == [10, 10.5, 11]


def test_threads_never_get_the_same_turn():
    pace = Pace(10, Clock())
    turns: list[float] = []
    together = threading.Barrier(8)

    def take() -> None:
        together.wait(LONG_S)
        turns.extend(pace.take_turn() for _ in range(25))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(turns) == pytest.approx([number / 10 for number in range(200)])


# refusals


class Naive:
    """What ``Refusals`` counts, with every record in a list."""

    def __init__(self, window: int, threshold: int) -> None:
        self.window = window
        self.threshold = threshold
        self.records: list[bool] = []

    def passed(self, count: int) -> None:
        self.records += [False] * count

    def refused(self) -> bool:
        """Tell whether it was one too many."""
        self.records.append(True)
        return sum(self.records[-self.window :]) > self.threshold


happenings = st.lists(
    st.one_of(
        st.just("refused"), st.just("a new run"), st.integers(0, 12).map(lambda count: ("passed", count))
    ),
    max_size=60,
)


@given(st.integers(1, 10), st.integers(0, 10), happenings)
def test_refusals_are_those_among_the_last_records_over_all_runs(window, threshold, story):
    naive = Naive(window, threshold)
    counted = Refusals(window, threshold)

    for what in story:
        if what == "refused":
            if naive.refused():
                with pytest.raises(TooManyRefused):
                    counted.refused("no")
            else:
                counted.refused("no")
        elif what == "a new run":
            counted = Refusals(window, threshold, counted.state())
        else:
            naive.passed(what[1])
            counted.passed(what[1])
        assert len(counted.state()) - 1 <= min(window, len(naive.records))
        assert len(counted.state()) - 1 == sum(naive.records[-window:])


def test_the_text_says_how_many_of_how_many_and_the_last_reason():
    counted = Refusals(10, 1)
    counted.passed(3)
    counted.refused("no title")

    with pytest.raises(
        TooManyRefused, match=r"2 of the last 5 records .* the last: no date; .*dead_threshold"
    ):
        counted.refused("no date")


def test_never_more_than_the_window_is_spoken_of():
    counted = Refusals(10, 1)
    counted.passed(1000)
    counted.refused("no")

    with pytest.raises(TooManyRefused, match="2 of the last 10"):
        counted.refused("no")


def test_a_threshold_of_0_lets_nothing_be_refused():
    with pytest.raises(TooManyRefused, match="1 of the last 1"):
        Refusals(5, 0).refused("no")


def test_the_state_is_bounded_by_the_window():
    counted = Refusals(5, 5)
    for _ in range(100):
        counted.refused("no")

    assert counted.state() == (100, 96, 97, 98, 99, 100)


def test_a_window_that_was_made_smaller_forgets():
    counted = Refusals(100, 100)
    for _ in range(10):
        counted.refused("no")

    assert Refusals(3, 100, counted.state()).state() == (10, 8, 9, 10)


def test_threads_count_together():
    counted = Refusals(10_000, 10_000)
    together = threading.Barrier(4)

    def count() -> None:
        together.wait(LONG_S)
        for _ in range(200):
            counted.passed(2)
            counted.refused("no")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted.state()[0] == 2400
    assert len(counted.state()) == 801
