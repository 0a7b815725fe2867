"""Latency: from the application's commit to the service, with a runner waiting.

Commits come at a steady rate, one change a commit, then a few that come alone. Three ways: a run again
and again, as a scheduled run with an interval of a quarter of a second would be; the runner thread in
the process that commits, on its FileStorage, which hears of commits at once; and ``livesync serve`` in
a process of its own, over ZEO, with an HTTP service. The service notes when each change arrives. A
change's latency runs from the moment at which its commit returned.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median, quantiles
from typing import Any, ClassVar

import transaction

from livesync.action import DATA_CHANGED
from livesync.capture import Capture
from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import Batch
from livesync.delivery.uploader import DELIVERY_OPTIONS, RecordUploader
from livesync.destinations.http import HTTPAgent
from livesync.manager import SyncManager
from livesync.schedule.thread import Runner

from .catalogue import CatalogueHost, fill, install, opened, talk_ids
from .rows import Row, check

TITLE = "latency: from a commit to the service, granularity 1"
QUICK = {"seconds": 3, "per_second": 20, "alone": 2}

_LIMIT_S = 2.0
_AGENT = "bench"
#: A run again and again looks so often whether there is something to do.
_POLL_S = 0.25
#: What comes alone comes so long after the one before it.
_PAUSE_S = 1.7

Seen = dict[tuple[str, int], float]


class _Arrivals(RecordUploader):
    """A service in this process that notes when each change arrives."""

    seen: ClassVar[Seen] = {}

    def _upload_batch(self, batch: Batch) -> None:
        now = time.perf_counter()
        for record in batch:
            assert record.document is not None
            self.seen.setdefault((record.object_id, record.document["number"]), now)


class LatencyAgent(PushSyncAgent):
    """Delivers to :class:`_Arrivals`."""

    options = DELIVERY_OPTIONS
    uploader = _Arrivals


class _Receiver(BaseHTTPRequestHandler):
    """An HTTP service in this process that notes when each change arrives."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        now = time.perf_counter()
        for line in map(json.loads, body.splitlines()):
            _Arrivals.seen.setdefault((line["id"], line["document"]["number"]), now)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def measure(seconds: int = 30, per_second: int = 50, alone: int = 10) -> list[Row]:
    """Return the quantiles of the latency in seconds, by the way in which the agent is run.

    Args:
        seconds: How long commits are made.
        per_second: Commits a second.
        alone: Commits that come alone afterwards.
    """
    rows = []
    ways: Mapping[str, Callable[[Path], Any]] = {
        "again and again": _again_and_again, "runner thread": _thread, "serve over ZEO": _served
    }  # fmt: skip
    for way, running in ways.items():
        _Arrivals.seen.clear()
        with tempfile.TemporaryDirectory(prefix="bench-") as name, running(Path(name)) as db:
            talks = db.ids
            steady = _commit(db.db, talks, seconds * per_second, 1 / per_second)
            _wait_for(steady)
            single = _commit(db.db, talks, alone, _PAUSE_S, first=1_000_000)
            _wait_for(single)
        rows += _rows(way, steady, single)
    return rows


def _rows(way: str, steady: Seen, single: Seen) -> Iterator[Row]:
    # A change that was replaced before it was delivered arrives with the one that replaced it.
    late = sorted(_latencies(steady))
    marks = quantiles(late, n=100, method="inclusive")
    yield Row(f"{way}: commits", float(len(late)))
    yield Row(f"{way}: median", marks[49], "s")
    yield Row(f"{way}: 95th percentile", marks[94], "s")
    yield Row(f"{way}: 99th percentile", marks[98], "s", at_most=_LIMIT_S)
    yield Row(f"{way}: longest", late[-1], "s")
    yield Row(f"{way}: median of one that comes alone", median(_latencies(single)), "s")


class _Place:
    """An open database, and the ids of what it holds."""

    def __init__(self, db: Any, ids: list[str]) -> None:
        self.db = db
        self.ids = ids


def _prepare(db: Any, agent: Any) -> _Place:
    ids = talk_ids(1000)
    fill(db, ids)
    install(db, agent)
    with db.transaction() as connection:
        SyncManager.get(connection.root()).set_interval(_AGENT, 3600.0)
    return _Place(db, ids)


@contextmanager
def _again_and_again(directory: Path) -> Iterator[_Place]:
    with opened(directory / "Data.fs") as db:
        place = _prepare(db, LatencyAgent(_AGENT))
        over = threading.Event()
        runner = threading.Thread(target=_run_again_and_again, args=(db, over))
        runner.start()
        try:
            yield place
        finally:
            over.set()
            runner.join()


@contextmanager
def _thread(directory: Path) -> Iterator[_Place]:
    with opened(directory / "Data.fs") as db:
        place = _prepare(db, LatencyAgent(_AGENT))
        runner = Runner(db, CatalogueHost())
        runner.start()
        try:
            yield place
        finally:
            check(runner.stop(30), "the runner did not end")


@contextmanager
def _served(directory: Path) -> Iterator[_Place]:
    import ZEO

    service = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    (host, port), stop_server = ZEO.server(str(directory / "Data.fs"))
    db = ZEO.DB((host, port), wait_timeout=20)
    try:
        place = _prepare(db, HTTPAgent(_AGENT, url=f"http://127.0.0.1:{service.server_port}/"))
        command = [
            sys.executable, "-m", "livesync", "--db", f"zeo://{host}:{port}", "--host",
            "bench.catalogue:CatalogueHost", "serve", "--no-web",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            check(process.stdout.readline().startswith("livesync serves"), "livesync serve did not begin")
            yield place
        finally:
            process.terminate()
            check(process.wait(60) == 0, "livesync serve did not end in good order")
            process.stdout.close()
    finally:
        db.close()
        stop_server()
        service.shutdown()
        service.server_close()


def _commit(db: Any, ids: list[str], count: int, every_s: float, first: int = 0) -> Seen:
    """Commit changes at a steady rate; return when each commit returned."""
    committed: Seen = {}
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    with Capture(CatalogueHost()).attached(db) as capture:
        begin = time.perf_counter()
        for number in range(count):
            wait_s = begin + number * every_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            manager.begin()
            talk = connection.root()["talks"][ids[number % len(ids)]]
            talk.number = first + number + 1
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


def _latencies(committed: Seen) -> Iterable[float]:
    arrivals: dict[str, list[tuple[int, float]]] = {}
    for (object_id, number), when in list(_Arrivals.seen.items()):
        arrivals.setdefault(object_id, []).append((number, when))
    for (object_id, number), when in committed.items():
        yield max(0.0, min(seen for arrived, seen in arrivals[object_id] if arrived >= number) - when)
