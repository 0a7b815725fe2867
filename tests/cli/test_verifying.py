"""livesync agent verify and repair, with a real destination that somebody has meddled with."""

import sqlite3
from contextlib import closing, nullcontext

import pytest

from livesync.errors import BatchRefused


@pytest.fixture
def live(installed, put, tmp_path, monkeypatch):
    """A command line on a shelf of twelve things, all in an SQLite file."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    put(**{f"thing-{number:02}": {"title": f"Thing {number}"} for number in range(12)})
    installed("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db")
    assert installed("agent", "export", "table").code == 0
    return installed


@pytest.fixture
def meddle(tmp_path):
    """Carry out SQL in the destination behind livesync's back."""

    def carry_out(*statements):
        with closing(sqlite3.connect(tmp_path / "table.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return carry_out


LOSE = "DELETE FROM documents WHERE object_id = 'thing-03'"
ALTER = "UPDATE documents SET document = '{}' WHERE object_id = 'thing-05'"
INVENT = "INSERT INTO documents VALUES ('ghost', 1, '{}')"


def test_where_both_hold_the_same_it_is_said(live):
    answer = live("agent", "verify", "table")

    assert answer.code == 0
    assert answer.out.startswith("table: 12 checked, 12 expected, 12 held, 0 missing, 0 stale, 0 orphaned; ")
    assert answer.err == ""


def test_every_difference_is_a_line_with_its_kind_and_the_code_says_so(live, meddle):
    meddle(LOSE, ALTER, INVENT)

    answer = live("agent", "verify", "table")

    assert answer.code == 1
    assert [line.split()[:2] for line in answer.lines[:-1]] == [
        ["orphaned", "ghost"],
        ["missing", "thing-03"],
        ["stale", "thing-05"],
    ]
    assert answer.lines[-1].startswith(
        "table: 13 checked, 12 expected, 12 held, 1 missing, 1 stale, 1 orphaned; "
    )


def test_as_json_the_differences_are_a_list_and_the_counts_an_object(live, meddle):
    meddle(LOSE, INVENT)

    values = live("agent", "verify", "table", "--json").get_json()

    assert [(one["kind"], one["id"]) for one in values["differences"]] == [
        ("orphaned", "ghost"),
        ("missing", "thing-03"),
    ]
    counts = values["verification"]
    assert (counts["missing"], counts["stale"], counts["orphaned"]) == (1, 0, 1)
    assert (counts["differs"], counts["complete"], values["not_compared"]) == (True, True, [])


def test_no_more_differences_are_named_than_asked_for(live, meddle):
    meddle("DELETE FROM documents")

    lines = live("agent", "verify", "table", "--limit", "5").lines
    assert len(lines) == 7
    assert lines[5] == "and 7 more: --limit 0 names all"
    assert len(live("agent", "verify", "table", "--limit", "0").lines) == 13
    values = live("agent", "verify", "table", "--limit", "5", "--json").get_json()
    assert (len(values["differences"]), values["verification"]["missing"]) == (5, 12)


def test_a_quick_look_sees_ids_and_no_contents(live, meddle):
    meddle(LOSE, ALTER)

    answer = live("agent", "verify", "table", "--quick")

    assert answer.code == 1
    assert [line.split()[:2] for line in answer.lines[:-1]] == [["missing", "thing-03"]]


def test_what_is_still_to_be_delivered_is_no_difference(live, put):
    put(**{"thing-01": {"title": "changed"}, "thing-99": {"title": "new"}})

    answer = live("agent", "verify", "table")

    assert answer.code == 0
    assert " 2 pending" in answer.out


def test_it_works_while_the_application_has_the_file_open(live, meddle, locked):
    meddle(LOSE)
    locked()

    assert live("agent", "verify", "table").code == 1


def test_control_characters_in_ids_do_not_reach_the_terminal(live, meddle):
    meddle("INSERT INTO documents VALUES ('a' || char(27) || char(10) || 'b', 1, '{}')")

    answer = live("agent", "verify", "table")

    assert answer.lines[0].startswith("orphaned  a\\x1b\\nb")


def test_an_interrupted_verification_judges_nothing(live, meddle, monkeypatch):
    meddle(LOSE)
    monkeypatch.setattr("livesync.cli.verifying.stopping", lambda: nullcontext(lambda: True))

    answer = live("agent", "verify", "table")

    assert answer.code == 130
    assert "not everything was compared" in answer.err


# -- repair --------------------------------------------------------------------------------------


def test_what_differs_is_mended_and_nothing_else_is_sent(live, meddle):
    meddle(LOSE, ALTER, INVENT)

    answer = live("agent", "repair", "table")

    assert answer.code == 0, answer.err
    assert "1 missing, 1 stale, 1 orphaned" in answer.lines[0]
    assert answer.lines[1].startswith("table: 3 read, 3 accepted; ")
    assert live("agent", "verify", "table").code == 0


def test_where_nothing_differs_nothing_is_sent(live):
    answer = live("agent", "repair", "table")

    assert answer.code == 0
    assert answer.lines[1] == "table: nothing was sent"


def test_as_json_a_repair_says_what_differed_and_what_became_of_it(live, meddle):
    meddle(LOSE)

    values = live("agent", "repair", "table", "--json").get_json()

    assert (values["verification"]["missing"], values["result"]["accepted"]) == (1, 1)
    assert values["complete"] is True


def test_what_the_service_will_not_have_replaced_is_said(live, meddle):
    meddle("UPDATE documents SET position = 9000000000, document = '{}' WHERE object_id = 'thing-05'")

    answer = live("agent", "repair", "table")

    assert answer.code == 1
    assert "1 stale" in answer.lines[1]
    assert "livesync agent export table" in answer.err


def test_a_repair_that_is_interrupted_says_how_to_go_on(live, meddle, monkeypatch):
    meddle(LOSE, ALTER)
    monkeypatch.setattr("livesync.upkeep.sending.CHUNK_SIZE", 1)
    sent = []

    def counted(report, total):
        return sent.append if total else lambda done: None

    monkeypatch.setattr("livesync.cli.verifying.counted", counted)
    monkeypatch.setattr("livesync.cli.verifying.stopping", lambda: nullcontext(lambda: bool(sent)))

    answer = live("agent", "repair", "table")

    assert answer.code == 130
    assert "livesync agent repair table" in answer.err
    sent.clear()
    found = live("agent", "verify", "table", "--json").get_json()
    assert len(found["differences"]) == 1


def test_what_dies_while_it_is_mended_has_its_code_and_its_reason(live):
    import cliplugins

    live("agent", "add", "memory", "--type", "memory", "-o", "service=cliplugins:service")
    live("agent", "export", "memory")
    cliplugins.SERVICE.alter("thing-03", {})
    cliplugins.SERVICE.answer_next(BatchRefused("too wild"))

    answer = live("agent", "repair", "memory")

    assert answer.code == 8
    assert "set aside thing-03: too wild" in answer.err
    assert " memory thing-03 upsert, 1 attempt: too wild" in live("dead", "list", "memory").out


def test_a_document_that_cannot_be_made_is_named_and_the_others_are_mended(live, meddle, change):
    meddle(LOSE, "DELETE FROM documents WHERE object_id = 'thing-07'")
    odd = {"id": "thing-07", "title": frozenset()}
    change(lambda root: root.__setitem__("shelf", root["shelf"] | {"thing-07": odd}))

    verified = live("agent", "verify", "table")
    answer = live("agent", "repair", "table")

    assert "not comparable  thing-07" in verified.out
    assert answer.code == 0
    assert live("agent", "verify", "table", "--json").get_json()["verification"]["missing"] == 0


# -- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_service_that_is_gone_is_one_line(live, tmp_path, command):
    (tmp_path / "table.db").unlink()
    (tmp_path / "table.db").mkdir()

    answer = live("agent", command, "table")

    assert (answer.code, len(answer.err.splitlines())) == (7, 1)


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_an_unknown_agent_is_not_found(live, command):
    answer = live("agent", command, "nobody")

    assert (answer.code, len(answer.err.splitlines())) == (3, 1)


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_new_agent_has_nothing_to_compare_yet(live, tmp_path, command):
    live("agent", "add", "new", "--type", "sqlite", "-o", f"path={tmp_path}/new.db")

    answer = live("agent", command, "new")

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "agent export new" in answer.err
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_service_that_only_receives_cannot_be_compared(live, tmp_path, command):
    live("agent", "add", "files", "--type", "file", "-o", f"directory={tmp_path}/files")
    live("agent", "activate", "files", "--from-now")

    answer = live("agent", command, "files")

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_copy_of_the_database_leaves_the_originals_service_alone(live, monkeypatch, command):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert live("agent", command, "table").code == 13


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_without_a_host_there_is_nothing_to_compare_with(live, monkeypatch, command):
    monkeypatch.setenv("LIVESYNC_HOST", "")

    assert live("agent", command, "table").code == 2


def test_a_paused_agent_is_told_to_go_on_before_everything_is_compared(live, meddle):
    meddle(LOSE)
    live("agent", "pause", "table")

    answer = live("agent", "repair", "table")

    assert (answer.code, answer.out) == (2, "")
    assert "agent activate table" in answer.err
    assert live("agent", "verify", "table").code == 1


def test_a_repair_of_what_another_runner_holds_is_left_to_it(live, meddle, held_elsewhere):
    meddle(LOSE)
    held_elsewhere("table")

    answer = live("agent", "repair", "table")

    assert answer.code == 9
    assert "run by process 7 on elsewhere" in answer.err
