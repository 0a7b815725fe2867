"""install, upgrade, adopt and destroy."""

import io

import pytest


def test_install_makes_the_file_and_says_so(cli, data):
    answer = cli("install", "--granularity", "100", "--site", "production")

    assert answer.code == 0
    assert data.exists()
    assert answer.lines[0] == f"made the database file {data}"
    assert "site production, granularity 100 s" in answer.lines[1]


def test_install_takes_the_site_of_the_settings(cli, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert cli("install", "--json").get_json()["site"] == "staging"


def test_installing_again_changes_nothing(installed):
    before = installed("status", "--json").get_json()

    answer = installed("install", "--json")

    assert answer.code == 0
    assert answer.get_json()["installed"] is False
    assert answer.get_json()["made_file"] is False
    assert installed("status", "--json").get_json() == before


def test_installing_again_with_other_values_is_refused(installed):
    assert installed("install", "--granularity", "5").code == 2
    answer = installed("install", "--site", "other")

    assert answer.code == 2
    assert "adopt" in answer.err


@pytest.mark.parametrize("granularity", ["0", "-1", "1.5", "x", "", "100000", "²"])
def test_a_granularity_that_makes_no_sense_is_refused(cli, data, granularity):
    assert cli("install", f"--granularity={granularity}").code == 2
    assert not data.exists()


def test_install_does_not_make_directories(cli):
    answer = cli("install", "--db", "file:///no/such/place/Data.fs")

    assert answer.code == 4
    assert "/no/such/place" in answer.err


def test_upgrade_says_when_there_is_nothing_to_do(installed):
    answer = installed("upgrade")

    assert answer.code == 0
    assert "nothing to do" in answer.out


def test_adopt_pauses_the_agents_and_tells_how_they_will_run(installed):
    installed("agent", "add", "a", "--type", "cliplugins:CountingAgent")
    installed("agent", "activate", "a", "--from-now")
    track = installed("status", "--json").get_json()["status"]["track_id"]

    answer = installed("adopt", "--site", "staging")

    status = installed("status", "--json").get_json()["status"]
    assert answer.code == 0
    assert "LIVESYNC_SITE=staging" in answer.out
    assert status["site"] == "staging"
    assert status["track_id"] != track
    assert status["agents"][0]["state"] == "paused"


def test_adopt_wants_a_name(installed):
    assert installed("adopt", "--site", " ").code == 2


def test_destroy_without_anybody_to_ask_wants_yes(installed, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ndestroy\n"))

    answer = installed("destroy")

    assert answer.code == 2
    assert "--yes" in answer.err
    assert installed("status").code == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answers", ["n\n", "\n", "", "y\nno\n", "y\ny\n", "y\n"])
def test_destroy_removes_nothing_unless_both_questions_are_answered(installed, monkeypatch, answers):
    monkeypatch.setattr("sys.stdin", Terminal(answers))

    answer = installed("destroy")

    assert answer.code == 0
    assert "nothing was removed" in answer.err
    assert installed("status").code == 0


def test_destroy_lists_what_goes_and_asks_twice(installed, monkeypatch, change):
    from livesync.action import ActionWrapper

    installed("agent", "add", "search", "--type", "cliplugins:CountingAgent")
    change(lambda root: root["livesync"].add(5, ActionWrapper(5, "x", ["created"])))
    change(lambda root: root.__setitem__("application", "its own"))
    monkeypatch.setattr("sys.stdin", Terminal("y\ndestroy\n"))

    answer = installed("destroy")

    assert answer.code == 0
    assert "1 agent with its pointer: search" in answer.err
    assert "1 action on the track" in answer.err
    assert answer.err.count("? [y/N]") == 1
    assert installed("status").code == 11
    assert change(lambda root: dict(root)) == {"application": "its own"}


def test_destroy_for_scripts(installed):
    assert installed("destroy", "--yes", "--json").get_json() == {"format": 1, "removed": True}
    assert installed("destroy", "--yes").code == 11
