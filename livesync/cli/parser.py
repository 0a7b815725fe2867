"""The command line's grammar, for the command itself, its man pages, completions and documentation.

It imports the standard library only, so that manuals can be built where ZODB is not installed. Each
command names the function that carries it out as ``module:function`` within ``livesync.cli``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Container, Iterator
from typing import Any, Final, NoReturn

from .agent_parser import add_agent_commands
from .dead_parser import add_dead_commands
from .exitcodes import ExitCode, exit_code_table
from .grammar import COMPLETE_FILE, Commands, Parser, add_global_options
from .peer_parser import add_peer_commands
from .task_parser import add_task_commands
from .user_parser import add_user_commands
from .values import Address, Moment, count, not_negative, positive_seconds, span, workers
from .version_parser import add_version_commands

DESCRIPTION: Final = """\
Keep search indexes, archives, databases and web hooks in step with an application that stores its
objects in ZODB. Every change of the application is recorded on a track inside its database; agents
follow the track, each with a pointer of its own, and upload what changed to an external service.
"""

SETTINGS_HELP: Final = """\
settings, the first that is given:
  the option on the command line; LIVESYNC_DB, LIVESYNC_HOST, LIVESYNC_SITE, LIVESYNC_USERS in the
  environment; db, host, site, users in the file of --config, LIVESYNC_CONFIG, ./livesync.toml or
  /etc/livesync.toml.
The options of the command line may stand before the command or after it.
"""


#: The groups of commands: name, summary, and what fills them.
_GROUPS: Final[tuple[tuple[str, str, Callable[[Commands], None]], ...]] = (
    ("agent", "manage agents, run one, send everything to a new one", add_agent_commands),
    ("task", "have the track pruned, services verified, and so on", add_task_commands),
    ("dead", "look after what could not be delivered", add_dead_commands),
    ("user", "say who may log in at the web pages", add_user_commands),
    ("peer", "sync both ways with other databases", add_peer_commands),
    ("version", "keep versions of documents", add_version_commands),
)


def build_parser(words: Container[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of ``livesync`` with all its commands.

    Args:
        words: The arguments to be parsed, where they are known: groups that none of them names are left
            empty, since to make all commands takes longer than many of them do.
    """
    parser = Parser(
        prog="livesync",
        description=DESCRIPTION,
        epilog=f"{SETTINGS_HELP}\nexit codes:\n{exit_code_table()}",
    )
    add_global_options(parser, top=True)
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = Commands(parser)
    _add_installation(commands)
    _add_reading(commands)
    _add_running(commands)
    for name, summary, fill in _GROUPS:
        group = commands.group(name, summary)
        if words is None or name in words:
            fill(group)
    return parser


def group_parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield ``(name of the man page, parser)`` for the command and each of its groups."""
    parser = build_parser()
    yield "livesync", parser
    for name, child in _subparsers(parser):
        if any(True for _ in _subparsers(child)):
            yield f"livesync-{name}", child


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


class _Version(argparse.Action):
    """Print the version; read when asked, so that nothing is imported for it otherwise."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from .. import __version__

        print(f"livesync {__version__}")
        parser.exit(ExitCode.OK)


def _add_installation(commands: Commands) -> None:
    install = commands.add(
        "install",
        "installing:install",
        "begin to record changes in this database",
        "Put a sync manager into the database: its track, its inbox, and the name of the site that may run"
        " its agents. A database file that does not exist is made. Nothing happens where one is installed"
        " already.",
    )
    install.add_argument(
        "--granularity",
        type=positive_seconds,
        metavar="S",
        help="seconds per position of the track; it cannot be changed later (default: 1)",
    )
    install.add_argument(
        "--site",
        metavar="NAME",
        help="the site that may run the agents of this database (default: the site of the settings, else"
        " none)",
    )
    commands.add(
        "upgrade",
        "installing:upgrade",
        "bring stored data up to this version of livesync",
        "Bring what livesync keeps in the database to the form that this version expects, in small"
        " transactions; it can be interrupted and run again. Older versions refuse newer data.",
    )
    adopt = commands.add(
        "adopt",
        "installing:adopt",
        "take over a copied database",
        "Make this copy of a database a site of its own: it gets a new track id, and all its agents are"
        " paused, so that nothing reaches the services of the original before somebody has looked at them.",
    )
    adopt.add_argument(
        "--site", metavar="NAME", required=True, help="the name of the site that takes it over"
    )
    destroy = commands.add(
        "destroy",
        "installing:destroy",
        "remove all that livesync keeps in this database",
        "List what livesync keeps in this database and remove it after asking twice: the track, what waits in"
        " the inbox, agents with their pointers, dead letters. The application's objects and what the"
        " external services hold stay as they are.",
    )
    destroy.add_argument("--yes", action="store_true", help="do not ask, for scripts")


def _add_reading(commands: Commands) -> None:
    doctor = commands.add(
        "doctor",
        "doctor:doctor",
        "check the installation and say what is wrong",
        "Check one thing after another (versions, settings, database, clocks, lanes, site, host, every"
        " agent's type, options, secrets and service) and say of each whether it is in order, and what to do"
        " if it is not. It changes nothing. Services of agents that are new, or that a runner holds at the"
        " moment, are not asked.",
    )
    doctor.add_argument("--offline", action="store_true", help="ask no service")
    listing = commands.add(
        "list",
        "listing:list_track",
        "list what is on the track, newest first",
        "List the recorded actions in the interval ]FROM, TO], newest first, a line each: the position, then"
        " the action with its object, what was done and the time of the commit. What waits in the inbox and"
        " has no position yet comes first, with - for the position. P is a position, or a time in ISO 8601"
        " with a zone, such as 2026-11-05T10:00:00Z.",
    )
    start = listing.add_mutually_exclusive_group()
    start.add_argument(
        "--pointer", metavar="AGENT", help="begin after the pointer of this agent: what it has to do"
    )
    start.add_argument(
        "--from", dest="from_", type=Moment, metavar="P", help="begin after this position or time"
    )
    listing.add_argument(
        "--to", type=Moment, metavar="P", help="end with this position or time, leave out the inbox"
    )
    status = commands.add(
        "status",
        "status:status",
        "show agents, their pointers and how far they are behind",
        "Show every agent with its state, pointer, lag, dead letters, last error, who runs it now and what"
        " is in its slow queue, and the track with its ends. With --check, print one line as plugins of"
        " Nagios do and exit with their codes: 0 OK, 1 WARNING (an error in the last run, more dead letters"
        " than allowed, an export broken off, a task that failed), 2 CRITICAL (an agent is stopped, or lags"
        " more than allowed), 3 UNKNOWN (it cannot be told).",
    )
    status.add_argument("--check", action="store_true", help="one line and exit codes for monitoring")
    status.add_argument(
        "--max-lag",
        type=not_negative,
        default=3600.0,
        metavar="S",
        help="with --check: CRITICAL when an agent lags more than this many seconds (default: 3600)",
    )
    status.add_argument(
        "--max-dead",
        type=count,
        default=0,
        metavar="N",
        help="with --check: WARNING when an agent has more than this many dead letters (default: 0)",
    )


def _add_running(commands: Commands) -> None:
    run = commands.add(
        "run",
        "running:run",
        "run agents once: deliver what has changed",
        "Run every active agent once, or those that are named. An agent that fails does not stop the others;"
        " the exit code is the gravest of all. An agent that another runner holds is left alone, which is an"
        " error only if it was named.",
    )
    run.add_argument("agents", nargs="*", metavar="AGENT", help="run these only")
    run.add_argument(
        "--due",
        action="store_true",
        help="only those that are due by their schedules (see `livesync agent add_task`), and the periodic"
        " tasks that are due (see `livesync task add`)",
    )
    serve = commands.add(
        "serve",
        "serving:serve",
        "run the schedule, woken by commits, with the web pages",
        "Run agents and periodic tasks when they are due, and agents with an interval as soon as something is"
        " committed, until SIGTERM or SIGINT; what is at work then ends after its batch. It needs a database"
        " that several processes can open (ZEO, RelStorage), or a FileStorage that nobody has open: where the"
        " application has it open, the runner belongs into the application's process. Several may run at"
        " once: leases say which is at an agent.",
    )
    serve.add_argument(
        "--listen",
        type=Address,
        default="127.0.0.1:6548",
        metavar="HOST:PORT",
        help="where the pages are (default: 127.0.0.1:6548); port 0: one that is free",
    )
    serve.add_argument("--no-web", action="store_true", help="no pages, the schedule alone")
    serve.add_argument(
        "--peers",
        type=Address,
        metavar="HOST:PORT",
        help="serve peers of two-way sync there, too (see `livesync peer init`); port 0: one that is free",
    )
    serve.add_argument(
        "--share-key",
        action="store_true",
        help="with --peers: offer a public key that peers can push a certificate for",
    )
    users = serve.add_argument(
        "--users", metavar="FILE", help="the file with those who may log in (default: that of the settings)"
    )
    users.complete = COMPLETE_FILE  # type: ignore[attr-defined]
    serve.add_argument(
        "--workers",
        type=workers,
        default=4,
        metavar="N",
        help="agents and tasks that are at work at once, at most (default: 4)",
    )
    prune = commands.add(
        "prune",
        "pruning:prune",
        "drop what every agent has delivered",
        "Drop from the track what lies at or before every pointer and is older than 7 days. Agents that are"
        " behind keep what they need, unless --leave-behind is given: such an agent is stopped and needs an"
        " export. Who holds back more than 30 days or 1 GB is named in a warning.",
    )
    old = prune.add_mutually_exclusive_group()
    old.add_argument(
        "--keep",
        type=span,
        metavar="T",
        help="keep what is younger than this, 90s, 5m, 1h or 2d; 0: keep nothing (default: 7d)",
    )
    old.add_argument(
        "--before", type=Moment, metavar="P", help="drop what is before this position or time, however old"
    )
    prune.add_argument(
        "--leave-behind",
        action="store_true",
        help="drop it even where an agent still needs it",
    )
    forget = commands.add(
        "forget",
        "forgetting:forget",
        "erase an object from what livesync keeps",
        "Erase an object from the dead letters, the slow queues and the texts of errors of all agents, and"
        " from the conflict logs and waiting buffers of two-way sync, and from all versions of histories: for"
        " people who ask that their data be forgotten. What services hold is not touched (enqueue the object"
        " for that, when it is removed), and the track keeps its id until it is pruned.",
    )
    forget.add_argument("object_id", metavar="OBJECT_ID", help="the object's id, or an item's")
