"""The exit codes of the command line, and which exception comes to which."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from .. import errors
from ..relstorage import is_error


class ExitCode(IntEnum):
    """What a command came to; the numbers never change their meaning."""

    OK = 0
    DIFFERENT = 1
    USAGE = 2
    NOT_FOUND = 3
    DATABASE = 4
    LOCKED = 5
    HOST = 6
    SERVICE = 7
    DEAD_LETTERS = 8
    LEASED = 9
    REFUSED = 10
    NOT_INSTALLED = 11
    UPGRADE = 12
    SITE_DIFFERS = 13
    INTERNAL = 70
    INTERRUPTED = 130


#: One line for each code, for help, man pages and the documentation.
MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.DIFFERENT: "a check found a difference or a problem",
    ExitCode.USAGE: "an argument, an option or a setting is wrong, or the agent's state forbids it",
    ExitCode.NOT_FOUND: "there is no such agent, agent type, dead letter, branch or version (pruned?)",
    ExitCode.DATABASE: "the database cannot be opened, read or written",
    ExitCode.LOCKED: "another process has the database file open",
    ExitCode.HOST: "the host cannot be imported, or it raised an exception",
    ExitCode.SERVICE: "an external service cannot be reached, refuses, or is not the one it was",
    ExitCode.DEAD_LETTERS: "the run ended, and some records were set aside as dead letters",
    ExitCode.LEASED: "another runner holds the agent",
    ExitCode.REFUSED: "the other side refused, or is not believed",
    ExitCode.NOT_INSTALLED: "no sync manager is installed in this database",
    ExitCode.UPGRADE: "the stored data need `livesync upgrade`, or a newer livesync",
    ExitCode.SITE_DIFFERS: "the database belongs to another site: it is a copy",
    ExitCode.INTERNAL: "a fault that livesync did not expect; -v shows the traceback",
    ExitCode.INTERRUPTED: "interrupted",
}

# The first class that an exception is an instance of decides, so subclasses come first.
_CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (errors.DatabaseLocked, ExitCode.LOCKED),
    (errors.DatabaseError, ExitCode.DATABASE),
    (errors.NotInstalled, ExitCode.NOT_INSTALLED),
    (errors.UpgradeNeeded, ExitCode.UPGRADE),
    (errors.SiteDiffers, ExitCode.SITE_DIFFERS),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.BranchNotFound, ExitCode.NOT_FOUND),
    (errors.InvalidCollectionVersion, ExitCode.NOT_FOUND),
    (errors.VersionPruned, ExitCode.NOT_FOUND),
    (errors.InvalidCollectionState, ExitCode.DATABASE),
    (errors.HostError, ExitCode.HOST),
    (errors.DeliveryError, ExitCode.SERVICE),
    (errors.PeerUnreachable, ExitCode.SERVICE),
    (errors.StageWaits, ExitCode.SERVICE),
    (errors.SyncRunning, ExitCode.LEASED),
    (errors.SyncError, ExitCode.REFUSED),
    (errors.PeerRefused, ExitCode.REFUSED),
    (errors.Leased, ExitCode.LEASED),
    (errors.LeaseLost, ExitCode.LEASED),
    (errors.AgentStopped, ExitCode.SERVICE),
    (errors.LiveSyncError, ExitCode.USAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)

# From the least to the gravest; where several agents fail, the gravest is the command's.
_GRAVITY: Final[tuple[ExitCode, ...]] = (
    ExitCode.OK,
    ExitCode.DIFFERENT,
    ExitCode.DEAD_LETTERS,
    ExitCode.LEASED,
    ExitCode.REFUSED,
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
    ExitCode.SERVICE,
    ExitCode.HOST,
    ExitCode.SITE_DIFFERS,
    ExitCode.UPGRADE,
    ExitCode.NOT_INSTALLED,
    ExitCode.LOCKED,
    ExitCode.DATABASE,
    ExitCode.INTERNAL,
    ExitCode.INTERRUPTED,
)


#: What a file system answers a storage that writes: no room, no quota, read-only, broken.
_STORAGE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an exception; INTERNAL for one that nobody foresaw."""
    if is_storage_error(error):
        return ExitCode.DATABASE
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.INTERNAL


def is_storage_error(error: BaseException) -> bool:
    """Tell whether ``error`` is one that ZODB and its storages raise while a command is at work."""
    if isinstance(error, OSError):
        return error.errno in _STORAGE_ERRNOS
    if is_error(error):
        return True
    if "ZODB.POSException" not in sys.modules:
        return False  # nobody has used ZODB, and it is not imported for this question
    from transaction.interfaces import TransactionError
    from ZODB.POSException import POSError

    return isinstance(error, (POSError, TransactionError))


def gravest(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the gravest of ``codes``; OK when there is none."""
    return max(codes, key=_GRAVITY.index, default=ExitCode.OK)


def exit_code_table() -> str:
    """Return the codes and what they mean, one a line."""
    return "\n".join(f"  {code.value:>3}  {code.name:<13}  {MEANINGS[code]}" for code in ExitCode)
