"""Sessions with peers that nobody goes on with: they are ended, and cleaned up after.

What a cut transfer has applied is touched, so that it travels on (``cleaning.py``); buffers that wait are
dropped; the records themselves are kept for a while, for whoever asks what happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...peering.partitions import contained_in_any
from ...peering.records import StoredSessions, SyncSessionView, TransferView
from ..provider import BaseSyncProvider
from ..stores.zodbstore import ZODBDataStore
from .transfers import Transfer

#: Seconds after which a session that nothing was heard of is ended.
EXPIRES_S: Final = 6 * 3600.0

#: Seconds for which the records of ended sessions are kept.
KEEP_S: Final = 30 * 86_400.0

#: So many records of ended sessions are kept, the newest, with those of their transfers: whoever looks at
#: them reads all.
KEEP_MOST: Final = 2_000

#: Records dropped in one transaction.
_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions; every attribute that is not None or empty must fit.

    Attributes:
        ids: Of sync sessions or transfers.
        peer: A provider's id, or what the peer is called.
        direction: ``push`` or ``pull``.
        prefix: The filter lies under it.
    """

    ids: Collection[str] = ()
    peer: str | None = None
    direction: str | None = None
    prefix: str | None = None

    def holds(self, session: SyncSessionView | None, transfer: TransferView | None) -> bool:
        """Tell whether a session, or a transfer of one, is meant."""
        found = {view.id for view in (session, transfer) if view is not None}
        if self.ids and not found & set(self.ids):
            return False
        if self.peer is not None and (
            session is None or self.peer not in (session.peer, session.peer_provider_id)
        ):
            return False
        if self.direction is None and self.prefix is None:
            return True
        return (
            transfer is not None
            and self.direction in (None, transfer.direction)
            and (
                self.prefix is None
                or all(contained_in_any((self.prefix,), prefix) for prefix in transfer.prefixes)
            )
        )


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was done.

    Attributes:
        transfers, sessions: Ended.
        touched: Items.
        forgotten: Records of sessions and transfers that ended long ago.
    """

    transfers: int
    sessions: int
    touched: int
    forgotten: int


def cleanup(
    provider: BaseSyncProvider,
    *,
    expires_s: float = EXPIRES_S,
    keep_s: float = KEEP_S,
    keep_most: int = KEEP_MOST,
    selection: Selection | None = None,
) -> Cleaned:
    """End the sessions of which nothing was heard, clean up after them, and forget old ones.

    A sync session is ended when nothing was heard of it and of its transfers. Safe while others run.

    Args:
        provider: This database's.
        expires_s: After how many seconds.
        keep_s: Records of sessions that ended longer ago are dropped; negative: none is.
        keep_most: Of the others, so many sessions are kept with their transfers, the newest.
        selection: Which sessions; None: all.
    """
    store = provider.data_store
    if not isinstance(store, ZODBDataStore):
        raise TypeError("sessions with peers need a store in a database")
    selection = selection or Selection()
    now = provider.node.clock()
    sessions, transfers = store.read(lambda: _views(store))
    ended = touched = 0
    kept: set[str] = set()
    of: dict[str, list[TransferView]] = {}
    for transfer in transfers:
        of.setdefault(transfer.sync_session_id, []).append(transfer)
        if not transfer.active:
            continue
        stale = transfer.last_active <= now - expires_s
        if not (stale and selection.holds(sessions.get(transfer.sync_session_id), transfer)):
            kept.add(transfer.sync_session_id)
            continue
        touched += Transfer(provider, transfer.id).give_up()
        ended += 1
    idle = [
        view.id
        for view in sessions.values()
        if view.active
        and view.id not in kept
        and view.last_active <= now - expires_s
        and _is_meant(selection, view, of.get(view.id, ()))
    ]
    for session_id in idle:
        store.run(partial(_end, store, session_id, now))
    forgotten = _forget(store, now - keep_s, keep_most) if keep_s >= 0 else 0
    return Cleaned(ended, len(idle), touched, forgotten)


def _views(store: ZODBDataStore) -> tuple[dict[str, SyncSessionView], list[TransferView]]:
    stored = _stored(store)
    if stored is None:
        return {}, []
    return (
        {key: record.view() for key, record in stored.sync.items()},
        [record.view() for record in stored.transfers.values()],
    )


def _stored(store: ZODBDataStore) -> StoredSessions | None:
    connection = store.connection
    assert connection is not None, "within a transaction of the store"
    try:
        return StoredSessions.get(connection.root(), create=False)
    except LookupError:
        return None


def _is_meant(selection: Selection, view: SyncSessionView, own: Iterable[TransferView]) -> bool:
    return selection.holds(view, None) or any(selection.holds(view, transfer) for transfer in own)


def _end(store: ZODBDataStore, session_id: str, now: float) -> None:
    stored = _stored(store)
    record = None if stored is None else stored.sync.get(session_id)
    if record is not None:
        record.active = False
        record.last_active = now


def _forget(store: ZODBDataStore, before: float, most: int) -> int:
    """Drop the records of what ended before, or is not among the newest; return how many there were."""
    sessions, transfers = store.read(lambda: _views(store))
    going_on = {view.sync_session_id for view in transfers if view.active}  # cut, and may be gone on with
    ended = sorted(
        (view for view in sessions.values() if not view.active and view.id not in going_on),
        key=lambda view: -view.last_active,
    )
    old = {view.id for number, view in enumerate(ended) if number >= most or view.last_active <= before}
    done = [
        view.id
        for view in transfers
        if not view.active and (view.last_active <= before or view.sync_session_id in old)
    ]

    def work(name: str, keys: list[str]) -> int:
        stored = _stored(store)
        tree = {} if stored is None else getattr(stored, name)
        found = [key for key in keys if key in tree and not tree[key].active]
        for key in found:
            del tree[key]
        return len(found)

    return sum(
        store.run(partial(work, name, keys[at : at + _AT_ONCE]))
        for name, keys in (("transfers", done), ("sync", sorted(old)))
        for at in range(0, len(keys), _AT_ONCE)
    )


def views(provider: BaseSyncProvider) -> tuple[list[SyncSessionView], list[TransferView]]:
    """Return all sessions and transfers that are kept, the newest first."""
    store = provider.data_store
    if not isinstance(store, ZODBDataStore):
        raise TypeError("sessions with peers need a store in a database")
    return stored_views(store)


def stored_views(store: ZODBDataStore) -> tuple[list[SyncSessionView], list[TransferView]]:
    """Return all sessions and transfers that a store keeps, the newest first."""
    sessions, transfers = store.read(lambda: _views(store))
    return (
        sorted(sessions.values(), key=lambda view: -view.started),
        sorted(transfers, key=lambda view: -view.started),
    )
