"""The graph of versions, newest first: as lines of text, as git's ``log --graph`` has it, or lanes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Drawn(NamedTuple):
    """A version, with the drawing left of it and the lines of it that stand before and after."""

    version: int
    before: list[str]
    mark: str
    after: list[str]


class Lanes(NamedTuple):
    """A version's row in a drawing with a column for each line of versions.

    Attributes:
        at: The version's column.
        width: How many columns the row has.
        above: (column at the top, column at the version's height) of each line there.
        below: (column at the version's height, column at the bottom).
    """

    at: int
    width: int
    above: list[tuple[int, int]]
    below: list[tuple[int, int]]


def lanes(versions: Iterable[tuple[int, Sequence[int]]]) -> Iterator[Lanes]:
    """Yield the rows of a drawing; the bottom of each is the top of the next. Arguments as :func:`drawn`."""
    columns: list[int] = []  # which version each column waits for
    for version, parents in versions:
        at = columns.index(version) if version in columns else len(columns)
        joined = {number for number, waited in enumerate(columns) if waited == version and number != at}
        above = [
            (number, at if waited == version else number - sum(gone < number for gone in joined))
            for number, waited in enumerate(columns)
        ]
        middle = [waited for number, waited in enumerate(columns) if number not in joined]
        left, right = middle[:at], middle[at + 1 :]
        new = [one for one in reversed(parents[1:]) if one not in left + right]
        columns = [*left, *parents[:1], *new, *right]
        shift = len(columns) - len(left) - len(right) - 1
        below = [
            (number, number + (shift if number > at else 0)) for number in range(len(middle)) if number != at
        ]
        below += [(at, columns.index(one) if number else at) for number, one in enumerate(parents)]
        yield Lanes(at, max(at + 1, len(above), len(columns)), above, below)


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
