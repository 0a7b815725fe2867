"""What a runner does next, from what it sees."""

from hypothesis import given
from hypothesis import strategies as st

from livesync.schedule.plan import LOOK_S, Candidate, Seen, plan
from livesync.timetable import Schedule

NOW = 1_700_000_000.5
A, B = ("agent", "a"), ("agent", "b")


def agent(agent_id="a", has_work=True, interval_s=3600.0, last=NOW - 60, **more):
    return Candidate(Schedule(agent_id, interval_s, last, **more), has_work)


def seen(*agents, sealed=1_699_999_990, is_waiting=False, tasks=(), granularity=1):
    return Seen(granularity, sealed, is_waiting, agents, tasks)


def test_an_agent_with_work_does_not_wait_for_its_interval():
    assert plan(seen(agent("a"), agent("b", has_work=False)), NOW).work == (A,)


def test_what_is_due_runs_although_there_is_nothing_to_do_and_comes_first():
    found = plan(seen(agent("a"), agent("b", has_work=False, last=NOW - 4000)), NOW)

    assert found.work == (B, A)


def test_an_agent_with_a_cron_expression_or_none_waits_for_its_time():
    by_cron = agent("a", interval_s=None, cron="0 3 * * *", since=NOW)
    by_hand = agent("b", interval_s=None)

    found = plan(seen(by_cron, by_hand), NOW)

    assert found.work == ()


def test_a_failing_agent_is_not_woken_while_it_is_held_back_and_looked_at_then():
    found = plan(seen(agent(failures=1, failed_at=NOW - 4)), NOW)

    assert found.work == ()
    assert found.look_at == NOW + 6


def test_one_that_somebody_asks_for_runs_held_back_or_not_if_it_is_active():
    held = agent("a", has_work=False, failures=3, failed_at=NOW)

    assert plan(seen(held), NOW, asked=["a", "a", "paused"]).work == (A,)


def test_one_that_was_woken_in_vain_rests():
    found = plan(seen(agent()), NOW, resting={A: NOW + 2})

    assert found.work == ()
    assert found.look_at == NOW + 2
    assert plan(seen(agent()), NOW + 2, resting={A: NOW + 2}).work == (A,)


def test_one_that_is_due_and_was_begun_in_vain_rests_too():
    due = seen(agent(last=NOW - 4000), tasks=(Schedule("prune", 60.0),))

    found = plan(due, NOW, resting={A: NOW + 2, ("task", "prune"): NOW + 3})

    assert (found.work, found.look_at) == ((), NOW + 2)


def test_one_that_is_at_work_is_not_begun_again():
    assert plan(seen(agent()), NOW, busy={A}).work == ()


def test_it_looks_when_something_is_due_next_and_at_least_now_and_then():
    tasks = (Schedule("prune", 60.0, NOW - 40),)

    assert plan(seen(agent(has_work=False), tasks=tasks), NOW).look_at == NOW + 20 - 3
    assert plan(seen(), NOW).look_at == NOW + LOOK_S
    assert plan(seen(tasks=tasks), NOW + 20).work == (("task", "prune"),)


def test_what_waits_is_sealed_at_once_and_then_not_before_the_position_is_over():
    second = int(NOW)

    assert seen(agent(), is_waiting=True, sealed=second - 1).sealing_at(NOW) == NOW
    assert seen(agent(), is_waiting=True, sealed=second).sealing_at(NOW) == second + 1
    assert seen(agent(), is_waiting=True, sealed=second + 5).sealing_at(NOW) == second + 6


def test_nothing_is_sealed_where_nothing_waits_or_nobody_wants_it():
    assert seen(agent()).sealing_at(NOW) is None
    assert seen(agent(interval_s=None), is_waiting=True).sealing_at(NOW) is None
    assert seen(is_waiting=True).sealing_at(NOW) is None
    due = agent(interval_s=None, last=NOW - 90_000, cron="0 3 * * *")
    assert seen(due, is_waiting=True).sealing_at(NOW) == NOW


@given(
    granularity=st.integers(1, 3600),
    commits=st.lists(st.floats(0.001, 5.0), max_size=50),
    runners=st.integers(1, 4),
)
def test_however_often_runners_are_woken_positions_do_not_run_ahead_of_the_time(
    granularity, commits, runners
):
    now, sealed = NOW, int(NOW // granularity) - 1

    for pause in commits:
        now += pause
        for _ in range(runners):
            position = max(int(now // granularity), sealed + 1)  # of what was just committed
            at = seen(agent(), is_waiting=True, sealed=sealed, granularity=granularity).sealing_at(now)
            if at <= now:
                sealed = position
            assert at <= now + granularity
        assert sealed <= now // granularity
