"""The command line and a process that has the database's file open: what is read here, and done there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
from support.runners import Place
from support.waiting import LONG_S, eventually
from ZODB.FileStorage import FileStorage

from livesync.cli.forwarding import READING
from livesync.cli.parser import build_parser
from livesync.schedule.owner import owner_path, read_owner, write_owner

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent.parent
HOST = "support.runners:things_host"


class HostProcess:
    """An application in a process of its own."""

    def __init__(self, path, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.host_process", str(path), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(), cwd="/",
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()

    def tell(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def put(self, *ids):
        self.tell("put", *ids)
        assert self.process.stdout.readline() == "done\n"

    def quit(self):
        self.tell("quit")
        assert self.process.wait(LONG_S) == 0, self.process.stderr.read()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=LONG_S)


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVESYNC_")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}


@pytest.fixture
def filled(data):
    """A database's file with things and an agent ``index``, nobody has it open."""
    db = ZODB.DB(FileStorage(str(data)))
    place = Place(db)
    place.put(*(f"thing-{number:02}" for number in range(15)))
    db.close()
    return data


@pytest.fixture
def hosting(filled):
    """Start the application: ``hosting("slow")``."""
    started = []

    def start(*words):
        started.append(HostProcess(filled, *words))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def host(hosting):
    return hosting()


@pytest.fixture
def index(cli, filled, host):
    """The command line, with an agent that was added through the process that has the file open."""
    answer = cli("agent", "add", "index", "--type", "sqlite", "-o", "path=index.db", "-o", "batch_size=5")
    assert (answer.code, answer.err) == (0, "")
    return cli


def test_every_command_works_although_the_application_has_the_file_open(index, filled, tmp_path, host):
    exported = index("agent", "export", "index")
    assert exported.code == 0
    assert exported.out.startswith("index: ")
    assert (tmp_path / "index.db").exists()  # where the command was typed, not where the process runs

    shown = index("agent", "show", "index", "--json").get_json()["agent"]
    assert (shown["state"], shown["options"]["path"]) == ("active", str(tmp_path / "index.db"))
    host.put("cup")
    assert index("agent", "run", "index").out.startswith("index: 1 read, 1 accepted; pointer at ")
    assert index("agent", "run", "index", "--json").get_json()["agents"][0]["error"] is None
    assert index("agent", "pause", "index").out == "agent index is paused; its pointer stays\n"
    assert index("agent", "activate", "index").code == 0
    assert index("prune", "--keep", "0").out.startswith("16 actions dropped")
    assert index("task", "add", "prune", "--interval", "1d", "-o", "keep_s=0").code == 0
    assert index("dead", "retry", "index", "--all").code == 0
    assert index("agent", "verify", "index").out.startswith(
        "index: 16 checked, 16 expected, 16 held, 0 missing"
    )
    (tmp_path / "ids").write_text("cup\n")
    assert index("agent", "enqueue", "index", "--ids", "ids").out.startswith("1 object is queued")
    assert index("agent", "remove", "index").code == 0
    host.quit()

    assert not owner_path(filled).exists()
    assert index("agent", "list").out.startswith("there is no agent yet")


def test_wrong_input_has_its_line_and_code_as_anywhere(index):
    assert index("agent", "pause", "index").code == 2
    unknown = index("agent", "run", "nobody")
    assert (unknown.code, unknown.out) == (3, "")
    assert unknown.err == (
        "livesync: there is no agent 'nobody'; `livesync agent list` shows those there are\n"
    )
    assert index("agent", "add", "index", "--type", "sqlite", "-o", "path=x.db").code == 2
    assert index("agent", "enqueue", "index", "--ids", "nowhere").code == 2


def test_tables_are_as_wide_as_the_terminal_here(index, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")

    assert max(map(len, index("agent", "export", "index").lines)) > 0
    assert all(len(line) <= 50 for line in index("task", "list").lines if line.startswith("NAME"))


def test_a_change_in_the_application_arrives_by_itself(index, host, tmp_path):
    index("agent", "export", "index")
    index("agent", "add_task", "index", "--interval", "1h")
    index("agent", "run", "index")

    host.put("cup")

    eventually(
        lambda: (
            index("agent", "verify", "index", "--host", HOST, "--json").get_json()["verification"]["held"]
            == 16
        )
    )


def test_the_file_is_for_its_owner_only_and_says_which_process_it_is(host, filled):
    owner = read_owner(owner_path(filled))

    assert owner_path(filled).stat().st_mode & 0o777 == 0o600
    assert owner.pid == host.process.pid
    assert owner.is_alive()
    assert owner.token not in repr(owner)


def test_destroy_asks_here_and_is_done_there(index, monkeypatch, host):
    refused = index("destroy")
    assert refused.code == 2
    assert "give --yes" in refused.err

    answer = index("destroy", "--yes")

    assert (answer.code, answer.out) == (0, "livesync is removed from this database\n")
    assert answer.err.count("This goes from") == 1
    assert index("status").code == 11


def test_whoever_says_no_destroys_nothing(index, monkeypatch):
    answers = iter(["y\n", "no\n"])
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {
        "isatty": lambda self: True, "readline": lambda self: next(answers)
    })())  # fmt: skip

    assert index("destroy").err.endswith("nothing was removed\n")
    assert index("status").code == 0


def test_what_deletes_for_good_asks_here_and_is_done_there(index, monkeypatch, host):
    assert index("peer", "init").code == 0
    assert "give --yes" in index("peer", "erase", "thing-01", "--host", HOST).err

    asked = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {
        "isatty": lambda self: True, "readline": lambda self: asked.append(1) or "erase\n"
    })())  # fmt: skip
    assert index("peer", "erase", "nothing", "--host", HOST).code == 3
    answer = index("peer", "erase", "thing-01", "--host", HOST)

    assert (answer.code, asked) == (6, [1])
    assert answer.err.startswith("thing-01 will be deleted for good: ")
    # by the process whose host only gives documents
    assert answer.err.endswith("this host takes no documents back: it has no restore() of its own\n")


def test_without_a_runner_there_the_command_says_what_can_be_done(cli, hosting):
    hosting("off")

    answer = cli("prune")

    assert answer.code == 5
    assert len(answer.err.splitlines()) == 1
    for way in ("livesync.runner = thread", "ZEO", "stop that process"):
        assert way in answer.err
    assert cli("status").code == 0


def test_what_a_process_that_died_has_left_is_known_for_what_it_is(cli, hosting, filled):
    first = hosting()
    first.tell("die")
    first.process.wait(LONG_S)
    assert owner_path(filled).exists()

    assert cli("prune").code == 0  # nobody has the file open
    hosting("off")
    assert cli("prune").code == 5


def test_a_process_that_takes_no_commands_any_more_still_has_the_file(cli, hosting, filled):
    hosting("off")
    write_owner(owner_path(filled), "http://127.0.0.1:9/api/v1/commands", "x" * 40)  # this process lives

    answer = cli("prune")

    assert answer.code == 5
    assert "livesync.runner = thread" in answer.err


def test_a_wrong_token_is_refused_and_nothing_is_done(index, filled):
    owner = read_owner(owner_path(filled))
    path = owner_path(filled)
    path.write_text(path.read_text().replace(owner.token, "x" * len(owner.token)))

    answer = index("agent", "remove", "index")

    assert answer.code == 5
    assert "does not take this command: the token is not this process'" in answer.err
    assert index("agent", "show", "index").code == 0


@pytest.fixture
def slowly(cli, hosting, filled, tmp_path):
    """A command line whose exports take some seconds, as a process of its own: ``slowly("agent", …)``."""
    process = hosting("slow")
    assert (
        cli("agent", "add", "index", "--type", "file", "-o", "directory=out", "-o", "batch_size=1").code == 0
    )
    # the process's own runner is to leave it alone, which else runs what is active
    assert cli("agent", "add_task", "index", "--cron", "0 0 29 2 *").code == 0
    assert cli("agent", "activate", "index", "--from-start").code == 0
    clients = []

    def start(*args):
        clients.append(
            subprocess.Popen(
                [sys.executable, "-m", "livesync", "--db", f"file://{filled}", "--host", HOST, *args],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path,
            )
        )  # fmt: skip
        eventually(lambda: holder(cli))  # and some seconds of rendering are to come
        return clients[-1]

    start.process = process
    yield start
    for client in clients:
        if client.poll() is None:
            client.kill()
        client.communicate(timeout=LONG_S)


def holder(cli):
    return cli("agent", "show", "index", "--json").get_json()["agent"]["holder"]


def test_an_interrupt_here_ends_the_run_there_in_good_order(slowly, cli):
    client = slowly("agent", "run", "index")

    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=LONG_S)

    assert client.returncode == 130, err
    assert out.startswith("index: ")
    assert "Traceback" not in err
    assert holder(cli) == ""


def test_a_client_that_is_gone_ends_the_run_there(slowly, cli):
    client = slowly("agent", "run", "index")

    client.kill()
    client.communicate(timeout=LONG_S)

    eventually(lambda: holder(cli) == "")
    assert cli("agent", "show", "index", "--json").get_json()["agent"]["last_error"] == ""


def test_a_process_that_is_gone_in_the_middle_is_one_line_and_a_code(slowly, cli):
    client = slowly("agent", "run", "index")

    slowly.process.process.kill()
    _, err = client.communicate(timeout=LONG_S)

    assert client.returncode == 4
    assert "is gone in the middle of it" in err
    assert len(err.splitlines()) == 1
    assert cli("agent", "run", "index", "--host", HOST).code == 0  # here, since nobody has the file open now


def test_what_only_reads_is_named_by_handlers_that_there_are():
    handlers = set()

    def walk(parser):
        handlers.add(parser.get_default("handler"))
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for child in action.choices.values():
                    walk(child)

    walk(build_parser())

    assert handlers >= READING
