"""Many writers and a collector that never rests: livesync causes no conflict and loses nothing."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import transaction
import writers
import ZODB
from support.databases import SHARED, shared_database
from syshost import NodeHost
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync.capture import Capture

#: Commits in all, by all writers together.
COMMITS = 2_000


@pytest.fixture
def db(tmp_path):
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")), pool_size=30)
    yield db
    db.close()


@pytest.mark.slow
def test_8_threads_on_a_file_storage_never_conflict_and_lose_nothing(db):
    writers.install(db, 8)
    capture = Capture(NodeHost()).install(db)
    conflicts = []

    def work(writer):
        conflicts.extend(writers.write(db, capture, writer, COMMITS // 8))

    with writers.Observer(db) as observer:
        threads = [threading.Thread(target=work, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    capture.uninstall()

    assert conflicts == []
    writers.assert_complete(db, observer, 8, COMMITS // 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", SHARED)
def test_4_processes_never_conflict_and_lose_nothing(kind, tmp_path, child_environment):
    with shared_database(kind, tmp_path) as database:
        db = database.open()
        commits = COMMITS if kind == "zeo" else COMMITS // 4
        writers.install(db, 4)
        with writers.Observer(db) as observer:
            script = str(Path(writers.__file__))
            processes = [
                subprocess.Popen(
                    [sys.executable, script, database.uri, str(writer), str(commits // 4)],
                    env=child_environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for writer in range(4)
            ]
            told = [process.communicate(timeout=240) for process in processes]

        assert [process.returncode for process in processes] == [0] * 4, told
        assert [json.loads(out) for out, _ in told] == [[]] * 4
        writers.assert_complete(db, observer, 4, commits // 4)
        db.close()


def test_two_connections_in_one_thread_with_long_interleaved_transactions(site):
    place = site()
    sides = []
    for name in "left", "right":
        manager = transaction.TransactionManager(explicit=True)
        sides.append((name, manager, place.db.open(manager)))
    with place.change() as store:
        for name in "left", "right":
            store.add(None, name, name, announce=False)

    for turn in range(70):  # more than a lane holds
        for _, manager, _ in sides:
            manager.begin()
        for name, _, connection in sides:
            place_of = connection.root()["store"].top.children[name]
            place_of.title = f"{name} {turn}"
            place.capture.record(f"{name}:{turn}", "data_changed", connection=connection)
            with place.change():
                place.manager.collect(2_000_000_000 + turn)
        for _, manager, _ in sides[:: 1 if turn % 2 else -1]:
            manager.commit()
    with place.change():
        place.manager.collect(2_100_000_000)
    for _, _, connection in sides:
        connection.close()

    with place.looking():
        ids = [action.object_id for _, action in place.manager.track]
    for name in "left", "right":
        assert [found for found in ids if found.startswith(name)] == [f"{name}:{turn}" for turn in range(70)]


def test_a_transaction_open_across_several_runs_is_delivered_when_it_is_committed(site):
    from syshost import SERVICES, TwinAgent

    place = site()
    place.add_agent(TwinAgent("a", key="open across runs"))
    with place.change() as store:
        store.add(None, "long", "Long")
        store.add(None, "short", "Short")
    manager = transaction.TransactionManager(explicit=True)
    connection = place.db.open(manager)
    manager.begin()
    store = connection.root()["store"]
    store.edit(store.top.children["long"], "Edited at last")

    for turn in range(5):
        with place.change() as store:
            store.edit(store.top.children["short"], f"Short {turn}")
        place.run("a", now=2_000_000_000 + 3600 * turn)
    before = [row["title"] for row in SERVICES["open across runs"].documents.values()]
    manager.commit()
    connection.close()
    result = place.run("a")

    assert "Edited at last" not in before
    assert result.read == 1
    place.assert_equal("a")


def test_a_transaction_retried_after_a_conflict_of_the_host_is_recorded_once(site):
    place = site()
    with place.change() as store:
        store.add(None, "contended", "Contended", announce=False)
    manager = transaction.TransactionManager(explicit=True)
    connection = place.db.open(manager)
    attempts = []

    for attempt in manager.attempts(3):
        with attempt:
            store = connection.root()["store"]
            store.edit(store.top.children["contended"], "Mine")
            attempts.append(None)
            if len(attempts) == 1:
                with place.change() as theirs:
                    theirs.top.children["contended"].title = "Theirs"
    connection.close()

    assert len(attempts) == 2
    with place.looking():
        assert len(list(place.manager.waiting())) == 1


def test_a_conflict_of_the_hosts_own_is_the_only_one_there_is(site):
    place = site()
    with place.change() as store:
        node = store.add(None, "contended", "Contended", announce=False)
        oid = node._p_oid
    manager = transaction.TransactionManager(explicit=True)
    connection = place.db.open(manager)
    manager.begin()
    store = connection.root()["store"]
    store.edit(store.top.children["contended"], "Mine")
    with place.change() as theirs:
        theirs.edit(theirs.top.children["contended"], "Theirs")
        oid = theirs.top.children["contended"]._p_oid

    with pytest.raises(ConflictError) as raised:
        manager.commit()
    manager.abort()
    connection.close()

    assert raised.value.oid == oid
