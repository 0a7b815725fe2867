"""The grammar of ``livesync agent``."""

from __future__ import annotations

import argparse

from .grammar import COMPLETE_DIRECTORY, COMPLETE_FILE, Commands
from .task_parser import add_schedule
from .values import Moment, count, key_value


def add_agent_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    commands.add("list", "agents:list_agents", "list the agents", "List the agents: id, type, state, name.")
    commands.add(
        "types",
        "agents:types",
        "list the agent types with their options",
        "List the agent types that are installed, each with its options: name, form, default and meaning.",
    )
    _add_definition(commands)
    _add_state(commands)
    _add_work(commands)


def _agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent", metavar="ID", help="the agent's id")


def _description(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="what people call it")
    parser.add_argument("--description", help="one line for people")


def _options(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "-o",
        "--option",
        dest="options",
        action="append",
        default=[],
        type=key_value,
        metavar="KEY=VALUE",
        help=meaning,
    )


def _add_definition(commands: Commands) -> None:
    add = commands.add(
        "add",
        "agents:add",
        "add an agent",
        "Add an agent. It is new: it has no pointer and runs only after `livesync agent activate` or an"
        " export. livesync is installed in the database where it is not yet.",
    )
    _agent(add)
    add.add_argument(
        "--type", required=True, metavar="TYPE", help="one of `livesync agent types`, or package.module:Class"
    )
    _description(add)
    _options(add, "an option of the type; a secret is given as env:NAME or file:PATH; may be repeated")
    show = commands.add(
        "show",
        "agents:show",
        "show all about one agent",
        "Show an agent's type, options, state, pointer, lag, who runs it now, its totals, and the ledger of"
        " its last runs: what each has taken and what became of it. Of secrets only the reference is shown:"
        " livesync stores nothing else.",
    )
    _agent(show)
    show.add_argument(
        "--runs", type=count, default=5, metavar="N", help="show so many of the last 50 runs (default: 5)"
    )
    edit = commands.add(
        "edit",
        "agents:edit",
        "change an agent's name, description or options",
        "Change what is given and leave the rest. An option that says where the destination is makes the"
        " agent stop until it is exported again, since nobody knows what the new place holds.",
    )
    _agent(edit)
    _description(edit)
    _options(edit, "a new value; `KEY=` puts the default back; may be repeated")
    remove = commands.add(
        "remove",
        "agents:remove",
        "remove an agent",
        "Remove an agent with its pointer and its dead letters. What its service holds stays there.",
    )
    _agent(remove)


def _add_state(commands: Commands) -> None:
    activate = commands.add(
        "activate",
        "agents:activate",
        "let an agent run",
        "Make an agent active. One that was paused or stopped goes on where its pointer is. A new one has"
        " none: say where it begins, or send it everything with `livesync agent export`.",
    )
    _agent(activate)
    start = activate.add_mutually_exclusive_group()
    start.add_argument("--from-start", action="store_true", help="begin with the oldest action on the track")
    start.add_argument("--from-now", action="store_true", help="begin with what changes from now on")
    pause = commands.add(
        "pause",
        "agents:pause",
        "keep an agent from running",
        "Pause an agent: its pointer stays, and what it has to do is kept on the track, until it is"
        " activated. A run that is under way ends after its slice.",
    )
    _agent(pause)
    rewind = commands.add(
        "rewind",
        "agents:rewind",
        "put a paused agent's pointer elsewhere",
        "Put the pointer of a paused agent back, so that what follows is sent again, or forward, so that it"
        " is never sent. P is a position or a time in ISO 8601 with a zone.",
    )
    _agent(rewind)
    rewind.add_argument("--to", type=Moment, required=True, metavar="P", help="where the pointer goes")
    task = commands.add(
        "add_task",
        "agents:add_task",
        "set when an agent runs",
        "Set the interval at which an agent is due, or a cron expression: a runner (`livesync serve`, the"
        " thread in the application's process) runs it then, and so does `livesync run --due`, called every"
        " minute by cron or a timer. A runner also wakes an agent that has an interval as soon as something"
        " is committed. An agent whose runs fail is held back, longer with each failure, up to 15 minutes.",
    )
    _agent(task)
    add_schedule(task, required=True, off=True)


def _add_work(commands: Commands) -> None:
    run = commands.add(
        "run",
        "running:run_agent",
        "run an agent once, now",
        "Deliver what lies after the agent's pointer. It works on an active agent, and on one that livesync"
        " stopped, which becomes active again if the run ends well.",
    )
    _agent(run)
    simulate = commands.add(
        "simulate",
        "simulating:simulate",
        "show what a run would send",
        "Show the records that a run would send now, a line each: upsert or delete, the object's id, the"
        " actions behind it and the position. Nothing is sent and nothing changes.",
    )
    _agent(simulate)
    simulate.add_argument("--documents", action="store_true", help="show the documents too, as JSON")
    enqueue = commands.add(
        "enqueue",
        "enqueueing:enqueue",
        "have an agent send objects with its next runs",
        "Put objects into the agent's slow queue: its next runs send them as they are then, a part in each"
        " run, apart from the track. Objects that do not exist are sent as deletes.",
    )
    _agent(enqueue)
    enqueue.add_argument("object_ids", nargs="*", metavar="OBJECT_ID", help="the objects' ids")
    _ids_file(enqueue)
    enqueue.add_argument(
        "--action",
        action="append",
        metavar="WORD",
        help="the action that the records carry; may be repeated (default: data_changed)",
    )
    _add_export(commands)
    _add_proof(commands)


def _ids_file(parser: argparse._ActionsContainer) -> None:
    action = parser.add_argument(
        "--ids", metavar="FILE", help="the objects whose ids are in this file, one a line"
    )
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]


def _add_export(commands: Commands) -> None:
    export = commands.add(
        "export",
        "exporting:export",
        "send everything that exists, then go live",
        "Send all objects of the application, then make the agent active from there. Progress is kept: an"
        " export that was interrupted goes on where it was when it is started again. Some of the objects can"
        " be sent to an agent that has begun, which leaves its pointer and its state as they are; and both"
        " can be written to files instead.",
    )
    _agent(export)
    export.add_argument(
        "--mode",
        choices=("initial", "initial-only", "none", "when-needed"),
        metavar="MODE",
        help="initial: send everything and go live (the default); initial-only: send everything and pause;"
        " none: send nothing and go live; when-needed: send everything only where the destination lacks"
        " something that no run can bring",
    )
    export.add_argument(
        "--rebuild",
        action="store_true",
        help="build a new place beside the old one and let it take over in the end, where the service can",
    )
    export.add_argument(
        "--anew",
        action="store_true",
        help="begin again, although an export that was interrupted could go on where it was",
    )
    some = export.add_mutually_exclusive_group()
    some.add_argument("--under", metavar="OBJECT_ID", help="only this object and everything inside it")
    _ids_file(some)
    some.add_argument(
        "--id", nargs="+", action="extend", metavar="OBJECT_ID", help="only the objects of these ids"
    )
    some.add_argument("--failed", action="store_true", help="only the objects that have dead letters")
    to = export.add_argument(
        "--to",
        metavar="DIRECTORY",
        help="write JSON Lines files there, as the agent type file does, in place of sending anything",
    )
    to.complete = COMPLETE_DIRECTORY  # type: ignore[attr-defined]


def _add_proof(commands: Commands) -> None:
    verify = commands.add(
        "verify",
        "verifying:verify",
        "compare what a service holds with what the application has",
        "Compare what the agent's service holds with what the application has, object by object, and name"
        " what is missing there, stale or orphaned; exit code 1 if anything is. What changed a moment ago and"
        " is still to be delivered is told as pending and is no difference.",
    )
    _agent(verify)
    _quick(verify)
    verify.add_argument(
        "--limit",
        type=count,
        default=100,
        metavar="N",
        help="name so many differences at most; 0: all (default: 100)",
    )
    repair = commands.add(
        "repair",
        "verifying:repair",
        "verify, and mend what differs",
        "Verify, then send what is missing or stale as it is now, and deletes of what is orphaned; nothing"
        " else is sent. The agent's pointer stays where it is.",
    )
    _agent(repair)
    _quick(repair)
    _add_detect(commands)


def _add_detect(commands: Commands) -> None:
    detect = commands.add(
        "detect",
        "detecting:detect",
        "name objects that were stored without being announced",
        "Look at what is stored of every object of the application, and name those that were stored without"
        " an action on them: changed by a script or a piece of code that told livesync nothing. Exit code 1"
        " if there are any. One that was interrupted or killed goes on where it stood. It says what it cannot"
        " see.",
    )
    _agent(detect)
    detect.add_argument(
        "--since",
        type=Moment,
        metavar="P",
        help="look at what was stored after this position or time in ISO 8601 with a zone (default: since the"
        " agent's last export or complete detection, or since livesync was installed)",
    )
    detect.add_argument(
        "--enqueue",
        action="store_true",
        help="have the agent send what is found, and what is inside, with its next runs",
    )
    detect.add_argument(
        "--anew", action="store_true", help="begin with the first object, although one could go on"
    )
    detect.add_argument(
        "--limit",
        type=count,
        default=100,
        metavar="N",
        help="name so many objects at most; 0: all (default: 100)",
    )


def _quick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compare ids and positions only, and render no documents: altered contents are not noticed",
    )
