"""Tables, times and durations for people."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from .output import Output, printable


def print_table(
    out: Output, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()
) -> None:
    """Print a table without lines, as wide as the terminal (80 columns where there is none).

    Args:
        out: Where to; nothing is printed with ``--json``.
        columns: The headings.
        rows: Cells of text, which may hold anything.
        right: Headings of the columns that are set to the right: numbers.
    """
    if out.as_json:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(file=out.stdout, highlight=False, width=out.columns)
    with console.capture() as capture:
        console.print(table)
    out.write("\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n")


def duration(seconds: float) -> str:
    """Return a length of time, its two greatest units: ``45s``, ``5m``, ``2h 10m``, ``3d 1h``."""
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def moment(position: int | None, granularity: int) -> str:
    """Return a position with the time at which it begins; None is the place before everything."""
    if position is None:
        return "before everything"
    if position < 0:
        return "-"
    time = utc(position * granularity)
    return f"{position} ({time})" if time else str(position)


def utc(timestamp: float) -> str:
    """Return a time (epoch seconds) in ISO 8601, whole seconds; empty where it has none."""
    try:
        time = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
