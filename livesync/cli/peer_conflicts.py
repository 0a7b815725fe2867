"""``livesync peer conflict``: what lost, or could not be applied, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .exitcodes import ExitCode
from .output import encoded, printable
from .session import Session

if TYPE_CHECKING:
    from ..replication.metadata.changes import ConflictLog, ItemChange
    from ..replication.sessions.conflicts import LogEntry
    from ..replication.stores.zodbstore import ZODBDataStore


@contextmanager
def _store(session: Session, read_only: bool = True) -> Iterator[ZODBDataStore]:
    from ..replication.stores.zodbstore import ZODBDataStore

    with session.database(read_only=read_only) as db:
        yield ZODBDataStore(db, create=False)


def list_conflicts(session: Session) -> int:
    """Print conflicts, a line each, newest first."""
    from ..replication.sessions import conflicts

    args, out = session.args, session.out

    def is_asked_for(entry: LogEntry) -> bool:
        return args.item in (None, entry.item_id) and not (args.open and entry.resolved is not None)

    with _store(session) as store:
        found = store.read(
            lambda: [conflicts.log_of(entry) for entry in filter(is_asked_for, conflicts.newest_first(store))]
        )
    shown = found[: args.limit]
    with out.json_list("conflicts", {"total": len(found)}) as add:
        for log in shown:
            out.line(printable(_line(log)))
            add(_as_json(log))
    if not found:
        out.line("there are no conflicts")
    elif len(shown) < len(found):
        out.line(f"and {len(found) - len(shown):,} more")
    return ExitCode.OK


def _line(log: ConflictLog) -> str:
    loser = log.item_change_loser
    what = f"{loser.serialization_result.entity_name} {loser.serialization_result.item_id}"
    reason = f": {log.reason}" if log.reason else ""
    kind = log.conflict_type.value.lower()
    when = f"{log.created_at:%Y-%m-%dT%H:%M:%SZ}"
    return f"{when} {log.id.hex[:8]} {log.status.value.lower()} {kind} {what}{reason}"


def _as_json(log: ConflictLog) -> dict[str, Any]:
    result = log.item_change_loser.serialization_result
    return {
        "id": str(log.id),
        "created_at": log.created_at.isoformat(),
        "resolved_at": None if log.resolved_at is None else log.resolved_at.isoformat(),
        "status": log.status.value,
        "type": log.conflict_type.value,
        "item": result.item_id,
        "entity": result.entity_name,
        "partition": result.partition,
        "reason": log.reason,
        "queries": log.query_ids,
    }


def show(session: Session) -> int:
    """Print all that is kept of one conflict."""
    from ..replication.sessions import conflicts

    out = session.out
    with _store(session) as store:
        log = store.read(lambda: conflicts.log_of(conflicts.find(store, session.args.conflict)))
    sides = {"loser": log.item_change_loser, "winner": log.item_change_winner}
    out.json(
        {
            "conflict": {
                **_as_json(log),
                **{name: _side(change) for name, change in sides.items()},
                "description": log.description,
            }
        }
    )
    for name, value in _facts(log):
        out.line(printable(f"{name + ':':<11}{value}"))
    for name, change in sides.items():
        if change is not None:
            _print_side(session, name, change)
    for line in (log.description or "").splitlines():
        out.line(printable(line))
    return ExitCode.OK


def _facts(log: ConflictLog) -> Iterator[tuple[str, str]]:
    result = log.item_change_loser.serialization_result
    yield "conflict", str(log.id)
    yield "type", log.conflict_type.value.lower()
    yield "status", log.status.value.lower()
    yield "item", result.item_id
    yield "entity", result.entity_name
    yield "partition", result.partition or "(everything)"
    yield "noticed", log.created_at.isoformat(timespec="seconds")
    yield "resolved", "not yet" if log.resolved_at is None else log.resolved_at.isoformat(timespec="seconds")


def _side(change: ItemChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    item = change.change_vector_clock_item
    text = change.serialization_result.serialized_item
    return {
        "provider": item.provider_id,
        "time": item.timestamp.isoformat(),
        "operation": change.operation.value,
        "says": json.loads(text) if text else None,
    }


def _print_side(session: Session, name: str, change: ItemChange) -> None:
    item, text = change.change_vector_clock_item, change.serialization_result.serialized_item
    session.out.line(
        printable(
            f"{name}: {change.operation.value.lower()} by {item.provider_id} at {item.timestamp.isoformat()}"
        )
    )
    if not text:
        session.out.line("  what it said was erased")
        return
    for line in encoded(json.loads(text), indent=2).split("\n"):
        session.out.line(f"  {printable(line)}")


def reinstate(session: Session) -> int:
    """Make the loser of a conflict the item's content again."""
    from ..capture import Capture
    from ..manager import SyncManager
    from ..replication.models.hostexecutor import HostExecutor
    from ..replication.provider import ZODBSyncProvider
    from ..replication.stores.zodbstore import ZODBDataStore

    host, out = session.settings.load_host(), session.out
    with session.database() as db:
        store = ZODBDataStore(db, create=False)
        store.read(lambda: SyncManager.get(_root(store)).check_site(session.settings.site))
        with Capture(host).attached(db):
            provider = ZODBSyncProvider(None, store, changes_executor=HostExecutor(host))
            change = provider.reinstate(session.args.conflict)
    item_id = change.serialization_result.item_id
    out.line(printable(f"item {item_id} says again what had lost; the next session carries it on"))
    out.json({"item": item_id, "change": str(change.id)})
    return ExitCode.OK


def _root(store: ZODBDataStore) -> Any:
    assert store.connection is not None
    return store.connection.root()
