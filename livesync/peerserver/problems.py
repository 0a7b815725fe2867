"""Every exception as an answer: a code of :data:`livesync.peering.wire.CODES`, and one line for people.

The first class of the table that an exception is an instance of decides. What nobody foresaw is ``internal``:
its text stays in the log, under the number that the answer names.
"""

from __future__ import annotations

import errno
import logging
import secrets
from dataclasses import dataclass, field
from typing import Final

import msgspec
from pyramid.httpexceptions import HTTPException
from transaction.interfaces import TransactionError, TransientError
from ZODB.POSException import POSError

from .. import errors
from ..peering import wire
from ..relstorage import is_error

logger = logging.getLogger(__name__)

#: What a file system answers a storage that writes: no room, no quota, read-only, broken.
_STORAGE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

#: Seconds after which a client may come again.
_RETRY_AFTER: Final = {"conflict": "1", "database": "10", "busy": "10"}


class Refused(Exception):
    """Raised where a request is refused.

    Args:
        code: One of :data:`livesync.peering.wire.CODES`.
        message: One line for people; it says nothing secret.
        next_sequence: With ``sequence``: the number to go on with.
        headers: Of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        next_sequence: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        assert code in wire.CODES, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_sequence = next_sequence
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Problem:
    """What is answered: the status and the body of an error, and further headers."""

    status: int
    error: wire.Error
    headers: tuple[tuple[str, str], ...] = field(default=())


_TABLE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.BodyTooLarge, "too_large"),
    (errors.BodyUnreadable, "bad_encoding"),
    (errors.ClockAhead, "clock_ahead"),
    (errors.ChangesRefused, "refused"),
    (errors.OfferChanged, "changed"),
    (errors.BufferGap, "gap"),
    (errors.TransferEnded, "ended"),
    (errors.NotFound, "no_such_thing"),
    (errors.InvalidCollectionState, "refused"),
    (errors.HistoryError, "rejected"),
    (errors.ReadOnlyHost, "rejected"),
    (errors.DatabaseError, "database"),
    (errors.UpgradeNeeded, "database"),
    (errors.SiteDiffers, "database"),
    (msgspec.DecodeError, "bad_request"),
    (errors.SyncError, "ended"),
)


def problem_of(error: BaseException) -> Problem:
    """Return what is answered when ``error`` was raised; what nobody foresaw is logged here."""
    if isinstance(error, Refused):
        return _problem(error.code, error.message, error.next_sequence, error.headers)
    if _is_database_error(error):
        logger.warning("the database: %s", type(error).__name__, exc_info=error)
        if isinstance(error, TransientError):
            return _problem("conflict", "others changed the same at the same time; nothing was changed here")
        return _problem(
            "database",
            f"the database does not answer as it should ({type(error).__name__}); nothing was changed",
        )
    if isinstance(error, errors.PeerRefused):
        return _problem(error.code, " ".join(str(error).split()))
    if isinstance(error, errors.HostError) and not isinstance(error, errors.ReadOnlyHost):
        # its text may speak of what the client may not know of
        logger.error("the application: %s", error, exc_info=error)
        return _problem("database", "the application does not answer as it should; nothing was changed")
    for kind, code in _TABLE:
        if isinstance(error, kind):
            return _problem(code, " ".join(str(error).split()) or kind.__name__)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _http_problem(error)
    incident = secrets.token_hex(4)
    logger.error("incident %s: %s", incident, type(error).__name__, exc_info=error)
    message = f"something went wrong that nobody foresaw; incident {incident} in the log says what"
    return Problem(500, wire.Error(error=wire.ErrorBody(code="internal", message=message, incident=incident)))


def _problem(
    code: str,
    message: str,
    next_sequence: int | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Problem:
    body = wire.ErrorBody(
        code=code, message=message, next_sequence=msgspec.UNSET if next_sequence is None else next_sequence
    )
    if code in _RETRY_AFTER:
        headers = (*headers, ("Retry-After", _RETRY_AFTER[code]))
    return Problem(wire.CODES[code][0], wire.Error(error=body), headers)


def _is_database_error(error: BaseException) -> bool:
    """Tell whether ``error`` is one that ZODB and its storages raise while something is read or written."""
    if isinstance(error, OSError):
        return error.errno in _STORAGE_ERRNOS
    if is_error(error):
        return True
    return isinstance(error, (POSError, TransactionError)) and not isinstance(error, errors.LiveSyncError)


def _http_problem(error: HTTPException) -> Problem:
    if error.status_code == 404:
        return _problem("no_such_thing", "there is nothing at this address")
    return _problem("bad_request", " ".join(str(error.explanation or error.title).split()))
