"""How long the track keeps what every reader has passed, and who holds it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..agent import State, StopReason
from ..manager import SyncManager
from ..words import plural

_DAY_S: Final = 86_400

#: How long an action is kept, although every reader has passed it: for looking back and rewinding.
KEEP_S: Final = 7.0 * _DAY_S

#: A reader that holds back more than this is worth a warning.
WARN_DAYS: Final = 30.0
WARN_BYTES: Final = 1_000_000_000

#: What an action takes on the track, with an id of usual length; ``python -m bench track`` measures it.
BYTES_PER_ACTION: Final = 64


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning came to.

    Attributes:
        dropped: Actions that are gone.
        left_behind: Agents that lost something and are now ``stopped: needs_export``.
    """

    dropped: int
    left_behind: list[str]


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A reader for whose sake much is kept.

    Attributes:
        agent_id: The reader: an agent, or another pointer's name, as two-way sync has one.
        days: The age of the oldest action that it has not passed.
        actions: How many it has not passed.
        bytes: About how much they take.
        is_agent: Whether it is an agent.
    """

    agent_id: str
    days: float
    actions: int
    bytes: int
    is_agent: bool = True

    def __str__(self) -> str:
        who, remedy = f"agent {self.agent_id}", "run it, remove it,"
        if not self.is_agent:
            who = f"reader {self.agent_id}"
            remedy = f"let it read ({_remedy(self.agent_id)}),"
        return (
            f"{who} holds back {plural(self.actions, 'action')} of up to {self.days:.0f} days (about"
            f" {self.bytes / 1e6:,.0f} MB): {remedy} or leave it behind with: livesync prune"
            " --leave-behind"
        )


#: What moves the pointer of a reader that is no agent, by what the pointer's name begins with.
_LETS_READ: Final = {
    "livesync.replication": "livesync task add two-way, or a session with a peer",
    "livesync.versions.": "register a version of the collection, or drop its versions",
}


def _remedy(pointer: str) -> str:
    known = (remedy for begin, remedy in _LETS_READ.items() if pointer.startswith(begin))
    return next(known, "by what it belongs to")


def prune_passed(
    manager: SyncManager,
    now: float,
    keep_s: float = KEEP_S,
    before: int | None = None,
    leave_behind: bool = False,
) -> Pruned:
    """Drop what every reader has passed and is old enough, within the caller's transaction.

    Args:
        manager: The manager.
        now: Epoch seconds.
        keep_s: Keep what is younger than so many seconds.
        before: Drop only positions below this one, however old they are; ``keep_s`` is then not asked.
        leave_behind: Drop it whatever readers need; those that lose something need an export.
    """
    if before is None and keep_s > 0:
        before = int((now - keep_s) // manager.granularity)
    needed = {agent_id for agent_id in manager.agent_ids() if _needs_export(manager, agent_id)}
    dropped = manager.prune(before, leave_behind)
    left = [
        agent_id
        for agent_id in manager.agent_ids()
        if agent_id not in needed and _needs_export(manager, agent_id)
    ]
    return Pruned(dropped, left)


def held_back(manager: SyncManager, now: float) -> list[HeldBack]:
    """Return the readers that hold back more than :data:`WARN_DAYS` or :data:`WARN_BYTES`, the worst first.

    Args:
        manager: The manager; only read.
        now: Epoch seconds.
    """
    found = []
    agents = set(manager.agent_ids())
    for agent_id, position in manager.track.pointers():
        if agent_id in agents and manager.stored(agent_id).state == State.NEW.value:
            continue
        oldest = next(manager.track.iterate(position), None)
        actions = manager.track.lag(agent_id)
        if oldest is None or not actions:
            continue
        days = max(0.0, now - oldest[1].timestamp) / _DAY_S
        if days > WARN_DAYS or actions * BYTES_PER_ACTION > WARN_BYTES:
            found.append(HeldBack(agent_id, days, actions, actions * BYTES_PER_ACTION, agent_id in agents))
    return sorted(found, key=lambda held: -held.actions)


def _needs_export(manager: SyncManager, agent_id: str) -> bool:
    return bool(manager.stored(agent_id).reason == StopReason.NEEDS_EXPORT.value)
