"""What a verification finds, in a temporary file: memory does not grow with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

#: What SQLite keeps in memory before it writes to its file, in KiB.
_CACHE_KB: Final = 16_384

#: Most positions in memory.
_GATHERED: Final = 100_000

_TABLES: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA cache_size = -%d;
    CREATE TABLE suspects (id BLOB PRIMARY KEY, pending INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE positions (id BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE told (
        kind TEXT NOT NULL, id BLOB NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (id, kind)) WITHOUT ROWID;
"""


class Findings:
    """Suspects, what is said of those that are none any more, and positions; all by ascending ids.

    Ids are kept as the bytes of their UTF-8, whose order is that of the code points; a host may
    have ids that cannot be written as UTF-8, and these are kept too.
    """

    def __init__(self) -> None:
        # an empty name: a file that nobody sees, and none at all while there is little
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.executescript(_TABLES % _CACHE_KB)
        self._gathered: dict[str, int] = {}
        self._wrote_positions = False
        self._file.execute("BEGIN")  # never ended: nobody is to find any of it after a crash

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    # -- suspects --------------------------------------------------------------------------------

    def suspect(self, object_ids: Iterable[str]) -> None:
        """Add suspects."""
        self._file.executemany("INSERT OR IGNORE INTO suspects (id) VALUES (?)", _keys(object_ids))

    def next_suspects(self, after: str | None, most: int) -> list[str]:
        """Return the next suspects after an id that are not marked as pending."""
        rows = self._file.execute(
            "SELECT id FROM suspects WHERE id > ? AND NOT pending ORDER BY id LIMIT ?",
            (b"" if after is None else _key(after), most),
        )
        return [_id(key) for (key,) in rows]

    def mark_pending(self, object_ids: Iterable[str]) -> None:
        """Mark those of these objects that are suspects as pending."""
        self._file.executemany("UPDATE suspects SET pending = 1 WHERE id = ?", _keys(object_ids))

    def are_pending(self, first: str, last: str) -> set[str]:
        """Return the suspects from one id to another, both included, that are marked."""
        rows = self._file.execute(
            "SELECT id FROM suspects WHERE id BETWEEN ? AND ? AND pending", (_key(first), _key(last))
        )
        return {_id(key) for (key,) in rows}

    def forget_suspects(self, object_ids: Iterable[str]) -> None:
        """Take suspects out."""
        self._file.executemany("DELETE FROM suspects WHERE id = ?", _keys(object_ids))

    def count_suspects(self) -> int:
        """Return how many suspects there are."""
        return int(self._file.execute("SELECT count(*) FROM suspects").fetchone()[0])

    # -- what is told in the end -----------------------------------------------------------------

    def tell(self, told: Iterable[tuple[str, str, str]]) -> None:
        """Keep ``(kind, id, detail)``."""
        self._file.executemany(
            "INSERT OR REPLACE INTO told VALUES (?, ?, ?)",
            ((kind, _key(object_id), _writable(detail)) for kind, object_id, detail in told),
        )

    def told(self, *kinds: str) -> Iterator[tuple[str, str, str]]:
        """Yield what was kept of these kinds, as ``(kind, id, detail)``."""
        marks = ",".join("?" * len(kinds))
        rows = self._file.execute(f"SELECT * FROM told WHERE kind IN ({marks}) ORDER BY id", kinds)  # noqa: S608
        for kind, key, detail in rows:
            yield kind, _id(key), detail

    # -- positions -------------------------------------------------------------------------------

    def keep_positions(self, columns: Iterable[tuple[Sequence[str], Sequence[int]]]) -> None:
        """Keep the last position of each id; positions do not decrease.

        Args:
            columns: Ids, and a position for each of them, some at a time.
        """
        gathered = self._gathered
        for ids, positions in columns:
            gathered.update(zip(ids, positions))
            if len(gathered) > _GATHERED:
                self._write_positions()
        if self._wrote_positions:
            self._write_positions()

    def positions(self, first: str, last: str) -> Mapping[str, int]:
        """Return what :meth:`keep_positions` kept of the ids from one to another, both included.

        There may be more in it.
        """
        if not self._wrote_positions:
            return self._gathered
        rows = self._file.execute(
            "SELECT id, position FROM positions WHERE id BETWEEN ? AND ?", (_key(first), _key(last))
        )
        return {_id(key): position for key, position in rows}

    def _write_positions(self) -> None:
        # in order, since so many at random places of a large tree take far longer
        rows = ((_key(object_id), self._gathered[object_id]) for object_id in sorted(self._gathered))
        self._file.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", rows)
        self._gathered.clear()
        self._wrote_positions = True


def _key(object_id: str) -> bytes:
    return object_id.encode("utf-8", "surrogatepass")


def _keys(object_ids: Iterable[str]) -> Iterator[tuple[bytes]]:
    return ((_key(object_id),) for object_id in object_ids)


def _id(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
