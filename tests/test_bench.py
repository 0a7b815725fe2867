"""Every benchmark does the work that it times, and prints its table. Nothing is asserted about speed."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

ROOT = Path(__file__).parent.parent
LONG = (
    "capture collect conflicts history history_large inflight latency memory peers request startup"
    " status_page sync verify"
)
MARKS = {
    "drain": [pytest.mark.server],
    "machines": [pytest.mark.server, pytest.mark.slow],
    **{name: [pytest.mark.slow] for name in LONG.split()},
}
NAMES = importlib.import_module("bench.__main__").NAMES


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in NAMES])
def test_benchmark_does_its_work_and_prints_its_table(name: str) -> None:
    done = _run("--quick", name)

    # 1: at these sizes a limit may well be missed; 2 would mean that the work was not done
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    assert f"{name}:" in done.stdout
    for heading in ("what", "figure", "unit", "limit", "kept"):
        assert heading in done.stdout


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("way", ["items", "objects"])
def test_livesync_and_morango_sync_the_same(way: str, tmp_path: Path) -> None:
    morango = importlib.import_module("bench.morango")

    # each makes sure that the server holds what the client had, and what it changed
    theirs = morango._run_morango(morango.find_python(), tmp_path / "morango", 60, way, "without waiting")
    ours = morango._run_livesync(tmp_path / "livesync", 60, way)

    assert all(taken.wall_s > 0 for taken in (*theirs.values(), *ours.values()))


@pytest.mark.slow
def test_sizes_are_taken_from_the_command_line() -> None:
    done = _run("collect", "--transactions", "70", "--repeats", "1")

    assert "70 transactions" in done.stdout


@pytest.mark.slow
def test_no_conflict_is_caused_and_nothing_is_lost() -> None:
    conflicts = importlib.import_module("bench.conflicts")

    rows = conflicts.measure(threads=4, processes=2, commits=200)

    assert [row.is_met for row in rows if row.at_most is not None] == [True] * 4


def test_a_missed_limit_is_shown() -> None:
    rows = importlib.import_module("bench.rows")
    console = Console(file=io.StringIO(), width=100)

    rows.show("title", [rows.Row("slow", 2.5, at_most=1.5), rows.Row("quick", 12345.0, "a second")], console)

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "<= 1.5" in text
    assert "NO" in text
    assert "12,345" in text


def test_work_that_was_not_done_is_an_error() -> None:
    rows = importlib.import_module("bench.rows")

    with pytest.raises(rows.CheckFailed, match="number 1: 3 in place of 2"):
        rows.same([1, 3], [1, 2], "things")
