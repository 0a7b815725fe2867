"""``livesync peer add``, ``list``, ``remove``, ``status``, ``sessions``: who is known, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..errors import LiveSyncError
from ..words import plural
from .exitcodes import ExitCode, gravest
from .failures import Failure
from .output import printable
from .peer_trust import ca_file_of, check_extra, keys_of
from .session import Session
from .tables import print_table, utc

if TYPE_CHECKING:
    from ..peering.peers import Peer, SessionOutcome
    from ..peering.records import SyncSessionView, TransferView

#: What a filter that sends nothing is shown as.
_NOTHING = "nothing"


def add(session: Session) -> int:
    """Keep a new peer."""
    check_extra()
    from ..peering.peers import Peer, PeerRegistry
    from ..peering.trust import TrustStore

    args, out = session.args, session.out
    peer = Peer(
        name=args.name,
        url=args.url,
        profile=args.profile,
        server_certificate_id=args.server_certificate or "",
        push=_given(args.push, args.no_push),
        pull=_given(args.pull, args.no_pull),
        insecure_http=args.insecure_http,
        ca_file=ca_file_of(session) or "",
    ).checked()
    with session.database() as db:
        trust = TrustStore(db)
        if args.certificate is not None:
            found = trust.read(lambda at: at.find(args.certificate))
            peer = replace(peer, certificate_id=found.id)
        peer = PeerRegistry(db).add(peer)
    out.line(printable(f"peer {peer.name} is {peer.url}; sync with it: livesync peer sync {peer.name}"))
    out.json({"peer": _as_json(peer)})
    return ExitCode.OK


def _given(prefixes: list[str] | None, nothing: bool) -> tuple[str, ...] | None:
    if nothing:
        return ()
    return None if prefixes is None else tuple("" if prefix == ":" else prefix for prefix in prefixes)


def remove(session: Session) -> int:
    """Forget a peer."""
    from ..peering.peers import PeerRegistry

    with session.database() as db:
        PeerRegistry(db).remove(session.args.name)
    session.out.line(printable(f"peer {session.args.name} is forgotten"))
    session.out.json({"removed": session.args.name})
    return ExitCode.OK


def list_peers(session: Session) -> int:
    """Print the peers."""
    from ..peering.peers import PeerRegistry

    out = session.out
    with session.database(read_only=True) as db:
        registry = PeerRegistry(db)
        found = [(peer, registry.outcomes(peer.name)) for peer in registry.all()]
    out.json(
        {
            "peers": [
                {**_as_json(peer), "last": asdict(outcomes[0]) if outcomes else None}
                for peer, outcomes in found
            ]
        }
    )
    rows = [
        (peer.name, peer.profile, peer.url, *_last(outcomes[0] if outcomes else None))
        for peer, outcomes in found
    ]
    if rows:
        print_table(out, ("NAME", "PROFILE", "URL", "LAST", "RESULT"), rows)
    else:
        out.line("there are no peers yet: livesync peer add NAME URL --profile PROFILE")
    return ExitCode.OK


def _last(outcome: SessionOutcome | None) -> tuple[str, str]:
    return ("never", "-") if outcome is None else (utc(outcome.ended), describe_outcome(outcome))


def describe_outcome(outcome: SessionOutcome) -> str:
    """Return what came of a session, in one line."""
    counts = [f"{outcome.pulled:,} received", f"{outcome.pushed:,} sent"]
    if outcome.refused:
        counts.append(f"{outcome.refused:,} left out: they may not be written")
    if outcome.conflicts:
        counts.append(plural(outcome.conflicts, "conflict"))
    if outcome.resumed:
        counts.append("one that was cut went on")
    if outcome.error:
        return f"failed: {outcome.error}"
    return f"{', '.join(counts)}; {plural(outcome.bytes_received, 'byte')} in, {outcome.bytes_sent:,} out"


def _as_json(peer: Peer) -> dict[str, Any]:
    return asdict(peer)


def status(session: Session) -> int:
    """Print how syncing stands with each peer."""
    check_extra()
    from ..peering.peers import PeerRegistry
    from ..replication.network.expiring import stored_views
    from ..replication.sessions.journal import differing
    from ..replication.stores.zodbstore import ZODBDataStore
    from ..replication.untaken import untaken

    args, out = session.args, session.out
    failures: list[Failure] = []
    with session.database(read_only=True) as db:
        store = ZODBDataStore(db, create=False)
        registry = PeerRegistry(db)
        peers = [registry.get(name) for name in args.peers] if args.peers else registry.all()
        sessions, transfers = stored_views(store)
        cut = {peer.name: _cut(peer, sessions, transfers) for peer in peers}
        differences = differing(store)
        differ = {peer.name: _differ(peer, sessions, transfers, differences) for peer in peers}
        outcomes = {peer.name: registry.outcomes(peer.name) for peer in peers}
        told: dict[str, Any] = {}
        for peer in peers if args.ask else ():
            found = _asked(session, db, peer)
            if isinstance(found, Failure):
                failures.append(found)
            told[peer.name] = found
        provider_id, left = store.read(lambda: (store.provider_id, untaken(store)))
    out.line(printable(f"this database is provider {provider_id}"))
    for object_id, reason in left.items():
        out.line(printable(f"object {object_id} cannot be taken, and does not travel: {reason}"))
    for peer in peers:
        _print_status(
            session, peer, outcomes[peer.name], cut[peer.name], differ[peer.name], told.get(peer.name)
        )
    if not peers:
        out.line("there are no peers yet: livesync peer add NAME URL --profile PROFILE")
    out.json(
        {
            "provider": provider_id,
            "untaken": [{"object": key, "reason": reason} for key, reason in left.items()],
            "peers": [
                {
                    **_as_json(peer),
                    "outcomes": [asdict(each) for each in outcomes[peer.name]],
                    "cut": [_transfer_as_json(each, differences) for each in cut[peer.name]],
                    "differences": list(differ[peer.name]),
                    "answer": _answer_as_json(told.get(peer.name)),
                }
                for peer in peers
            ],
        }
    )
    return gravest([failure.code for failure in failures])


def _cut(peer: Peer, sessions: list[SyncSessionView], transfers: list[TransferView]) -> list[TransferView]:
    """Return the transfers with a peer that can be gone on with."""
    own = {view.id for view in sessions if not view.is_server and view.peer == peer.url}
    return [view for view in transfers if view.active and view.sync_session_id in own]


def _differ(
    peer: Peer,
    sessions: list[SyncSessionView],
    transfers: list[TransferView],
    differences: Mapping[str, Sequence[str]],
) -> Sequence[str]:
    """Return where both held other things after the newest transfer that a peer's server sent to the end."""
    own = {view.id for view in sessions if not view.is_server and view.peer == peer.url}
    received = [
        view
        for view in transfers
        if view.sync_session_id in own and not (view.is_sender or view.active or view.error)
    ]
    newest = max(received, key=lambda view: view.started, default=None)
    return () if newest is None else differences.get(newest.id, ())


def _describe_differences(prefixes: Sequence[str]) -> str:
    where = ", ".join(prefix or "everything" for prefix in prefixes)
    return f"not the same at both ends, though both claim it: {where}; the next sessions mend it"


def _asked(session: Session, db: Any, peer: Peer) -> Any:
    """Return what a peer says of itself, or why it says nothing."""
    from ..peering.connection import PeerConnection
    from ..peering.retrying import Retries
    from ..peering.trust import TrustStore

    connection = PeerConnection(
        peer.url,
        TrustStore(db),
        keys_of(session),
        retries=Retries(most=1),
        timeout_s=10.0,
        ca_file=peer.ca_file or None,
        insecure_http=peer.insecure_http,
    )
    try:
        with closing(connection):
            return connection.server_info
    except LiveSyncError as exc:
        return Failure.of(exc, session.settings.db)


def _print_status(
    session: Session,
    peer: Peer,
    outcomes: list[SessionOutcome],
    cut: list[TransferView],
    differ: Sequence[str],
    told: Any,
) -> None:
    out = session.out
    when, what = _last(outcomes[0] if outcomes else None)
    out.line(printable(f"{peer.name}: {peer.url}"))
    out.line(printable(f"  {'last:':<9}{when}{'' if what == '-' else f', {what}'}"))
    good = next((each for each in outcomes if not each.error), None)
    if good is not None and good is not outcomes[0]:
        out.line(printable(f"  {'well:':<9}{utc(good.ended)}, {describe_outcome(good)}"))
    for view in cut:
        out.line(printable(f"  {'cut:':<9}{_describe_transfer(view)}"))
    if differ:
        out.line(printable(f"  {'differs:':<9}{_describe_differences(differ)}"))
    if isinstance(told, Failure):
        out.line(printable(f"  {'answers:':<9}no: {told.message}"))
    elif told is not None:
        out.line(
            printable(
                f"  {'answers:':<9}{told.name or 'no name'}, livesync {told.version}, {told.provider_id}"
            )
        )


def _answer_as_json(told: Any) -> Any:
    import msgspec

    if told is None or isinstance(told, Failure):
        return None if told is None else {"error": told.as_json()}
    return msgspec.to_builtins(told)


def sessions(session: Session) -> int:
    """Print sessions, each with its transfers, the newest first."""
    check_extra()
    from ..replication.network.expiring import stored_views
    from ..replication.sessions.journal import differing
    from ..replication.stores.zodbstore import ZODBDataStore

    args, out = session.args, session.out
    with session.database(read_only=True) as db:
        store = ZODBDataStore(db, create=False)
        found, transfers = stored_views(store)
        differences = differing(store)
    if args.active:
        going_on = {view.sync_session_id for view in transfers if view.active}
        found = [view for view in found if view.active or view.id in going_on]
    shown = found[: args.limit]
    with out.json_list("sessions", {"total": len(found)}) as add_json:
        for view in shown:
            own = [each for each in transfers if each.sync_session_id == view.id]
            role = "served" if view.is_server else "begun"
            state = "goes on" if view.active else "ended"
            out.line(
                printable(
                    f"{utc(view.started)} {view.id[:8]} {role}, {state}: {view.peer or view.peer_provider_id}"
                )
            )
            for each in own:
                out.line(printable(f"  {_describe_transfer(each)}"))
                if each.id in differences:
                    out.line(printable(f"    {_describe_differences(differences[each.id])}"))
            add_json(
                {
                    "id": view.id,
                    "role": role,
                    "peer": view.peer,
                    "peer_provider": view.peer_provider_id,
                    "profile": view.profile,
                    "started": view.started,
                    "last_active": view.last_active,
                    "active": view.active,
                    "transfers": [_transfer_as_json(each, differences) for each in own],
                }
            )
    if not found:
        out.line("there are no sessions")
    elif len(shown) < len(found):
        out.line(f"and {len(found) - len(shown):,} more")
    return ExitCode.OK


def _describe_transfer(view: TransferView) -> str:
    what = "sends" if view.is_sender else "receives"
    where = " ".join(prefix or ":" for prefix in view.prefixes)
    state = f"{view.stage.value} ({view.status.value})" if view.active else "ended"
    items = plural(view.items, "item")
    if view.active and view.total:
        items = f"{view.items:,} of {plural(view.total, 'item')}"
    parts = [f"{view.id[:8]} {what} {where}: {state}, {items} in {plural(view.confirmed, 'buffer')}"]
    if view.refused:
        parts.append(f"{view.refused:,} left out")
    if view.error:
        parts.append(view.error)
    return ", ".join(parts)


def _transfer_as_json(view: TransferView, differences: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "id": view.id,
        "session": view.sync_session_id,
        "direction": view.direction,
        "sends": view.is_sender,
        "filter": list(view.prefixes),
        "stage": view.stage.value,
        "status": view.status.value,
        "active": view.active,
        "items": view.items,
        "total": view.total or None,
        "buffers": view.confirmed,
        "refused": view.refused,
        "bytes_sent": view.bytes_sent,
        "bytes_received": view.bytes_received,
        "error": view.error,
        "differences": list(differences.get(view.id, ())),
        "started": view.started,
        "last_active": view.last_active,
    }
