"""Whether the agents' services can be reached, for ``livesync doctor``; nothing changes anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .exitcodes import ExitCode
from .findings import Finding

if TYPE_CHECKING:
    from ..agent import SyncAgent
    from ..delivery.uploader import Delivery, RecordUploader
    from ..manager import SyncManager
    from ..status import AgentStatus


@dataclass(frozen=True, slots=True)
class Asked:
    """A service that is to be asked, once the database is closed.

    Attributes:
        agent: Whose.
        uploader_type: What carries to it.
        delivery: Who asks.
        has_delivered: Whether something of this agent must be there.
    """

    agent: SyncAgent
    uploader_type: type[RecordUploader]
    delivery: Delivery
    has_delivered: bool


def service_of(manager: SyncManager, status: AgentStatus) -> Asked | Finding | None:
    """Return how to ask an agent's service, or why it is not asked; None: it has none that is of interest.

    That of an agent which a runner holds is left alone: opening it once more may well get in the
    runner's way.
    """
    from ..delivery.push import PushSyncAgent
    from ..delivery.uploader import Delivery

    agent = manager.get_agent(status.id)
    uploader_type = type(agent).uploader if isinstance(agent, PushSyncAgent) else None
    if status.state == "new" or uploader_type is None:
        return None
    if status.holder:
        return Finding(_subject(agent), f"not asked, a runner is at it: {status.holder}")
    stored = manager.stored(status.id)
    delivery = Delivery(agent.id, manager.track_id, stored.generation)
    return Asked(agent, uploader_type, delivery, stored.acknowledged == manager.track_id)


def ask(asked: Asked) -> Iterator[Finding]:
    """Yield what one service answers."""
    subject = _subject(asked.agent)
    missing = _missing_place(asked.agent)
    if missing is not None:
        # opening it would make it
        if asked.has_delivered:
            text = f"{missing} is gone, with all that was delivered: livesync agent export {asked.agent.id}"
            yield Finding(subject, text, ExitCode.SERVICE)
        else:
            yield Finding(subject, f"{missing} is not there yet: the first run makes it")
        return
    try:
        uploader = asked.uploader_type(asked.agent)
        try:
            uploader.open(asked.delivery)
            answer = uploader.probe()
        finally:
            uploader.close()
    except Exception as exc:  # noqa: BLE001 - whatever is wrong is what a doctor is to tell
        yield Finding.problem(subject, exc)
    else:
        yield Finding(subject, answer)


def _missing_place(agent: SyncAgent) -> str | None:
    """Return the file or directory that is the agent's destination, if it is not there."""
    for option in agent.declared_options():
        value = agent.values[option.name]
        if option.type == "path" and option.identifies and value and not os.path.exists(value):
            return str(value)
    return None


def _subject(agent: SyncAgent) -> str:
    return f"agent {agent.id}, service"
