"""Kill -9 in the middle of a version: the history is whole, and the work goes on from where it was."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.versions import VersionedCollection

from . import kill_versions

SCRIPT = Path(kill_versions.__file__)


def run(path, call):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path), str(call)],
        cwd=SCRIPT.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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
