"""Collect: from a backlog of one-action transactions to the track."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import transaction

from livesync.manager import SyncManager

from .catalogue import install, opened, record, talk_ids, without_fsync
from .rows import Row, same
from .timing import timed

TITLE = "collect: one-action transactions moved from the inbox to the track (FileStorage, fsync)"
QUICK = {"transactions": 300, "repeats": 1}


def measure(transactions: int = 100_000, repeats: int = 3) -> list[Row]:
    """Return the rate at which a backlog is collected.

    Args:
        transactions: The backlog.
        repeats: How often; each has a backlog of its own, collected in a new connection.
    """
    wall, cpu = [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for repeat in range(repeats):
            path = Path(directory) / f"collect-{repeat}.fs"
            ids = talk_ids(transactions)
            with opened(path) as db, without_fsync():
                install(db)
                record(db, ids, 1)
            with opened(path) as db:
                took = timed(lambda db=db: _collect_all(db))  # type: ignore[misc]
                wall.append(transactions / took.wall_s)
                cpu.append(transactions / took.cpu_s)
                with db.transaction() as connection:
                    track = SyncManager.get(connection.root()).track
                    same((action.object_id for _, action in track.iterate()), ids, "actions collected")
    return [
        Row(f"{transactions:,} transactions", median(wall), "a second", at_least=30_000),
        Row("  a second of CPU", median(cpu), ""),
    ]


def _collect_all(db: Any) -> None:
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    moved = 1
    while moved:
        manager.begin()
        moved = SyncManager.get(connection.root()).collect()
        manager.commit()
        connection.cacheGC()
    connection.close()
