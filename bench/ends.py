"""Processes that obey lines, and answer each with one: the two ends of a sync over a network."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rows import check

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

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

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has taken; 0 where there is no ``/proc``."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text("utf-8")
        except FileNotFoundError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_A_SECOND

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


@dataclass(frozen=True, slots=True)
class Taken:
    """What a sync took.

    Attributes:
        wall_s: Seconds, as the client has them.
        cpu_s: CPU seconds of both ends.
    """

    wall_s: float
    cpu_s: float


def sync(client: End, server: End, count: int) -> Taken:
    """Let a client sync with a server, to which it is to send so many items."""
    before = client.cpu_s() + server.cpu_s()
    answer = client.ask("sync")
    cpu_s = client.cpu_s() + server.cpu_s() - before
    check(answer["items"] == count, f"{answer['items']} items were sent in place of {count}")
    return Taken(answer["seconds"], cpu_s)
