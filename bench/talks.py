"""An application of talks, for the benchmarks of two-way sync: a model, and a host of next to nothing.

Its objects are what livesync and others sync alike; their ids are calculated from a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, ClassVar

from BTrees.OOBTree import OOBTree
from ZODB.DB import DB

from livesync.action import CREATED, DATA_CHANGED
from livesync.host import PUBLIC, Host
from livesync.manager import SyncManager
from livesync.replication import SyncableModel

TITLE = "A talk about nothing in particular"
_HOME = "talks"


class Talk(SyncableModel):
    """One talk."""

    sync_profile = "talks"
    model_name: ClassVar[str | None] = "talk"

    def __init__(self, number: int) -> None:
        self.title = TITLE
        self.number = number
        self.edition = 0

    def calculate_source_id(self) -> str:
        """Return what makes it the same talk everywhere."""
        return str(self.number)

    def calculate_partition(self) -> str:
        """Return where it lies: in one of fifty parts."""
        return f"talks:{self.number % 50}"

    def sync_key(self, item_id: str) -> str:
        """Return its id here: its number, in eight digits."""
        return f"{self.number:08d}"

    @classmethod
    def sync_home(cls, root: Any) -> MutableMapping[str, Any]:
        """Return where talks lie."""
        found: MutableMapping[str, Any] = root[_HOME]
        return found


class TalksHost(Host):
    """The talks of one database."""

    def __init__(self, talks: Mapping[str, Talk] | None = None) -> None:
        self._talks: Any = talks

    @contextmanager
    def at(self, connection: Any) -> Iterator[TalksHost]:
        """Return the host of this connection's talks."""
        yield TalksHost(connection.root()[_HOME])

    def object_id(self, obj: Talk) -> str:
        """Return the talk's id."""
        return obj.sync_key("")

    def get(self, object_id: str) -> Talk | None:
        """Return the talk of this id."""
        found: Talk | None = self._talks.get(object_id)
        return found

    def iter_objects(self, after: str | None = None) -> Iterator[Talk]:
        """Yield the talks by id."""
        return iter(self._talks.values(after, excludemin=after is not None))

    def contents(self, obj: Talk) -> Iterator[Talk]:
        """Yield nothing: a talk is no container."""
        return iter(())

    def is_excluded(self, obj: Talk, audience: str = PUBLIC) -> bool:
        """Tell that everybody may see it."""
        return False

    def document(self, obj: Talk, audience: str = PUBLIC) -> dict[str, Any]:
        """Return what it says."""
        return obj.serialize()

    def sync_models(self) -> tuple[type, ...]:
        """Return the model."""
        return (Talk,)


def install(db: DB) -> None:
    """Make a database of talks, with none in it, that livesync keeps a track of."""
    with db.transaction() as connection:
        root = connection.root()
        root[_HOME] = OOBTree()
        SyncManager.install(root)


def write(db: DB, numbers: range, edition: int, per_commit: int = 1000) -> None:
    """Make talks, or change those that there are, and record it in the same transaction."""
    for begin in range(0, len(numbers), per_commit):
        with db.transaction() as connection:
            talks = connection.root()[_HOME]
            changes = []
            for number in numbers[begin : begin + per_commit]:
                made = Talk(number)
                key = made.sync_key("")
                talk = talks.setdefault(key, made)
                talk.edition = edition
                changes.append((key, frozenset({CREATED if talk is made else DATA_CHANGED})))
            SyncManager.get(connection.root(), to_record=True).record_changes(changes, "ada", "")


def count(db: DB, edition: int | None = None) -> int:
    """Return how many talks there are, of one edition, or all."""
    with db.transaction() as connection:
        talks = connection.root()[_HOME]
        return len(talks) if edition is None else sum(talk.edition == edition for talk in talks.values())
