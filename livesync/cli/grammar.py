"""The parts that the command line's grammar is made from: parsers, commands, options that all share."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final, NoReturn

from .exitcodes import ExitCode

#: What shtab puts in for arguments that name a file (its ``shtab.FILE``) or a directory.
COMPLETE_FILE: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
COMPLETE_DIRECTORY: Final = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/", "tcsh": "d"}


class Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its epilog and reports an error in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and where help is, and exit with USAGE.

        Raises:
            WrongArguments: Always.
        """
        print(f"{self.prog}: {message} (see: {self.prog} --help)", file=sys.stderr)
        raise WrongArguments(message)


class WrongArguments(SystemExit):
    """Raised when arguments make no sense, once that was said; ``message`` is why."""

    def __init__(self, message: str) -> None:
        super().__init__(int(ExitCode.USAGE))
        self.message = message


class Commands:
    """The commands of one parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._actions = parser.add_subparsers(
            title="commands",
            metavar="COMMAND",
            required=True,
            help="`livesync COMMAND --help` shows its options",
        )

    def add(self, name: str, handler: str, summary: str, description: str) -> argparse.ArgumentParser:
        """Add a command and return its parser.

        Args:
            name: What people type.
            handler: ``module:function`` within ``livesync.cli``, imported when the command is used.
            summary: One line for the list of commands.
            description: What it does, for its own help and the man page.
        """
        parser = self._actions.add_parser(name, help=summary, description=_wrapped(description))
        parser.set_defaults(handler=handler)
        add_global_options(parser)
        return parser

    def group(self, name: str, summary: str) -> Commands:
        """Add a group of commands and return it."""
        parser = self._actions.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        add_global_options(parser)
        return Commands(parser)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 88)


def add_global_options(parser: argparse.ArgumentParser, top: bool = False) -> None:
    """Add the options that stand before the command and, since people write them there, after it too.

    Args:
        parser: Takes them.
        top: It is the parser of ``livesync`` itself. Only this one shows them, and only this one sets
            defaults, so that a command's parser leaves alone what was given before the command.
    """
    unset = None if top else argparse.SUPPRESS
    off = False if top else argparse.SUPPRESS

    def shown(text: str) -> str:
        return text if top else argparse.SUPPRESS

    group = parser.add_argument_group("settings")
    group.add_argument(
        "--db",
        metavar="URI",
        default=unset,
        help=shown("the database, as a zodburi: file://, zeo://, postgresql://, …"),
    )
    group.add_argument(
        "--host",
        metavar="HOST",
        default=unset,
        help=shown("the application: a name, or package.module:factory"),
    )
    config = group.add_argument(
        "--config", metavar="FILE", default=unset, help=shown("the file with the settings (TOML)")
    )
    config.complete = COMPLETE_FILE  # type: ignore[attr-defined]
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=off,
        help=shown("show the log, and the traceback of an error"),
    )
    group.add_argument(
        "--json", action="store_true", default=off, help=shown("print one JSON object, for programs")
    )
