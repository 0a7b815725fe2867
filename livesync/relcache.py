"""RelStorage's cache, kept from showing states that were replaced.

RelStorage keeps states that have not changed for long under a key of their own ("frozen"): whoever has no
newer information on an object takes that one. When an object has changed, the frozen state is to be thrown
away, but the function that does it compares the two transactions the wrong way round where one state of the
object is cached: it throws the newer ones away and leaves the older ones (RelStorage 4.3,
``SVCacheEntry::discarding_tids_before``). Mostly that does no harm, as the change is also noted elsewhere.
Where the polls of two connections of one process overlap, a snapshot loses that note: it then shows the
object, often a bucket of a tree, as it was before a transaction that it shows otherwise, and nobody is told.

``tests/test_relcache.py`` makes such a snapshot, step by step.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def forget_replaced_states(db: Any) -> None:
    """See to it that the cache of ``db`` forgets states that were replaced; nothing to do but on RelStorage.

    Args:
        db: A ``ZODB.DB``; the cache that all its connections share is changed for as long as it is open.
            Nothing happens where RelStorage itself does right, or the second time.
    """
    storage = getattr(db.storage, "base", db.storage)  # where it is wrapped to compress
    client = getattr(_cache_of(storage), "local_client", None)
    if client is not None and not isinstance(client, _Forgets) and _keeps_replaced_states():
        kind: Any = type(client)
        client.__class__ = _forgetting(kind)


def read_past_cache(connection: Any) -> None:
    """Let a connection load everything anew, from the database itself, for the rest of its transaction.

    To be called at the transaction's begin. The snapshot stays what it is.
    """
    connection.cacheMinimize()
    found = _cache_of(connection._storage)
    if found is not None:
        found.object_index = None  # which it is before the first poll: then nothing cached is used


def _cache_of(storage: Any) -> Any:
    found = getattr(storage, "_cache", None)
    return found if type(found).__module__.startswith("relstorage.") else None


class _Forgets:
    """Mixed into the cache that the connections of a database share."""

    invalidate_all: Any

    def delitems(self, oids_tids: Any) -> None:
        """Forget all states of these objects; newer ones are loaded again."""
        self.invalidate_all([oid for oid, _ in oids_tids.items()])


@cache
def _forgetting(client: Any) -> type:
    return type(f"{client.__name__}ThatForgets", (_Forgets, client), {})


@cache
def _keeps_replaced_states() -> bool:
    from relstorage.cache.local_client import LocalClient
    from relstorage.options import Options

    tried = LocalClient(Options())
    tried[1, 1] = (b"old", 1)
    tried.freeze({1: 1})
    tried.delitems({1: 2})
    return tried[1, None] is not None
