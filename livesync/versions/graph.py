"""The graph of versions as lines of text, newest first, as git's ``log --graph`` draws it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Drawn(NamedTuple):
    """A version, with the drawing left of it and the lines of it that stand before and after."""

    version: int
    before: list[str]
    mark: str
    after: list[str]


def drawn(versions: Iterable[tuple[int, Sequence[int]]]) -> Iterator[Drawn]:
    """Yield versions with their drawing.

    Args:
        versions: Versions with their parents; each comes before its parents.
    """
    columns: list[int] = []  # which version each column waits for
    for version, parents in versions:
        if version not in columns:
            columns.append(version)
        first, *others = (number for number, waited in enumerate(columns) if waited == version)
        before = _joining(len(columns), others)
        columns = [waited for number, waited in enumerate(columns) if number not in others]
        at = first
        mark = " ".join("*" if number == at else "|" for number in range(len(columns)))
        after = []
        if not parents:
            del columns[at]
        else:
            columns[at] = parents[0]
            for parent in parents[1:]:
                if parent not in columns:
                    columns.insert(at + 1, parent)
                    after.append(_forking(len(columns), at))
        yield Drawn(version, before, mark, after)


def _joining(count: int, others: Sequence[int]) -> list[str]:
    """Return the lines in which columns that waited for the same version run together."""
    lines = []
    for gone in sorted(others, reverse=True):
        row = ["|"] * count
        row[gone] = "/"
        lines.append(_row(row, gone))
        count -= 1
    return lines


def _row(row: Sequence[str], gone: int) -> str:
    left = " ".join(row[:gone])
    right = "".join(f" {mark}" for mark in row[gone + 1 :])
    return f"{left}/{right}" if left else f"/{right}"


def _forking(count: int, at: int) -> str:
    """Return the line in which a second parent's column begins, right of column ``at``."""
    left = " ".join(["|"] * (at + 1))
    right = "".join(" \\" for _ in range(count - at - 2))
    return f"{left}\\{right}"
