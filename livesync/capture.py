"""Capture: what is done to a host's objects, recorded in the transactions that do it.

It listens to ``zope.event`` and is called by hand. What it hears is gathered per transaction
(``gathering.py``) and committed with it, or not at all: what is aborted, rolled back to a savepoint
or retried leaves nothing.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import transaction
import zope.event
from transaction.interfaces import NoTransaction
from zope.lifecycleevent.interfaces import (
    IObjectAddedEvent,
    IObjectModifiedEvent,
    IObjectMovedEvent,
    IObjectRemovedEvent,
)

from .action import CREATED, DATA_CHANGED, DELETED, MOVED, TITLE_CHANGED, check_actions, check_object_id
from .database import mend_storage
from .errors import NoConnection
from .gathering import Gathered, connection_of
from .host import Host
from .relundo import let_lanes_give_way

logger = logging.getLogger(__name__)

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
        let_lanes_give_way(db)
        mend_storage(db)
        self._databases.add(db)
        if self.notify not in zope.event.subscribers:
            zope.event.subscribers.append(self.notify)
        return self

    def uninstall(self, db: Any = None) -> None:
        """Detach from a database, or from all; nothing happens where it is not attached."""
        self._thread = threading.local()
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
            connection = connection_of(obj)
        if connection is not None and connection.db() not in self._databases:
            raise NoConnection(
                f"object {object_id!r} is stored in a database that livesync is not attached to"
            )
        self._gathered(connection).record(connection, obj, object_id, words, explicit=True)

    def note(self, object_id: str, action: str, connection: Any, inside: Iterable[str] = ()) -> None:
        """Record an action unless the transaction says something else of the object by the time it commits.

        For those who see that something changed, but not what: whoever knows more goes first, even later.

        Args:
            object_id: Which object.
            action: What.
            connection: Where it is stored.
            inside: Ids of the containers that it lies in: an action on one of them that reaches
                everything inside says enough.

        Raises:
            ValueError, TypeError: The action or an id has a wrong form.
            NoConnection: This capture is not attached to the connection's database.
        """
        (word,) = check_actions([action])
        if connection.db() not in self._databases:
            raise NoConnection(
                f"object {object_id!r} is stored in a database that livesync is not attached to"
            )
        self._gathered(connection).note(connection, check_object_id(object_id), word, tuple(inside))

    def notify(self, event: Any) -> None:
        """Record what a lifecycle event tells; other events are none of ours. Called by ``zope.event``."""
        is_modified = IObjectModifiedEvent.providedBy(event)
        if not is_modified and not IObjectMovedEvent.providedBy(event):
            return
        obj = event.object
        connection = connection_of(obj)
        if connection is None and not is_modified:
            connection = connection_of(event.newParent) or connection_of(event.oldParent)
        gathered = self._gathered_for_event(connection, obj)
        if gathered is None:
            return
        if is_modified:
            words = _TITLE_CHANGED if _names_title(event.descriptions) else _DATA_CHANGED
            gathered.record(connection, obj, check_object_id(self.host.object_id(obj)), words, explicit=False)
            return
        for object_id, words in self._changes(event, obj):
            gathered.record(connection, obj, check_object_id(object_id), words, explicit=False)

    def heard(self, obj: Any, *actions: str) -> None:
        """Record what an event of the application's own means: :meth:`record` for subscribers.

        Where the object is none of ours, or nobody can tell which transaction it belongs to, nothing
        is recorded, as with other events. ``created`` and ``deleted`` take in everything inside.

        Raises:
            ValueError, TypeError: An action has a wrong form.
        """
        words = check_actions(actions)
        connection = connection_of(obj)
        gathered = self._gathered_for_event(connection, obj)
        if gathered is None:
            return
        reaches = (
            self._with_contents(obj, words) if words & _WITH_CONTENTS else [(self.host.object_id(obj), words)]
        )
        for object_id, each in reaches:
            gathered.record(connection, obj, check_object_id(object_id), each, explicit=False)

    def _gathered_for_event(self, connection: Any, obj: Any) -> Gathered | None:
        """Return where what an event tells of an object is gathered; None: it is not to be recorded."""
        if connection is not None and not self._serves(connection):
            return None
        if self.host.is_never_synced(obj):
            return None
        try:
            return self._gathered(connection)
        except NoConnection as exc:
            logger.warning("an event was not recorded: %s", exc)  # it must not fail the application
            return None

    def _serves(self, connection: Any) -> bool:
        return self._is_last(connection) or connection.db() in self._databases

    def _is_last(self, connection: Any) -> bool:
        """Tell whether this thread has last recorded something in this connection."""
        last = getattr(self._thread, "connection", None)
        return last is not None and last() is connection

    def _changes(self, event: Any, obj: Any) -> Iterator[tuple[str, frozenset[str]]]:
        if IObjectRemovedEvent.providedBy(event):
            yield from self._with_contents(obj, _DELETED)
        elif IObjectAddedEvent.providedBy(event):
            yield from self._with_contents(obj, _CREATED)
        else:
            yield from self._moved(event, obj)

    def _moved(self, event: Any, obj: Any) -> Iterator[tuple[str, frozenset[str]]]:
        host = self.host
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

    def _with_contents(self, obj: Any, words: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
        yield self.host.object_id(obj), words
        for inner in self.host.contents(obj):
            yield self.host.object_id(inner), words

    def _gathered(self, connection: Any) -> Gathered:
        if connection is None:
            manager = self._manager_in_use()
        else:
            manager = connection.transaction_manager
            if not self._is_last(connection) and connection.db() in self._databases:
                self._thread.connection = weakref.ref(connection)
        current = manager.get()
        try:
            gathered: Gathered = current.data(self)
        except KeyError:
            gathered = Gathered(self, current)
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


def capture_for(obj: Any) -> Capture | None:
    """Return the capture that is attached to the database of an object (or of its parents), or None."""
    connection = connection_of(obj)
    if connection is None:
        return None
    with _attached_lock:
        return _attached.get(connection.db())


def record_action(obj: Any, *actions: str, connection: Any = None) -> None:
    """Record actions on an object by the capture that is attached to its database.

    Raises:
        NoConnection: No capture is attached there; or the object is stored nowhere yet, and there is
            not exactly one capture.
    """
    capture, _ = capture_of(obj, connection)
    capture.record(obj, *actions, connection=connection)


def capture_of(obj: Any, connection: Any = None) -> tuple[Capture, Any]:
    """Return the capture that is attached to an object's database, and the object's connection, if any.

    Args:
        obj: An object, or an id.
        connection: Stands for the object's own.

    Raises:
        NoConnection: No capture is attached there; or the object is stored nowhere yet, and there is
            not exactly one capture.
    """
    if connection is None and not isinstance(obj, str):
        connection = connection_of(obj)
    with _attached_lock:
        captures = {
            capture
            for database, capture in _attached.items()
            if connection is None or database is connection.db()
        }
    if len(captures) != 1:
        raise NoConnection(
            "livesync is not attached to the database of this object; call Capture(host).install(db) first"
            if not captures
            else "the object is stored nowhere yet, and several captures could record it; name a connection"
        )
    return captures.pop(), connection


def attached_capture(db: Any) -> Capture | None:
    """Return the capture that is attached to a database, if there is one."""
    with _attached_lock:
        return _attached.get(db)


_CREATED = frozenset({CREATED})
_DATA_CHANGED = frozenset({DATA_CHANGED})
_DELETED = frozenset({DELETED})
_WITH_CONTENTS = _CREATED | _DELETED
_MOVED = frozenset({MOVED})
_TITLE_CHANGED = frozenset({DATA_CHANGED, TITLE_CHANGED})


def _names_title(descriptions: Iterable[Any]) -> bool:
    """Tell whether an event's descriptions (``Attributes``, ``Sequence``) name the title."""
    for description in descriptions or ():
        names = getattr(description, "attributes", None) or getattr(description, "keys", None) or ()
        if callable(names):
            continue
        if any(str(name).rpartition(".")[2].lower() == "title" for name in names):
            return True
    return False
