"""Capture: what a host transaction costs with livesync, beside the same one without."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import transaction
from zope.lifecycleevent import modified

from livesync.capture import Capture
from livesync.manager import SyncManager

from .catalogue import CatalogueHost, fill, install, opened, record, talk_ids, without_fsync
from .rows import Row, same
from .timing import median_ratio

TITLE = "capture: a host transaction (FileStorage, fsync) with livesync beside one without"
QUICK = {"pairs": 3, "block": 20, "backlog": 200}

#: Objects a transaction, and the ratios allowed: while collect keeps up, and after the backlog.
_KINDS = ((1, 1.5, 1.6), (20, 1.25, 1.4))
_TALKS = 200  # few enough that the caches of both sides hold them all
_COLLECT_EVERY = 10
_OWN_S, _OWN_PER_OBJECT_S = 100e-6, 5e-6


@dataclass(slots=True)
class _Side:
    """One of the two databases, and how long its transactions took: the medians of its blocks."""

    db: Any
    capture: Capture | None
    transactions: Any = field(default_factory=lambda: transaction.TransactionManager(explicit=True))
    commits_s: list[float] = field(default_factory=list)
    quickest_s: list[float] = field(default_factory=list)  # the quickest tenth of a block begins here
    cpu_s: list[float] = field(default_factory=list)  # whole transactions
    own_s: list[float] = field(default_factory=list)  # events and hooks, CPU
    changed: list[str] = field(default_factory=list)

    def block(self, count: int, objects: int, collect_every: int | None) -> None:
        connection = self.db.open(transaction_manager=self.transactions)
        self.transactions.begin()
        talks = list(connection.root()["talks"].values())
        for talk in talks:
            talk._p_activate()
        self.transactions.abort()
        if self.capture is not None:
            self.capture.install(self.db)
        commits, cpu, own = [], [], []
        try:
            for number in range(count):
                first = number * objects % len(talks)
                chosen = talks[first : first + objects]
                for times, seconds in zip((commits, cpu, own), self._transaction(chosen), strict=True):
                    times.append(seconds)
                self.changed += [talk.id for talk in chosen]
                if collect_every is not None and number % collect_every == collect_every - 1:
                    self.collect()
        finally:
            if self.capture is not None:
                self.capture.uninstall(self.db)
            connection.close()
        self.commits_s.append(median(commits))
        self.quickest_s.append(sorted(commits)[count // 10])
        self.cpu_s.append(median(cpu))
        self.own_s.append(median(own))

    def _transaction(self, chosen: list[Any]) -> tuple[float, float, float]:
        """Return its seconds on the wall, of CPU, and of CPU in events and hooks."""
        began, began_cpu = time.perf_counter(), time.thread_time()
        current = self.transactions.begin()
        for talk in chosen:
            talk.number += 1
        own = time.thread_time()
        for talk in chosen:
            modified(talk)
        # What commit() would do first: so that capture's part can be told from ZODB's.
        current._callBeforeCommitHooks()
        own = time.thread_time() - own
        self.transactions.commit()
        return time.perf_counter() - began, time.thread_time() - began_cpu, own

    def collect(self) -> None:
        if self.capture is None:
            return
        moved = 1
        while moved:
            with self.db.transaction() as connection:
                moved = SyncManager.get(connection.root()).collect()


def measure(pairs: int = 15, block: int = 100, backlog: int = 10_000) -> list[Row]:
    """Return how the two sides compare.

    Args:
        pairs: Blocks of each side, one side after the other.
        block: Transactions a block.
        backlog: Transactions without a collect before the second part.
    """
    rows: list[Row] = []
    own: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for objects, keeping_up, lagging in _KINDS:
            path = Path(directory)
            with opened(path / f"with-{objects}.fs") as db, opened(path / f"bare-{objects}.fs") as bare_db:
                for each in (db, bare_db):
                    fill(each, talk_ids(_TALKS), abstract_words=0)
                install(db)
                what = f"{objects} object{'s' * (objects > 1)}"
                ours, bare = _compare(db, bare_db, pairs, block, objects, _COLLECT_EVERY)
                rows += _rows(f"{what}, collect keeps up", ours, bare, keeping_up)
                own[objects] = median(a - b for a, b in zip(ours.own_s, bare.own_s, strict=True))
                expected = list(ours.changed)
                with without_fsync():
                    record(db, talk_ids(_TALKS), 1, backlog)
                expected += [talk_ids(_TALKS)[number % _TALKS] for number in range(backlog)]
                ours, bare = _compare(db, bare_db, pairs, block, objects, None)
                rows += _rows(f"{what}, {backlog:,} transactions not collected", ours, bare, lagging)
                expected += ours.changed
                ours.collect()
                _check_track(db, expected, objects)
    (few, _, _), (many, _, _) = _KINDS
    rows += [
        Row(f"capture's own CPU, {few} object", own[few] * 1e6, "us", at_most=_OWN_S * 1e6),
        Row(
            "capture's own CPU, each object more",
            (own[many] - own[few]) / (many - few) * 1e6,
            "us",
            at_most=_OWN_PER_OBJECT_S * 1e6,
        ),
    ]
    return rows


def _compare(
    db: Any, bare_db: Any, pairs: int, block: int, objects: int, collect_every: int | None
) -> tuple[_Side, _Side]:
    ours, bare = _Side(db, Capture(CatalogueHost())), _Side(bare_db, None)
    # The first pair warms up: caches are filled, lanes claimed.
    for number in range(pairs + 1):
        for side in (ours, bare) if number % 2 else (bare, ours):
            side.block(block, objects, collect_every)
    for side in (ours, bare):
        for times in (side.commits_s, side.quickest_s, side.cpu_s, side.own_s):
            del times[0]
    return ours, bare


def _rows(what: str, ours: _Side, bare: _Side, limit: float) -> list[Row]:
    return [
        Row(f"{what}: bare", median(bare.commits_s) * 1e6, "us"),
        Row(f"{what}: with livesync", median(ours.commits_s) * 1e6, "us"),
        Row(f"{what}: ratio", median_ratio(ours.commits_s, bare.commits_s), at_most=limit),
        Row("  ratio of the quickest tenth", median_ratio(ours.quickest_s, bare.quickest_s)),
        Row("  CPU more than bare", (median(ours.cpu_s) - median(bare.cpu_s)) * 1e6, "us"),
    ]


def _check_track(db: Any, expected: list[str], objects: int) -> None:
    with db.transaction() as connection:
        found = [action.object_id for _, action in SyncManager.get(connection.root()).track.iterate()]
    same(found, expected, f"actions on the track after transactions of {objects}")
