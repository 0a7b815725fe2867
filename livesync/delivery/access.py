"""Short transactions on the manager, on a connection of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import transaction
from transaction.interfaces import TransientError

from .. import conflicts
from ..attempts import ATTEMPTS, pause
from ..database import mend_storage
from ..errors import HostFailed, LiveSyncError
from ..host import Host
from ..manager import SyncManager
from ..relcache import read_past_cache
from ..relstorage import lost_connection
from ..zeoclient import forget_ids

Result = TypeVar("Result")


def of_the_database(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what is raised where the database is away or another transaction in the way, for ``except``.

    Whoever calls the host lets it through, and ``more``: it is no fault of the host's, and no object's.
    """
    return (TransientError, *lost_connection(), *more)


class ManagerAccess:
    """Reads and changes a manager in transactions that begin and end within one call.

    Between calls no transaction is open and no snapshot is held, so that the network may be used.
    It belongs to one thread; close it when done.

    Args:
        manager: One that is stored; only its database and oid are used.

    Raises:
        LiveSyncError: It is not stored yet.
    """

    def __init__(self, manager: SyncManager) -> None:
        if manager._p_jar is None or manager._p_oid is None:
            raise LiveSyncError("the manager is not stored yet: commit the transaction that installed it")
        self._open(manager._p_jar.db(), manager._p_oid)

    def _open(self, database: Any, oid: bytes) -> None:
        mend_storage(database)
        self.database = database
        self._oid = oid
        self._transactions = transaction.TransactionManager(explicit=True)
        self._connection: Any = self.database.open(transaction_manager=self._transactions)

    def another(self) -> ManagerAccess:
        """Return a second access to the same manager, for another thread."""
        other = ManagerAccess.__new__(ManagerAccess)
        other._open(self.database, self._oid)
        return other

    @contextmanager
    def snapshot(self, past_caches: bool = False) -> Iterator[SyncManager]:
        """Hand out the manager as it is now, for the time of a ``with`` block; nothing is written.

        Args:
            past_caches: Load everything anew, whatever a cache on this side of the database holds.
        """
        self._transactions.begin()
        try:
            if past_caches:
                read_past_cache(self._connection)
            yield self._connection.get(self._oid)
        finally:
            self._end()

    @contextmanager
    def host_snapshot(self, host: Host, past_caches: bool = False) -> Iterator[tuple[SyncManager, Host]]:
        """Hand out the manager and the host, both reading one fresh snapshot, for a ``with`` block.

        Args:
            host: The application.
            past_caches: As for :meth:`snapshot`.

        Raises:
            HostFailed: The host cannot be set up.
        """
        with self.snapshot(past_caches) as manager, ExitStack() as stack:
            try:
                at = stack.enter_context(host.at(self._connection))
            except of_the_database(LiveSyncError):
                raise
            except Exception as exc:
                raise HostFailed(f"the host cannot be set up: {type(exc).__name__}: {exc}") from exc
            yield manager, at

    def change(self, function: Callable[[SyncManager], Result], note: str) -> Result:
        """Return ``function(manager)``, committed; it is called again when others got in its way.

        A result of None means that there was nothing to change: nothing is committed.
        """
        failed = 0
        while True:
            self._transactions.begin()
            try:
                result = function(self._connection.get(self._oid))
                if result is None:
                    self._end()
                    return result
                current = self._transactions.get()
                current.note(f"livesync: {note}")
                self._commit(current)
                self._connection.cacheGC()
                return result
            except TransientError as exc:
                conflicts.note(exc, "own")
                self._end()
                failed += 1
                if failed == ATTEMPTS:
                    raise
                pause(failed)
            except BaseException:
                self._end()
                raise

    def _commit(self, current: Any) -> None:
        try:
            current.commit()
        except ValueError as exc:
            # what an object id comes to that a killed ZEO server has given to somebody else, too
            if not forget_ids(self.database):
                raise
            raise TransientError(f"new object ids are needed: {exc}") from exc

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _end(self) -> None:
        self._transactions.abort()
        self._connection.cacheGC()


def collect_all(access: ManagerAccess, now: float, seal_newest: bool = False) -> int:
    """Collect until nothing is left, each part in a transaction of its own.

    Where there is nothing to collect and nothing on the track left to seal, nothing is written.

    Args:
        access: To the manager.
        now: Epoch seconds.
        seal_newest: Seal everything that is on the track in the end, also what lies at a position
            that is still open, or ahead of ``now``; what is committed later goes to the next one.

    Returns:
        How many actions moved.
    """
    moved = 0
    while True:
        part = access.change(lambda manager: _collect(manager, now, seal_newest), "collect")
        moved += part.moved if part is not None else 0
        if part is None or part.is_last:
            return moved


class _Collected:
    def __init__(self, moved: int, is_last: bool) -> None:
        self.moved = moved
        self.is_last = is_last


def _collect(manager: SyncManager, now: float, seal_newest: bool) -> _Collected | None:
    from ..manager import COLLECT_LIMIT

    track = manager.track
    unsealed = not track.is_empty() and track.sealed < track.most_recent_ts()
    moved = manager.collect(now)
    if not moved and not unsealed:
        return None
    is_last = moved < COLLECT_LIMIT
    if seal_newest and is_last:
        track.seal(track.most_recent_ts())
    return _Collected(moved, is_last)
