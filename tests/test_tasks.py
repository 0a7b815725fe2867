"""What is due when, and runs that do not stand in one another's way."""

import time
from contextlib import contextmanager

import pytest
import transaction
import ZODB
from hypothesis import given
from hypothesis import strategies as st

from livesync import leases
from livesync.action import ActionWrapper
from livesync.agent import StopReason
from livesync.database import committed, connected
from livesync.delivery.record import RunResult
from livesync.errors import Leased, SiteDiffers, UnknownAgent, UnknownAgentType, UsageError
from livesync.host import Host
from livesync.manager import SyncManager
from livesync.tasks import LiveSyncUpdateTask, Schedule, due_agents
from livesync.upkeep.notices import NoticeSettings

NOW = 1_700_000_000.0


class EmptyHost(Host):
    @contextmanager
    def at(self, connection):
        yield self

    def object_id(self, obj):
        return str(obj)

    def get(self, object_id):
        return None

    def iter_objects(self, after=None):
        return iter(())

    def contents(self, obj):
        return iter(())

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        return {}


@pytest.fixture
def db():
    database = ZODB.DB(None)
    committed(database, lambda root: SyncManager.install(root, site="here") and None)
    yield database
    database.close()


@pytest.fixture
def register(db, tmp_path, monkeypatch):
    """Register an agent of a type that lies in a module of its own, and make it active."""
    (tmp_path / "tasktypes.py").write_text(
        "from livesync.agent import SyncAgent\n"
        "from livesync.delivery.push import PushSyncAgent\n"
        "from livesync.destinations.memory import MemoryService\n"
        "from livesync.options import Option\n"
        "from livesync.delivery.record import RunResult\n"
        "class Runs(SyncAgent):\n"
        "    options = (Option('fails', 'bool', default=False),)\n"
        "    def run(self, manager, host, now=None, stop=None):\n"
        "        if self.values['fails']:\n"
        "            raise RuntimeError('broken')\n"
        "        return RunResult(read=1, till=5)\n"
        "class Reads(SyncAgent):\n"
        "    pass\n"
        "class Pushes(PushSyncAgent):\n"
        "    uploader = MemoryService().uploader_type()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import tasktypes

    def carry_out(agent_id, kind="Runs", interval=None, last_began=None, active=True, **options):
        def change(root):
            manager = SyncManager.get(root)
            manager.register_agent(getattr(tasktypes, kind)(agent_id, **options))
            if active:
                manager.activate(agent_id, from_now=True)
            manager.set_interval(agent_id, interval)
            manager.record([ActionWrapper(0, "something", ["deleted"])])
            if last_began is not None:
                manager.stored(agent_id).last_run = {"time": last_began + 2.0, "seconds": 2.0}

        committed(db, change)

    yield carry_out
    import sys

    sys.modules.pop("tasktypes", None)


def ran(outcomes):
    return [outcome.agent_id for outcome in outcomes]


def test_an_agent_without_an_interval_is_never_due():
    assert due_agents([Schedule("a", None), Schedule("b", None, 0.0)], NOW) == []


def test_an_agent_that_never_ran_is_due():
    assert due_agents([Schedule("a", 3600.0)], NOW) == ["a"]


def test_an_agent_is_due_when_its_interval_has_passed_since_its_last_run_began():
    schedules = [Schedule("long ago", 60.0, NOW - 61), Schedule("just now", 60.0, NOW - 30)]

    assert due_agents(schedules, NOW) == ["long ago"]


def test_a_timer_that_ticks_a_moment_early_does_not_make_every_second_run_wait():
    assert due_agents([Schedule("a", 60.0, NOW - 59.7)], NOW) == ["a"]


def test_the_longest_overdue_comes_first():
    schedules = [Schedule("a", 60.0, NOW - 70), Schedule("b", 60.0, NOW - 500), Schedule("c", 60.0)]

    assert due_agents(schedules, NOW) == ["c", "b", "a"]


def test_a_clock_that_was_set_back_does_not_keep_an_agent_waiting():
    assert due_agents([Schedule("a", 60.0, NOW + 86400)], NOW) == ["a"]


@given(
    interval=st.floats(1, 1e7),
    last=st.floats(0, 2e9),
    now=st.floats(0, 2e9),
)
def test_what_is_due_stays_due_until_it_runs(interval, last, now):
    schedule = Schedule("a", interval, min(last, now))
    if due_agents([schedule], now):
        assert due_agents([schedule], now + interval) == ["a"]
    assert due_agents([schedule], schedule.last_began + interval) == ["a"]


def test_every_active_agent_runs_and_a_failing_one_does_not_stop_the_others(db, register):
    register("a")
    register("b", fails=True)
    register("c")
    register("sleeping", active=False)

    outcomes = LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(NOW)

    assert ran(outcomes) == ["a", "b", "c"]
    assert [outcome.result for outcome in outcomes] == [
        RunResult(read=1, till=5),
        None,
        RunResult(read=1, till=5),
    ]
    assert str(outcomes[1].error) == "broken"


def test_only_what_is_due_runs_unless_told_otherwise(db, register):
    register("due", interval=60.0, last_began=NOW - 100)
    register("fresh", interval=60.0, last_began=NOW - 10)
    register("by-hand")

    assert ran(LiveSyncUpdateTask(db, EmptyHost(), "here").run(NOW)) == ["due"]


def test_named_agents_run_in_the_order_given_and_once_each(db, register):
    for agent_id in "abc":
        register(agent_id)

    outcomes = LiveSyncUpdateTask(db, EmptyHost(), "here", ("c", "a", "c"), only_due=False).run(NOW)

    assert ran(outcomes) == ["c", "a"]


def test_an_unknown_agent_is_refused_before_any_has_run(db, register):
    register("a")

    with pytest.raises(UnknownAgent):
        LiveSyncUpdateTask(db, EmptyHost(), "here", ("a", "nobody"), only_due=False).run(NOW)


def test_nothing_runs_at_another_site(db, register):
    register("a")

    with pytest.raises(SiteDiffers):
        LiveSyncUpdateTask(db, EmptyHost(), "elsewhere", only_due=False).run(NOW)


def test_an_agent_that_cannot_run_is_its_own_error(db, register):
    register("reader", kind="Reads")

    (outcome,) = LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(NOW)

    assert isinstance(outcome.error, UsageError)


def test_an_agent_whose_type_is_missing_is_its_own_error(db, register):
    register("a")
    committed(db, lambda root: setattr(SyncManager.get(root).stored("a"), "type_name", "gone:Type"))

    (outcome,) = LiveSyncUpdateTask(db, EmptyHost(), "here", ("a",), only_due=False).run(NOW)

    assert isinstance(outcome.error, UnknownAgentType)


def test_what_is_left_is_left_when_the_task_is_asked_to_stop(db, register):
    register("a")
    register("b")
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 1

    assert ran(LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(NOW, stop)) == ["a"]


def test_a_database_that_the_task_opens_itself_is_closed_again(tmp_path, register):
    opened = []

    def open_db():
        database = ZODB.DB(str(tmp_path / "Data.fs"))
        opened.append(database)
        if len(opened) == 1:
            committed(database, lambda root: SyncManager.install(root) and None)
        return database

    task = LiveSyncUpdateTask(open_db, EmptyHost(), only_due=False)

    assert task.run(NOW) == []
    assert task.run(NOW) == []  # the file's lock is free again
    assert len(opened) == 2
    assert isinstance(opened[0], ZODB.DB)


@pytest.fixture
def hold(db):
    """Let a runner on another machine hold an agent."""

    def carry_out(agent_id):
        def take(root):
            lease = SyncManager.get(root).stored(agent_id).lease
            leases.take(agent_id, lease, ("elsewhere", 7, 0), "run", time.time(), 3600)

        committed(db, take)

    return carry_out


def test_an_agent_that_another_runner_holds_is_left_to_it(db, register, hold):
    register("a", kind="Pushes")
    register("b")
    hold("a")

    held, ran_well = LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(NOW)

    assert (held.agent_id, held.held) == ("a", "run by process 7 on elsewhere")
    assert (held.result, held.error) == (None, None)
    assert (ran_well.held, ran_well.result) == ("", RunResult(read=1, till=5))


def test_an_agent_that_was_named_and_is_held_is_an_error(db, register, hold):
    register("a", kind="Pushes")
    hold("a")

    (outcome,) = LiveSyncUpdateTask(db, EmptyHost(), "here", ("a",), only_due=False).run(NOW)

    assert isinstance(outcome.error, Leased)
    assert outcome.held == ""


def notices_to(path, **values):
    script = path / "tell"
    script.write_text(f"#!/bin/sh\ncat >> {path}/told\n")
    script.chmod(0o755)
    return NoticeSettings.of({"command": str(script), **values})


def test_in_the_end_people_are_told_what_they_should_know(db, register, tmp_path):
    register("a")
    committed(db, lambda root: SyncManager.get(root).stop_agent("a", StopReason.FAILING, "too often"))

    LiveSyncUpdateTask(db, EmptyHost(), "here", notices=notices_to(tmp_path)).run(NOW)

    assert (tmp_path / "told").read_text() == "agent a is stopped (failing): too often\n"


def test_nobody_is_told_when_the_task_is_asked_to_stop(db, register, tmp_path):
    register("a")
    committed(db, lambda root: SyncManager.get(root).stop_agent("a", StopReason.FAILING, "too often"))

    LiveSyncUpdateTask(db, EmptyHost(), "here", notices=notices_to(tmp_path)).run(NOW, lambda: True)

    assert not (tmp_path / "told").exists()


def test_what_the_runs_came_to_holds_although_nobody_can_be_told(db, register, monkeypatch, caplog):
    register("a")
    monkeypatch.setattr("livesync.upkeep.notices.committed", lambda *args: 1 / 0)
    register("b", interval=60.0)
    committed(db, lambda root: SyncManager.get(root).stop_agent("a", StopReason.FAILING, "too often"))
    notices = NoticeSettings.of({"command": "cat"})

    (outcome,) = LiveSyncUpdateTask(db, EmptyHost(), "here", notices=notices).run(NOW)

    assert outcome.result == RunResult(read=1, till=5)
    assert "nobody could be told" in caplog.text


def test_no_transaction_is_left_behind(db, register):
    register("a", fails=True)
    LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(NOW)

    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    assert SyncManager.get(connection.root()).stored("a").state == "active"
    manager.abort()
    connection.close()
    assert db.cacheDetailSize()


def stored(db, agent_id):
    with connected(db) as root:
        agent = SyncManager.get(root).stored(agent_id)
        return agent.failures, agent.failed_at, agent.last_run


def test_an_agent_whose_runs_fail_is_put_back_and_runs_by_its_interval_again_once_one_ends_well(db, register):
    register("a", interval=1.0, fails=True)
    task = LiveSyncUpdateTask(db, EmptyHost(), "here")

    assert ran(task.run(time.time())) == ["a"]
    failures, failed_at, last_run = stored(db, "a")

    assert (failures, last_run["error"]) == (1, "broken")
    assert ran(task.run(failed_at + 9)) == []
    assert ran(task.run(failed_at + 11)) == ["a"]
    assert stored(db, "a")[0] == 2
    assert ran(task.run(stored(db, "a")[1] + 11)) == []
    committed(db, lambda root: SyncManager.get(root).edit_agent("a", options={"fails": False}))
    assert task.run(stored(db, "a")[1] + 21)[0].error is None
    assert stored(db, "a")[0] == 0


def test_whoever_activates_an_agent_that_failed_wants_it_to_run_now(db, register):
    register("a", interval=1.0, fails=True)
    LiveSyncUpdateTask(db, EmptyHost(), "here").run(time.time())

    committed(db, lambda root: SyncManager.get(root).pause("a"))
    committed(db, lambda root: SyncManager.get(root).activate("a"))

    assert stored(db, "a")[0] == 0


def test_a_failing_agent_can_be_run_by_hand_all_the_same(db, register):
    register("a", interval=1.0, fails=True)

    for _ in range(2):
        assert ran(LiveSyncUpdateTask(db, EmptyHost(), "here", only_due=False).run(time.time())) == ["a"]


def test_the_run_of_an_agent_type_that_notes_nothing_counts_as_its_last(db, register):
    register("a", interval=3600.0)
    task = LiveSyncUpdateTask(db, EmptyHost(), "here")

    assert ran(task.run(time.time())) == ["a"]
    assert ran(task.run(time.time())) == []
    assert stored(db, "a")[2]["read"] == 1


def test_an_agent_runs_when_its_cron_expression_says(db, register):
    register("a")
    committed(db, lambda root: SyncManager.get(root).set_schedule("a", cron="0 3 * * *", zone="Europe/Rome"))
    task = LiveSyncUpdateTask(db, EmptyHost(), "here")

    assert ran(task.run(time.time())) == []
    assert ran(task.run(time.time() + 86_400)) == ["a"]


def test_that_a_run_cannot_be_noted_fails_nothing(db, register, monkeypatch, caplog):
    register("a", interval=60.0)
    monkeypatch.setattr("livesync.tasks.committed", lambda *args: 1 / 0)

    (outcome,) = LiveSyncUpdateTask(db, EmptyHost(), "here").run(NOW)

    assert outcome.result == RunResult(read=1, till=5)
    assert "could not be noted" in caplog.text
