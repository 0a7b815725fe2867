"""morango: the same items synced by livesync and by morango, over loopback HTTP, side by side in one run.

Both sync talks of an application, three fields each: morango those of a Django model in SQLite, livesync
those of a model in a FileStorage. Each end is a process of its own, served by waitress with four threads; a
sync is a whole session, a pull and a push. What is timed begins with what changed in the client's
application, and ends with what the server's application has. livesync is also measured as
``bench/peers.py`` does it: items that are no application's objects.

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
_LIMITS = {"as-shipped": (20.0, 1 / 20), "without": (8.0, 1 / 2)}
_NAMES = {"as-shipped": "as shipped", "without": "without waiting"}

#: What the three syncs took.
_Times = dict[str, Taken]


def measure(items: int = 10_000, repeats: int = 3) -> list[Row]:
    """Return rates and times of both, and their ratios: medians of those of neighbouring runs.

    Args:
        items: New items of the first sync.
        repeats: How often everything is measured.
    """
    python = find_python()
    ours: list[_Times] = []
    bare: list[_Times] = []
    theirs: dict[str, list[_Times]] = {waits: [] for waits in _LIMITS}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for number in range(repeats):
            place = Path(name) / str(number)
            for waits, found in theirs.items():
                found.append(_run_morango(python, place / waits, items, waits))
            ours.append(_run_livesync(place / "livesync", items, with_application=True))
            bare.append(_run_livesync(place / "items", items, with_application=False))
    rows = [*_figures("livesync", ours, items), *_figures("livesync, items only", bare, items)]
    for waits, found in theirs.items():
        rows += _figures(f"morango {_NAMES[waits]}", found, items)
    for waits, found in theirs.items():
        rows += _ratios(f"to morango {_NAMES[waits]}", ours, found, *_LIMITS[waits])
    return rows


def _figures(who: str, runs: Sequence[_Times], items: int) -> list[Row]:
    return [
        Row(f"{who}: {items:,} new items", items / median(run["new"].wall_s for run in runs), "items/s"),
        Row(f"{who}: CPU of both ends", median(run["new"].cpu_s for run in runs), "s"),
        Row(f"{who}: nothing new", 1000 * median(run["idle"].wall_s for run in runs), "ms"),
        Row(f"{who}: 1 % changed", 1000 * median(run["changed"].wall_s for run in runs), "ms"),
    ]


def _ratios(
    whom: str, ours: Sequence[_Times], theirs: Sequence[_Times], faster: float, part: float
) -> list[Row]:
    def ratio(what: str) -> float:
        return median(one[what].wall_s / other[what].wall_s for one, other in zip(ours, theirs, strict=True))

    return [
        Row(f"items a second, {whom}", 1 / ratio("new"), at_least=faster),
        Row(f"time for nothing new, {whom}", ratio("idle"), at_most=part),
        Row(f"time for 1 % changed, {whom}", ratio("changed"), at_most=part),
    ]


def _run_livesync(place: Path, items: int, with_application: bool) -> _Times:
    prepare(place / "client", place / "server", with_application=with_application)
    command = [*PROGRAM, "fill", place / "client", "0", items]
    subprocess.run([*map(str, command)], cwd=CHECKOUT, check=True)
    with End([*PROGRAM, "server", place / "server"]) as server:
        url = f"http://127.0.0.1:{server.read_line()}"
        with End([*PROGRAM, "client", place / "client", url, ""]) as client:
            told = _sync(client, server, items, "write 0 {}")
            client.end()
        if with_application:
            _check_server(server, items)
    return told


def _run_morango(python: Path, place: Path, items: int, waits: str) -> _Times:
    program = (python, "-W", "ignore", "-m", "bench.morango_site.ends")
    command = [*program, "prepare", place / "client", place / "server"]
    subprocess.run([*map(str, command)], cwd=CHECKOUT, check=True)
    with ExitStack() as stack:
        server = stack.enter_context(End([*program, "server", place / "server", waits]))
        url = f"http://127.0.0.1:{server.read_line()}/"
        client = stack.enter_context(End([*program, "client", place / "client", url, waits]))
        client.ask(f"fill 0 {items} 0")
        told = _sync(client, server, items, "fill 0 {} 1")
        client.end()
        _check_server(server, items)
    return told


def _sync(client: End, server: End, items: int, change: str) -> _Times:
    """Let a client sync what is new, nothing, and 1 % changed."""
    told = {"new": sync(client, server, items)}
    told["idle"] = min((sync(client, server, 0) for _ in range(3)), key=lambda taken: taken.wall_s)
    changed = max(1, items // 100)
    client.ask(change.format(changed))
    told["changed"] = sync(client, server, changed)
    return told


def _check_server(server: End, items: int) -> None:
    held = server.end()
    expected = (items, max(1, items // 100))
    check((held["items"], held["edited"]) == expected, f"the server holds {held} in place of {expected}")


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
