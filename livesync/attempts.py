"""How often a transaction is tried that others get in the way of, and how long to wait in between.

The second attempt comes at once: most conflicts are over by then. Those after it wait, since some storages
do not wait themselves: RelStorage gives up at once where another transaction, in its commit, holds the lock
of an object that this one has relied on. On a machine that is busy, that commit would outlast any number of
attempts that are made without a pause.
"""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

#: How often a transaction is tried, the first time included.
ATTEMPTS: Final = 20

#: How long the third attempt waits at most, what it doubles to, in seconds. All attempts together wait for
#: three seconds at least and six at most.
PAUSE_S: Final = 0.005
PAUSE_CAP_S: Final = 0.5


def pause_s(failed: int, random: Callable[[], float] = _random.random) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Half of the step and a share of the rest at random, so that those who met once do not meet again.

    Args:
        failed: How many attempts have failed, from 0.
        random: Returns a float in ``[0, 1[``.
    """
    if failed < 2:
        return 0.0
    return min(PAUSE_S * 2.0 ** (min(failed, ATTEMPTS) - 2), PAUSE_CAP_S) * (0.5 + random() / 2)


def pause(failed: int) -> None:
    """Wait before the next attempt, where ``failed`` have failed; no transaction is to be open."""
    if failed >= 2:
        time.sleep(pause_s(failed))


def attempts(manager: Any, most: int = ATTEMPTS) -> Iterator[Any]:
    """Yield attempts to use in a ``with`` block each, as ``TransactionManager.attempts`` does, with pauses.

    The last one lets through what ends it.
    """
    for failed, attempt in enumerate(manager.attempts(most)):
        pause(failed)
        yield attempt
