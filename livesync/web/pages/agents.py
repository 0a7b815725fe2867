"""Agents: the list, one of them, and the forms that add and edit one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyramid.request import Request
from pyramid.response import Response

from ...agent import check_agent_id, load_agent_type
from ...errors import LiveSyncError, OptionError
from ...options import Option
from .. import operations, schemas
from ..timeline import timeline
from .confirming import Asked, ask, is_confirmed
from .deeds import deeds_of
from .forms import Field, Form, Group, by_field, option_groups, read_options
from .frame import Message, Page, go, may_operate, who_asks
from .jobs import kind_of
from .listing import cursor_of
from .refusals import REFUSALS, status_of, text_of

#: Most characters of a name or a description.
_LONGEST: Final = 1000

#: Jobs that are shown below an agent.
_JOBS: Final = 8


def agents_page(request: Request) -> Response:
    """List the agents."""
    page = Page(request, "Agents", "agents")
    found = operations.list_agents(request.livesync, cursor_of(request))
    older = found.next and page.url("agents", **{"from": found.next})
    return page.response("agents.html", agents=found.agents, older=older)


def agent_page(request: Request) -> Response:
    """Show all about one agent, and what can be done with it."""
    return shown_agent(request, request.matchdict["agent"])


def shown_agent(request: Request, agent_id: str, refusal: LiveSyncError | None = None) -> Response:
    """Return the page of an agent; with why something was refused, where it was."""
    context = request.livesync
    detail = operations.show_agent(context, agent_id)
    status = operations.get_status(context)
    page = Page(request, detail.agent.name, "agents", now=status.time)
    page.crumbs = (("Agents", page.url("agents")),)
    if refusal is not None:
        page.messages.append(Message("bad", text_of(refusal)))
    line = timeline(status, lambda begin, end: 0, status.time)
    jobs = [job for job in operations.list_jobs(context).jobs if job.agent_id == agent_id][:_JOBS]
    return page.response(
        "agent.html",
        200 if refusal is None else status_of(refusal),
        agent=detail.agent,
        detail=detail,
        status=status,
        lane=next(lane for lane in line.lanes if lane.agent.id == agent_id),
        given=[(name, detail.options[name]) for name in detail.given],
        defaults=[pair for pair in sorted(detail.options.items()) if pair[0] not in detail.given],
        deeds=deeds_of(page, detail) if may_operate(request) else [],
        jobs=jobs,
    )


# -- adding --------------------------------------------------------------------------------------


def add_page(request: Request) -> Response:
    """Show the types there are, or the form of one of them."""
    type_name = request.GET.get("type")
    if not type_name:
        page = Page(request, "Add an agent", "agents")
        page.crumbs = (("Agents", page.url("agents")),)
        return page.response("agent_types.html", types=operations.agent_types(request.livesync).types)
    return _add_form(request, type_name, _new_form(_options(type_name)))


def add(request: Request) -> Response:
    """Add an agent, or ask the service that it would have."""
    type_name = request.GET.get("type", "")
    options = _options(type_name)
    form = _new_form(options).filled(request.POST)
    values = form.values()
    given, errors = read_options(options, values)
    is_test = request.POST.get("do") == "test"
    if not is_test:
        errors |= _id_errors(values["id"]) | _line_errors(values)
    if errors:
        return _add_form(request, type_name, form.with_errors(errors), 422)
    try:
        if is_test:
            connection = schemas.Connection(type=type_name, options=_set(given))
            job = operations.try_options(request.livesync, connection, who_asks(request))
            return _add_form(request, type_name, form, job=job)
        new = schemas.NewAgent(
            id=values["id"],
            type=type_name,
            name=values["name"] or None,
            description=values["description"],
            options=_set(given),
        )
        agent = operations.add_agent(request.livesync, new)
    except REFUSALS as exc:
        return _add_form(request, type_name, _refused(form, exc), status_of(exc))
    return go(request, "agent-begin", f"{agent.name} is added. It has no pointer yet.", agent=agent.id)


def _options(type_name: str) -> tuple[Option, ...]:
    return load_agent_type(type_name).declared_options()


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _new_form(options: tuple[Option, ...]) -> Form:
    about = Group(
        "About it",
        (
            Field("id", "Id", required=True, help="Letters, digits, - _ or . ; it stays for good"),
            Field("name", "Name", help="What people call it; the id if empty"),
            Field("description", "Description", help="One line"),
        ),
    )
    return Form((about, *option_groups(options)))


def _add_form(
    request: Request, type_name: str, form: Form, status: int = 200, job: schemas.Job | None = None
) -> Response:
    page = Page(request, f"Add an agent: {type_name}", "agents")
    page.crumbs = (("Agents", page.url("agents")), ("Add", page.url("agent-add")))
    found = next(
        (one for one in operations.agent_types(request.livesync).types if one.name == type_name), None
    )
    return page.response(
        "agent_form.html",
        status,
        heading=f"Add an agent: {type_name}",
        text="" if found is None else found.help,
        form=form,
        action=page.url("agent-add", type=type_name),
        submit="Add the agent",
        can_test=True,
        back=page.url("agents"),
        job=job,
        result_kind="" if job is None else kind_of(job),
    )


def _id_errors(agent_id: str) -> dict[str, str]:
    if not agent_id:
        return {"id": "This is needed"}
    try:
        check_agent_id(agent_id)
    except ValueError:
        return {"id": "1 to 64 letters, digits, - _ or . ; it begins with a letter, a digit or _"}
    return {}


def _line_errors(values: Mapping[str, str]) -> dict[str, str]:
    return {
        name: f"One line of at most {_LONGEST:,} characters"
        for name in ("name", "description")
        if len(values[name]) > _LONGEST or not all(char.isprintable() for char in values[name])
    }


def _refused(form: Form, refusal: LiveSyncError) -> Form:
    """Return the form with what was refused: beside the field that it is about, where that is known."""
    errors = by_field(refusal) if isinstance(refusal, OptionError) else {}
    if not errors and str(refusal).startswith("there is an agent "):
        errors = {"id": "There is an agent of this id already"}
    return form.with_errors(errors, "" if errors else text_of(refusal))


# -- editing -------------------------------------------------------------------------------------


def edit_page(request: Request) -> Response:
    """Show the form that edits an agent."""
    detail = operations.show_agent(request.livesync, request.matchdict["agent"])
    return _edit_form(request, detail, _edit_fields(detail, _options(detail.agent.type_name)))


def edit(request: Request) -> Response:
    """Change an agent; asks first where it then names another destination."""
    detail = operations.show_agent(request.livesync, request.matchdict["agent"])
    agent = detail.agent
    options = _options(agent.type_name)
    form = _edit_fields(detail, options).filled(request.POST)
    values = form.values()
    given, errors = read_options(options, values)
    errors |= _line_errors(values)
    if errors:
        return _edit_form(request, detail, form.with_errors(errors), 422)
    moved = [
        option.name
        for option in options
        if option.identifies
        and (option.default if given[option.name] is None else given[option.name])
        != detail.options.get(option.name)
    ]
    if moved and agent.state != "new" and not is_confirmed(request):
        return ask(request, _ask_to_move(agent, moved, values))
    what = schemas.AgentEdit(
        name=values["name"] or agent.id, description=values["description"], options=given
    )
    try:
        edited = operations.edit_agent(request.livesync, agent.id, what)
    except REFUSALS as exc:
        return _edit_form(request, detail, _refused(form, exc), status_of(exc))
    if edited.needs_export:
        text = f"{agent.id} is changed and stopped: it names another destination, which needs an export."
        return go(request, "agent", text, "warn", agent=agent.id)
    return go(request, "agent", f"{edited.agent.name} is changed", agent=agent.id)


def _edit_fields(detail: schemas.AgentDetail, options: tuple[Option, ...]) -> Form:
    about = Group(
        "About it",
        (
            Field("name", "Name", detail.agent.name, help="What people call it; the id if empty"),
            Field("description", "Description", detail.agent.description, help="One line"),
        ),
    )
    return Form((about, *option_groups(options, detail.options)))


def _edit_form(request: Request, detail: schemas.AgentDetail, form: Form, status: int = 200) -> Response:
    agent = detail.agent
    page = Page(request, f"Edit {agent.name}", "agents")
    page.crumbs = (("Agents", page.url("agents")), (agent.name, page.url("agent", agent=agent.id)))
    return page.response(
        "agent_form.html",
        status,
        heading=f"Edit {agent.name}",
        text=f"An agent of type {agent.type_name}",
        form=form,
        action=page.url("agent-edit", agent=agent.id),
        submit="Save",
        can_test=False,
        back=page.url("agent", agent=agent.id),
        job=None,
        result_kind="",
    )


def _ask_to_move(agent: schemas.Agent, moved: list[str], values: Mapping[str, str]) -> Asked:
    return Asked(
        agent_id=agent.id,
        name="agent-edit",
        heading=f"Let {agent.name} name another destination?",
        effect=(
            f"{', '.join(moved)} says which destination it is: it will be another one.",
            "The agent is stopped until it has been exported there: everything that exists is sent.",
            "What the old destination holds stays there.",
        ),
        submit="Change it",
        back=("agent-edit", {"agent": agent.id}),
        hidden=values,
        is_dangerous=True,
    )
