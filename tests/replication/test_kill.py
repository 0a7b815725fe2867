"""Kill -9 in the middle of sessions between two database files, at every commit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider

TESTS = Path(__file__).parents[1]


def opened(path, name=None):
    db = ZODB.DB(FileStorage(str(path)))
    return db, ZODBSyncProvider(name, ZODBDataStore(db))


def edit(path, name, numbers, word):
    """Write items in one provider's database file."""
    db, provider = opened(path, name)
    for number in numbers:
        operation = Operation.DELETE if word == "deleted" else Operation.UPDATE
        payload = None if word == "deleted" else json.dumps({"by": name, "word": word, "n": number})
        provider.commit_item_change(operation, "thing", f"i{number}", payload, f"F{number % 3}")
    db.close()


def states(path):
    db, provider = opened(path)
    found = provider.data_store.read(lambda: list(provider.data_store.items()))
    logs = len(provider.conflict_logs())
    unfinished = provider.unfinished()
    db.close()
    return found, logs, unfinished


def run(one, two, commits, at_once):
    done = subprocess.run(
        [sys.executable, "-m", "replication.kill_session", *map(str, (one, two, commits, at_once))],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("at_once", "times"), [(7, 6), (20, 5)], ids=["chunk by chunk", "chunks together"])
def test_sessions_killed_at_every_commit_lose_nothing_and_converge(tmp_path, no_fsync, at_once, times):
    one, two = tmp_path / "one.fs", tmp_path / "two.fs"
    edit(one, "one", range(30), "first")
    edit(two, "two", range(20, 45), "first")
    killed = 0
    for commits in range(1, 24, 2):
        killed += not run(one, two, commits, at_once)
        edit(one, "one", [commits], "again")
        edit(two, "two", [commits, 40], "again")
    assert run(one, two, 0, at_once)
    assert run(one, two, 0, at_once)

    first, first_logs, first_open = states(one)
    second, second_logs, second_open = states(two)
    assert killed >= times
    assert first == second
    assert len(first) == 45
    assert (first_open, second_open) == ([], [])
    assert first_logs + second_logs >= 10  # what both had made, and both edited
