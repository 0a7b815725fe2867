"""A request of the Pyramid example: how much longer with livesync, and how soon its edit is in the index.

Two applications in this process, the notebook of ``examples/pyramid_notes`` with the plugin and the
same without livesync, each on a FileStorage of its own. With the plugin a runner is at work all the
time, delivering to an ``sqlite`` agent. A request is a form that changes a note, from the WSGI call
to its answer, the commit included. How soon an edit is in the index is measured there, and with an
application over ZEO whose agents are run by ``livesync serve``.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import ZEO

from livesync.database import committed
from livesync.destinations.sqlite import SQLiteAgent
from livesync.manager import SyncManager

from .rows import Row, check
from .timing import median_ratio, timed

TITLE = "request: an edit in the Pyramid example, with livesync and without"
QUICK = {"pairs": 5, "edits": 2}

_LONGER_MS = 5.0
_INDEXED_S = 2.0
_EXAMPLE = Path(__file__).parent.parent / "examples" / "pyramid_notes"


def measure(pairs: int = 200, edits: int = 20) -> list[Row]:
    """Return the medians of requests in milliseconds, and of delays in seconds.

    Args:
        pairs: Requests with livesync, and as many without, in turn.
        edits: Edits that are waited for until they are in the index.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Path(name)
        with notebook(place / "plain", plugged=False) as plain, notebook(place / "plugged") as plugged:
            rows = _requests(plain, plugged, pairs)
            rows += _delays("thread", plugged, edits)
        address, stop = ZEO.server(str(place / "zeo.fs"))
        try:
            uri = f"zeo://{address[0]}:{address[1]}"
            with notebook(place / "zeo", uri=uri, runner="off") as over_zeo, _serving(uri):
                rows += _delays("serve over ZEO", over_zeo, edits)
        finally:
            stop()
    return rows


@contextmanager
def _serving(uri: str) -> Iterator[None]:
    """Have ``livesync serve`` run the agents in a process of its own."""
    settings = {"LIVESYNC_DB": uri, "LIVESYNC_HOST": "notes.livesync_host:NotesHost"}
    process = subprocess.Popen(
        [sys.executable, "-m", "livesync", "serve", "--no-web"],
        env={**os.environ, **settings, "PYTHONPATH": str(_EXAMPLE), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        try:
            check(process.stdout.readline().startswith(b"livesync serves"), "livesync serve did not begin")
            yield
        finally:
            process.terminate()


class Notebook:
    """An application with one note, and somebody who edits it."""

    def __init__(self, app: Any, index: Path) -> None:
        self._app = app
        self._index = index
        self._count = 0
        self._post("/add-note", title="Note", text="0")

    def edit(self) -> None:
        """Change the text of the note: one request, one commit."""
        self._count += 1
        self._post("/note/edit", title="Note", text=str(self._count))

    def is_indexed(self) -> bool:
        """Tell whether the index has the last edit."""
        try:
            with closing(sqlite3.connect(f"file:{self._index}?mode=ro", uri=True, timeout=5)) as file:
                found = file.execute("SELECT document ->> 'text' FROM documents").fetchall()
        except sqlite3.OperationalError:  # the agent has not made it yet
            return False
        return found == [(str(self._count),)]

    def _post(self, path: str, **fields: str) -> None:
        from webob import Request

        request = Request.blank(path, POST={"csrf_token": "0" * 32, **fields})
        request.headers["Cookie"] = f"csrf_token={'0' * 32}"
        answer = request.get_response(self._app)
        check(answer.status_int == 303, f"{path} was answered {answer.status}")


@contextmanager
def notebook(place: Path, plugged: bool = True, uri: str = "", runner: str = "thread") -> Iterator[Notebook]:
    """Give a notebook in a directory of its own, with an agent that has begun if it is plugged."""
    place.mkdir()
    index = place / "index.sqlite"
    settings = {
        "zodbconn.uri": uri or f"file://{place / 'notes.fs'}",
        "notes.index": str(index),
    }
    if plugged:
        settings |= {
            "pyramid.includes": "livesync.plugins.pyramid",
            "livesync.host": "notes.livesync_host:NotesHost",
            "livesync.runner": runner,
        }
    if str(_EXAMPLE) not in sys.path:
        sys.path.insert(0, str(_EXAMPLE))
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")  # Pyramid imports it
    from notes import configured

    config = configured(settings)
    app = config.make_wsgi_app()
    db = app.registry._zodb_databases[""]
    try:
        if plugged:
            committed(db, lambda root: _add_agent(SyncManager.get(root), index))
        yield Notebook(app, index)
    finally:
        if plugged:
            app.registry["livesync.plugin"].close()
        db.close()


def _add_agent(manager: SyncManager, index: Path) -> None:
    manager.register_agent(SQLiteAgent("index", path=str(index)))
    manager.activate("index", from_start=True)
    manager.set_interval("index", 60.0)


def _requests(plain: Notebook, plugged: Notebook, pairs: int) -> list[Row]:
    """Edit in turn, the one that begins changing as well."""
    without: list[float] = []
    with_it: list[float] = []
    for number in range(pairs):
        turns = [(plain, without), (plugged, with_it)]
        for each, times in turns if number % 2 else reversed(turns):
            times.append(timed(each.edit).wall_s)
    _wait(plugged.is_indexed)
    longer = median(with_it) - median(without)
    return [
        Row("an edit without livesync, median", median(without) * 1000, "ms"),
        Row("an edit with livesync and a runner, median", median(with_it) * 1000, "ms"),
        Row("longer", longer * 1000, "ms", at_most=_LONGER_MS),
        Row("ratio, median of pairs", median_ratio(with_it, without)),
    ]


def _delays(what: str, site: Notebook, edits: int) -> list[Row]:
    """Edit once in a while, and wait until the index has it."""
    delays = []
    for number in range(edits):
        time.sleep(0.1 * (number % 7))  # at another moment of the second each time
        site.edit()
        begin = time.perf_counter()
        _wait(site.is_indexed)
        delays.append(time.perf_counter() - begin)
    return [
        Row(f"{what}: from the answer to the index, median of {edits}", median(delays), "s"),
        Row(f"{what}: the longest", max(delays), "s", at_most=_INDEXED_S),
    ]


def _wait(condition: Callable[[], bool]) -> None:
    give_up = time.perf_counter() + 30
    while not condition():
        check(time.perf_counter() < give_up, "an edit was not in the index within 30 s")
        time.sleep(0.005)
