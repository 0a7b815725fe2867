"""Periodic tasks: stored, due, run by one runner at a time, each in isolation."""

import time
from typing import ClassVar

import pytest
import ZODB
from BTrees.OOBTree import OOBTree
from support.mapped import KEY, MappedHost

from livesync import leases
from livesync.action import ActionWrapper
from livesync.database import committed, connected
from livesync.destinations.file import FileAgent
from livesync.destinations.sqlite import SQLiteAgent
from livesync.errors import (
    LeaseLost,
    LiveSyncError,
    OptionError,
    SiteDiffers,
    UnknownAgent,
    UnknownTask,
    UsageError,
)
from livesync.manager import SyncManager
from livesync.options import Option
from livesync.periodic.base import PeriodicTask, load_kind, task_kinds
from livesync.periodic.running import DueTasks, add_task, due_tasks, run_task
from livesync.process import this_process
from livesync.tasks import LiveSyncUpdateTask

NOW = 1_700_000_000.0


class Noting(PeriodicTask):
    """Notes that it was run, or fails, or is overtaken."""

    options = (Option("end", default="well", choices=("well", "badly", "overtaken")),)
    ran: ClassVar = []

    def run(self, context):
        self.ran.append(context.now)
        if self.values["end"] == "badly":
            raise ZeroDivisionError("a fault in the task")
        if self.values["end"] == "overtaken":
            committed(context.db, _take_over)
            with connected(context.db) as root:
                context.check(SyncManager.get(root))
        return {"times": len(self.ran)}


def _take_over(root):
    lease = SyncManager.get(root).task("noting").lease
    lease.holder = None
    leases.take("noting", lease, ("elsewhere", 7, 0), "task", time.time(), 3600)


@pytest.fixture
def db():
    database = ZODB.DB(None)
    committed(database, lambda root: SyncManager.install(root, site="here") and None)
    yield database
    database.close()


@pytest.fixture
def kinds(monkeypatch):
    monkeypatch.setattr("livesync.periodic.base.import_object", lambda reference: Noting)
    monkeypatch.setattr("livesync.periodic.base.OWN_KINDS", {"noting": "somewhere:Noting"})
    monkeypatch.setattr(Noting, "ran", [])
    return Noting


def change(db, function):
    return committed(db, lambda root: function(SyncManager.get(root)))


def put(db, task_id="noting", kind="noting", interval_s=60.0, **options):
    change(db, lambda manager: add_task(manager, task_id, kind, options, interval_s, now=NOW))


def hold(db, process):
    change(
        db,
        lambda manager: leases.take(
            "noting", manager.task("noting").lease, process, "task", time.time(), 3600
        ),
    )


def stored(db, task_id="noting"):
    with connected(db) as root:
        task = SyncManager.get(root).task(task_id)
        return {"last_run": task.last_run, "failures": task.failures, "holder": task.lease.holder}


def run(db, *tasks, now=NOW):
    return DueTasks(db, MappedHost(), "here", tasks).run(now)


def test_a_task_runs_when_it_is_due_and_then_not_for_its_interval(db, kinds):
    put(db)

    (outcome,) = run(db, now=time.time())

    assert (outcome.task_id, outcome.summary, outcome.error) == ("noting", {"times": 1}, None)
    assert stored(db)["last_run"]["summary"] == {"times": 1}
    assert stored(db)["holder"] is None
    assert run(db, now=time.time()) == []
    assert len(run(db, now=time.time() + 61)) == 1


def test_a_task_that_is_named_runs_whether_it_is_due_or_not(db, kinds):
    put(db)

    assert [run(db, "noting")[0].summary["times"] for _ in range(2)] == [1, 2]


def test_one_that_fails_stops_no_other_is_noted_and_is_put_back(db, kinds):
    put(db, "a", end="badly", interval_s=1.0)
    put(db, "b")

    a, b = run(db, now=time.time())

    assert isinstance(a.error, ZeroDivisionError)
    assert b.summary == {"times": 2}
    assert stored(db, "a")["last_run"]["error"] == "a fault in the task"
    assert (stored(db, "a")["failures"], stored(db, "b")["failures"]) == (1, 0)
    with connected(db) as root:
        manager = SyncManager.get(root)
        now = time.time()
        assert due_tasks(manager, now + 5) == []
        assert due_tasks(manager, now + 11) == ["a"]
        assert manager.status(now=now).tasks[0].held_until > now


def test_a_task_that_another_runner_is_at_is_left_to_it(db, kinds):
    put(db)
    hold(db, ("elsewhere", 7, 0))

    (outcome,) = run(db, now=time.time())

    assert (outcome.held, outcome.error) == ("task by process 7 on elsewhere", None)
    assert kinds.ran == []


def test_one_whose_runner_is_dead_is_taken_over_at_once(db, kinds):
    put(db)
    host, pid, started = this_process()
    hold(db, (host, pid, started + 1))

    assert run(db, now=time.time())[0].summary == {"times": 1}


def test_of_a_task_that_was_overtaken_nothing_is_noted(db, kinds):
    put(db, end="overtaken")

    (outcome,) = run(db, now=time.time())

    assert isinstance(outcome.error, LeaseLost)
    assert stored(db)["last_run"] is None
    assert stored(db)["holder"][0] == "elsewhere"


def test_a_task_that_is_removed_while_it_runs_does_no_harm(db, kinds, monkeypatch):
    put(db)
    monkeypatch.setattr(
        kinds, "run", lambda self, context: change(context.db, lambda manager: manager.remove_task("noting"))
    )

    (outcome,) = run(db, now=time.time())

    assert isinstance(outcome.error, LeaseLost)


def test_a_kind_that_is_gone_is_its_own_error(db, kinds, monkeypatch):
    put(db)
    monkeypatch.setattr("livesync.periodic.base.OWN_KINDS", {})

    (outcome,) = run(db, now=time.time())

    assert isinstance(outcome.error, UsageError)
    assert "there is no kind of task 'noting'" in stored(db)["last_run"]["error"]
    assert stored(db)["failures"] == 1


def test_nothing_runs_at_another_site_nor_after_it_is_asked_to_stop(db, kinds):
    put(db)

    with pytest.raises(SiteDiffers):
        DueTasks(db, MappedHost(), "elsewhere").run(NOW)
    assert DueTasks(db, MappedHost(), "here").run(time.time(), lambda: True) == []
    with pytest.raises(UnknownTask):
        DueTasks(db, MappedHost(), "here", ["nobody"]).run(NOW)
    assert kinds.ran == []


@pytest.mark.parametrize(
    ("task_id", "kind", "options", "timing", "error", "text"),
    [
        ("a", "dance", {}, {"interval_s": 60.0}, UsageError, "there are: cleanup, prune, two-way, verify"),
        ("a b", "prune", {}, {"interval_s": 60.0}, ValueError, "no agent id"),
        ("a", "prune", {"keep": 5}, {"interval_s": 60.0}, OptionError, "keep_s"),
        ("a", "prune", {"keep_s": "soon"}, {"interval_s": 60.0}, OptionError, "keep_s"),
        ("a", "prune", {}, {}, UsageError, "needs a schedule"),
        ("a", "prune", {}, {"cron": "soon"}, UsageError, "five fields"),
        ("a", "verify", {"agent": "nobody"}, {"interval_s": 60.0}, UnknownAgent, "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_stored(
    db, task_id, kind, options, timing, error, text
):
    with pytest.raises(error, match=text):
        change(db, lambda manager: add_task(manager, task_id, kind, options, **timing))

    with connected(db) as root:
        assert SyncManager.get(root).task_ids() == []


def test_an_id_is_given_once(db):
    put(db, "prune", "prune")

    with pytest.raises(ValueError, match="already"):
        put(db, "prune", "prune")


def test_options_are_kept_as_parsed_and_defaults_are_not(db):
    put(db, "p", "prune", keep_s="3600", leave_behind="no")

    with connected(db) as root:
        assert SyncManager.get(root).task("p").options == {"keep_s": 3600.0}


def test_the_kinds_that_livesync_brings_are_all_there():
    assert {"prune", "cleanup", "verify", "two-way", "versions"} <= set(task_kinds())
    for name in ("prune", "cleanup", "verify", "two-way", "versions"):
        assert issubclass(load_kind(name), PeriodicTask)


# what they do


@pytest.fixture
def indexed(db, tmp_path):
    """A database with an active agent whose service holds what the application has."""

    def fill(root):
        root[KEY] = OOBTree({key: {"id": key, "n": 1} for key in "abc"})
        manager = SyncManager.get(root)
        manager.register_agent(SQLiteAgent("index", path=str(tmp_path / "index.db")))
        manager.activate("index", from_start=True)
        manager.record([ActionWrapper(0, key, ["created"]) for key in "abc"])

    committed(db, fill)
    assert LiveSyncUpdateTask(db, MappedHost(), "here", only_due=False).run(NOW)[0].error is None
    return db


def unannounced(root):
    root[KEY].update({"a": {"id": "a", "n": 2}, "d": {"id": "d", "n": 1}})


def test_prune_drops_what_was_delivered(indexed):
    put(indexed, "p", "prune", keep_s=0)

    assert run_task(indexed, "p", MappedHost()).summary == {"dropped": 3, "left_behind": [], "held_back": []}
    with connected(indexed) as root:
        assert SyncManager.get(root).track.is_empty()


def test_cleanup_takes_leases_and_lanes_from_the_dead(db):
    host, pid, started = this_process()

    def leave_behind(manager):
        manager.register_agent(FileAgent("index", directory="/nowhere"))
        lease = manager.stored("index").lease
        leases.take("index", lease, (host, pid, started + 1), "run", time.time(), 3600)
        manager._inbox.owners[0] = (host, pid, started + 1, "x")

    change(db, leave_behind)
    put(db, "c", "cleanup")

    first, second = (run_task(db, "c", MappedHost()).summary for _ in range(2))

    assert first == {"leases": 1, "blocks": 1}
    assert second == {"leases": 0, "blocks": 0}


def test_cleanup_leaves_the_living_alone(db):
    change(db, lambda manager: manager.register_agent(FileAgent("index", directory="/nowhere")))
    change(db, lambda manager: leases.take("index", manager.stored("index").lease, this_process(), "run",
                                           time.time(), 3600) and None)  # fmt: skip
    change(db, lambda manager: manager.record([ActionWrapper(0, "a", ["created"])]))
    put(db, "c", "cleanup")

    assert run_task(db, "c", MappedHost()).summary == {"leases": 0, "blocks": 0}


def test_verify_names_what_differs_and_fails(indexed):
    committed(indexed, unannounced)
    put(indexed, "v", "verify")

    outcome = run_task(indexed, "v", MappedHost())

    assert isinstance(outcome.error, LiveSyncError)
    assert "agent index differs: 1 missing, 1 stale, 0 orphaned" in str(outcome.error)
    assert stored(indexed, "v")["failures"] == 1


def test_verify_mends_what_differs_where_it_is_told_to(indexed):
    committed(indexed, unannounced)
    put(indexed, "v", "verify", repair="yes", agent="index")

    mended, after = (run_task(indexed, "v", MappedHost()).summary["index"] for _ in range(2))

    assert (mended["missing"], mended["stale"], mended["repaired"]) == (1, 1, True)
    assert (after["missing"], after["stale"], after["repaired"], after["checked"]) == (0, 0, False, 4)


def test_an_agent_that_cannot_be_verified_keeps_no_other_from_it(indexed, tmp_path):
    change(
        indexed, lambda manager: manager.register_agent(SQLiteAgent("b", path=str(tmp_path / "no" / "b.db")))
    )
    change(indexed, lambda manager: manager.activate("b"))
    put(indexed, "v", "verify")

    outcome = run_task(indexed, "v", MappedHost())

    assert "agent b: " in str(outcome.error)
    assert "index" not in str(outcome.error)
