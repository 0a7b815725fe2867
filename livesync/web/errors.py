"""What the web application itself raises, besides what livesync raises anyway.

::

    LiveSyncError
    ├── WebError                     one of these
    │   ├── NotLoggedIn              nobody has said who they are, or the login has expired
    │   ├── RoleForbids              they may see, and not operate
    │   ├── LoginRefused             a wrong name or password
    │   ├── CsrfRefused              the token of the form is missing or another session's
    │   ├── BadRequest               what came in cannot be read
    │   ├── WrongMediaType           what came in is no JSON
    │   ├── WrongMethod              an address takes other requests
    │   ├── TooLarge                 more came in than is taken
    │   ├── TooOften                 too many attempts; ``retry_after_s`` says when to come back
    │   ├── TooBusy                  too much is at work already
    │   └── SameAtWork               this very thing is at work already
    ├── DatabaseGone                 the database does not answer now
    └── NotFound
        └── UnknownJob, UnknownPage
"""

from __future__ import annotations

from ..errors import DatabaseError, LiveSyncError, NotFound


class WebError(LiveSyncError):
    """Raised where a request cannot be served; the text is for whoever made it."""


class NotLoggedIn(WebError):
    """Raised where a request says not, or no longer, who makes it."""


class RoleForbids(WebError):
    """Raised where who makes a request may see but not operate."""


class LoginRefused(WebError):
    """Raised at a login with a wrong name or password: which of the two is not said."""


class CsrfRefused(WebError):
    """Raised where a form's or script's token is missing, forged, or another session's."""


class BadRequest(WebError):
    """Raised where what came in cannot be read, or has another form; ``details`` says where."""

    def __init__(self, message: str, details: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.details = details


class WrongMediaType(WebError):
    """Raised where what came in is of another kind than is taken."""


class WrongMethod(WebError):
    """Raised where an address does not take requests of this method; ``allowed`` are those it takes."""

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class TooLarge(WebError):
    """Raised where a request's body is larger than is taken."""


class TooOften(WebError):
    """Raised at a login after too many failures; ``retry_after_s``: when another attempt is heard."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooBusy(WebError):
    """Raised where so much waits to be done that no more is taken."""


class SameAtWork(WebError):
    """Raised where an agent is at this very work already; ``job_id`` says which job it is."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class DatabaseGone(DatabaseError):
    """Raised where the database's server does not answer now."""


class UnknownJob(NotFound):
    """Raised where there is no job of this id, or no longer."""


class UnknownPage(NotFound):
    """Raised where there is nothing at an address."""
