"""A lock that holds over all processes that share a database, by a lease that lies in it.

It keeps two sessions of one database from doing the same work twice. Where somebody goes on although its
lease has run out (its process was frozen), nothing is lost: applying is idempotent, and of two sessions at
once one is given up. So no step of a session asks for the lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from ... import leases
from ...errors import Leased, LeaseLost, SyncRunning
from ...process import this_process
from ...track.stored import StoredLease
from ..stores.zodbstore import ZODBDataStore
from .orchestrator import BaseSyncLock

logger = logging.getLogger(__name__)

_PURPOSE: Final = "two-way sync"

#: Database -> the token of a lease that this process could not give back: its disk was full, for example.
_LEFT: Final[WeakKeyDictionary[Any, int]] = WeakKeyDictionary()


class DatabaseSyncLock(BaseSyncLock):
    """A lock of a database: over threads, processes and machines.

    A holder renews its lease while it holds the lock. One whose process is gone loses it at once on the same
    machine, and after ``lease_s`` on another one.

    Args:
        store: The database's data store.
        lease_s: How long the lease holds unless it is renewed; it is renewed three times as often.
        clock: Returns epoch seconds.
    """

    def __init__(
        self, store: ZODBDataStore, lease_s: float = leases.LEASE_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._lease_s = lease_s
        self._clock = clock

    def is_running(self) -> bool:
        """Tell whether somebody holds the lock, on whatever machine."""
        return bool(self.holder())

    def holder(self) -> str:
        """Return who holds the lock, for people; "": nobody."""

        def work() -> str:
            lease = self._store.tables.lease
            return "" if lease is None else leases.holder(lease, self._clock())

        return self._store.read(work)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock for the time of a ``with`` block.

        Transaction effects: commits when it begins and ends, and each time that the lease is renewed.

        Raises:
            SyncRunning: On entering: somebody else does.
        """
        token = self._take()
        end = threading.Event()
        thread = threading.Thread(
            target=self._keep, args=(token, end), name="livesync-sync-lease", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            self._release(token)

    def _take(self) -> int:
        def work() -> int:
            tables = self._store.tables
            if tables.lease is None:
                tables.lease = StoredLease()
            now = self._clock()
            left = _LEFT.get(self._store.db)
            if left is not None and (tables.lease.holder or ())[:3] == this_process():
                leases.release(tables.lease, left)
            return leases.take(_PURPOSE, tables.lease, this_process(), _PURPOSE, now, self._lease_s)

        try:
            return self._store.run(work, note="a session begins")
        except Leased as exc:
            raise SyncRunning(f"another session is under way ({exc.holder}): wait for its end") from exc

    def _keep(self, token: int, end: threading.Event) -> None:
        """Renew the lease until it is lost or no longer wanted. Runs in a thread of its own."""

        def work() -> None:
            leases.renew(_PURPOSE, self._lease(), token, self._clock() + self._lease_s)

        while not end.wait(self._lease_s / 3):
            try:
                self._store.run(work, note="a session goes on")
            except LeaseLost:
                logger.warning("the lease of a session was lost: another one has begun")
                return
            except Exception:
                # the storage may be away for a moment; if it stays away, others take over
                logger.warning("the lease of a session could not be renewed", exc_info=True)

    def _release(self, token: int) -> None:
        try:
            self._store.run(lambda: leases.release(self._lease(), token), note="a session has ended")
        except Exception:
            # it runs out by itself, or this process takes it again; how the session has ended matters more
            _LEFT[self._store.db] = token
            logger.warning("the lease of a session could not be given back", exc_info=True)

    def _lease(self) -> StoredLease:
        lease = self._store.tables.lease
        assert lease is not None, "whoever holds the lock has made it"
        return lease
