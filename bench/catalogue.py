"""The application that the benchmarks measure with: a flat catalogue of talks in one BTree.

Its documents are plain and its host does next to nothing, so what livesync adds weighs more here
than in an application that renders real pages.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync.action import DATA_CHANGED, ActionWrapper
from livesync.host import PUBLIC, Host
from livesync.manager import SyncManager

_TEXT = (
    "transaction object database catalogue conference speaker python index replica record storage"
    " history library persistent search archive message commit version pointer station window paper"
)
_WORDS = tuple(_TEXT.split())


class Talk(Persistent):
    """One talk; ``number`` is what the benchmarks change."""

    def __init__(self, talk_id: str, title: str, abstract: str = "") -> None:
        self.id = talk_id
        self.title = title
        self.abstract = abstract
        self.number = 0


class CatalogueHost(Host):
    """The talks of ``root["talks"]``."""

    def __init__(self, talks: Any = None) -> None:
        self._talks = talks

    @contextmanager
    def at(self, connection: Any) -> Iterator[CatalogueHost]:
        """Return the host of this connection's talks."""
        yield CatalogueHost(connection.root()["talks"])

    def object_id(self, obj: Talk) -> str:
        """Return the talk's id."""
        return obj.id

    def get(self, object_id: str) -> Talk | None:
        """Return the talk of this id."""
        found: Talk | None = self._talks.get(object_id)
        return found

    def iter_objects(self, after: str | None = None) -> Iterator[Talk]:
        """Yield the talks by id."""
        return iter(self._talks.values(after, excludemin=after is not None))

    def iter_ids(self, after: str | None = None) -> Iterator[str]:
        """Yield the talks' ids, and load none of them."""
        return iter(self._talks.keys(after, excludemin=after is not None))

    def contents(self, obj: Talk) -> Iterator[Talk]:
        """Yield nothing: a talk is no container."""
        return iter(())

    def is_excluded(self, obj: Talk, audience: str = PUBLIC) -> bool:
        """Tell that everybody may see it."""
        return False

    def document(self, obj: Talk, audience: str = PUBLIC) -> dict[str, Any]:
        """Return the document of a talk."""
        return document(obj)


def document(talk: Talk) -> dict[str, Any]:
    """Return the document of a talk: about 500 bytes of JSON where it has an abstract."""
    return {
        "title": talk.title,
        "abstract": talk.abstract,
        "number": talk.number,
        "speakers": ["Ada Example", "Grace Example"],
        "conference": {"name": "PyExample", "year": 2024},
        "url": f"https://talks.example.org/{talk.id}",
    }


def talk_ids(count: int) -> list[str]:
    """Return ``count`` ids of 11 characters, ascending."""
    return [f"talk-{number:06d}" for number in range(count)]


def fill(db: DB, ids: Sequence[str], abstract_words: int = 50, per_commit: int = 5000) -> None:
    """Store the talks of ``ids``; the same ones at each call."""
    dice = random.Random(20240229)
    with db.transaction() as connection:
        talks = connection.root()["talks"] = OOBTree()
        for begin in range(0, len(ids), per_commit):
            for talk_id in ids[begin : begin + per_commit]:
                words = dice.choices(_WORDS, k=abstract_words + 4)
                talks[talk_id] = Talk(talk_id, " ".join(words[:4]), " ".join(words[4:]))
            connection.transaction_manager.savepoint(optimistic=True)


def install(db: DB, *agents: Any) -> None:
    """Install livesync, with agents whose pointers stand before everything."""
    with db.transaction() as connection:
        manager = SyncManager.install(connection.root())
        for agent in agents:
            manager.register_agent(agent)
            manager.activate(agent.id, from_start=True)


def record(db: DB, ids: Sequence[str], per_commit: int, count: int | None = None) -> int:
    """Record ``count`` actions (one for each id, if None) on ``ids`` in turn, ``per_commit`` a transaction.

    Returns:
        How many transactions that were.
    """
    count = len(ids) if count is None else count
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    commits = 0
    for begin in range(0, count, per_commit):
        manager.begin()
        SyncManager.get(connection.root()).record(
            ActionWrapper(0, ids[number % len(ids)], (DATA_CHANGED,))
            for number in range(begin, min(begin + per_commit, count))
        )
        manager.commit()
        commits += 1
    connection.close()
    return commits


@contextmanager
def opened(path: str | os.PathLike[str], **options: Any) -> Iterator[DB]:
    """Open the FileStorage at ``path``, making it if it is not there, for a ``with`` block."""
    db = DB(FileStorage(os.fspath(path)), **options)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def without_fsync() -> Iterator[None]:
    """Let FileStorage not wait for the disk: for what is prepared, never for what is timed."""
    # By its name: as an attribute of its package, the module is hidden by the class.
    file_storage = import_module("ZODB.FileStorage.FileStorage")
    kept: Callable[..., Any] | None = file_storage.fsync
    file_storage.fsync = None
    try:
        yield
    finally:
        file_storage.fsync = kept
