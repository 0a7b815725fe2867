"""The grammar of ``livesync peer``."""

from __future__ import annotations

from .grammar import Commands
from .peer_client_parser import add_client_commands
from .peer_trust_parser import add_trust_commands
from .values import count


def add_peer_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    add_trust_commands(commands)
    add_client_commands(commands)
    erase = commands.add(
        "erase",
        "peer_erasing:erase",
        "delete something for good, on all nodes",
        "Delete an object of the application, or an item of two-way sync, for good, after asking: from the"
        " application, from everything that livesync keeps of it, its versions included, and on every node"
        " that the deletion reaches. Its id is closed then: an edit that comes late does not bring it back."
        " What the application deletes by itself stays in the store, so that it can be reinstated.",
    )
    erase.add_argument("target", metavar="OBJECT_ID", help="the object's id, or the item's")
    erase.add_argument("--yes", action="store_true", help="do not ask, for scripts")
    _add_conflict_commands(commands.group("conflict", "look after what lost, or could not be applied"))


def _add_conflict_commands(commands: Commands) -> None:
    listing = commands.add(
        "list",
        "peer_conflicts:list_conflicts",
        "list conflicts, newest first",
        "List what was changed on several nodes at once, and what a peer sent and the application could not"
        " take, a line each, newest first: when, the id, deferred or resolved, what met what, and the item;"
        " of what could not be applied, the reason.",
    )
    listing.add_argument("--item", metavar="ITEM", help="of this item only")
    listing.add_argument("--open", action="store_true", help="only what is deferred still")
    listing.add_argument("--limit", type=count, metavar="N", help="show so many at most (default: all)")
    show = commands.add(
        "show",
        "peer_conflicts:show",
        "show a loser beside its winner",
        "Show everything that is kept of a conflict: who changed what and when, what the loser says beside"
        " what the winner says, and the stack trace of what could not be applied.",
    )
    show.add_argument("conflict", metavar="ID", help="the conflict's id, or its beginning")
    reinstate = commands.add(
        "reinstate",
        "peer_conflicts:reinstate",
        "make a loser the item's content again",
        "Make what the loser of a conflict says the content of its item, in the application and, as a new"
        " change that travels like any other, on all nodes.",
    )
    reinstate.add_argument("conflict", metavar="ID", help="the conflict's id, or its beginning")
