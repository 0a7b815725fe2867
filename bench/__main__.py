"""``python -m bench [NAME …] [--SIZE N …]``: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import os
import platform
import sys
from collections.abc import Sequence
from types import ModuleType

from rich.console import Console

from .rows import CheckFailed, show

NAMES = (
    "startup", "track", "collect", "capture", "drain", "inflight", "latency", "verify", "conflicts", "memory",
    "status_page", "request", "sync", "peers", "machines", "history", "history_large",
)  # fmt: skip


def sizes(module: ModuleType) -> dict[str, int]:
    """Return what a benchmark's sizes are called, with their defaults."""
    return {name: each.default for name, each in inspect.signature(module.measure).parameters.items()}


def parser() -> argparse.ArgumentParser:
    """Return the parser: a command for each benchmark, with its sizes as options."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    made.add_argument("--quick", action="store_true", help="tiny sizes: only to see that everything works")
    commands = made.add_subparsers(dest="name", metavar="NAME", help="one of them; all when none is given")
    for name in NAMES:
        module = importlib.import_module(f"bench.{name}")
        command = commands.add_parser(name, help=module.TITLE, description=module.__doc__)
        for size, default in sizes(module).items():
            command.add_argument(
                f"--{size.replace('_', '-')}", dest=size, type=int, metavar="N", help=f"default: {default}"
            )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line names; 1 when a limit was not kept, 2 when work was not done."""
    arguments = parser().parse_args(argv)
    # ZEO's server calls a client that goes away an error, which it is not here.
    logging.getLogger("ZEO").setLevel(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()},"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        highlight=False,
    )
    kept = True
    for name in (arguments.name,) if arguments.name else NAMES:
        module = importlib.import_module(f"bench.{name}")
        chosen = dict(module.QUICK) if arguments.quick else {}
        chosen |= {size: getattr(arguments, size) for size in sizes(module) if getattr(arguments, size, None)}
        try:
            rows = module.measure(**chosen)
        except CheckFailed as exc:
            print(f"{name}: the work was not done: {exc}", file=sys.stderr)
            return 2
        show(module.TITLE, rows, console)
        kept = kept and all(row.is_met is not False for row in rows)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
