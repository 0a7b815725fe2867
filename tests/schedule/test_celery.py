"""The tasks under Celery: what a worker does, without Celery; what is wrong, as the command says it."""

import os
import subprocess
import sys
from functools import partial

import pytest
from support.waiting import LONG_S

from livesync import leases
from livesync.errors import HostNotFound, ServiceRefuses, SiteDiffers, UsageError
from livesync.periodic.running import add_task
from livesync.schedule.celery import RUN_S, TICK_S, Worker, add_tasks, make_app
from livesync.settings import Settings

pytest.importorskip("celery")


@pytest.fixture
def worker(place):
    return Worker(lambda: place.db, place.host)


def test_a_look_names_what_the_runner_would_begin(place, worker):
    place.add_agent()
    place.has_run()
    assert worker.look() == ()

    place.put("cup")

    assert worker.look() == (("agent", "good"),)


def test_a_run_delivers_and_the_next_message_finds_nothing_to_do(place, worker):
    service = place.add_agent()
    place.put("cup")

    assert worker.run("agent", "good") == "1 read, 1 accepted"
    assert worker.run("agent", "good") == "nothing to do, or a runner is at it"

    assert set(service.documents) == {"cup"}
    assert place.agent()["runs"] == 1


def test_a_message_for_an_agent_that_is_held_paused_or_gone_does_nothing(place, worker):
    place.add_agent()
    place.put("cup")
    token = place.change(
        lambda manager: leases.take(
            "good", manager.stored("good").lease, ("elsewhere", 1, 0), "run", worker._clock(), 30
        )
    )
    assert worker.look() == ()
    assert worker.run("agent", "good").startswith("nothing to do")
    place.change(lambda manager: leases.release(manager.stored("good").lease, token))
    assert worker.look() == (("agent", "good"),)

    place.change(lambda manager: manager.pause("good"))
    assert worker.run("agent", "good").startswith("nothing to do")
    assert worker.run("agent", "nobody").startswith("nothing to do")
    assert worker.run("task", "nothing").startswith("nothing to do")
    assert place.agent()["runs"] == 0


def test_tasks_are_the_same_as_everywhere_and_run_when_they_are_due(place, worker):
    place.change(lambda manager: add_task(manager, "tidy", "cleanup", {}, interval_s=3600))

    assert worker.look() == (("task", "tidy"),)
    told = worker.run("task", "tidy")

    assert not told.startswith("nothing to do")
    assert worker.look() == ()
    assert place.change(lambda manager: dict(manager.task("tidy").last_run))["error"] == ""


def test_an_agent_that_fails_is_told_of_and_held_back(place, worker):
    place.add_agent("bad").answer_next(ServiceRefuses("401 Unauthorized"))
    place.put("cup")

    told = worker.run("agent", "bad")

    assert told == "ServiceRefuses: 401 Unauthorized"
    assert place.agent("bad")["failures"] == 1
    assert worker.look() == ()


def test_a_run_that_lasts_longer_than_it_may_ends_after_its_slice(place):
    patient, hasty = Worker(lambda: place.db, place.host), Worker(lambda: place.db, place.host, run_s=0)
    place.add_agent()
    place.put("cup")

    assert hasty.run("agent", "good") == "0 read, 0 accepted"
    assert patient.run("agent", "good") == "1 read, 1 accepted"


def test_nothing_runs_for_another_site(place):
    place.add_agent()

    with pytest.raises(SiteDiffers):
        Worker(lambda: place.db, place.host, site="staging").look()


def test_a_database_is_opened_once_a_process_and_anew_after_a_fork(place):
    opened = []

    def open_db():
        opened.append(os.getpid())
        return place.db

    worker = Worker(open_db, place.host)
    assert worker.db is worker.db is place.db
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(worker.db is place.db and len(opened)).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reading, 10) == b"2"
    assert opened == [os.getpid()]
    os.close(reading)
    os.close(writing)


class App:
    """What is asked of an application of Celery's, without a broker."""

    def __init__(self):
        from celery import Celery

        self.app = Celery("test", broker="memory://", set_as_current=False)
        self.app.conf.task_always_eager = True
        self.app.conf.beat_schedule = {"mine": {"task": "mine", "schedule": 3.0}}


def test_an_application_that_there_is_gets_the_tasks_and_keeps_its_own_schedule(place):
    app = App().app
    service = place.add_agent()
    place.put("cup")

    add_tasks(app, lambda: place.db, place.host, tick_s=7.0)
    app.tasks["livesync.tick"].apply()

    assert set(service.documents) == {"cup"}
    assert app.conf.beat_schedule["mine"]["schedule"] == 3.0
    assert app.conf.beat_schedule["livesync"]["schedule"] == 7.0
    assert TICK_S < RUN_S


def test_a_database_that_is_not_there_is_a_line_in_the_log_without_the_password(caplog):
    from livesync.database import open_database

    app = App().app
    uri = "postgresql://me:ge%20heim@127.0.0.1:1/db"
    add_tasks(app, partial(open_database, uri), object(), uri=uri)

    assert app.tasks["livesync.tick"].apply().state == "SUCCESS"

    (record,) = [one for one in caplog.records if one.name == "livesync.schedule.celery"]
    assert record.getMessage().startswith("livesync: nothing runs: DatabaseError: the database postgresql://")
    assert "heim" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({}, UsageError, "no database is set"),
        ({"db": "zeo://localhost:1"}, UsageError, "no host is set"),
        ({"db": "file:///srv/Data.fs", "host": "demo"}, UsageError, "zeo://, postgresql://"),
        ({"db": "zeo://localhost:1", "host": "nowhere:host"}, HostNotFound, "nowhere"),
        ({"db": "zeo://localhost:1", "host": "demo"}, UsageError, "CELERY_BROKER_URL"),
    ],
)
def test_what_is_not_set_is_named(monkeypatch, settings, error, text):
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    with pytest.raises(error, match=text):
        make_app(Settings(**settings))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e9"])
def test_a_tick_that_is_no_number_of_seconds_is_refused(monkeypatch, text):
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
    monkeypatch.setenv("LIVESYNC_TICK_S", text)

    with pytest.raises(UsageError, match="LIVESYNC_TICK_S"):
        make_app(Settings(db="zeo://localhost:1", host="demo"))


@pytest.mark.slow
def test_the_command_celery_ends_with_one_line(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIVESYNC_")}
    environment |= {"LIVESYNC_DB": "zeo://me:geheim@localhost:1", "LIVESYNC_HOST": "demo"}

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "livesync.schedule.celery", "worker", "--beat"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LONG_S, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith("livesync: no broker is set: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
