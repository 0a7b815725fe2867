"""The web application, on its own or within an application's own Pyramid.

:func:`make_app` returns a WSGI application. :func:`includeme` mounts the same within a host's: under the
``route_prefix`` that it is included with, with the host's login where it has one. Nothing is opened here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from . import security, sessions
from .context import Runner, WebContext
from .metrics import Metrics
from .problems import Problem
from .throttle import Throttle
from .users import Users

if TYPE_CHECKING:
    from ..host import Host
    from ..upkeep.notices import NoticeSettings

#: Bytes of a request's body that are taken.
MAX_BODY_BYTES: Final = 4_000_000

#: Under this key a host's registry gives a :class:`WebApp` to :func:`includeme`.
REGISTRY_KEY: Final = "livesync.web"


@dataclass(slots=True)
class WebApp:
    """What all requests share.

    Attributes:
        context: What operations are given.
        users: Who may log in, and by which tokens.
        secret: Signs the cookies; a new one for each process unless it is given.
        metrics: Who may read ``/metrics``: ``loopback`` (whoever asks from this machine, else by token or
            login), ``open`` or ``login``.
        see, operate: Principals of a host's policy with access control lists.
        max_body_bytes: Of a request.
        idle_s, absolute_s: After how many seconds a login ends.
    """

    context: WebContext
    users: Users = field(default_factory=Users)
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    metrics: str = "loopback"
    see: tuple[str, ...] = ()
    operate: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    idle_s: float = sessions.IDLE_S
    absolute_s: float = sessions.ABSOLUTE_S
    #: Renders a problem as a page; JSON where there is none.
    problem_page: Callable[[Request, Problem], Response] | None = None
    metrics_text: Metrics = field(init=False)
    sessions: sessions.Sessions = field(init=False)
    throttle: Throttle = field(init=False)
    root: security.Root = field(init=False)

    def __post_init__(self) -> None:
        self.throttle = Throttle(time.monotonic if self.context.clock is time.time else self.context.clock)
        self.metrics_text = Metrics(lambda: self.context)
        self.root = security.Root(self.see, self.operate)
        self.mount("")

    def mount(self, prefix: str) -> None:
        """Let the cookie be sent below ``prefix`` only."""
        self.sessions = sessions.Sessions(
            self.secret, prefix, self.context.clock, self.idle_s, self.absolute_s
        )

    def answer(self, request: Request, problem: Problem) -> Response:
        """Return a problem as JSON or as a page, as the request wants it."""
        from .api.answers import problem_as_json

        page = self.problem_page
        if page is None or _is_for_programs(request):
            return problem_as_json(problem)
        return page(request, problem)

    def close(self) -> None:
        """Let the jobs end, and take no more."""
        self.context.jobs.close()


def _is_for_programs(request: Request) -> bool:
    """Tell whether programs ask at this address; and of one that is no text, nobody can say."""
    try:
        path = request.path_info.removeprefix(request.livesync_prefix)
    except UnicodeDecodeError:
        return True
    return path.startswith("/api/") or path in ("/metrics", "/healthz", "/readyz")


def make_app(
    db: Any,
    host: Host,
    *,
    site: str = "",
    users: Users | str | Path | None = None,
    runner: Runner | None = None,
    secret: str | None = None,
    prefix: str = "",
    notices: NoticeSettings | None = None,
    clock: Callable[[], float] = time.time,
    metrics: str = "loopback",
    **settings: Any,
) -> Any:
    """Return the web application as a WSGI callable; its ``livesync`` attribute is the :class:`WebApp`.

    Args:
        db: An open ``ZODB.DB``; closing it is the caller's business.
        host: The application.
        site: The name of this site.
        users: Who may log in: the users, or their file; None: only tokens of the process.
        runner: Who runs the agents in this process, if anybody: a :class:`~.context.Runner`.
        secret: Signs the cookies; None: a new one, so that logins end with the process.
        prefix: Where it is mounted: ``/livesync``; "" for the root.
        notices: Who is told when an agent stops or lags.
        clock: Epoch seconds.
        metrics: Who may read ``/metrics``; see :class:`WebApp`.
        settings: Further attributes of :class:`WebApp`.
    """
    context = WebContext(db, host, site, runner, notices, clock)
    app = WebApp(
        context,
        users if isinstance(users, Users) else Users(users),
        secrets.token_hex(32) if secret is None else secret,
        metrics,
        **settings,
    )
    config = Configurator()
    config.registry[REGISTRY_KEY] = app
    config.include(includeme, route_prefix=prefix.strip("/") or None)
    config.include("livesync.web.standalone")
    made = config.make_wsgi_app()
    made.livesync = app
    return made


def includeme(config: Configurator) -> None:
    """Mount the web application in a host's Pyramid: ``config.include(includeme, route_prefix="livesync")``.

    ``config.registry["livesync.web"]`` holds the :class:`WebApp`. The host's security policy decides, where
    it has one, who has the permissions ``livesync.see`` and ``livesync.operate``; its views are left alone.
    """
    app: WebApp = config.registry[REGISTRY_KEY]
    prefix = f"/{config.route_prefix}" if config.route_prefix else ""
    app.mount(prefix)
    config.add_request_method(lambda request: request.registry[REGISTRY_KEY], "livesync_app", reify=True)
    config.add_request_method(lambda request: prefix, "livesync_prefix", property=True)
    config.add_request_method(lambda request: request.livesync_app.context, "livesync", reify=True)
    config.add_request_method(
        lambda request: request.livesync_app.sessions.of(request), "livesync_session", reify=True
    )
    config.add_request_method(security.identity, "livesync_identity", reify=True)
    config.add_request_method(security.csrf_token, "livesync_csrf_token", property=True)
    config.include("pyramid_openapi3")
    config.add_view_deriver(
        security.guarded,
        name="livesync_guard",
        under="decorated_view",
        over=("openapi_view", "rendered_view"),
    )
    config.include("livesync.web.api")
    config.include("livesync.web.health")
    config.include("livesync.web.metrics")
    config.include("livesync.web.pages")
