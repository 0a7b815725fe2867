"""What every operation of the web application is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..database import committed, connected
from ..host import Host
from ..manager import SyncManager
from .errors import DatabaseGone
from .jobs import Jobs
from .samples import Samples

if TYPE_CHECKING:
    from ..upkeep.notices import NoticeSettings

T = TypeVar("T")


class Runner(Protocol):
    """Who runs the agents in this process, as :class:`livesync.schedule.thread.Runner` does."""

    def is_alive(self) -> bool:
        """Tell whether it has begun and was not asked to end."""

    def wake(self, agent_id: str | None = None) -> None:
        """Look now what there is to do; run this agent now if it is active."""


@dataclass(frozen=True, slots=True)
class WebContext:
    """Where the web application works, and as whom. It may be used by several threads.

    Attributes:
        db: An open ``ZODB.DB``.
        host: The application.
        site: The name of this site.
        runner: Who runs the agents in this process; None: nobody does.
        notices: Who is told when an agent stops or lags.
        clock: Epoch seconds.
        jobs: Work that takes longer than a request.
        samples: How far the agents were behind lately.
    """

    db: Any
    host: Host
    site: str = ""
    runner: Runner | None = None
    notices: NoticeSettings | None = None
    clock: Callable[[], float] = time.time
    jobs: Jobs = field(default_factory=Jobs)
    samples: Samples = field(default_factory=Samples)

    @contextmanager
    def reading(self) -> Iterator[SyncManager]:
        """Give the manager in a short transaction that only reads.

        Raises:
            DatabaseGone: The database's server does not answer.
            NotInstalled: The database has no manager.
            UpgradeNeeded: Its data are of another schema.
        """
        self.check_database()
        with connected(self.db) as root:
            yield SyncManager.get(root)

    def change(self, change: Callable[[SyncManager], T]) -> T:
        """Carry out ``change`` on the manager and commit it, again where it conflicts; it must do no I/O.

        Raises:
            DatabaseGone: The database's server does not answer.
            NotInstalled: The database has no manager.
            UpgradeNeeded: Its data are of another schema.
        """
        self.check_database()
        return committed(self.db, lambda root: change(SyncManager.get(root)))

    def check_database(self) -> None:
        """Make sure that the database's server is there, as far as that is known without waiting for it.

        Raises:
            DatabaseGone: It is not.
        """
        is_connected = getattr(self.db.storage, "is_connected", None)
        if is_connected is not None and not is_connected():
            raise DatabaseGone("the database's server does not answer now; nothing was changed: try again")
