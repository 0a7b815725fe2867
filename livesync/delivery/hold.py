"""A lease while it is held: renewed by a thread of its own, checked by every transaction of the run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from .. import leases
from ..errors import LeaseLost, NotFound
from ..manager import SyncManager
from ..process import this_process
from ..track.stored import StoredLease
from .access import ManagerAccess

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Hold:
    """The right to run one agent, for as long as this is not closed and the lease is renewed.

    Args:
        access: To the manager; for the thread that made it.
        agent_id: The agent.
        purpose: What for, a word for people.
        lease_s: How long the lease holds unless renewed; it is renewed three times as often.
        clock: Returns epoch seconds.
    """

    def __init__(
        self,
        access: ManagerAccess,
        agent_id: str,
        purpose: str,
        lease_s: float = leases.LEASE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._agent_id = agent_id
        self._purpose = purpose
        self._lease_s = lease_s
        self._clock = clock
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._oid: bytes | None = None
        #: The fencing token; 0 until the lease is taken.
        self.token = 0
        #: Whether another runner is known to have taken over.
        self.lost = False

    def take(self, also: Callable[[SyncManager], object]) -> None:
        """Take the lease and do ``also`` in the same transaction, then keep the lease renewed.

        Raises:
            Leased: Another runner holds it.
        """

        def begin(manager: SyncManager) -> int:
            lease = self._stored_lease(manager)
            self._oid = lease._p_oid
            token = leases.take(
                self._agent_id, lease, this_process(), self._purpose, self._clock(), self._lease_s
            )
            also(manager)
            return token

        self.token = self._access.change(begin, f"{self._purpose} of {self._agent_id} begins")
        self._thread = threading.Thread(
            target=self._keep, args=(self._access.another(),), name=f"livesync-lease-{self._agent_id}",
            daemon=True,
        )  # fmt: skip
        self._thread.start()

    def change(self, function: Callable[[SyncManager], Result], note: str) -> Result:
        """As :meth:`ManagerAccess.change`, only while the lease is ours.

        Raises:
            LeaseLost: It is not.
        """

        def checked(manager: SyncManager) -> Result:
            self.check(manager)
            manager.act_as(self._agent_id, self.token)
            try:
                return function(manager)
            finally:
                manager.act_as(self._agent_id, None)

        return self._access.change(checked, note)

    def check(self, manager: SyncManager) -> None:
        """Make sure that the lease is ours in the snapshot that ``manager`` belongs to.

        Raises:
            LeaseLost: It is not.
        """
        try:
            leases.check_held(self._agent_id, self._lease(manager), self.token)
        except LeaseLost:
            self.lost = True
            raise

    def release(self, manager: SyncManager) -> None:
        """Give the lease back, within the caller's transaction."""
        leases.release(self._lease(manager), self.token)

    def close(self) -> None:
        """Renew no more, and give back a lease that was not released."""
        self._end.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if not self.lost:
            try:
                self._access.change(self._release_if_held, f"lease of {self._agent_id}")
            except LeaseLost:
                self.lost = True
            except Exception:
                # it runs out by itself
                logger.warning("agent %s: the lease could not be given back", self._agent_id, exc_info=True)

    def _lease(self, manager: SyncManager) -> StoredLease:
        """Return the lease; LeaseLost where the agent was removed: one of its id counts tokens anew."""
        with suppress(NotFound):
            lease = self._stored_lease(manager)
            if lease._p_oid == self._oid:
                return lease
        raise LeaseLost(
            f"agent {self._agent_id!r} was removed while it was run; nothing of it is noted any more"
        )

    def _stored_lease(self, manager: SyncManager) -> StoredLease:
        """Return the lease that this is about; overridden for what is no agent."""
        lease: StoredLease = manager.stored(self._agent_id).lease
        return lease

    def _release_if_held(self, manager: SyncManager) -> bool | None:
        lease = self._lease(manager)
        if lease.token != self.token or lease.holder is None:
            return None
        leases.release(lease, self.token)
        return True

    def _keep(self, access: ManagerAccess) -> None:
        """Renew the lease until it is lost or no longer wanted. Runs in a thread of its own."""
        try:
            while not self._end.wait(self._lease_s / 3):
                try:
                    access.change(self._renew, f"lease of {self._agent_id}")
                except LeaseLost:
                    self.lost = True
                    return
                except Exception:
                    # The storage may be away for a moment. If it stays away, others take over.
                    logger.warning("agent %s: the lease could not be renewed", self._agent_id, exc_info=True)
        finally:
            access.close()

    def _renew(self, manager: SyncManager) -> bool:
        leases.renew(self._agent_id, self._lease(manager), self.token, self._clock() + self._lease_s)
        return True
