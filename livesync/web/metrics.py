"""``/metrics``, as Prometheus asks for them: read from the status when somebody asks, and kept nowhere else.

Each application has a registry of its own. A scrape is one look at the status, so it costs as much with a
long track as with a short one; of several at once only one looks.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from .. import __version__, conflicts
from ..agent import State
from ..delivery.ledger import totals_histogram
from ..delivery.measures import BATCH_SECONDS
from ..errors import LiveSyncError
from ..status import AgentStatus, ManagerStatus
from . import operations as ops
from .context import WebContext
from .errors import NotLoggedIn
from .problems import is_database_error

#: What an answer may be old before somebody looks again, in seconds.
KEPT_S: Final = 1.0

#: What became of records: the label of ``livesync_agent_records_total``.
_OUTCOMES: Final = ("accepted", "stale", "dead", "excluded")

#: Headers by which a proxy tells that it is one.
_FORWARDED: Final = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")


def includeme(config: Configurator) -> None:
    """Add the view."""
    config.add_route("livesync.metrics", "/metrics")
    config.add_view(metrics, route_name="livesync.metrics", request_method="GET", livesync_role="public")


def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format, whoever may see it.

    Raises:
        NotLoggedIn: They may not.
    """
    if not may_scrape(request):
        raise NotLoggedIn("metrics are told on this machine, or to whoever shows a token or is logged in")
    return Response(request.livesync_app.metrics_text.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def may_scrape(request: Request) -> bool:
    """Tell whether a request may read the metrics."""
    rule = request.livesync_app.metrics
    if rule == "open" or request.livesync_identity is not None:
        return True
    return rule == "loopback" and _is_from_here(request)


def _is_from_here(request: Request) -> bool:
    """Tell whether somebody on this machine asks, and not a proxy for somebody else."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return False
    return address.is_loopback and not any(name in request.headers for name in _FORWARDED)


class Metrics:
    """The metrics of one application.

    Args:
        ctx: Says where they come from.
        kept_s: What an answer may be old before somebody looks again.
    """

    def __init__(self, ctx: Callable[[], WebContext], kept_s: float = KEPT_S) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_StatusCollector(ctx))
        self._ctx = ctx
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._last: tuple[float, bytes] | None = None

    def text(self) -> bytes:
        """Return them in Prometheus' text format."""
        with self._lock:
            now = self._ctx().clock()
            if self._last is None or not 0 <= now - self._last[0] < self._kept_s:
                self._last = (now, generate_latest(self._registry))
            return self._last[1]


class _StatusCollector(Collector):
    """Makes metrics of the status."""

    def __init__(self, ctx: Callable[[], WebContext]) -> None:
        self._made_of = ctx

    def collect(self) -> Iterable[Metric]:
        """Yield them; where the database does not answer, those that need none."""
        ctx = self._made_of()
        yield InfoMetricFamily("livesync", "What runs here.", {"version": __version__})
        yield from _process(ctx)
        up = GaugeMetricFamily("livesync_database_up", "Whether the database answers and can be used.")
        try:
            with ctx.reading() as manager:
                status = manager.status(now=ctx.clock())
                runs = {agent.id: manager.stored(agent.id).runs_begun for agent in status.agents}
        except Exception as exc:
            if not (isinstance(exc, LiveSyncError) or is_database_error(exc)):
                raise
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        ctx.samples.note(status, ctx.clock())
        yield from _track(status, status.site == ctx.site)
        yield from _agents(status.agents, runs)


def _process(ctx: WebContext) -> Iterator[Metric]:
    counted = CounterMetricFamily(
        "livesync_conflicts", "Conflicts over livesync's own objects in this process.", labels=["whose"]
    )
    for whose, count in conflicts.counts().items():
        counted.add_metric([whose], count)
    yield counted
    alive = GaugeMetricFamily("livesync_runner_alive", "Whether agents are run in this process.")
    alive.add_metric([], ops.runner_state(ctx) == "running")
    yield alive
    jobs = GaugeMetricFamily("livesync_jobs", "Jobs that wait or are at work.", labels=["state"])
    states = [job.state for job in ctx.jobs.all()]
    for state in ("waiting", "running"):
        jobs.add_metric([state], states.count(state))
    yield jobs


def _gauge(name: str, help_: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        family = GaugeMetricFamily(name, help_)
        family.add_metric([], value)
        yield family


def _track(status: ManagerStatus, site_matches: bool) -> Iterator[Metric]:
    granularity = status.granularity
    for name, position in (("oldest", status.oldest), ("newest", status.newest), ("sealed", status.sealed)):
        if position is not None and position >= 0:
            help_ = f"Where the track's {name} position is, in epoch seconds."
            yield from _gauge(f"livesync_track_{name}_timestamp_seconds", help_, position * granularity)
    yield from _gauge("livesync_track_entries", "Positions on the track.", status.entries)
    yield from _gauge("livesync_track_actions", "Actions on the track.", status.actions)
    yield from _gauge("livesync_waiting_actions", "Actions in the inbox.", status.waiting)
    yield from _gauge("livesync_site_matches", "Whether the database is this site's.", site_matches)


_AGENT_GAUGES: Final = (
    ("lag_actions", "Actions that are not delivered.", lambda agent: agent.lag_actions),
    ("lag_seconds", "The age of the oldest action that is not delivered.", lambda agent: agent.lag_seconds),
    ("dead_letters", "Records that could not be delivered.", lambda agent: agent.dead),
    ("queued_objects", "Objects in the slow queue.", lambda agent: agent.queued),
    ("held", "Whether a runner holds it now.", lambda agent: bool(agent.holder)),
    ("last_run_failed", "Whether its last run ended with an error.", lambda agent: bool(agent.last_error)),
)


def _agents(agents: Iterable[AgentStatus], runs: dict[str, int]) -> Iterator[Metric]:
    agents = list(agents)
    for name, help_, value in _AGENT_GAUGES:
        family = GaugeMetricFamily(f"livesync_agent_{name}", help_, labels=["agent"])
        for agent in agents:
            family.add_metric([agent.id], value(agent))
        yield family
    yield _states(agents)
    yield _last_runs(agents)
    yield from _totals(agents, runs)


def _states(agents: list[AgentStatus]) -> Metric:
    family = GaugeMetricFamily("livesync_agent_state", "1 for the state it is in.", labels=["agent", "state"])
    for agent in agents:
        for state in State:
            family.add_metric([agent.id, state.value], agent.state == state.value)
    return family


def _last_runs(agents: list[AgentStatus]) -> Metric:
    family = GaugeMetricFamily(
        "livesync_agent_last_run_timestamp_seconds", "When its last run ended.", labels=["agent"]
    )
    for agent in agents:
        if agent.last_run is not None and agent.last_run.get("time") is not None:
            family.add_metric([agent.id], agent.last_run["time"])
    return family


def _totals(agents: list[AgentStatus], runs: dict[str, int]) -> Iterator[Metric]:
    records = CounterMetricFamily(
        "livesync_agent_records", "What became of its records, ever.", labels=["agent", "outcome"]
    )
    read = CounterMetricFamily("livesync_agent_read", "Actions that it has read, ever.", labels=["agent"])
    retried = CounterMetricFamily("livesync_agent_retried", "Records sent again, ever.", labels=["agent"])
    begun = CounterMetricFamily("livesync_agent_runs", "Runs, exports and repairs, ever.", labels=["agent"])
    seconds = HistogramMetricFamily(
        "livesync_agent_batch_seconds", "How long its requests took.", labels=["agent"]
    )
    for agent in agents:
        for outcome in _OUTCOMES:
            records.add_metric([agent.id, outcome], agent.totals.get(outcome, 0))
        read.add_metric([agent.id], agent.totals.get("read", 0))
        retried.add_metric([agent.id], agent.totals.get("retried", 0))
        begun.add_metric([agent.id], runs[agent.id])
        timings = totals_histogram(agent.totals)
        seconds.add_metric([agent.id], list(_buckets(timings.counts)), timings.seconds)
    yield from (records, read, retried, begun, seconds)


def _buckets(counts: Iterable[int]) -> Iterator[Any]:
    """Yield ``(bound, how many took no longer)``, as Prometheus counts."""
    total = 0
    for bound, count in zip((*map(str, BATCH_SECONDS), "+Inf"), counts, strict=True):
        total += count
        yield [bound, total]
