"""What is particular to the runner by APScheduler: its jobs are what the timetable says."""

import logging
import threading
from datetime import datetime, timedelta, timezone

import pytest
from support.runners import SERVICES
from support.waiting import LONG_S, eventually

from livesync.periodic.running import add_task
from livesync.schedule.scheduler import ScheduledRunner


@pytest.fixture
def kind():
    return ScheduledRunner


def in_s(one, job):
    """In how many seconds a job is to fire; None: there is none."""
    at = one.next_runs().get(job)
    return None if at is None else (at - datetime.now(timezone.utc)).total_seconds()


def about(found, seconds):
    return found is not None and abs(found - seconds) < 30


def test_each_agent_and_task_has_a_job_at_its_time(place, runner):
    place.add_agent("good", interval_s=3600.0)
    place.has_run("good")
    place.add_agent("slow", cron="0 0 1 1 *")
    place.change(lambda manager: manager.set_interval("slow", None))
    place.change(lambda manager: add_task(manager, "prune", "prune", {}, 600.0))
    one = runner()

    eventually(lambda: about(in_s(one, "task prune"), 595))  # it has run at once, as it never had
    assert about(in_s(one, "agent good"), 3600)
    assert "agent slow" not in one.next_runs()  # it has no schedule any more


def test_a_changed_schedule_is_picked_up(place, runner):
    place.add_agent("good", interval_s=3600.0)
    place.has_run()
    one = runner()
    eventually(lambda: about(in_s(one, "agent good"), 3600))

    place.change(lambda manager: manager.set_interval("good", 600.0))
    eventually(lambda: about(in_s(one, "agent good"), 595))
    place.change(lambda manager: manager.pause("good"))
    eventually(lambda: in_s(one, "agent good") is None)
    place.change(lambda manager: manager.activate("good"))

    eventually(lambda: about(in_s(one, "agent good"), 595))


def test_a_schedule_that_comes_soon_is_kept_again_and_again(place, runner):
    place.add_agent("good", interval_s=0.2)
    runner()

    eventually(lambda: place.agent()["last_run"])
    first = place.agent()["last_run"]["time"]
    eventually(lambda: place.agent()["last_run"]["time"] > first + 0.6)


def test_times_that_were_missed_are_made_up_for_once(place, runner):
    service = place.add_agent("good", cron="* * * * *")
    began = datetime.now(timezone.utc)

    def asleep(manager):  # for a quarter of an hour
        manager.stored("good").scheduled_at = (began - timedelta(minutes=15)).timestamp()

    place.change(asleep)
    place.put("cup")
    one = runner()

    eventually(lambda: "cup" in service.documents)
    eventually(lambda: in_s(one, "agent good") is not None)
    assert place.agent()["runs"] == 1
    assert in_s(one, "agent good") <= 60


def test_a_job_that_fires_when_its_agent_was_paused_meanwhile_runs_nothing(place, runner, monkeypatch):
    service = place.add_agent("good")
    place.has_run()
    one = runner()
    eventually(lambda: one.next_runs())
    place.put("cup")
    eventually(lambda: "cup" in service.documents)
    eventually(lambda: not one.at_work)
    runs = place.agent()["runs"]
    place.change(lambda manager: manager.pause("good"))

    fired = threading.Thread(target=one._fired, args=(("agent", "good"),))
    fired.start()
    fired.join(LONG_S)

    assert place.agent()["runs"] == runs
    assert one.at_work == []
    assert one.is_alive()


def test_while_all_workers_are_at_work_what_is_due_waits_and_is_not_lost(place, runner):
    arrived, let_go = threading.Event(), threading.Event()

    def wait(batch):
        arrived.set()
        assert let_go.wait(LONG_S)

    slow, good = place.add_agent("slow"), place.add_agent("good")
    SERVICES["slow"].answer_next(wait)
    place.has_run("good")
    place.change(lambda manager: manager.pause("good"))
    one = runner(workers=1)
    place.put("cup")
    assert arrived.wait(LONG_S)
    place.change(lambda manager: manager.activate("good"))
    eventually(lambda: "agent good" in one.next_runs() or place.agent("good")["runs"] == 0)
    assert good.documents == {}
    let_go.set()

    eventually(lambda: "cup" in slow.documents and "cup" in good.documents)


def test_nothing_is_said_of_jobs_that_come_and_go(place, runner, caplog):
    caplog.set_level(logging.INFO)
    service = place.add_agent()
    runner()
    place.put("cup")
    eventually(lambda: "cup" in service.documents)

    assert [record.name for record in caplog.records if "apscheduler" in record.name] == []
