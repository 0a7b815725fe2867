"""Asking a service whether it would take what an agent sends: jobs, since it uses the network."""

from __future__ import annotations

from ...agent import MissingAgent
from ...errors import DeliveryError, Leased, OptionError, StateForbids, UnknownAgentType
from ...upkeep import probing
from .. import schemas
from ..context import WebContext
from .agents import made_agent
from .work import started

#: What an agent that is not added yet is called.
_UNNAMED = "new-agent"


def try_connection(ctx: WebContext, agent_id: str, who: str = "") -> schemas.Job:
    """Begin to ask an agent's service; its result is a ``TestOutcome``.

    Raises:
        UnknownAgent, UnknownAgentType: There is no such agent, or its type cannot be loaded.
        StateForbids: It is none that pushes.
        Leased: A runner is at it: asking would get in its way, and it knows best.
        SameAtWork, TooBusy: No more is taken now.
    """
    with ctx.reading() as manager:
        agent = manager.get_agent(agent_id)
        if isinstance(agent, MissingAgent):
            raise UnknownAgentType(f"agent {agent_id!r} cannot be used: {agent.missing}")
        holder = manager.agent_status(agent_id, ctx.clock()).holder
        if holder:
            raise Leased(
                f"agent {agent_id!r} is held: {holder}; its service is not asked meanwhile",
                agent_id=agent_id,
                holder=holder,
            )
        asked = probing.service_of(manager, agent)
        state = manager.stored(agent_id).state
    if asked is None:
        raise StateForbids(f"agent {agent_id!r} is none that pushes", agent_id=agent_id, state=state)
    return started(ctx, "test", agent_id, who, lambda _: _asked(asked))


def try_options(ctx: WebContext, connection: schemas.Connection, who: str = "") -> schemas.Job:
    """Begin to ask the service that an agent of this type and these options would have.

    Raises:
        UnknownAgentType, OptionError: As when an agent is added.
        StateForbids: It is no type that pushes.
        SameAtWork, TooBusy: No more is taken now.
    """
    agent = made_agent(connection.type, _UNNAMED, None, "", connection.options)
    with ctx.reading() as manager:
        asked = probing.service_of(manager, agent)
    if asked is None:
        raise StateForbids(f"{connection.type} is no type that pushes", agent_id="", state="new")
    return started(ctx, "test", "", who, lambda _: _asked(asked))


def _asked(asked: probing.Asked) -> schemas.TestOutcome:
    try:
        return schemas.TestOutcome(ok=True, text=probing.ask(asked))
    except (DeliveryError, OptionError) as exc:
        return schemas.TestOutcome(ok=False, text=" ".join(str(exc).split()))
