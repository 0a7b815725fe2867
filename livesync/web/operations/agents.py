"""Agents: what there is, what one is made with, and whether it may run."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from ... import leases
from ...agent import MissingAgent, SyncAgent, load_agent_type
from ...agent import agent_types as installed_types
from ...errors import OptionError, StateForbids, UnknownAgentType, UsageError
from ...manager import SyncManager
from ...options import OPTION_TYPES, Option
from .. import schemas
from ..context import WebContext
from .paging import PAGE, page_of
from .status import shown_agent

#: Markup of Sphinx in the first line of a docstring.
_ROLE: Final = re.compile(r":\w+:`~?([^`]+)`")


def list_agents(ctx: WebContext, cursor: str | None = None, limit: int = PAGE) -> schemas.AgentPage:
    """Return the agents by id."""
    with ctx.reading() as manager:
        ids, following = page_of(manager.agent_ids(), cursor, limit)
        agents = [_shown(ctx, manager, agent_id) for agent_id in ids]
    return schemas.AgentPage(agents=agents, next=following)


def show_agent(ctx: WebContext, agent_id: str) -> schemas.AgentDetail:
    """Return all about one agent; of secrets only their references.

    Raises:
        UnknownAgent: There is none of this id.
    """
    with ctx.reading() as manager:
        stored = manager.stored(agent_id)
        agent = manager.get_agent(agent_id)
        return schemas.AgentDetail(
            agent=_shown(ctx, manager, agent_id),
            options={**stored.options, **agent.values},
            given=sorted(stored.options),
            missing=agent.missing if isinstance(agent, MissingAgent) else "",
            unfinished_export=stored.export is not None,
        )


def agent_types(ctx: WebContext) -> schemas.AgentTypes:
    """Return the agent types that are installed, with their options for forms."""
    return schemas.AgentTypes(types=[_shown_type(name) for name in installed_types()])


def _shown_type(name: str) -> schemas.AgentType:
    try:
        agent_type = load_agent_type(name)
    except UnknownAgentType as exc:
        return schemas.AgentType(name=name, help="", error=str(exc), options=[])
    summary = _ROLE.sub(r"\1", ((agent_type.__doc__ or "").strip().splitlines() or [""])[0])
    options = [shown_option(option) for option in agent_type.declared_options()]
    return schemas.AgentType(name=name, help=summary, error=None, options=options)


def shown_option(option: Option) -> schemas.OptionForm:
    """Return an option as it goes out, for a form."""
    return schemas.OptionForm(
        name=option.name,
        type=option.type,
        form=OPTION_TYPES[option.type],
        help=option.help,
        default=option.default,
        required=option.required,
        choices=list(option.choices),
        minimum=option.minimum,
        identifies=option.identifies,
    )


def add_agent(ctx: WebContext, new: schemas.NewAgent) -> schemas.Agent:
    """Add an agent; it is new: it has no pointer, and runs only once it is activated or exported.

    Raises:
        UnknownAgentType: There is no such type, or it cannot be loaded.
        OptionError: An option is unknown, missing, or has a value of a wrong form.
        UsageError: There is an agent of this id already, or the id has another form.
    """
    agent = made_agent(new.type, new.id, new.name, new.description, new.options)

    def change(manager: SyncManager) -> None:
        try:
            manager.register_agent(agent)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc

    ctx.change(change)
    return agent_of(ctx, new.id)


def made_agent(
    type_name: str, agent_id: str, name: str | None, description: str, options: dict[str, Any]
) -> SyncAgent:
    """Return an agent of these options, as none is registered yet.

    Raises:
        UnknownAgentType, OptionError, UsageError: As in :func:`add_agent`.
    """
    agent_type = load_agent_type(type_name)
    _check_names(agent_type, options)
    given = {key: value for key, value in options.items() if value not in (None, "")}
    try:
        return agent_type(agent_id, name or None, description, **given)
    except OptionError:
        raise
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _check_names(agent_type: type[SyncAgent], options: dict[str, Any]) -> None:
    declared = {option.name for option in agent_type.declared_options()}
    unknown = sorted(set(options) - declared)
    if unknown:
        raise OptionError(f"there is no option {unknown[0]!r}; there are: {', '.join(sorted(declared))}")


def edit_agent(ctx: WebContext, agent_id: str, edit: schemas.AgentEdit) -> schemas.Edited:
    """Change what is given of an agent and leave the rest.

    Raises:
        UnknownAgent, UnknownAgentType: There is no such agent, or its type cannot be loaded.
        OptionError: An option is unknown or has a value of a wrong form.
        UsageError: There is nothing to change.
    """
    if edit.name is None and edit.description is None and not edit.options:
        raise UsageError("nothing to change: give a name, a description or options")
    options = {key: None if value == "" else value for key, value in edit.options.items()}

    def change(manager: SyncManager) -> bool:
        _check_names(load_agent_type(manager.stored(agent_id).type_name), options)
        return manager.edit_agent(agent_id, edit.name, edit.description, options)

    needs_export = ctx.change(change)
    return schemas.Edited(agent=agent_of(ctx, agent_id), needs_export=needs_export)


def remove_agent(ctx: WebContext, agent_id: str) -> None:
    """Remove an agent with its pointer and its dead letters; what its service holds stays there.

    Raises:
        UnknownAgent: There is none of this id.
    """
    ctx.change(lambda manager: manager.remove_agent(agent_id))


def activate(ctx: WebContext, agent_id: str, where: schemas.Activate) -> schemas.Activated:
    """Let an agent run; a new one has to be told where it begins.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is new and nothing was said, or it needs an export.
    """

    def change(manager: SyncManager) -> bool:
        stored = manager.stored(agent_id)
        if stored.state == "new" and where.begin is None:
            raise StateForbids(
                f"agent {agent_id!r} is new: say where it begins, at the start or now, or export it",
                agent_id=agent_id,
                state=stored.state,
            )
        manager.activate(agent_id, from_start=where.begin == "start", from_now=where.begin == "now")
        return stored.export is not None

    unfinished = ctx.change(change)
    wake(ctx)
    return schemas.Activated(agent=agent_of(ctx, agent_id), unfinished_export=unfinished)


def pause(ctx: WebContext, agent_id: str) -> schemas.Paused:
    """Keep an agent from running until it is activated; a run under way ends after its slice.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is new, or stopped already.
    """

    def change(manager: SyncManager) -> str:
        manager.pause(agent_id)
        return leases.holder(manager.stored(agent_id).lease, ctx.clock())

    holder = ctx.change(change)
    return schemas.Paused(agent=agent_of(ctx, agent_id), holder=holder)


def rewind(ctx: WebContext, agent_id: str, to: schemas.Rewind) -> schemas.Agent:
    """Put a paused agent's pointer back, or forward.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is not paused.
        Leased: A run that began before it was paused has not ended yet.
        PositionPruned: What lies after the position is no longer kept.
        UsageError: Neither a position nor a time is given, or both; or nothing is sealed there yet.
    """
    if (to.position is None) == (to.time is None):
        raise UsageError("say where to: a position, or a time")

    def change(manager: SyncManager) -> None:
        position = to.position
        if to.time is not None:
            position = math.floor(to.time.timestamp() // manager.granularity)
        try:
            manager.rewind(agent_id, position)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc

    ctx.change(change)
    return agent_of(ctx, agent_id)


def enqueue(ctx: WebContext, agent_id: str, what: schemas.Enqueue) -> schemas.Enqueued:
    """Have an agent send objects with its next runs.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It has no pointer yet.
        UsageError: An id or an action is none.
    """

    def change(manager: SyncManager) -> int:
        try:
            return manager.enqueue(agent_id, what.object_ids, what.actions)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc

    queued = ctx.change(change)
    wake(ctx)
    return schemas.Enqueued(queued=queued)


def wake(ctx: WebContext) -> None:
    """Let the runner of this process, if there is one, look for work now."""
    if ctx.runner is not None:
        ctx.runner.wake()


def agent_of(ctx: WebContext, agent_id: str) -> schemas.Agent:
    """Return where an agent stands now.

    Raises:
        UnknownAgent: There is none of this id.
    """
    with ctx.reading() as manager:
        return _shown(ctx, manager, agent_id)


def _shown(ctx: WebContext, manager: SyncManager, agent_id: str) -> schemas.Agent:
    return shown_agent(manager.agent_status(agent_id, ctx.clock()))
