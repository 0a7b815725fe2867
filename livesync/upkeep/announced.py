"""Which objects were announced when: the newest action on each, in a temporary file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..manager import SyncManager

#: What SQLite keeps in memory before it writes to its file, in KiB.
_CACHE_KB: Final = 16_384

#: Most ids in memory.
_GATHERED: Final = 20_000

#: Actions after which a snapshot's cache is brought back to its size.
_READ: Final = 20_000


class Announced:
    """The time of the newest action on each object, for all actions from some time on.

    It is brought up to date in one snapshot after another, and each reads only what the one before
    it cannot have read. Memory does not grow with the track.

    Args:
        since: Epoch seconds: actions of earlier commits need not be known.
        granularity: Seconds per position of the track.
    """

    def __init__(self, since: float, granularity: int) -> None:
        # an action never lies before the position of its commit's time
        self._from = int(since // granularity) - 1
        # an empty name: a file that nobody sees, and none at all while there is little
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        self._file.execute("CREATE TABLE announced (id BLOB PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID")
        self._file.execute("BEGIN")  # never ended: nobody is to find any of it after a crash

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def read(self, manager: SyncManager) -> None:
        """Take in what the snapshot of this manager shows: what is on the track and what waits."""
        track = manager.track
        self._keep(manager, ((action.object_id, action.timestamp) for _, action in track.iterate(self._from)))
        self._keep(manager, ((action.object_id, action.timestamp) for action in manager.waiting()))
        self._from = max(self._from, track.sealed)  # positions that are not sealed may get more

    def newest(self, object_ids: Sequence[str]) -> dict[str, float]:
        """Return the time of the newest action on each of these objects that any is known of."""
        found = {}
        for object_id in object_ids:
            row = self._file.execute("SELECT time FROM announced WHERE id = ?", (_key(object_id),)).fetchone()
            if row is not None:
                found[object_id] = float(row[0])
        return found

    def _keep(self, manager: SyncManager, items: Iterable[tuple[str, float]]) -> None:
        for part in _newest_of_parts(items, manager):
            # in order, since so many at random places of a large tree take far longer
            self._file.executemany(
                "INSERT INTO announced VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET time = max(time, excluded.time)",
                ((_key(object_id), part[object_id]) for object_id in sorted(part)),
            )


def _newest_of_parts(items: Iterable[tuple[str, float]], manager: SyncManager) -> Iterator[dict[str, float]]:
    part: dict[str, float] = {}
    for number, (object_id, time) in enumerate(items, 1):
        if time > part.get(object_id, -1.0):
            part[object_id] = time
        if len(part) >= _GATHERED:
            yield part
            part = {}
        if number % _READ == 0:
            manager._p_jar.cacheGC()
    yield part


def _key(object_id: str) -> bytes:
    return object_id.encode("utf-8", "surrogatepass")
