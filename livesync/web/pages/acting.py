"""What is done with an agent at once, by a button: it leads to a page that says what came of it."""

from __future__ import annotations

from collections.abc import Callable

from pyramid.request import Request
from pyramid.response import Response

from ...errors import LiveSyncError
from .. import operations, schemas
from ..errors import SameAtWork
from .agents import shown_agent
from .frame import go, who_asks
from .refusals import REFUSALS

#: Begins a job: for which agent, and who asks.
Begin = Callable[[str, str], schemas.Job]


def run(request: Request) -> Response:
    """Let an agent run once."""
    return begin_job(request, lambda agent_id, who: operations.run_agent(request.livesync, agent_id, who))


def test(request: Request) -> Response:
    """Ask an agent's service."""
    context = request.livesync
    return begin_job(request, lambda agent_id, who: operations.try_connection(context, agent_id, who))


def simulate(request: Request) -> Response:
    """Find out what a run would send."""
    what = schemas.Simulate(documents=True)
    return begin_job(
        request, lambda agent_id, who: operations.simulate_agent(request.livesync, agent_id, what, who)
    )


def verify(request: Request) -> Response:
    """Compare what an agent's service holds with what the application has."""
    how = schemas.Verify()
    return begin_job(
        request, lambda agent_id, who: operations.verify_agent(request.livesync, agent_id, how, who)
    )


def activate(request: Request) -> Response:
    """Let an agent that has a pointer run again."""
    agent_id = request.matchdict["agent"]
    try:
        found = operations.activate(request.livesync, agent_id, schemas.Activate())
    except REFUSALS as exc:
        return _refused(request, exc)
    if found.unfinished_export:
        return go(request, "agent", "It goes on once its export is finished", "warn", agent=agent_id)
    return go(request, "agent", f"{found.agent.name} is active", agent=agent_id)


def pause(request: Request) -> Response:
    """Keep an agent from running."""
    agent_id = request.matchdict["agent"]
    try:
        found = operations.pause(request.livesync, agent_id)
    except REFUSALS as exc:
        return _refused(request, exc)
    text = f"{found.agent.name} is paused; its pointer stays"
    if found.holder:
        text += f"; what is under way ({found.holder}) ends after its slice"
    return go(request, "agent", text, agent=agent_id)


def begin_job(request: Request, begin: Begin) -> Response:
    """Begin a job and lead to it; to the one that is at the very same already, where there is one."""
    agent_id = request.matchdict["agent"]
    try:
        job = begin(agent_id, who_asks(request))
    except SameAtWork as exc:
        return go(request, "job", "This is at work already", "warn", job=exc.job_id)
    except REFUSALS as exc:
        return _refused(request, exc)
    return go(request, "job", job=job.id)


def _refused(request: Request, refusal: LiveSyncError) -> Response:
    return shown_agent(request, request.matchdict["agent"], refusal)
