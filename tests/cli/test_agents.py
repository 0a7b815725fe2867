"""livesync agent: list, types, add, show, edit, remove, activate, pause, rewind, add_task."""

import pytest

from livesync.delivery import ledger
from livesync.delivery.record import RunResult

TYPE = "cliplugins:CountingAgent"


@pytest.fixture
def added(installed):
    """A command line with one new agent, ``a``."""
    assert installed("agent", "add", "a", "--type", TYPE).code == 0
    return installed


@pytest.fixture
def active(added):
    """A command line with one active agent, ``a``."""
    assert added("agent", "activate", "a", "--from-now").code == 0
    return added


def shown(cli, agent_id="a"):
    return cli("agent", "show", agent_id, "--json").get_json()["agent"]


def test_where_there_is_no_agent_the_way_to_add_one_is_told(installed):
    answer = installed("agent", "list")

    assert answer.code == 0
    assert "agent add" in answer.out


def test_agents_are_listed_with_type_and_state(active):
    lines = active("agent", "list").lines

    assert lines[0].split() == ["AGENT", "TYPE", "STATE", "NAME"]
    assert lines[1].split() == ["a", TYPE, "active", "a"]


def test_types_are_listed_with_their_options(cli):
    answer = cli("agent", "types")

    assert answer.code == 0
    for name in ("file:", "http:", "memory:", "sqlite:"):
        assert any(line.startswith(name) for line in answer.lines)
    assert {found["name"] for found in cli("agent", "types", "--json").get_json()["types"]} >= {
        "file",
        "sqlite",
    }


def test_a_new_agent_gets_its_options_and_the_way_on_is_told(installed):
    answer = installed(
        "agent", "add", "a", "--type", TYPE, "--name", "Search", "-o", "size=5", "-o", "outcome=dead"
    )

    assert answer.code == 0
    assert answer.out == "agent a is added; let it begin with:\n  livesync agent activate a --from-now\n"
    found = shown(installed)
    assert found["name"] == "Search"
    assert found["state"] == "new"
    assert found["options"]["size"] == 5
    assert found["options"]["outcome"] == "dead"


def test_one_that_pushes_is_told_to_export(installed):
    answer = installed("agent", "add", "index", "--type", "sqlite", "-o", "path=index.db")

    assert "  livesync agent export index" in answer.lines
    assert "or let it begin now with: livesync agent activate index --from-now" in answer.lines


def test_adding_an_agent_installs_livesync_where_it_is_not(installed, monkeypatch):
    installed("destroy", "--yes")
    monkeypatch.setenv("LIVESYNC_SITE", "production")

    answer = installed("agent", "add", "a", "--type", TYPE)

    assert answer.code == 0
    assert "installed now, for site 'production'" in answer.out
    assert installed("status", "--json").get_json()["status"]["site"] == "production"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--type", "nonsense"], 3, "there is no agent type 'nonsense'"),
        (["--type", "no.such.module:Type"], 3, "cannot be imported"),
        (["--type", "cliplugins:NoSuchType"], 3, "cannot be imported"),
        (["--type", "cliplugins:no_host"], 3, "no agent type"),
        (["--type", TYPE, "-o", "colour=red"], 2, "there is no option 'colour'"),
        (["--type", TYPE, "-o", "name=red"], 2, "there is no option 'name'"),
        (["--type", TYPE, "-o", "size=many"], 2, "option size"),
        (["--type", TYPE, "-o", "size=0"], 2, "option size"),
        (["--type", TYPE, "-o", "size=1", "-o", "size=2"], 2, "given twice"),
        (["--type", TYPE, "-o", "outcome=maybe"], 2, "option outcome"),
        (["--type", TYPE, "-o", "only=nothing"], 2, "option only"),
        (["--type", TYPE, "-o", "size"], 2, "KEY=VALUE"),
        (["--type", TYPE, "-o", "=5"], 2, "KEY=VALUE"),
    ],
)
def test_an_agent_that_makes_no_sense_is_not_added(installed, arguments, code, text):
    answer = installed("agent", "add", "a", *arguments)

    assert answer.code == code
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    assert installed("agent", "show", "a").code == 3


@pytest.mark.parametrize("agent_id", ["a b", "../a", "", "ä", "x" * 65])
def test_an_id_of_another_form_is_refused(installed, agent_id):
    answer = installed("agent", "add", agent_id, "--type", TYPE)

    assert answer.code == 2
    assert "agent id" in answer.err


def test_an_id_that_exists_is_refused(added):
    answer = added("agent", "add", "a", "--type", TYPE)

    assert answer.code == 2
    assert "already" in answer.err


def test_a_secret_itself_is_refused_and_not_repeated(installed):
    answer = installed("agent", "add", "a", "--type", TYPE, "-o", "key=hunter2")

    assert answer.code == 2
    assert "hunter2" not in answer.err
    assert "env:NAME" in answer.err


def test_of_a_secret_only_the_reference_is_shown(installed, monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "hunter2")
    installed("agent", "add", "a", "--type", TYPE, "-o", "key=env:SERVICE_KEY")

    answer = installed("agent", "show", "a")

    assert "env:SERVICE_KEY" in answer.out
    assert "hunter2" not in answer.out


@pytest.mark.parametrize(
    "command",
    [
        ["show", "nobody"],
        ["edit", "nobody", "--name", "x"],
        ["edit", "nobody", "-o", "size=3"],
        ["remove", "nobody"],
        ["activate", "nobody"],
        ["activate", "nobody", "--from-now"],
        ["pause", "nobody"],
        ["rewind", "nobody", "--to", "1"],
        ["add_task", "nobody", "--interval", "5m"],
        ["run", "nobody", "--host", "cliplugins:ShelfHost"],
    ],
)
def test_an_unknown_agent_is_not_found(added, command):
    answer = added("agent", *command)

    assert answer.code == 3
    assert "'nobody'" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_the_last_runs_are_shown_with_what_became_of_them(installed, shop, put):
    put(a={"title": "A"}, b={"title": "B", "bad": "wasp"})
    installed("agent", "run", "shop")
    installed("dead", "retry", "shop", "--all")
    put(c={"title": "C"})
    shop.server_close()
    installed("agent", "edit", "shop", "-o", "max_attempts=1")
    installed("agent", "run", "shop")

    answer = installed("agent", "show", "shop")

    runs = answer.lines[answer.lines.index("last runs:") + 1 :]
    assert [line.split(" ")[3] for line in runs[:3]] == ["run,", "retry,", "run,"]
    assert "; failed: " in runs[0]
    assert runs[1].endswith(": 1 read, 1 dead")
    assert runs[2].endswith(": 2 read, 1 accepted, 1 dead")
    assert runs[3] == "dead letter: b: bad: wasp"
    totals = next(line for line in answer.lines if line.startswith("totals:"))
    assert "3 read, 1 accepted, 2 dead; " in totals
    assert " requests, 95 % of them within " in totals


def test_no_more_runs_are_shown_than_asked_for(installed, shop, put):
    for number in range(7):
        put(**{f"thing-{number}": {"title": "T"}})
        installed("agent", "run", "shop")

    def runs(*arguments):
        return installed("agent", "show", "shop", *arguments, "--json").get_json()["agent"]["runs"]

    assert [len(runs(*arguments)) for arguments in ([], ["--runs", "0"], ["--runs", "50"])] == [5, 0, 7]
    assert [run["number"] for run in runs()] == [6, 5, 4, 3, 2]
    assert {(run["kind"], run["balance"]) for run in runs()} == {("run", 0)}


def test_a_run_that_was_killed_and_one_that_does_not_balance_are_told(added, change):
    def note(root):
        stored = root["livesync"].stored("a")
        ledger.note(stored, ledger.begin(stored, "export", 100.0), RunResult(read=5, accepted=3))

    change(note)

    line = added("agent", "show", "a").lines[-1]

    assert line == ("  1970-01-01T00:01:40Z export, not ended: 5 read, 3 accepted; does not balance: 2")


def test_who_holds_an_agent_and_what_is_queued_is_shown(active, held_elsewhere):
    active("agent", "enqueue", "a", "x", "y", "z")
    held_elsewhere("a")

    lines = active("agent", "show", "a").lines

    assert "held:         run by process 7 on elsewhere" in lines
    assert "slow queue:   3 objects" in lines


def test_of_many_dead_letters_the_last_ones_are_named(active, change):
    def die(root):
        letter = {"reason": "why", "op": "upsert", "position": 1, "attempts": 1}
        for number in range(25):
            root["livesync"].stored("a").dead[f"{number:02}"] = {**letter, "time": float(number)}

    change(die)

    lines = active("agent", "show", "a").lines

    assert lines[-11:-9] == ["dead letter: 24: why", "dead letter: 23: why"]
    assert lines[-1] == "and 15 more: livesync dead list a"
    assert len(shown(active)["dead_letters"]) == 25


def test_editing_changes_what_is_given_and_leaves_the_rest(added):
    added("agent", "edit", "a", "-o", "size=5", "--description", "for the intranet")
    added("agent", "edit", "a", "--name", "Search")

    found = shown(added)
    assert (found["name"], found["description"], found["options"]["size"]) == (
        "Search",
        "for the intranet",
        5,
    )


def test_an_option_without_a_value_goes_back_to_its_default(added):
    added("agent", "edit", "a", "-o", "size=5")
    added("agent", "edit", "a", "-o", "size=")

    assert shown(added)["options"]["size"] is None


def test_an_edit_of_nothing_is_refused(added):
    assert added("agent", "edit", "a").code == 2


@pytest.mark.parametrize("option", ["size=x", "colour=red", "key=hunter2", "agent_id=b"])
def test_an_edit_to_something_wrong_changes_nothing(added, option):
    before = shown(added)

    assert added("agent", "edit", "a", "-o", option).code == 2
    assert shown(added) == before


def test_another_destination_stops_the_agent_and_says_why(active, tmp_path):
    answer = active("agent", "edit", "a", "-o", f"place={tmp_path}/elsewhere")

    assert answer.code == 0
    assert "agent export a" in answer.out
    assert shown(active)["reason"] == "needs_export"


def test_a_new_agent_is_told_to_say_where_it_begins(added):
    answer = added("agent", "activate", "a")

    assert answer.code == 2
    for way in ("--from-now", "--from-start", "agent export a"):
        assert way in answer.err
    assert shown(added)["state"] == "new"


@pytest.mark.parametrize("start", ["--from-now", "--from-start"])
def test_a_new_agent_is_activated_where_it_is_told(added, start):
    assert added("agent", "activate", "a", start).code == 0
    assert shown(added)["state"] == "active"


def test_a_paused_agent_goes_on_where_it_was(active):
    assert active("agent", "pause", "a").code == 0
    assert shown(active)["state"] == "paused"
    assert active("agent", "activate", "a").code == 0
    assert shown(active)["state"] == "active"


def test_an_agent_that_has_a_pointer_keeps_it(active):
    active("agent", "pause", "a")

    answer = active("agent", "activate", "a", "--from-start")

    assert answer.code == 2
    assert "rewind" in answer.err


def test_pausing_tells_of_a_run_that_is_under_way(active, held_elsewhere):
    held_elsewhere("a")

    answer = active("agent", "pause", "a")

    assert answer.code == 0
    assert "run by process 7 on elsewhere" in answer.out
    assert "ends after its slice" in answer.out
    assert shown(active)["state"] == "paused"


def test_a_pointer_is_not_moved_under_a_run(active, held_elsewhere):
    held_elsewhere("a")
    active("agent", "pause", "a")

    answer = active("agent", "rewind", "a", "--to", "0")

    assert (answer.code, len(answer.err.splitlines())) == (9, 1)


def test_a_new_agent_cannot_be_paused(added):
    assert added("agent", "pause", "a").code == 2


def test_a_removed_agent_is_gone(active):
    assert active("agent", "remove", "a").code == 0
    assert active("agent", "show", "a").code == 3
    assert active("agent", "add", "a", "--type", TYPE).code == 0


@pytest.fixture
def sealed(active, change):
    """A command line with an active agent and a track that is sealed up to 1000."""

    def fill(root):
        manager = root["livesync"]
        manager.track.seal(1000)
        manager.advance("a", 900)

    change(fill)
    return active


def test_only_a_paused_agent_is_rewound(sealed):
    answer = sealed("agent", "rewind", "a", "--to", "100")

    assert answer.code == 2
    assert "agent pause a" in answer.err
    assert shown(sealed)["position"] == 900


def test_a_pointer_is_put_at_a_position_or_a_time(sealed):
    sealed("agent", "pause", "a")

    assert sealed("agent", "rewind", "a", "--to", "100").code == 0
    assert shown(sealed)["position"] == 100
    assert sealed("agent", "rewind", "a", "--to", "1970-01-01T00:10:00Z").code == 0
    assert shown(sealed)["position"] == 600


@pytest.mark.parametrize(
    "position", ["1001", "99999999999999999999999", "yesterday", "-5", "2026-11-05T10:00:00", "1.5"]
)
def test_a_pointer_cannot_be_put_where_there_is_nothing(sealed, position):
    sealed("agent", "pause", "a")

    answer = sealed("agent", "rewind", "a", f"--to={position}")

    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert shown(sealed)["position"] == 900


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172800), ("1.5h", 5400)]
)
def test_an_interval_is_set(added, text, seconds):
    assert added("agent", "add_task", "a", "--interval", text).code == 0
    assert shown(added)["interval_s"] == seconds


def test_an_interval_is_taken_off(added):
    added("agent", "add_task", "a", "--interval", "5m")

    assert added("agent", "add_task", "a", "--off").code == 0
    assert shown(added)["interval_s"] is None


@pytest.mark.parametrize(
    "text", ["0", "-5", "0.1s", "5 parsecs", "soon", "", "inf", "nan", "400d", "1e3", "\u0665m"]
)
def test_an_interval_that_makes_no_sense_is_refused(added, text):
    answer = added("agent", "add_task", "a", f"--interval={text}")

    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert shown(added)["interval_s"] is None


def test_an_agent_whose_type_is_gone_can_be_seen_and_removed(active, change):
    change(lambda root: setattr(root["livesync"].stored("a"), "type_name", "gone.away:Type"))

    answer = active("agent", "show", "a")

    assert answer.code == 0
    assert "stopped: type_missing" in answer.out
    assert active("agent", "list").code == 0
    assert active("agent", "edit", "a", "-o", "size=3").code == 3
    assert active("agent", "remove", "a").code == 0
