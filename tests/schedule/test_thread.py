"""The runner: real threads on a real database, woken by commits."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.runners import SERVICES, Place
from support.waiting import LONG_S, eventually

from livesync import leases
from livesync.errors import ServiceRefuses
from livesync.periodic.running import add_task
from livesync.schedule import thread
from livesync.schedule.thread import Runner
from livesync.upkeep.notices import NoticeSettings


@pytest.fixture
def held():
    """Let the service ``slow`` keep its next batch until the test lets go."""
    arrived, let_go = threading.Event(), threading.Event()

    def wait(batch):
        arrived.set()
        assert let_go.wait(LONG_S)

    SERVICES["slow"].answer_next(wait)
    yield arrived, let_go
    let_go.set()


def test_a_change_does_not_wait_for_the_interval(place, runner):
    service = place.add_agent()
    place.has_run()
    runner()

    place.put("cup")

    eventually(lambda: "cup" in service.documents)


def test_what_was_committed_before_it_began_is_delivered_too(place, runner):
    service = place.add_agent()
    place.has_run()
    place.put("cup")
    runner()

    eventually(lambda: "cup" in service.documents)


def test_a_change_that_another_way_has_recorded_is_noticed_by_asking_the_storage(place, runner):
    service = place.add_agent()
    place.has_run()
    runner()
    eventually(lambda: place.agent()["holder"] is None)

    place.put("cup")
    eventually(lambda: "cup" in service.documents)
    place.change(lambda manager: manager.enqueue("good", ["saucer"]))  # nobody announces that

    eventually(lambda: "saucer" in service.tombstones)


def test_many_changes_come_in_few_runs(place, runner):
    service = place.add_agent()
    place.has_run()
    began = time.monotonic()
    runner()

    for number in range(50):
        place.put(f"thing-{number:02}")
    eventually(lambda: len(service.documents) == 50)

    # however long the changes take: one run in the time that is waited for more of them to come
    assert place.agent()["runs"] <= (time.monotonic() - began) / thread.DEBOUNCE_S + 1


def test_its_own_commits_do_not_keep_it_awake(place, runner, monkeypatch):
    monkeypatch.setattr(thread, "POLL_S", 0.1)
    service = place.add_agent()
    place.put("cup")
    one = runner()
    eventually(lambda: "cup" in service.documents)
    eventually(lambda: not one.at_work)
    quiet_since = eventually(lambda: _quiet(place.db))

    deadline = time.monotonic() + 4 * thread.POLL_S
    while time.monotonic() < deadline:
        assert place.db.lastTransaction() == quiet_since
        time.sleep(0.05)


def _quiet(db):
    """Return the newest transaction if none has come for a moment."""
    before = db.lastTransaction()
    time.sleep(0.3)
    return before if db.lastTransaction() == before else None


def test_an_agent_that_lingers_does_not_keep_it_busy(place, runner):
    service = place.add_agent()
    place.change(lambda manager: manager.edit_agent("good", options={"linger_s": 600.0}))
    place.has_run()
    one = runner()
    place.put("cup")

    eventually(lambda: one._resting)
    time.sleep(0.5)

    assert service.documents == {}
    assert place.agent()["runs"] == 0
    assert len(one._resting) == 1


def test_a_failing_agent_is_held_back_and_stops_no_other(place, runner):
    bad, good = place.add_agent("bad"), place.add_agent("good")
    bad.answer_next(*[ZeroDivisionError("a fault in the service") for _ in range(100)])
    runner()

    place.put("cup")
    eventually(lambda: "cup" in good.documents)
    eventually(lambda: place.agent("bad")["failures"])
    place.put("saucer")
    eventually(lambda: "saucer" in good.documents)

    assert place.agent("bad")["failures"] == 1
    assert "a fault in the service" in place.agent("bad")["last_run"]["error"]


def test_one_that_is_held_back_runs_when_somebody_asks_for_it(place, runner):
    bad = place.add_agent("bad")
    bad.answer_next(ZeroDivisionError("a fault in the service"))
    one = runner()
    place.put("cup")
    eventually(lambda: place.agent("bad")["failures"])
    assert bad.documents == {}

    one.wake("bad")

    eventually(lambda: "cup" in bad.documents)
    eventually(lambda: place.agent("bad")["failures"] == 0)


def test_an_agent_that_is_stopped_by_its_service_stays_stopped(place, runner):
    bad = place.add_agent("bad")
    bad.answer_next(ServiceRefuses("401 Unauthorized"))
    one = runner()

    place.put("cup")
    eventually(lambda: place.agent("bad")["state"] == "stopped")
    one.wake("bad")
    eventually(lambda: not one.at_work)

    assert bad.documents == {}


def test_a_slow_service_keeps_no_other_waiting(place, runner, held):
    arrived, let_go = held
    slow, good = place.add_agent("slow"), place.add_agent("good")
    one = runner()

    place.put("cup")
    assert arrived.wait(LONG_S)
    eventually(lambda: "cup" in good.documents)

    eventually(lambda: one.at_work == ["agent slow"])
    assert slow.documents == {}
    let_go.set()
    eventually(lambda: "cup" in slow.documents)


def test_asked_to_end_it_finishes_the_batch_saves_and_gives_the_lease_back(place, runner, held):
    arrived, let_go = held
    slow = place.add_agent("slow")
    one = runner()
    place.put("cup")
    assert arrived.wait(LONG_S)

    assert one.stop(0.05) is False
    assert place.agent("slow")["holder"] is not None
    let_go.set()

    assert one.stop(30) is True
    assert "cup" in slow.documents
    assert place.agent("slow")["holder"] is None
    assert place.agent("slow")["last_run"].get("error") is None
    assert not one.is_alive()


def test_it_begins_once_and_again_after_it_has_ended(place, runner):
    service = place.add_agent()
    one = runner()
    first = one._main
    one.start()
    assert one._main is first
    assert one.stop(30)

    one.start()
    place.put("cup")

    eventually(lambda: "cup" in service.documents)


def test_an_agent_that_another_runner_holds_is_left_to_it(place, runner, monkeypatch):
    monkeypatch.setattr(thread, "REST_S", 0.1)
    service = place.add_agent()
    elsewhere = ("elsewhere", 7, 0)
    token = place.change(
        lambda manager: leases.take(
            "good", manager.stored("good").lease, elsewhere, "run", time.time(), 3600.0
        )
    )
    one = runner()
    place.put("cup")
    eventually(lambda: one._resting)
    assert service.documents == {}

    place.change(lambda manager: leases.release(manager.stored("good").lease, token))

    eventually(lambda: "cup" in service.documents)
    assert place.agent()["failures"] == 0


def test_it_waits_for_livesync_to_be_installed(file_db, caplog):
    place = Place.__new__(Place)
    one = Runner(file_db, None)
    with caplog.at_level(logging.WARNING):
        one.start()
        eventually(lambda: "NotInstalled" in caplog.text)
    place.__init__(file_db)
    one._host = place.host
    service = place.add_agent()

    place.put("cup")

    eventually(lambda: "cup" in service.documents)
    assert one.stop(30)


def test_nothing_runs_at_another_site(place, runner, caplog):
    service = place.add_agent()
    place.put("cup")

    with caplog.at_level(logging.WARNING):
        runner(site="staging")
        eventually(lambda: "SiteDiffers" in caplog.text)

    assert service.documents == {}
    assert caplog.text.count("SiteDiffers") == 1


def test_it_outlives_a_hiccup_of_the_database(place, runner, monkeypatch, caplog):
    service = place.add_agent()
    place.has_run()
    real, failed = thread.look, []

    def look(manager):
        if len(failed) < 2:
            failed.append(True)
            raise OSError("the storage is away")
        return real(manager)

    monkeypatch.setattr(thread, "look", look)
    monkeypatch.setattr(thread, "TROUBLE_S", 0.05)
    runner()

    place.put("cup")

    eventually(lambda: "cup" in service.documents)
    assert caplog.text.count("the storage is away") >= 1


def test_agents_that_are_paused_or_wait_for_their_time_are_not_woken(place, runner):
    paused, nightly = place.add_agent("bad"), place.add_agent("slow", cron="0 3 1 1 *")
    good = place.add_agent("good")
    place.change(lambda manager: manager.pause("bad"))
    runner()

    place.put("cup")
    eventually(lambda: "cup" in good.documents)
    place.put("saucer")
    eventually(lambda: "saucer" in good.documents)

    assert (paused.documents, nightly.documents) == ({}, {})


def test_periodic_tasks_run_when_they_are_due(place, runner):
    service = place.add_agent()
    place.put("cup")
    one = runner()
    eventually(lambda: "cup" in service.documents)
    eventually(lambda: not one.at_work)

    place.change(lambda manager: add_task(manager, "prune", "prune", {"keep_s": 0}, 3600.0))

    eventually(lambda: place.change(lambda manager: manager.task("prune").last_run))
    place.change(lambda manager: None)
    assert eventually(lambda: place.change(lambda manager: manager.track.is_empty()))


def test_people_are_told_when_an_agent_stops(place, runner, tmp_path):
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\ncat >> {tmp_path}/told\n")
    script.chmod(0o755)
    bad = place.add_agent("bad")
    bad.answer_next(ServiceRefuses("401 Unauthorized"))
    place.put("cup")
    runner(notices=NoticeSettings.of({"command": str(script)}))

    eventually(lambda: place.agent("bad")["state"] == "stopped")

    told = tmp_path / "told"
    eventually(lambda: told.exists() and "agent bad is stopped (service_refuses): 401" in told.read_text())


def test_after_a_fork_the_child_begins_anew_and_the_parent_goes_on(place, runner):
    one = runner()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        alive = one.is_alive()  # the thread did not come along
        ended = one.stop(1)
        os.write(write, repr((alive, ended)).encode())
        os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(read, 100) == b"(False, True)"
    os.close(read)
    os.close(write)
    assert one.is_alive()


ENDS = """
import sys, threading, time
sys.path[:0] = {paths!r}
import ZODB
from ZODB.FileStorage import FileStorage
from support.runners import Place, SERVICES
from support.waiting import LONG_S
from livesync.schedule.thread import Runner

place = Place(ZODB.DB(FileStorage({data!r})))
arrived = threading.Event()
place.add_agent("slow").answer_next(lambda batch: (arrived.set(), time.sleep(600)))
place.put("cup")
Runner(place.db, place.host).start()
assert arrived.wait(LONG_S)
print("at work", flush=True)
"""


@pytest.mark.slow
def test_a_process_ends_although_its_runner_is_at_work(tmp_path):
    tests = Path(__file__).parent.parent
    script = ENDS.format(paths=[str(tests), str(tests.parent)], data=str(tmp_path / "Data.fs"))

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG_S, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "at work\n", "")
