"""Capture: what a host transaction does to objects, gathered and written into the inbox with its commit.

One data manager a transaction holds ``object id -> actions``. Just before the commit, after all other
hooks, it writes what it holds into the inbox of the database that stores the object, so that a change
and its action are committed together or not at all. What is aborted, rolled back to a savepoint or
retried leaves nothing.
"""

from __future__ import annotations

import logging
import marshal
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final

import transaction
import zope.event
from transaction.interfaces import NoTransaction
from ZODB.Connection import Connection
from zope.lifecycleevent.interfaces import (
    IObjectAddedEvent,
    IObjectModifiedEvent,
    IObjectMovedEvent,
    IObjectRemovedEvent,
)

from .action import CREATED, DATA_CHANGED, DELETED, MOVED, TITLE_CHANGED, check_actions, check_object_id
from .errors import NoConnection, NotInstalled
from .host import Host
from .manager import SyncManager
from .track.inbox import PAGE_CHANGES
from .track.packed import pack_changes
from .track.stored import InboxPage

logger = logging.getLogger(__name__)

#: Ids that a transaction holds in memory; beyond, they wait in a temporary file for the commit.
IDS_IN_MEMORY: Final = 10_000
#: Pages of a very large transaction that are made before they are flushed from memory.
_PAGES_IN_MEMORY: Final = 8

# Which capture serves a database: a fact of the process, so that record_action finds it by the object.
_attached: weakref.WeakKeyDictionary[Any, Capture] = weakref.WeakKeyDictionary()
_attached_lock = threading.Lock()


class Capture:
    """Records what is done to a host's objects, in the transactions that do it.

    ``object_id``, ``contents``, ``former_id``, ``former_id_inside`` and ``is_never_synced`` of the host
    are called on ``host`` itself, with the application's own objects in the application's own context.

    Args:
        host: The application.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._databases: weakref.WeakSet[Any] = weakref.WeakSet()
        self._thread = threading.local()  # .connection: where this thread last recorded something

    def install(self, db: Any) -> Capture:
        """Attach to a database and listen to ``zope.event``; several databases may be attached.

        Raises:
            ValueError: Another capture is attached to this database.
        """
        with _attached_lock:
            if _attached.get(db, self) is not self:
                raise ValueError("another capture is attached to this database")
            _attached[db] = self
        self._databases.add(db)
        if self.notify not in zope.event.subscribers:
            zope.event.subscribers.append(self.notify)
        return self

    def uninstall(self, db: Any = None) -> None:
        """Detach from a database, or from all; nothing happens where it is not attached."""
        for attached in [db] if db is not None else list(self._databases):
            self._databases.discard(attached)
            with _attached_lock:
                if _attached.get(attached) is self:
                    del _attached[attached]
        if not self._databases and self.notify in zope.event.subscribers:
            zope.event.subscribers.remove(self.notify)

    @contextmanager
    def attached(self, db: Any) -> Iterator[Capture]:
        """Be attached to a database for the time of a ``with`` block: for scripts."""
        self.install(db)
        try:
            yield self
        finally:
            self.uninstall(db)

    def is_attached(self, db: Any) -> bool:
        """Tell whether this capture is attached to a database."""
        return db in self._databases

    def record(self, obj_or_id: Any, *actions: str, connection: Any = None) -> None:
        """Record actions on an object, or on an id, in the current transaction.

        Which database they belong to is settled just before the commit: that of ``connection``, the
        object's, its parents', else the only attached one that has joined the transaction.

        Raises:
            ValueError, TypeError: An action or the id has a wrong form.
            NoConnection: The object's database is not one that this capture is attached to. Where it
                takes until the commit to tell, the commit raises it.
        """
        words = check_actions(actions)
        if isinstance(obj_or_id, str):
            obj, object_id = None, check_object_id(obj_or_id)
        else:
            obj, object_id = obj_or_id, check_object_id(self.host.object_id(obj_or_id))
        if connection is None and obj is not None:
            connection = _connection_of(obj)
        if connection is not None and connection.db() not in self._databases:
            raise NoConnection(
                f"object {object_id!r} is stored in a database that livesync is not attached to"
            )
        self._gathered(connection).record(connection, obj, object_id, words, explicit=True)

    def notify(self, event: Any) -> None:
        """Record what a lifecycle event tells; other events are none of ours. Called by ``zope.event``."""
        if IObjectMovedEvent.providedBy(event):
            obj = event.object
            places: tuple[Any, ...] = (obj, event.newParent, event.oldParent)
        elif IObjectModifiedEvent.providedBy(event):
            obj = event.object
            places = (obj,)
        else:
            return
        connection = next(filter(None, map(_connection_of, places)), None)
        if connection is not None and connection.db() not in self._databases:
            return
        if self.host.is_never_synced(obj):
            return
        try:
            gathered = self._gathered(connection)
        except NoConnection as exc:
            logger.warning("an event was not recorded: %s", exc)  # it must not fail the application
            return
        for object_id, words in self._changes(event, obj):
            gathered.record(connection, obj, check_object_id(object_id), words, explicit=False)

    def _changes(self, event: Any, obj: Any) -> Iterator[tuple[str, frozenset[str]]]:
        host = self.host
        if IObjectRemovedEvent.providedBy(event):
            yield from self._with_contents(obj, _DELETED)
        elif IObjectAddedEvent.providedBy(event):
            yield from self._with_contents(obj, _CREATED)
        elif IObjectMovedEvent.providedBy(event):
            object_id = host.object_id(obj)
            former = host.former_id(obj, event.oldParent, event.oldName)
            if former is None or former == object_id:
                yield object_id, _MOVED
                return
            yield former, _DELETED
            yield object_id, _CREATED
            for inner in host.contents(obj):
                former_inside = host.former_id_inside(inner, obj, former)
                inner_id = host.object_id(inner)
                if former_inside is not None and former_inside != inner_id:
                    yield former_inside, _DELETED
                    yield inner_id, _CREATED
        else:
            yield host.object_id(obj), _TITLE_CHANGED if _names_title(event.descriptions) else _DATA_CHANGED

    def _with_contents(self, obj: Any, words: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
        yield self.host.object_id(obj), words
        for inner in self.host.contents(obj):
            yield self.host.object_id(inner), words

    def _gathered(self, connection: Any) -> _Gathered:
        if connection is None:
            manager = self._manager_in_use()
        else:
            manager = connection.transaction_manager
            self._thread.connection = weakref.ref(connection)
        current = manager.get()
        try:
            gathered: _Gathered = current.data(self)
        except KeyError:
            gathered = _Gathered(self, current)
            current.set_data(self, gathered)
        gathered.join()
        return gathered

    def _manager_in_use(self) -> Any:
        """Return the transaction manager of whoever changes an object that is stored nowhere yet.

        Raises:
            NoConnection: It may be any of several: guessing wrong would lose the change.
        """
        in_use = map(attrgetter("transaction_manager"), self._open_connections())
        managers = {id(found): found for found in in_use}
        if not managers or id(transaction.manager) in managers:
            return transaction.manager  # the one of the calling thread
        if len(managers) == 1:
            return next(iter(managers.values()))
        connection = getattr(self._thread, "connection", lambda: None)()
        if connection is not None and self._is_gathering(connection.transaction_manager):
            return connection.transaction_manager
        raise NoConnection(
            "an object that is stored nowhere yet was changed, nor is what it lies in, and several"
            " transactions are open: add it to its connection first, or record with connection=..."
        )

    def _is_gathering(self, manager: Any) -> bool:
        """Tell whether the manager's transaction is under way and something was recorded in it."""
        try:
            return bool(manager.get().data(self))
        except (KeyError, NoTransaction):
            return False

    def _open_connections(self) -> list[Any]:
        found: list[Any] = []
        for database in self._databases:
            database._connectionMap(found.append)
        return [connection for connection in found if connection.opened is not None]


def record_action(obj: Any, *actions: str, connection: Any = None) -> None:
    """Record actions on an object by the capture that is attached to its database.

    Raises:
        NoConnection: No capture is attached there; or the object is stored nowhere yet, and there is
            not exactly one capture.
    """
    found = connection if connection is not None else (None if isinstance(obj, str) else _connection_of(obj))
    with _attached_lock:
        captures = {
            capture for database, capture in _attached.items() if found is None or database is found.db()
        }
    if len(captures) != 1:
        raise NoConnection(
            "livesync is not attached to the database of this object; call Capture(host).install(db) first"
            if not captures
            else "the object is stored nowhere yet, and several captures could record it; name a connection"
        )
    captures.pop().record(obj, *actions, connection=connection)


_CREATED = frozenset({CREATED})
_DATA_CHANGED = frozenset({DATA_CHANGED})
_DELETED = frozenset({DELETED})
_MOVED = frozenset({MOVED})
_TITLE_CHANGED = frozenset({DATA_CHANGED, TITLE_CHANGED})
_NOTHING: frozenset[str] = frozenset()


def _names_title(descriptions: Iterable[Any]) -> bool:
    """Tell whether an event's descriptions (``Attributes``, ``Sequence``) name the title."""
    for description in descriptions or ():
        names = getattr(description, "attributes", None) or getattr(description, "keys", None) or ()
        if callable(names):
            continue
        if any(str(name).rpartition(".")[2].lower() == "title" for name in names):
            return True
    return False


def _connection_of(obj: Any) -> Any:
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


class _Gathered:
    """What one transaction has told one capture: a data manager with savepoints."""

    transaction_manager: Any = None  # as data managers must have; this one belongs to any

    def __init__(self, capture: Capture, current: Any) -> None:
        self._capture = capture
        self._transaction = current
        self._joined = False
        self._hooked = False
        self._changes: dict[Any, _Changes] = {}  # by connection
        self._homeless: list[tuple[Any, str, frozenset[str], bool]] = []

    def join(self) -> None:
        if not self._joined:
            self._transaction.join(self)
            self._joined = True
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

    # Other hooks may still change objects (an indexing queue does), so ours goes to the end of the row.
    def _step_back(self) -> None:
        self._transaction.addBeforeCommitHook(self._write)

    def _write(self) -> None:
        self._hooked = False
        self._house_the_homeless()
        # setUser("name") puts the path "/" before the name; a path that says something is kept
        user = str(self._transaction.user or "").removeprefix("/ ").strip()
        note = str(self._transaction.description or "").strip()
        for connection, changes in self._changes.items():
            if not changes.words and not changes.is_large():
                continue
            try:
                manager = SyncManager.get(connection.root())
            except NotInstalled:
                logger.warning(
                    "livesync is not installed in a database that capture is attached to: not recorded"
                )
                continue
            if changes.is_large():
                manager.record_pages(_pages(connection, changes.parts()), user, note)
            else:
                manager.record_changes(list(changes.words.items()), user, note)
            changes.close()
        self._changes = {}

    def _house_the_homeless(self) -> None:
        homeless, self._homeless = self._homeless, []
        for obj, object_id, words, explicit in homeless:
            connection = None if obj is None else _connection_of(obj)
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
        )

    def rollback(self, marks: dict[Any, Any], homeless: int) -> None:
        del self._homeless[homeless:]
        for connection, changes in self._changes.items():
            changes.reset(marks.get(connection, ({}, 0)))

    def abort(self, current: Any) -> None:
        self._joined = False  # a rollback to a savepoint from before we joined leads here too
        self._homeless = []
        for changes in self._changes.values():
            changes.close()
        self._changes = {}

    def tpc_begin(self, current: Any) -> None:
        """Nothing to do: what was gathered lies in the inbox since before the commit."""

    commit = tpc_vote = tpc_begin

    def tpc_finish(self, current: Any) -> None:
        self.abort(current)

    tpc_abort = tpc_finish

    def sortKey(self) -> str:  # noqa: N802 - as transaction calls it
        return f"~livesync:{id(self):x}"


class _GatheredSavepoint:
    def __init__(self, gathered: _Gathered, marks: dict[Any, Any], homeless: int) -> None:
        self._gathered = gathered
        self._marks = marks
        self._homeless = homeless

    def rollback(self) -> None:
        self._gathered.rollback(self._marks, self._homeless)


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
