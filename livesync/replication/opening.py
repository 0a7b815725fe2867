"""A database's provider, as the command line, agents and servers need it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..errors import NotInstalled
from ..host import Host
from ..manager import SyncManager
from .events import EventsManager
from .models.executor import ChangesExecutor
from .models.hostexecutor import HostExecutor
from .provider import ZODBSyncProvider
from .reader import TrackReader
from .stores.zodbstore import ZODBDataStore


def open_provider(
    db: Any,
    host: Host | None,
    events_manager: EventsManager | None = None,
    *,
    clock: Callable[[], float] = time.time,
    create: bool = True,
) -> ZODBSyncProvider:
    """Return a database's side of two-way sync.

    Args:
        db: An open ``ZODB.DB``.
        host: The application; None where there is none: items lie in the store only.
        events_manager: Who is told what happens.
        clock: Epoch seconds.
        create: Make the store where there is none.

    Raises:
        NotInstalled: There is none, and ``create`` is False.
    """
    store = ZODBDataStore(db, create=create)
    if host is None:
        return ZODBSyncProvider(None, store, events_manager, changes_executor=ChangesExecutor(), clock=clock)
    reader = TrackReader() if store.read(lambda: _has_manager(store)) else None
    return ZODBSyncProvider(
        None, store, events_manager, changes_executor=HostExecutor(host), reader=reader, clock=clock
    )


def _has_manager(store: ZODBDataStore) -> bool:
    connection = store.connection
    assert connection is not None
    try:
        SyncManager.get(connection.root())
    except NotInstalled:
        return False
    return True
