"""``livesync agent detect``: name objects that were stored without being announced."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..database import connected
from ..errors import DatabaseLocked
from ..words import plural
from .exitcodes import ExitCode
from .exporting import counted
from .output import printable
from .progress import progress
from .session import Session
from .signals import stopping

if TYPE_CHECKING:
    from ..manager import SyncManager
    from ..upkeep.detect import Detection, Unannounced


def detect(session: Session) -> int:
    """Name what no action announced, and have it sent where that is asked for."""
    from ..upkeep.detect import CANNOT_SEE
    from ..upkeep.detect import detect as detected

    args, out = session.args, session.out
    host = session.settings.load_host()
    after: dict[str, Any] = {}
    with _opened(session) as manager, stopping() as stop:
        manager.check_site(session.settings.site)
        since = None if args.since is None else args.since.seconds(manager.granularity)
        with (
            out.json_list("unannounced", {"agent": args.agent}, after) as add,
            progress(out, args.agent) as report,
        ):
            found = detected(
                manager,
                args.agent,
                host,
                since,
                args.enqueue,
                args.anew,
                told=_telling(session, add, manager.granularity),
                progress=counted(report, None),
                stop=stop,
            )
            after |= {"detection": asdict(found), "cannot_see": list(CANNOT_SEE)}
    _describe(session, found)
    for one in CANNOT_SEE:
        out.line(f"it does not see: {one}")
    if not found.complete:
        out.note("interrupted: not everything was looked at; the same command goes on")
        return ExitCode.INTERRUPTED
    return ExitCode.DIFFERENT if found.found else ExitCode.OK


@contextmanager
def _opened(session: Session) -> Iterator[SyncManager]:
    """Open the database to note how far it has come; only to read, where the application has it open.

    Raises:
        DatabaseLocked: It has, and something is to be queued.
    """
    from ..manager import SyncManager

    with ExitStack() as stack:
        try:
            db = stack.enter_context(session.database())
        except DatabaseLocked:
            if session.args.enqueue:
                raise
            session.out.note(
                "the database's file is open elsewhere: it is only read, and what breaks off begins"
                " with the first object again"
            )
            db = stack.enter_context(session.database(read_only=True))
        yield SyncManager.get(stack.enter_context(connected(db)))


def _telling(session: Session, add: Callable[[Any], None], granularity: int) -> Callable[[Unannounced], None]:
    """Return what names an object, as long as no more are named than asked for."""
    limit, named = session.args.limit or None, 0

    def tell(one: Unannounced) -> None:
        nonlocal named
        named += 1
        if limit is not None and named > limit:
            return
        announced = "no action" if one.announced is None else f"the last action is of {_time(one.announced)}"
        session.out.line(printable(f"{one.object_id}  stored {_time(one.stored)}; {announced}"))
        add(
            {
                "id": one.object_id,
                "stored": one.stored,
                "position": int(one.stored // granularity),
                "announced": one.announced,
            }
        )

    return tell


def _describe(session: Session, found: Detection) -> None:
    args, out = session.args, session.out
    if args.limit and found.found > args.limit:
        out.line(f"no more than {args.limit:,} are named: --limit 0 --anew names all")
    if found.resumed:
        first = plural(found.resumed, "object was", "objects were")
        out.line(f"the first {first} looked at by an attempt that broke off")
    counts = [f"{found.checked:,} checked", f"{found.newer:,} stored since {_time(found.since)}"]
    counts.append(f"{found.found:,} of them unannounced")
    if found.not_stored:
        counts.append(f"{found.not_stored:,} without a serial")
    if found.unknown:
        counts.append(f"{found.unknown:,} unknown, as the track was pruned meanwhile")
    if args.enqueue:
        counts.append(f"{found.queued:,} queued")
    out.line(f"{args.agent}: {', '.join(counts)}; {found.seconds:.2f} s")
    if found.queued:
        out.line(f"the next run sends what is queued: livesync agent run {args.agent}")


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
