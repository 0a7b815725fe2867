"""Conflicts: many writers beside a collector that never rests, in threads and over ZEO.

Every writer changes an object of its own, so each conflict is one that livesync causes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transaction
import ZEO
from ZODB.DB import DB
from ZODB.POSException import ConflictError

from livesync.action import DATA_CHANGED
from livesync.capture import Capture
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, Talk, install, opened
from .rows import Row, check
from .timing import timed

TITLE = "conflicts: writers beside a collector that never rests"
QUICK = {"threads": 3, "processes": 2, "commits": 60}


def measure(threads: int = 8, processes: int = 4, commits: int = 2000) -> list[Row]:
    """Return how many conflicts there were.

    Args:
        threads: Writers on one FileStorage.
        processes: Writers over ZEO.
        commits: All writers' commits together, on each of the two.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        # Two for each writer, which has a second one for a moment when it claims its lanes.
        with opened(Path(directory) / "threads.fs", pool_size=2 * threads + 2) as db:
            rows = _rows("threads on FileStorage", db, threads, commits // threads, _threads)
        address, stop = ZEO.server(str(Path(directory) / "zeo.fs"))
        try:
            db = ZEO.DB(address)
            try:
                rows += _rows("processes over ZEO", db, processes, commits // processes, _processes(address))
            finally:
                db.close()
        finally:
            stop()
    return rows


Writers = Callable[[Any, int, int], int]


def _rows(what: str, db: Any, writers: int, each: int, write_all: Writers) -> list[Row]:
    with db.transaction() as connection:
        for writer in range(writers):
            connection.root()[f"writer-{writer}"] = Talk(f"writer-{writer}", "")
    install(db)
    collector = _Collector(db)
    collector.start()
    conflicts = 0

    def write() -> None:
        nonlocal conflicts
        conflicts = write_all(db, writers, each)

    try:
        seconds = timed(write).wall_s
    finally:
        collector.stop()
    _check_nothing_lost(db, writers, each)
    told = f"{writers} {what}"
    return [
        Row(f"{told}: conflicts in {writers * each:,} commits", conflicts, at_most=0),
        Row(f"{told}: conflicts of the collector", collector.conflicts, at_most=0),
        Row(f"{told}: collects meanwhile that moved something", collector.moved),
        Row(f"{told}: commits", writers * each / seconds, "a second"),
    ]


def _check_nothing_lost(db: Any, writers: int, each: int) -> None:
    with db.transaction() as connection:
        found = [action.object_id for _, action in SyncManager.get(connection.root()).track.iterate()]
        numbers = [connection.root()[f"writer-{writer}"].number for writer in range(writers)]
    check(numbers == [each] * writers, "not every commit was made")
    check(len(found) == writers * each, f"{len(found)} actions on the track in place of {writers * each}")
    for writer in range(writers):
        own = [object_id for object_id in found if object_id.startswith(f"{writer}-")]
        wanted = [f"{writer}-{number}" for number in range(each)]
        check(own == wanted, f"writer {writer}: actions lost or out of order")


class _Collector(threading.Thread):
    """Collects again and again; once more after it is told to stop."""

    def __init__(self, db: Any) -> None:
        super().__init__()
        self._db = db
        self._stop_asked = threading.Event()
        self.conflicts = self.moved = 0

    def run(self) -> None:
        manager = transaction.TransactionManager(explicit=True)
        connection = self._db.open(transaction_manager=manager)
        while True:
            last = self._stop_asked.is_set()
            manager.begin()
            try:
                moved = SyncManager.get(connection.root()).collect()
                manager.commit()
            except ConflictError:
                manager.abort()
                self.conflicts += 1
                continue
            self.moved += moved > 0
            if last and not moved:
                break
        connection.close()

    def stop(self) -> None:
        """Let it collect what there is, once all commits are made, and end."""
        ping = getattr(self._db.storage, "ping", None)
        if ping is not None:
            ping()  # ZEO: what other processes have committed has been heard of when this is answered
        self._stop_asked.set()
        self.join()


def _write(db: Any, capture: Capture, writer: int, commits: int) -> int:
    """Make ``commits`` commits, each recorded; return how many conflicts there were."""
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    conflicts = number = 0
    while number < commits:
        manager.begin()
        try:
            connection.root()[f"writer-{writer}"].number = number + 1
            capture.record(f"{writer}-{number}", DATA_CHANGED, connection=connection)
            manager.commit()
            number += 1
        except ConflictError:
            manager.abort()
            conflicts += 1
    connection.close()
    return conflicts


def _threads(db: Any, writers: int, each: int) -> int:
    found = [0] * writers

    def write(writer: int) -> None:
        found[writer] = _write(db, capture, writer, each)

    with Capture(CatalogueHost()).attached(db) as capture:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(found)


def _processes(address: tuple[str, int]) -> Writers:
    def write_all(db: Any, writers: int, each: int) -> int:
        command = [sys.executable, "-m", "bench.conflicts", address[0], str(address[1])]
        processes = [
            subprocess.Popen(
                [*command, str(writer), str(each)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for writer in range(writers)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is connected
        return sum(int(process.communicate()[0]) for process in _told(processes))

    return write_all


def _told(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let all begin at once: only then is the first one waited for."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def _main(host: str, port: str, writer: str, each: str) -> None:
    db: DB = ZEO.DB((host, int(port)))
    with Capture(CatalogueHost()).attached(db) as capture:
        print("ready", flush=True)
        sys.stdin.readline()
        print(_write(db, capture, int(writer), int(each)), flush=True)
    db.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
