"""The track: writing, size and iteration, beside a plain LOBTree of tuples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import transaction
from BTrees.LOBTree import LOBTree

from livesync.action import CREATED, DATA_CHANGED, TITLE_CHANGED, ActionWrapper
from livesync.track.multipointer import ListMultiPointerTrack

from .catalogue import opened
from .rows import Row, check
from .timing import Time, timed

TITLE = "track: actions written, their size in the file, and iteration, beside a LOBTree of tuples"
QUICK = {"actions": 3000, "batch": 1000, "repeats": 1}

_WORDS = (
    frozenset({DATA_CHANGED}),
    frozenset({CREATED}),
    frozenset({DATA_CHANGED, TITLE_CHANGED}),
    frozenset({DATA_CHANGED}),
)
_FIRST = 1_700_000_000


def measure(actions: int = 200_000, batch: int = 1000, repeats: int = 5) -> list[Row]:
    """Return rates and sizes; medians over ``repeats``, the two sides in turn.

    Args:
        actions: How many to write.
        batch: Actions a commit; each commit has positions and times of its own.
        repeats: How often.
    """
    rates: dict[str, list[float]] = {}
    size = bare_size = 0.0
    ids = [f"series/conference-{number % 1000:03d}/talk-{number:07d}" for number in range(actions)]
    positions = [_FIRST + number // batch for number in range(actions)]
    values = [
        (position, ActionWrapper(position + 0.25, object_id, _WORDS[number % 4]))
        for number, (position, object_id) in enumerate(zip(positions, ids, strict=True))
    ]
    plain = [(action.timestamp, action.object_id, tuple(action.actions)) for _, action in values]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for repeat in range(repeats):
            path = Path(directory) / f"track-{repeat}.fs"
            written = _write(path, ListMultiPointerTrack(), batch, values, _extend)
            size = written[1]
            _note(rates, "written", actions, written[0].wall_s)
            _note(rates, "written, CPU", actions, written[0].cpu_s)
            _note(rates, "oldest first", actions, _read(path, actions, lambda it: it.iterate()))
            _note(rates, "newest first", actions, _read(path, actions, lambda it: it.iterate(reverse=True)))
            path = Path(directory) / f"tree-{repeat}.fs"
            written = _write(path, LOBTree(), batch, list(enumerate(plain)), LOBTree.update)
            bare_size = written[1]
            _note(rates, "LOBTree written", actions, written[0].wall_s)
            _note(rates, "LOBTree oldest first", actions, _read(path, actions, lambda it: it.items()))
        _check_content(Path(directory) / f"track-{repeats - 1}.fs", values)
    id_bytes = sum(map(len, ids)) / actions
    found = {name: median(each) for name, each in rates.items()}
    return [
        Row("written", found["written"], "actions/s", at_least=350_000),
        Row("  a second of CPU: the disk's share left out", found["written, CPU"], "actions/s"),
        Row("  a LOBTree of tuples", found["LOBTree written"], "actions/s"),
        Row("  ratio to it", found["written"] / found["LOBTree written"]),
        Row("size of an action in the file", size / actions, "bytes", at_most=round(id_bytes + 32, 1)),
        Row("  in a LOBTree of tuples", bare_size / actions, "bytes"),
        Row("iterated, oldest first", found["oldest first"], "actions/s", at_least=500_000),
        Row("iterated, newest first", found["newest first"], "actions/s", at_least=250_000),
        Row("  a LOBTree of tuples, oldest first", found["LOBTree oldest first"], "actions/s"),
    ]


def _note(rates: dict[str, list[float]], name: str, actions: int, seconds: float) -> None:
    rates.setdefault(name, []).append(actions / seconds)


def _extend(track: ListMultiPointerTrack, items: list[tuple[int, Any]]) -> None:
    track.extend(items)


def _write(
    path: Path, container: Any, batch: int, items: list[tuple[int, Any]], add: Callable[[Any, Any], Any]
) -> tuple[Time, int]:
    """Return the time it took to write ``items``, a commit a batch, and by how much the file grew."""
    manager = transaction.TransactionManager(explicit=True)
    with opened(path) as db:
        with db.transaction() as connection:
            connection.root()["it"] = container
        connection = db.open(transaction_manager=manager)
        before = os.path.getsize(path)

        def write() -> None:
            for begin in range(0, len(items), batch):
                manager.begin()
                add(connection.root()["it"], items[begin : begin + batch])
                manager.commit()

        took = timed(write)
        connection.close()
    return took, os.path.getsize(path) - before


def _read(path: Path, actions: int, start: Callable[[Any], Iterator[Any]]) -> float:
    """Return the seconds it takes to go through everything, nothing of it in memory before."""
    with opened(path) as db, db.transaction() as connection:
        count = 0

        def read() -> None:
            nonlocal count
            for _ in start(connection.root()["it"]):
                count += 1

        seconds = timed(read).wall_s
    check(count == actions, f"{count} actions read in place of {actions}")
    return seconds


def _check_content(path: Path, values: list[tuple[int, ActionWrapper]]) -> None:
    with opened(path) as db, db.transaction() as connection:
        track = connection.root()["it"]
        check(list(track.iterate()) == values, "the track does not hold what was written")
        check(list(track.iterate(reverse=True)) == values[::-1], "newest first is not the reverse")
