"""In flight: how much of a slow service's waiting several requests at once hide.

The receiver takes a fixed time for every answer. What is compared is three drains of the same
backlog by the same agent: with one request at a time, with several, and with several to a receiver
that answers at once. What the second takes longer than the third was not hidden.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import transaction

from livesync.delivery.uploader import DEFAULT_BATCH_SIZE
from livesync.destinations.http import HTTPAgent
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, fill, install, opened, record, talk_ids, without_fsync
from .receiver import received, receiving
from .rows import Row, check
from .timing import timed

TITLE = "inflight: a service that takes 50 ms for each answer"
QUICK = {"actions": 300, "repeats": 1, "wait_ms": 5}

_LIMIT = 0.9
_AGENT = "bench"


def measure(actions: int = 100_000, in_flight: int = 8, wait_ms: int = 50, repeats: int = 3) -> list[Row]:
    """Return the seconds of the three drains, and the share of the waiting that was hidden.

    Args:
        actions: How many, each on an object of its own.
        in_flight: Most requests under way at once.
        wait_ms: Milliseconds that the receiver takes for each answer.
        repeats: How often, the three in turn.
    """
    ids = talk_ids(actions)
    batches = -(-actions // DEFAULT_BATCH_SIZE)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        receiving() as quick,
        receiving(wait_ms) as slow,
    ):
        directory = Path(name)
        with without_fsync(), opened(directory / "backlog.fs") as db:
            fill(db, ids)
            install(db, HTTPAgent(_AGENT, url=quick))
            record(db, ids, 100)
        one, several, at_once = [], [], []
        for _ in range(repeats):
            at_once.append(_drain(directory, HTTPAgent(_AGENT, url=quick, in_flight=in_flight), actions))
            several.append(_drain(directory, HTTPAgent(_AGENT, url=slow, in_flight=in_flight), actions))
            one.append(_drain(directory, HTTPAgent(_AGENT, url=slow, in_flight=1), actions))
            check(received(slow)["lines"] == 2 * actions, "the slow receiver did not get everything")
            check(received(quick)["lines"] == actions, "the quick receiver did not get everything")
    waiting = batches * wait_ms / 1000
    left = median(max(0.0, slow_s - quick_s) for slow_s, quick_s in zip(several, at_once, strict=True))
    return [
        Row(f"the service's waiting: {batches} batches of {wait_ms} ms", waiting, "s"),
        Row("one request at a time", median(one), "s"),
        Row(f"{in_flight} in flight", median(several), "s"),
        Row(f"{in_flight} in flight, a service that answers at once", median(at_once), "s"),
        Row("share of the waiting that is hidden", 1 - left / waiting, at_least=_LIMIT),
    ]


def _drain(directory: Path, agent: HTTPAgent, actions: int) -> float:
    """Return how long ``agent`` takes for a fresh copy of the backlog."""
    path = directory / "drained.fs"
    for suffix in ("", ".index"):
        shutil.copyfile(f"{directory / 'backlog.fs'}{suffix}", f"{path}{suffix}")
    with opened(path) as db:
        return timed(lambda: _run(db, agent, actions)).wall_s


def _run(db: Any, agent: HTTPAgent, actions: int) -> None:
    manager = transaction.TransactionManager()
    with closing(db.open(transaction_manager=manager)) as connection:
        result = agent.run(SyncManager.get(connection.root()), CatalogueHost())
        check(result.accepted == actions, f"{result.accepted} accepted in place of {actions}")
        manager.abort()
