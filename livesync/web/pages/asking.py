"""What is done with an agent once a page has said what it does: each shows the page and takes the answer."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from ...errors import LiveSyncError
from .. import operations, schemas
from ..errors import SameAtWork
from .confirming import Asked, answered, ask, is_confirmed, wrong
from .forms import Field, Form
from .frame import go, who_asks
from .refusals import REFUSALS, status_of

#: Objects that can be named in one form; the command line takes more, from a file.
_MOST_OBJECTS = 10_000

#: Positions are keys of a BTree of 64-bit integers.
_MOST = 2**62


def begin(request: Request) -> Response:
    """Give a new agent its pointer: by an export, now, or at the start of what is kept."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-begin",
        heading=f"Where does {agent.name} begin?",
        effect=(
            "The agent gets its pointer, and from then on it has to deliver everything that is recorded.",
            "What has not been delivered stays on the track until it is.",
        ),
        submit="Begin",
        back=("agent", {"agent": agent.id}),
        form=Form.of(
            Field(
                "where",
                "Begin",
                "export",
                "choices",
                choices=(
                    ("export", "With an export", "Everything that exists is sent, then what changes"),
                    ("now", "Now", "Only what changes from now on is sent"),
                    ("start", "At the start of the track", "Everything that is still kept on it is sent"),
                ),
            )
        ),
    )

    def take(asked: Asked) -> Response:
        where = asked.form.values()["where"]
        if where not in ("export", "now", "start"):
            return wrong(request, asked, {"where": "Choose one of them"})

        def carry_out() -> Response:
            if where == "export":
                job = operations.export_agent(request.livesync, agent.id, schemas.Export(), who_asks(request))
                return go(request, "job", job=job.id)
            point = schemas.Activate(begin="start" if where == "start" else "now")
            operations.activate(request.livesync, agent.id, point)
            return go(request, "agent", f"{agent.name} is active", agent=agent.id)

        return _carried_out(request, asked, carry_out)

    return answered(request, asked, take)


def export(request: Request) -> Response:
    """Send everything that exists to an agent's service, or a part of it."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-export",
        heading=f"Export to {agent.name}?",
        effect=(
            "Everything: all objects are sent as they are, which may take long and be much for the service.",
            "In the end a destination that can removes what is no longer here, and the agent goes live.",
            "A part: the agent's pointer and its state stay as they are.",
            "It can be asked to end at any time, and goes on where it was when it is begun again.",
        ),
        submit="Export",
        back=("agent", {"agent": agent.id}),
        form=Form.of(
            Field(
                "what",
                "What is sent",
                "initial",
                "choices",
                choices=(
                    ("initial", "Everything, and then what changes", ""),
                    ("initial-only", "Everything, and then it pauses", ""),
                    ("when-needed", "Everything, but only if it is needed",
                     "If the destination was emptied, or lacks what no run can bring"),
                    ("none", "Nothing: the destination was filled otherwise", "The agent goes live"),
                    ("under", "An object and everything inside it", ""),
                    ("objects", "Some objects", ""),
                    ("failed", "The objects of its dead letters", ""),
                ),
            ),
            Field("under", "The object that holds them", help="Its id, where its inside is sent"),
            Field("objects", "Objects", kind="area", help="Their ids, one a line, where some are sent"),
            Field("rebuild", "Into a new place, which then takes the old one's", kind="check",
                  help="For everything; only some destinations can"),
            Field("anew", "From the beginning", kind="check", help="Not from where one was left off"),
        ),
    )  # fmt: skip

    def take(asked: Asked) -> Response:
        what, errors = _export_of(asked.form.values())
        if errors or what is None:
            return wrong(request, asked, errors)
        return _begun(
            request,
            asked,
            lambda: operations.export_agent(request.livesync, agent.id, what, who_asks(request)),
        )

    return answered(request, asked, take)


def _export_of(values: dict[str, str]) -> tuple[schemas.Export | None, dict[str, str]]:
    """Return what a form says of an export, or what is wrong with it."""
    chosen, ids = values["what"], _lines(values["objects"])
    if chosen == "under":
        under = values["under"]
        return (schemas.Export(under=under), {}) if under else (None, {"under": "Name the object"})
    if chosen == "objects":
        error = _wrong_ids(ids)
        return (None, {"objects": error}) if error else (schemas.Export(object_ids=ids), {})
    if chosen == "failed":
        return schemas.Export(failed=True), {}
    if chosen not in ("initial", "initial-only", "when-needed", "none"):
        return None, {"what": "Choose one of them"}
    return schemas.Export(
        mode=chosen,  # type: ignore[arg-type]
        rebuild=values["rebuild"] == "yes",
        anew=values["anew"] == "yes",
    ), {}


def repair(request: Request) -> Response:
    """Verify an agent's service, and mend what differs."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-repair",
        heading=f"Repair what {agent.name}'s service holds?",
        effect=(
            "Compares everything that the service holds with what the application has.",
            "What is missing or older is sent; what the application does not have is deleted there.",
        ),
        submit="Repair",
        back=("agent", {"agent": agent.id}),
        is_dangerous=True,
        form=Form.of(
            Field("quick", "Compare by ids and positions only", kind="check", help="Faster: no documents")
        ),
    )
    if not is_confirmed(request):
        return ask(request, asked)
    how = schemas.Verify(quick=request.POST.get("quick") == "yes")
    return _begun(
        request, asked, lambda: operations.repair_agent(request.livesync, agent.id, how, who_asks(request))
    )


def enqueue(request: Request) -> Response:
    """Have an agent send some objects with its next runs."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-enqueue",
        heading=f"Send objects with {agent.name}'s next runs",
        effect=(
            "The objects are put into its slow queue, of which each run sends a part.",
            "They are sent as they are then; one that does not exist is sent as a delete.",
        ),
        submit="Enqueue",
        back=("agent", {"agent": agent.id}),
        form=Form.of(Field("objects", "Objects", kind="area", help="Their ids, one a line", required=True)),
    )

    def take(asked: Asked) -> Response:
        ids = _lines(asked.form.values()["objects"])
        error = _wrong_ids(ids)
        if error:
            return wrong(request, asked, {"objects": error})

        def carry_out() -> Response:
            found = operations.enqueue(request.livesync, agent.id, schemas.Enqueue(object_ids=ids))
            text = f"{words.plural(found.queued, 'object is', 'objects are')} queued; the next runs send them"
            return go(request, "agent", text, agent=agent.id)

        return _carried_out(request, asked, carry_out)

    return answered(request, asked, take)


def rewind(request: Request) -> Response:
    """Put a paused agent's pointer elsewhere: first where to, then what that means, then it is done."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-rewind",
        heading=f"Where is {agent.name}'s pointer to go?",
        effect=(
            "Back: what follows is delivered once more, as it is now.",
            "Forward: what lies between is never delivered.",
            "Next you see how much that is; nothing is changed before.",
        ),
        submit="Go on",
        back=("agent", {"agent": agent.id}),
        form=Form.of(
            Field("time", "To a time (UTC)", kind="datetime-local", help="What follows is delivered again"),
            Field("position", "Or to a position", keyboard="numeric", help="A number, as the track shows it"),
        ),
    )

    def take(asked: Asked) -> Response:
        to, errors = _moment(asked.form.values())
        if to is None:
            return wrong(request, asked, errors)
        sure = _sure_to_rewind(request, agent, to)
        if request.POST.get("sure") != "yes":
            return ask(request, sure)

        def carry_out() -> Response:
            operations.rewind(request.livesync, agent.id, to)
            text = f"{agent.name}'s pointer has moved; it goes on from there once it is activated"
            return go(request, "agent", text, agent=agent.id)

        return _carried_out(request, asked, carry_out)

    return answered(request, asked, take)


def _sure_to_rewind(request: Request, agent: schemas.Agent, to: schemas.Rewind) -> Asked:
    """Return the question that says how much a rewind would deliver again, or never."""
    with request.livesync.reading() as manager:
        granularity = manager.granularity
        position = to.position
        if to.time is not None:
            position = int(to.time.timestamp() // granularity)
        assert position is not None
        now = -1 if agent.position is None else agent.position
        again = manager.track.count(position, now) if position < now else 0
        never = manager.track.count(now, position) if position > now else 0
    where = f"position {position} ({words.utc(position * granularity)})"
    if again or never or position != now:
        what = (
            f"{words.plural(again, 'delivered action')} will be delivered again, as the objects are then."
            if position <= now
            else f"{words.plural(never, 'action')} will never be delivered."
        )
    else:
        what = "The pointer stands there already."
    return Asked(
        agent_id=agent.id,
        name="agent-rewind",
        heading=f"Put {agent.name}'s pointer to {where}?",
        effect=(what, "Its destination takes what is sent again, and is not set back to older states.",
                "Once activated, it goes on from there."),
        submit="Rewind" if position <= now else "Skip",
        back=("agent-rewind", {"agent": agent.id}),
        hidden={
            "position": "" if to.position is None else str(to.position),
            "time": request.POST.get("time", "") if to.time is not None else "",
            "sure": "yes",
        },
        is_dangerous=True,
    )  # fmt: skip


def _moment(values: dict[str, str]) -> tuple[schemas.Rewind | None, dict[str, str]]:
    """Return where to a form says, or what is wrong with it."""
    time, position = values["time"], values["position"]
    if bool(time) == bool(position):
        return None, {"time" if not time else "position": "Give a time or a position, one of the two"}
    if position:
        if position.isascii() and position.isdigit() and int(position[:20]) <= _MOST:
            return schemas.Rewind(position=int(position)), {}
        return None, {"position": "A position is a whole number, such as the track shows"}
    try:
        read = datetime.datetime.fromisoformat(time)
        zoned = read if read.tzinfo is not None else read.replace(tzinfo=datetime.timezone.utc)
        if zoned.timestamp() >= 0:
            return schemas.Rewind(time=zoned), {}
    except (ValueError, OverflowError):
        pass
    return None, {"time": "A time looks like 2026-11-05T10:00 and is of 1970 or later"}


def remove(request: Request) -> Response:
    """Remove an agent."""
    agent = _agent(request)
    asked = Asked(
        agent_id=agent.id,
        name="agent-remove",
        heading=f"Remove {agent.name}?",
        effect=(
            "The agent, its options and its pointer are gone: what it has yet to deliver is never delivered.",
            f"Its {words.plural(agent.dead, 'dead letter')} and the ledger of its runs are gone with it."
            if agent.dead
            else "The ledger of its runs is gone with it.",
            "What its service holds stays there.",
        ),
        submit="Remove it for good",
        back=("agent", {"agent": agent.id}),
        is_dangerous=True,
        form=Form.of(Field("id", "Its id", help=f"To be sure, write: {agent.id}", required=True)),
    )

    def take(asked: Asked) -> Response:
        if asked.form.values()["id"] != agent.id:
            return wrong(request, asked, {"id": f"Write {agent.id}, and it is removed"})
        operations.remove_agent(request.livesync, agent.id)
        return go(request, "agents", f"{agent.name} is removed; what its service holds stays there")

    return answered(request, asked, take)


# -- what they share -----------------------------------------------------------------------------


def _agent(request: Request) -> schemas.Agent:
    return operations.show_agent(request.livesync, request.matchdict["agent"]).agent


def _begun(request: Request, asked: Asked, begin: Callable[[], schemas.Job]) -> Response:
    """Begin a job and lead to it."""
    return _carried_out(request, asked, lambda: go(request, "job", job=begin().id))


def _carried_out(request: Request, asked: Asked, carry_out: Callable[[], Response]) -> Response:
    """Do it; where it is refused, the question is shown again with why."""
    try:
        return carry_out()
    except SameAtWork as exc:
        return go(request, "job", "This is at work already", "warn", job=exc.job_id)
    except REFUSALS as exc:
        refusal: LiveSyncError = exc
    return ask(request, asked.refused(refusal), status_of(refusal))


def _lines(text: str) -> list[str]:
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _wrong_ids(ids: list[str]) -> str:
    if not ids:
        return "Name at least one object"
    if len(ids) > _MOST_OBJECTS:
        return f"At most {_MOST_OBJECTS:,} at once; the command line takes more, from a file"
    longest = max(ids, key=len)
    return f"{longest[:40]}… is too long for an id" if len(longest) > 512 else ""
