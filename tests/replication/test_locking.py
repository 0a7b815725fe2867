"""The lock of a database's sessions: over threads, processes and machines."""

import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import ZODB
from support.databases import EACH, shared_database
from support.waiting import LONG_S, eventually
from ZODB.DemoStorage import DemoStorage

from livesync.errors import SyncRunning
from livesync.replication import (
    DatabaseSyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    ZODBDataStore,
    ZODBSyncProvider,
)

SCRIPT = Path(__file__).with_name("hold_lock.py")


@pytest.fixture
def db():
    with closing(ZODB.DB(DemoStorage())) as made:
        yield made


def locks(db, clock, **options):
    """Two locks of one database, as two processes have them."""
    return [DatabaseSyncLock(ZODBDataStore(db), clock=clock, **options) for _ in range(2)]


def test_two_stores_of_one_database_exclude_each_other(db, clock):
    one, other = locks(db, clock)
    with one.lock():
        assert other.is_running()
        assert other.holder().startswith("two-way sync by process ")
        with pytest.raises(SyncRunning, match="another session is under way \\(two-way sync by process "):
            other.lock().__enter__()
    assert not other.is_running()
    with other.lock():
        assert one.is_running()


def test_the_lock_of_a_database_keeps_sessions_apart(db, clock):
    with closing(ZODB.DB(DemoStorage())) as second:
        providers = [ZODBSyncProvider(name, ZODBDataStore(at)) for name, at in (("a", db), ("b", second))]
        one, other = locks(db, clock)
        orchestrator = SyncOrchestrator(one, providers, 60)
        with other.lock(), pytest.raises(SyncRunning):
            orchestrator.run()
        assert [session.status for session in orchestrator.run()] == [SyncSessionStatus.FINISHED] * 2
        assert not other.is_running()


def test_a_lease_that_could_not_be_given_back_is_no_hindrance_to_its_own_process(db, clock, monkeypatch):
    one, other = locks(db, clock)
    with monkeypatch.context() as patch:
        patch.setattr("livesync.leases.release", lambda *args: 1 / 0)  # as where the disk is full
        with one.lock():
            pass
    assert other.is_running()

    with other.lock(), pytest.raises(SyncRunning):
        one.lock().__enter__()
    assert not one.is_running()


def test_a_lease_that_nobody_renews_runs_out_and_its_late_holder_gives_nothing_back(db, clock):
    one, other = locks(db, clock, lease_s=3600.0)  # renewed after twenty minutes: not within this test
    with one.lock():
        clock.now += 3599
        assert other.is_running()
        clock.now += 1
        assert not other.is_running()
        with other.lock():
            assert one.is_running()
    with other.lock():
        pass
    late = one.lock()
    late.__enter__()
    clock.now += 3600
    with other.lock():
        late.__exit__(None, None, None)
        assert other.is_running()


def test_what_goes_wrong_in_a_session_gives_the_lock_back(db, clock):
    one, other = locks(db, clock)
    with pytest.raises(ZeroDivisionError), one.lock():
        raise ZeroDivisionError
    assert not other.is_running()


def test_a_lease_is_renewed_while_the_lock_is_held(db):
    import time

    one, other = (DatabaseSyncLock(ZODBDataStore(db), lease_s=0.3) for _ in range(2))

    def until():
        return other._store.read(lambda: other._store.tables.lease.until)

    with one.lock():
        first, deadline = until(), time.monotonic() + LONG_S
        while until() == first and time.monotonic() < deadline:
            pass
        assert until() > first


@contextmanager
def holding(uri):
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.server
@pytest.mark.parametrize("kind", EACH)
def test_it_holds_over_processes_and_one_that_is_killed_loses_it_at_once(tmp_path, kind):
    with shared_database(kind, tmp_path) as database, closing(database.open()) as db:
        lock = DatabaseSyncLock(ZODBDataStore(db))
        with holding(database.uri) as process:
            with pytest.raises(SyncRunning, match=f"by process {process.pid} "):
                lock.lock().__enter__()
            process.kill()
            process.wait()
            with lock.lock():
                assert f"process {process.pid} " not in lock.holder()
        with holding(database.uri) as process:
            process.communicate("go on\n")
            eventually(lambda: not lock.is_running())  # a client of ZEO is told a little later
