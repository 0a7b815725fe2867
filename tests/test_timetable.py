"""When something is due: intervals, cron expressions, and the wait after failures."""

import datetime
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync.errors import UsageError
from livesync.timetable import (
    BACKOFF_CAP_S,
    BACKOFF_S,
    Schedule,
    backoff_s,
    check_cron,
    check_zone,
    due_agents,
    next_time,
    note_failure,
    note_success,
    set_schedule,
)
from livesync.track.stored import StoredTask

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def at(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def test_a_cron_expression_comes_at_its_minute():
    assert next_time("*/15 * * * *", "", at("2026-03-01T10:14:59+00:00")) == at("2026-03-01T10:15:00+00:00")
    assert next_time("*/15 * * * *", "", at("2026-03-01T10:15:00+00:00")) == at("2026-03-01T10:30:00+00:00")


def test_sunday_is_0_as_cron_has_it():
    assert next_time("0 3 * * 0", "", at("2026-03-02T00:00:00+00:00")) == at("2026-03-08T03:00:00+00:00")


def test_a_zone_says_whose_clock_counts():
    assert next_time("0 3 * * *", "Europe/Rome", at("2026-01-10T00:00:00+00:00")) == at(
        "2026-01-10T02:00+00:00"
    )
    assert next_time("0 3 * * *", "Europe/Rome", at("2026-07-10T00:00:00+00:00")) == at(
        "2026-07-10T01:00+00:00"
    )


def test_an_hour_that_comes_twice_counts_once():
    # clocks in Rome are turned back from 3:00 to 2:00 on 25 October 2026
    first = next_time("30 2 * * *", "Europe/Rome", at("2026-10-24T12:00:00+00:00"))

    assert next_time("30 2 * * *", "Europe/Rome", first) - first >= 24 * 3600


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("every day", "five fields"),
        ("* * * *", "five fields"),
        ("0 0 * * * *", "five fields"),
        ("61 * * * *", "no cron expression"),
        ("* * * * fri-", "no cron expression"),
        ("0 0 31 2 *", "day-of-month"),
        ("", "five fields"),
    ],
)
def test_what_is_no_expression_is_refused_with_a_reason(expression, text):
    with pytest.raises(UsageError, match=text):
        check_cron(expression)


def test_an_expression_is_kept_in_its_usual_form():
    assert check_cron("  */15\t* *  * 1-5 ") == "*/15 * * * 1-5"


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "\0"])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(UsageError, match="no time zone"):
        check_zone(zone)


def test_without_the_extra_an_expression_is_refused_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)

    with pytest.raises(UsageError, match=r"pip install 'zodb-livesync\[cron\]'"):
        check_cron("* * * * *")


def test_a_schedule_that_cannot_be_read_here_keeps_nothing_else_waiting(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    unreadable, readable = Schedule("a", None, cron="* * * * *"), Schedule("b", 60.0, NOW - 100)

    assert due_agents([unreadable, readable], NOW) == ["b"]
    assert "extra cron" in unreadable.problem()
    assert readable.problem() == ""


def test_what_has_an_expression_and_never_ran_is_due_only_when_its_time_comes():
    schedule = Schedule("a", None, cron="0 3 * * *", since=at("2026-03-01T12:00+00:00"))

    assert due_agents([schedule], at("2026-03-02T02:59:59+00:00")) == []
    assert due_agents([schedule], at("2026-03-02T03:00:00+00:00")) == ["a"]


def test_times_that_were_missed_come_to_one_run():
    began = at("2026-03-01T03:00:01+00:00")
    schedule = Schedule("a", None, began, cron="0 3 * * *")
    now = at("2026-03-05T12:00+00:00")

    assert due_agents([schedule], now) == ["a"]
    assert due_agents([replace(schedule, last_began=now)], now + 60) == []


def test_a_clock_that_was_set_back_does_not_keep_an_expression_waiting():
    assert due_agents([Schedule("a", None, NOW + 1e7, cron="0 0 1 1 *")], NOW) == ["a"]


def test_a_machine_whose_clock_is_a_little_behind_does_not_run_it_again():
    began = at("2026-03-02T03:00:01+00:00")

    assert due_agents([Schedule("a", None, began, cron="0 3 * * *")], began - 30) == []


def test_after_a_failure_nothing_runs_for_a_while_and_longer_each_time():
    due = Schedule("a", 1.0, NOW - 100, failed_at=NOW)

    for failures, wait_s in [(1, BACKOFF_S), (2, 2 * BACKOFF_S), (3, 4 * BACKOFF_S), (40, BACKOFF_CAP_S)]:
        failing = replace(due, failures=failures)
        assert due_agents([failing], NOW + wait_s - 1) == []
        assert due_agents([failing], NOW + wait_s) == ["a"]
        assert failing.held_until(NOW + 1) == NOW + wait_s


def test_failing_ones_do_not_run_before_their_interval_either():
    assert due_agents([Schedule("a", 3600.0, NOW - 100, failures=1, failed_at=NOW - 100)], NOW) == []


def test_a_failure_in_the_future_holds_nothing_back():
    assert due_agents([Schedule("a", 1.0, NOW - 100, failures=3, failed_at=NOW + 1e6)], NOW) == ["a"]


@given(failures=st.integers(0, 10_000))
def test_the_wait_grows_and_is_capped(failures):
    assert 0 <= backoff_s(failures) <= backoff_s(failures + 1) <= BACKOFF_CAP_S


@settings(max_examples=60, deadline=None)
@given(
    interval=st.one_of(st.none(), st.floats(1, 1e6)),
    last=st.one_of(st.none(), st.floats(NOW - 1e6, NOW + 1e6)),
    failures=st.integers(0, 30),
    failed=st.floats(NOW - 1e6, NOW + 1e6),
    cron=st.sampled_from(["", "*/7 * * * *", "0 3 * * 1", "59 23 31 12 *"]),
)
def test_what_is_said_to_come_next_is_due_then_and_not_before(interval, last, failures, failed, cron):
    schedule = Schedule("a", None if cron else interval, last, cron, "", NOW - 5e5, failures, failed)
    next_at = schedule.next_at(NOW)

    if next_at is None:
        assert due_agents([schedule], NOW) == []
    else:
        assert (due_agents([schedule], NOW) == ["a"]) == (next_at <= NOW)
        later = max(next_at, NOW)
        if cron and last is not None and NOW + 3600 < last <= later + 3601:
            return  # the clock that was set back has come near the run that it has noted
        assert due_agents([schedule], later + 1) == ["a"]


def stored(**values):
    task = StoredTask("prune", {})
    for name, value in values.items():
        setattr(task, name, value)
    return task


def test_a_schedule_is_one_of_interval_and_expression():
    task = stored()
    set_schedule(task, 60.0, "", "", NOW)
    assert (task.interval_s, task.cron, task.scheduled_at) == (60.0, "", NOW)
    set_schedule(task, None, "0  3 * * *", "Europe/Rome", NOW + 1)
    assert (task.interval_s, task.cron, task.zone) == (None, "0 3 * * *", "Europe/Rome")

    for interval_s, cron in [(60.0, "* * * * *"), (0.0, ""), (-1.0, ""), (float("nan"), "")]:
        with pytest.raises(ValueError, match="interval"):
            set_schedule(task, interval_s, cron, "", NOW)
    with pytest.raises(UsageError):
        set_schedule(task, None, "never", "", NOW)
    assert (task.interval_s, task.cron) == (None, "0 3 * * *")


def test_failures_in_a_row_are_counted_until_one_run_ends_well():
    task = stored()
    note_failure(task, NOW)
    note_failure(task, NOW + 5)

    assert (task.failures, task.failed_at) == (2, NOW + 5)
    assert note_success(task) is True
    assert (task.failures, note_success(task)) == (0, False)
