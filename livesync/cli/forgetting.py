"""``livesync forget``: erase an object from what livesync keeps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..words import plural
from .exitcodes import ExitCode
from .output import printable
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..replication.forgetting import ForgottenItems


def forget(session: Session) -> int:
    """Erase one object from dead letters, queues and texts of errors, two-way sync's logs, and histories."""
    from ..errors import NotInstalled
    from ..upkeep.forget import Forgotten
    from ..upkeep.forget import forget as forgotten

    object_id, out = session.args.object_id, session.out
    histories = _from_histories(session, object_id)
    try:
        gone = session.change_manager(lambda manager: as_usage(lambda: forgotten(manager, object_id)))
    except NotInstalled:
        if histories is None:
            raise
        gone = Forgotten(object_id, 0, 0, 0, ())  # a history needs no manager
    synced = _from_two_way_sync(session, object_id)
    out.line(
        printable(
            f"{object_id}: erased {plural(gone.dead_letters, 'dead letter')},"
            f" {plural(gone.queued, 'time')} in slow queues,"
            f" {plural(gone.texts, 'text of an error', 'texts of errors')}{_named('agents', gone.agents)}"
        )
    )
    if synced is not None:
        out.line(
            printable(
                f"two-way sync: erased in {plural(synced.conflicts, 'conflict')},"
                f" {plural(synced.texts, 'text of an error', 'texts of errors')},"
                f" {plural(synced.transfers, 'waiting transfer')} ended{_named('items', synced.item_ids)}"
            )
        )
    if histories:
        out.line(printable(f"history: erased from all versions of {', '.join(histories)}"))
    out.line("what services hold is as it was; once the application has removed the object, send that with")
    out.line(printable(f"  livesync agent enqueue AGENT {object_id}"))
    out.line("the storage keeps earlier revisions until the database is packed")
    out.json(
        {
            **dataclasses.asdict(gone),
            "two_way": None if synced is None else dataclasses.asdict(synced),
            "histories": list(histories or ()),
        }
    )
    return ExitCode.OK


def _from_two_way_sync(session: Session, object_id: str) -> ForgottenItems | None:
    """Return what two-way sync erased; None where there is none in this database."""
    from ..errors import NotInstalled
    from ..replication.forgetting import forget as forgotten
    from ..replication.provider import ZODBSyncProvider
    from ..replication.stores.zodbstore import ZODBDataStore

    with session.database() as db:
        try:
            store = ZODBDataStore(db, create=False)
        except NotInstalled:
            return None
        return forgotten(ZODBSyncProvider(None, store), object_id)


def _from_histories(session: Session, object_id: str) -> tuple[str, ...] | None:
    """Return the names of the histories that it was erased from; None where there are none at all."""

    def erased(root: Any) -> tuple[str, ...] | None:
        if "livesync.versions" not in root and "livesync.versions.deltas" not in root:
            return None
        from ..versions.upkeep.erasing import forget as forgotten

        return forgotten(root, object_id)

    return session.write(erased)


def _named(what: str, ids: tuple[str, ...]) -> str:
    return f" ({what} {', '.join(ids)})" if ids else ""
