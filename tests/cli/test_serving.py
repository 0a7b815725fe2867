"""livesync serve, as a process of its own: what it refuses, what it does, how it ends."""

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import ZODB
from support.runners import Place
from support.waiting import LONG_S, eventually
from ZODB.FileStorage import FileStorage

from livesync.cli.main import _logging
from livesync.schedule.owner import owner_path

TESTS = Path(__file__).parent.parent
HOST = "support.runners:things_host"


@pytest.fixture
def filled(data):
    db = ZODB.DB(FileStorage(str(data)))
    Place(db).put(*(f"thing-{number:02}" for number in range(10)))
    db.close()
    return data


@pytest.fixture
def serve(filled, tmp_path):
    """Start ``livesync serve``; gives the process once it serves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVESYNC_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    started = []

    def start(*args):
        command = [
            sys.executable,
            "-m",
            "livesync",
            "--db",
            f"file://{filled}",
            "--host",
            HOST,
            "serve",
            *args,
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        started.append(process)
        process.first = process.stdout.readline()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LONG_S)


@pytest.mark.slow
def test_it_delivers_what_commands_change_and_ends_in_good_order(serve, cli, filled, tmp_path):
    process = serve("--no-web")
    assert process.first == "livesync serves site (no name), without pages\n", process.stderr.read()

    assert cli("agent", "add", "index", "--type", "sqlite", "-o", "path=index.db").code == 0
    assert cli("agent", "activate", "index", "--from-start").code == 0
    assert cli("agent", "add_task", "index", "--interval", "1h").code == 0
    eventually(lambda: "lag_actions" in cli("status", "--json").out and _lag(cli) == 0)

    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0
    assert process.stderr.read() == ""
    assert not owner_path(filled).exists()
    shown = cli("agent", "show", "index", "--json").get_json()["agent"]
    assert (shown["holder"], shown["last_error"]) == ("", "")


@pytest.mark.slow
def test_it_names_the_agents_that_nothing_makes_run(serve, cli):
    for name in ("index", "other"):
        assert cli("agent", "add", name, "--type", "sqlite", "-o", f"path={name}.db").code == 0
        assert cli("agent", "activate", name, "--from-start").code == 0
    assert cli("agent", "add_task", "other", "--interval", "1h").code == 0

    process = serve("--no-web")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0

    (said,) = [line for line in process.stderr.read().splitlines() if line.startswith("livesync: ")]
    assert "agent index has no schedule" in said
    assert "livesync agent add_task index --interval 1m" in said


@pytest.mark.slow
def test_what_is_refused_or_fails_is_on_standard_error_without_being_asked_for(serve, cli):
    assert cli("peer", "init").code == 0
    for words in (("add", "away", "--type", "peer", "-o", "peer=nobody"), ("activate", "away", "--from-now")):
        assert cli("agent", *words).code == 0
    assert cli("agent", "add_task", "away", "--interval", "1h").code == 0
    process = serve("--no-web", "--peers", "127.0.0.1:0")
    url = process.first.split("peers at ")[1].strip()

    answer = requests.delete(f"{url}peer/v1/syncsessions/{32 * '0'}", timeout=LONG_S)
    eventually(lambda: "nobody" in cli("agent", "show", "away").out.partition("last runs:")[2])
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0

    said = process.stderr.read()
    assert answer.status_code == 401
    assert " WARNING livesync.peerserver.serving: DELETE /syncsessions/{id}: signature: " in said
    assert " WARNING livesync.tasks: agent away: the run failed: there is no peer 'nobody'" in said
    assert "Traceback" not in said


def test_a_server_logs_warnings_and_only_of_what_nobody_foresaw_where_it_was(capsys):
    logger = logging.getLogger("livesync.test")
    with _logging(verbose=False, serves=True):
        for level in logging.INFO, logging.WARNING, logging.ERROR:
            try:
                raise ValueError(f"level {level}")
            except ValueError:
                logger.log(level, "it failed at %d", level, exc_info=True)
    logger.error("afterwards")

    said = capsys.readouterr().err
    assert said.count("it failed at") == 2
    assert said.count("Traceback") == 1
    assert "ValueError: level 40" in said
    assert "afterwards" not in said


@pytest.mark.slow
def test_a_changed_schedule_is_kept_and_one_that_fails_stops_no_other(serve, cli, filled):
    process = serve("--no-web", "--verbose")
    for name, options in ("good", "path=good.db"), ("bad", "path=/nowhere/at/all/bad.db"):
        assert cli("agent", "add", name, "--type", "sqlite", "-o", options).code == 0
        assert cli("agent", "activate", name, "--from-start").code == 0
        assert cli("agent", "add_task", name, "--interval", "1h").code == 0
    assert cli("task", "add", "cleanup", "--interval", "1h").code == 0

    def agents():
        shown = cli("status", "--json").get_json()["status"]["agents"]
        return {agent["id"]: agent for agent in shown}

    def last_run(name):
        shown = cli("agent", "show", name, "--json").get_json()["agent"]
        return (shown["last_run"] or {}).get("time", 0.0)

    eventually(lambda: agents()["good"]["lag_actions"] == 0)
    eventually(lambda: last_run("bad"))
    ran = last_run("good")
    assert cli("agent", "add_task", "good", "--interval", "1s").code == 0
    eventually(lambda: last_run("good") > ran)
    again = last_run("good")
    eventually(lambda: last_run("good") > again)

    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0
    assert agents()["good"]["lag_actions"] == 0
    assert agents()["bad"]["lag_actions"] == 10


def _lag(cli):
    return cli("status", "--json").get_json()["status"]["agents"][0]["lag_actions"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_batch_lets_that_end_and_be_saved(serve, cli, tmp_path, number):
    process = serve("--no-web")
    assert (
        cli("agent", "add", "index", "--type", "support.runners:SlowFileAgent", "-o", "directory=out").code
        == 0
    )
    assert cli("agent", "activate", "index", "--from-start").code == 0
    assert cli("agent", "add_task", "index", "--interval", "1h").code == 0
    eventually(lambda: (tmp_path / "out" / "sending").exists())

    process.send_signal(number)
    assert process.wait(LONG_S) == 0, process.stderr.read()

    shown = cli("agent", "show", "index", "--json").get_json()["agent"]
    assert shown["holder"] == ""
    assert shown["last_run"]["accepted"] == 10
    assert _lag(cli) == 0


@pytest.mark.slow
def test_the_pages_and_the_api_are_there(serve):
    process = serve("--listen", "127.0.0.1:0")
    url = process.first.split()[-1]

    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=LONG_S)
    connection.request("GET", "/healthz")
    healthy = connection.getresponse()
    healthy.read()
    connection.request("GET", "/readyz")
    ready = connection.getresponse()
    ready.read()

    assert (healthy.status, ready.status) == (200, 200)
    connection.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG_S) == 0


@pytest.mark.slow
def test_as_json_it_says_where_it_is(serve):
    process = serve("--no-web", "--json")
    rest = "".join(iter(process.stdout.readline, "}\n"))

    assert json.loads(process.first + rest + "}") == {"format": 1, "site": "", "url": None}


@pytest.mark.slow
def test_peers_are_served_where_there_are_any(serve, cli, filled):
    assert cli("peer", "init", "--root", "things").code == 0
    process = serve("--no-web", "--peers", "127.0.0.1:0", "--share-key", "--json")
    rest = "".join(iter(process.stdout.readline, "}\n"))
    url = urlsplit(json.loads(process.first + rest + "}")["peers"])

    def ask(path):
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=LONG_S)
        connection.request("GET", f"/peer/v1/{path}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body

    status, told = ask("info")
    key_status, key = ask("publickey")

    assert (status, told["profiles"], "certificate-pushing" in told["capabilities"]) == (
        200,
        ["things"],
        True,
    )
    assert "signing-requests" not in told["capabilities"]  # nobody can log in
    assert (key_status, len(key["public_key"])) == (200, 44)
    assert ask("nothing")[1]["error"]["code"] == "no_such_thing"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0


def test_a_database_without_peers_serves_none(installed, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    answer = installed("serve", "--no-web", "--peers", "127.0.0.1:0")

    assert answer.code == 11
    assert "livesync peer init" in answer.err


def test_a_key_is_shared_with_peers_or_not_at_all(installed, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    answer = installed("serve", "--no-web", "--share-key")

    assert answer.code == 2
    assert "--peers" in answer.err


def test_a_copy_of_the_database_is_not_served(installed, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    answer = installed("serve", "--no-web")

    assert answer.code == 13
    assert len(answer.err.splitlines()) == 1


def test_a_file_that_is_open_elsewhere_is_not_served(installed, monkeypatch, locked):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    locked()

    answer = installed("serve", "--no-web")

    assert answer.code == 5
    assert "livesync.runner = thread" in answer.err


def test_where_livesync_is_not_installed_nothing_is_served(cli, data, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    ZODB.DB(FileStorage(str(data))).close()

    assert cli("serve", "--no-web").code == 11


def test_without_the_extra_it_says_what_to_install(installed, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    monkeypatch.setitem(sys.modules, "waitress.server", None)

    answer = installed("serve")

    assert answer.code == 2
    assert "pip install 'zodb-livesync[web]'" in answer.err
    assert "--no-web" in answer.err


@pytest.mark.parametrize(
    "listen", ["here", "127.0.0.1:99999", "::1:80", "127.0.0.1:", "a b:80", "http://x:80"]
)
def test_what_is_no_address_is_refused(installed, listen):
    answer = installed("serve", "--listen", listen)

    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("workers", ["0", "65", "x", "-1"])
def test_so_many_workers_make_no_sense(installed, workers):
    assert installed("serve", "--no-web", f"--workers={workers}").code == 2
