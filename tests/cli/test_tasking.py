"""livesync task, and the schedules of livesync agent add_task."""

import sys

import pytest

from livesync.cli.tasking import describe_summary

TYPE = "cliplugins:CountingAgent"


@pytest.fixture
def added(installed, monkeypatch):
    """A command line with an active agent."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    assert installed("agent", "add", "a", "--type", TYPE).code == 0
    assert installed("agent", "activate", "a", "--from-now").code == 0
    return installed


def test_an_agent_is_given_a_cron_expression(added):
    answer = added("agent", "add_task", "a", "--cron", "*/15  * * * *", "--zone", "Europe/Rome")

    assert answer.code == 0
    assert answer.out == "agent a is due at */15  * * * * Europe/Rome\n"
    shown = added("agent", "show", "a", "--json").get_json()["agent"]
    assert (shown["interval_s"], shown["cron"], shown["zone"]) == (None, "*/15 * * * *", "Europe/Rome")
    assert "schedule:     at */15 * * * * Europe/Rome" in added("agent", "show", "a").lines
    assert added("agent", "add_task", "a", "--interval", "5m").code == 0
    shown = added("agent", "show", "a", "--json").get_json()["agent"]
    assert (shown["interval_s"], shown["cron"], shown["zone"]) == (300.0, "", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cron", "often"], "five fields"),
        (["--cron", "99 * * * *"], "no cron expression"),
        (["--cron", "* * * * *", "--zone", "Mars"], "no time zone 'Mars'"),
        (["--interval", "5m", "--zone", "Europe/Rome"], "--zone is for --cron"),
        (["--interval", "5m", "--cron", "* * * * *"], "not allowed with"),
        ([], "required"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(added, options, text):
    answer = added("agent", "add_task", "a", *options)

    assert answer.code == 2
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    shown = added("agent", "show", "a", "--json").get_json()["agent"]
    assert (shown["interval_s"], shown["cron"]) == (None, "")


def test_without_the_extra_an_expression_says_what_to_install(added, monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)

    answer = added("agent", "add_task", "a", "--cron", "* * * * *")

    assert answer.code == 2
    assert "pip install 'zodb-livesync[cron]'" in answer.err


def test_tasks_are_added_listed_run_and_removed(added):
    assert added("task", "list").out.startswith("nothing is on a schedule")
    added("agent", "add_task", "a", "--interval", "5m")

    answer = added("task", "add", "prune", "--interval", "1d", "-o", "keep_s=0")

    assert (answer.code, answer.out) == (0, "task prune is added: prune, every 1d\n")
    assert [line.split()[:2] for line in added("task", "list").lines] == [
        ["NAME", "WHAT"], ["a", "agent"], ["prune", "prune"]
    ]  # fmt: skip
    assert added("task", "run", "prune").out.startswith("prune: dropped 0; ")
    listed = added("task", "list", "--json").get_json()
    assert listed["agents"][0]["interval_s"] == 300
    assert listed["tasks"][0]["options"] == {"keep_s": 0.0}
    assert listed["tasks"][0]["last_run"]["summary"]["dropped"] == 0
    assert added("task", "remove", "prune").code == 0
    assert added("task", "list", "--json").get_json()["tasks"] == []


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["add", "dance", "--interval", "1d"], 2, "there are: cleanup, prune, two-way, verify, versions"),
        (["add", "prune"], 2, "required"),
        (["add", "prune", "--cron", "x"], 2, "five fields"),
        (["add", "prune", "--interval", "1d", "-o", "keep=1"], 2, "keep_s"),
        (["add", "prune", "--interval", "1d", "-o", "keep_s=1", "-o", "keep_s=2"], 2, "given twice"),
        (["add", "prune", "--interval", "1d", "--id", "a b"], 2, "agent id"),
        (["add", "verify", "--interval", "1d", "-o", "agent=nobody"], 3, "nobody"),
        (["remove", "nobody"], 3, "there is no task 'nobody'"),
        (["run", "nobody"], 3, "there is no task 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused(added, command, code, text):
    answer = added("task", *command)

    assert answer.code == code
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    assert added("task", "list", "--json").get_json()["tasks"] == []


def test_an_id_is_given_once(added):
    assert added("task", "add", "prune", "--interval", "1d", "--id", "x").code == 0

    answer = added("task", "add", "cleanup", "--interval", "1d", "--id", "x")

    assert answer.code == 2
    assert "already" in answer.err


def test_what_is_due_runs_with_its_tasks(added):
    added("agent", "add_task", "a", "--interval", "1h")
    added("task", "add", "cleanup", "--interval", "1d")

    first, second = added("run", "--due"), added("run", "--due", "--json").get_json()

    assert [line.split(":")[0] for line in first.lines] == ["a", "cleanup"]
    assert second == {"format": 1, "agents": [], "tasks": []}


def test_a_task_that_fails_has_its_code_and_stops_no_other(added):
    added("task", "add", "verify", "--interval", "1d", "-o", "agent=a")
    added("task", "add", "cleanup", "--interval", "1d")

    answer = added("run", "--due")

    assert answer.code == 2
    assert "livesync: task verify: agent a: agent 'a' is none that pushes" in answer.err
    assert answer.lines[-1].startswith("cleanup: ")
    assert "failed: agent a: " in " ".join(added("task", "list").out.split())
    checked = added("status", "--check")
    assert (checked.code, "task verify has failed: agent a: " in checked.out) == (1, True)


def test_an_agent_that_is_held_back_since_it_failed_says_so(added):
    added("agent", "edit", "a", "-o", "outcome=badly")
    added("agent", "add_task", "a", "--interval", "1s")
    assert added("run", "--due").code == 70

    assert added("run", "--due").out == "no agent is due\n"
    assert any(line.startswith("a: held back: until ") for line in added("status").lines)
    agent = added("status", "--json").get_json()["status"]["agents"][0]
    assert agent["failures"] == 1
    assert agent["held_until"] > agent["last_run"]["time"]


def test_a_copy_of_the_database_runs_no_task(added, monkeypatch):
    added("task", "add", "cleanup", "--interval", "1d")
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert added("task", "run", "cleanup").code == 13


def test_what_a_task_came_to_is_told_in_one_line():
    found = {"checked": 5, "missing": 0, "complete": True, "repaired": False}
    summary = {"index": found, "left_behind": [], "note": "x"}

    assert describe_summary(summary) == "index: checked 5, missing 0, complete, note x"
