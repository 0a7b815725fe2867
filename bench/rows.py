"""What a benchmark says: rows of figures, each with the limit that it should keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


class CheckFailed(Exception):
    """Raised when a benchmark did not do the work that it timed: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        what: What was measured.
        value: The figure.
        unit: Its unit; "" for a ratio.
        at_least, at_most: The limit, if there is one.
    """

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the limit is kept; None without one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None


def check(condition: bool, otherwise: str) -> None:
    """Make sure that the work was done.

    Raises:
        CheckFailed: It was not; the text says in what way.
    """
    if not condition:
        raise CheckFailed(otherwise)


def same(found: Iterable[object], expected: Iterable[object], what: str) -> None:
    """Make sure that two series hold the same values in the same order, and say where they part.

    Raises:
        CheckFailed: They do not.
    """
    found, expected = list(found), list(expected)
    if found == expected:
        return
    at = next((n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    where = "one is longer" if at is None else f"number {at}: {found[at]!r} in place of {expected[at]!r}"
    raise CheckFailed(f"{what}: {len(found)} in place of {len(expected)}; {where}")


def show(title: str, rows: Sequence[Row], console: Console) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("what")
    for name in ("figure", "unit", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("kept")
    for row in rows:
        limit = ""
        if row.at_least is not None:
            limit = f">= {_number(row.at_least)}"
        elif row.at_most is not None:
            limit = f"<= {_number(row.at_most)}"
        kept = {None: "", True: "yes", False: "[bold]NO[/]"}[row.is_met]
        table.add_row(row.what, _number(row.value), row.unit, limit, kept)
    console.print(table)


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
