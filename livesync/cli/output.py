"""What a command says: lines or one JSON object on standard output, notes on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

#: The form of what ``--json`` prints; keys are only added to one form.
JSON_FORMAT: Final = 1


class Output:
    """Where a command writes to.

    Args:
        as_json: Print one JSON object instead of lines.
        stdout: Instead of ``sys.stdout``.
        stderr: Instead of ``sys.stderr``.
        columns: The width of tables; None: that of the terminal.
    """

    def __init__(
        self,
        as_json: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        columns: int | None = None,
    ) -> None:
        self.as_json = as_json
        self.columns = columns
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    def line(self, text: str = "") -> None:
        """Print a line for people: nothing with ``--json``."""
        if not self.as_json:
            self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Write ``text`` to standard output, whatever its encoding can hold."""
        _write(self.stdout, text)

    def note(self, text: str) -> None:
        """Print a line on standard error."""
        _write(self.stderr, f"{printable(text)}\n")

    def ask(self, question: str) -> str:
        """Ask on standard error; return the line that is answered."""
        _write(self.stderr, question)
        self.stderr.flush()
        return sys.stdin.readline().strip()

    def json(self, values: Mapping[str, Any]) -> None:
        """Print ``values`` as the JSON object of ``--json``: nothing without it."""
        if self.as_json:
            self.write(f"{encoded({'format': JSON_FORMAT, **values}, indent=2)}\n")

    @contextmanager
    def json_list(
        self, key: str, values: Mapping[str, Any], after: Mapping[str, Any] | None = None
    ) -> Iterator[Callable[[Any], None]]:
        """Print the JSON object of ``--json`` with a list that is written item by item, however long.

        Args:
            key: Names the list.
            values: What else stands in the object, before the list.
            after: What stands after the list: read when it is at its end.

        Yields:
            The function that adds an item to the list; it does nothing without ``--json``.
        """
        if not self.as_json:
            yield lambda item: None
            return
        self.write(f"{encoded({'format': JSON_FORMAT, **values})[:-1]}, {encoded(key)}: [")
        separator = "\n"

        def add(item: Any) -> None:
            nonlocal separator
            self.write(f"{separator}  {encoded(item)}")
            separator = ",\n"

        yield add
        rest = encoded(dict(after))[1:-1] if after else ""
        self.write(f"\n]{', ' if rest else ''}{rest}}}\n")


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def encoded(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON; what JSON has no form for becomes text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=False, indent=indent, default=str)


def printable(text: str) -> str:
    """Return ``text`` in one line: line ends and control characters are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode("ascii")
        for char in text
    )
