"""Plone: what recording costs the requests that edit, and how soon an edit is in the index.

Two real instances of one site run side by side: one without livesync (its ZCML is not loaded), one with it
and with a runner in its process that fills an SQLite index. Each edit is made in both, over the REST API, in
turns, so that whatever else the machine is doing falls on both alike. Then single edits are timed from the
moment at which the request returned until the index holds them.

It installs Plone at the first use, so it is no part of ``python -m bench``: run ``python -m bench.plone``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from .rows import Row, check, show

TITLE = "plone: an edit over the REST API, and how soon it is in the index"

_WARM_UP = 10
_LIMIT_MS = 5.0
_LIMIT_S = 2.0
_PATIENCE_S = 60.0


def measure(edits: int = 200, looks: int = 20) -> list[Row]:
    """Return the medians.

    Args:
        edits: Timed in each instance.
        looks: Edits that are waited for.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from support import plone_service

    python = plone_service.find_python()
    with tempfile.TemporaryDirectory(prefix="livesync-bench-") as name, ExitStack() as stack:
        place = Path(name)
        template = plone_service.make_template(python, place / "template")
        reader = stack.enter_context(plone_service.Reader(python))
        both = [
            stack.enter_context(
                plone_service.started(python, template, reader, place / name, agent=agent, without=not agent)
            )
            for name, agent in (("without", False), ("with", True))
        ]
        pages = [_published_page(plone) for plone in both]
        without, with_livesync = _edit_in_turns(both, [path for path, _ in pages], edits)
        check(len(both[1].actions()) >= edits, "the edits were not recorded")
        waits = [_wait_for_edit(both[1], *pages[1], number) for number in range(looks)]
    more = [slow - quick for quick, slow in zip(without, with_livesync, strict=True)]
    return [
        Row("an edit without livesync, median", median(without), "ms"),
        Row("an edit with livesync and its runner, median", median(with_livesync), "ms"),
        Row(
            "the difference of the medians", median(with_livesync) - median(without), "ms", at_most=_LIMIT_MS
        ),
        Row("the median of the differences", median(more), "ms"),
        Row("from the answer to the index, median", median(waits), "s", at_most=_LIMIT_S),
        Row("from the answer to the index, longest", max(waits), "s"),
    ]


def _published_page(plone: Any) -> tuple[str, str]:
    path, uid = plone.add("", "Document", "Page")
    plone.change_state(path, "publish")
    return path, uid


def _edit_in_turns(both: Sequence[Any], paths: Sequence[str], edits: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each edit in both instances."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-_WARM_UP, edits):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            began = time.perf_counter()
            both[which].rest("PATCH", paths[which], description=f"Edit {number}")
            if number >= 0:
                times[which].append(1000 * (time.perf_counter() - began))
    return times


def _wait_for_edit(plone: Any, path: str, uid: str, number: int) -> float:
    description = f"Look {number}"
    plone.rest("PATCH", path, description=description)
    began = time.perf_counter()
    while True:
        held = (plone.indexed() or {}).get(uid)
        if held is not None and json.loads(held)["description"] == description:
            return time.perf_counter() - began
        check(time.perf_counter() < began + _PATIENCE_S, "an edit did not arrive")
        time.sleep(0.01)


if __name__ == "__main__":
    show(TITLE, measure(*map(int, sys.argv[1:])), Console())
