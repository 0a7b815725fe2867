"""The peer agent: syncs with a peer whenever it is run, so that syncing is scheduled as any agent is.

Both ends have claims, so a peer needs no pointer. The agent has one all the same, like every agent: it
follows what the replication store has taken from the track, and says how much waits to be taken along.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..agent import SyncAgent
from ..database import connected
from ..delivery import ledger
from ..delivery.access import ManagerAccess
from ..delivery.hold import Hold
from ..delivery.push import bring_up_to_date, check_runnable
from ..delivery.record import RunResult
from ..errors import LeaseLost
from ..host import Host
from ..manager import SyncManager
from ..options import Option
from ..peering.controller import one_line
from ..peering.keyring import open_keyring
from ..peering.peers import PeerRegistry, SessionOutcome
from ..peering.trust import TrustStore
from .network.syncing import DIRECTIONS, PeerSync
from .opening import open_provider
from .reader import POINTER

_BOTH: Final = "both"


class PeerAgent(SyncAgent):
    """Syncs this database with one of the peers that ``livesync peer add`` has added."""

    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "peer", help="the peer's name, as livesync peer list shows it", required=True, identifies=True
        ),
        Option(
            "direction",
            help="push: only send; pull: only receive",
            default=_BOTH,
            choices=(_BOTH, *DIRECTIONS),
        ),
        Option("timeout_s", "float", help="seconds to wait for an answer", default=60.0, minimum=0.001),
    )

    def run(
        self,
        manager: SyncManager,
        host: Host,
        now: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> RunResult:
        """Sync once, and return what it came to: items that travelled, both ways, are read and accepted.

        A run that fails leaves what was confirmed; the next one goes on where it was.

        Args:
            manager: The manager.
            host: The application.
            now: Epoch seconds; None: the wall clock.
            stop: Asked between buffers; True ends the run in good order.

        Raises:
            UnknownPeer: The peer was removed.
            StateForbids: The agent's state does not allow a run.
            Leased: Another runner holds it.
            LiveSyncError: Whatever ends the sync.
        """
        access = ManagerAccess(manager)
        hold = Hold(access, self.id, "sync")
        try:
            with access.snapshot() as at:
                check_runnable(at, self.id)
            result = self._held(access, hold, host, now, stop)
        finally:
            hold.close()
            access.close()
        bring_up_to_date(manager)
        return result

    def _held(
        self,
        access: ManagerAccess,
        hold: Hold,
        host: Host,
        now: float | None,
        stop: Callable[[], bool] | None,
    ) -> RunResult:
        line = -1

        def begin(at: SyncManager) -> None:
            nonlocal line
            line = ledger.begin(at.stored(self.id), "run", time.time() if now is None else now)

        hold.take(begin)
        began = time.perf_counter()
        try:
            outcome = self._sync(access.database, host, now, lambda: hold.lost or bool(stop and stop()))
        except BaseException as exc:
            failed = RunResult(seconds=time.perf_counter() - began)
            self._note(hold, line, failed, now, one_line(exc))
            raise
        count = outcome.pulled + outcome.pushed
        result = RunResult(read=count, accepted=count, seconds=time.perf_counter() - began)
        self._note(hold, line, result, now)
        return result

    def _sync(self, db: Any, host: Host, now: float | None, stop: Callable[[], bool]) -> SessionOutcome:
        peer = PeerRegistry(db).get(self.values["peer"])
        clock = time.time if now is None else lambda: now
        direction = self.values["direction"]
        with connected(db) as root:
            site = SyncManager.get(root).site
        sync = PeerSync(
            open_provider(db, host, clock=clock, create=False),
            TrustStore(db),
            open_keyring(_uri_of(db)),
            site,
            stop=stop,
            clock=clock,
            timeout_s=self.values["timeout_s"],
            host=host,
        )
        return sync.run(peer, DIRECTIONS if direction == _BOTH else (direction,))

    def _note(self, hold: Hold, line: int, result: RunResult, now: float | None, error: str = "") -> None:
        """Write the run into the ledger, and let the pointer follow; of a lost lease nothing is noted."""

        def work(at: SyncManager) -> bool:
            stored = at.stored(self.id)
            track = at.track
            if not error and track.has_pointer(POINTER):
                taken, known = (track.get_pointer_timestamp(name) for name in (POINTER, self.id))
                if taken is not None and (known is None or taken > known):
                    at.advance(self.id, taken)
            result.till = track.get_pointer_timestamp(self.id)
            ended = time.time() if now is None else now
            ledger.note(stored, line, result, ended, error)
            ledger.add_to_totals(stored, result)
            return True

        try:
            hold.change(work, f"sync of {self.id} ends")
        except LeaseLost:
            if not error:
                raise


def _uri_of(db: Any) -> str:
    """Return a URI that says beside which file the keys of an open database lie; "": beside none."""
    from ZODB.FileStorage import FileStorage

    storage = getattr(db.storage, "base", db.storage)
    return f"file://{storage.getName()}" if isinstance(storage, FileStorage) else ""
