"""A data store in memory: for tests, for tools, and for what need not stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...attempts import ATTEMPTS
from ..stored import StoredReplica
from .base import BaseDataStore
from .contract import Savepoint
from .unwritten import Unwritten

T = TypeVar("T")

_ABSENT = object()


class MemoryDataStore(BaseDataStore):
    """A data store that is gone with the process. One thread at a time."""

    def __init__(self) -> None:
        self._tables = StoredReplica()
        self._journal: list[Callable[[], None]] | None = None
        self._unwritten = Unwritten()
        self._life: int | None = None

    @property
    def tables(self) -> StoredReplica:
        """The data."""
        return self._tables

    @property
    def unwritten(self) -> Unwritten:
        """What the current transaction has not written yet."""
        return self._unwritten

    def run(self, work: Callable[[], T], user: str = "", note: str = "", tries: int = ATTEMPTS) -> T:
        """Carry out ``work``; where it raises, everything is as before."""
        if self._journal is not None:
            return work()
        self._journal = []
        try:
            result = work()
            self._settle()
            return result
        except BaseException:
            self._undo(0)
            raise
        finally:
            self._journal = None

    def read(self, work: Callable[[], T]) -> T:
        """Carry out ``work``."""
        return work()

    def savepoint(self) -> Savepoint:
        """Return a point that can be gone back to."""
        assert self._journal is not None
        self._settle()
        return _MemorySavepoint(self, len(self._journal))

    def _undo(self, length: int) -> None:
        assert self._journal is not None
        self._unwritten.clear()
        while len(self._journal) > length:
            self._journal.pop()()

    def _note(self, undo: Callable[[], None]) -> None:
        assert self._journal is not None, "a store is written inside run() only"
        self._journal.append(undo)

    def _found_life(self) -> int:
        if self._life is None:
            self._life = self.life
        return self._life

    def _set(self, tree: Any, key: Any, value: Any) -> None:
        before = tree.get(key, _ABSENT)
        if before is _ABSENT:
            self._note(lambda: tree.pop(key))
        else:
            self._note(lambda: tree.__setitem__(key, before))
        tree[key] = value

    def _remove(self, tree: Any, key: Any) -> None:
        before = tree.pop(key, _ABSENT)
        if before is not _ABSENT:
            self._note(lambda: tree.__setitem__(key, before))

    def _insert(self, members: Any, key: Any) -> None:
        if members.insert(key):
            self._note(lambda: members.remove(key))

    def _discard(self, members: Any, key: Any) -> None:
        if key in members:
            members.remove(key)
            self._note(lambda: members.insert(key))


class _MemorySavepoint:
    def __init__(self, store: MemoryDataStore, length: int) -> None:
        self._store = store
        self._length = length

    def rollback(self) -> None:
        self._store._undo(self._length)
