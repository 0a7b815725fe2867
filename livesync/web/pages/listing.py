"""What pages that list something have in common: which agent, and which part of the list."""

from __future__ import annotations

from pyramid.request import Request

from ...errors import UnknownAgent
from .. import operations
from ..schemas import Agent


def all_agents(request: Request) -> dict[str, Agent]:
    """Return all agents by id."""
    return {agent.id: agent for agent in operations.get_status(request.livesync).agents}


def chosen_agent(request: Request, agents: dict[str, Agent]) -> Agent | None:
    """Return the agent that the query names, None: none is.

    Raises:
        UnknownAgent: There is none of this id.
    """
    named = request.GET.get("agent")
    if not named:
        return None
    if named not in agents:
        raise UnknownAgent(named)
    return agents[named]


def cursor_of(request: Request) -> str | None:
    """Return the part of a list that the query asks for; None: the first."""
    return request.GET.get("from") or None
