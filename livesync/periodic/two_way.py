"""The periodic task of a database that syncs both ways: what sessions leave to be done between them."""

from __future__ import annotations

from typing import Any, Final

from ..database import connected
from ..errors import NotInstalled
from ..manager import SyncManager
from ..options import Option
from ..peering.stored import ROOT_KEY as TRUST_KEY
from ..peering.stored import find_trust, forget_expired
from ..replication.deletion import PEER_EXPIRES_S
from ..replication.models.hostexecutor import HostExecutor
from ..replication.network.expiring import EXPIRES_S, KEEP_S, cleanup
from ..replication.provider import ZODBSyncProvider
from ..replication.reader import TrackReader
from ..replication.stores.zodbstore import ZODBDataStore
from .base import PeriodicTask, TaskContext

_DAY_S: Final = 86_400.0


class TwoWay(PeriodicTask):
    """Takes what the application has changed, drops old tombstones, ends sessions nobody goes on with."""

    options = (
        Option(
            "peer_expires_s",
            "float",
            help="a peer that was not heard of for so many seconds is waited for no more",
            default=PEER_EXPIRES_S,
            minimum=_DAY_S,
        ),
        Option(
            "session_expires_s",
            "float",
            help="a session of which nothing was heard for so many seconds is ended",
            default=EXPIRES_S,
            minimum=60.0,
        ),
    )

    def run(self, context: TaskContext) -> dict[str, Any]:
        """Do it once, in short transactions; so the track need not be kept for the next session's sake.

        Raises:
            NotInstalled: This database takes no part in two-way sync.
        """
        with connected(context.db) as root:
            context.check(SyncManager.get(root))
        try:
            store = ZODBDataStore(context.db, create=False)
        except NotInstalled as exc:
            raise NotInstalled(f"{exc}; until then there is nothing to do for this task") from exc
        provider = ZODBSyncProvider(None, store, changes_executor=HostExecutor(context.host))
        taken = TrackReader().gather(provider.node)
        done = {"taken": taken, "tombstones": 0, "sessions": 0, "transfers": 0, "expired": 0}
        if not context.stop():
            done["tombstones"] = provider.collect_tombstones(self.values["peer_expires_s"])
        if not context.stop():
            cleaned = cleanup(provider, expires_s=self.values["session_expires_s"], keep_s=KEEP_S)
            done["sessions"], done["transfers"] = cleaned.sessions, cleaned.transfers
        if not context.stop():
            done["expired"] = store.run(lambda: _forget(store, provider.node.clock()))
        return done


def _forget(store: ZODBDataStore, now: float) -> int:
    """Drop nonces and revocations that have expired, within the store's transaction; return how many."""
    assert store.connection is not None
    root = store.connection.root()
    return forget_expired(find_trust(root), now) if TRUST_KEY in root else 0
