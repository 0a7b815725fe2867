"""A history replayed into a database: one transaction a line, each line once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from transaction import TransactionManager

from ..attempts import attempts
from ..database import committed
from ..errors import NotInstalled, UsageError
from ..manager import SyncManager
from .applying import apply_line
from .history import Line
from .model import ROOT_KEY, Catalogue, get_catalogue

#: Who the transactions of a replay say they are.
USER: Final = "replay"


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay came to.

    Attributes:
        applied: Lines applied.
        skipped: Lines that had been applied before.
        changes: Changes in the lines applied.
    """

    applied: int = 0
    skipped: int = 0
    changes: int = 0


def prepare(db: Any, site: str = "") -> None:
    """Make the catalogue and the sync manager in ``db``, as far as they are not there.

    Args:
        db: An open ``ZODB.DB``.
        site: The site of a manager that is made.

    Raises:
        UsageError: Another application keeps something else where the catalogue would lie.
        UpgradeNeeded: The manager is not of this code's schema.
    """

    def change(root: MutableMapping[str, Any]) -> None:
        if require_catalogue(root) is None:
            root[ROOT_KEY] = Catalogue()
        try:
            SyncManager.get(root)
        except NotInstalled:
            SyncManager.install(root, site=site)

    committed(db, change)


def require_catalogue(root: MutableMapping[str, Any]) -> Catalogue | None:
    """Return the catalogue, None when there is none yet.

    Raises:
        UsageError: Another application keeps something else in its place.
    """
    try:
        return get_catalogue(root)
    except TypeError as exc:
        raise UsageError(f"this is the database of another application: {exc}") from exc


def replay(
    db: Any,
    lines: Iterable[Line],
    limit: int | None = None,
    progress: Callable[[ReplayResult], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ReplayResult:
    """Apply ``lines`` to the catalogue, each in a transaction of its own, unless it has been applied before.

    A replay that is broken off loses nothing: started again, it goes on where it was.

    Args:
        db: An open ``ZODB.DB``, prepared (:func:`prepare`); what records its changes is installed.
        lines: Oldest first.
        limit: Stop when this many lines have been applied; None is no limit.
        progress: Called after each line with what the replay has come to.
        stop: Asked after each line; where it says so, the replay ends there.

    Raises:
        HistoryError: A line cannot be applied. Nothing of it is, and everything before it is.
    """
    result = ReplayResult()
    manager = TransactionManager(explicit=True)
    with closing(db.open(transaction_manager=manager)) as connection:
        for line in lines if limit is None or limit > 0 else ():
            if _apply(connection, manager, line):
                result = ReplayResult(result.applied + 1, result.skipped, result.changes + len(line.changes))
            else:
                result = ReplayResult(result.applied, result.skipped + 1, result.changes)
            if progress is not None:
                progress(result)
            if result.applied == limit or (stop is not None and stop()):
                break
    return result


def _apply(connection: Any, manager: Any, line: Line) -> bool:
    """Apply ``line`` in one transaction; tell whether that was still to be done."""
    try:
        return _attempt(connection, manager, line)
    except RecursionError as exc:  # in comparing or, in the commit, in storing
        raise line.error("a document in it is nested too deeply") from exc


def _attempt(connection: Any, manager: Any, line: Line) -> bool:
    for attempt in attempts(manager):
        with attempt as transaction:
            catalogue: Catalogue = connection.root()[ROOT_KEY]
            is_new = line.digest not in catalogue.replayed
            if is_new:
                transaction.setUser(USER)
                transaction.note(describe(line))
                apply_line(catalogue, line)
                catalogue.replayed.insert(line.digest)
    return is_new


def describe(line: Line) -> str:
    """Return what a line does, for its transaction's note."""
    when = datetime.fromtimestamp(line.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    counts = Counter(change.action.replace("_", " ") for change in line.changes)
    done = ", ".join(f"{count:,} {action}" for action, count in counts.items())
    return f"edits of {when}: {done or 'none'}"
