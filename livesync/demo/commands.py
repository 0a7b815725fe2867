"""The command line of the demo: ``replay``, ``dump``, ``peers``, ``network`` and ``versions``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final

from .. import errors
from ..database import connected, open_database, without_secrets
from ..host import PUBLIC, Host, load_host
from ..settings import Settings, read_settings

#: The host when none is named.
DEFAULT_HOST: Final = "demo"


class ExitCode(IntEnum):
    """What a command came to; the numbers are those of the ``livesync`` command."""

    OK = 0
    USAGE = 2
    DATABASE = 4
    LOCKED = 5
    HOST = 6
    UPGRADE = 12
    INTERNAL = 70
    INTERRUPTED = 130


# The first class that an exception is an instance of decides.
_CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (errors.DatabaseLocked, ExitCode.LOCKED),
    (errors.DatabaseError, ExitCode.DATABASE),
    (errors.UpgradeNeeded, ExitCode.UPGRADE),
    (errors.HostError, ExitCode.HOST),
    (errors.LiveSyncError, ExitCode.USAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)

_EPILOG: Final = """\
exit codes: 0 done; 2 wrong arguments, or a history that is broken or does not fit; 4 the database cannot be
opened, read or written; 5 another process has its file open; 6 the host cannot be loaded or fails;
12 the database needs `livesync upgrade`; 130 interrupted. What was applied before an error or an
interruption stays, and the same command goes on after it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code.

    Args:
        argv: The arguments; those of the process when None.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as exc:
        return int(exc.code or 0)
    settings = Settings()
    try:
        settings = read_settings({"db": args.db, "host": args.host})
        command: Callable[[argparse.Namespace, Settings], None] = args.command
        command(args, settings)
        sys.stdout.flush()
        return ExitCode.OK
    except BrokenPipeError:
        _discard_stdout()
        return ExitCode.OK
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - no traceback ever reaches a user
        code, text = _report(exc)
        _note(f"livesync.demo: {without_secrets(text, settings.db)}")
        return code


def _discard_stdout() -> None:
    """Keep the interpreter from flushing into a pipe whose reader has had enough."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _report(exc: BaseException) -> tuple[ExitCode, str]:
    """Return the code and the line that an exception comes to."""
    from ZODB.POSException import POSError

    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, KeyboardInterrupt):
        text = "interrupted; the same command goes on where it was"
    for kind, code in _CODES:
        if isinstance(exc, kind):
            return code, text
    if isinstance(exc, POSError):
        return ExitCode.DATABASE, f"the database: {type(exc).__name__}: {text}"
    if isinstance(exc, OSError):
        return ExitCode.DATABASE, f"reading or writing failed: {text}"
    return ExitCode.INTERNAL, f"unexpected {type(exc).__name__}: {text}"


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m livesync.demo",
        description="A catalogue of conferences and talks in ZODB, to try livesync with.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--db", metavar="URI", help="the database, as a zodburi (else LIVESYNC_DB)")
    common.add_argument(
        "--host", metavar="HOST", help=f"demo, or demo-paths (else LIVESYNC_HOST, else {DEFAULT_HOST})"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    replay = commands.add_parser(
        "replay",
        parents=[common],
        help="replay recorded edits into the catalogue, one transaction a line",
        description="Replay recorded edits into the catalogue, one transaction a line. Makes the database,"
        " the catalogue and livesync's manager (for the site LIVESYNC_SITE) if they are not there. A line"
        " that has been applied before is skipped.",
    )
    replay.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a history, or its bare name in the directory LIVESYNC_HISTORY or among those that come with the"
        " demo (history-small.jsonl.gz)",
    )
    replay.add_argument("--limit", type=_count, metavar="N", help="stop when N lines have been applied")
    replay.set_defaults(command=_replay)

    dump = commands.add_parser(
        "dump",
        parents=[common],
        help="write what an index of the catalogue must hold",
        description="Write what an index of the catalogue must hold: a line for each document, with its id.",
    )
    dump.add_argument(
        "--audience", default=PUBLIC, help="for whom: public (the default), or another, such as staff"
    )
    dump.set_defaults(command=_dump)

    peers = commands.add_parser(
        "peers",
        help="let three sites edit the catalogue at once and sync in a ring",
        description="Let three sites edit the catalogue at once and sync in a ring, and tell whether they"
        " hold the same in the end.",
    )
    peers.add_argument("place", type=Path, metavar="DIR", help="an empty directory for their databases")
    peers.set_defaults(command=_peers, db=None, host=None)

    network = commands.add_parser(
        "network",
        help="let six nodes with servers of their own exchange parts of the catalogue, with cuts on the way",
        description="Let six nodes, each with a database, a certificate and a server of its own, exchange"
        " parts of the catalogue, while servers and clients are killed; and tell whether each holds just"
        " what it may in the end.",
    )
    network.add_argument("place", type=Path, metavar="DIR", help="an empty directory for their databases")
    network.set_defaults(command=_network, db=None, host=None)

    versions = commands.add_parser(
        "versions",
        help="make a version of each line of the history, and show what can be done with them",
        description="Make a version of each line of the history: the log, blame of a talk, a year checked"
        " out, a branch merged back with a conflict; and tell whether all came out right.",
    )
    versions.add_argument("place", type=Path, metavar="DIR", help="an empty directory for the database")
    versions.set_defaults(command=_versions, db=None, host=None)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def _host(settings: Settings) -> Host:
    return load_host(settings.host or DEFAULT_HOST)


def _replay(args: argparse.Namespace, settings: Settings) -> None:
    from .history import find_history
    from .replay import prepare, replay
    from .wiring import recorded

    paths = [find_history(name) for name in args.files]
    host = _host(settings)
    with closing(open_database(settings.require_db(), create=True)) as db:
        prepare(db, settings.site)
        with recorded(db, host), _progress(paths) as (lines, show), _interruption() as interrupted:
            result = replay(db, lines, args.limit, show, interrupted)
            is_interrupted = interrupted()
    print(
        f"{result.applied:,} lines applied ({result.changes:,} changes),"
        f" {result.skipped:,} skipped that had been applied before"
    )
    if is_interrupted:
        raise KeyboardInterrupt


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has come, so that no commit is torn by one.

    A second signal is taken as usual. In a thread other than the main one signals are left alone.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in before:
            signal.signal(number, ask)
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(paths: Sequence[Path]) -> Iterator[tuple[Iterator[Any], Callable[[Any], None]]]:
    """Give the lines of all files, and what is to be called after each; shows a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from .history import read_history

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[changes]:,} changes"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("replay", total=sum(path.stat().st_size for path in paths), lines=0, changes=0)

    def lines() -> Iterator[Any]:
        before = 0

        def read(done: int) -> None:
            bar.update(task, completed=before + done)

        for path in paths:
            bar.update(task, description=path.name)
            yield from read_history(path, read)
            before += path.stat().st_size

    def show(result: Any) -> None:
        bar.update(task, lines=result.applied, changes=result.changes)

    with bar:
        yield lines(), show


def _peers(args: argparse.Namespace, settings: Settings) -> None:
    from .peers import run

    if not run(_empty(args.place), lambda line: print(line, flush=True)):
        raise errors.LiveSyncError("the three sites do not hold the same")


def _network(args: argparse.Namespace, settings: Settings) -> None:
    from .network import run

    if not run(_empty(args.place), lambda line: print(line, flush=True)):
        raise errors.LiveSyncError("somebody holds something else than it may")


def _versions(args: argparse.Namespace, settings: Settings) -> None:
    from .versions import run

    if not run(_empty(args.place), lambda line: print(line, flush=True)):
        raise errors.LiveSyncError("the versions are not what they were")


def _empty(place: Path) -> Path:
    if not place.is_dir() or any(place.iterdir()):
        raise errors.UsageError(f"{place} is no empty directory")
    return place


def _dump(args: argparse.Namespace, settings: Settings) -> None:
    from .dump import dump

    host = _host(settings)

    def set_aside(object_id: str, reason: str) -> None:
        _note(f"livesync.demo: {object_id} has no document: {reason}")

    with closing(open_database(settings.require_db(), read_only=True)) as db, connected(db) as root:
        connection: Any = root._p_jar  # type: ignore[attr-defined]
        for line in dump(host, connection, args.audience, set_aside):
            sys.stdout.buffer.write(line)
