"""All published records of a track in an Invenio repository, by ascending object ids.

A search there gives ten thousand results and knows no order by our ids. So they are gone through by
the time of their creation, which never changes, each page beginning where the one before ended, and
laid down in a temporary SQLite database: memory does not grow with their number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import ServiceRefuses
from ._invenio_api import SEARCH_WINDOW, InvenioAPI, RepositoryRecord
from ._invenio_mark import track_phrase

_PAGE: Final = 200
_ROWS: Final = 1000


class Row(NamedTuple):
    """A living object's record: what it is of, when it is from, what was sent, and its id there."""

    object_id: str
    position: int
    digest: str
    record_id: str


class Listing:
    """The living objects of one track, as the repository's search showed them; close it in the end.

    Args:
        api: The repository.
        track_id: Whose records.
        after: Leave out ids up to this one; None: none.

    Raises:
        RetryLater, ServiceRefuses: It cannot be read.
    """

    def __init__(self, api: InvenioAPI, track_id: str, after: str | None = None) -> None:
        self._database = sqlite3.connect("")  # on disk, without a name, gone with the connection
        try:
            self._database.execute(
                "CREATE TABLE held (object_id TEXT PRIMARY KEY, position INTEGER, digest TEXT,"
                " record_id TEXT) WITHOUT ROWID"
            )
            for page in _pages(api, track_phrase(track_id)):
                self._add(page, track_id, after)
        except BaseException:
            self.close()
            raise

    def _add(self, page: list[RepositoryRecord], track_id: str, after: str | None) -> None:
        rows = []
        for record in page:
            mark = record.mark
            if mark is None or mark.deleted or mark.track_id != track_id:
                continue
            if after is None or mark.object_id > after:
                rows.append((mark.object_id, mark.position, mark.digest, record.id))
        # of two records of one object the newer counts
        self._database.executemany(
            "INSERT INTO held VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position,"
            " digest = excluded.digest, record_id = excluded.record_id WHERE excluded.position > position",
            rows,
        )

    def rows(self) -> Iterator[Row]:
        """Yield the rows by the code points of the object ids, which is how SQLite compares text."""
        after = ""
        while True:
            rows = self._database.execute(
                "SELECT * FROM held WHERE object_id > ? ORDER BY object_id LIMIT ?", (after, _ROWS)
            ).fetchall()
            yield from map(Row._make, rows)
            if len(rows) < _ROWS:
                return
            after = rows[-1][0]

    def close(self) -> None:
        """Drop what was laid down."""
        self._database.close()


def _pages(api: InvenioAPI, phrase: str) -> Iterator[list[RepositoryRecord]]:
    created, page = "", 1
    while True:
        hits = api.oldest_first(phrase, created, _PAGE, page)
        yield hits
        if len(hits) < _PAGE:
            return
        if hits[-1].created != created:
            created, page = hits[-1].created, 1
        elif page * _PAGE < SEARCH_WINDOW:
            page += 1  # more than a page was made at the same time
        else:
            raise ServiceRefuses(
                f"{SEARCH_WINDOW} records were created at {created}: more than the repository's search"
                " can tell apart"
            )
