"""How many conflicts livesync's own objects have caused in this process: the second promise, counted."""

from __future__ import annotations

import threading
from collections import Counter

from ZODB.POSException import ConflictError

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def note(error: BaseException | None, whose: str) -> None:
    """Count ``error`` if it is a conflict over an object of livesync's.

    Args:
        error: What ended a transaction.
        whose: Whose transaction: ``host``, which must never happen, or ``own``, a short one of
            livesync's own, which is tried again.
    """
    if not isinstance(error, ConflictError):
        return
    name = error.class_name
    # An own transaction writes nothing but livesync's objects, trees of them among these.
    if whose == "own" or (isinstance(name, str) and name.startswith("livesync.")):
        with _lock:
            _counts[whose] += 1


def counts() -> dict[str, int]:
    """Return the conflicts of this process since it began: ``{"host": …, "own": …}``."""
    with _lock:
        return {"host": _counts["host"], "own": _counts["own"]}
