"""Whether the agents' services can be reached, for ``livesync doctor``; nothing changes anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .findings import Finding

if TYPE_CHECKING:
    from ..agent import SyncAgent
    from ..manager import SyncManager
    from ..status import AgentStatus
    from ..upkeep.probing import Asked


def service_of(manager: SyncManager, status: AgentStatus) -> Asked | Finding | None:
    """Return how to ask an agent's service, or why it is not asked; None: it has none that is of interest."""
    from ..upkeep import probing

    agent = manager.get_agent(status.id)
    asked = probing.service_of(manager, agent)
    if status.state == "new" or asked is None:
        return None
    if status.holder:
        return Finding(_subject(agent), f"not asked, a runner is at it: {status.holder}")
    return asked


def ask(asked: Asked) -> Finding:
    """Return what one service answers."""
    from ..upkeep import probing

    subject = _subject(asked.agent)
    try:
        return Finding(subject, probing.ask(asked))
    except Exception as exc:  # noqa: BLE001 - whatever is wrong is what a doctor is to tell
        return Finding.problem(subject, exc)


def _subject(agent: SyncAgent) -> str:
    return f"agent {agent.id}, service"
