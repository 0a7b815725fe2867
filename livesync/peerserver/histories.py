"""The operations of histories: what a collection's is called by, and transfers of versions both ways.

Each request looks at the rights of both ends anew: the partition of a collection's history is
:func:`~livesync.peering.historywire.partition_of` its name.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import msgspec

from ..forms import decode_json
from ..peering import historywire, staging, wire
from ..peering.historywire import HistoryCursor, HistoryTransfer, partition_of
from .historycalls import (
    check_any_right,
    check_places,
    check_right,
    collection_of,
    name_of,
    named,
    outgoing_for,
    own_record,
    pins_of,
    reading,
    record_of,
    root_of,
    running,
    sessions_of,
    told,
)
from .operations import ID, PARAMETERS, Call, Operation
from .problems import Refused
from .transferring import check_new

logger = logging.getLogger(__name__)

#: Seconds after which it is noted again that a transfer goes on.
_NOTED_S: Final = 60.0


def describe(call: Call) -> historywire.History:
    """Tell what a collection's history is called by, to whoever may read or write it."""
    name = named(call.query["collection"])
    check_any_right(call, name)

    def look() -> historywire.History:
        from ..versions.remotes.ends import LocalEnd

        refs = LocalEnd(collection_of(call, name)).refs()
        return historywire.History(
            root=refs.root.hex(),
            branches={
                branch: historywire.HistoryBranch(tip=one.tip.hex(), base=one.base.hex(), total=one.total)
                for branch, one in refs.branches.items()
            },
            tags={tag: version.hex() for tag, version in refs.tags.items()},
        )

    return reading(call, look)


def tell_known(call: Call) -> historywire.KnownVersions:
    """Tell which of some versions are here."""
    asked: historywire.AskVersions = call.body
    name = named(asked.collection)
    check_any_right(call, name)

    def look() -> historywire.KnownVersions:
        from ..versions.remotes.ends import LocalEnd

        known = LocalEnd(collection_of(call, name)).known([bytes.fromhex(one) for one in asked.ids])
        return historywire.KnownVersions(ids=[one for one in asked.ids if bytes.fromhex(one) in known])

    return reading(call, look)


def begin(call: Call) -> HistoryTransfer:
    """Begin to send a history one way; again with the same request nothing more happens."""
    asked: historywire.NewHistoryTransfer = call.body
    name = named(asked.collection)
    check_right(call, asked.direction, name)
    is_sender = asked.direction == "pull"

    def work() -> HistoryTransfer:
        stored = sessions_of(call)
        known = stored.transfers.get(asked.id)
        if known is not None:
            record = record_of(call, asked.id)
            if (record.direction, record.prefixes) != (
                staging.DIRECTIONS[asked.direction],
                (partition_of(name),),
            ):
                raise Refused("ended", "there is another transfer of this id: begin one of another id")
            return told(call, record)
        check_new(call, stored)
        collection = collection_of(call, name)
        if is_sender and not collection.is_tracked:
            raise Refused("no_such_thing", f"there is no history of {name!r} here")
        if not is_sender and not collection.is_tracked:
            check_places(call, [name])
        assert call.session is not None
        record = staging.begin(
            stored,
            asked.id,
            call.session.id,
            asked.direction,
            name,
            pins_of(collection, asked) if is_sender else b"{}",
            call.app.clock(),
            is_sender=is_sender,
        )
        logger.info("session %s: %s of history %r %s", call.session.id, asked.direction, name, asked.id)
        return told(call, record)

    return running(call, work)


def get_transfer(call: Call) -> HistoryTransfer:
    """Tell how far a transfer has come."""
    return running(call, lambda: told(call, own_record(call, call.path["id"])))


def take_chunk(call: Call) -> wire.Confirmed:
    """Take a chunk of a push."""
    from ..versions.remotes.chunks import check_chunk

    chunk: historywire.HistoryChunk = call.body
    check_chunk(chunk.data)

    def work() -> wire.Confirmed:
        stored, record = sessions_of(call), own_record(call, chunk.transfer)
        now = call.app.clock()
        confirmed = staging.take(stored, record, chunk.number, chunk.data, chunk.next, chunk.last, now)
        return wire.Confirmed(confirmed=confirmed)

    return running(call, work)


def read_chunk(call: Call) -> historywire.HistoryChunk:
    """Give a chunk of a pull."""
    from ..versions.remotes.chunks import Place, cut

    transfer_id = call.query["transfer"]
    number = int(call.query["number"])
    try:
        cursor = decode_json(call.query.get("cursor", "{}").encode(), HistoryCursor)
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Refused("bad_request", f"the cursor cannot be understood: {exc}") from exc

    def note() -> None:
        own_record(call, transfer_id).last_active = call.app.clock()

    def is_noted() -> bool:
        record = record_of(call, transfer_id)
        if not record.is_sender or not record.active:
            raise Refused("ended", "this transfer gives no chunks: it has ended, or is a push")
        assert call.session is not None
        is_long_ago = call.app.clock() - record.last_active > _NOTED_S
        return record.sync_session_id == call.session.id and not is_long_ago

    def look() -> historywire.HistoryChunk:
        record = record_of(call, transfer_id)
        contents = collection_of(call, name_of(record)).contents
        chunk = cut(
            contents, outgoing_for(call, record), Place(cursor.part, cursor.after), call.app.chunk_bytes
        )
        root_of(call)._p_jar.cacheMinimize()  # it counts objects, and these may be large
        return historywire.HistoryChunk(
            transfer=transfer_id,
            number=number,
            data=chunk.data,
            next=HistoryCursor(part=chunk.next.part, after=chunk.next.after),
            last=chunk.last,
        )

    if not reading(call, is_noted):
        running(call, note)
    return reading(call, look)


def finish(call: Call) -> HistoryTransfer:
    """End a push: check what came, and keep it, all or nothing, within one transaction."""
    from ..versions.remotes.chunks import joined

    asked: historywire.EndHistoryTransfer = call.body

    def work() -> HistoryTransfer:
        stored, record = sessions_of(call), own_record(call, call.path["id"])
        if record.is_sender:
            raise Refused("ended", "the server sends in this transfer: it takes nothing")
        if staging.is_done(record):
            return told(call, record)
        if not record.active:
            raise Refused("ended", "this transfer was given up: begin a new one")
        if not record.has_last:
            raise Refused("gap", f"the last chunk has not come: {record.confirmed} have")
        collection = collection_of(call, name_of(record))
        parts = joined(staging.chunks(stored, record.id))
        collection.take_pushed(parts, asked.checkout, partial(check_places, call))
        staging.close(stored, record, call.app.clock(), is_done=True)
        return told(call, record)

    done = running(call, work)
    logger.info("push %s of history %r has ended: %d chunks", done.id, done.collection, done.confirmed)
    return done


def end_transfer(call: Call) -> None:
    """End a transfer for good; what has come of a push is dropped."""
    transfer_id = call.path["id"]

    def work() -> None:
        record = own_record(call, transfer_id)
        if record.active:
            staging.close(sessions_of(call), record, call.app.clock(), is_done=record.is_sender)

    running(call, work)
    call.app.packs.forget(transfer_id)


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
