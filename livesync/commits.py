"""Word of commits: who waits for changes is told when a transaction of this process has recorded some.

What other processes commit is not heard here; a waiter asks the storage for that now and then
(``schedule/watch.py``).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

# Who waits for the commits of a database: a fact of the process, as that it is open here is.
_listeners: weakref.WeakKeyDictionary[Any, list[Callable[[], None]]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def listen(db: Any, listener: Callable[[], None]) -> Callable[[], None]:
    """Call ``listener`` after every commit of this process that has recorded something in ``db``.

    Args:
        db: An open ``ZODB.DB``.
        listener: Called in the thread that commits, after the storage has finished: it must be quick,
            and must not raise.

    Returns:
        A function that ends it; it may be called twice.
    """
    with _lock:
        _listeners.setdefault(db, []).append(listener)

    def end() -> None:
        with _lock:
            found = _listeners.get(db, [])
            if listener in found:
                found.remove(listener)

    return end


def announce(db: Any) -> None:
    """Tell who waits for it that something was committed to ``db``."""
    with _lock:
        found = tuple(_listeners.get(db, ()))
    for listener in found:
        listener()
