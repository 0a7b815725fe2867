"""Two-way sync with peers: who is known, how the last sessions went, and conflicts."""

from __future__ import annotations

from typing import Final

from ...errors import NotInstalled
from ...peering.peers import PeerRegistry
from ...peering.records import SyncSessionView, TransferView
from ...replication.network.expiring import stored_views
from ...replication.sessions import conflicts
from ...replication.sessions.conflicts import LogEntry
from ...replication.stores.zodbstore import ZODBDataStore
from ...replication.untaken import untaken
from .. import schemas
from ..context import WebContext
from .shown import shown

#: Sessions and conflicts that are shown.
SHOWN: Final = 50


def get_peers(ctx: WebContext) -> schemas.Peers:
    """Return what there is of two-way sync: nothing but empty lists where the database takes no part."""
    ctx.check_database()
    try:
        store = ZODBDataStore(ctx.db, create=False)
    except NotInstalled:
        return schemas.Peers(provider=None, peers=[], sessions=[], conflicts=[], open_conflicts=0, untaken=[])
    registry = PeerRegistry(ctx.db)
    sessions, transfers = stored_views(store)
    peers = [
        shown(
            schemas.Peer,
            peer,
            push=None if peer.push is None else list(peer.push),
            pull=None if peer.pull is None else list(peer.pull),
            outcomes=[shown(schemas.PeerOutcome, each) for each in registry.outcomes(peer.name)],
        )
        for peer in registry.all()
    ]
    found, open_ = store.read(lambda: _conflicts(store))
    left = store.read(lambda: untaken(store))
    return schemas.Peers(
        provider=store.read(lambda: store.provider_id),
        peers=peers,
        sessions=[_session(view, transfers, peers) for view in sessions[:SHOWN]],
        conflicts=found,
        open_conflicts=open_,
        untaken=[schemas.UntakenObject(object=key, reason=reason) for key, reason in left.items()],
    )


def _session(
    view: SyncSessionView, transfers: list[TransferView], peers: list[schemas.Peer]
) -> schemas.PeerSession:
    known = [] if view.is_server else [peer for peer in peers if peer.url == view.peer]
    outcome = next(
        (each for peer in known for each in peer.outcomes if each.session_id == view.id),
        None,
    )
    return shown(
        schemas.PeerSession,
        view,
        served=view.is_server,
        name=", ".join(peer.name for peer in known),
        error="" if outcome is None else outcome.error,
        peer_provider=view.peer_provider_id,
        transfers=[
            shown(
                schemas.PeerTransfer,
                each,
                sends=each.is_sender,
                filter=list(each.prefixes),
                stage=each.stage.value,
                status=each.status.value,
                total=each.total or None,
            )
            for each in transfers
            if each.sync_session_id == view.id
        ],
    )


def _conflicts(store: ZODBDataStore) -> tuple[list[schemas.PeerConflict], int]:
    """Return the newest conflicts, and how many are open, within a transaction of the store."""
    found: list[schemas.PeerConflict] = []
    open_ = 0
    for entry in conflicts.newest_first(store):
        open_ += entry.resolved is None
        if len(found) < SHOWN:
            found.append(_conflict(entry))
    return found, open_


def _conflict(entry: LogEntry) -> schemas.PeerConflict:
    log = conflicts.log_of(entry)
    result = log.item_change_loser.serialization_result
    return schemas.PeerConflict(
        id=str(log.id),
        created=log.created_at.timestamp(),
        resolved=None if log.resolved_at is None else log.resolved_at.timestamp(),
        kind=log.conflict_type.value.lower(),
        entity=result.entity_name,
        item=result.item_id,
        partition=result.partition,
        reason=log.reason or "",
    )
