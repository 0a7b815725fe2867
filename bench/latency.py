"""Latency: from the application's commit to the service, with a runner waiting.

One thread commits at a steady rate, one change a commit; another runs the agent again and again,
as a scheduled runner does, by the rule that seals a position when its time is over (granularity 1).
The service notes when each change arrives. A change's latency runs from the moment at which its
commit returned.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles
from typing import Any, ClassVar

import transaction

from livesync.action import DATA_CHANGED
from livesync.capture import Capture
from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import Batch
from livesync.delivery.uploader import DELIVERY_OPTIONS, RecordUploader
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, fill, install, opened, talk_ids
from .rows import Row, check

TITLE = "latency: from a commit to the service, granularity 1, a runner waiting"
QUICK = {"seconds": 3, "per_second": 20}

_LIMIT_S = 2.0
_AGENT = "bench"
#: The runner looks so often whether there is something to do.
_POLL_S = 0.25


class _Arrivals(RecordUploader):
    """A service in this process that notes when each change arrives."""

    seen: ClassVar[dict[tuple[str, int], float]] = {}

    def _upload_batch(self, batch: Batch) -> None:
        now = time.perf_counter()
        for record in batch:
            assert record.document is not None
            self.seen.setdefault((record.object_id, record.document["number"]), now)


class LatencyAgent(PushSyncAgent):
    """Delivers to :class:`_Arrivals`."""

    options = DELIVERY_OPTIONS
    uploader = _Arrivals


def measure(seconds: int = 60, per_second: int = 50) -> list[Row]:
    """Return the quantiles of the latency in seconds.

    Args:
        seconds: How long commits are made.
        per_second: Commits a second.
    """
    _Arrivals.seen.clear()
    ids = talk_ids(1000)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, opened(Path(name) / "Data.fs") as db:
        fill(db, ids)
        install(db, LatencyAgent(_AGENT))
        over = threading.Event()
        runner = threading.Thread(target=_run_again_and_again, args=(db, over))
        runner.start()
        try:
            committed = _commit(db, ids, seconds, per_second)
            _wait_for(committed)
        finally:
            over.set()
            runner.join()
    # A change that was replaced before it was delivered arrives with the one that replaced it.
    late = sorted(_latencies(committed))
    marks = quantiles(late, n=100, method="inclusive")
    return [
        Row("commits", float(len(committed))),
        Row("median", marks[49], "s"),
        Row("95th percentile", marks[94], "s"),
        Row("99th percentile", marks[98], "s", at_most=_LIMIT_S),
        Row("longest", late[-1], "s"),
    ]


def _commit(db: Any, ids: list[str], seconds: int, per_second: int) -> dict[tuple[str, int], float]:
    """Commit changes at a steady rate; return when each commit returned."""
    committed: dict[tuple[str, int], float] = {}
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    with Capture(CatalogueHost()).attached(db) as capture:
        begin = time.perf_counter()
        for count in range(seconds * per_second):
            wait_s = begin + count / per_second - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            manager.begin()
            talk = connection.root()["talks"][ids[count % len(ids)]]
            talk.number += 1
            capture.record(talk, DATA_CHANGED)
            manager.commit()
            committed[talk.id, talk.number] = time.perf_counter()
    connection.close()
    return committed


def _run_again_and_again(db: Any, over: threading.Event) -> None:
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    stored = SyncManager.get(connection.root())
    agent = LatencyAgent(_AGENT)
    while not over.wait(_POLL_S):
        agent.run(stored, CatalogueHost(), now=time.time())
    manager.abort()
    connection.close()


def _wait_for(committed: Iterable[tuple[str, int]]) -> None:
    """Wait until the newest state of every object has arrived."""
    newest = dict(list(committed))  # by object: the number that was committed last
    give_up = time.perf_counter() + 30
    while not all(item in _Arrivals.seen for item in newest.items()):
        check(time.perf_counter() < give_up, "not everything arrived within 30 s")
        time.sleep(0.05)


def _latencies(committed: dict[tuple[str, int], float]) -> Iterable[float]:
    arrivals: dict[str, list[tuple[int, float]]] = {}
    for (object_id, number), when in _Arrivals.seen.items():
        arrivals.setdefault(object_id, []).append((number, when))
    for (object_id, number), when in committed.items():
        yield max(0.0, min(seen for arrived, seen in arrivals[object_id] if arrived >= number) - when)
