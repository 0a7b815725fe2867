"""Who makes a request, and whether they may: sessions, tokens, the host's own login, roles, forms' tokens.

Every view of livesync is added with ``livesync_role``: ``"public"``, ``"see"`` or ``"operate"``. What that
means is done around the view (:func:`guarded`): who it is, the role, the token that guards against
requests which another site makes in somebody's name, the size of what comes in, the headers of what goes
out, and one answer for each error. Nothing of it touches the views of an application that livesync is
mounted in.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pyramid.authorization import Allow, Authenticated
from pyramid.interfaces import ISecurityPolicy
from pyramid.request import Request
from pyramid.response import Response

from .errors import CsrfRefused, LoginRefused, NotLoggedIn, RoleForbids, TooLarge
from .problems import problem_of
from .users import Role, User

audit = logging.getLogger("livesync.web.audit")

View = Callable[[Any, Request], Response]

#: Permissions that a host's security policy is asked for, with :class:`Root` as the context.
PERMISSIONS: Final = {Role.SEE: "livesync.see", Role.OPERATE: "livesync.operate"}

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

#: Scripts, styles and images come from here; nothing else is loaded, framed or sent elsewhere.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS: Final = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request.

    Attributes:
        name: For people and for the log.
        role: What they may do.
        via: ``session``, ``token`` or ``host`` (the login of the application livesync is mounted in).
    """

    name: str
    role: Role
    via: str


class Root:
    """The context of livesync's views, for a host's policy that works by access control lists.

    Args:
        see: Principals that may look.
        operate: Principals that may change.
    """

    def __init__(self, see: tuple[str, ...], operate: tuple[str, ...]) -> None:
        self.__acl__ = [(Allow, principal, [PERMISSIONS[Role.SEE]]) for principal in see]
        self.__acl__ += [(Allow, principal, list(PERMISSIONS.values())) for principal in operate]


def principals(setting: str | None) -> tuple[str, ...]:
    """Return the principals of a setting, by white space; ``Authenticated`` is whoever is logged in."""
    return tuple(Authenticated if name == "Authenticated" else name for name in (setting or "").split())


def identity(request: Request) -> Identity | None:
    """Return who makes a request: by its token, else by the host's login, else by our own session."""
    app = request.livesync_app
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        # a wrong token is not made good by a cookie beside it
        token = app.users.token(shown.strip())
        return None if token is None else Identity(f"token {token.name}", token.role, "token")
    if uses_host_login(request):
        return _host_identity(request)
    user = session_user(request)
    return None if user is None else Identity(user.name, user.role, "session")


def uses_host_login(request: Request) -> bool:
    """Tell whether the application that livesync is mounted in has a login of its own."""
    return request.registry.queryUtility(ISecurityPolicy) is not None


def _host_identity(request: Request) -> Identity | None:
    policy = request.registry.getUtility(ISecurityPolicy)
    root = request.livesync_app.root
    for role in (Role.OPERATE, Role.SEE):
        if policy.permits(request, root, PERMISSIONS[role]):
            return Identity(str(policy.authenticated_userid(request) or "anonymous"), role, "host")
    return None


def session_user(request: Request) -> User | None:
    """Return who is logged in by our own session, as the users' file has them now."""
    app, session = request.livesync_app, request.livesync_session
    login = app.sessions.login(session)
    if login is None:
        return None
    user: User | None = app.users.user(login.name)
    if user is None or user.mark != login.mark:
        return None
    app.sessions.seen(session, login)
    return user


def log_in(request: Request, name: str, password: str) -> User:
    """Log somebody in by name and password, where livesync has a login of its own.

    Raises:
        LoginRefused: One of the two is wrong.
        TooOften: This address, or this name, has failed too often.
        UsageError: The users' file cannot be used.
    """
    app, address = request.livesync_app, client_address(request)
    if uses_host_login(request):
        raise LoginRefused("log in at the application that livesync is part of")
    app.throttle.begin(address, name)
    user: User | None = app.users.login(name, password)
    if user is None:
        audit.warning("login of %r from %s refused", name[:64], address)
        raise LoginRefused("the name or the password is wrong")
    app.throttle.succeeded(address, name)
    app.sessions.begin(request.livesync_session, user.name, user.mark)
    audit.info("login of %s from %s", user.name, address)
    return user


def log_out(request: Request) -> None:
    """Log out: the session's cookie is worth nothing any more."""
    request.livesync_app.sessions.end(request.livesync_session)


def client_address(request: Request) -> str:
    """Return where a request comes from, as the server has it; of IPv6 the network, since one has many.

    Behind a proxy it is the server's business to find out (waitress: ``trusted_proxy``): a header that
    anybody can send is not believed here.
    """
    address = request.remote_addr or ""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return address


def csrf_token(request: Request) -> str:
    """Return the token that forms (``csrf_token``) and scripts (``X-CSRF-Token``) send back."""
    return str(request.livesync_app.sessions.csrf_token(request.livesync_session, _whose(request)))


def check_csrf(request: Request) -> None:
    """Make sure that a request which changes something was made on a page of ours.

    Raises:
        CsrfRefused: It was not, as far as can be seen.
    """
    token = request.headers.get("X-CSRF-Token") or _form_token(request)
    if not request.livesync_app.sessions.is_csrf_token(request.livesync_session, _whose(request), token):
        raise CsrfRefused(
            "the form's token is missing or too old: nothing was changed; load the page again and repeat it"
        )


def check_origin(request: Request) -> None:
    """Make sure that a browser does not make a request on a page of another site.

    Hosts are compared, and not schemes: behind a proxy that is not trusted, ours is not known.

    Raises:
        CsrfRefused: It does.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None:
        is_ours = _host_of(origin) == _host_of(f"//{request.host}")
    else:
        is_ours = site in (None, "same-origin", "none")
    if not is_ours:
        raise CsrfRefused("the request comes from another site: nothing was changed")


def _host_of(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, -1
    return parts.hostname, None if port in (80, 443) else port


def _form_token(request: Request) -> str:
    if request.content_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return ""
    return str(request.POST.get("csrf_token", ""))


def _whose(request: Request) -> str:
    who = request.livesync_identity
    return "" if who is None else f"{who.via}:{who.name}"


def guarded(view: View, info: Any) -> View:
    """Wrap a view of livesync's as its ``livesync_role`` says; views without one are left alone."""
    role = info.options.get("livesync_role")
    if role is None:
        return view
    needed = None if role == "public" else Role(role)
    check = info.options.get("livesync_csrf", True)

    def guard(context: Any, request: Request) -> Response:
        incoming = request.environ.get("wsgi.input")
        try:
            check_size(request)
            _check_role(request, needed)
            who = request.livesync_identity
            if request.method not in _SAFE and (who is None or who.via != "token"):
                check_origin(request)
                if check:
                    check_csrf(request)
            response = view(context, request)
            if request.method not in _SAFE and who is not None:
                audit.info("%s: %s %s: %s", who.name, request.method, request.path, response.status_code)
        except Exception as exc:  # noqa: BLE001 - every error becomes an answer, and none leaks
            response = request.livesync_app.answer(request, problem_of(exc))
        finally:
            kept = request.environ.get("wsgi.input")
            if kept is not incoming and kept is not None:
                kept.close()  # a large body was put into a temporary file
        return with_headers(request, response)

    return guard


guarded.options = ("livesync_role", "livesync_csrf")  # type: ignore[attr-defined]


def check_size(request: Request) -> None:
    """Make sure that a request's body is not larger than is taken.

    Raises:
        TooLarge: It is, or does not say how large it is.
    """
    most = request.livesync_app.max_body_bytes
    length = request.content_length
    if length is None and request.headers.get("Transfer-Encoding"):
        raise TooLarge("say how long the body is (Content-Length)")
    if length is not None and length > most:
        raise TooLarge(f"{length:,} bytes are more than the {most:,} that are taken")


def _check_role(request: Request, needed: Role | None) -> None:
    if needed is None:
        return
    who = request.livesync_identity
    if who is None:
        raise NotLoggedIn(_why_not(request))
    if not who.role.includes(needed):
        raise RoleForbids(f"{who.name} may look, and not change anything: it takes the role {needed.value}")


def _why_not(request: Request) -> str:
    if request.headers.get("Authorization"):
        return "this token is none, or no longer one"
    if not uses_host_login(request) and request.livesync_app.sessions.has_expired(request.livesync_session):
        return "the login has expired: log in again; nothing was changed"
    return "log in first"


def with_headers(request: Request, response: Response) -> Response:
    """Return a response with the headers that keep browsers from being used against people."""
    for name, value in (*_HEADERS, *((_HSTS,) if request.scheme == "https" else ())):
        response.headers.setdefault(name, value)
    if response.cache_control.max_age is None:
        response.headers["Cache-Control"] = "no-store"
    return response
