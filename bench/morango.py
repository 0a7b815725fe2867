"""morango: the same items synced by livesync and by morango, over loopback HTTP, side by side in one run.

Each end is a process of its own, served by waitress with four threads, with a FileStorage or an SQLite file;
a sync is a whole session, a pull and a push. They are compared in two ways, like with like:

items
    as ``bench/peers.py`` has them: from store to store. morango's own step from and to its models is switched
    off by its settings.

objects
    of an application: what is timed begins with what changed in the client's application, and ends with what
    the server's application has. A talk has three fields, in a Django model or a model of livesync's.

morango runs as it is shipped, and with its waiting taken out: there, ``sleep`` of ``morango.sync.controller``
returns at once (:mod:`bench.morango_site.ends`).

It installs morango into ``.venv/morango`` at the first use, so it is no part of ``python -m bench``: run
``python -m bench.morango [ITEMS [REPEATS]]``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console

from .ends import CHECKOUT, End, Taken, sync
from .peer_ends import prepare
from .peers import PROGRAM
from .rows import CheckFailed, Row, check, show

TITLE = "morango: the same items over loopback HTTP, beside morango"

#: What its environment holds: morango brings the versions of Django and the rest that it works with.
REQUIREMENTS = ("morango==0.8.15", "cryptography", "setuptools", "waitress")

#: At least so many times as many new items in a second; and at most this part of the time of a small sync.
_LIMITS = {
    ("items", "as shipped"): (20.0, 1 / 20),
    ("items", "without waiting"): (8.0, 1 / 2),
    ("objects", "as shipped"): (20.0, 1 / 20),
    ("objects", "without waiting"): (8.0, 1 / 2),
}
_WAYS = ("items", "objects")

#: What the three syncs took.
_Times = dict[str, Taken]


def measure(items: int = 10_000, repeats: int = 3) -> list[Row]:
    """Return rates and times of both, and their ratios: medians of those of neighbouring runs.

    Args:
        items: New items of the first sync.
        repeats: How often everything is measured.
    """
    python = find_python()
    ours: dict[str, list[_Times]] = {way: [] for way in _WAYS}
    theirs: dict[tuple[str, str], list[_Times]] = {each: [] for each in _LIMITS}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for number in range(repeats):
            place = Path(name) / str(number)
            for way, found in ours.items():
                found.append(_run_livesync(place / way, items, way))
            for (way, waiting), found in theirs.items():
                found.append(_run_morango(python, place / f"morango {way} {waiting}", items, way, waiting))
    rows = [row for way, found in ours.items() for row in _figures(f"livesync, {way}", found, items)]
    for (way, waiting), found in theirs.items():
        rows += _figures(f"morango {waiting}, {way}", found, items)
    for (way, waiting), found in theirs.items():
        rows += _ratios(f"{way}, to morango {waiting}", ours[way], found, *_LIMITS[way, waiting])
    return rows


def _figures(who: str, runs: Sequence[_Times], items: int) -> list[Row]:
    return [
        Row(f"{who}: {items:,} new", items / median(run["new"].wall_s for run in runs), "items/s"),
        Row(f"{who}: CPU of both ends", median(run["new"].cpu_s for run in runs), "s"),
        Row(f"{who}: nothing new", 1000 * median(run["idle"].wall_s for run in runs), "ms"),
        Row(f"{who}: 1 % changed", 1000 * median(run["changed"].wall_s for run in runs), "ms"),
    ]


def _ratios(
    what: str, ours: Sequence[_Times], theirs: Sequence[_Times], faster: float, part: float
) -> list[Row]:
    def ratio(which: str) -> float:
        return median(
            one[which].wall_s / other[which].wall_s for one, other in zip(ours, theirs, strict=True)
        )

    return [
        Row(f"new {what}: rate", 1 / ratio("new"), at_least=faster),
        Row(f"nothing new, {what}: time", ratio("idle"), at_most=part),
        Row(f"1 % changed, {what}: time", ratio("changed"), at_most=part),
    ]


def _run_livesync(place: Path, items: int, way: str) -> _Times:
    prepare(place / "client", place / "server", with_application=way == "objects")
    with ExitStack() as stack:
        server = stack.enter_context(End([*PROGRAM, "server", place / "server"]))
        url = f"http://127.0.0.1:{server.read_line()}"
        client = stack.enter_context(End([*PROGRAM, "client", place / "client", url, ""]))
        return _sync(client, server, items, "write {} {} {}")


def _run_morango(python: Path, place: Path, items: int, way: str, waiting: str) -> _Times:
    program = (python, "-W", "ignore", "-m", "bench.morango_site.ends")
    how = [
        *(["without-waiting"] if waiting == "without waiting" else []),
        *(["items-only"] if way == "items" else []),
    ]
    command = [*program, "prepare", place / "client", place / "server"]
    subprocess.run([*map(str, command)], cwd=CHECKOUT, check=True)
    with ExitStack() as stack:
        server = stack.enter_context(End([*program, "server", place / "server", *how]))
        url = f"http://127.0.0.1:{server.read_line()}/"
        client = stack.enter_context(End([*program, "client", place / "client", url, *how]))
        return _sync(client, server, items, "fill {} {} {}")


def _sync(client: End, server: End, items: int, write: str) -> _Times:
    """Let a client sync what is new, nothing, and 1 % changed; make sure that the server has it."""
    sync(client, server, 0)  # whatever is loaded at the first sync is there now
    client.ask(write.format(0, items, 0))
    told = {"new": sync(client, server, items)}
    told["idle"] = min((sync(client, server, 0) for _ in range(3)), key=lambda taken: taken.wall_s)
    changed = max(1, items // 100)
    client.ask(write.format(0, changed, 1))
    told["changed"] = sync(client, server, changed)
    held, expected = server.ask("held"), {"items": items, "edited": changed}
    check(held == expected, f"the server holds {held} in place of {expected}")
    return told


def find_python() -> Path:
    """Return the Python of morango's environment, which is made where it is not there yet.

    Raises:
        CheckFailed: It cannot be made.
    """
    directory = CHECKOUT / ".venv" / "morango"
    python, stamp = directory / "bin" / "python", directory / "up-to-date"
    wanted = "\n".join((sys.version, *REQUIREMENTS))
    if not (python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted):
        venv.create(directory, clear=True)
        options = ["-qq", "--disable-pip-version-check", "--no-input"]
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        done = subprocess.run(
            [*pip, "install", *options, *REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CheckFailed(f"morango cannot be installed: {done.stderr.strip()[-500:]}")
        stamp.write_text(wanted, "utf-8")
    return python


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 when a limit was not kept, 2 when work was not done."""
    try:
        rows = measure(*map(int, arguments))
    except CheckFailed as exc:
        print(f"morango: the work was not done: {exc}", file=sys.stderr)
        return 2
    show(TITLE, rows, Console(width=None if sys.stdout.isatty() else 110))
    return 0 if all(row.is_met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
