"""``livesync peer sync``, ``resume`` and ``cleanup``: sessions with peers, now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import UnknownPeer
from ..words import plural
from .exitcodes import ExitCode, gravest
from .failures import Failure
from .output import printable
from .peer_trust import check_extra, keys_of
from .peers import describe_outcome
from .progress import progress
from .session import Session
from .signals import stopping

if TYPE_CHECKING:
    from ..peering.peers import Peer, SessionOutcome
    from ..peering.records import SyncSessionView, TransferView
    from ..peering.signals import SyncClientSignals, TransferProgress
    from ..replication.network.syncing import PeerSync


class _Bars:
    """Shows a bar for each transfer with a peer."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self._session = session
        self._stack = stack
        self._label = ""
        self._show: Callable[..., None] | None = None

    def name(self, peer: str) -> None:
        """Say with whom the transfers are that follow."""
        self._label = peer

    def connect(self, signals: SyncClientSignals) -> None:
        """Listen to a session."""
        signals.session.started.connect(self._begin)
        signals.transferring.in_progress.connect(self._go_on)
        signals.session.completed.connect(lambda found: self.end())

    def _begin(self, found: TransferProgress) -> None:
        self.end()
        label = f"{'from' if found.direction == 'pull' else 'to'} {self._label}"
        self._show = self._stack.enter_context(progress(self._session.out, label))

    def _go_on(self, found: TransferProgress) -> None:
        if self._show is not None:
            self._show(found.items, found.total, found.resumed)

    def end(self) -> None:
        """Take the bar away."""
        self._stack.close()
        self._show = None


@contextmanager
def _syncing(session: Session) -> Iterator[tuple[PeerSync, _Bars, Any]]:
    """Open the database and give what syncs it, with bars, and the open database."""
    check_extra()
    from ..capture import Capture
    from ..database import connected
    from ..errors import NotInstalled
    from ..manager import SyncManager
    from ..peering.trust import TrustStore
    from ..replication.network.syncing import PeerSync
    from ..replication.opening import open_provider

    host, keys = session.optional_host(), keys_of(session)
    with session.database() as db, ExitStack() as stack:
        with connected(db) as root:
            try:
                SyncManager.get(root).check_site(session.settings.site)
            except NotInstalled:
                if host is not None:
                    raise
        if host is not None:
            stack.enter_context(Capture(host).attached(db))
        provider = open_provider(db, host, create=False)
        bars = _Bars(session, stack.enter_context(ExitStack()))
        stop = stack.enter_context(stopping())
        name = session.settings.site
        syncer = PeerSync(provider, TrustStore(db), keys, name, stop=stop, connect=bars.connect, host=host)
        yield syncer, bars, db


def sync(session: Session) -> int:
    """Sync with peers."""
    from ..peering.peers import PeerRegistry

    args, out = session.args, session.out
    directions = ("pull",) if args.pull_only else ("push",) if args.push_only else ("pull", "push")
    told: list[dict[str, Any]] = []
    codes = []
    with _syncing(session) as (syncer, bars, db):
        registry = PeerRegistry(db)
        peers = [registry.get(name) for name in args.peers] if args.peers else registry.all()
        for peer in peers:
            bars.name(peer.name)
            outcome, failure = _once(session, lambda peer=peer: syncer.run(peer, directions))  # type: ignore[misc]
            bars.end()
            codes.append(_report(session, peer.name, outcome, failure))
            told.append(_as_json(peer, outcome, failure))
            if syncer.stop():
                codes.append(ExitCode.INTERRUPTED)
                break
        _say_untaken(session, syncer)
    if not peers:
        out.line("there are no peers yet: livesync peer add NAME URL --profile PROFILE")
    out.json({"peers": told})
    return gravest(codes)


def _say_untaken(session: Session, syncer: PeerSync) -> None:
    from ..replication.untaken import untaken

    store = syncer.provider.data_store
    count = len(store.read(lambda: untaken(store)))
    if count:
        session.out.note(
            f"livesync: {plural(count, 'object')} of the application cannot be taken, and"
            f" {'does' if count == 1 else 'do'} not travel: `livesync peer status` says why"
        )


def _once(
    session: Session, call: Callable[[], SessionOutcome]
) -> tuple[SessionOutcome | None, Failure | None]:
    """Do one sync: one that fails does not keep the others from theirs."""
    from ..errors import LiveSyncError

    try:
        return call(), None
    except LiveSyncError as exc:
        return None, Failure.of(exc, session.settings.db)


def _report(session: Session, name: str, outcome: SessionOutcome | None, failure: Failure | None) -> ExitCode:
    if failure is not None:
        session.out.note(f"livesync: peer {name}: {failure.message}")
        return failure.code
    assert outcome is not None
    session.out.line(printable(f"{name}: {describe_outcome(outcome)}"))
    return ExitCode.OK


def _as_json(peer: Peer, outcome: SessionOutcome | None, failure: Failure | None) -> dict[str, Any]:
    return {
        "name": peer.name,
        "result": None if outcome is None else asdict(outcome),
        "error": None if failure is None else failure.as_json(),
    }


def resume(session: Session) -> int:
    """Go on with a session that was cut."""
    from ..peering.peers import PeerRegistry
    from ..replication.network.expiring import stored_views

    args, out = session.args, session.out
    with _syncing(session) as (syncer, bars, db):
        found = _cut_session(*stored_views(syncer.provider.data_store), args.session)
        peer = next((each for each in PeerRegistry(db).all() if each.url == found.peer), None)
        if peer is None:
            raise UnknownPeer(f"there is no peer at {found.peer} any more: livesync peer add")
        bars.name(peer.name)
        outcome = syncer.resume(peer, found.id, args.force)
    out.line(printable(f"{peer.name}: {describe_outcome(outcome)}"))
    out.json({"peer": peer.name, "result": asdict(outcome)})
    return ExitCode.OK


def _cut_session(
    sessions: Iterable[SyncSessionView], transfers: Iterable[TransferView], given: str
) -> SyncSessionView:
    """Return the session that is to be gone on with.

    Args:
        sessions, transfers: All that are kept.
        given: Its id or that of one of its transfers, or how one of them begins.

    Raises:
        UnknownPeer: None is meant by that, or several, or one that has ended.
    """
    known = list(transfers)
    named = {each.sync_session_id for each in known if each.id.startswith(given)}
    found = [
        each for each in sessions if not each.is_server and (each.id.startswith(given) or each.id in named)
    ]
    if len(found) != 1 or not given:
        raise UnknownPeer(
            f"{'several sessions' if len(found) > 1 else 'no session that this database has begun'} begin"
            f"{'' if len(found) > 1 else 's'} with {given!r}; `livesync peer sessions` shows those there are"
        )
    (only,) = found
    if not only.active and not any(each.active and each.sync_session_id == only.id for each in known):
        raise UnknownPeer(
            f"session {only.id[:8]} has ended: there is nothing to go on with; `livesync peer sync` begins"
            " another one"
        )
    return only


def cleanup(session: Session) -> int:
    """End the sessions that nobody goes on with."""
    check_extra()
    from ..replication.network.expiring import Selection
    from ..replication.network.expiring import cleanup as clean
    from ..replication.opening import open_provider

    args, out = session.args, session.out
    direction = "pull" if args.pull else "push" if args.push else None
    prefix = "" if args.prefix == ":" else args.prefix
    selection = Selection(frozenset(args.session), args.peer, direction, prefix)
    host = session.optional_host()
    with session.database() as db:
        done = clean(open_provider(db, host, create=False), expires_s=args.older_than, selection=selection)
    out.line(
        f"{plural(done.sessions, 'session')} and {plural(done.transfers, 'transfer')} ended,"
        f" {plural(done.touched, 'item')} touched, {plural(done.forgotten, 'old record')} forgotten"
    )
    out.json(asdict(done))
    return ExitCode.OK
