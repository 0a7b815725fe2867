"""What transfers of histories send, worked out once and kept in memory while it is sent."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..versions.remotes.ends import Outgoing

#: Transfers of which it is kept.
_KEPT: Final = 16


class Packs:
    """The ids of the versions that transfers send. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Outgoing] = OrderedDict()

    def of(self, transfer_id: str, make: Callable[[], Outgoing]) -> Outgoing:
        """Return what a transfer sends; it is worked out where it is not kept."""
        with self._lock:
            found = self._kept.get(transfer_id)
            if found is not None:
                self._kept.move_to_end(transfer_id)
                return found
        found = make()
        with self._lock:
            self._kept[transfer_id] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def forget(self, transfer_id: str) -> None:
        """Keep nothing of a transfer."""
        with self._lock:
            self._kept.pop(transfer_id, None)
