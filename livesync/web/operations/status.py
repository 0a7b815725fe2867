"""Where everything stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ... import __version__
from ...status import AgentStatus
from .. import schemas
from ..context import WebContext
from .shown import shown


def get_status(ctx: WebContext) -> schemas.Status:
    """Return where the track and its readers stand; the time it takes does not depend on the track's length.

    Raises:
        DatabaseGone, NotInstalled, UpgradeNeeded: There is nothing to look at.
    """
    now = ctx.clock()
    with ctx.reading() as manager:
        found = manager.status(now=now)
    ctx.samples.note(found, now)
    return shown(
        schemas.Status,
        found,
        time=now,
        version=__version__,
        site_matches=found.site == ctx.site,
        runner=runner_state(ctx),
        agents=[shown_agent(agent) for agent in found.agents],
        readers=[shown(schemas.Reader, reader) for reader in found.readers],
    )


def get_samples(ctx: WebContext) -> schemas.Samples:
    """Return how far the agents were behind in the last hour, as far as somebody has looked."""
    return schemas.Samples(
        samples=[
            schemas.StatusSample(
                time=sample.time,
                waiting=sample.waiting,
                agents=[
                    schemas.LagSample(
                        agent_id=agent_id,
                        lag_actions=actions,
                        lag_seconds=seconds,
                        delivered=sample.delivered[agent_id],
                    )
                    for agent_id, (actions, seconds) in sample.lags.items()
                ],
            )
            for sample in ctx.samples.all()
        ]
    )


def runner_state(ctx: WebContext) -> str:
    """Return ``running``, ``stopped`` or ``none``: whether agents are run in this process."""
    if ctx.runner is None:
        return "none"
    return "running" if ctx.runner.is_alive() else "stopped"


def shown_agent(agent: AgentStatus) -> schemas.Agent:
    """Return an agent's status as it goes out."""
    return shown(
        schemas.Agent,
        agent,
        last_run=None if agent.last_run is None else _last_run(agent.last_run),
        totals=shown_counts(agent.totals),
        batch_seconds=agent.totals.get("batch_seconds", ((), 0.0))[1],
    )


def _last_run(run: Mapping[str, Any]) -> schemas.LastRun:
    return schemas.LastRun(
        ended=run.get("time"),
        seconds=run.get("seconds", 0.0),
        till=run.get("till"),
        error=str(run.get("error", "")),
        counts=shown_counts(run),
    )


def shown_counts(counts: Mapping[str, Any]) -> schemas.Counts:
    """Return the counts that a mapping holds among other things."""
    names = [field.name for field in msgspec.structs.fields(schemas.Counts)]
    return schemas.Counts(**{name: counts.get(name, 0) for name in names})
