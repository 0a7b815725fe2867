"""``livesync status``: agents, pointers and lag; the track's ends; a check for monitoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..words import plural
from .agents import held_back, shown_state
from .check import check
from .exitcodes import ExitCode
from .output import printable
from .session import Session
from .tables import duration, moment, print_table

if TYPE_CHECKING:
    from ..status import AgentStatus, ManagerStatus

_COLUMNS = ("AGENT", "TYPE", "STATE", "POINTER", "LAG", "BEHIND", "DEAD")


def status(session: Session) -> int:
    """Print where everything stands, or with ``--check`` one line of judgement."""
    args = session.args
    with session.reading() as manager:
        found = manager.status()
    if args.check:
        result = check(found, args.max_lag, args.max_dead)
        session.out.line(printable(result.line))
        told = {"health": result.health.name, "line": result.line}
        session.out.json({"status": dataclasses.asdict(found), "check": told})
        return result.health
    session.out.json({"status": dataclasses.asdict(found)})
    if found.agents:
        print_table(
            session.out, _COLUMNS, map(_row, found.agents), right=("POINTER", "LAG", "BEHIND", "DEAD")
        )
    else:
        session.out.line("there is no agent yet; add one: livesync agent add ID --type TYPE")
    for line in (*_remarks(found), "", *_track(found)):
        session.out.line(printable(line))
    return ExitCode.OK


def _row(agent: AgentStatus) -> tuple[str, ...]:
    pointer = "-" if agent.position is None else str(agent.position)
    return (
        agent.id,
        agent.type_name,
        shown_state(agent),
        pointer,
        f"{agent.lag_actions:,}",
        duration(agent.lag_seconds),
        f"{agent.dead:,}",
    )


def _remarks(status: ManagerStatus) -> Iterator[str]:
    """Yield what has no place in the table, below it."""
    remarks = [
        f"{agent.id}: {kind}: {text}"
        for agent in status.agents
        for kind, text in (
            (agent.state, agent.detail),
            ("last error", agent.last_error),
            ("held", agent.holder),
            ("held back", held_back(agent)),
            ("slow queue", plural(agent.queued, "object") if agent.queued else ""),
        )
        if text
    ]
    if remarks:
        yield ""
        yield from remarks


def _track(status: ManagerStatus) -> Iterator[str]:
    for reader in status.readers:
        yield (
            f"reader:   {reader.id} at {moment(reader.position, status.granularity)}, lag"
            f" {plural(reader.lag_actions, 'action')}, {duration(reader.lag_seconds)}"
        )
    yield f"track:    {plural(status.actions, 'action')} at {plural(status.entries, 'position')}"
    if status.oldest is not None:
        yield f"oldest:   {moment(status.oldest, status.granularity)}"
        yield f"newest:   {moment(status.newest, status.granularity)}"
    yield f"sealed:   {moment(status.sealed, status.granularity)}"
    yield f"waiting:  {plural(status.waiting, 'action')} in the inbox"
    yield f"site:     {status.site or '(no name)'}"
