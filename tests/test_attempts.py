"""Transactions that are tried again: how often, and with what pauses."""

import random

import pytest
import transaction
from persistent.mapping import PersistentMapping
from support.postgres_service import postgres_server
from ZODB.POSException import ConflictError, ReadConflictError

from livesync import attempts as attempts_
from livesync.attempts import ATTEMPTS, PAUSE_CAP_S, attempts, pause_s
from livesync.database import committed, open_database
from livesync.delivery.access import ManagerAccess
from livesync.manager import SyncManager


@pytest.fixture
def slept(monkeypatch):
    """The pauses that were made, in seconds; nobody waits."""
    made = []
    monkeypatch.setattr(attempts_.time, "sleep", made.append)
    return made


def least():
    return 0.0


def most():
    return 1.0 - 2**-53


def test_the_second_attempt_comes_at_once_and_later_ones_wait_longer_and_longer():
    assert [pause_s(failed, most) for failed in (0, 1)] == [0, 0]
    for dice in least, most:
        waits = [pause_s(failed, dice) for failed in range(1, ATTEMPTS)]
        assert waits == sorted(waits)
    assert pause_s(2, least) == pytest.approx(0.0025)
    assert pause_s(2, most) == pytest.approx(0.005)


def test_all_attempts_together_wait_for_seconds_and_not_for_minutes():
    assert sum(pause_s(failed, least) for failed in range(ATTEMPTS)) > 3
    assert sum(pause_s(failed, most) for failed in range(ATTEMPTS)) < 6.5
    assert pause_s(10**6, most) <= PAUSE_CAP_S


def test_two_who_met_do_not_wait_equally_long():
    waits = {pause_s(5, random.Random(seed).random) for seed in range(10)}

    assert len(waits) == 10


def test_what_conflicts_for_a_while_is_done_in_the_end(memory_db, slept):
    """A commit that stands in the way for two seconds is waited for."""

    def change(root):
        if sum(slept) < 2:
            raise ReadConflictError("somebody's commit is under way")
        root["done"] = True
        return "done"

    assert committed(memory_db, change) == "done"
    assert 5 < len(slept) < ATTEMPTS


def test_what_conflicts_for_ever_is_given_up(memory_db, slept):
    calls = []

    def change(root):
        calls.append(1)
        raise ConflictError("for ever")

    with pytest.raises(ConflictError, match="for ever"):
        committed(memory_db, change)
    assert len(calls) == ATTEMPTS


def test_an_error_of_another_kind_is_raised_at_once(memory_db, slept):
    calls = []

    def change(root):
        calls.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        committed(memory_db, change)
    assert (len(calls), slept) == (1, [])


def test_no_transaction_is_open_during_a_pause(memory_db, monkeypatch):
    manager = transaction.TransactionManager(explicit=True)
    open_ones = []

    def sleep(seconds):
        with pytest.raises(transaction.interfaces.NoTransaction):
            manager.get()
        open_ones.append(seconds)

    monkeypatch.setattr(attempts_.time, "sleep", sleep)
    for number, attempt in enumerate(attempts(manager)):
        with attempt:
            if number < 4:
                raise ConflictError
    assert (number, len(open_ones)) == (4, 3)


def test_a_manager_is_changed_in_the_end_and_given_up_where_it_never_can_be(memory_db, slept):
    committed(memory_db, SyncManager.install)
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = memory_db.open(transaction_manager=manager)
    access = ManagerAccess(SyncManager.get(connection.root()))
    manager.abort()
    connection.close()

    def change(manager):
        if sum(slept) < patience_s:
            raise ReadConflictError("somebody's commit is under way")
        return "done"

    patience_s = 2
    assert access.change(change, "a test") == "done"
    patience_s = 1000
    before = len(slept)
    with pytest.raises(ReadConflictError):
        access.change(change, "a test")
    assert len(slept) - before == ATTEMPTS - 2  # none before the second, and none after the last
    access.close()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_lock_that_relstorage_does_not_wait_for_is_waited_for():
    """Whoever relies on an object that another transaction has locked for its commit is told so at once."""
    server = postgres_server()
    name = server.new_database()
    db = open_database(f"postgresql://postgres@/{name}?host={server.socket_directory}", create=True)
    committed(db, lambda root: root.update(one=0))
    locked, calls, seen = [0], [], []

    def sleep(seconds):
        seen.append(seconds)
        if sum(seen) >= 1 and locked:
            server.execute("SELECT pg_advisory_unlock(%s)", locked, database=name)
            locked.clear()

    def change(root):
        calls.append(1)
        root._p_jar.readCurrent(root)
        root._p_jar.add(PersistentMapping())

    server.execute("SELECT pg_advisory_lock(%s)", locked, database=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts_.time, "sleep", sleep)
        committed(db, change)

    assert len(calls) == len(seen) + 2
    assert not locked
    db.close()
    server.disconnect()
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
