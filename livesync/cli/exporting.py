"""``livesync agent export``: send everything that exists, or a part of it, with progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..database import connected
from ..errors import UnknownAgentType, UsageError
from ..words import plural
from .exitcodes import ExitCode
from .output import printable
from .picking import picked, picks_some
from .progress import Report, progress
from .running import describe_counts, describe_result, report_dead, result_as_json
from .session import Session
from .signals import stopping

if TYPE_CHECKING:
    from ..delivery.record import RunResult
    from ..host import Host
    from ..manager import SyncManager
    from ..upkeep.export import ExportProgress


def export(session: Session) -> int:
    """Send all objects to one agent's service and go live; or some of them; or send them to files."""
    args = session.args
    some = picks_some(args)
    if some or args.to is not None:
        for option in ("mode", "rebuild", "anew"):
            if getattr(args, option):
                raise UsageError(
                    f"--{option} is for a whole export to the agent's service: leave it out, or leave out"
                    " what names a part or --to"
                )
    if args.to is not None:
        return _export_to_files(session, some)
    return _export_some(session) if some else _export_all(session)


# -- everything, to the service ------------------------------------------------------------------


def _export_all(session: Session) -> int:
    from ..manager import SyncManager
    from ..upkeep.export import Mode
    from ..upkeep.export import export as exported

    args, out = session.args, session.out
    agent_id = args.agent
    host = session.settings.load_host()
    mode = Mode(args.mode or Mode.INITIAL.value)
    with session.database() as db:
        with connected(db) as root, stopping() as stop:
            manager = SyncManager.get(root)
            manager.check_site(session.settings.site)
            manager.stored(agent_id)
            with progress(out, agent_id) as report:
                options = {"mode": mode, "rebuild": args.rebuild, "anew": args.anew}
                result = exported(manager, agent_id, host, _shown(report), stop, **options)
        with connected(db) as root:
            stored = SyncManager.get(root).stored(agent_id)
            state, complete = stored.state, stored.export is None
    out.json(
        {
            "agent": agent_id,
            "complete": complete,
            "state": state,
            "mode": mode.value,
            "result": result_as_json(result),
        }
    )
    out.line(f"{agent_id}: {describe_result(result)}")
    report_dead(out, agent_id, result)
    if not complete:
        out.note(f"the export is not finished; to go on where it is: {_same_again(session)}")
        return ExitCode.INTERRUPTED
    out.line(f"agent {agent_id} is {state}")
    return ExitCode.DEAD_LETTERS if result.dead else ExitCode.OK


def _shown(report: Report) -> Callable[[ExportProgress], None]:
    return lambda progress: report(progress.done, progress.total, progress.earlier)


def _same_again(session: Session) -> str:
    mode = f" --mode {session.args.mode}" if session.args.mode else ""
    return f"livesync agent export {session.args.agent}{mode}"


# -- some, to the service ------------------------------------------------------------------------


def _export_some(session: Session) -> int:
    from ..delivery.record import RunResult
    from ..manager import SyncManager
    from ..upkeep.sending import send_some

    agent_id = session.args.agent
    host = session.settings.load_host()
    result = RunResult()
    with session.database() as db, connected(db) as root, stopping() as stop:
        manager = SyncManager.get(root)
        manager.check_site(session.settings.site)
        manager.stored(agent_id)
        with picked(session.args, manager, host) as ids, progress(session.out, agent_id) as report:
            count = ids.count
            if count:
                result = send_some(manager, agent_id, host, ids, progress=counted(report, count), stop=stop)
        stopped = stop()
    return end_of_some(session, result, count, stopped, {"agent": agent_id})


def counted(report: Report, total: int | None) -> Callable[[int], None]:
    """Return the function that takes how many objects are done of ``total``."""
    return lambda done: report(done, total)


def end_of_some(
    session: Session, result: RunResult, count: int, stopped: bool, values: dict[str, Any]
) -> int:
    """Tell what sending some objects came to, and return the exit code.

    Args:
        session: Of the command.
        result: What became of them.
        count: How many there were to send.
        stopped: Whether it was asked to end.
        values: What else stands in the JSON object.
    """
    agent_id, out = session.args.agent, session.out
    complete = not stopped or result.read >= count
    out.json({**values, "objects": count, "complete": complete, "result": result_as_json(result)})
    out.line(f"{agent_id}: {describe_counts(result)}" if count else f"{agent_id}: there is nothing to send")
    report_dead(out, agent_id, result)
    if not complete:
        of = plural(count, "object")
        out.note(f"interrupted after {result.read:,} of {of}; the same command sends them all")
        return ExitCode.INTERRUPTED
    return ExitCode.DEAD_LETTERS if result.dead else ExitCode.OK


# -- to files ------------------------------------------------------------------------------------


def _export_to_files(session: Session, some: bool) -> int:
    """Write what an agent would send into JSON Lines files; its state and its service stay as they are."""
    from ..destinations.file import FileAgent, FileUploader
    from ..upkeep.sending import copy_to

    agent_id, out = session.args.agent, session.out
    host = session.settings.load_host()
    uploader = FileUploader(FileAgent(agent_id, directory=session.args.to))
    # only read: this works while the application has the database's file open
    with session.reading() as manager, stopping() as stop, progress(out, agent_id) as report:
        _check_type(manager, agent_id)
        with picked(session.args, manager, host) if some else nullcontext() as ids:
            count = _count_all(manager, host) if ids is None else ids.count
            began = time.monotonic()
            result = copy_to(manager, agent_id, host, uploader, ids, counted(report, count), stop)
            result.seconds = time.monotonic() - began
        stopped = stop()
    out.line(printable(f"the files are in {uploader.directory}"))
    return end_of_some(session, result, count, stopped, {"agent": agent_id, "directory": uploader.directory})


def _count_all(manager: SyncManager, host: Host) -> int:
    from ..delivery.access import ManagerAccess
    from ..upkeep.export import count_objects

    access = ManagerAccess(manager)
    try:
        return count_objects(access, host)
    finally:
        access.close()


def _check_type(manager: SyncManager, agent_id: str) -> None:
    """Make sure that an agent's type is there: without it nobody knows for whom its documents are made.

    Raises:
        UnknownAgent: There is none of this id.
        UnknownAgentType: Its type cannot be loaded, or no longer takes its options.
    """
    from ..agent import MissingAgent

    agent = manager.get_agent(agent_id)
    if isinstance(agent, MissingAgent):
        raise UnknownAgentType(f"agent {agent_id!r} cannot be used: {agent.missing}")
