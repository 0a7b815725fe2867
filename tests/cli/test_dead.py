"""livesync dead: list, show, retry and discard; and livesync forget."""

import json

import pytest
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.errors import DocumentErased
from livesync.versions import VersionedCollection


@pytest.fixture
def dead(installed, shop, put):
    """A command line on an agent with dead letters of ``a`` and, as the newer one, ``b``."""
    put(a={"title": "A", "bad": "apples"}, c={"title": "C"})
    assert installed("agent", "run", "shop").code == 8
    put(b={"title": "B", "bad": "bee\nstings"})
    assert installed("agent", "run", "shop").code == 8
    return installed


_KEPT: list[bytes] = []


@pytest.fixture
def dead_alone(request, cli, data):
    """The same without the service, for what does not come to it: the database is made once."""
    if _KEPT:
        data.write_bytes(_KEPT[0])
        return cli
    made = request.getfixturevalue("dead")
    _KEPT.append(data.read_bytes())
    return made


def letters(cli):
    return [one["id"] for one in cli("dead", "list", "--json").get_json()["dead_letters"]]


# -- list ----------------------------------------------------------------------------------------


def test_letters_are_a_line_each_newest_first(dead_alone):
    lines = dead_alone("dead", "list").lines

    assert [line.split()[1:6] for line in lines] == [
        ["shop", "b", "upsert,", "1", "attempt:"],
        ["shop", "a", "upsert,", "1", "attempt:"],
    ]
    assert lines[0].endswith(": bad: bee stings")
    assert lines[0].split()[0].endswith("Z")


def test_how_often_it_was_tried_and_since_when_is_told(dead):
    dead("dead", "retry", "shop", "a")

    line = dead("dead", "list").lines[0]

    assert " shop a upsert, 2 attempts since 20" in line


def test_a_limit_says_how_many_more_there_are(dead_alone):
    lines = dead_alone("dead", "list", "shop", "--limit", "1").lines

    assert len(lines) == 2
    assert lines[1] == "and 1 more"


def test_as_json_everything_but_the_document_is_listed(dead_alone):
    values = dead_alone("dead", "list", "--json", "--limit", "1").get_json()

    assert (values["format"], values["total"]) == (1, 2)
    (letter,) = values["dead_letters"]
    assert letter["actions"] == ["created"]
    assert set(letter) == {
        *("agent", "id", "op", "position", "actions", "reason", "attempts"),
        *("first_time", "time", "size", "digest"),
    }


def test_where_there_are_none_it_is_said(installed):
    assert installed("dead", "list").out == "there are no dead letters\n"
    assert installed("dead", "list", "--json").get_json() == {"format": 1, "total": 0, "dead_letters": []}


# -- show ----------------------------------------------------------------------------------------


def test_a_letter_is_shown_with_the_document_as_it_was_refused(dead, put):
    put(a={"title": "changed since"})

    lines = dead("dead", "show", "shop", "a").lines

    facts = dict(line.split(":", 1) for line in lines[:10])
    assert facts["object"].strip() == "a"
    assert facts["reason"].strip() == "bad: apples"
    assert facts["actions"].strip() == "created"
    assert facts["document"].strip().startswith("37 bytes, digest ")
    assert json.loads("\n".join(lines[10:])) == {"bad": "apples", "id": "a", "title": "A"}


def test_as_json_the_document_is_an_object(dead_alone):
    letter = dead_alone("dead", "show", "shop", "a", "--json").get_json()["dead_letter"]

    assert letter["document"] == {"bad": "apples", "id": "a", "title": "A"}
    assert letter["attempts"] == 1


def test_of_a_document_that_was_too_long_size_and_digest_are_shown(installed, shop, put):
    put(a={"title": "A", "bad": "x" * 70_000})
    installed("agent", "run", "shop")

    answer = installed("dead", "show", "shop", "a")

    assert answer.lines[-1].startswith("document:     too long to be kept: 70,031 bytes, digest ")
    assert installed("dead", "show", "shop", "a", "--json").get_json()["dead_letter"]["document"] is None


def test_a_letter_that_an_older_livesync_kept_is_shown(installed, change):
    installed("agent", "add", "a", "--type", "cliplugins:CountingAgent")
    kept = {"reason": "no title", "op": "upsert", "position": 3, "time": 5.0, "attempts": 2}
    change(lambda root: root["livesync"].stored("a").dead.update({"x": kept}))

    lines = installed("dead", "show", "a", "x").lines

    assert "first time:   1970-01-01T00:00:05Z" in lines
    assert lines[-1] == "document:     none was sent"


def test_control_characters_in_a_document_do_not_reach_the_terminal(installed, shop, put):
    put(a={"title": "\x1b[31m\x9b31m\u2028", "bad": "1"})
    installed("agent", "run", "shop")

    answer = installed("dead", "show", "shop", "a")

    assert not {"\x1b", "\x9b", "\u2028"} & set(answer.out)


# -- retry ---------------------------------------------------------------------------------------


def test_what_was_mended_is_delivered_and_loses_its_letter(dead, shop, change):
    change(lambda root: root.__setitem__("shelf", root["shelf"] | {"a": {"id": "a", "title": "mended"}}))

    answer = dead("dead", "retry", "shop", "a")

    assert answer.code == 0
    assert answer.out.startswith("shop: 1 read, 1 accepted; ")
    assert shop.documents["a"] == {"id": "a", "title": "mended"}
    assert letters(dead) == ["b"]


def test_what_dies_again_has_its_code_and_reason(dead):
    answer = dead("dead", "retry", "shop", "--all")

    assert answer.code == 8
    assert "2 set aside" in answer.out
    assert "set aside a: bad: apples" in answer.err
    assert sorted(letters(dead)) == ["a", "b"]


def test_as_json_a_retry_says_what_became_of_it(dead):
    values = dead("dead", "retry", "shop", "--all", "--json").get_json()

    assert (values["agent"], values["objects"], values["complete"]) == ("shop", 2, True)
    assert values["result"]["dead"] == 2


def test_where_there_is_nothing_to_retry_it_is_said(installed, shop):
    answer = installed("dead", "retry", "shop", "--all")

    assert (answer.code, answer.out) == (0, "shop: there is nothing to send\n")


def test_a_copy_of_the_database_sends_nothing_again(dead, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert dead("dead", "retry", "shop", "--all").code == 13


def test_an_agent_that_another_runner_holds_is_left_to_it(dead, held_elsewhere):
    held_elsewhere("shop")

    answer = dead("dead", "retry", "shop", "--all")

    assert answer.code == 9
    assert "run by process 7 on elsewhere" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_service_that_is_away_keeps_the_letters(dead, shop):
    dead("agent", "edit", "shop", "-o", "max_attempts=1")
    shop.server_close()

    assert dead("dead", "retry", "shop", "--all").code == 7
    assert sorted(letters(dead)) == ["a", "b"]


# -- discard -------------------------------------------------------------------------------------


def test_what_is_discarded_is_gone(dead_alone):
    assert dead_alone("dead", "discard", "shop", "a").out == "1 dead letter of agent shop is thrown away\n"
    assert letters(dead_alone) == ["b"]
    assert dead_alone("dead", "discard", "shop", "--all", "--json").get_json() == {
        "format": 1,
        "agent": "shop",
        "discarded": 1,
    }
    assert letters(dead_alone) == []


# -- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["list", "nobody"], 3, "'nobody'"),
        (["show", "nobody", "a"], 3, "'nobody'"),
        (["show", "shop", "z"], 3, "livesync dead list shop"),
        (["retry", "nobody", "--all"], 3, "'nobody'"),
        (["retry", "shop", "a", "z"], 3, "'z'"),
        (["retry", "shop"], 2, "--all"),
        (["retry", "shop", "a", "--all"], 2, "not both"),
        (["discard", "nobody", "--all"], 3, "'nobody'"),
        (["discard", "shop", "a", "z"], 3, "'z'"),
        (["discard", "shop"], 2, "--all"),
        (["discard", "shop", "a", "--all"], 2, "not both"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(dead_alone, monkeypatch, arguments, code, text):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")

    answer = dead_alone("dead", *arguments)

    assert answer.code == code
    assert text in answer.err
    assert (answer.out, len(answer.err.splitlines())) == ("", 1)
    assert sorted(letters(dead_alone)) == ["a", "b"]


# -- forget --------------------------------------------------------------------------------------


def test_what_is_forgotten_leaves_no_trace_but_on_the_track(dead_alone):
    dead_alone("agent", "enqueue", "shop", "a", "b")

    answer = dead_alone("forget", "a")

    assert answer.code == 0
    assert (
        answer.lines[0] == "a: erased 1 dead letter, 1 time in slow queues, 0 texts of errors (agents shop)"
    )
    assert "livesync agent enqueue AGENT a" in answer.out
    assert letters(dead_alone) == ["b"]
    assert dead_alone("agent", "show", "shop", "--json").get_json()["agent"]["queued"] == 1


def test_as_json_what_was_forgotten_is_counted(dead_alone):
    assert dead_alone("forget", "b", "--json").get_json() == {
        "format": 1,
        "object_id": "b",
        "dead_letters": 1,
        "queued": 0,
        "texts": 0,
        "agents": ["shop"],
        "two_way": None,
        "histories": [],
    }


def test_forgetting_what_nobody_knows_erases_nothing(dead_alone):
    answer = dead_alone("forget", "nobody")

    assert answer.code == 0
    assert answer.lines[0] == "nobody: erased 0 dead letters, 0 times in slow queues, 0 texts of errors"


def test_forgetting_an_object_erases_it_from_all_versions(cli, data):
    assert cli("install").code == 0
    db = ZODB.DB(FileStorage(str(data)))
    with db.transaction() as connection:
        docs = VersionedCollection(connection, "docs")
        docs.documents["talk-12"] = {"speaker": "Mrs Byron"}
        docs.init()
    db.close()

    answer = cli("forget", "talk-12")

    assert answer.code == 0
    assert "history: erased from all versions of docs" in answer.lines
    db = ZODB.DB(FileStorage(str(data)))
    with db.transaction() as connection, pytest.raises(DocumentErased):
        VersionedCollection(connection, "docs").read("talk-12")
    db.close()
    assert cli("forget", "talk-12", "--json").get_json()["histories"] == []


@pytest.mark.parametrize("object_id", ["", "x" * 513])
def test_what_is_no_id_cannot_be_forgotten(dead_alone, object_id):
    answer = dead_alone("forget", object_id)

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
