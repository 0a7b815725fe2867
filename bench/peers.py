"""Sync with a peer over loopback HTTP: its rate beside that of a bare loop, growth, and memory of both ends.

Client and server are processes of their own, with database files. The bare loop is what no sync can do
without: the same chunks, packed beforehand, are posted one after the other, unpacked, decoded, and each item
is stored as one persistent object in a BTree, a commit a chunk. It keeps no claims, no clocks and no index,
signs nothing and verifies nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from .ends import CHECKOUT, End, Taken, sync
from .peer_ends import prepare
from .rows import Row, check

#: Runs an end.
PROGRAM = (sys.executable, "-W", "ignore", "-m", "bench.peer_ends")

TITLE = "peers: items to another node, over loopback HTTP"
QUICK = {"items": 1_000, "large": 3_000, "repeats": 1}


def measure(items: int = 10_000, large: int = 100_000, repeats: int = 3) -> list[Row]:
    """Return rates beside the bare loop, growth, and memory.

    Args:
        items: New items of the first sync, the smallest number.
        large: The largest number; what lies between is measured in steps of ten times as many.
        repeats: How often the smallest is measured.
    """
    sizes = [items]
    while sizes[-1] < large:
        sizes.append(min(10 * sizes[-1], large))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        small = [_run(Path(name) / f"small{number}", items, True) for number in range(repeats)]
        runs = {size: _run(Path(name) / str(size), size, False) for size in sizes[1:]}
    runs[items] = min(small, key=lambda run: run.new.cpu_s)
    ratios = [run.bare_s / run.new.wall_s for run in small]
    rows = [Row(f"{size:,} new items", size / runs[size].new.wall_s, "items/s") for size in sizes]
    rows += [
        Row(f"{items:,} items in the bare loop", items / median(run.bare_s for run in small), "items/s"),
        Row("rate, to that of the bare loop", median(ratios), at_least=0.2),
    ]
    for size in sizes:
        rows += [
            Row(f"nothing new, {size:,} items", runs[size].idle.wall_s * 1000, "ms"),
            Row(f"1 % of {size:,} changed", runs[size].changed.wall_s * 1000, "ms"),
        ]
    rows += [Row(f"CPU of both ends, {size:,} items", runs[size].new.cpu_s, "s") for size in sizes]
    for smaller, larger in pairwise(sizes):
        growth = (runs[larger].new.cpu_s / runs[smaller].new.cpu_s) / (larger / smaller)
        rows.append(Row(f"CPU per item, {smaller:,} to {larger:,}", growth, at_most=1.3))
    for end in ("client", "server"):
        peaks = {size: runs[size].peaks[end] for size in sizes}
        rows += [Row(f"peak memory of the {end}, {size:,} items", peaks[size], "MB") for size in sizes]
        if len(sizes) > 1:
            grown = peaks[sizes[-1]] / peaks[items]
            rows.append(Row(f"memory of the {end}, {items:,} to {sizes[-1]:,} items", grown, at_most=1.3))
    return rows


@dataclass(frozen=True, slots=True)
class _Run:
    """What three syncs took: of new items, of nothing, of 1 % changed; the bare loop; and peaks in MB."""

    new: Taken
    idle: Taken
    changed: Taken
    peaks: dict[str, float]
    bare_s: float


def _run(place: Path, count: int, with_bare: bool) -> _Run:
    """Sync new items, nothing, and 1 % changed."""
    prepare(place / "client", place / "server")
    (place / "bare").mkdir()
    _fill(place / "client", count)
    with ExitStack() as stack:
        server = stack.enter_context(End([*PROGRAM, "server", place / "server"]))
        bare = stack.enter_context(End([*PROGRAM, "bare", place / "bare"]))
        urls = [f"http://127.0.0.1:{end.read_line()}" for end in (server, bare)]
        client = stack.enter_context(End([*PROGRAM, "client", place / "client", *urls]))
        new = sync(client, server, count)
        idle = min((sync(client, server, 0) for _ in range(3)), key=lambda taken: taken.wall_s)
        changed = max(1, count // 100)
        client.ask(f"write 0 {changed} 1")
        last = sync(client, server, changed)
        peaks = {"client": client.end()["peak_mb"], "server": server.end()["peak_mb"]}
        bare_s = 0.0
        if with_bare:
            other = stack.enter_context(End([*PROGRAM, "client", place / "client", *urls]))
            answer = other.ask("bare")
            check(answer["items"] == count, f"{answer['items']} items were sent in the bare loop")
            bare_s = answer["seconds"]
    return _Run(new, idle, last, peaks, bare_s)


def _fill(place: Path, count: int) -> None:
    command = [*PROGRAM, "fill", place, "0", str(count)]
    subprocess.run([*map(str, command)], cwd=CHECKOUT, check=True)
