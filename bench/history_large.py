"""Versions of many documents beside those of few: what grows with their number, and what does not.

Both collections are open at once, and take turns. Documents are made when they are read, and the time that
this takes is taken off. "First touch" means that the connection's cache was emptied before; the operating
system's is warm.
"""

from __future__ import annotations

import random
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import transaction

from .catalogue import opened
from .edits import document_id, edited
from .history_store import CACHE, Made, Store
from .rows import Row

TITLE = "history_large: versions of a million documents, beside those of ten thousand"
QUICK = {"documents": 120, "most": 240, "versions": 8, "changes": 8, "samples": 10}

#: What ratios of the large one to the small one are kept to.
_LIMITS = {
    "register": 1.8,
    "objects that a register writes": 1.2,
    "one document, warm": 1.5,
    "one document, first touch": 2.5,
    "history of one document, warm": 1.5,
    "ids changed by all versions, warm": 1.5,
    "log, warm": 1.5,
}


class _Sized:
    """A collection of so many documents.

    Args:
        directory: Where to make it.
        documents: How many.
        changes: Documents that each version changes.
    """

    def __init__(self, directory: Path, documents: int, changes: int) -> None:
        self._open = opened(directory / f"{documents}.fs")  # a cache as small as ZODB's own for the beginning
        self.db = self._open.__enter__()
        self.documents, self.changes = documents, changes
        self._dice = random.Random(3)
        self.changed: list[str] = []
        self.found: dict[str, list[float]] = {name: [] for name in _LIMITS}
        connection = self.db.open(transaction_manager=transaction.TransactionManager())
        self.store = Store(connection, directory / f"{documents}.fs", Made(documents))
        self.init_s = self.store.version(self.store.collection.init) - self.store.working.making
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.bytes = self.store.bytes
        self.db.setCacheSize(CACHE)
        connection.close()
        self.store.connection = connection = self.db.open(transaction_manager=self.store.manager)

    def close(self) -> None:
        """Close it."""
        self.store.manager.abort()
        self.store.connection.close()
        self._open.__exit__(None, None, None)

    def register(self, number: int) -> None:
        """Make a version."""
        working, dice = self.store.working, self._dice
        some = [document_id(dice.randrange(self.documents)) for _ in range(self.changes)]
        working.put((one, edited(working.get(one), dice)) for one in some)
        self.changed += some
        making = working.making
        seconds = self.store.version(lambda: self.store.collection.register(f"version {number}"))
        self.found["register"].append((seconds - working.making + making) * 1000)

    def chosen(self, samples: int) -> list[str]:
        """Return ids: half of documents that were changed, half of any."""
        chosen = self._dice.sample(self.changed, min(samples // 2, len(self.changed)))
        return chosen + [
            document_id(self._dice.randrange(self.documents)) for _ in range(samples - len(chosen))
        ]

    def time(self, name: str, read: Callable[[], Any], is_first_touch: bool = False) -> None:
        """Time a read; one that is warm is made once before."""
        if not is_first_touch:
            read()
        self.found[name].append(self.store.ms(read, is_first_touch))

    def read(self, one: str, number: int) -> None:
        """Time reads of a document."""
        collection = self.store.collection
        self.time("one document, first touch", lambda: collection.read(one, number, "main"), True)
        self.time("one document, warm", lambda: collection.read(one, number, "main"))
        self.time("history of one document, warm", lambda: collection.history(one))

    def look(self, versions: int) -> None:
        """Time what is asked of all versions."""
        collection = self.store.collection
        self.time("log, warm", collection.get_log)
        changed = (0, "main"), (versions, "main")
        self.time("ids changed by all versions, warm", lambda: collection.changed(*changed))

    def count(self, versions: int) -> None:
        """Count the objects that the later registers wrote."""
        numbers = [sum(1 for _ in each) for each in self.db.storage.iterator()]
        self.found["objects that a register writes"] = [float(each) for each in numbers[-versions // 2 :]]


def measure(
    documents: int = 10_000, most: int = 1_000_000, versions: int = 20, changes: int = 100, samples: int = 300
) -> list[Row]:
    """Return what grows.

    Args:
        documents: Of the small collection.
        most: Of the large one.
        versions: How many after the first.
        changes: Documents that each edits.
        samples: How many documents are read.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        small = _Sized(Path(directory), documents, changes)
        large = _Sized(Path(directory), most, changes)
        both = (small, large)
        try:
            for number in range(versions):
                for each in both:
                    each.register(number)
            for ones in zip(*(each.chosen(samples) for each in both), strict=True):
                for each, one in zip(both, ones, strict=True):
                    each.read(one, versions // 2)
            for _ in range(15):
                for each in both:
                    each.look(versions)
            for each in both:
                each.count(versions)
        finally:
            for each in both:
                each.close()
    return _rows(small, large)


def _rows(small: _Sized, large: _Sized) -> list[Row]:
    about = f"{large.documents:,} documents"
    rows = [
        Row(f"{about}: the first version, without making them", large.init_s, "s"),
        Row(f"  a document, ratio to {small.documents:,}", _each(large) / _each(small)),
        Row("  memory at its peak, of the whole process", large.peak / 1e6, "MB"),
        Row("  bytes", large.bytes / 1e6, "MB"),
    ]
    for name, limit in _LIMITS.items():
        one, other = median(large.found[name]), median(small.found[name])
        unit = "" if name.startswith("objects") else "ms"
        rows += [
            Row(f"{about}: {name}", one, unit),
            Row(f"  ratio to {small.documents:,}", one / other, at_most=limit),
        ]
    return rows


def _each(sized: _Sized) -> float:
    return sized.init_s / sized.documents
