"""``livesync forget``: erase an object from what livesync keeps."""

from __future__ import annotations

import dataclasses

from .exitcodes import ExitCode
from .output import printable
from .session import Session, as_usage


def forget(session: Session) -> int:
    """Erase one object from dead letters, slow queues and the texts of errors, of all agents."""
    from ..upkeep.forget import forget as forgotten

    object_id, out = session.args.object_id, session.out
    gone = session.change_manager(lambda manager: as_usage(lambda: forgotten(manager, object_id)))
    out.line(
        printable(
            f"{object_id}: erased {gone.dead_letters} dead letters, {gone.queued} times in slow queues,"
            f" {gone.texts} texts of errors{_of(gone.agents)}"
        )
    )
    out.line("what services hold is as it was; once the application has removed the object, send that with")
    out.line(printable(f"  livesync agent enqueue AGENT {object_id}"))
    out.line("the storage keeps earlier revisions until the database is packed")
    out.json(dataclasses.asdict(gone))
    return ExitCode.OK


def _of(agents: tuple[str, ...]) -> str:
    return f" (agents {', '.join(agents)})" if agents else ""
