"""What one transaction does, held until its commit: a data manager with savepoints.

Just before the commit, after all other hooks, what is held is written into the inbox of the database
that stores the object. Beyond some thousand ids it waits in a temporary file.
"""

from __future__ import annotations

import logging
import marshal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from ZODB.Connection import Connection

from . import commits, conflicts
from .action import CASCADING
from .errors import NoConnection, NotInstalled
from .manager import SyncManager
from .track.inbox import PAGE_CHANGES
from .track.packed import pack_changes
from .track.stored import InboxPage

if TYPE_CHECKING:
    from .capture import Capture

logger = logging.getLogger(__name__)

#: Ids that a transaction holds in memory; beyond, they wait in a temporary file for the commit.
IDS_IN_MEMORY: Final = 10_000
#: Pages of a very large transaction that are made before they are flushed from memory.
_PAGES_IN_MEMORY: Final = 8

#: User and note for transactions of this context that have none: what a script says of itself.
origin: ContextVar[tuple[str, str]] = ContextVar("livesync origin", default=("", ""))

_NOTHING: frozenset[str] = frozenset()


def connection_of(obj: Any) -> Any:
    """Return the connection of an object or of the nearest of its parents that has one, or None."""
    for _ in range(100):  # a loop of parents is the application's mistake, not ours to hang on
        if obj is None:
            return None
        connection = getattr(obj, "_p_jar", None)
        if isinstance(connection, Connection):
            return connection
        obj = getattr(obj, "__parent__", None)
    return None


class _Changes:
    """What one transaction does to the objects of one database."""

    def __init__(self) -> None:
        self.words: dict[str, frozenset[str]] = {}
        self._spool: Any = None
        self._spooled = 0  # bytes

    def add(self, object_id: str, words: frozenset[str]) -> None:
        known = self.words.get(object_id, _NOTHING)
        if words <= known:
            return
        self.words[object_id] = known | words
        if len(self.words) >= IDS_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(prefix="livesync-")  # noqa: SIM115 - closed with the transaction
        self._spool.seek(self._spooled)
        for part in _parts(self.words):
            marshal.dump(part, self._spool)
        self._spooled = self._spool.tell()
        self.words = {}

    def mark(self) -> tuple[dict[str, frozenset[str]], int]:
        return dict(self.words), self._spooled

    def reset(self, mark: tuple[dict[str, frozenset[str]], int]) -> None:
        self.words, self._spooled = dict(mark[0]), mark[1]

    def is_large(self) -> bool:
        return self._spooled > 0 or len(self.words) > PAGE_CHANGES

    def parts(self) -> Iterator[Any]:
        """Yield everything, packed for inbox pages."""
        if self._spool is not None:
            self._spool.seek(0)
            while self._spool.tell() < self._spooled:
                yield marshal.load(self._spool)  # noqa: S302 - our own file, without a name
        yield from _parts(self.words)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


def _parts(words: dict[str, frozenset[str]]) -> Iterator[Any]:
    changes = list(words.items())
    for begin in range(0, len(changes), PAGE_CHANGES):
        yield pack_changes(changes[begin : begin + PAGE_CHANGES])


class Gathered:
    """What one transaction has told one capture: a data manager with savepoints."""

    transaction_manager: Any = None  # as data managers must have; this one belongs to any

    def __init__(self, capture: Capture, current: Any) -> None:
        self._capture = capture
        self._transaction = current
        self._joined = False
        self._hooked = False
        self._origin = ("", "")
        self._changes: dict[Any, _Changes] = {}  # by connection
        self._notes: dict[tuple[Any, str], tuple[frozenset[str], tuple[str, ...]]] = {}
        self._written: dict[Any, dict[str, frozenset[str]]] = {}  # what lies in the inbox already
        self._homeless: list[tuple[Any, str, frozenset[str], bool]] = []
        self._recorded: list[Any] = []  # databases

    def join(self) -> None:
        if not self._joined:
            self._transaction.join(self)
            self._joined = True
            self._origin = origin.get()  # where it is recorded: it may be committed elsewhere
        if not self._hooked:
            self._transaction.addBeforeCommitHook(self._step_back)
            self._hooked = True

    def record(
        self, connection: Any, obj: Any, object_id: str, words: frozenset[str], *, explicit: bool
    ) -> None:
        if connection is None:
            self._homeless.append((obj, object_id, words, explicit))
            return
        changes = self._changes.get(connection)
        if changes is None:
            if not self._capture.is_attached(connection.db()):
                raise NoConnection(
                    f"object {object_id!r} is stored in a database that livesync is not attached to"
                )
            changes = self._changes[connection] = _Changes()
        changes.add(object_id, words)

    def note(self, connection: Any, object_id: str, word: str, above: tuple[str, ...]) -> None:
        """Record a word unless more is said of the object, or reaches it from what lies above it."""
        words, _ = self._notes.get((connection, object_id), (_NOTHING, ()))
        self._notes[connection, object_id] = (words | {word}, above)
        if len(self._notes) >= IDS_IN_MEMORY:
            self._settle_notes()

    def _settle_notes(self) -> None:
        notes, self._notes = self._notes, {}
        # from the top down: what is noted of a container may be enough for what lies in it
        ordered = sorted(notes.items(), key=lambda item: len(item[1][1]))
        for (connection, object_id), (words, above) in ordered:
            is_told = self._told(connection, object_id)
            if not is_told and not any(self._told(connection, each) & CASCADING for each in above):
                self.record(connection, None, object_id, words, explicit=False)

    def _told(self, connection: Any, object_id: str) -> frozenset[str]:
        """Return what is held in memory of an object, or was until it was written."""
        changes = self._changes.get(connection)
        words = _NOTHING if changes is None else changes.words.get(object_id, _NOTHING)
        return words | self._written.get(connection, {}).get(object_id, _NOTHING)

    # Other hooks may still change objects (an indexing queue does), so ours goes to the end of the row.
    def _step_back(self) -> None:
        self._transaction.addBeforeCommitHook(self._write)

    def _write(self) -> None:
        self._hooked = False
        self._house_the_homeless()
        self._say_who()
        self._settle_notes()
        # setUser("name") puts the path "/" before the name; a path that says something is kept
        user = str(self._transaction.user or "").removeprefix("/ ").strip()
        note = str(self._transaction.description or "").strip()
        for connection, changes in self._changes.items():
            if not changes.words and not changes.is_large():
                continue
            try:
                manager = SyncManager.get(connection.root(), to_record=True)
            except NotInstalled:
                logger.warning(
                    "livesync is not installed in a database that capture is attached to: not recorded"
                )
                continue
            if changes.is_large():
                manager.record_pages(_pages(connection, changes.parts()), user, note)
            else:
                manager.record_changes(list(changes.words.items()), user, note)
            self._recorded.append(connection.db())
            changes.close()
            written = self._written.setdefault(connection, {})
            for object_id, words in changes.words.items():
                written[object_id] = written.get(object_id, _NOTHING) | words
        self._changes = {}

    def _say_who(self) -> None:
        """Put the user and the note of a script into a transaction that has none of its own."""
        user, note = self._origin
        if user and not self._transaction.user:
            self._transaction.user = user
        if note and not self._transaction.description:
            self._transaction.description = note

    def _house_the_homeless(self) -> None:
        homeless, self._homeless = self._homeless, []
        for obj, object_id, words, explicit in homeless:
            connection = None if obj is None else connection_of(obj)
            if connection is None:
                joined = self._joined_connections()
                if len(joined) == 1:
                    connection = joined[0]
                elif explicit or joined:
                    raise NoConnection(
                        f"the action on {object_id!r} belongs to no database: "
                        + ("several attached ones have" if joined else "no attached one has")
                        + " joined the transaction; name the connection"
                    )
                else:
                    continue  # an event about an object that is stored nowhere
            if self._capture.is_attached(connection.db()):
                self.record(connection, obj, object_id, words, explicit=explicit)

    def _joined_connections(self) -> list[Any]:
        return [
            resource
            for resource in self._transaction._resources
            if isinstance(resource, Connection) and self._capture.is_attached(resource.db())
        ]

    # -- as a data manager -----------------------------------------------------------------------

    def savepoint(self) -> _GatheredSavepoint:
        return _GatheredSavepoint(
            self,
            {connection: changes.mark() for connection, changes in self._changes.items()},
            len(self._homeless),
            dict(self._notes),
        )

    def rollback(self, marks: dict[Any, Any], homeless: int, notes: dict[Any, Any]) -> None:
        del self._homeless[homeless:]
        self._notes = dict(notes)
        for connection, changes in self._changes.items():
            changes.reset(marks.get(connection, ({}, 0)))

    def abort(self, current: Any) -> None:
        self._joined = False  # a rollback to a savepoint from before we joined leads here too
        self._homeless = []
        for changes in self._changes.values():
            changes.close()
        self._changes, self._notes, self._written = {}, {}, {}

    def tpc_begin(self, current: Any) -> None:
        """Nothing to do: what was gathered lies in the inbox since before the commit."""

    commit = tpc_vote = tpc_begin

    def tpc_finish(self, current: Any) -> None:
        recorded, self._recorded = self._recorded, []
        self.abort(current)
        # the storages have finished: ours is the last of a transaction's resources, by its sort key
        for database in recorded:
            commits.announce(database)

    def tpc_abort(self, current: Any) -> None:
        """Let go of everything; a commit that failed over an object of livesync's is counted."""
        conflicts.note(sys.exc_info()[1], "host")
        self._recorded = []
        self.tpc_finish(current)

    def sortKey(self) -> str:  # noqa: N802 - as transaction calls it
        return f"~livesync:{id(self):x}"


class _GatheredSavepoint:
    def __init__(self, gathered: Gathered, *mark: Any) -> None:
        self._gathered = gathered
        self._mark = mark

    def rollback(self) -> None:
        self._gathered.rollback(*self._mark)


def _pages(connection: Any, parts: Iterable[Any]) -> list[InboxPage]:
    """Store packed parts as inbox pages within the current transaction, a few at a time in memory."""
    pages: list[InboxPage] = []
    for part in parts:
        page = InboxPage(part)
        connection.add(page)
        pages.append(page)
        if len(pages) % _PAGES_IN_MEMORY == 0:
            connection.savepoint()
            for flushed in pages[-_PAGES_IN_MEMORY:]:
                flushed._p_deactivate()
    return pages
