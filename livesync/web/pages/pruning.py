"""Dropping from the track what nobody needs any more."""

from __future__ import annotations

from dataclasses import replace

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from .. import operations, schemas
from .confirming import Asked, ask
from .forms import Field, Form
from .frame import go
from .refusals import REFUSALS, status_of

_DAY_S = 86400.0


def prune(request: Request) -> Response:
    """Drop what every agent has delivered, once it is old enough."""
    asked = Asked(
        agent_id="",
        name="track-prune",
        heading="Prune the track?",
        effect=(
            "Drops for good what every agent has delivered and is older than you say.",
            "No pointer can be put back before it; a dropped change can be delivered by an export only.",
        ),
        submit="Prune",
        back=("track", {}),
        section="track",
        is_dangerous=True,
        form=Form.of(
            Field("days", "Keep how many days", "7", keyboard="decimal", required=True),
            Field(
                "leave_behind",
                "Leave agents behind",
                kind="check",
                help="Also what an agent has yet to deliver: it is stopped, and needs an export",
            ),
        ),
    )
    if request.method == "GET":
        return ask(request, asked)
    asked = replace(asked, form=asked.form.filled(request.POST))
    values = asked.form.values()
    days = _days(values["days"])
    if days is None:
        error = {"days": "Give a number of days from 0 to 366"}
        return ask(request, replace(asked, form=asked.form.with_errors(error)), 422)
    what = schemas.Prune(keep_s=days * _DAY_S, leave_behind=values["leave_behind"] == "yes")
    try:
        found = operations.prune(request.livesync, what)
    except REFUSALS as exc:
        return ask(request, asked.refused(exc), status_of(exc))
    told = [f"{words.plural(found.dropped, 'action is', 'actions are')} dropped"]
    told += [f"{agent_id} was left behind and needs an export" for agent_id in found.left_behind]
    told += [one.text for one in found.held_back]
    return go(request, "track", "; ".join(told), "warn" if len(told) > 1 else "good")


def _days(text: str) -> float | None:
    try:
        days = float(text)
    except ValueError:
        return None
    return days if 0 <= days <= 366 else None
