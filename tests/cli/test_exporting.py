"""livesync agent export: its modes, parts, and files; and livesync agent enqueue."""

import json
from contextlib import nullcontext

import pytest

from livesync.upkeep import sending


@pytest.fixture
def shelf(installed, put, monkeypatch):
    """A command line on a shelf with a box, two things in it, one beside it, and a private one."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    put(
        box={"title": "Box"},
        cup={"title": "Cup", "parent": "box"},
        dish={"title": "Dish", "parent": "box"},
        egg={"title": "Egg"},
        fig={"title": "Fig", "private": True},
    )
    return installed


@pytest.fixture
def table(shelf, tmp_path):
    """The same with a new agent ``table`` that keeps an SQLite file."""
    assert shelf("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db").code == 0
    return shelf


@pytest.fixture
def live(table):
    """The same, exported."""
    assert table("agent", "export", "table").code == 0
    return table


@pytest.fixture
def held(tmp_path):
    """What the SQLite file holds: the objects' titles by id."""

    def read():
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(tmp_path / "table.db")) as connection:
            rows = connection.execute("SELECT object_id, document FROM documents").fetchall()
        return {object_id: json.loads(document)["title"] for object_id, document in rows}

    return read


@pytest.fixture
def retitle(change):
    """Give things other titles without recording it: only what is asked for can bring it over."""

    def carry_out(*keys):
        def alter(root):
            shelf = dict(root["shelf"])
            for key in keys:
                shelf[key] = shelf[key] | {"title": f"new {shelf[key]['title']}"}
            root["shelf"] = shelf

        change(alter)

    return carry_out


def state(cli, agent_id="table"):
    return cli("agent", "show", agent_id, "--json").get_json()["agent"]["state"]


ALL = {"box": "Box", "cup": "Cup", "dish": "Dish", "egg": "Egg"}

# -- modes ---------------------------------------------------------------------------------------


def test_everything_that_is_public_is_sent_and_the_agent_is_active(table, held):
    answer = table("agent", "export", "table", "--json")

    values = answer.get_json()
    assert (answer.code, values["complete"], values["state"], values["mode"]) == (
        0,
        True,
        "active",
        "initial",
    )
    assert (values["result"]["read"], values["result"]["accepted"]) == (5, 5)
    assert held() == ALL


def test_the_agent_is_paused_in_the_end_where_that_is_asked_for(table, held):
    answer = table("agent", "export", "table", "--mode", "initial-only")

    assert (answer.code, answer.lines[-1]) == (0, "agent table is paused")
    assert held() == ALL


def test_nothing_is_sent_where_that_is_asked_for(table, tmp_path):
    answer = table("agent", "export", "table", "--mode", "none")

    assert (answer.code, answer.lines[-1]) == (0, "agent table is active")
    assert not (tmp_path / "table.db").exists()
    assert table("agent", "run", "table").code == 0


def test_where_everything_is_there_nothing_is_needed(live, tmp_path):
    answer = live("agent", "export", "table", "--mode", "when-needed")
    assert answer.lines[0].startswith("table: 0 read, 0 accepted")

    (tmp_path / "table.db").unlink()
    answer = live("agent", "export", "table", "--mode", "when-needed")
    assert answer.lines[0].startswith("table: 5 read, 5 accepted")


def test_a_mode_for_new_agents_is_refused_for_another(live):
    answer = live("agent", "export", "table", "--mode", "none")

    assert answer.code == 2
    assert "agent activate table" in answer.err


def test_a_service_that_cannot_be_rebuilt_is_left_as_it_is(live):
    answer = live("agent", "export", "table", "--rebuild")

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "cannot be rebuilt" in answer.err
    assert state(live) == "active"


def test_the_way_on_from_an_interrupted_export_has_its_mode(table, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("livesync.cli.exporting.stopping", lambda: nullcontext(lambda: True))
        answer = table("agent", "export", "table", "--mode", "initial-only")

    assert answer.code == 130
    assert answer.err.endswith("livesync agent export table --mode initial-only\n")
    assert state(table) == "recording"


def test_an_interrupted_export_that_was_paused_is_not_forgotten(table, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("livesync.cli.exporting.stopping", lambda: nullcontext(lambda: True))
        table("agent", "export", "table")
    table("agent", "pause", "table")

    answer = table("agent", "activate", "table")

    assert answer.code == 0
    assert "livesync agent export table" in answer.err


def test_an_export_of_an_agent_that_another_runner_holds_is_left_to_it(live, held_elsewhere):
    held_elsewhere("table")

    answer = live("agent", "export", "table")

    assert (answer.code, len(answer.err.splitlines())) == (9, 1)
    assert "run by process 7 on elsewhere" in answer.err


# -- parts ---------------------------------------------------------------------------------------


def test_only_what_is_named_is_sent(live, held, retitle):
    retitle("cup", "dish", "egg")

    answer = live("agent", "export", "table", "--id", "cup", "egg", "--id", "gone")

    assert answer.code == 0
    assert answer.out.startswith("table: 3 read, 3 accepted; ")
    assert held() == ALL | {"cup": "new Cup", "egg": "new Egg"}
    assert state(live) == "active"


def test_an_object_is_sent_with_everything_inside_it(live, held, retitle):
    retitle("cup", "dish", "egg")

    answer = live("agent", "export", "table", "--under", "box", "--json")

    assert (answer.get_json()["objects"], answer.get_json()["complete"]) == (3, True)
    assert held() == ALL | {"cup": "new Cup", "dish": "new Dish"}


def test_ids_may_stand_in_a_file(live, held, retitle, tmp_path):
    retitle("cup", "dish", "egg")
    (tmp_path / "ids").write_text('cup\n\n"egg"\n')

    assert live("agent", "export", "table", "--ids", tmp_path / "ids").code == 0
    assert held() == ALL | {"cup": "new Cup", "egg": "new Egg"}


def test_what_failed_is_sent_again(installed, shop, put, change):
    put(a={"title": "A", "bad": "x"}, b={"title": "B"})
    assert installed("agent", "run", "shop").code == 8
    change(lambda root: root.__setitem__("shelf", {"a": {"id": "a", "title": "A"}}))

    answer = installed("agent", "export", "shop", "--failed")

    assert answer.out.startswith("shop: 1 read, 1 accepted; ")
    assert set(shop.documents) == {"a", "b"}
    assert installed("dead", "list").out == "there are no dead letters\n"
    assert installed("agent", "export", "shop", "--failed").out == "shop: there is nothing to send\n"


def test_what_is_refused_of_a_part_is_told_with_its_code(installed, shop, put):
    put(a={"title": "A"}, b={"title": "B", "bad": "wasp"})

    answer = installed("agent", "export", "shop", "--id", "a", "b")

    assert answer.code == 8
    assert "set aside b: bad: wasp" in answer.err
    assert set(shop.documents) == {"a"}


def test_a_part_that_is_interrupted_says_how_far_it_came(live, retitle, held, monkeypatch):
    retitle("cup", "egg")
    monkeypatch.setattr(sending, "CHUNK_SIZE", 1)
    answers = iter([False, True, True])
    monkeypatch.setattr("livesync.cli.exporting.stopping", lambda: nullcontext(lambda: next(answers, True)))

    answer = live("agent", "export", "table", "--id", "cup", "egg")

    assert answer.code == 130
    assert "1 of 2 objects" in answer.err
    assert held() == ALL | {"cup": "new Cup"}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--under", "nothing"], 3, "no object 'nothing'"),
        (["--id", ""], 2, "1 to 512"),
        (["--id", "x" * 513], 2, "1 to 512"),
        (["--ids", "no-such-file"], 2, "no-such-file"),
        (["--ids", "."], 2, "cannot be read"),
        (["--ids", "/dev/null"], 2, "there are no objects"),
        (["--id", "cup", "--mode", "initial"], 2, "--mode"),
        (["--failed", "--rebuild"], 2, "--rebuild"),
        (["--under", "box", "--anew"], 2, "--anew"),
    ],
)
def test_a_part_that_makes_no_sense_is_one_line_and_sends_nothing(live, held, retitle, arguments, code, text):
    retitle("box", "cup")

    answer = live("agent", "export", "table", *arguments)

    assert answer.code == code
    assert text in answer.err
    assert (answer.out, len(answer.err.splitlines())) == ("", 1)
    assert held() == ALL


def test_a_new_agent_gets_everything_before_it_gets_a_part(table):
    answer = table("agent", "export", "table", "--id", "cup")

    assert answer.code == 2
    assert "everything first" in answer.err


@pytest.mark.parametrize("part", [[], ["--id", "cup"]])
def test_a_copy_sends_nothing(live, held, retitle, monkeypatch, part):
    retitle("cup")
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert live("agent", "export", "table", *part).code == 13
    assert held() == ALL


def test_an_unknown_agent_is_not_found(live, tmp_path):
    for part in ([], ["--id", "cup"], ["--failed"], ["--to", tmp_path / "files"]):
        assert live("agent", "export", "nobody", *part).code == 3


# -- files ---------------------------------------------------------------------------------------


def lines_of(directory):
    return [
        json.loads(line)
        for path in sorted(directory.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_everything_is_written_to_files_and_the_agent_stays_as_it_is(table, locked, tmp_path):
    locked()  # the application has the database's file open

    answer = table("agent", "export", "table", "--to", tmp_path / "files")

    assert answer.code == 0, answer.err
    assert answer.lines[0] == f"the files are in {tmp_path}/files"
    assert answer.lines[1].startswith("table: 5 read, 5 accepted; ")
    lines = lines_of(tmp_path / "files")
    assert {line["id"]: line["document"]["title"] for line in lines if line["op"] == "upsert"} == ALL
    assert [line["id"] for line in lines if line["op"] == "delete"] == ["fig"]
    assert state(table) == "new"
    assert not (tmp_path / "table.db").exists()


def test_a_part_is_written_to_files(table, tmp_path):
    answer = table("agent", "export", "table", "--under", "box", "--to", tmp_path / "files", "--json")

    values = answer.get_json()
    assert (values["objects"], values["directory"]) == (3, f"{tmp_path}/files")
    assert {line["id"] for line in lines_of(tmp_path / "files")} == {"box", "cup", "dish"}


def test_files_are_for_the_agents_audience(table, tmp_path):
    table("agent", "edit", "table", "-o", "only=cliplugins:is_cup")

    table("agent", "export", "table", "--to", tmp_path / "files")

    assert [line["id"] for line in lines_of(tmp_path / "files") if line["op"] == "upsert"] == ["cup"]


def test_without_the_agents_type_nobody_knows_for_whom_files_are(table, change, tmp_path):
    change(lambda root: setattr(root["livesync"].stored("table"), "type_name", "gone.away:Type"))

    answer = table("agent", "export", "table", "--to", tmp_path / "files")

    assert (answer.code, len(answer.err.splitlines())) == (3, 1)
    assert not (tmp_path / "files").exists()


def test_a_directory_that_cannot_be_made_is_an_error(table, tmp_path):
    (tmp_path / "files").write_text("a file")

    answer = table("agent", "export", "table", "--to", tmp_path / "files")

    assert (answer.code, len(answer.err.splitlines())) == (7, 1)
    assert str(tmp_path / "files") in answer.err


@pytest.mark.parametrize("option", [["--mode", "initial"], ["--rebuild"], ["--anew"]])
def test_what_is_for_the_service_is_not_for_files(table, tmp_path, option):
    answer = table("agent", "export", "table", "--to", tmp_path / "files", *option)

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert option[0] in answer.err


# -- enqueue -------------------------------------------------------------------------------------


def test_what_is_enqueued_is_sent_by_the_next_run(live, held, retitle):
    retitle("cup", "egg")

    answer = live("agent", "enqueue", "table", "cup", "gone")

    assert answer.code == 0
    assert answer.out == "2 objects are queued; the next run sends them: livesync agent run table\n"
    assert held() == ALL
    assert live("agent", "run", "table").code == 0
    assert held() == ALL | {"cup": "new Cup"}


def test_enqueued_ids_may_stand_in_a_file_too(live, held, retitle, tmp_path):
    retitle("cup", "egg", "dish")
    (tmp_path / "ids").write_text("cup\negg\n")

    values = live("agent", "enqueue", "table", "dish", "--ids", tmp_path / "ids", "--json").get_json()
    live("agent", "run", "table")

    assert values == {"format": 1, "agent": "table", "queued": 3}
    assert held() == ALL | {"cup": "new Cup", "dish": "new Dish", "egg": "new Egg"}


def test_many_ids_are_queued_in_several_transactions(live, tmp_path, monkeypatch):
    monkeypatch.setattr("livesync.cli.enqueueing._A_TRANSACTION", 10)
    (tmp_path / "ids").write_text("".join(f"{number}\n" for number in range(25)))

    assert live("agent", "enqueue", "table", "--ids", tmp_path / "ids").code == 0
    assert live("agent", "show", "table", "--json").get_json()["agent"]["queued"] == 25


def test_records_carry_the_action_that_is_given(live, change):
    live("agent", "enqueue", "table", "cup", "--action", "moved", "--action", "shelved")

    pages = change(lambda root: [page.words for page in root["livesync"].stored("table").queue.values()])
    assert pages == [("moved", "shelved")]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nobody", "cup"], 3, "'nobody'"),
        (["table"], 2, "there are no objects"),
        (["table", ""], 2, "1 to 512"),
        (["table", "cup", "x" * 513], 2, "1 to 512"),
        (["table", "cup", "--action", "two words"], 2, "'two words'"),
        (["table", "cup", "--action", ""], 2, "no action word"),
        (["table", "cup", "--ids", "no-such-file"], 2, "no-such-file"),
    ],
)
def test_what_cannot_be_enqueued_is_one_line_and_queues_nothing(live, arguments, code, text):
    answer = live("agent", "enqueue", *arguments)

    assert answer.code == code
    assert text in answer.err
    assert (answer.out, len(answer.err.splitlines())) == ("", 1)
    assert live("agent", "show", "table", "--json").get_json()["agent"]["queued"] == 0


def test_a_new_agent_has_no_queue_yet(table):
    answer = table("agent", "enqueue", "table", "cup")

    assert answer.code == 2
    assert "agent export table" in answer.err
