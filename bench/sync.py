"""Two-way sync: new items, nothing new, one in a hundred changed, and the memory that a large sync needs.

All in one process, both ways, between two stores: in memory for the rate, in database files for the growth,
for what a session costs that has little or nothing to carry, and for memory, which is measured in a process
of its own. Ids are scattered, as calculated ones are. Times are those of the CPU, the best of a few: nothing
here waits for anybody.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import ZODB
from ZODB.FileStorage import FileStorage

from livesync.replication import (
    BaseSyncProvider,
    MemoryDataStore,
    Operation,
    Query,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    ZODBDataStore,
)

from .catalogue import without_fsync
from .rows import Row, check
from .timing import timed

TITLE = "sync: items both ways between two stores, in one process"
QUICK = {"memory_items": 200, "items": 1000, "large": 10_000, "peak_items": 2000, "repeats": 1}

#: Items a second of maestro-python 1.0.6 at 2,000 items in memory, on 2 cores with nothing else to do.
_MAESTRO = 162
_PAYLOAD = '{"title": "A talk about nothing in particular", "number": %d}'


#: Items of the model that a query is about.
_QUERIED = 100


@dataclass(frozen=True, slots=True)
class _Costs:
    """CPU seconds of a sync of everything, with nothing new, with 1 % changed, and of a query."""

    new: float
    idle: float
    changed: float
    query: float


def measure(
    memory_items: int = 2_000,
    items: int = 1_000,
    large: int = 100_000,
    peak_items: int = 1_000_000,
    repeats: int = 3,
) -> list[Row]:
    """Return rates, growth, the cost of small sessions, and the peak of memory.

    Args:
        memory_items: New items between two stores in memory.
        items: New items between two databases, the smallest number.
        large: The largest number; what lies between is measured in steps of ten times as many.
        peak_items: Items that are synced in a process of its own, whose memory is measured; 0: none.
        repeats: How often each is measured.
    """
    rate = max(memory_items / _in_memory(memory_items) for _ in range(repeats))
    sizes = [items]
    while sizes[-1] < large:
        sizes.append(min(10 * sizes[-1], large))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, without_fsync():
        costs = {size: _in_databases(Path(name), size, repeats) for size in sizes}
    few, many = costs[items], costs[sizes[-1]]
    rows = [Row(f"{memory_items:,} new items in memory", rate, "items/s", at_least=100 * _MAESTRO)]
    rows += [Row(f"{size:,} new items in databases", size / costs[size].new, "items/s") for size in sizes]
    for smaller, larger in pairwise(sizes):
        growth = (costs[larger].new / costs[smaller].new) / (larger / smaller)
        rows.append(Row(f"time per item, {smaller:,} to {larger:,}", growth, at_most=1.2))
    changed = (many.changed - many.idle) / (many.new - many.idle)
    rows += [
        Row(f"nothing new, {items:,} items", few.idle * 1000, "ms"),
        Row(f"nothing new, {large:,} items", many.idle * 1000, "ms"),
        Row("nothing new, many to few", many.idle / few.idle, at_most=2.0),
        Row(
            f"1 % of {large:,} changed, to all new, each without what nothing new costs",
            changed,
            at_most=0.05,
        ),
    ]
    rows += [
        Row(f"query of {_QUERIED} items among {items:,}", few.query * 1000, "ms"),
        Row(f"query of {_QUERIED} items among {large:,}", many.query * 1000, "ms"),
        Row("query, many to few", many.query / few.query, at_most=4.0),
    ]
    if peak_items:
        peak, idle = _peak(peak_items)
        rows += [
            Row(f"nothing new, {peak_items:,} items", idle * 1000, "ms"),
            Row(f"nothing new, {peak_items:,} items to {items:,}", idle / few.idle, at_most=2.0),
            Row(f"peak memory, {peak_items:,} items", peak, "MB", at_most=300.0),
        ]
    return rows


def _sync(one: BaseSyncProvider, other: BaseSyncProvider, expected: int | None = None) -> float:
    orchestrator = SyncOrchestrator(SyncLock(), [one, other], 86_400)
    sessions = []
    taken = timed(lambda: sessions.extend(orchestrator.run())).cpu_s
    check(
        all(found.status is SyncSessionStatus.FINISHED for found in sessions), f"a session failed: {sessions}"
    )
    if expected is not None:
        count = sum(len(found.item_changes) for found in sessions)
        check(count == expected, f"{count} items were synced in place of {expected}")
    return taken


def _item_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def _fill(provider: BaseSyncProvider, numbers: range, model: str = "talk") -> None:
    store = provider.data_store
    for begin in range(0, len(numbers), 1000):
        part = numbers[begin : begin + 1000]

        def work(part: range = part) -> None:
            for number in part:
                provider.commit_item_change(
                    Operation.UPDATE, model, _item_id(number), _PAYLOAD % number, f"talks:{number % 50}"
                )

        store.run(work)


def _in_memory(count: int) -> float:
    one, other = BaseSyncProvider("one", MemoryDataStore()), BaseSyncProvider("other", MemoryDataStore())
    _fill(one, range(count))
    return _sync(one, other, count)


@contextmanager
def _databases(path: Path) -> Iterator[tuple[BaseSyncProvider, BaseSyncProvider]]:
    path.mkdir()
    databases = [ZODB.DB(FileStorage(str(path / f"{name}.fs")), cache_size=4000) for name in ("one", "other")]
    one, other = (
        BaseSyncProvider(name, ZODBDataStore(db))
        for name, db in zip(("one", "other"), databases, strict=True)
    )
    try:
        yield one, other
    finally:
        for db in databases:
            db.close()


def _in_databases(path: Path, count: int, repeats: int) -> _Costs:
    return _best([_once(path / f"{count}-{repeat}", count) for repeat in range(repeats)])


def _once(path: Path, count: int) -> _Costs:
    with _databases(path) as (one, other):
        _fill(one, range(count // 2))
        _fill(other, range(count // 2, count))
        new = _sync(one, other, count)
        idle = _idle(one, other)
        _fill(one, range(0, count, 100))
        changed = _sync(one, other, len(range(0, count, 100)))
        _fill(one, range(count, count + _QUERIED), "room")
        _sync(one, other, _QUERIED)
        return _Costs(new, idle, changed, _query(one, other))


def _query(one: BaseSyncProvider, other: BaseSyncProvider) -> float:
    """Return what a query of one model costs, both ways, that was delivered already."""
    orchestrator = SyncOrchestrator(SyncLock(), [one, other], 86_400)
    check(len(one.data_store.read(lambda: list(one.data_store.items_of("room")))) == _QUERIED, "no query")
    return min(timed(lambda: orchestrator.run(query=Query("room"))).cpu_s for _ in range(6))


def _idle(one: BaseSyncProvider, other: BaseSyncProvider) -> float:
    """Return what a sync costs that has nothing to carry."""
    _sync(one, other, 0)
    return min(_sync(one, other, 0) for _ in range(5))


def _best(costs: list[_Costs]) -> _Costs:
    return _Costs(
        min(cost.new for cost in costs),
        min(cost.idle for cost in costs),
        min(cost.changed for cost in costs),
        min(cost.query for cost in costs),
    )


def _peak(count: int) -> tuple[float, float]:
    """Return the peak of memory, in MB, of a process that syncs ``count`` items, and its idle seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sync", str(count)], capture_output=True, text=True, check=False
    )
    check(done.returncode == 0, f"the process that syncs {count} items failed: {done.stderr}")
    peak, idle = done.stdout.split()
    return float(peak), float(idle)


def _sync_in_this_process(count: int) -> None:
    from .memory import _peak_bytes

    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        without_fsync(),
        _databases(Path(name) / "large") as (one, other),
    ):
        _fill(one, range(count // 2))
        _fill(other, range(count // 2, count))
        _sync(one, other, count)
        idle = _idle(one, other)
    print(_peak_bytes() / 1e6, idle)


if __name__ == "__main__":
    _sync_in_this_process(int(sys.argv[1]))
