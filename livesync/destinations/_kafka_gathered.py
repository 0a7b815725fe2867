"""What a topic comes to: the newest of each object, gathered in a file of no name.

The rule of positions is kept as any consumer should keep it: of one object, a record is taken if its
position is equal to or greater than that of what is held. The file is a private one of SQLite
below TMPDIR, which vanishes by itself, so memory does not grow with the topic.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

from confluent_kafka import Message

from ..delivery.uploader import HeldRow
from ..errors import RetryLater

POSITION_HEADER: Final = "livesync-position"

#: Rows that are read at once.
_PAGE: Final = 1_000

#: Parameters of one look-up; every SQLite allows 999.
_LOOK_UP: Final = 500

_SELECT: Final = "SELECT object_id, position, digest FROM held WHERE digest IS NOT NULL"

_PUT: Final = """
INSERT INTO held (object_id, position, digest) VALUES (?, ?, ?)
ON CONFLICT (object_id) DO UPDATE SET position = excluded.position, digest = excluded.digest
WHERE excluded.position >= held.position OR excluded.position IS NULL OR held.position IS NULL
"""

#: The largest number that SQLite keeps as one.
_MAX_POSITION: Final = 2**63 - 1


class Gathered:
    """The newest record of each object: position, and the digest of its document or a tombstone.

    Ids are kept as UTF-8, whose order is that of code points. Messages that are not livesync's (no
    position) replace what is there, as they do for whoever reads the topic; those without a key are nobody's.

    Raises:
        RetryLater: There is no room for it; every method raises it.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)  # "": a private file of no name
        with _room():
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute("PRAGMA cache_size = -16384")  # KiB: ids come in any order
            self._connection.execute(
                "CREATE TABLE held (object_id BLOB PRIMARY KEY, position INTEGER, digest BLOB) WITHOUT ROWID"
            )

    def close(self) -> None:
        """Drop everything."""
        self._connection.close()

    def add(self, messages: Iterable[Message]) -> None:
        """Take messages in; those of one object in their order."""
        rows = []
        for message in messages:
            key, value = message.key(), message.value()
            if key is not None:
                digest = None if value is None else hashlib.blake2b(value, digest_size=16).digest()
                rows.append((key, _position(message), digest))
        with _room():
            self._connection.execute("BEGIN")
            self._connection.executemany(_PUT, rows)
            self._connection.execute("COMMIT")

    def rows(self, after: str | None, quick: bool) -> Iterator[HeldRow]:
        """Yield the living objects after an id, ascending; other calls may come meanwhile."""
        last = b"" if after is None else after.encode("utf-8", "surrogatepass")  # no id is empty
        while True:
            with _room():
                page = self._connection.execute(
                    f"{_SELECT} AND object_id > ? ORDER BY object_id LIMIT ?",
                    (last, _PAGE),
                ).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield from _held(page, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the living ones among these objects."""
        keys = [object_id.encode("utf-8", "surrogatepass") for object_id in object_ids]
        found: list[HeldRow] = []
        for start in range(0, len(keys), _LOOK_UP):
            some = keys[start : start + _LOOK_UP]
            with _room():
                page = self._connection.execute(
                    f"{_SELECT} AND object_id IN ({','.join('?' * len(some))})", some
                ).fetchall()
            found += _held(page, False)
        return found

    def older(self, before: int) -> Iterator[list[bytes]]:
        """Yield the keys of living objects whose position is lower than ``before``, in chunks."""
        last = b""
        while True:
            with _room():
                page = self._connection.execute(
                    "SELECT object_id FROM held WHERE digest IS NOT NULL AND position < ? AND object_id > ?"
                    " ORDER BY object_id LIMIT ?",
                    (before, last, _PAGE),
                ).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield [key for (key,) in page]


def _position(message: Message) -> int | None:
    """Return what the header says, None where it says nothing that is a position."""
    for name, value in cast("list[tuple[str, bytes | None]]", message.headers() or []):
        if name == POSITION_HEADER and value is not None and value.isdigit() and len(value) < 20:
            position = int(value)
            return position if position <= _MAX_POSITION else None
    return None


def _held(page: list[tuple[bytes, int | None, bytes]], quick: bool) -> Iterator[HeldRow]:
    for key, position, digest in page:
        try:
            object_id = key.decode()
        except UnicodeDecodeError:
            continue  # no object's id: somebody else's message
        yield HeldRow(object_id, position, None if quick else digest.hex())


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise RetryLater(
            reason=f"what the topic holds cannot be gathered in a temporary file ({exc}): make room in TMPDIR"
        ) from exc
