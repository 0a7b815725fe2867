"""What a data store must do, wherever the data lie: transactions, and writing to trees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from typing import Any, Protocol, TypeVar

from ...attempts import ATTEMPTS
from ..layers import LayeredTree
from ..pages import Value
from ..pagetrees import PageTree
from ..ranges import RangeKey, Ranges
from ..stored import (
    StoredReplica,
)
from .unwritten import Unwritten

T = TypeVar("T")

#: (partition, stamp, item id): where an item lies in a provider's index.
IndexKey = RangeKey


class Savepoint(Protocol):
    """A point within a transaction that can be gone back to."""

    def rollback(self) -> None:
        """Undo everything since."""


class StoreContract(ABC):
    """What the rest of a store stands on."""

    @abstractmethod
    def run(self, work: Callable[[], T], user: str = "", note: str = "", tries: int = ATTEMPTS) -> T:
        """Carry out ``work`` in one transaction and return what it returns.

        Inside another ``run`` it is part of that one's transaction.

        Args:
            work: Called with nothing, perhaps several times; must not do I/O.
            user, note: Who the transaction says it is.
            tries: How often it is tried where it conflicts with what others write.

        Raises:
            TransientError: It has conflicted that often.
            Exception: Whatever ``work`` raised; nothing of it has happened then.
        """

    @abstractmethod
    def read(self, work: Callable[[], T]) -> T:
        """Carry out ``work``, which must not write, on one consistent state."""

    @abstractmethod
    def savepoint(self) -> Savepoint:
        """Return a point within the current transaction that can be gone back to."""

    @property
    @abstractmethod
    def tables(self) -> StoredReplica:
        """The data, within the current transaction."""

    @property
    @abstractmethod
    def unwritten(self) -> Unwritten:
        """What the current transaction has changed and not written yet."""

    @property
    def connection(self) -> Any | None:
        """The ZODB connection of the current transaction; None where the data lie in no database."""
        return None

    @abstractmethod
    def _set(self, tree: Any, key: Any, value: Any) -> None:
        """Put a value into a tree of :attr:`tables`."""

    @abstractmethod
    def _remove(self, tree: Any, key: Any) -> None:
        """Take a key out of a tree, if it is there."""

    def _extend(self, index: Ranges, rows: Mapping[IndexKey, bytes]) -> None:
        """Put many values into an index, each key after those of its partition."""
        for key in sorted(rows):
            self._set(index, key, rows[key])

    def _amend(self, index: Ranges, rows: Mapping[IndexKey, bytes | None]) -> None:
        """Put many values into an index in place of others, and take out the keys whose value is None."""
        self._put_each(index, rows)

    def _update(
        self,
        tree: PageTree | LayeredTree,
        rows: Mapping[str, Value | None],
        absent: Set[str] = frozenset(),
    ) -> None:
        """Put many values into a tree, and take out the keys whose value is None; some were looked for."""
        self._put_each(tree, rows)

    def _put_each(self, tree: Any, rows: Mapping[Any, Any]) -> None:
        for key in sorted(rows):
            value = rows[key]
            if value is None:
                self._remove(tree, key)
            else:
                self._set(tree, key, value)

    @abstractmethod
    def _insert(self, members: Any, key: Any) -> None:
        """Put a key into a set of :attr:`tables`."""

    @abstractmethod
    def _discard(self, members: Any, key: Any) -> None:
        """Take a key out of a set, if it is there."""

    @abstractmethod
    def _found_life(self) -> int:
        """Return the life that was the store's before anything was stamped since the data were opened."""
