import gzip
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
import zope.event
from ZODB.POSException import POSError

from livesync.database import connected, open_database
from livesync.demo.commands import main
from livesync.demo.host import demo_host
from livesync.manager import SyncManager

SMALL = "history-small.jsonl.gz"
GOOD = '{"time":1,"changes":[{"action":"created","id":"a-2001/category.json","data":{"title":"A"}}]}\n'


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in ("LIVESYNC_DB", "LIVESYNC_HOST", "LIVESYNC_SITE", "LIVESYNC_HISTORY", "LIVESYNC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/Data.fs"


@pytest.fixture
def error(capsys):
    """Return a function: what stands on standard error, which must be one line."""

    def error():
        text = capsys.readouterr().err
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert text.startswith("livesync.demo: ")
        return text

    return error


def test_history_of_the_package_is_replayed_and_dumped(uri, capsys, small_history, demo):
    other = demo.World()
    other.replay(demo_host(), *small_history)

    assert main(["replay", SMALL, "--db", uri]) == 0
    said = capsys.readouterr()
    assert main(["dump", "--db", uri]) == 0
    dumped = capsys.readouterr().out

    assert said.out == "93 lines applied (2,583 changes), 0 skipped that had been applied before\n"
    assert said.err == ""
    index = sorted(other.index(demo_host()).items())
    assert dumped == "".join(f'{{"id":"{uid}","document":{body.decode()}}}\n' for uid, body in index)
    other.db.close()


def test_dump_for_others_than_the_public_has_private_things(uri, capsys):
    main(["replay", SMALL, "--db", uri])
    capsys.readouterr()

    ids = {}
    for audience in ("public", "staff"):
        assert main(["dump", "--db", uri, "--audience", audience]) == 0
        ids[audience] = {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()}

    assert ids["public"] < ids["staff"]


def test_host_and_database_may_come_from_the_environment(uri, capsys, monkeypatch):
    monkeypatch.setenv("LIVESYNC_DB", uri)
    monkeypatch.setenv("LIVESYNC_HOST", "livesync.demo.host:demo_paths_host")
    main(["replay", SMALL, "--limit", "5"])
    capsys.readouterr()

    assert main(["dump"]) == 0

    ids = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert ids == sorted(ids)
    assert "pycon-us/pycon-us-2013" in ids


def test_history_in_several_files_is_replayed_in_steps(uri, capsys, tmp_path, monkeypatch, small_history):
    monkeypatch.setenv("LIVESYNC_HISTORY", str(tmp_path / "histories"))
    (tmp_path / "histories").mkdir()
    from livesync.demo.history import find_history

    lines = gzip.decompress(find_history(SMALL, {}).read_bytes()).splitlines(keepends=True)
    (tmp_path / "histories/part-1.jsonl").write_bytes(b"".join(lines[:50]))
    (tmp_path / "histories/part-2.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[40:])))

    for _ in range(3):
        assert main(["replay", "part-1.jsonl", "part-2.jsonl.gz", "--db", uri, "--limit", "45"]) == 0

    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        "45 lines applied",
        "45 lines applied",
        "3 lines applied",
    ]


def test_replay_installs_the_manager_for_the_site(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("LIVESYNC_SITE", "office")
    (tmp_path / "h.jsonl").write_text(GOOD)

    assert main(["replay", "h.jsonl", "--db", uri]) == 0

    db = open_database(uri)
    with connected(db) as root:
        assert SyncManager.get(root).site == "office"
    db.close()


def test_dump_works_while_another_process_has_the_file_open(uri, capsys, tmp_path):
    (tmp_path / "h.jsonl").write_text(GOOD)
    main(["replay", "h.jsonl", "--db", uri])
    capsys.readouterr()

    db = open_database(uri)
    try:
        assert main(["dump", "--db", uri]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2
        assert main(["replay", "h.jsonl", "--db", uri]) == 5
    finally:
        db.close()


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (GOOD + "no json\n", "h.jsonl, line 2: it is not JSON"),
        (GOOD + '{"time":2}\n', "h.jsonl, line 2: it is not in the form"),
        (GOOD + '{"time":2,"changes":[{"action":"moved","id":"b/videos/x.json","from":"b/videos/y.json"}]}\n',
         "h.jsonl, line 2: change 1 (moved) needs b/videos/y.json, and that is not there"),
    ],
)  # fmt: skip
def test_bad_line_is_told_and_nothing_of_it_is_applied(uri, tmp_path, error, capsys, content, place):
    (tmp_path / "h.jsonl").write_text(content)

    assert main(["replay", "h.jsonl", "--db", uri]) == 2

    assert place in error()
    main(["dump", "--db", uri])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_missing_file_is_told_before_anything_is_applied(uri, tmp_path, error):
    (tmp_path / "h.jsonl").write_text(GOOD)

    assert main(["replay", "h.jsonl", "missing.jsonl.gz", "--db", uri]) == 2

    assert "missing.jsonl.gz: there is no such file" in error()
    assert not (tmp_path / "Data.fs").exists()


def test_broken_file_is_told(uri, tmp_path, error):
    (tmp_path / "h.jsonl.gz").write_bytes(gzip.compress(GOOD.encode())[:-4])

    assert main(["replay", "h.jsonl.gz", "--db", uri]) == 2

    assert "h.jsonl.gz, line 1: the compressed file is broken here" in error()


@pytest.mark.parametrize("command", [["replay", SMALL], ["dump"]])
@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ([], 2, "no database is set"),
        (["--db", "Data.fs"], 4, "no database URI"),
        (["--db", "file:///nowhere/Data.fs"], 4, "no directory"),
        (["--db", "oracle9://somewhere"], 4, "oracle9"),
        (["--db", "zeo://127.0.0.1:1?wait_timeout=1"], 4, "does not answer"),
        (["--db", "file:///nowhere/Data.fs", "--host", "nobody"], 6, "no host 'nobody'"),
    ],
)
def test_wrong_database_or_host_is_one_line_and_a_code(error, command, arguments, code, reason):
    assert main([*command, *arguments]) == code

    assert reason in error()


def test_dump_makes_no_database(uri, tmp_path, error):
    assert main(["dump", "--db", uri]) == 4

    assert "no database file" in error()
    assert not (tmp_path / "Data.fs").exists()


def test_database_without_catalogue_dumps_nothing(uri, capsys):
    open_database(uri, create=True).close()

    assert main(["dump", "--db", uri]) == 0

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["play"],
        ["dump", "x"],
        ["replay"],
        ["replay", "x", "--limit", "many"],
        ["replay", "x", "--limit", "-1"],
    ],
)
def test_wrong_arguments_are_told(arguments, capsys):
    assert main(arguments) == 2

    assert "error:" in capsys.readouterr().err


@contextmanager
def events_raise(exc):
    """Let every event of zope raise an exception."""

    def subscriber(event):
        raise exc

    zope.event.subscribers.append(subscriber)
    try:
        yield
    finally:
        zope.event.subscribers.remove(subscriber)


@pytest.mark.parametrize(
    ("exc", "code", "reason"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (POSError("torn"), 4, "POSError: torn"),
        (OSError(28, "No space left on device"), 4, "No space left"),
        (ZeroDivisionError("division by zero"), 70, "unexpected ZeroDivisionError"),
    ],
)
def test_replay_that_breaks_off_is_told_in_one_line_and_goes_on_later(uri, error, capsys, exc, code, reason):
    main(["replay", SMALL, "--db", uri, "--limit", "1"])
    capsys.readouterr()

    with events_raise(exc):
        assert main(["replay", SMALL, "--db", uri]) == code

    assert reason in error()
    assert main(["replay", SMALL, "--db", uri, "--limit", "2"]) == 0
    assert capsys.readouterr().out.startswith("2 lines applied (")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replay_that_is_interrupted_ends_after_the_line_at_hand(uri, error, capsys, number):
    before = signal.getsignal(number)

    def interrupt(event):
        zope.event.subscribers.remove(interrupt)
        signal.raise_signal(number)

    zope.event.subscribers.append(interrupt)
    code = main(["replay", SMALL, "--db", uri])

    assert code == 130
    said = capsys.readouterr()
    assert said.out.startswith("1 lines applied (183 changes)")
    assert said.err == "livesync.demo: interrupted; the same command goes on where it was\n"
    assert signal.getsignal(number) is before


def test_progress_is_shown_on_a_terminal(uri):
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "livesync.demo", "replay", SMALL, "--db", uri, "--limit", "20"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}

    with subprocess.Popen(command, stderr=terminal, stdout=subprocess.DEVNULL, env=environment) as replay:
        os.close(terminal)
        shown = b"".join(until_closed(ours))

    os.close(ours)
    assert replay.returncode == 0
    assert SMALL.encode() in shown
    assert b"changes" in shown


def until_closed(terminal):
    """Yield what is written to a terminal, until the last one who could has closed it."""
    with suppress(OSError):
        while part := os.read(terminal, 4096):
            yield part


def test_help_is_no_error(capsys):
    assert main(["--help"]) == 0

    assert "replay" in capsys.readouterr().out


def test_reader_that_has_had_enough_is_no_error(uri):
    assert main(["replay", SMALL, "--db", uri]) == 0
    command = f"{sys.executable} -m livesync.demo dump --db {uri}; echo code $? >&2"

    done = subprocess.run(
        [shutil.which("bash"), "-c", f"({command}) | head -n 1"], capture_output=True, text=True, check=True
    )

    assert done.stdout.count("\n") == 1
    assert done.stderr == "code 0\n"
