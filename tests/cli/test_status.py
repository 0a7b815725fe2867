"""livesync status, and its check for monitoring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.action import ActionWrapper
from livesync.cli.check import Health, check
from livesync.cli.tables import duration, moment
from livesync.status import AgentStatus, ManagerStatus

TYPE = "cliplugins:CountingAgent"


def agent(agent_id="a", state="active", **values):
    told = {
        "id": agent_id,
        "type_name": "sqlite",
        "name": agent_id,
        "description": "",
        "state": state,
        "reason": "",
        "detail": "",
        "position": 5,
        "lag_actions": 0,
        "lag_seconds": 0.0,
        "dead": 0,
        "last_error": "",
        "last_run": None,
        "interval_s": None,
    }
    return AgentStatus(**{**told, **values})


def status_of(*agents, waiting=0):
    return ManagerStatus(
        granularity=1,
        site="",
        track_id="t",
        sealed=10,
        oldest=None,
        newest=None,
        entries=0,
        actions=0,
        waiting=waiting,
        agents=agents,
    )


def test_all_well_is_ok():
    found = check(status_of(agent(lag_seconds=30.0), agent("b", "paused")), 60, 0)

    assert found.health is Health.OK
    assert found.line.startswith("LIVESYNC OK - 1 of 2 agents active, lag 30s | lag=30s;;60;0 dead=0;0;;0")


@pytest.mark.parametrize(
    ("found", "health", "text"),
    [
        (agent(lag_seconds=61.0), Health.CRITICAL, "a lags 1m 1s"),
        (agent(state="stopped", reason="service_refuses"), Health.CRITICAL, "a is stopped (service_refuses)"),
        (agent(state="recording"), Health.WARNING, "a has an export that is not finished"),
        (agent(state="recording", holder="export by process 7 on x"), Health.OK, ""),
        (agent(holder="run by process 7 on x", queued=9), Health.OK, ""),
        (agent(last_error="boom"), Health.WARNING, "a had an error in its last run"),
        (agent(dead=4), Health.WARNING, "a has 4 dead letters"),
        (agent(dead=3), Health.OK, ""),
        (agent(state="paused", lag_seconds=1e6, last_error="old"), Health.OK, ""),
        (agent(state="new"), Health.OK, ""),
    ],
)
def test_what_is_wrong_is_named(found, health, text):
    result = check(status_of(found), 60, 3)

    assert result.health is health
    assert text in result.line


def test_the_gravest_decides_and_comes_first():
    result = check(status_of(agent(dead=1), agent("b", "stopped", reason="failing|x")), 60, 0)

    assert result.line.startswith("LIVESYNC CRITICAL - b is stopped (failing/x); a has 1 dead letter | ")
    assert result.line.count("|") == 1


@given(st.floats(0, 1e9))
def test_a_duration_has_at_most_two_units(seconds):
    assert 1 <= len(duration(seconds).split()) <= 2


def test_durations_and_moments():
    assert [duration(s) for s in (0, 45, 60, 7800, 90000)] == ["0s", "45s", "1m", "2h 10m", "1d 1h"]
    assert moment(12970819, 100) == "12970819 (2011-02-07T12:31:40Z)"
    assert moment(None, 1) == "before everything"
    assert moment(2**60, 86400) == str(2**60)


@pytest.fixture
def busy(installed, change):
    """A command line on a database with an agent that lags, and one that is stopped."""
    for agent_id in ("a-rather-long-name-of-an-agent", "b"):
        installed("agent", "add", agent_id, "--type", TYPE)
        installed("agent", "activate", agent_id, "--from-start")

    def fill(root):
        manager = root["livesync"]
        for position in range(1297081900, 1297081910):
            manager.add(position, ActionWrapper(position, "x", ["created"]))
        stored = manager.stored("b")
        stored.state, stored.reason, stored.detail = "stopped", "service_refuses", "401 Unauthorized\nat once"
        stored.last_run = {"error": "401 Unauthorized"}

    change(fill)
    return installed


def test_the_table_has_every_agent_and_the_tracks_ends(busy):
    answer = busy("status")

    assert answer.code == 0
    assert answer.lines[0].split() == ["AGENT", "TYPE", "STATE", "POINTER", "LAG", "BEHIND", "DEAD"]
    assert "b: stopped: 401 Unauthorized\\nat once" in answer.lines
    assert "b: last error: 401 Unauthorized" in answer.lines
    assert "track:    10 actions at 10 positions" in answer.lines
    assert "oldest:   1297081900 (2011-02-07T12:31:40Z)" in answer.lines


def test_the_table_is_plain_text_of_80_columns_where_there_is_no_terminal(busy):
    answer = busy("status")

    assert "\x1b" not in answer.out
    assert all(len(line) <= 80 for line in answer.lines)


def test_who_runs_an_agent_and_what_is_queued_is_told(busy, held_elsewhere):
    busy("agent", "enqueue", "b", "x", "y")
    held_elsewhere("b")

    answer = busy("status")

    assert "b: held: run by process 7 on elsewhere" in answer.lines
    assert "b: slow queue: 2 objects" in answer.lines
    found = busy("status", "--json").get_json()["status"]["agents"][1]
    assert (found["holder"], found["queued"]) == ("run by process 7 on elsewhere", 2)


def test_what_waits_is_counted(busy, change):
    change(lambda root: root["livesync"].record([ActionWrapper(0, "x", ["created"])]))

    assert "waiting:  1 action in the inbox" in busy("status").lines


def test_a_reader_that_is_no_agent_is_told(busy, change):
    change(lambda root: root["livesync"].track.add_pointer("livesync.replication", 1297081905))

    answer = busy("status")

    assert answer.lines[-7].startswith("reader:   livesync.replication at 1297081905 (2011-")
    assert "lag 4 actions" in answer.lines[-7]
    (reader,) = busy("status", "--json").get_json()["status"]["readers"]
    assert (reader["id"], reader["lag_actions"]) == ("livesync.replication", 4)


def test_as_json_it_has_everything(busy):
    values = busy("status", "--json").get_json()

    assert values["format"] == 1
    assert values["status"]["actions"] == 10
    assert [found["state"] for found in values["status"]["agents"]] == ["active", "stopped"]


def test_the_check_is_one_line_with_the_code_of_plugins(busy):
    answer = busy("status", "--check")

    assert answer.code == 2
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith("LIVESYNC CRITICAL - ")


def test_the_check_of_an_idle_installation_is_ok(installed):
    assert installed("status", "--check").code == 0


def test_what_cannot_be_checked_is_unknown(cli):
    answer = cli("status", "--check")

    assert answer.code == 3
    assert answer.lines[0].startswith("LIVESYNC UNKNOWN - there is no database file")


@pytest.mark.parametrize(
    "arguments", [["--max-lag", "soon"], ["--max-lag=-1"], ["--max-dead", "1.5"], ["--max-lag", "nan"]]
)
def test_limits_that_make_no_sense_are_refused(installed, arguments):
    answer = installed("status", "--check", *arguments)

    # 2 would tell who watches that something is CRITICAL
    assert answer.code == 3
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith(f"LIVESYNC UNKNOWN - argument {arguments[0].partition('=')[0]}: ")
    assert installed("status", *arguments).code == 2


def test_options_that_there_are_not_make_a_check_unknown(installed):
    for arguments in (["--max-lagg", "3"], ["--max-lag"], ["--color=|x\ny"], ["extra"]):
        answer = installed("status", "--check", *arguments)

        assert (answer.code, len(answer.lines)) == (3, 1)
        assert answer.lines[0].startswith("LIVESYNC UNKNOWN - ")
        assert "|" not in answer.lines[0]
