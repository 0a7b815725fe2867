"""Processes that obey lines, and answer each with one: the two ends of a sync over a network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .rows import check

CHECKOUT = Path(__file__).resolve().parent.parent


class End:
    """A process that obeys lines.

    Args:
        command: What to run, in the checkout.
    """

    def __init__(self, command: Sequence[object]) -> None:
        self._process = subprocess.Popen(
            [*map(str, command)], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read_line(self) -> str:
        """Return a line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        check(bool(line), "a process has ended before its time")
        return line.strip()

    def ask(self, line: str) -> dict[str, Any]:
        """Give it a line, and return what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self.read_line())
        return found

    def sync(self, count: int) -> float:
        """Let a client sync, which is to send so many items; return seconds."""
        answer = self.ask("sync")
        check(answer["items"] == count, f"{answer['items']} items were sent in place of {count}")
        seconds: float = answer["seconds"]
        return seconds

    def end(self) -> dict[str, Any]:
        """Let it end, and return its last words."""
        last = self.ask("quit")
        self._process.wait(60)
        return last

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
