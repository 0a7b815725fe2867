"""Pages that only show: runs, the track, tasks, and what has no pages of its own yet."""

from __future__ import annotations

from collections.abc import Sequence

from pyramid.request import Request
from pyramid.response import Response

from ... import words
from .. import operations
from ..charts import Chart, Point, chart, rates
from ..schemas import Agent, Run, StatusSample
from .forms import agent_picker
from .frame import Page
from .listing import all_agents, chosen_agent, cursor_of

#: The lines of the ledger that are kept of an agent.
_KEPT = 50


def runs_page(request: Request) -> Response:
    """Show the ledger, of one agent or all, and how fast and how far behind they were."""
    context = request.livesync
    agents = all_agents(request)
    agent = chosen_agent(request, agents)
    cursor = cursor_of(request)
    page = Page(request, "Runs" if agent is None else f"Runs of {agent.name}", "runs")
    named = None if agent is None else agent.id
    found = operations.list_runs(context, named, cursor)
    granularity = operations.get_status(context).granularity
    charts: list[tuple[str, Chart]] = []
    if cursor is None:
        samples = operations.get_samples(context).samples
        charts = lately(samples, named, page.now)
        if named is not None:
            charts += of_ledger(operations.list_runs(context, named, limit=_KEPT).runs, granularity, page.now)
    return page.response(
        "runs.html",
        agent=agent,
        runs=found.runs,
        charts=[(kind, drawn) for kind, drawn in charts if drawn.line],
        picker=agent_picker(_names(agents), named, "All agents"),
        older=found.next and page.url("runs", agent=named, **{"from": found.next}),
        newest=cursor and page.url("runs", agent=named),
    )


def _names(agents: dict[str, Agent]) -> dict[str, str]:
    return {agent_id: agent.name for agent_id, agent in agents.items()}


def of_ledger(runs: Sequence[Run], granularity: int, now: float) -> list[tuple[str, Chart]]:
    """Return the charts of one agent's runs (the newest first): how fast each was, and how far it came."""
    ended = [run for run in reversed(runs) if run.ended is not None]
    begin = runs[-1].began if runs else now - 3600.0
    end = (ended[-1].ended if ended else None) or now
    speeds: list[Point] = [
        (run.ended, run.counts.accepted / run.seconds)
        for run in ended
        if run.ended is not None and run.seconds > 0 and run.counts.accepted
    ]
    behind: list[Point] = [
        (run.ended, max(0.0, run.ended - (run.till + 1) * granularity))
        for run in ended
        if run.ended is not None and run.till is not None
    ]
    return [
        ("", chart("Records a second, of each run", speeds, begin, end)),
        ("is-lag", chart("Behind at the end of each run", behind, begin, end, words.duration, is_time=True)),
    ]


def lately(samples: Sequence[StatusSample], agent_id: str | None, now: float) -> list[tuple[str, Chart]]:
    """Return the charts of the last hour, as far as somebody has looked: of one agent, or of all together."""
    delivered: list[Point] = []
    behind: list[Point] = []
    for sample in samples:
        seen = [one for one in sample.agents if agent_id in (None, one.agent_id)]
        if seen:
            delivered.append((sample.time, float(sum(one.delivered for one in seen))))
            behind.append((sample.time, max(one.lag_seconds for one in seen)))
    if len(delivered) < 2:
        return []
    begin = max(delivered[0][0], now - 3600.0)
    who = "of all agents" if agent_id is None else "lately"
    most = "Furthest behind" if agent_id is None else "Behind, lately"
    return [
        ("", chart(f"Records a second, {who}", rates(delivered, longest_s=120.0), begin, now)),
        ("is-lag", chart(most, behind, begin, now, words.duration, is_time=True)),
    ]


def track_page(request: Request) -> Response:
    """Show what lies on the track, the newest first: all of it, or what one agent has yet to deliver."""
    context = request.livesync
    agents = all_agents(request)
    agent = chosen_agent(request, agents)
    cursor = cursor_of(request)
    page = Page(request, "Track", "track")
    named = None if agent is None else agent.id
    after = None if agent is None else agent.position
    waiting = operations.list_waiting(context)
    found = operations.list_track(context, cursor, after=after)
    begun = {agent_id: one.name for agent_id, one in agents.items() if one.state != "new"}
    return page.response(
        "track.html",
        agent=agent,
        waiting=waiting,
        entries=found.entries,
        picker=agent_picker(begun, named, "Everything that is kept"),
        older=found.next and page.url("track", agent=named, **{"from": found.next}),
        newest=cursor and page.url("track", agent=named),
    )


def peers_page(request: Request) -> Response:
    """Show the peers of this database, the last sessions, and conflicts; ``part=live``: what changes."""
    found = operations.get_peers(request.livesync)
    page = Page(request, "Peers", "peers")
    going_on = sum(session.active and not session.error for session in found.sessions)
    if request.GET.get("part") == "live":
        return page.part("_peers_live.html", found=found, going_on=going_on)
    return page.response("peers.html", found=found, going_on=going_on)
