"""Whether an agent's service can be reached and would take what the agent sends.

Nothing that it holds changes, but opening a service may make what its first run would make there
anyway, such as empty tables. A file or directory that is not there is not made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.uploader import Delivery, RecordUploader
from ..errors import ServiceRefuses
from ..manager import SyncManager


@dataclass(frozen=True, slots=True)
class Asked:
    """A service that is to be asked, once no transaction is open.

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


def service_of(manager: SyncManager, agent: SyncAgent) -> Asked | None:
    """Return how to ask the service of an agent, registered or not; None: it has none.

    That of an agent which a runner holds is better left alone: opening it once more may well get in
    the runner's way.
    """
    uploader_type = type(agent).uploader if isinstance(agent, PushSyncAgent) else None
    if uploader_type is None:
        return None
    if agent.id not in manager.agent_ids():
        return Asked(agent, uploader_type, Delivery(agent.id, manager.track_id, 1), False)
    stored = manager.stored(agent.id)
    delivery = Delivery(agent.id, manager.track_id, stored.generation)
    return Asked(agent, uploader_type, delivery, stored.acknowledged == manager.track_id)


def ask(asked: Asked) -> str:
    """Return what a service answers, one line for people; it uses the network.

    Raises:
        ServiceRefuses: It, or what was delivered to it, is gone; or it does not take what we send.
        RetryLater, OptionError: As ``RecordUploader.open`` and ``probe`` do.
    """
    missing = _missing_place(asked.agent)
    if missing is not None:
        # opening it would make it
        if asked.has_delivered:
            raise ServiceRefuses(
                f"{missing} is gone, with all that was delivered: livesync agent export {asked.agent.id}"
            )
        return f"{missing} is not there yet: the first run makes it"
    uploader = asked.uploader_type(asked.agent)
    try:
        uploader.open(asked.delivery)
        return uploader.probe()
    finally:
        uploader.close()


def _missing_place(agent: SyncAgent) -> str | None:
    """Return the file or directory that is the agent's destination, if it is not there."""
    for option in agent.declared_options():
        value = agent.values[option.name]
        if option.type == "path" and option.identifies and value and not os.path.exists(value):
            return str(value)
    return None
