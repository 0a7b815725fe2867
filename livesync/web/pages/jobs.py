"""Jobs: what somebody has asked for, how far it is, and what came of it."""

from __future__ import annotations

from pyramid.request import Request
from pyramid.response import Response

from .. import operations, schemas
from .frame import Page, go
from .listing import cursor_of


def jobs_page(request: Request) -> Response:
    """List what was asked for."""
    page = Page(request, "Asked for")
    found = operations.list_jobs(request.livesync, cursor_of(request))
    older = found.next and page.url("jobs", **{"from": found.next})
    return page.response("jobs.html", jobs=found.jobs, older=older)


def job_page(request: Request) -> Response:
    """Show a job; with ``part=live`` only what changes, for the script."""
    job = operations.get_job(request.livesync, request.matchdict["job"])
    is_agents = bool(job.agent_id) and job.kind != "task"
    page = Page(request, "Asked for", "agents" if is_agents else "tasks" if job.kind == "task" else "")
    if is_agents:
        page.crumbs = (("Agents", page.url("agents")), (job.agent_id, page.url("agent", agent=job.agent_id)))
    kind = kind_of(job)
    if request.GET.get("part") == "live":
        return page.part("_job_live.html", job=job, result_kind=kind)
    return page.response("job.html", job=job, result_kind=kind, is_agents=is_agents)


def kind_of(job: schemas.Job) -> str:
    """Return what a job's result is: ``run``, ``verify``, ``simulate``, ``test``, or "" for none yet."""
    if job.result is None:
        return ""
    return str(type(job.result).__struct_config__.tag)


def cancel(request: Request) -> Response:
    """Ask a job to end."""
    job = operations.cancel_job(request.livesync, request.matchdict["job"])
    text = "It was asked to end" if job.ended is None else "It had ended already"
    return go(request, "job", text, job=job.id)
