"""Kill -9 in the middle of a version: the history is whole, and the work goes on from where it was."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZODB
from support.waiting import LONG_S
from ZODB.FileStorage import FileStorage

from livesync.versions import VersionedCollection

from . import kill_versions

SCRIPT = Path(kill_versions.__file__)


def run(path, call, what="grow"):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path), str(call), what],
        cwd=SCRIPT.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


def looked_over(path):
    """Return (faults, changes, versions of main) of what a killed process has left."""
    db = ZODB.DB(FileStorage(str(path)))
    connection = db.open(transaction_manager=transaction.TransactionManager())
    docs = VersionedCollection(connection, "docs")
    found = (
        [str(fault) for fault in docs.check()],
        docs.has_changes,
        docs.names.branch("main").total if docs.is_tracked else 0,
    )
    connection.close()
    db.close()
    return found


@pytest.mark.slow
def test_a_history_is_whole_whenever_its_process_is_killed_and_the_work_goes_on(tmp_path, no_fsync):
    reference = tmp_path / "reference.fs"
    assert run(reference, 0)
    assert looked_over(reference) == ([], False, kill_versions.VERSIONS + 1)
    path = tmp_path / "killed.fs"
    seen = []
    for call in (1, 2, 5, 9, 3, 14, 4, 7, 11, 6, 16, 8, 21, 10, 25, 13):
        is_done = run(path, call)
        faults, has_changes, versions = looked_over(path)
        assert (faults, has_changes) == ([], False)
        seen.append(versions)
        if is_done:
            break
    assert seen == sorted(seen)
    assert run(path, 0)
    assert looked_over(path) == ([], False, kill_versions.VERSIONS + 1)


@pytest.mark.slow
def test_pruning_squashing_and_collecting_may_be_killed_anywhere_and_go_on(tmp_path, no_fsync):
    path = tmp_path / "killed.fs"
    assert run(path, 0)
    documents = documents_of(path)
    kills = 0
    for call in (1, 2, 3, 4, 6, 8, 5, 7, 9, 11, 10, 13, 12, 14, 17, 15, 16, 20, 24, 30, 36):
        if run(path, call, "tidy"):
            break
        kills += 1
        faults, has_changes, _ = looked_over(path)
        assert (faults, has_changes, documents_of(path)) == ([], False, documents)
    assert kills > 10
    assert run(path, 0, "tidy")
    assert looked_over(path) == ([], False, kill_versions.TIDY[1])
    assert documents_of(path) == documents
    assert pruned_of(path) == (kill_versions.TIDY[0], 3)


def opened(path, look):
    db = ZODB.DB(FileStorage(str(path), read_only=True))
    connection = db.open(transaction_manager=transaction.TransactionManager())
    found = look(VersionedCollection(connection, "docs"))
    connection.close()
    db.close()
    return found


def documents_of(path):
    return opened(path, lambda docs: dict(docs.documents))


def pruned_of(path):
    """Return how many versions there are, and how many of them were pruned."""
    return opened(path, lambda docs: (len(docs.stored.records), len(docs.stored.settings["pruned"])))
