"""Dead letters: looking through them, sending them again, throwing them away."""

from __future__ import annotations

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from .. import operations, schemas
from .confirming import Asked, ask, is_confirmed
from .forms import agent_picker
from .frame import Page, go, who_asks
from .listing import all_agents, chosen_agent, cursor_of
from .refusals import REFUSALS, status_of


def dead_page(request: Request) -> Response:
    """List dead letters, of one agent or of all."""
    agents = all_agents(request)
    agent = chosen_agent(request, agents)
    cursor = cursor_of(request)
    named = None if agent is None else agent.id
    page = Page(request, "Dead letters", "dead")
    found = operations.list_dead(request.livesync, named, cursor)
    return page.response(
        "dead.html",
        agent=agent,
        letters=found.dead_letters,
        total=found.total,
        picker=agent_picker({key: one.name for key, one in agents.items()}, named, "All agents"),
        older=found.next and page.url("dead", agent=named, **{"from": found.next}),
        newest=cursor and page.url("dead", agent=named),
    )


def letter_page(request: Request) -> Response:
    """Show one dead letter: the record, why it was refused, and its document."""
    context = request.livesync
    agent_id, object_id = request.GET.get("agent", ""), request.GET.get("object", "")
    found = operations.show_dead(context, agent_id, object_id)
    page = Page(request, f"Dead letter of {object_id}", "dead")
    page.crumbs = (("Dead letters", page.url("dead")), (agent_id, page.url("dead", agent=agent_id)))
    return page.response(
        "dead_letter.html",
        letter=found.dead_letter,
        document=found.document,
        granularity=operations.get_status(context).granularity,
    )


def retry_page(request: Request) -> Response:
    """Ask whether to send dead letters again, and do."""
    asked = _asked(request, "Retry", "dead-retry", "Send again")
    if not is_confirmed(request):
        return ask(request, asked)
    object_ids = [request.POST["object"]] if request.POST.get("object") else []
    what = schemas.Retry(object_ids=object_ids, all=not object_ids)
    try:
        job = operations.retry_dead(request.livesync, asked.agent_id, what, who_asks(request))
    except REFUSALS as exc:
        return ask(request, asked.refused(exc), status_of(exc))
    return go(request, "job", job=job.id)


def discard_page(request: Request) -> Response:
    """Ask whether to throw dead letters away, and do."""
    asked = _asked(request, "Discard", "dead-discard", "Throw away")
    if not is_confirmed(request):
        return ask(request, asked)
    object_ids = [request.POST["object"]] if request.POST.get("object") else []
    what = schemas.Discard(object_ids=object_ids, all=not object_ids)
    found = operations.discard_dead(request.livesync, asked.agent_id, what)
    gone = f"{words.plural(found.discarded, 'dead letter is', 'dead letters are')} gone"
    return go(request, "dead", gone, agent=asked.agent_id)


def _asked(request: Request, verb: str, name: str, submit: str) -> Asked:
    """Return what is asked before dead letters of an agent are sent again or thrown away.

    Raises:
        UnknownAgent, NotFound: There is no such agent, or it has no dead letter of the object.
    """
    context, sent = request.livesync, request.params
    agent_id, object_id = sent.get("agent", ""), sent.get("object", "")
    if object_id:
        operations.show_dead(context, agent_id, object_id)
        what = f"the dead letter of {object_id}"
        back = ("dead-letter", {"agent": agent_id, "object": object_id})
    else:
        total = operations.list_dead(context, agent_id, limit=1).total
        what = f"all {words.plural(total, 'dead letter')}"
        back = ("dead", {"agent": agent_id})
    if verb == "Retry":
        effect = [
            f"Sends what {what} stands for once more, as it is in the application now.",
            "What the service takes loses its dead letter; what it refuses again keeps it.",
            "An object that is gone is sent as a delete.",
        ]
    else:
        effect = [
            f"Throws {what} away for good, with the reason and the document.",
            "Nothing is sent: the service goes on without it until the object changes again.",
        ]
    return Asked(
        agent_id=agent_id,
        name=name,
        heading=f"{verb} {what}?",
        effect=tuple(effect),
        submit=submit,
        back=back,
        hidden={"agent": agent_id, "object": object_id},
        is_dangerous=verb != "Retry",
        section="dead",
        in_path=False,
    )
