"""How far the agents were behind lately: a few hundred looks at the status, kept in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..status import ManagerStatus

#: Least seconds between two samples, and how many are kept: an hour's worth.
EVERY_S: Final = 5.0
KEPT: Final = 720


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    Attributes:
        time: Epoch seconds.
        waiting: Actions in the inbox.
        lags: Agent id -> ``(actions, seconds)`` not delivered.
        delivered: Agent id -> records that its service has taken, ever.
    """

    time: float
    waiting: int
    lags: Mapping[str, tuple[int, float]]
    delivered: Mapping[str, int]


class Samples:
    """The last looks at the status. Whoever looks adds one, where the last is old enough."""

    def __init__(self, every_s: float = EVERY_S, kept: int = KEPT) -> None:
        self._every_s = every_s
        self._kept: deque[Sample] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def note(self, status: ManagerStatus, now: float) -> None:
        """Add what ``status`` says, unless there is a sample of a moment ago."""
        with self._lock:
            if self._kept and 0 <= now - self._kept[-1].time < self._every_s:
                return
            self._kept.append(
                Sample(
                    now,
                    status.waiting,
                    {agent.id: (agent.lag_actions, agent.lag_seconds) for agent in status.agents},
                    {agent.id: agent.totals.get("accepted", 0) for agent in status.agents},
                )
            )

    def all(self) -> list[Sample]:
        """Return the samples, the oldest first."""
        with self._lock:
            return list(self._kept)
