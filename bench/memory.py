"""Memory: the most that a drain, a collect and a transaction hold, beside ones of a hundredth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import transaction

from livesync.action import DATA_CHANGED
from livesync.capture import Capture
from livesync.delivery.access import ManagerAccess, collect_all
from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import Batch
from livesync.delivery.uploader import DELIVERY_OPTIONS, RecordUploader
from livesync.destinations._lines import encode_lines
from livesync.destinations.sqlite import SQLiteAgent
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, fill, install, opened, record, talk_ids, without_fsync
from .rows import Row, check

TITLE = "memory: peak of resident memory, each in a process of its own"
QUICK = {"actions": 2000, "objects": 200, "backlog": 2000}

_LIMIT_MB = 300
_GROWTH = 1.3
_AGENT = "bench"
_COLLECT_TILL = 4e9  # epoch seconds, long after any commit: everything is sealed


def measure(actions: int = 1_000_000, objects: int = 100_000, backlog: int = 10_000_000) -> list[Row]:
    """Return peaks in MB (10**6 bytes) and their ratios.

    Args:
        actions: Actions of the drain, of the collect, and of the one transaction.
        objects: Objects of the drain and of the backlog.
        backlog: Actions of the backlog, whose records are encoded and then thrown away, since what
            counts here is the run and not the service.
    """
    few = max(1, actions // 100)
    peaks: dict[str, float] = {"python": _peak_mb("nothing")}
    for count in (few, actions):
        for what in ("drain", "collect", "record"):
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                recorded = 0 if what == "record" else count
                _probe("prepare", directory, str(recorded), str(min(count, objects)))
                peaks[f"{what} {count}"] = _peak_mb(what, directory, str(count))
    rows = [Row("imports alone", peaks["python"], "MB")]
    for what, told in (
        ("drain", f"drain into sqlite, on {objects:,} objects"),
        ("collect", "collect"),
        ("record", "one transaction's ids"),
    ):
        rows += [
            Row(f"{told}: {few:,} actions", peaks[f"{what} {few}"], "MB"),
            Row(
                f"{told}: {actions:,} actions",
                peaks[f"{what} {actions}"],
                "MB",
                at_most=_LIMIT_MB if what == "drain" else None,
            ),
            Row(
                f"{told}: {actions // few} times as many, ratio",
                peaks[f"{what} {actions}"] / peaks[f"{what} {few}"],
                at_most=_GROWTH,
            ),
        ]
    return rows + _backlog(backlog, objects)


def _backlog(actions: int, objects: int) -> list[Row]:
    few = max(1, actions // 100)
    peaks = []
    for count in (few, actions):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            _probe("prepare-backlog", directory, str(count), str(min(count, objects)))
            peaks.append(_peak_mb("drain", directory, str(count)))
    told = f"backlog on {objects:,} objects"
    return [
        Row(f"{told}: {few:,} actions", peaks[0], "MB"),
        Row(f"{told}: {actions:,} actions", peaks[1], "MB"),
        Row(f"{told}: {actions // few} times as many, ratio", peaks[1] / peaks[0], at_most=_GROWTH),
    ]


class _Discarded(RecordUploader):
    """Writes the lines of the ``http`` destination to nowhere."""

    def _upload_batch(self, batch: Batch) -> None:
        encode_lines(batch)


class DiscardingAgent(PushSyncAgent):
    """Delivers to nowhere."""

    options = DELIVERY_OPTIONS
    uploader = _Discarded


def _peak_mb(*arguments: str) -> float:
    answer = json.loads(_probe(*arguments))
    done, wanted = answer["done"], answer["wanted"]
    check(done == wanted, f"{arguments[0]}: {done} in place of {wanted}")
    return float(answer["peak"]) / 1e6


def _probe(*arguments: str) -> str:
    command = [sys.executable, "-m", "bench.memory", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


# -- in the process that is measured -------------------------------------------------------------


def _peak_bytes() -> int:
    """Return the peak of this process's resident memory.

    Not ``getrusage``: on Linux, that of a new program begins with the peak of the one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _prepare(path: Path, actions: int, objects: int, agent: PushSyncAgent) -> None:
    ids = talk_ids(objects)
    with without_fsync(), opened(path / "Data.fs") as db:
        fill(db, ids)
        install(db, agent)
        record(db, ids, 1000, actions)


def _drain(db: Any, wanted: int) -> int:
    manager = transaction.TransactionManager()
    stored = SyncManager.get(db.open(transaction_manager=manager).root())
    read: int = stored.agents[_AGENT].run(stored, CatalogueHost()).read  # type: ignore[attr-defined]
    return read


def _collect(db: Any, wanted: int) -> int:
    connection = db.open(transaction_manager=transaction.TransactionManager())
    access = ManagerAccess(SyncManager.get(connection.root()))
    try:
        return collect_all(access, _COLLECT_TILL)
    finally:
        access.close()


def _record(db: Any, wanted: int) -> int:
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    manager.begin()
    with Capture(CatalogueHost()).attached(db) as capture:
        for number in range(wanted):
            capture.record(f"one-{number:07d}", DATA_CHANGED, connection=connection)
        manager.commit()
    return SyncManager.get(connection.root()).status().waiting


def _main(what: str, directory: str = "", actions: str = "0", objects: str = "0") -> None:
    path = Path(directory)
    if what == "prepare":
        agent = SQLiteAgent(_AGENT, path=os.fspath(path / "index.sqlite"))
        _prepare(path, int(actions), int(objects), agent)
        return
    if what == "prepare-backlog":
        from bench.memory import DiscardingAgent as Discarding  # by the name that can be imported again

        _prepare(path, int(actions), int(objects), Discarding(_AGENT))
        return
    done = 0
    if what != "nothing":
        work = {"drain": _drain, "collect": _collect, "record": _record}[what]
        with opened(path / "Data.fs") as db:
            done = work(db, int(actions))
            peak = _peak_bytes()
    else:
        peak = _peak_bytes()
    print(json.dumps({"done": done, "wanted": int(actions), "peak": peak}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
