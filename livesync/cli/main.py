"""The entry point of the command line: from arguments to an exit code, and from exceptions to one line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from typing import Final

from ..database import without_secrets
from .exitcodes import ExitCode
from .failures import Failure
from .grammar import WrongArguments
from .output import Output, printable
from .parser import build_parser
from .session import Session

#: Commands that serve until they are asked to end.
_SERVERS: Final = frozenset({"serving:serve"})


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code; see :class:`~livesync.cli.exitcodes.ExitCode`.

    Args:
        argv: The arguments after the command's name; those of the process when None.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(argv).parse_args(argv)
    except WrongArguments as exc:
        return _wrong_arguments(argv, exc)
    except SystemExit as exc:
        return int(exc.code or 0)
    out = Output(args.json)
    try:
        with _logging(args.verbose, args.handler in _SERVERS):
            code = _here_or_there(args, argv, out)
            out.stdout.flush()
            return code
    except BrokenPipeError:
        # whoever read our output has had enough; keep the interpreter from flushing into the pipe again
        _discard_stdout()
        return ExitCode.OK


def _wrong_arguments(argv: Sequence[str], exc: WrongArguments) -> int:
    """Return USAGE; but to who watches, for whom that number means CRITICAL, say UNKNOWN."""
    if not {"status", "--check"} <= set(argv):
        return ExitCode.USAGE
    from .check import Health

    message = printable(" ".join(exc.message.split())).replace("|", "/")
    Output("--json" in argv).write(f"LIVESYNC {Health.UNKNOWN.name} - {message}\n")
    return Health.UNKNOWN


def _here_or_there(args: argparse.Namespace, argv: Sequence[str], out: Output) -> int:
    """Run the command that ``args`` names, or let the process do it that has the database's file open."""
    from ..settings import Settings, read_settings

    session = Session(args, Settings(), out)
    try:
        session = Session(
            args, read_settings({key: getattr(args, key) for key in ("db", "host", "config")}), out
        )
        from .forwarding import forwarded

        code = forwarded(session, argv)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - no traceback ever reaches a user
        return _failed(session, exc)
    return carry_out(session) if code is None else code


def carry_out(session: Session) -> int:
    """Run the command of a session, and report what it raises; return the exit code."""
    try:
        return _command(session.args.handler)(session)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - no traceback ever reaches a user
        return _failed(session, exc)


def _failed(session: Session, exc: BaseException) -> int:
    args, out, db = session.args, session.out, session.settings.db
    failure = Failure.of(exc, db)
    if args.verbose:
        out.stderr.write(without_secrets("".join(traceback.format_exception(exc)), db))
    out.note(f"livesync: {failure.message}")
    return _code_for_monitoring(args, failure, out)


def _command(handler: str) -> Callable[[Session], int]:
    module, _, function = handler.partition(":")
    command: Callable[[Session], int] = getattr(import_module(f"livesync.cli.{module}"), function)
    return command


def _code_for_monitoring(args: argparse.Namespace, failure: Failure, out: Output) -> int:
    """Return the failure's code; but for ``status --check`` say UNKNOWN, with the code of plugins."""
    if not getattr(args, "check", False):
        return failure.code
    from .check import Health

    out.write(f"LIVESYNC {Health.UNKNOWN.name} - {printable(failure.message)}\n")
    return Health.UNKNOWN


class _Brief(logging.Formatter):
    """Leaves out tracebacks, but of what nobody foresaw."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.levelno < logging.ERROR:
            record = copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


@contextmanager
def _logging(verbose: bool, serves: bool) -> Iterator[None]:
    """Show the log on standard error, or keep libraries from writing there; undone in the end.

    Args:
        verbose: Show all of it.
        serves: Nobody will be told otherwise what went wrong: show warnings and errors at least.
    """
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr) if verbose or serves else logging.NullHandler()
    formatter = logging.Formatter if verbose else _Brief
    handler.setFormatter(formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.NOTSET if verbose else logging.WARNING)
    level = root.level
    root.addHandler(handler)
    if verbose:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _discard_stdout() -> None:
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
