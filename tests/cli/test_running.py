"""livesync run, livesync agent run and livesync prune, with agents that end as they are told."""

import pytest

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
    assert behind("prune", "--before", "11", "--json").get_json() == {
        "format": 1,
        "dropped": 10,
        "left_behind": [],
    }


def test_agents_that_are_left_behind_are_named(behind):
    answer = behind("prune", "--leave-behind", "--before", "51")

    assert answer.lines[0] == "50 actions dropped"
    assert len(answer.lines) == 2
    assert "agent c was left behind" in answer.lines[1]
    assert behind("agent", "show", "c", "--json").get_json()["agent"]["reason"] == "needs_export"


@pytest.mark.parametrize("moment", ["x", "-1", "2026-11-05"])
def test_a_place_that_makes_no_sense_prunes_nothing(behind, moment):
    assert behind("prune", f"--before={moment}").code == 2
    assert behind("status", "--json").get_json()["status"]["actions"] == 100
