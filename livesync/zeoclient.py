"""A ZEO client whose server was killed: no object id is used that the new server may give to others.

A client is given object ids a hundred at a time. A server on a FileStorage remembers which it has given away
only as long as it runs: after it was killed, it gives those that were not used again to whoever asks first.
The client keeps its own, and everything that it stores with one that somebody else has used meanwhile fails,
once for each, with an error that no retry mends ("A different object already has the same oid").
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def forget_ids_at_reconnection(db: Any) -> None:
    """See to it that ``db`` asks for new object ids whenever it is connected anew; nothing to do but on ZEO.

    Args:
        db: A ``ZODB.DB``; its storage is changed for as long as it is open. The second time nothing happens.
    """
    storage = db.storage
    if _is_client(storage) and not isinstance(storage, _AsksAnew):
        kind: Any = type(storage)
        storage.__class__ = _asking_anew(kind)


def forget_ids(db: Any) -> bool:
    """Forget the object ids that ``db`` was given and has not used yet; return whether it keeps any."""
    if not _is_client(db.storage):
        return False
    db.storage._oids.clear()
    return True


def _is_client(storage: Any) -> bool:
    module = sys.modules.get("ZEO.ClientStorage")  # what has not been imported is not in use
    return module is not None and isinstance(storage, module.ClientStorage)


class _AsksAnew:
    """Mixed into a client's storage."""

    _oids: list[bytes]

    def notify_connected(self, conn: Any, info: Any) -> None:
        """Told when a connection to the server has come about, in the thread that talks to it."""
        self._oids.clear()
        super().notify_connected(conn, info)  # type: ignore[misc]


@cache
def _asking_anew(client: Any) -> type:
    return type(f"{client.__name__}ThatAsksAnew", (_AsksAnew, client), {})
