"""``/healthz`` and ``/readyz``: what systemd, Kubernetes and load balancers ask."""

from __future__ import annotations

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from . import operations as ops
from .api.answers import as_json
from .context import WebContext
from .problems import problem_of


def includeme(config: Configurator) -> None:
    """Add both; they tell nothing that is not for everybody."""
    config.add_route("livesync.healthz", "/healthz")
    config.add_view(healthz, route_name="livesync.healthz", request_method="GET", livesync_role="public")
    config.add_route("livesync.readyz", "/readyz")
    config.add_view(readyz, route_name="livesync.readyz", request_method="GET", livesync_role="public")


def healthz(request: Request) -> Response:
    """Answer 200 as long as the process does."""
    return as_json({"status": "ok"})


def readyz(request: Request) -> Response:
    """Answer 200 where the database answers and is this site's, and a runner, if any, is alive; else 503."""
    reason = not_ready(request.livesync)
    if reason:
        return as_json({"status": "not ready", "reason": reason}, 503)
    return as_json({"status": "ok"})


def not_ready(ctx: WebContext) -> str:
    """Return why this process cannot do its work now: a code and no more; "" where it can."""
    try:
        with ctx.reading() as manager:
            manager.check_site(ctx.site)
    except Exception as exc:  # noqa: BLE001 - whatever it is, we are not ready
        return problem_of(exc).code
    return "runner_stopped" if ops.runner_state(ctx) == "stopped" else ""
