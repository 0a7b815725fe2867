"""Logging in and out, and what is shown where a request cannot be served."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response

from ..errors import LoginRefused, TooOften
from ..problems import Problem, problem_of
from ..security import log_in, log_out, uses_host_login
from .forms import Field, Form
from .frame import Message, Page, go, url

_FORM: Final = Form.of(
    Field("name", "Name", required=True, autocomplete="username"),
    Field("password", "Password", kind="password", required=True, autocomplete="current-password"),
)

_HEADINGS: Final = {
    400: "That cannot be read",
    401: "You are not logged in",
    403: "Not allowed",
    404: "Nothing is here",
    405: "Not this way",
    409: "Not now",
    413: "Too large",
    422: "That cannot be taken",
    429: "Too often",
    500: "Something went wrong",
    502: "The service does not answer",
    503: "Not available now",
}


def login_page(request: Request) -> Response:
    """Show the form of the login; who is logged in goes on."""
    came_from = safe_address(request, request.GET.get("came_from"))
    if request.livesync_identity is not None:
        return HTTPSeeOther(location=came_from or url(request, "status"))
    return _login_form(request, _FORM, came_from)


def login(request: Request) -> Response:
    """Log in, and go to where one wanted to."""
    sent = {name: str(request.POST.get(name, "")) for name in ("name", "password")}
    came_from = safe_address(request, request.POST.get("came_from"))
    form = _FORM.filled({"name": sent["name"]})
    errors = {name: "This is needed" for name, value in sent.items() if not value.strip()}
    if errors:
        return _login_form(request, form.with_errors(errors), came_from, 422)
    try:
        log_in(request, sent["name"].strip(), sent["password"])
    except (LoginRefused, TooOften) as exc:
        problem = problem_of(exc)
        message = Message("bad", _sentence(problem.message))
        response = _login_form(request, form, came_from, problem.status, message)
        response.headers.update(dict(problem.headers))
        return response
    return HTTPSeeOther(location=came_from or url(request, "status"))


def _login_form(
    request: Request, form: Form, came_from: str, status: int = 200, message: Message | None = None
) -> Response:
    page = Page(request, "Log in", messages=[] if message is None else [message])
    action = url(request, "login")
    return page.response("login.html", status, form=form, came_from=came_from, action=action)


def logout(request: Request) -> Response:
    """Log out."""
    log_out(request)
    return go(request, "login", "You are logged out")


def safe_address(request: Request, address: str | None) -> str:
    """Return ``address`` if it is one of ours, else ""."""
    if not address or not address.startswith("/") or "\\" in address or not address.isprintable():
        return ""
    parts = urlsplit(address)
    inside = f"{request.script_name}{request.livesync_prefix}/"
    if parts.scheme or parts.netloc or address.startswith("//") or not parts.path.startswith(inside):
        return ""
    return address


def problem_page(request: Request, problem: Problem) -> Response:
    """Return what is shown in place of a page: what went wrong, and where to go from here."""
    if problem.status == 401 and _can_be_asked(request):
        came_from = request.path_qs if request.path_info != f"{request.livesync_prefix}/" else None
        return HTTPSeeOther(location=url(request, "login", came_from=came_from))
    ways = [("To the status", url(request, "status"))]
    if problem.status == 401:
        ways = [] if uses_host_login(request) else [("Log in", url(request, "login"))]
    page = Page(request, _HEADINGS.get(problem.status, "That did not work"))
    response = page.response(
        "message.html",
        problem.status,
        heading=page.title,
        text=_sentence(problem.message),
        details=[(detail.where, detail.message) for detail in problem.details],
        incident=problem.incident,
        ways=ways,
    )
    response.headers.update(dict(problem.headers))
    return response


def _can_be_asked(request: Request) -> bool:
    """Tell whether a person is behind a request, who may log in and then go on."""
    return request.method in ("GET", "HEAD") and "part" not in request.GET and not uses_host_login(request)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
