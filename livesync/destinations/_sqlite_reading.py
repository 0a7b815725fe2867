"""Reading back what the ``sqlite`` destination holds, and whether its index is in step with it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from ..delivery.uploader import HeldRow
from ._text import is_in_step

#: Makes a row of a tuple, in half the time that its own ``_make`` takes.
_quick_row: Final[Callable[[Any], HeldRow]] = partial(tuple.__new__, HeldRow)

#: Rows of one query. Between two of them no transaction is open: reading a large file must not keep
#: SQLite from shortening its log.
PAGE: Final = 2000

#: Parameters of one look-up; every SQLite allows 999.
LOOK_UP: Final = 500

#: Whatever somebody has made of it.
POSITION: Final = "iif(typeof(position) = 'integer', position, NULL)"

_QUICK: Final = f"SELECT object_id, {POSITION}, NULL FROM documents"  # noqa: S608

# The index's text is read from the table in which FTS5 itself keeps it: through the virtual table
# it takes half as long again. As BLOBs, since what somebody wrote there need not be UTF-8.
_WHOLE: Final = (
    f"SELECT d.object_id, {POSITION}, CAST(d.document AS BLOB), f.c0 IS d.object_id, CAST(f.c1 AS BLOB)"  # noqa: S608
    " FROM documents d LEFT JOIN documents_fts_content f ON f.id = d.rowid"
)


def read_rows(connection: sqlite3.Connection, after: str | None, quick: bool) -> Iterator[HeldRow]:
    """Return the rows of the living objects by ascending ids, those after ``after``."""
    return chain.from_iterable(_pages(connection, after, quick))


def _pages(connection: sqlite3.Connection, after: str | None, quick: bool) -> Iterator[list[HeldRow]]:
    select, as_row = (_QUICK, _quick_row) if quick else (_WHOLE, _whole_row)
    page = f"{select} %s ORDER BY object_id LIMIT {PAGE}"
    where, given = ("", ()) if after is None else ("WHERE object_id > ?", (after,))
    # map lets go of each document before it reads the next
    while rows := list(map(as_row, connection.execute(page % where, given))):
        yield rows
        where, given = "WHERE object_id > ?", (rows[-1].object_id,)


def read_rows_of(connection: sqlite3.Connection, object_ids: Sequence[str]) -> list[HeldRow]:
    """Return the rows of the living ones among these objects."""
    return [_whole_row(row) for row in looked_up(connection, f"{_WHOLE} WHERE d.object_id IN", object_ids)]


def looked_up(connection: sqlite3.Connection, select: str, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of ``select``, which ends with ``IN``, for all ``ids``."""
    for start in range(0, len(ids), LOOK_UP):
        some = ids[start : start + LOOK_UP]
        yield from connection.execute(f"{select} ({','.join('?' * len(some))})", some)


def _whole_row(row: tuple[str, int, bytes, int | None, bytes | None]) -> HeldRow:
    """Return a row with its digest: "" where a search would not find what the document says."""
    object_id, position, body, tied, text = row
    if not tied or text is None or not is_in_step(body, text):
        return HeldRow(object_id, position, "")
    return HeldRow(object_id, position, hashlib.blake2b(body, digest_size=16).hexdigest())
