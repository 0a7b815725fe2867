"""The operations of transfers and buffers."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import msgspec

from ..errors import ChangesRefused, OfferChanged
from ..forms import decode_json
from ..peering import wire
from ..peering.partitions import check_partition
from ..peering.records import StoredSessions, TransferView
from ..peering.stages import Stage, Status
from ..peering.staging import is_of_history
from ..replication.network.transfers import Transfer
from ..replication.network.wired import offer_to_wire
from .operations import ID, PARAMETERS, Call, Operation
from .problems import Refused

logger = logging.getLogger(__name__)

#: Transfers of one session that have not ended, at most.
_MAX_TRANSFERS: Final = 16

#: Seconds after which it is noted again that a transfer goes on.
_NOTED_S: Final = 60.0


def new_transfer(call: Call) -> wire.Transfer:
    """Begin a transfer: both certificates must allow its filter."""
    asked: wire.NewTransfer = call.body
    session, app = call.session, call.app
    assert session is not None
    if not session.peer_provider_id:
        raise Refused("forbidden", "this session was begun without a provider: it is for histories only")
    prefixes = _prefixes(asked.filter)
    _check_filter(call, asked.direction, prefixes)
    known, is_next = app.provider.data_store.read(lambda: (_check_new(call, asked), _is_next(call, asked)))
    is_sender = asked.direction == "pull"
    transfer = Transfer.begin(
        app.provider,
        asked.id,
        session.id,
        asked.direction,
        is_sender=is_sender,
        prefixes=prefixes,
        chunk_size=min(asked.chunk_size, app.chunk_size),
    )
    if is_next:
        transfer.prepare = _take_nothing
    app.controller.proceed_to(Stage.SERIALIZING, transfer)
    if not known:
        logger.info("session %s: %s %s begins", session.id, asked.direction, asked.id)
    if is_sender:
        return transfer.run(lambda: _offered(call, transfer))
    transfer.save()
    return _answer(transfer)


def _offered(call: Call, transfer: Transfer) -> wire.Transfer:
    """Make the offer of a pull, and give all that it is of, where that is asked for and is little."""
    asked: wire.NewTransfer = call.body
    assert call.session is not None
    proceed_to = call.app.controller.proceed_to
    if transfer.view().stage.number > Stage.QUEUING.number:
        return _answer(transfer)
    offer = transfer.make_offer(asked.claims, call.session.peer_provider_id)
    proceed_to(Stage.QUEUING, transfer)
    answer = _answer(transfer)
    is_asked = asked.whole and "whole" in call.app.capabilities
    if not is_asked or offer.total > asked.chunk_size:
        return answer
    buffer = transfer.read(0, None, transfer.view().chunk_size)
    if not buffer.last or not wire.is_little(buffer):
        return answer
    # read from the same snapshot that the offer was made of: it needs no further word
    transfer.note_sent(1, items=len(buffer.items))
    _proceed_as_a_whole(call, transfer, Stage.CLEANUP)
    done = transfer.view()
    return msgspec.structs.replace(
        answer, buffer=buffer, stage=_STAGES[done.stage], status=_STATUSES[done.status]
    )


def _check_filter(call: Call, direction: str, prefixes: tuple[str, ...]) -> None:
    assert call.session is not None
    assert call.rights is not None
    call.app.gate.check_filter(call.session, call.rights, direction, prefixes)


def _prefixes(filter_: list[str]) -> tuple[str, ...]:
    try:
        return tuple(check_partition(prefix) for prefix in filter_)
    except (TypeError, ValueError) as exc:
        raise ChangesRefused(str(exc)) from exc


def _check_new(call: Call, asked: wire.NewTransfer) -> bool:
    """Make sure that a transfer may be begun; tell whether it was before, by the same client."""
    stored = _stored(call)
    known = stored.transfers.get(asked.id)
    if known is not None and not is_of_history(known):
        check_owner(call, stored, known.sync_session_id)
        if known.is_sender and not known.active:
            raise Refused("ended", "this transfer has ended: begin one of another id")
        return True
    if known is not None:
        raise Refused("ended", "there is, or was, another transfer of this id: begin one of another id")
    check_new(call, stored)
    return False


def check_new(call: Call, stored: StoredSessions) -> None:
    """Make sure that the session may begin one more transfer.

    Raises:
        Refused: It has too many.
    """
    assert call.session is not None
    if len(stored.transfers_going_on(call.session.id)) >= _MAX_TRANSFERS:
        raise Refused("forbidden", f"a session has at most {_MAX_TRANSFERS} transfers at once")


def _is_next(call: Call, asked: wire.NewTransfer) -> bool:
    """Tell whether a push follows upon another one, with which it is one: both are parts of one send."""
    if asked.follows is None or asked.direction != "push":
        return False
    assert call.session is not None
    before = _stored(call).transfers.get(asked.follows)
    return (
        before is not None
        and (before.sync_session_id, before.direction) == (call.session.id, "push")
        and not before.active
    )


def _take_nothing() -> None:
    """What the application has changed was taken when the first part of a push began."""


def _stored(call: Call) -> StoredSessions:
    connection = call.app.store.connection
    assert connection is not None, "within a transaction of the store"
    return StoredSessions.get(connection.root())


def check_owner(call: Call, stored: StoredSessions, session_id: str) -> None:
    """Make sure that a session is this one, or was between the same two certificates."""
    session = call.session
    assert session is not None
    if session_id == session.id:
        return
    other = stored.sync.get(session_id)
    if (
        other is None
        or other.client_certificate_id != session.client_certificate_id
        or other.server_certificate_id != session.server_certificate_id
        or other.peer_provider_id != session.peer_provider_id
    ):
        raise Refused("no_such_thing", "there is no such transfer of this client")


def _own(call: Call, transfer_id: str) -> Transfer:
    """Return a transfer of this client; one of an earlier session goes on in this one.

    Raises:
        Refused: There is none, or it is another client's.
    """
    session = call.session
    assert session is not None

    def look() -> bool:
        stored = _stored(call)
        record = stored.transfers.get(transfer_id)
        if record is None or is_of_history(record):
            raise Refused("no_such_thing", "there is no such transfer of this client")
        check_owner(call, stored, record.sync_session_id)
        return bool(record.sync_session_id != session.id)

    def move() -> None:
        if look():
            _stored(call).transfers[transfer_id].sync_session_id = session.id

    if call.app.store.read(look):
        call.app.store.run(move)
    transfer = call.app.transfer(transfer_id)
    view = transfer.view()
    _check_filter(call, view.direction, view.prefixes)
    return transfer


def get_transfer(call: Call) -> wire.Transfer:
    """Tell how far a transfer has come."""
    transfer = _own(call, call.path["id"])
    view = transfer.view()
    is_sending = view.is_sender and view.active and view.has_offer
    if is_sending and not call.app.provider.may_resume(transfer.offer()):
        raise OfferChanged("what the sender holds has changed under this transfer; begin a new one")
    return _answer(transfer)


def drive_transfer(call: Call) -> wire.Transfer:
    """Run a transfer's stages on."""
    asked: wire.Drive = call.body
    session = call.session
    assert session is not None
    transfer = _own(call, call.path["id"])
    view = transfer.view()
    if asked.buffer is not None:
        _take_whole(call, asked, asked.buffer, transfer, view)
    elif asked.offer is not None:
        _check_offer(call, asked.offer, view)
        if view.active:
            transfer.take_offer(asked.offer)
    call.app.apply(lambda: call.app.controller.proceed_to(Stage(asked.stage), transfer))
    transfer.save()
    if asked.stage == "cleanup":
        done = transfer.view()
        logger.info(
            "session %s: %s %s has ended: %d items, %d left out",
            session.id,
            done.direction,
            done.id,
            done.items,
            done.refused,
        )
        call.app.forget_transfer(transfer.transfer_id)
    return _answer(transfer)


def _check_offer(call: Call, offer: wire.Offer, view: TransferView) -> None:
    assert call.session is not None
    if view.is_sender:
        raise Refused("bad_request", "the server sends here: it makes the offer")
    if offer.source != call.session.peer_provider_id:
        raise ChangesRefused("the offer is another provider's than that of this session")


def _take_whole(
    call: Call, asked: wire.Drive, buffer: wire.Buffer, transfer: Transfer, view: TransferView
) -> None:
    """Take an offer with all that it is of, claim it, and end the transfer; again does no harm."""
    offer = asked.offer
    if "whole" not in call.app.capabilities:
        raise Refused("bad_request", "this server does not take a transfer as a whole: see its capabilities")
    if offer is None or asked.stage != "cleanup" or buffer.transfer_session_id != transfer.transfer_id:
        raise Refused("bad_request", "a buffer comes with the offer of its own transfer, and cleanup")
    _check_offer(call, offer, view)
    if not view.active:
        return
    size = call.request.content_length or 0
    proceed_to = partial(_proceed_as_a_whole, call, transfer)
    confirmed = call.app.apply(lambda: transfer.take_whole(offer, buffer, proceed_to, size))
    _tell_refused(transfer, confirmed, buffer)


def _proceed_as_a_whole(call: Call, transfer: Transfer, until: Stage) -> None:
    """Run stages of what is given or taken as a whole.

    Raises:
        Refused: The application lets one wait: nothing of it is done.
    """
    if call.app.controller.proceed_to(until, transfer) is Status.PENDING:
        raise Refused("busy", "the application lets a stage of this transfer wait: come again")


def _tell_refused(transfer: Transfer, confirmed: wire.Confirmed, buffer: wire.Buffer) -> None:
    if confirmed.refused:
        logger.warning(
            "transfer %s: %d items of buffer %d are outside of what the client may write; they were left out",
            transfer.transfer_id,
            len(confirmed.refused),
            buffer.number,
        )


def end_transfer(call: Call) -> None:
    """End a transfer for good; what it has applied is cleaned up after."""
    transfer = _own(call, call.path["id"])
    view = transfer.view()
    if not view.active:
        return
    if view.is_sender:
        transfer.run(transfer.close)
    else:
        transfer.give_up()
    call.app.forget_transfer(transfer.transfer_id)
    logger.info("transfer %s was given up by the client", transfer.transfer_id)


def take_buffer(call: Call) -> wire.Confirmed:
    """Take a buffer of a push."""
    buffer: wire.Buffer = call.body
    transfer = _own(call, buffer.transfer_session_id)
    if transfer.view().is_sender:
        raise Refused("ended", "the server sends in this transfer: it takes no buffers")
    encoding = call.request.headers.get("Content-Encoding", "").strip().lower()
    packed = call.packed if encoding == "zstd" else None
    confirmed = call.app.apply(lambda: transfer.take(buffer, len(call.packed), packed))
    _tell_refused(transfer, confirmed, buffer)
    return confirmed


def read_buffer(call: Call) -> wire.Buffer:
    """Give a buffer of a pull."""
    transfer = _own(call, call.query["transfer_session_id"])
    view = transfer.view()
    if not view.is_sender:
        raise Refused("ended", "the client sends in this transfer: there are no buffers to be had")
    if not view.active:
        raise Refused("ended", "this transfer has ended")
    cursor = call.query.get("cursor")
    try:
        begin = None if cursor is None else decode_json(cursor.encode(), wire.Cursor)
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Refused("bad_request", f"the cursor cannot be understood: {exc}") from exc
    number = int(call.query["number"])

    def read() -> wire.Buffer:
        # once more, in the snapshot that it is read from: what a revocation says that came meanwhile counts
        assert call.session is not None
        assert call.rights is not None
        call.app.gate.check_session(call.session, call.rights)
        return transfer.read(number, begin, view.chunk_size)

    buffer = call.app.store.read(read)
    if view.stage is Stage.QUEUING or call.app.clock() - view.last_active > _NOTED_S:
        transfer.note_sent(max(number - 1, 0))  # the one before may be on its way into the database yet
    return buffer


def _answer(transfer: Transfer) -> wire.Transfer:
    view = transfer.view()
    claims: dict[str, dict[str, int]] = {}
    offer = None
    if view.active:
        if not view.is_sender and view.stage.number <= Stage.QUEUING.number:
            claims = transfer.claims()
        if view.is_sender and view.has_offer:
            offer = offer_to_wire(transfer.offer(), view.total)
    return answer_of(view, transfer.provider.provider_id, claims, offer)


def answer_of(
    view: TransferView,
    provider_id: str,
    claims: dict[str, dict[str, int]],
    offer: wire.Offer | None,
) -> wire.Transfer:
    """Return a transfer as it is told."""
    return wire.Transfer(
        id=view.id,
        direction=_DIRECTIONS[view.direction],
        filter=list(view.prefixes),
        stage=_STAGES[view.stage],
        status=_STATUSES[view.status],
        provider_id=provider_id,
        claims=claims,
        offer=offer,
        confirmed=view.confirmed,
        cursor=None if view.cursor is None else decode_json(view.cursor, wire.Cursor),
        complete=view.has_last,
        items=view.items,
        refused=view.refused,
        error=view.error,
    )


_DIRECTIONS: Final[dict[str, wire.Direction]] = {"push": "push", "pull": "pull"}
_STAGES: Final[dict[Stage, wire.Stage]] = {
    Stage.INITIALIZING: "initializing",
    Stage.SERIALIZING: "serializing",
    Stage.QUEUING: "queuing",
    Stage.TRANSFERRING: "transferring",
    Stage.DEQUEUING: "dequeuing",
    Stage.DESERIALIZING: "deserializing",
    Stage.CLEANUP: "cleanup",
}
_STATUSES: Final[dict[Status, wire.Status]] = {
    Status.PENDING: "pending",
    Status.STARTED: "started",
    Status.COMPLETED: "completed",
    Status.ERRORED: "errored",
}

OPERATIONS: Final = (
    Operation(
        "newTransfer",
        "POST",
        "/transfersessions",
        "Begin to send one way.",
        new_transfer,
        answer=wire.Transfer,
        body=wire.NewTransfer,
        status=201,
        signed=True,
        errors=("scope", "refused", "ended", "forbidden"),
    ),
    Operation(
        "getTransfer",
        "GET",
        "/transfersessions/{id}",
        "Tell how far a transfer has come.",
        get_transfer,
        answer=wire.Transfer,
        signed=True,
        parameters=(ID,),
        errors=("scope", "changed"),
    ),
    Operation(
        "driveTransfer",
        "PATCH",
        "/transfersessions/{id}",
        "Run a transfer's stages on.",
        drive_transfer,
        answer=wire.Transfer,
        body=wire.Drive,
        signed=True,
        parameters=(ID,),
        errors=("scope", "refused", "clock_ahead", "gap", "changed", "ended"),
    ),
    Operation(
        "endTransfer",
        "DELETE",
        "/transfersessions/{id}",
        "End a transfer for good.",
        end_transfer,
        status=204,
        signed=True,
        parameters=(ID,),
        errors=("scope",),
    ),
    Operation(
        "takeBuffer",
        "POST",
        "/buffers",
        "Take a buffer of a push: once this is answered, it is in the database for good.",
        take_buffer,
        answer=wire.Confirmed,
        body=wire.Buffer,
        status=201,
        signed=True,
        errors=("scope", "refused", "clock_ahead", "gap", "ended"),
        max_bytes=wire.MAX_BUFFER_BYTES,
        max_unpacked=wire.MAX_BUFFER_UNPACKED,
    ),
    Operation(
        "readBuffer",
        "GET",
        "/buffers",
        "Give a buffer of a pull.",
        read_buffer,
        answer=wire.Buffer,
        signed=True,
        parameters=PARAMETERS["buffer"],
        errors=("scope", "refused", "ended"),
    ),
)
