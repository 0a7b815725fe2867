"""The grammar of ``livesync task``, and of the schedules that agents and tasks are given."""

from __future__ import annotations

import argparse

from .grammar import Commands
from .values import interval, key_value


def add_task_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    commands.add(
        "list",
        "tasking:list_tasks",
        "list what runs on a schedule",
        "List the agents that have a schedule and the periodic tasks: when each runs next, whether it is held"
        " back since it failed, and what its last run came to.",
    )
    add = commands.add(
        "add",
        "tasking:add",
        "add a periodic task",
        "Have something done again and again: prune drops from the track what every agent has delivered,"
        " cleanup takes away what processes that have died left behind, verify compares services with the"
        " application, two-way does what two-way sync leaves to be done between sessions. Agents get their"
        " schedules with `livesync agent add_task`.",
    )
    add.add_argument(
        "kind", metavar="KIND", help="prune, cleanup, verify or two-way, or one that a package brings"
    )
    add.add_argument("--id", dest="task", metavar="ID", help="what it is called (default: as its kind)")
    add_schedule(add, required=True)
    add.add_argument(
        "-o",
        "--option",
        dest="options",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help="an option of the kind: keep_s and leave_behind of prune; agent, quick and repair of verify;"
        " peer_expires_s and session_expires_s of two-way;"
        " may be repeated",
    )
    remove = commands.add(
        "remove",
        "tasking:remove",
        "remove a periodic task",
        "Remove a periodic task; what it has done stays.",
    )
    remove.add_argument("task", metavar="ID", help="the task's id")
    run = commands.add(
        "run",
        "tasking:run",
        "run a periodic task once, now",
        "Run a task now, whether it is due or not. One that another runner is at is left alone.",
    )
    run.add_argument("task", metavar="ID", help="the task's id")


def add_schedule(parser: argparse.ArgumentParser, required: bool, off: bool = False) -> None:
    """Add the options that say when something is to run.

    Args:
        parser: Takes them.
        required: One of them has to be given.
        off: Offer ``--off`` too.
    """
    when = parser.add_mutually_exclusive_group(required=required)
    when.add_argument("--interval", type=interval, metavar="T", help="60 (seconds), 90s, 5m, 1h or 2d")
    when.add_argument(
        "--cron",
        metavar="EXPR",
        help='minute, hour, day, month, day of the week, such as "*/15 * * * *"; needs the extra cron',
    )
    if off:
        when.add_argument("--off", action="store_true", help="no schedule: it never runs by itself")
    parser.add_argument(
        "--zone",
        metavar="ZONE",
        default="",
        help="the time zone of --cron, such as Europe/Rome (default: UTC)",
    )
