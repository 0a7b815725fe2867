"""The grammar of ``livesync dead``."""

from __future__ import annotations

import argparse

from .grammar import Commands
from .values import count


def add_dead_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    listing = commands.add(
        "list",
        "dead:list_letters",
        "list dead letters, newest first",
        "List the records that could not be delivered, those that died last first, a line each: when, the"
        " agent, the object's id, upsert or delete, how often it was tried and since when, and the reason.",
    )
    listing.add_argument("agent", nargs="?", metavar="AGENT", help="of this agent only")
    listing.add_argument("--limit", type=count, metavar="N", help="show so many at most (default: all)")
    show = commands.add(
        "show",
        "dead:show",
        "show all about one dead letter",
        "Show everything that is kept of a dead letter, with the document as it was refused. Of a document"
        " that was too long to be kept, its size and digest are shown.",
    )
    show.add_argument("agent", metavar="AGENT", help="the agent's id")
    show.add_argument("object_id", metavar="OBJECT_ID", help="the object's id")
    retry = commands.add(
        "retry",
        "dead:retry",
        "send the objects of dead letters again",
        "Render the objects of dead letters anew, as they are now, and send them. What is delivered loses its"
        " dead letter; an object that is gone is sent as a delete. The agent's pointer stays where it is.",
    )
    _which(retry, "send those of these objects", "send all that the agent has")
    discard = commands.add(
        "discard",
        "dead:discard",
        "throw dead letters away",
        "Throw dead letters away; nothing is sent, and what the service holds of the objects stays as it is.",
    )
    _which(discard, "throw away those of these objects", "throw away all that the agent has")


def _which(parser: argparse.ArgumentParser, these: str, all_of_them: str) -> None:
    parser.add_argument("agent", metavar="AGENT", help="the agent's id")
    parser.add_argument("object_ids", nargs="*", metavar="OBJECT_ID", help=these)
    parser.add_argument("--all", action="store_true", help=all_of_them)
