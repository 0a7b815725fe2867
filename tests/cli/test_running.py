"""livesync run, livesync agent run and livesync prune, with agents that end as they are told."""

import socket
import time

import pytest

from livesync import leases
from livesync.action import ActionWrapper

TYPE = "cliplugins:CountingAgent"


@pytest.fixture
def three(installed, monkeypatch):
    """A command line with three active agents: one ends well, one sets a record aside, one is refused."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    for agent_id, outcome in (("a", "well"), ("b", "dead"), ("c", "refused")):
        assert installed("agent", "add", agent_id, "--type", TYPE, "-o", f"outcome={outcome}").code == 0
        assert installed("agent", "activate", agent_id, "--from-now").code == 0
    return installed


def test_an_agent_runs_and_tells_what_came_of_it(three):
    answer = three("agent", "run", "a")

    assert answer.code == 0
    assert answer.out == "a: 3 read, 2 accepted, 1 coalesced; pointer at 7; 0.00 s\n"


def test_records_set_aside_have_a_code_of_their_own_and_their_reason(three):
    answer = three("agent", "run", "b")

    assert answer.code == 8
    assert "1 set aside" in answer.out
    assert answer.err == "livesync: agent b: set aside a: too big\n"


def test_a_service_that_refuses_is_one_line_and_its_code(three):
    answer = three("agent", "run", "c")

    assert answer.code == 7
    assert answer.err == "livesync: agent c: 401 Unauthorized\n"


def test_all_run_whatever_one_of_them_does_and_the_gravest_code_counts(three):
    answer = three("run")

    assert answer.code == 7
    assert [line.split(":")[0] for line in answer.lines] == ["a", "b"]
    assert "agent c: 401" in answer.err


def test_only_those_named_run(three):
    answer = three("run", "b", "a")

    assert answer.code == 8
    assert [line.split(":")[0] for line in answer.lines] == ["b", "a"]


def test_an_agent_with_a_fault_is_one_line(three):
    three("agent", "edit", "a", "-o", "outcome=badly")

    answer = three("agent", "run", "a")

    assert answer.code == 70
    assert answer.err.startswith("livesync: agent a: unexpected ZeroDivisionError: a fault in the agent")


def test_as_json_every_agent_has_its_result_or_its_error(three):
    values = three("run", "--json").get_json()

    a, b, c = values["agents"]
    assert (a["id"], a["result"]["read"], a["error"]) == ("a", 3, None)
    assert b["result"]["dead_records"] == [{"id": "a", "op": "upsert", "position": 7, "reason": "too big"}]
    assert (c["result"], c["error"]["name"], c["error"]["code"]) == (None, "SERVICE", 7)


def test_an_unknown_agent_keeps_all_from_running(three):
    answer = three("run", "a", "nobody")

    assert answer.code == 3
    assert answer.out == ""


def test_nothing_is_due_without_an_interval(three):
    answer = three("run", "--due")

    assert answer.code == 0
    assert answer.out == "no agent is due\n"


def test_what_has_an_interval_and_never_ran_is_due(three):
    three("agent", "add_task", "a", "--interval", "1h")

    assert [line.split(":")[0] for line in three("run", "--due").lines] == ["a"]


def test_paused_agents_are_left_alone(three):
    for agent_id in "abc":
        three("agent", "pause", agent_id)

    answer = three("run")

    assert answer.code == 0
    assert answer.out == "no agent is active\n"


def test_a_copy_of_the_database_runs_nothing(three, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    for command in (["run"], ["agent", "run", "a"]):
        answer = three(*command)
        assert answer.code == 13
        assert "adopt" in answer.err
        assert answer.out == ""


def test_an_agent_that_another_runner_holds_is_left_to_it_where_all_run(search_and_shop, held_elsewhere):
    held_elsewhere("shop")

    answer = search_and_shop("run")

    assert answer.code == 0
    assert answer.lines[1] == "shop: left alone, a runner is at it: run by process 7 on elsewhere"
    assert answer.lines[0].startswith("other: ")
    assert answer.err == ""


@pytest.mark.parametrize("command", [["run", "shop", "other"], ["agent", "run", "shop"]])
def test_an_agent_that_was_named_and_is_held_is_an_error(search_and_shop, held_elsewhere, command):
    held_elsewhere("shop")

    answer = search_and_shop(*command)

    assert answer.code == 9
    assert answer.err.startswith("livesync: agent shop: agent 'shop' is held: run by process 7 on elsewhere")
    assert len(answer.err.splitlines()) == 1


def test_as_json_who_holds_an_agent_is_told(search_and_shop, held_elsewhere):
    held_elsewhere("shop")

    other, shop = search_and_shop("run", "--json").get_json()["agents"]

    assert (other["held"], shop["held"]) == ("", "run by process 7 on elsewhere")
    assert (shop["result"], shop["error"]) == (None, None)


def test_of_many_records_set_aside_the_first_are_named(installed, shop, put):
    installed("agent", "edit", "shop", "-o", "dead_threshold=500")
    put(**{f"thing-{number:03}": {"bad": "luck"} for number in range(103)})

    answer = installed("agent", "run", "shop")

    assert answer.code == 8
    lines = answer.err.splitlines()
    assert len(lines) == 101
    assert lines[-1] == "livesync: agent shop: and 3 more: livesync dead list shop"


def test_a_lease_of_a_process_that_is_gone_keeps_nobody_from_running(search_and_shop, change):
    def take(root):
        lease = root["livesync"].stored("shop").lease
        gone = (socket.gethostname(), 2**22 + 1, 0)  # no process has such an id
        leases.take("shop", lease, gone, "run", time.time(), 3600)

    change(take)

    assert search_and_shop("agent", "run", "shop").code == 0


def test_in_the_end_people_are_told_who_has_stopped(three, put, tmp_path):
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\ncat >> {tmp_path}/told\n")
    script.chmod(0o755)
    (tmp_path / "livesync.toml").write_text(f'[notices]\ncommand = "{script}"\n')
    three("agent", "add", "gone", "--type", "sqlite", "-o", f"path={tmp_path}")
    three("agent", "activate", "gone", "--from-start")
    put(a={"title": "A"})

    three("run")
    three("run")

    told = (tmp_path / "told").read_text().splitlines()
    assert len(told) == 1
    assert told[0].startswith("agent gone is stopped (service_refuses): ")


def test_notices_that_make_no_sense_keep_all_from_running(three, tmp_path):
    (tmp_path / "livesync.toml").write_text('[notices]\nmail = "me"\n')

    answer = three("run")

    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert "'mail'" in answer.err


def test_an_agent_that_only_reads_cannot_run(three):
    three("agent", "add", "d", "--type", "cliplugins:LookingAgent")

    answer = three("agent", "run", "d")

    assert answer.code == 2
    assert "does not run" in answer.err


@pytest.mark.parametrize(("host", "code"), [("", 2), ("nonsense", 6), ("cliplugins:broken_factory", 6)])
def test_without_a_host_nothing_runs(three, monkeypatch, host, code):
    monkeypatch.setenv("LIVESYNC_HOST", host)

    answer = three("run")

    assert answer.code == code
    assert "host" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.fixture
def search_and_shop(installed, shop, put, tmp_path):
    """A command line with two active agents, ``shop`` and ``other``, that have something to do."""
    installed("agent", "add", "other", "--type", "sqlite", "-o", f"path={tmp_path}/other.db")
    installed("agent", "activate", "other", "--from-start")
    put(a={"title": "A"})
    return installed


@pytest.fixture
def behind(three, change):
    """The agents' track has positions 1 to 100, sealed; a is at 60, b at 100, c at 30."""

    def fill(root):
        manager = root["livesync"]
        for position in range(1, 101):
            manager.add(position, ActionWrapper(position, "x", ["data_changed"]))
        manager.track.seal(100)
        for agent_id, position in (("a", 60), ("b", 100), ("c", 30)):
            manager.advance(agent_id, position)

    change(fill)
    return three


def test_what_every_pointer_has_passed_is_pruned(behind):
    answer = behind("prune")

    assert answer.code == 0
    assert answer.out == "30 actions dropped\n"


def test_pruning_goes_no_further_than_asked(behind):
    values = behind("prune", "--before", "11", "--json").get_json()

    assert (values["dropped"], values["left_behind"]) == (10, [])


def test_agents_that_are_left_behind_are_named(behind):
    answer = behind("prune", "--leave-behind", "--before", "51")

    assert answer.lines[0] == "50 actions dropped"
    assert len(answer.lines) == 2
    assert "agent c was left behind" in answer.lines[1]
    assert behind("agent", "show", "c", "--json").get_json()["agent"]["reason"] == "needs_export"


def test_who_holds_much_back_is_a_warning(behind):
    answer = behind("prune")

    assert [line.split()[:4] for line in answer.err.splitlines()] == [
        ["livesync:", "warning:", "agent", "c"],
        ["livesync:", "warning:", "agent", "a"],
    ]
    held = behind("prune", "--json").get_json()["held_back"]
    assert [(one["agent_id"], one["actions"]) for one in held] == [("c", 70), ("a", 40)]
    assert held[0]["days"] > 20_000
    assert held[0]["bytes"] > 0


@pytest.fixture
def recent(three, change):
    """Three agents that have passed all of a track with an action of ten days and one of an hour ago."""

    def fill(root):
        manager = root["livesync"]
        now = int(time.time())
        for age in (10 * 86400, 3600):
            manager.add(now - age, ActionWrapper(now - age, "x", ["data_changed"]))
        manager.track.seal(now)
        for agent_id in "abc":
            manager.advance(agent_id, now)

    change(fill)
    return three


@pytest.mark.parametrize(
    ("arguments", "dropped"),
    [
        ([], 1),
        (["--keep", "0"], 2),
        (["--keep", "30m"], 2),
        (["--keep", "2h"], 1),
        (["--keep", "30d"], 0),
        (["--before", "2100-01-01T00:00:00Z"], 2),
    ],
)
def test_what_is_young_is_kept_for_a_while(recent, arguments, dropped):
    answer = recent("prune", *arguments, "--json")

    assert answer.get_json()["dropped"] == dropped
    assert answer.err == ""


@pytest.mark.parametrize("text", ["-1", "0.5", "soon", "400d", "", "0d5"])
def test_a_time_to_keep_that_makes_no_sense_prunes_nothing(recent, text):
    assert recent("prune", f"--keep={text}").code == 2
    assert recent("status", "--json").get_json()["status"]["actions"] == 2


@pytest.mark.parametrize("moment", ["x", "-1", "2026-11-05"])
def test_a_place_that_makes_no_sense_prunes_nothing(behind, moment):
    assert behind("prune", f"--before={moment}").code == 2
    assert behind("status", "--json").get_json()["status"]["actions"] == 100
