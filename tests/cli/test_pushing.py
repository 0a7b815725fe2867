"""simulate, run and export with the demo's catalogue and real destinations."""

import json
import sqlite3
import sys

import pytest

from livesync.cli.progress import ProgressLines, describe_pace
from livesync.demo.__main__ import main as demo


@pytest.fixture(scope="session")
def replayed(tmp_path_factory):
    """The bytes of a database in which the beginning of the demo's history lies."""
    from importlib import resources

    path = tmp_path_factory.mktemp("replayed") / "Data.fs"
    history = resources.files("livesync.demo") / "history-small.jsonl.gz"
    assert demo(["replay", str(history), "--db", f"file://{path}", "--limit", "20"]) == 0
    return path.read_bytes()


@pytest.fixture
def catalogue(replayed, data, cli, monkeypatch):
    """The command line on such a database, with the demo as its host."""
    data.write_bytes(replayed)
    monkeypatch.setenv("LIVESYNC_HOST", "demo")
    return cli


@pytest.fixture
def search(catalogue, tmp_path):
    """The same, with an agent ``search`` that begins at the start of the track."""
    assert (
        catalogue("agent", "add", "search", "--type", "sqlite", "-o", f"path={tmp_path}/search.db").code == 0
    )
    assert catalogue("agent", "activate", "search", "--from-start").code == 0
    return catalogue


def indexed(tmp_path):
    with sqlite3.connect(tmp_path / "search.db") as connection:
        rows = connection.execute("SELECT object_id, document FROM documents").fetchall()
    connection.close()
    return {object_id: json.loads(document) for object_id, document in rows}


def test_simulate_shows_what_a_run_would_send_and_changes_nothing(search, locked, tmp_path):
    locked()  # a host's process has the file open

    answer = search("agent", "simulate", "search")

    assert answer.code == 0
    assert {line.split()[0] for line in answer.lines} <= {"upsert", "delete"}
    assert answer.out == search("agent", "simulate", "search").out or answer.lines
    assert not (tmp_path / "search.db").exists()


def test_what_simulate_shows_is_what_is_sent(search, tmp_path):
    simulated = search("agent", "simulate", "search", "--documents", "--json").get_json()["records"]

    assert search("agent", "run", "search").code == 0

    assert indexed(tmp_path) == {
        record["id"]: record["document"] for record in simulated if record["op"] == "upsert"
    }


def test_simulate_with_documents_shows_each_below_its_record(search):
    lines = search("agent", "simulate", "search", "--documents").lines

    upserts = [number for number, line in enumerate(lines) if line.startswith("upsert ")]
    assert upserts
    for number in upserts:
        assert isinstance(json.loads(lines[number + 1]), dict)


def test_after_a_run_there_is_nothing_to_simulate(search):
    search("agent", "run", "search")

    assert search("agent", "simulate", "search").out == "nothing would be sent\n"


def test_an_agent_without_a_pointer_has_nothing_to_simulate_or_run(catalogue, tmp_path):
    catalogue("agent", "add", "new", "--type", "file", "-o", f"directory={tmp_path}/out")

    for command in ("simulate", "run"):
        answer = catalogue("agent", command, "new")
        assert answer.code == 2
        assert "agent export new" in answer.err
        assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["simulate", "run", "export"])
def test_an_unknown_agent_is_not_found(search, command):
    assert search("agent", command, "nobody").code == 3


def test_an_export_sends_everything_and_makes_the_agent_active(catalogue, tmp_path):
    catalogue("agent", "add", "search", "--type", "sqlite", "-o", f"path={tmp_path}/search.db")

    answer = catalogue("agent", "export", "search")

    assert answer.code == 0, answer.err
    assert answer.lines[-1] == "agent search is active"
    assert indexed(tmp_path)
    assert catalogue("agent", "simulate", "search").out == "nothing would be sent\n"


def test_an_export_that_is_asked_to_stop_says_how_to_go_on(catalogue, tmp_path, monkeypatch):
    from contextlib import nullcontext

    catalogue("agent", "add", "search", "--type", "sqlite", "-o", f"path={tmp_path}/search.db")
    with monkeypatch.context() as patch:
        patch.setattr("livesync.cli.exporting.stopping", lambda: nullcontext(lambda: True))
        answer = catalogue("agent", "export", "search")

    assert answer.code == 130
    assert "livesync agent export search" in answer.err
    assert catalogue("agent", "run", "search").code == 2
    assert catalogue("agent", "export", "search").code == 0


def test_a_copy_exports_nothing(catalogue, tmp_path, monkeypatch):
    catalogue("agent", "add", "search", "--type", "sqlite", "-o", f"path={tmp_path}/search.db")
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert catalogue("agent", "export", "search").code == 13
    assert not (tmp_path / "search.db").exists()


def test_a_service_that_does_not_answer_leaves_the_pointer_where_it_is(catalogue):
    catalogue(
        "agent", "add", "hook", "--type", "http", "-o", "url=http://127.0.0.1:9/", "-o", "max_attempts=1"
    )
    catalogue("agent", "activate", "hook", "--from-start")
    before = catalogue("agent", "show", "hook", "--json").get_json()["agent"]["position"]

    answer = catalogue("agent", "run", "hook")

    assert answer.code == 7
    assert len(answer.err.splitlines()) == 1
    after = catalogue("agent", "show", "hook", "--json").get_json()["agent"]
    assert after["position"] == before
    assert after["last_error"]


def test_a_host_that_cannot_load_objects_leaves_the_pointer_where_it_is(search):
    before = search("agent", "show", "search", "--json").get_json()["agent"]["position"]

    answer = search("agent", "run", "search", "--host", "cliplugins:BlindHost")

    assert answer.code == 6
    assert "cannot see" in answer.err
    assert search("agent", "show", "search", "--json").get_json()["agent"]["position"] == before


def test_a_host_that_raises_leaves_the_pointer_where_it_is(search):
    before = search("agent", "show", "search", "--json").get_json()["agent"]["position"]

    answer = search("agent", "run", "search", "--host", "cliplugins:CrossHost")

    assert answer.code == 6
    assert "the shelf has fallen down" in answer.err
    assert search("agent", "show", "search", "--json").get_json()["agent"]["position"] == before


def test_a_url_of_another_form_is_refused_when_the_agent_is_added(catalogue):
    for url in ("ftp://host/", "https://", "host/path", "http://me:hunter2@host/"):
        answer = catalogue("agent", "add", "hook", "--type", "http", "-o", f"url={url}")
        assert answer.code == 2
        assert "hunter2" not in answer.err


def test_a_run_makes_a_due_agent_wait_for_its_interval(search):
    search("agent", "add_task", "search", "--interval", "1d")

    assert search("run", "--due").lines[0].startswith("search: ")
    assert search("run", "--due").out == "no agent is due\n"


def test_progress_without_a_terminal_is_a_line_now_and_then_with_rate_and_time_left():
    lines = []
    now = iter([0.0, 1.0, 5.0, 10.0, 12.0, 40.0])
    report = ProgressLines(lines.append, "search", lambda: next(now))

    for done in (1000, 3000, 6000, 7000, 9000):
        report(done, 11000, earlier=1000)

    assert lines == [
        "search: 6,000 of 11,000 objects, 500/s, 10s left",
        "search: 9,000 of 11,000 objects, 200/s, 10s left",
    ]


def test_progress_tells_what_is_known():
    assert describe_pace(0, None, 0, 0.0) == ""
    assert describe_pace(50, 100, 50, 5.0) == ""
    assert describe_pace(50, None, 0, 5.0) == "10/s"
    assert describe_pace(2000, 1000, 1000, 1.0) == "1,000/s, 0s left"


class Terminal:
    """Standard error as a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text
        return len(text)

    def flush(self):
        pass


def test_progress_on_a_terminal_is_a_bar_with_rate(catalogue, tmp_path, monkeypatch):
    catalogue("agent", "add", "search", "--type", "sqlite", "-o", f"path={tmp_path}/search.db")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    assert catalogue("agent", "export", "search").code == 0
    assert "search" in terminal.written
    assert "/s" in terminal.written
