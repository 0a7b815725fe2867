"""What the operations of histories share: rights, names, the collection, and the client's own transfers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..errors import ScopeExceeded
from ..forms import decode_json
from ..peering import historywire, staging
from ..peering.historywire import HistoryTransfer, partition_of
from ..peering.records import StoredSessions, TransferRecord
from .operations import Call
from .problems import Refused
from .transferring import check_owner

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.remotes.ends import Outgoing

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

#: What the names of the root's entries begin with that are livesync's own.
_OWN: Final = "livesync"


def reading(call: Call, work: Callable[[], T]) -> T:
    """Carry out work on a snapshot."""
    return call.app.store.read(work)


def running(call: Call, work: Callable[[], T]) -> T:
    """Carry out work in a transaction."""
    return call.app.store.run(work)


def root_of(call: Call) -> Any:
    """Return the database's root, within a transaction."""
    connection = call.app.store.connection
    assert connection is not None, "within a transaction of the store"
    return connection.root()


def sessions_of(call: Call) -> StoredSessions:
    """Return what the database keeps of sessions, within a transaction."""
    return StoredSessions.get(root_of(call))


def named(name: str) -> str:
    """Return the name of a collection.

    Raises:
        Refused: It is none.
    """
    from ..versions.names import check_name

    try:
        return check_name(name)
    except ValueError as exc:
        raise Refused("bad_request", str(exc)) from exc


def collection_of(call: Call, name: str) -> VersionedCollection:
    """Return a collection, within a transaction."""
    from ..versions.collection import VersionedCollection

    return VersionedCollection(root_of(call), name, host=call.app.host, clock=call.app.clock)


def check_right(call: Call, direction: str, name: str) -> None:
    """Make sure that both certificates allow that a history goes one way.

    Raises:
        ScopeExceeded: They do not.
    """
    assert call.session is not None
    assert call.rights is not None
    call.app.gate.check_filter(call.session, call.rights, direction, (partition_of(name),))


def check_any_right(call: Call, name: str) -> None:
    """Make sure that both certificates allow that a history goes one way or the other.

    Raises:
        ScopeExceeded: They allow neither.
    """
    try:
        check_right(call, "pull", name)
    except ScopeExceeded:
        check_right(call, "push", name)


def check_places(call: Call, names: Iterable[str]) -> None:
    """Make sure that a new history takes the place of nothing else that lies in the database's root.

    Args:
        call: The request.
        names: Of the mappings that its documents are to lie in, where they are not an application's.

    Raises:
        Refused: It would.
    """
    from ..versions.stored import NotedDocuments

    if call.app.host is not None:
        return
    for name in names:
        found = root_of(call).get(name)
        if name.startswith(_OWN) or not (found is None or isinstance(found, NotedDocuments)):
            raise Refused("forbidden", f"a history of {name!r} cannot begin here: the name is taken")


def record_of(call: Call, transfer_id: str) -> TransferRecord:
    """Return a transfer of this client, which may go on."""
    stored = sessions_of(call)
    record = staging.find(stored, transfer_id)
    check_owner(call, stored, record.sync_session_id)
    check_right(call, "pull" if record.is_sender else "push", name_of(record))
    return record


def own_record(call: Call, transfer_id: str) -> TransferRecord:
    """Return a transfer of this client; one of an earlier session goes on in this one."""
    record = record_of(call, transfer_id)
    assert call.session is not None
    if record.sync_session_id != call.session.id:
        record.sync_session_id = call.session.id
    return record


def name_of(record: TransferRecord) -> str:
    """Return the name of the collection that a transfer is of."""
    return record.prefixes[0].partition(":")[2]


def pins_of(collection: VersionedCollection, asked: historywire.NewHistoryTransfer) -> bytes:
    """Return what is sent to a client that asks, as it is kept."""
    from ..versions.remotes.ends import Asked, Want, pinned

    given = Asked(
        tuple(
            Want(one.branch, tuple((number, bytes.fromhex(mark)) for number, mark in one.marks))
            for one in asked.wants
        ),
        tuple(bytes.fromhex(one) for one in asked.haves),
        tuple(asked.tags),
    )
    return _encode(pinned(collection.contents, given))


def outgoing_for(call: Call, record: TransferRecord) -> Outgoing:
    """Return what a transfer sends, within a transaction."""
    from ..versions.remotes.ends import Pinned, outgoing_of

    def make() -> Outgoing:
        pins = decode_json(staging.asked_of(record), Pinned)
        return outgoing_of(collection_of(call, name_of(record)).contents, pins)

    return call.app.packs.of(record.id, make)


def told(call: Call, record: TransferRecord) -> HistoryTransfer:
    """Return a transfer as it is told."""
    parts = 0
    if record.is_sender and record.active:
        outgoing = outgoing_for(call, record)
        parts = len(outgoing.versions) + len(outgoing.names)
    return HistoryTransfer(
        id=record.id,
        direction="pull" if record.is_sender else "push",
        collection=name_of(record),
        confirmed=record.confirmed,
        complete=record.has_last,
        active=record.active,
        cursor=staging.cursor_of(record),
        parts=parts,
    )
