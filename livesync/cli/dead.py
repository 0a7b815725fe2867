"""``livesync dead``: what could not be delivered, and what becomes of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..database import connected
from ..errors import UsageError
from ..words import plural
from .exitcodes import ExitCode
from .exporting import counted, end_of_some
from .output import encoded, printable
from .progress import progress
from .session import Session
from .signals import stopping
from .tables import utc

if TYPE_CHECKING:
    from ..upkeep.dead import DeadLetter


def list_letters(session: Session) -> int:
    """Print dead letters, a line each, newest first."""
    from ..upkeep.dead import list_dead

    args, out = session.args, session.out
    with session.reading() as manager:
        letters, total = list_dead(manager, args.agent, args.limit)
    with out.json_list("dead_letters", {"total": total}) as add:
        for letter in letters:
            out.line(printable(_line(letter)))
            add(_as_json(letter))
    if not total:
        out.line("there are no dead letters")
    elif len(letters) < total:
        out.line(f"and {total - len(letters):,} more")
    return ExitCode.OK


def _line(letter: DeadLetter) -> str:
    tries = plural(letter.attempts, "attempt")
    since = "" if letter.attempts == 1 else f" since {utc(letter.first_time)}"
    what = f"{letter.agent_id} {letter.object_id} {letter.op}"
    return f"{utc(letter.time)} {what}, {tries}{since}: {letter.reason}"


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "agent": letter.agent_id,
        "id": letter.object_id,
        "op": letter.op,
        "position": letter.position,
        "actions": list(letter.actions),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "first_time": letter.first_time,
        "time": letter.time,
        "size": letter.size,
        "digest": letter.digest,
    }


def show(session: Session) -> int:
    """Print all that is kept of one dead letter."""
    from ..upkeep.dead import find_dead

    args, out = session.args, session.out
    with session.reading() as manager:
        letter = find_dead(manager, args.agent, args.object_id)
    document = None if letter.body is None else json.loads(letter.body)
    out.json({"dead_letter": _as_json(letter) | {"document": document}})
    for name, value in _facts(letter):
        out.line(printable(f"{name + ':':<14}{value}"))
    if document is not None:
        for line in encoded(document, indent=2).split("\n"):
            out.line(printable(line))
    return ExitCode.OK


def _facts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "agent", letter.agent_id
    yield "object", letter.object_id
    yield "op", letter.op
    yield "actions", ", ".join(letter.actions) or "none"
    yield "position", str(letter.position)
    yield "attempts", f"{letter.attempts:,}"
    yield "first time", utc(letter.first_time)
    yield "last time", utc(letter.time)
    yield "reason", letter.reason
    if not letter.size:
        yield "document", "none was sent"
    elif letter.body is None:
        yield "document", f"too long to be kept: {plural(letter.size, 'byte')}, digest {letter.digest}"
    else:
        yield "document", f"{plural(letter.size, 'byte')}, digest {letter.digest}:"


def retry(session: Session) -> int:
    """Send the objects of dead letters as they are now."""
    from ..manager import SyncManager
    from ..upkeep.dead import retry_dead

    agent_id, chosen = session.args.agent, _chosen(session.args)
    host = session.settings.load_host()
    with session.database() as db, connected(db) as root, stopping() as stop:
        manager = SyncManager.get(root)
        manager.check_site(session.settings.site)
        count = len(manager.stored(agent_id).dead if chosen is None else chosen)
        with progress(session.out, agent_id) as report:
            result = retry_dead(manager, agent_id, host, chosen, counted(report, count), stop)
        stopped = stop()
    return end_of_some(session, result, count, stopped, {"agent": agent_id})


def discard(session: Session) -> int:
    """Throw dead letters away."""
    from ..upkeep.dead import discard_dead

    args = session.args
    chosen = _chosen(args)
    gone = session.change_manager(lambda manager: discard_dead(manager, args.agent, chosen))
    letters = plural(gone, f"dead letter of agent {args.agent} is", f"dead letters of agent {args.agent} are")
    session.out.line(f"{letters} thrown away")
    session.out.json({"agent": args.agent, "discarded": gone})
    return ExitCode.OK


def _chosen(args: argparse.Namespace) -> list[str] | None:
    """Return the ids of the objects that are named; None for all.

    Raises:
        UsageError: Both are given, or neither.
    """
    if args.all and args.object_ids:
        raise UsageError("name objects or give --all, not both")
    if not args.all and not args.object_ids:
        raise UsageError("of which objects? name their ids, or give --all for all of them")
    return None if args.all else list(dict.fromkeys(args.object_ids))
