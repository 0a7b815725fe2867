"""The documents of an application, and the collection of their versions, for benchmarks of histories."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from persistent import Persistent

from livesync.versions import VersionedCollection
from livesync.versions.diffs.threeway import ABSENT
from livesync.versions.working import WorkingCopy

from .edits import Document, document, document_id
from .rows import check
from .timing import timed

#: Objects that a connection keeps, so that "warm" is warm.
CACHE = 100_000


class Kept(Persistent):
    """A document of an application: an object of its own."""

    def __init__(self, document: Document) -> None:
        self.document = document


class Objects(WorkingCopy):
    """Documents of an application, an object each, and how long it takes to write them."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.touched: set[str] = set()
        self.seconds = 0.0

    def get(self, one: str) -> Any:
        """Return a document."""
        found = self.tree.get(one)
        return ABSENT if found is None else found.document

    def put(self, documents: Iterable[tuple[str, Any]]) -> None:
        """Write documents as the application does."""
        for one, value in documents:
            if value is ABSENT or value is None:
                del self.tree[one]
            elif one in self.tree:
                self.tree[one].document = value
            else:
                self.tree[one] = Kept(value)
            self.touched.add(one)

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """Write documents of a checkout, and note how long it took."""
        documents = list(documents)
        self.seconds = timed(lambda: self.put(documents)).wall_s

    def ids(self) -> Iterator[str]:
        """Yield all ids."""
        return iter(self.tree)

    def changed(self) -> Iterable[str]:
        """Return what was written."""
        return list(self.touched)

    def settle(self) -> None:
        """Note that it was looked at."""
        self.touched.clear()

    def drop(self) -> None:
        """Nothing is kept elsewhere."""

    def rename(self, new: str) -> None:
        """Nothing is named after the collection."""


class Made(Objects):
    """So many documents that they are made when they are read, but for those that were edited."""

    def __init__(self, documents: int) -> None:
        super().__init__({})
        self.documents = documents
        self.making = 0.0

    def get(self, one: str) -> Any:
        """Return a document, and note how long it takes to make it."""
        known = self.tree.get(one)
        if known is not None:
            return known
        begin = time.perf_counter()
        made = document(int(one[5:]))
        self.making += time.perf_counter() - begin
        return made

    def put(self, documents: Iterable[tuple[str, Any]]) -> None:
        """Keep what was edited."""
        for one, value in documents:
            self.tree[one] = value
            self.touched.add(one)

    def ids(self) -> Iterator[str]:
        """Yield all ids."""
        return map(document_id, range(self.documents))


class Store:
    """A database file with a collection.

    Args:
        connection: Open.
        path: Of the file.
        working: The documents.
    """

    def __init__(self, connection: Any, path: Path, working: Objects) -> None:
        self.connection, self.path, self.working = connection, path, working
        self.manager = connection.transaction_manager
        ticks = count(1_900_000_000)
        self.collection = VersionedCollection(
            connection, "talks", working=working, author="ada", clock=lambda: float(next(ticks))
        )
        self.bytes = 0

    def host_commit(self, version: dict[str, Any]) -> float:
        """Write documents as the application does; return the seconds, commit included."""

        def write() -> None:
            self.working.put(version.items())
            self.manager.commit()

        return timed(write).wall_s

    def version(self, make: Callable[[], bool]) -> float:
        """Make a version; return the seconds, commit included, and count its bytes."""
        before = os.path.getsize(self.path)

        def register() -> None:
            check(make(), "no version was made")
            self.manager.commit()

        seconds = timed(register).wall_s
        self.bytes += os.path.getsize(self.path) - before
        return seconds

    def ms(self, read: Callable[[], Any], is_first_touch: bool = False) -> float:
        """Return the milliseconds of a read."""
        if is_first_touch:
            self.connection.cacheMinimize()
        return timed(read).wall_s * 1000
