"""The operations of histories: what a collection's is called by, and transfers of versions both ways.

Each request looks at the rights of both ends anew: the partition of a collection's history is
:func:`~livesync.peering.historywire.partition_of` its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..errors import ScopeExceeded
from ..forms import decode_json
from ..peering import historywire, staging, wire
from ..peering.historywire import HistoryCursor, HistoryTransfer, partition_of
from ..peering.records import StoredSessions, TransferRecord
from .operations import ID, PARAMETERS, Call, Operation
from .problems import Refused
from .transferring import check_new, check_owner

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.ends import Outgoing

logger = logging.getLogger(__name__)

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

#: What the names of the root's entries begin with that are livesync's own.
_OWN: Final = "livesync"

#: Seconds after which it is noted again that a transfer goes on.
_NOTED_S: Final = 60.0


def describe(call: Call) -> historywire.History:
    """Tell what a collection's history is called by, to whoever may read or write it."""
    name = _named(call.query["collection"])
    _check_any(call, name)

    def look() -> historywire.History:
        from ..versions.ends import LocalEnd

        refs = LocalEnd(_collection(call, name)).refs()
        return historywire.History(
            root=refs.root.hex(),
            branches={
                branch: historywire.HistoryBranch(tip=one.tip.hex(), base=one.base.hex(), total=one.total)
                for branch, one in refs.branches.items()
            },
            tags={tag: version.hex() for tag, version in refs.tags.items()},
        )

    return _reading(call, look)


def tell_known(call: Call) -> historywire.KnownVersions:
    """Tell which of some versions are here."""
    asked: historywire.AskVersions = call.body
    name = _named(asked.collection)
    _check_any(call, name)

    def look() -> historywire.KnownVersions:
        from ..versions.ends import LocalEnd

        known = LocalEnd(_collection(call, name)).known([bytes.fromhex(one) for one in asked.ids])
        return historywire.KnownVersions(ids=[one for one in asked.ids if bytes.fromhex(one) in known])

    return _reading(call, look)


def begin(call: Call) -> HistoryTransfer:
    """Begin to send a history one way; again with the same request nothing more happens."""
    asked: historywire.NewHistoryTransfer = call.body
    name = _named(asked.collection)
    _check(call, asked.direction, name)
    is_sender = asked.direction == "pull"

    def work() -> HistoryTransfer:
        stored = _stored(call)
        known = stored.transfers.get(asked.id)
        if known is not None:
            record = _record(call, asked.id)
            if (record.direction, record.prefixes) != (
                staging.DIRECTIONS[asked.direction],
                (partition_of(name),),
            ):
                raise Refused("ended", "there is another transfer of this id: begin one of another id")
            return _told(call, record)
        check_new(call, stored)
        collection = _collection(call, name)
        if is_sender and not collection.is_tracked:
            raise Refused("no_such_thing", f"there is no history of {name!r} here")
        if not is_sender:
            _check_place(call, collection)
        assert call.session is not None
        record = staging.begin(
            stored,
            asked.id,
            call.session.id,
            asked.direction,
            name,
            _pins(collection, asked) if is_sender else b"{}",
            call.app.clock(),
            is_sender=is_sender,
        )
        logger.info("session %s: %s of history %r %s", call.session.id, asked.direction, name, asked.id)
        return _told(call, record)

    return _running(call, work)


def get_transfer(call: Call) -> HistoryTransfer:
    """Tell how far a transfer has come."""
    return _running(call, lambda: _told(call, _own(call, call.path["id"])))


def take_chunk(call: Call) -> wire.Confirmed:
    """Take a chunk of a push."""
    from ..versions.chunks import check_chunk

    chunk: historywire.HistoryChunk = call.body
    check_chunk(chunk.data)

    def work() -> wire.Confirmed:
        stored, record = _stored(call), _own(call, chunk.transfer)
        now = call.app.clock()
        confirmed = staging.take(stored, record, chunk.number, chunk.data, chunk.next, chunk.last, now)
        return wire.Confirmed(confirmed=confirmed)

    return _running(call, work)


def read_chunk(call: Call) -> historywire.HistoryChunk:
    """Give a chunk of a pull."""
    from ..versions.chunks import Place, cut

    transfer_id = call.query["transfer"]
    number = int(call.query["number"])
    try:
        cursor = decode_json(call.query.get("cursor", "{}").encode(), HistoryCursor)
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Refused("bad_request", f"the cursor cannot be understood: {exc}") from exc

    def note() -> None:
        _own(call, transfer_id).last_active = call.app.clock()

    def is_noted() -> bool:
        record = _record(call, transfer_id)
        if not record.is_sender or not record.active:
            raise Refused("ended", "this transfer gives no chunks: it has ended, or is a push")
        assert call.session is not None
        is_long_ago = call.app.clock() - record.last_active > _NOTED_S
        return record.sync_session_id == call.session.id and not is_long_ago

    def look() -> historywire.HistoryChunk:
        record = _record(call, transfer_id)
        contents = _collection(call, _name_of(record)).contents
        chunk = cut(contents, _outgoing(call, record), Place(cursor.part, cursor.after), call.app.chunk_bytes)
        _root(call)._p_jar.cacheMinimize()  # it counts objects, and these may be large
        return historywire.HistoryChunk(
            transfer=transfer_id,
            number=number,
            data=chunk.data,
            next=HistoryCursor(part=chunk.next.part, after=chunk.next.after),
            last=chunk.last,
        )

    if not _reading(call, is_noted):
        _running(call, note)
    return _reading(call, look)


def finish(call: Call) -> HistoryTransfer:
    """End a push: check what came, and keep it, all or nothing, within one transaction."""
    from ..versions.chunks import joined

    asked: historywire.EndHistoryTransfer = call.body

    def work() -> HistoryTransfer:
        stored, record = _stored(call), _own(call, call.path["id"])
        if record.is_sender:
            raise Refused("ended", "the server sends in this transfer: it takes nothing")
        if staging.is_done(record):
            return _told(call, record)
        if not record.active:
            raise Refused("ended", "this transfer was given up: begin a new one")
        if not record.has_last:
            raise Refused("gap", f"the last chunk has not come: {record.confirmed} have")
        collection = _collection(call, _name_of(record))
        _check_place(call, collection)
        collection.take_pushed(joined(staging.chunks(stored, record.id)), asked.checkout)
        staging.close(stored, record, call.app.clock(), is_done=True)
        return _told(call, record)

    told = _running(call, work)
    logger.info("push %s of history %r has ended: %d chunks", told.id, told.collection, told.confirmed)
    return told


def end_transfer(call: Call) -> None:
    """End a transfer for good; what has come of a push is dropped."""
    transfer_id = call.path["id"]

    def work() -> None:
        record = _own(call, transfer_id)
        if record.active:
            staging.close(_stored(call), record, call.app.clock(), is_done=record.is_sender)

    _running(call, work)
    call.app.packs.forget(transfer_id)


# -- what they share -----------------------------------------------------------------------------------


def _reading(call: Call, work: Callable[[], T]) -> T:
    return call.app.store.read(work)


def _running(call: Call, work: Callable[[], T]) -> T:
    return call.app.store.run(work)


def _root(call: Call) -> Any:
    connection = call.app.store.connection
    assert connection is not None, "within a transaction of the store"
    return connection.root()


def _stored(call: Call) -> StoredSessions:
    return StoredSessions.get(_root(call))


def _named(name: str) -> str:
    from ..versions.names import check_branch_name

    try:
        return check_branch_name(name)
    except ValueError as exc:
        raise Refused("bad_request", str(exc)) from exc


def _collection(call: Call, name: str) -> VersionedCollection:
    from ..versions.collection import VersionedCollection

    return VersionedCollection(_root(call), name, host=call.app.host, clock=call.app.clock)


def _check(call: Call, direction: str, name: str) -> None:
    """Make sure that both certificates allow that a history goes one way.

    Raises:
        ScopeExceeded: They do not.
    """
    assert call.session is not None
    assert call.rights is not None
    call.app.gate.check_filter(call.session, call.rights, direction, (partition_of(name),))


def _check_any(call: Call, name: str) -> None:
    try:
        _check(call, "pull", name)
    except ScopeExceeded:
        _check(call, "push", name)


def _check_place(call: Call, collection: VersionedCollection) -> None:
    """Make sure that a new history takes the place of nothing else that lies in the database's root.

    Raises:
        Refused: It would.
    """
    from ..versions.stored import NotedDocuments

    if collection.is_tracked or call.app.host is not None:
        return
    found = _root(call).get(collection.name)
    if collection.name.startswith(_OWN) or not (found is None or isinstance(found, NotedDocuments)):
        raise Refused("forbidden", f"a history of {collection.name!r} cannot begin here: the name is taken")


def _record(call: Call, transfer_id: str) -> TransferRecord:
    """Return a transfer of this client, which may go on."""
    stored = _stored(call)
    record = staging.find(stored, transfer_id)
    check_owner(call, stored, record.sync_session_id)
    _check(call, "pull" if record.is_sender else "push", _name_of(record))
    return record


def _own(call: Call, transfer_id: str) -> TransferRecord:
    """Return a transfer of this client; one of an earlier session goes on in this one."""
    record = _record(call, transfer_id)
    assert call.session is not None
    if record.sync_session_id != call.session.id:
        record.sync_session_id = call.session.id
    return record


def _name_of(record: TransferRecord) -> str:
    return record.prefixes[0].partition(":")[2]


def _pins(collection: VersionedCollection, asked: historywire.NewHistoryTransfer) -> bytes:
    from ..versions.ends import Asked, Want, pinned

    given = Asked(
        tuple(
            Want(one.branch, tuple((number, bytes.fromhex(mark)) for number, mark in one.marks))
            for one in asked.wants
        ),
        tuple(bytes.fromhex(one) for one in asked.haves),
        tuple(asked.tags),
    )
    return _encode(pinned(collection.contents, given))


def _outgoing(call: Call, record: TransferRecord) -> Outgoing:
    from ..versions.ends import Pinned, outgoing_of

    def make() -> Outgoing:
        pins = decode_json(staging.asked_of(record), Pinned)
        return outgoing_of(_collection(call, _name_of(record)).contents, pins)

    return call.app.packs.of(record.id, make)


def _told(call: Call, record: TransferRecord) -> HistoryTransfer:
    parts = 0
    if record.is_sender and record.active:
        outgoing = _outgoing(call, record)
        parts = len(outgoing.versions) + len(outgoing.names)
    return HistoryTransfer(
        id=record.id,
        direction="pull" if record.is_sender else "push",
        collection=_name_of(record),
        confirmed=record.confirmed,
        complete=record.has_last,
        active=record.active,
        cursor=staging.cursor_of(record),
        parts=parts,
    )


_ERRORS: Final = ("scope", "refused", "rejected", "ended", "changed")

OPERATIONS: Final = (
    Operation(
        "describeHistory",
        "GET",
        "/histories",
        "Tell what a collection's history is called by.",
        describe,
        answer=historywire.History,
        signed=True,
        parameters=PARAMETERS["history"],
        errors=_ERRORS,
    ),
    Operation(
        "tellKnownVersions",
        "POST",
        "/knownversions",
        "Tell which of some versions are here.",
        tell_known,
        answer=historywire.KnownVersions,
        body=historywire.AskVersions,
        signed=True,
        errors=_ERRORS,
    ),
    Operation(
        "newHistoryTransfer",
        "POST",
        "/historytransfers",
        "Begin to send a history one way.",
        begin,
        answer=HistoryTransfer,
        body=historywire.NewHistoryTransfer,
        status=201,
        signed=True,
        errors=(*_ERRORS, "forbidden"),
        max_bytes=4 * wire.MAX_BODY_BYTES,
        max_unpacked=4 * wire.MAX_BODY_UNPACKED,
    ),
    Operation(
        "getHistoryTransfer",
        "GET",
        "/historytransfers/{id}",
        "Tell how far a transfer has come.",
        get_transfer,
        answer=HistoryTransfer,
        signed=True,
        parameters=(ID,),
        errors=_ERRORS,
    ),
    Operation(
        "finishHistoryTransfer",
        "PATCH",
        "/historytransfers/{id}",
        "End a push: what came is checked and kept, all or nothing.",
        finish,
        answer=HistoryTransfer,
        body=historywire.EndHistoryTransfer,
        signed=True,
        parameters=(ID,),
        errors=(*_ERRORS, "gap", "forbidden"),
    ),
    Operation(
        "endHistoryTransfer",
        "DELETE",
        "/historytransfers/{id}",
        "End a transfer for good.",
        end_transfer,
        status=204,
        signed=True,
        parameters=(ID,),
        errors=_ERRORS,
    ),
    Operation(
        "takeHistoryChunk",
        "POST",
        "/historychunks",
        "Take a chunk of a push: once this is answered, it is in the database for good.",
        take_chunk,
        answer=wire.Confirmed,
        body=historywire.HistoryChunk,
        status=201,
        signed=True,
        errors=(*_ERRORS, "gap"),
        max_bytes=3 * wire.MAX_BUFFER_BYTES,
        max_unpacked=wire.MAX_BUFFER_UNPACKED,
    ),
    Operation(
        "readHistoryChunk",
        "GET",
        "/historychunks",
        "Give a chunk of a pull.",
        read_chunk,
        answer=historywire.HistoryChunk,
        signed=True,
        parameters=PARAMETERS["chunk"],
        errors=_ERRORS,
    ),
)
