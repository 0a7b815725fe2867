"""Writers, a collector that never rests and an observer, for threads and for processes.

As a script, a child process: the URI of a database, the number of the writer, and how many commits.
"""

import json
import sys
import threading
import time

import transaction
from persistent.mapping import PersistentMapping
from syshost import NodeHost
from ZODB.POSException import ConflictError

from livesync.capture import Capture
from livesync.delivery.access import ManagerAccess, collect_all
from livesync.manager import SyncManager


def install(db, writers):
    """Make a manager, a reader's pointer, and for each writer two objects of its own."""
    from livesync.agent import SyncAgent

    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(manager)
    with manager:
        root = connection.root()
        sync = SyncManager.install(root)
        sync.register_agent(SyncAgent("observer"))
        sync.activate("observer", from_start=True)
        for writer in range(writers):
            for part in "ab":
                root[f"{writer}{part}"] = PersistentMapping()
    connection.close()


def write(db, capture, writer, count):
    """Commit ``count`` times over two connections whose transactions overlap; return the conflicts.

    Each connection changes an object of its own, so whatever conflicts is livesync's.
    """
    conflicts = []
    sides = []
    for part in "ab":
        manager = transaction.TransactionManager(explicit=True)
        sides.append((part, manager, db.open(manager)))
    done = {"a": 0, "b": 0}
    for turn in range(count // 2):
        for _, manager, _ in sides:
            manager.begin()
        # the one that began first is committed last, every other time
        for part, manager, connection in sides if turn % 2 else sides[::-1]:
            connection.root()[f"{writer}{part}"]["n"] = done[part]
            capture.record(f"{writer}{part}:{done[part]}", "data_changed", connection=connection)
            try:
                manager.commit()
            except ConflictError as exc:
                conflicts.append(str(exc))
                manager.abort()
            done[part] += 1
    for _, manager, connection in sides:
        manager.abort() if manager._txn is not None else None
        connection.close()
    return conflicts


class Observer:
    """Collects without rest and follows the track with a pointer: what it saw, and what was wrong."""

    def __init__(self, db):
        self.seen = []
        self.wrong = []
        self._stop = threading.Event()
        self._db = db
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,)) for work in (self._collect, self._follow)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        access = self._access()
        collect_all(access, time.time(), seal_newest=True)
        self._look(access)
        access.close()

    def _access(self):
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        connection = self._db.open(manager)
        access = ManagerAccess(SyncManager.get(connection.root()))
        manager.abort()
        connection.close()
        return access

    def _guarded(self, work):
        access = self._access()
        try:
            while not self._stop.is_set():
                work(access)
        except BaseException as exc:
            self.wrong.append(repr(exc))
            raise
        finally:
            access.close()

    def _collect(self, access):
        collect_all(access, time.time(), seal_newest=True)

    def _follow(self, access):
        with access.snapshot() as manager:
            waits = manager.track.get_pointer_timestamp("observer") != manager.track.sealed
        if waits:
            self._look(access)

    def _look(self, access):
        def read(manager):
            items = list(manager.query("observer"))
            pointer = manager.track.get_pointer_timestamp("observer")
            manager.advance("observer", manager.track.sealed)
            return items, -1 if pointer is None else pointer

        items, pointer = access.change(read, "observe")
        positions = [position for position, _ in items]
        if positions != sorted(positions) or any(position <= pointer for position in positions):
            self.wrong.append(f"positions {positions} after {pointer}")
        self.seen += [(position, action.object_id) for position, action in items]


def assert_complete(db, observer, writers, count):
    """Nothing lost, nothing twice, the order of each connection kept, on the track and to the observer."""
    assert observer.wrong == []
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    sync = SyncManager.get(connection.root())
    kept = [(position, action.object_id) for position, action in sync.track]
    times = [action.timestamp for _, action in sync.track]
    waiting = list(sync.waiting())
    manager.abort()
    connection.close()
    assert waiting == []
    expected = [
        f"{writer}{part}:{n}" for writer in range(writers) for part in "ab" for n in range(count // 2)
    ]
    assert sorted(object_id for _, object_id in kept) == sorted(expected)
    assert observer.seen == kept
    assert times == sorted(times)
    assert [position for position, _ in kept] == sorted(position for position, _ in kept)
    by_side = {}
    for _, object_id in kept:
        side, _, n = object_id.partition(":")
        by_side.setdefault(side, []).append(int(n))
    assert all(numbers == list(range(count // 2)) for numbers in by_side.values())


def main(uri, writer, count):
    from livesync.database import open_database

    db = open_database(uri)
    capture = Capture(NodeHost()).install(db)
    print(json.dumps(write(db, capture, writer, count)))
    capture.uninstall()
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
