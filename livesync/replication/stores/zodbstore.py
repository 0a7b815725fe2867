"""A data store in a ZODB, beside the application's own objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from transaction import TransactionManager

from ...attempts import ATTEMPTS, attempts
from ...errors import NotInstalled, check_schema
from ..layers import LayeredTree
from ..pages import Value
from ..pagetrees import PageTree
from ..ranges import RangeKey, Ranges
from ..stored import ROOT_KEY, SCHEMA, StoredReplica
from .base import BaseDataStore
from .contract import Savepoint
from .unwritten import Unwritten

T = TypeVar("T")

#: What is to be done with data of an older schema, of which no release has written any.
_OLDER: Final = f"take {ROOT_KEY!r} out of the database's root, and begin anew"

#: The life of each database when this process first stamped something in it: stores come and go.
_LIVES_FOUND: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


class ZODBDataStore(BaseDataStore):
    """A data store in a database, under ``livesync.replication`` of its root.

    It opens a connection for each transaction. Threads may share it.

    Args:
        db: An open ``ZODB.DB``.
        create: Make the store where there is none, in a transaction of its own.

    Raises:
        NotInstalled: There is none, and ``create`` is False.
        UpgradeNeeded: It is of another schema than this code's.
    """

    def __init__(self, db: Any, create: bool = True) -> None:
        self.db = db
        self._thread = threading.local()
        if create:
            self._with_root(self._make)
        else:
            with self._open() as connection:
                find_replica(connection.root())

    @staticmethod
    def _make(root: Any) -> None:
        if ROOT_KEY not in root:
            root[ROOT_KEY] = StoredReplica()
        find_replica(root)

    def _with_root(self, change: Callable[[Any], None]) -> None:
        from ...database import committed

        committed(self.db, change)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        manager = TransactionManager(explicit=True)
        connection = self.db.open(transaction_manager=manager)
        manager.begin()
        try:
            yield connection
        finally:
            manager.abort()
            connection.close()

    @property
    def connection(self) -> Any | None:
        """The connection of the current transaction in this thread."""
        return getattr(self._thread, "connection", None)

    @property
    def tables(self) -> StoredReplica:
        """The data, within the current transaction.

        Raises:
            RuntimeError: There is no transaction: a store is used inside ``run`` or ``read``.
        """
        found: StoredReplica | None = getattr(self._thread, "tables", None)
        if found is None:
            raise RuntimeError("a store is used inside run() or read() only")
        return found

    @property
    def unwritten(self) -> Unwritten:
        """What the current transaction of this thread has not written yet."""
        found: Unwritten = self._thread.unwritten
        return found

    @contextmanager
    def _current(self, connection: Any) -> Iterator[None]:
        self._thread.connection = connection
        self._thread.tables = find_replica(connection.root())
        self._thread.unwritten = Unwritten()
        try:
            yield
        finally:
            self._thread.connection = self._thread.tables = None

    def run(self, work: Callable[[], T], user: str = "", note: str = "", tries: int = ATTEMPTS) -> T:
        """Carry out ``work`` and commit; again where it conflicts."""
        if self.connection is not None:
            return work()
        manager = TransactionManager(explicit=True)
        connection = self.db.open(transaction_manager=manager)
        try:
            for attempt in attempts(manager, tries):
                with attempt as current, self._current(connection):
                    if user:
                        current.setUser(user)
                    if note:
                        current.note(note)
                    result = work()
                    self._settle()
            return result
        finally:
            connection.close()

    def read(self, work: Callable[[], T]) -> T:
        """Carry out ``work`` on a snapshot."""
        if self.connection is not None:
            return work()
        with self._open() as connection, self._current(connection):
            return work()

    def savepoint(self) -> Savepoint:
        """Return a point within the transaction."""
        assert self.connection is not None
        self._settle()
        return _ZODBSavepoint(self.connection.transaction_manager.savepoint(), self.unwritten)

    def _found_life(self) -> int:
        found = _LIVES_FOUND.get(self.db)
        return _LIVES_FOUND.setdefault(self.db, self.life) if found is None else found

    def _set(self, tree: Any, key: Any, value: Any) -> None:
        tree[key] = value

    def _remove(self, tree: Any, key: Any) -> None:
        tree.pop(key, None)

    def _extend(self, index: Ranges, rows: Mapping[RangeKey, bytes]) -> None:
        index.extend(rows)

    def _amend(self, index: Ranges, rows: Mapping[RangeKey, bytes | None]) -> None:
        index.update(rows)

    def _update(
        self,
        tree: PageTree | LayeredTree,
        rows: Mapping[str, Value | None],
        absent: Set[str] = frozenset(),
    ) -> None:
        tree.update(rows, self._write_early, absent)

    def _write_early(self) -> None:
        """Write what was changed to a file aside, so that it need not stay in memory until the end."""
        assert self.connection is not None
        self.connection.transaction_manager.savepoint(optimistic=True)

    def _insert(self, members: Any, key: Any) -> None:
        members.insert(key)

    def _discard(self, members: Any, key: Any) -> None:
        if key in members:
            members.remove(key)


class _ZODBSavepoint:
    def __init__(self, savepoint: Savepoint, unwritten: Unwritten) -> None:
        self._savepoint = savepoint
        self._unwritten = unwritten

    def rollback(self) -> None:
        self._unwritten.clear()
        self._savepoint.rollback()


class _RootStore(ZODBDataStore):
    """A store within a transaction that somebody else commits."""

    def __init__(self, root: Any) -> None:
        self._thread = threading.local()
        self._thread.connection = root._p_jar
        self._thread.tables = find_replica(root)
        self._thread.unwritten = Unwritten()


def renew_in(root: Any) -> str | None:
    """Give the provider of a copied database a new id, within the caller's transaction.

    Args:
        root: The database's root.

    Returns:
        The new id; None where the database takes no part in two-way sync.
    """
    return _RootStore(root).renew(truthful=True) if ROOT_KEY in root else None


def find_replica(root: Any) -> StoredReplica:
    """Return what two-way sync keeps in the database whose ``root`` this is.

    Raises:
        NotInstalled: There is nothing.
        UpgradeNeeded: It is of another schema than this code's.
    """
    found = root.get(ROOT_KEY)
    if found is None:
        raise NotInstalled("this database takes no part in two-way sync yet: livesync peer init")
    if not isinstance(found, StoredReplica):
        raise NotInstalled(f"what lies under {ROOT_KEY!r} in this database is not livesync's")
    check_schema("two-way sync's stored schema", found.schema, SCHEMA, _OLDER)
    return found
