"""Every exception as an answer: a status, a code for programs, and one line for people.

The table is in order: the first class that an exception is an instance of decides. What nobody foresaw is
``internal``: its text stays in the log, under the number that the answer names.
"""

from __future__ import annotations

import errno
import logging
import math
import secrets
from dataclasses import dataclass, field
from typing import Final

from pyramid.httpexceptions import HTTPException
from transaction.interfaces import TransactionError, TransientError
from ZODB.POSException import POSError

from .. import errors
from ..relstorage import is_error
from . import errors as web
from .schemas import ErrorDetail

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is answered.

    Attributes:
        status: Of HTTP.
        code: For programs; never changes its meaning.
        message: One line for people.
        details: Where in the request something is wrong.
        incident: What finds it in the log; "" where it is not there.
        headers: Of the answer.
    """

    status: int
    code: str
    message: str
    details: tuple[ErrorDetail, ...] = ()
    incident: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=())


_TABLE: Final[tuple[tuple[type[BaseException], int, str], ...]] = (
    (web.NotLoggedIn, 401, "not_logged_in"),
    (web.LoginRefused, 401, "login_refused"),
    (web.RoleForbids, 403, "role_forbids"),
    (web.CsrfRefused, 403, "csrf_refused"),
    (web.WrongMediaType, 415, "media_type"),
    (web.WrongMethod, 405, "method_not_allowed"),
    (web.TooLarge, 413, "too_large"),
    (web.TooOften, 429, "too_often"),
    (web.TooBusy, 503, "too_busy"),
    (web.SameAtWork, 409, "same_at_work"),
    (web.BadRequest, 400, "bad_request"),
    (web.UnknownPage, 404, "no_such_page"),
    (web.UnknownJob, 404, "no_such_job"),
    (errors.UnknownAgent, 404, "no_such_agent"),
    (errors.UnknownAgentType, 422, "no_such_type"),
    (errors.UnknownTask, 404, "no_such_task"),
    (errors.UnknownObject, 404, "no_such_object"),
    (errors.NotFound, 404, "not_found"),
    (errors.DatabaseError, 503, "database"),
    (errors.NotInstalled, 503, "not_installed"),
    (errors.UpgradeNeeded, 503, "upgrade_needed"),
    (errors.SiteDiffers, 409, "site_differs"),
    (errors.OptionError, 422, "option"),
    (errors.UsageError, 422, "usage"),
    (errors.StateForbids, 409, "state_forbids"),
    (errors.Leased, 409, "leased"),
    (errors.LeaseLost, 409, "leased"),
    (errors.PositionPruned, 409, "pruned"),
    (errors.AgentStopped, 502, "service"),
    (errors.DeliveryError, 502, "service"),
    (errors.HostError, 500, "host"),
    (errors.LiveSyncError, 409, "refused"),
)

#: What HTTP itself has to say: status -> code.
_HTTP_CODES: Final = {404: "no_such_page", 405: "method_not_allowed", 415: "media_type", 400: "bad_request"}

#: What a file system answers a storage that writes: no room, no quota, read-only, broken.
_STORAGE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def problem_of(error: BaseException) -> Problem:
    """Return what is answered when ``error`` was raised; what nobody foresaw is logged here."""
    if is_database_error(error):
        return _database_problem(error)
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            message = " ".join(str(error).split()) or kind.__name__
            return Problem(status, code, message, _details(error), headers=_headers(error))
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _http_problem(error)
    incident = secrets.token_hex(4)
    logger.error("incident %s: %s", incident, type(error).__name__, exc_info=error)
    return Problem(
        500,
        "internal",
        f"something went wrong that nobody foresaw; incident {incident} in the log says what",
        incident=incident,
    )


def is_database_error(error: BaseException) -> bool:
    """Tell whether ``error`` is one that ZODB and its storages raise while something is read or written."""
    if isinstance(error, OSError):
        return error.errno in _STORAGE_ERRNOS
    if is_error(error):  # RelStorage lets those of PostgreSQL through
        return True
    return isinstance(error, (POSError, TransactionError)) and not isinstance(error, errors.LiveSyncError)


def _database_problem(error: BaseException) -> Problem:
    logger.warning("the database: %s", type(error).__name__, exc_info=error)
    if isinstance(error, TransientError):
        message = "others changed the same thing at the same time; nothing was changed here: try again"
        return Problem(503, "conflict", message, headers=(("Retry-After", "1"),))
    message = f"the database does not answer as it should ({type(error).__name__}); nothing was changed"
    return Problem(503, "database", message, headers=(("Retry-After", "10"),))


def _http_problem(error: HTTPException) -> Problem:
    status = error.status_code
    texts = {
        404: "there is nothing at this address",
        405: "this address does not take such a request",
        415: "the body is of a kind that is not taken here: send application/json",
    }
    message = texts.get(status) or " ".join(str(error.explanation or error.title).split())
    return Problem(status, _HTTP_CODES.get(status, "refused"), message)


def _details(error: BaseException) -> tuple[ErrorDetail, ...]:
    if not isinstance(error, web.BadRequest):
        return ()
    return tuple(ErrorDetail(where=where, message=message) for where, message in error.details)


def _headers(error: BaseException) -> tuple[tuple[str, str], ...]:
    if isinstance(error, web.WrongMethod):
        return (("Allow", ", ".join(error.allowed)),)
    if isinstance(error, web.TooOften):
        return (("Retry-After", str(max(1, math.ceil(error.retry_after_s)))),)
    if isinstance(error, (web.TooBusy, errors.DatabaseError)):
        return (("Retry-After", "10"),)
    if isinstance(error, web.NotLoggedIn):
        return (("WWW-Authenticate", 'Bearer realm="livesync"'),)
    return ()
