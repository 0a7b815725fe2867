"""``livesync install``, ``upgrade``, ``adopt`` and ``destroy``: the manager comes and goes."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from ..database import missing_file, shown_uri
from ..errors import NotInstalled, UsageError
from ..words import plural
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..status import ManagerStatus


def install(session: Session) -> int:
    """Put a manager into the database; nothing happens where one is."""
    from ..manager import SyncManager

    args, out = session.args, session.out
    site = session.settings.site if args.site is None else args.site
    made = missing_file(session.settings.require_db())

    def change(root: MutableMapping[str, Any]) -> tuple[bool, int, str]:
        try:
            manager, new = SyncManager.get(root), False
        except NotInstalled:
            manager, new = SyncManager.install(root, args.granularity or 1, site), True
        if args.granularity not in (None, manager.granularity):
            raise UsageError(
                f"livesync is installed already, with a granularity of {manager.granularity} s, which cannot"
                " change"
            )
        if args.site not in (None, manager.site):
            raise UsageError(
                f"livesync is installed already, for site {manager.site!r}; to take a copy over: livesync"
                " adopt --site NAME"
            )
        return new, manager.granularity, manager.site

    new, granularity, stored_site = session.write(change, create=True)
    if made is not None:
        out.line(printable(f"made the database file {made}"))
    state = "installed" if new else "installed already"
    out.line(
        printable(f"livesync is {state}: site {stored_site or '(no name)'}, granularity {granularity} s")
    )
    out.json(
        {"installed": new, "made_file": made is not None, "site": stored_site, "granularity": granularity}
    )
    return ExitCode.OK


def upgrade(session: Session) -> int:
    """Bring stored data up to this version."""
    from ..manager import upgrade as upgraded

    done = session.write(upgraded)
    session.out.line("the stored data are of this version now" if done else "there was nothing to do")
    session.out.json({"upgraded": done})
    return ExitCode.OK


def adopt(session: Session) -> int:
    """Take over a copied database."""
    site = session.args.site
    if not site.strip():
        raise UsageError("the site's name is empty")

    def change(root: MutableMapping[str, Any]) -> None:
        from ..manager import SyncManager
        from ..replication.stores.zodbstore import renew_in

        SyncManager.get(root).adopt(site)
        renew_in(root)

    session.write(change)
    session.out.line(printable(f"this database belongs to site {site} now; its agents are paused"))
    if session.settings.site != site:
        session.out.line(
            printable(f"its agents run where LIVESYNC_SITE={site} is set, or site in livesync.toml")
        )
    session.out.json({"site": site})
    return ExitCode.OK


def destroy(session: Session) -> int:
    """Remove all that livesync keeps in the database, after asking twice."""
    from ..manager import uninstall

    if not session.is_hosted and not agree_to_destroy(session):
        return ExitCode.OK
    session.write(uninstall)
    session.out.line("livesync is removed from this database")
    session.out.json({"removed": True})
    return ExitCode.OK


def agree_to_destroy(session: Session) -> bool:
    """Say what goes, and ask twice unless ``--yes`` was given; nothing is removed.

    Raises:
        UsageError: There is nobody to ask.
    """
    out = session.out
    if not session.args.yes and not sys.stdin.isatty():
        raise UsageError("this asks before it removes anything, and there is nobody to ask: give --yes")
    with session.reading() as manager:
        status = manager.status()
    for line in _what_goes(status, shown_uri(session.settings.db)):
        out.note(line)
    if session.args.yes or _agreed(session):
        return True
    out.note("nothing was removed")
    out.json({"removed": False})
    return False


def _what_goes(status: ManagerStatus, uri: str) -> list[str]:
    ids = ", ".join(agent.id for agent in status.agents)
    dead = sum(agent.dead for agent in status.agents)
    agents = plural(len(status.agents), "agent with its pointer", "agents with their pointers")
    return [
        f"This goes from {uri}:",
        f"  {agents}{': ' + ids if ids else ''}",
        f"  {plural(status.actions, 'action')} on the track, {status.waiting:,} in the inbox",
        f"  {plural(dead, 'dead letter')}",
        "The application's objects stay, and so does what external services hold.",
    ]


def _agreed(session: Session) -> bool:
    """Ask twice on standard error."""
    if session.out.ask("Remove all this? [y/N] ").lower() not in ("y", "yes"):
        return False
    return session.out.ask("It cannot be brought back. Type destroy to go on: ") == "destroy"
