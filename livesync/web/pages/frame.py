"""What every page has around it: where the other pages are, who looks, and messages of the page before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response

from ... import __version__
from ..security import uses_host_login
from ..users import Role
from . import assets
from .rendering import render

#: Name of a page -> its address below livesync's prefix.
ADDRESSES: Final[Mapping[str, str]] = {
    "status": "/",
    "login": "/login",
    "logout": "/logout",
    "agents": "/agents",
    "agent-add": "/agents/add",
    "agent": "/agent/{agent}",
    "agent-edit": "/agent/{agent}/edit",
    "agent-begin": "/agent/{agent}/begin",
    "agent-activate": "/agent/{agent}/activate",
    "agent-pause": "/agent/{agent}/pause",
    "agent-run": "/agent/{agent}/run",
    "agent-test": "/agent/{agent}/test",
    "agent-simulate": "/agent/{agent}/simulate",
    "agent-verify": "/agent/{agent}/verify",
    "agent-repair": "/agent/{agent}/repair",
    "agent-export": "/agent/{agent}/export",
    "agent-enqueue": "/agent/{agent}/enqueue",
    "agent-rewind": "/agent/{agent}/rewind",
    "agent-schedule": "/agent/{agent}/schedule",
    "agent-remove": "/agent/{agent}/remove",
    "jobs": "/jobs",
    "job": "/job/{job}",
    "job-cancel": "/job/{job}/cancel",
    "runs": "/runs",
    "dead": "/dead-letters",
    "dead-letter": "/dead-letter",
    "dead-retry": "/dead-letters/retry",
    "dead-discard": "/dead-letters/discard",
    "tasks": "/tasks",
    "task-add": "/tasks/add",
    "task-run": "/task/{task}/run",
    "task-remove": "/task/{task}/remove",
    "track": "/track",
    "track-prune": "/track/prune",
    "peers": "/peers",
    "history": "/history",
    "version": "/history/version/{version}",
    "document-history": "/history/document",
    "static": "/static/{digest}/{file}",
}

#: Where one gets from every page: name, label, picture.
_NAVIGATION: Final = (
    ("status", "Status", "status"),
    ("agents", "Agents", "agents"),
    ("runs", "Runs", "runs"),
    ("dead", "Dead letters", "dead"),
    ("tasks", "Tasks", "tasks"),
    ("track", "Track", "track"),
    ("peers", "Peers", "peers"),
    ("history", "History", "history"),
)

#: Messages for the next page wait under this name in the session.
_QUEUE: Final = "pages"


def route(name: str) -> str:
    """Return the name under which Pyramid knows a page's address."""
    return f"livesync.page.{name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the navigation."""

    url: str
    label: str
    icon: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message at the top of a page; ``kind``: ``good``, ``warn`` or ``bad``."""

    kind: str
    text: str
    url: str = ""
    label: str = ""


@dataclass(slots=True)
class Page:
    """What the templates know of a request.

    Attributes:
        request: The request.
        title: Of the page.
        section: The entry of the navigation that it belongs to; "" for none.
        crumbs: ``(label, address)`` of what it lies in.
        now: Epoch seconds, as the page has them.
        messages: At its top.
    """

    request: Request
    title: str
    section: str = ""
    crumbs: tuple[tuple[str, str], ...] = ()
    now: float = 0.0
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = self.now or self.request.livesync.clock()

    def url(self, name: str, **values: Any) -> str:
        """Return a page's address; values that are no part of it become its query, None is left out."""
        return url(self.request, name, **values)

    def static(self, file: str) -> str:
        """Return the address of a file of ``livesync/web/static``, which changes with the file."""
        return url(self.request, "static", digest=assets.digest(), file=file)

    @property
    def nav(self) -> list[Entry]:
        """The navigation; nobody who is not known has one."""
        if self.request.livesync_identity is None:
            return []
        return [Entry(self.url(name), label, icon, name == self.section) for name, label, icon in _NAVIGATION]

    @property
    def user(self) -> str:
        """Who looks at it; "" for nobody."""
        who = self.request.livesync_identity
        return "" if who is None else who.name

    @property
    def may_operate(self) -> bool:
        """Whether who looks at it may change anything."""
        return may_operate(self.request)

    @property
    def logout_url(self) -> str:
        """Where one logs out; "" where the login is the host's."""
        who = self.request.livesync_identity
        own = who is not None and who.via == "session" and not uses_host_login(self.request)
        return self.url("logout") if own else ""

    @property
    def csrf_token(self) -> str:
        """The token of its forms."""
        return str(self.request.livesync_csrf_token)

    @property
    def site(self) -> str:
        """The name of this site."""
        return str(self.request.livesync.site)

    @property
    def version(self) -> str:
        """Of livesync."""
        return __version__

    def response(self, template: str, code: int = 200, **values: Any) -> Response:
        """Return the page; messages that wait are shown on it."""
        waiting = self.request.livesync_session.pop_flash(_QUEUE)
        self.messages[:0] = [Message(**kept) for kept in waiting]
        return self.part(template, code, **values)

    def part(self, template: str, code: int = 200, **values: Any) -> Response:
        """Return a part of a page, for a script that puts it into one."""
        response = Response(render(template, page=self, **values), status=code, charset="utf-8")
        response.content_type = "text/html"
        return response


def may_operate(request: Request) -> bool:
    """Tell whether who makes a request may change anything."""
    who = request.livesync_identity
    return who is not None and who.role.includes(Role.OPERATE)


def who_asks(request: Request) -> str:
    """Return the name of who makes a request."""
    who = request.livesync_identity
    return "" if who is None else str(who.name)


def url(request: Request, name: str, **values: Any) -> str:
    """Return a page's address; values that are no part of it become its query, None is left out."""
    pattern = ADDRESSES[name]
    inside = {key: value for key, value in values.items() if f"{{{key}}}" in pattern}
    query = [(key, value) for key, value in values.items() if key not in inside and value is not None]
    return str(request.route_path(route(name), _query=query or None, **inside))


def go(request: Request, name: str, message: str = "", kind: str = "good", **values: Any) -> HTTPSeeOther:
    """Return the answer that leads to a page, with a message on it."""
    if message:
        request.livesync_session.flash({"kind": kind, "text": message}, _QUEUE)
    return HTTPSeeOther(location=url(request, name, **values))
