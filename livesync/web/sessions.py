"""The cookie that says who is logged in: signed, short-lived, and worth nothing after a logout.

It is livesync's own also within an application that has sessions, and is sent below livesync's prefix only.
Besides a login it holds the token of forms, and messages for the next page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pyramid.interfaces import ISession
from pyramid.request import Request
from pyramid.session import SignedCookieSessionFactory

#: A login ends after so long without a request, and after so long in any case.
IDLE_S: Final = 1800.0
ABSOLUTE_S: Final = 12 * 3600.0

COOKIE: Final = "livesync"

_LOGIN: Final = "login"


@dataclass(frozen=True, slots=True)
class Login:
    """Who is logged in, by which password (``User.mark``), since when and seen last (epoch seconds)."""

    id: str
    name: str
    mark: str
    since: float
    seen: float


class Sessions:
    """Makes and reads the cookies of one application.

    Args:
        secret: Signs them; of a new one, every login of before is worth nothing.
        path: Where the cookie is sent: livesync's prefix.
        clock: Epoch seconds.
        idle_s: A login ends after so long without a request.
        absolute_s: A login ends after so long in any case.
    """

    def __init__(
        self,
        secret: str,
        path: str,
        clock: Callable[[], float],
        idle_s: float = IDLE_S,
        absolute_s: float = ABSOLUTE_S,
    ) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._absolute_s = absolute_s
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._csrf_key = hmac.digest(secret.encode(), b"livesync csrf", "sha256")
        self._secret = secret
        self._path = path

    def of(self, request: Request) -> ISession:
        """Return the session of a request."""
        factory = SignedCookieSessionFactory(
            self._secret,
            cookie_name=COOKIE,
            path=request.script_name + self._path or "/",
            secure=request.scheme == "https",
            httponly=True,
            samesite="Lax",
            # Pyramid would ask a clock of its own, so times are kept inside and looked at here
            timeout=None,
            reissue_time=None,
            salt="livesync.web.session",
            hashalg="sha512",
        )
        return factory(request)

    def begin(self, session: Any, name: str, mark: str) -> None:
        """Log somebody in: whatever the session held is gone, so nobody can have prepared it."""
        session.invalidate()
        now = self._clock()
        session[_LOGIN] = (secrets.token_hex(16), name, mark, now, now)

    def end(self, session: Any) -> None:
        """Log out: the cookie is worth nothing any more, whoever has a copy of it."""
        login = self.login(session)
        if login is not None:
            with self._lock:
                now = self._clock()
                self._ended = {ident: until for ident, until in self._ended.items() if until > now}
                self._ended[login.id] = login.since + self._absolute_s
        session.invalidate()

    def login(self, session: Any) -> Login | None:
        """Return who is logged in, None: nobody (any more)."""
        kept = session.get(_LOGIN)
        if kept is None:
            return None
        login, now = Login(*kept), self._clock()
        if login.id in self._ended:
            return None
        if not -60 <= now - login.seen < self._idle_s or now - login.since >= self._absolute_s:
            return None
        return login

    def has_expired(self, session: Any) -> bool:
        """Tell whether somebody was logged in and no longer is."""
        return session.get(_LOGIN) is not None and self.login(session) is None

    def seen(self, session: Any, login: Login) -> None:
        """Note that a login is in use; the cookie is not sent anew more than once in a while."""
        now = self._clock()
        if now - login.seen >= min(60.0, self._idle_s / 10):
            session[_LOGIN] = (login.id, login.name, login.mark, login.since, now)

    def csrf_token(self, session: Any, whose: str) -> str:
        """Return the token of forms, which holds in this session and for this user only."""
        base = session.get_csrf_token()
        return hmac.new(self._csrf_key, f"{base}\0{whose}".encode(), hashlib.sha256).hexdigest()

    def is_csrf_token(self, session: Any, whose: str, token: str) -> bool:
        """Tell whether ``token`` is the one of forms, in a time that does not depend on it."""
        return hmac.compare_digest(self.csrf_token(session, whose).encode(), token.encode("utf-8", "replace"))
