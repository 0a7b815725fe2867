"""The operations of sync sessions."""

from __future__ import annotations

import logging
from typing import Final

from ..errors import ClockAhead
from ..peering import wire
from ..peering.records import StoredSessions, SyncSessionRecord, SyncSessionView
from ..replication.metadata.clocks import moment_of
from ..replication.network.wired import introduction_of, introduction_to_wire
from ..replication.sessions.steps import Introduction
from .operations import ID, Call, Operation
from .problems import Refused
from .sequence import BLOCK

logger = logging.getLogger(__name__)

#: Sessions of one certificate that have not ended, at most; the oldest ones are ended.
_MAX_SESSIONS: Final = 50

#: Seconds for which one certificate cannot make this server take a new provider id again.
_RENAMED_S: Final = 86_400


def begin_session(call: Call) -> wire.SyncSession:
    """Begin a session: the gate has verified the client's chain and the request's signature."""
    asked: wire.NewSyncSession = call.body
    app = call.app
    known = app.store.read(lambda: _known(call, asked))
    if known is None:
        renamed = asked.introduction is not None and _meet(call, asked, introduction_of(asked.introduction))
        known = app.store.run(lambda: _make(call, asked, not renamed), note="a session with a peer begins")
        logger.info(
            "session %s: certificate %s of profile %r begins, provider %s",
            known.id,
            known.client_certificate_id,
            known.profile,
            known.peer_provider_id,
        )
    return _answer(call, known, asked)


def _meet(call: Call, asked: wire.NewSyncSession, introduction: Introduction) -> bool:
    """Compare what both know of one another; tell whether this server took a new id."""
    _check_introduction(call, introduction)
    renamed = call.app.provider.would_rename(introduction)
    if renamed:
        _be_renamed(call, asked, introduction)
    return renamed


def _known(call: Call, asked: wire.NewSyncSession) -> SyncSessionView | None:
    """Return the session where the same request began it before.

    Raises:
        Refused: Another request did, or it has ended.
    """
    record = _stored(call).sync.get(asked.id)
    if record is None:
        return None
    view: SyncSessionView = record.view()
    if not view.active or not view.is_server or view.request != call.digest:
        raise Refused("ended", "there is, or was, another session of this id: begin one of another id")
    return view


def _stored(call: Call) -> StoredSessions:
    connection = call.app.store.connection
    assert connection is not None, "within a transaction of the store"
    return StoredSessions.get(connection.root())


def _check_introduction(call: Call, other: Introduction) -> None:
    """Believe nothing impossible of what the other one says of itself, and knows."""
    provider = call.app.provider
    node = provider.node
    if other.provider_id == provider.provider_id:
        raise Refused("copy", "the client calls itself as this server does: it is a copy, and takes a new id")
    latest = node.now() + round(node.max_drift_s * 1_000_000)
    for stamp in (other.newest, *other.known.values()):
        if stamp > latest:
            moment = moment_of(stamp).isoformat(timespec="seconds")
            raise ClockAhead(
                f"the client speaks of {moment}, too far in the future; set the clocks of both nodes, and"
                " sync again"
            )


def _be_renamed(call: Call, asked: wire.NewSyncSession, other: Introduction) -> None:
    """Take a new provider id, since the other one knows more of this one than itself: it was restored.

    That somebody lies cannot be told from that, and it costs a walk through what was written here: so nobody
    can bring it about again and again.
    """
    app, rights = call.app, call.rights
    assert rights is not None
    now, before = app.clock(), app.renamed.get(rights.certificate_id)
    if before is not None and now - before < _RENAMED_S:
        raise Refused(
            "forbidden",
            "this client has made the server take a new id less than a day ago: not again so soon",
        )
    app.store.run(lambda: app.gate.trust().use_nonce(asked.nonce, rights.certificate_id, now))
    app.renamed[rights.certificate_id] = now
    logger.warning("provider %s knows more of this one than itself: it takes a new id", other.provider_id)
    app.provider.meet(other)


def _make(call: Call, asked: wire.NewSyncSession, with_nonce: bool) -> SyncSessionView:
    """Use the nonce up, unless it was before, and make the record, within one transaction."""
    app, rights = call.app, call.rights
    assert rights is not None
    if with_nonce:
        app.gate.trust().use_nonce(asked.nonce, rights.certificate_id, app.clock())
    stored = _stored(call)
    record = SyncSessionRecord(
        asked.id,
        is_server=True,
        profile=asked.profile,
        client_certificate_id=rights.certificate_id,
        server_certificate_id=asked.server_certificate_id,
        started=app.clock(),
        peer=asked.client_name,
        # "": it is for histories only, and no provider is met
        peer_provider_id="" if asked.introduction is None else asked.introduction.provider_id,
        request=call.digest,
    )
    record.client_chain = tuple((each.text, each.signature) for each in asked.client_chain)
    record.sequence = int(call.request.headers[wire.SEQUENCE]) + BLOCK
    stored.add_sync(record)
    going_on = sorted(
        (
            found
            for found in stored.sessions_going_on()
            if found.client_certificate_id == record.client_certificate_id
        ),
        key=lambda found: found.last_active,
    )
    for old in going_on[:-_MAX_SESSIONS]:
        old.active = False
    return record.view()


def _answer(call: Call, view: SyncSessionView, asked: wire.NewSyncSession | None) -> wire.SyncSession:
    app = call.app
    past = [] if asked is None or asked.introduction is None else asked.introduction.past
    chain = [certificate.signed for certificate in app.gate.own(view.server_certificate_id).chain]
    introduction = app.provider.introduce()
    return wire.SyncSession(
        id=view.id,
        profile=view.profile,
        client_certificate_id=view.client_certificate_id,
        server_certificate_id=view.server_certificate_id,
        server_chain=chain,
        introduction=(
            introduction_to_wire(introduction, view.peer_provider_id, past) if view.peer_provider_id else None
        ),
        revocations=app.store.read(lambda: app.gate.pending(view.profile, asked)),
        started=view.started,
        last_active=view.last_active,
        active=view.active,
        transfers=app.store.read(lambda: [record.id for record in _stored(call).transfers_going_on(view.id)]),
    )


def get_session(call: Call) -> wire.SyncSession:
    """Tell how a session stands."""
    return _answer(call, _own(call), None)


def end_session(call: Call) -> None:
    """End a session; its transfers may go on in another one, until they are cleaned up."""
    view = _own(call)

    def work() -> None:
        stored = _stored(call)
        stored.end_sync(stored.sync[view.id], call.app.clock())

    call.app.store.run(work)
    logger.info("session %s has ended", view.id)


def _own(call: Call) -> SyncSessionView:
    session = call.session
    assert session is not None
    if call.path["id"] != session.id:
        raise Refused("no_such_thing", "the request is signed for another session than it speaks of")
    return session


OPERATIONS: Final = (
    Operation(
        "beginSession",
        "POST",
        "/syncsessions",
        "Begin a session: revocations are exchanged, and both meet.",
        begin_session,
        answer=wire.SyncSession,
        body=wire.NewSyncSession,
        status=201,
        begins=True,
        errors=(
            "certificate",
            "expired",
            "revoked",
            "profile",
            "nonce",
            "ended",
            "copy",
            "refused",
            "forbidden",
            "clock_ahead",
        ),
        max_bytes=4 * wire.MAX_BODY_BYTES,
        max_unpacked=4 * wire.MAX_BODY_UNPACKED,
    ),
    Operation(
        "getSession",
        "GET",
        "/syncsessions/{id}",
        "Tell how a session stands.",
        get_session,
        answer=wire.SyncSession,
        signed=True,
        parameters=(ID,),
    ),
    Operation(
        "endSession",
        "DELETE",
        "/syncsessions/{id}",
        "End a session; its transfers may go on in another one.",
        end_session,
        status=204,
        signed=True,
        parameters=(ID,),
    ),
)
