"""The status: the track as a time line with each agent's pointer on it, and the figures that matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from .. import operations
from ..schemas import Agent, Status
from ..timeline import Scale, summary, timeline
from .frame import Page

#: How time can be laid along the line, and what each is called.
SCALES: Final = (
    (Scale.RECENT, "Recent first"),
    (Scale.HOUR, "Last hour"),
    (Scale.DAY, "Last day"),
    (Scale.ALL, "All, evenly"),
)

#: Over how many seconds the rate is told.
_RATE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure; ``kind``: ``bad``, ``wait`` or "" where nothing is wrong."""

    label: str
    value: str
    detail: str
    kind: str = ""


def status_page(request: Request) -> Response:
    """Show where everything stands; with ``part=live`` only what changes, for the script."""
    scale = next((one for one, _ in SCALES if one.value == request.GET.get("scale")), Scale.RECENT)
    context = request.livesync
    status = operations.get_status(context)
    with context.reading() as manager:
        line = timeline(status, manager.track.count, status.time, scale)
        hour_ago = math.ceil((status.time - 3600) / status.granularity) - 1
        last_hour = manager.track.count(hour_ago, None) + status.waiting
    page = Page(request, "Status", "status", now=status.time)
    values = {
        "status": status,
        "own_site": context.site,
        "line": line,
        "tiles": tiles(status, last_hour),
        "rates": rates(request, status),
        "scales": SCALES,
        "summary": summary(status.agents),
    }
    if request.GET.get("part") == "live":
        return page.part("_status_part.html", **values)
    return page.response("status.html", **values)


def tiles(status: Status, last_hour: int) -> list[Tile]:
    """Return the figures at the top."""
    oldest = "nothing is kept"
    if status.oldest is not None:
        oldest = f"the oldest {words.ago(status.oldest * status.granularity, status.time)}"
    behind = max(
        (agent for agent in status.agents if agent.state == "active"),
        key=lambda agent: agent.lag_seconds,
        default=None,
    )
    is_behind = behind is not None and behind.lag_actions > 0
    dead = sum(agent.dead for agent in status.agents)
    stopped = [agent for agent in status.agents if agent.state == "stopped"]
    return [
        Tile("On the track", words.number(status.actions), oldest),
        Tile("In the last hour", words.number(last_hour), "recorded"),
        Tile("In the inbox", words.number(status.waiting), "committed, not on the track yet"),
        Tile(
            "Furthest behind",
            words.duration(behind.lag_seconds) if behind is not None and is_behind else "nobody",
            behind.name if behind is not None and is_behind else "of the active agents",
            "wait" if is_behind else "",
        ),
        Tile(
            "Stopped agents",
            words.number(len(stopped)),
            ", ".join(agent.name for agent in stopped[:3]) or "all can run",
            "bad" if stopped else "",
        ),
        Tile("Dead letters", words.number(dead), _with_dead(status.agents), "bad" if dead else ""),
    ]


def _with_dead(agents: Sequence[Agent]) -> str:
    named = [agent.name for agent in agents if agent.dead]
    return ", ".join(named[:3]) + ("…" if len(named) > 3 else "") or "nothing was refused"


def rates(request: Request, status: Status) -> dict[str, str]:
    """Return how many records a second each agent has delivered in the last minute, where it is known."""
    samples = operations.get_samples(request.livesync).samples
    earlier = next((one for one in samples if one.time >= status.time - _RATE_S), None)
    if earlier is None or status.time - earlier.time < 1:
        return {}
    before = {one.agent_id: one.delivered for one in earlier.agents}
    found = {}
    for agent in status.agents:
        delivered = agent.totals.accepted - before.get(agent.id, agent.totals.accepted)
        if delivered > 0:
            rate = words.number(delivered / (status.time - earlier.time))
            found[agent.id] = f"{rate} {'record' if rate == '1' else 'records'} a second"
    return found
