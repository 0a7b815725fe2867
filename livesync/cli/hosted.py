"""Commands that are carried out in the process which has the database open, for somebody else's terminal.

They are the command line's own, on a database that stays open: what they say, their codes and their
``--json`` are the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from ..settings import Settings
from .exitcodes import ExitCode
from .output import Output
from .parser import build_parser
from .session import Session
from .signals import stopped_by

if TYPE_CHECKING:
    from ..host import Host
    from ..web.commands import Command

#: Arguments that name a file or a directory, where they are text.
_PATHS: Final = ("ids", "to", "from_file", "file")

#: What is not for a process that serves others.
_NOT_HERE: Final = frozenset({"serving:serve"})


@dataclass(frozen=True, slots=True)
class HostedSettings(Settings):
    """The settings of a process that has its database open: the application is there already."""

    application: Any = None

    def load_host(self) -> Host:
        """Return the application that the process was started with."""
        host: Host = self.application
        return host


@dataclass(frozen=True)
class HostedSession(Session):
    """A command at work in a process that has the database open."""

    db: Any = None

    @property
    def is_hosted(self) -> bool:
        """It was sent by another process, which has asked what there is to ask."""
        return True

    @contextmanager
    def database(self, read_only: bool = False, create: bool = False) -> Iterator[Any]:
        """Give the open database; it stays open."""
        yield self.db


class Hosted:
    """Carries commands out for those who send them; see ``web/commands.py``.

    Args:
        db: The open ``ZODB.DB``.
        host: The application.
        site: The name of this site.
        uri: What the database is called in messages.
        notices: The table ``[notices]`` of the settings' file.
    """

    def __init__(
        self, db: Any, host: Host, site: str = "", uri: str = "", notices: dict[str, Any] | None = None
    ) -> None:
        self._db = db
        self._settings = HostedSettings(
            db=uri, host=type(host).__qualname__, site=site, notices=notices or {}, application=host
        )

    def __call__(self, command: Command, stdout: TextIO, stderr: TextIO, stop: Callable[[], bool]) -> int:
        """Carry a command out in the calling thread; return its exit code."""
        from .main import carry_out

        args = self._parsed(command, stderr)
        if args is None:
            return ExitCode.USAGE
        for name in _PATHS:
            value = getattr(args, name, None)
            if isinstance(value, str):
                setattr(args, name, os.path.join(command.directory, os.path.expanduser(value)))
        out = Output(args.json, stdout, stderr, command.columns)
        session = HostedSession(args, self._settings, out, command.directory, self._db)
        with stopped_by(stop):
            return carry_out(session)

    @staticmethod
    def _parsed(command: Command, stderr: TextIO) -> argparse.Namespace | None:
        """Return the parsed arguments; None, and say so, where this livesync does not know them."""
        try:
            # whoever sent it has parsed it: only another version can fail here, and says so to our own log
            args = build_parser(command.argv).parse_args(command.argv)
        except SystemExit:
            args = None
        if args is None or args.handler in _NOT_HERE:
            stderr.write("livesync: the process that has the database open does not know this command\n")
            return None
        return args
