"""``livesync agent verify`` and ``repair``: does a service hold what the application has?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..database import connected
from ..words import plural
from .exitcodes import ExitCode
from .exporting import counted
from .output import Output, printable
from .progress import progress
from .running import describe_counts, report_dead, result_as_json
from .session import Session
from .signals import stopping

if TYPE_CHECKING:
    from ..delivery.record import RunResult
    from ..manager import SyncManager
    from ..upkeep.verify import Verification

#: What a verification comes to, in the order in which people are told.
_COUNTS: Final = (
    "checked", "expected", "held", "missing", "stale", "orphaned", "pending", "not_comparable", "kept_back"
)  # fmt: skip

#: Those that are told even when they are 0.
_ALWAYS: Final = frozenset({"checked", "expected", "held", "missing", "stale", "orphaned"})


def verify(session: Session) -> int:
    """Compare what one agent's service holds with what the application has."""
    from ..upkeep.verify import verify as verified

    args, out = session.args, session.out
    host = session.settings.load_host()
    # only read: this works while the application has the database's file open
    with session.reading() as manager, stopping() as stop:
        manager.check_site(session.settings.site)
        with progress(out, args.agent) as report:
            found = verified(manager, args.agent, host, args.quick, counted(report, None), stop)
    with found:
        _tell(session, found)
        return _end(out, found) or (ExitCode.DIFFERENT if found.differs else ExitCode.OK)


def _tell(session: Session, found: Verification) -> None:
    """Print the differences, a line each, and what it all comes to."""
    args, out = session.args, session.out
    limit = args.limit or None
    not_compared = [
        {"id": object_id, "reason": reason} for object_id, reason in islice(found.not_compared(), limit)
    ]
    values = {"agent": args.agent, "verification": _as_json(found), "not_compared": not_compared}
    with out.json_list("differences", values) as add:
        for kind, object_id, detail in islice(found, limit):
            out.line(printable(f"{kind:<8}  {object_id}  {detail}"))
            add({"kind": kind, "id": object_id, "detail": detail})
    left = found.missing + found.stale + found.orphaned - (limit or 0)
    if limit and left > 0:
        out.line(f"and {left:,} more: --limit 0 names all")
    for one in not_compared:
        out.line(printable(f"not comparable  {one['id']}  {one['reason']}"))
    out.line(_describe(args.agent, found))


def _as_json(found: Verification) -> dict[str, Any]:
    counts = {name: getattr(found, name) for name in _COUNTS}
    return counts | {"complete": found.complete, "differs": found.differs, "seconds": found.seconds}


def _describe(agent_id: str, found: Verification) -> str:
    counts = ((name, getattr(found, name)) for name in _COUNTS)
    told = [f"{number:,} {name.replace('_', ' ')}" for name, number in counts if number or name in _ALWAYS]
    return f"{agent_id}: {', '.join(told)}; {found.seconds:.2f} s"


def _end(out: Output, found: Verification) -> ExitCode | None:
    """Return the exit code of a verification that was interrupted; None: it came to its end."""
    if found.complete:
        return None
    out.note("interrupted: not everything was compared")
    return ExitCode.INTERRUPTED


def repair(session: Session) -> int:
    """Verify one agent's service, and mend what differs."""
    from ..delivery.record import RunResult
    from ..upkeep.verify import repair as repaired
    from ..upkeep.verify import verify as verified

    args, out = session.args, session.out
    agent_id, host = args.agent, session.settings.load_host()
    result = RunResult()
    with _writable(session) as manager, stopping() as stop:
        with progress(out, agent_id) as report:
            found = verified(manager, agent_id, host, args.quick, counted(report, None), stop)
        with found:
            count = found.missing + found.stale + found.orphaned
            out.line(_describe(agent_id, found))
            if found.complete and count:
                with progress(out, agent_id) as report:
                    result = repaired(manager, agent_id, host, found, counted(report, count), stop)
        stopped = not found.complete or (stop() and result.read < count)
    out.json(
        {
            "agent": agent_id,
            "complete": not stopped,
            "verification": _as_json(found),
            "result": result_as_json(result),
        }
    )
    out.line(f"{agent_id}: {describe_counts(result)}" if result.read else f"{agent_id}: nothing was sent")
    report_dead(out, agent_id, result)
    if stopped:
        out.note(f"interrupted: not everything is mended; again: livesync agent repair {agent_id}")
        return ExitCode.INTERRUPTED
    return _mended(session, result)


def _mended(session: Session, result: RunResult) -> ExitCode:
    """Return the exit code of a repair that came to its end."""
    agent_id = session.args.agent
    if result.stale:
        # the service holds what was never sent from here: its positions are ahead
        stale = plural(result.stale, "object is as it was", "objects are as they were")
        session.out.note(
            f"{stale}, since the service says that it has newer; empty it and send everything: livesync agent"
            f" export {agent_id}"
        )
    if result.dead:
        return ExitCode.DEAD_LETTERS
    return ExitCode.DIFFERENT if result.stale else ExitCode.OK


@contextmanager
def _writable(session: Session) -> Iterator[SyncManager]:
    """Give the manager of a database that can be written to, where the agent may be sent something.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: Its state does not allow it: better said before everything is compared.
        SiteDiffers: The database is a copy.
    """
    from ..delivery.access import ManagerAccess
    from ..manager import SyncManager
    from ..upkeep.export import prepared
    from ..upkeep.sending import check_has_begun

    with session.database() as db, connected(db) as root:
        manager = SyncManager.get(root)
        manager.check_site(session.settings.site)
        access = ManagerAccess(manager)
        try:
            check_has_begun(access, session.args.agent)
            prepared(access, session.args.agent)
        finally:
            access.close()
        yield manager
