"""The documents' table and that of the tombstones in the ``postgres`` destination: writing and reading."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from psycopg.types.json import Jsonb

from ..delivery.record import Batch, Op
from ..delivery.uploader import HeldRow
from ._postgres_server import Connection
from ._postgres_tables import Tables

#: Rows read at a time.
PAGE: Final = 5000

#: An escape in JSON: a backslash, which may be escaped itself, and what it stands before.
_ESCAPE: Final = re.compile(rb"\\(u0000|.)")
_SIGN: Final = "\ufffd".encode()

# A batch goes as binary arrays. Measured with documents of 1 KB, 1000 a batch, without the full-text
# index (which costs more than all the rest): 52,000 rows/s; one JSON array taken apart by the
# server 41,000 to 47,000; COPY into a temporary table and INSERT from there 42,000, with COPY in
# binary 33,000; arrays as text 16,000; executemany, which pipelines, 6,000. With the index: 4,100,
# 4,200, 3,400, 3,600, 3,600 and 2,200.
#
# A document that did not change gets its new position and nothing else, unless somebody altered it:
# 10,700 rows/s with the index, where writing it anew makes 2,500.
_UPSERT: Final = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::jsonb[], %b::text[])
        AS given (object_id, position, digest, document, original)
    WHERE NOT EXISTS (
        SELECT FROM {tombstones} AS grave
        WHERE grave.object_id = given.object_id AND grave.position > given.position)
), revived AS (
    DELETE FROM {tombstones} AS grave USING given WHERE grave.object_id = given.object_id
), unchanged AS (
    UPDATE {documents} AS held SET position = given.position FROM given
    WHERE held.object_id = given.object_id AND held.position <= given.position
        AND held.digest = given.digest
        AND held.checksum = sha256(convert_to(held.document::text, 'UTF8'))
    RETURNING held.object_id
), changed AS (
    INSERT INTO {documents} AS held (object_id, position, document, digest, checksum, original)
    SELECT object_id, position, document, digest,
        sha256(convert_to(document::text, 'UTF8')), original::json
    FROM given WHERE object_id NOT IN (SELECT object_id FROM unchanged)
    ON CONFLICT (object_id) DO UPDATE SET
        position = excluded.position, document = excluded.document, digest = excluded.digest,
        checksum = excluded.checksum, original = excluded.original
    WHERE held.position <= excluded.position
    RETURNING object_id
)
SELECT object_id FROM unchanged UNION ALL SELECT object_id FROM changed
"""

_DELETE: Final = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%b::text[], %b::bigint[]) AS given (object_id, position)
    WHERE NOT EXISTS (
        SELECT FROM {documents} AS held
        WHERE held.object_id = given.object_id AND held.position > given.position)
), removed AS (
    DELETE FROM {documents} AS held USING given WHERE held.object_id = given.object_id
)
INSERT INTO {tombstones} AS grave (object_id, position) SELECT object_id, position FROM given
ON CONFLICT (object_id) DO UPDATE SET position = excluded.position
WHERE grave.position <= excluded.position
RETURNING object_id
"""

_SWEEP: Final = """
WITH gone AS (DELETE FROM {documents} WHERE position < %s RETURNING object_id)
INSERT INTO {tombstones} (object_id, position) SELECT object_id, %s FROM gone
ON CONFLICT (object_id) DO UPDATE SET position = excluded.position
"""

#: Page by page, not with a cursor: whoever compares the rows may be slow, and a cursor would hold a
#: transaction open for as long, and vacuum back.
_PAGE_WITH_DIGESTS: Final = """
SELECT object_id, position,
    CASE WHEN checksum = sha256(convert_to(document::text, 'UTF8')) THEN digest ELSE '' END
FROM {documents} WHERE object_id > %s ORDER BY object_id LIMIT %s
"""

_PAGE_WITHOUT: Final = """
SELECT object_id, position, NULL FROM {documents} WHERE object_id > %s ORDER BY object_id LIMIT %s
"""

_SOME: Final = """
SELECT object_id, position,
    CASE WHEN checksum = sha256(convert_to(document::text, 'UTF8')) THEN digest ELSE '' END
FROM {documents} WHERE object_id = ANY(%b::text[])
"""


class HeldRows:
    """The rows of the objects, living and deleted.

    Whoever writes holds the lock of the tables: otherwise a tombstone that another transaction has
    not committed yet would not be seen, and an older document be written beside it.
    """

    def __init__(self, tables: Tables) -> None:
        self._upsert_sql = tables.sql(_UPSERT)
        self._delete_sql = tables.sql(_DELETE)
        self._sweep_sql = tables.sql(_SWEEP)
        self._page_sql = tables.sql(_PAGE_WITH_DIGESTS)
        self._quick_page_sql = tables.sql(_PAGE_WITHOUT)
        self._some_sql = tables.sql(_SOME)

    def write(self, connection: Connection, batch: Batch) -> set[str]:
        """Write documents and tombstones; return the ids of those that were not stale."""
        return self._upsert(connection, batch) | self._delete(connection, batch)

    def _upsert(self, connection: Connection, batch: Batch) -> set[str]:
        ids, positions, documents, originals, digests = [], [], [], [], []
        for record, body in zip(batch, batch.bodies, strict=True):
            if body is not None:
                document, original = storable(body)
                ids.append(record.object_id)
                positions.append(record.position)
                documents.append(Jsonb(document, _as_it_is))
                originals.append(original)
                digests.append(hashlib.blake2b(body, digest_size=16).hexdigest())
        if not ids:
            return set()
        written = connection.execute(self._upsert_sql, (ids, positions, digests, documents, originals))
        return {row[0] for row in written}

    def _delete(self, connection: Connection, batch: Batch) -> set[str]:
        gone = [record for record in batch if record.op is Op.DELETE]
        if not gone:
            return set()
        given = [record.object_id for record in gone], [record.position for record in gone]
        return {row[0] for row in connection.execute(self._delete_sql, given)}

    def sweep(self, connection: Connection, before: int) -> int:
        """Turn documents whose position is lower than ``before`` into tombstones; return how many."""
        return connection.execute(self._sweep_sql, (before, before)).rowcount

    def page(self, connection: Connection, after: str, quick: bool) -> list[HeldRow]:
        """Return the next rows after an id, at most :data:`PAGE` of them, with digests unless ``quick``."""
        found = connection.execute(self._quick_page_sql if quick else self._page_sql, (after, PAGE))
        return list(map(HeldRow._make, found.fetchall()))

    def some(self, connection: Connection, object_ids: list[str]) -> list[HeldRow]:
        """Return the rows of these objects, with digests."""
        return list(map(HeldRow._make, connection.execute(self._some_sql, (object_ids,)).fetchall()))


def storable(body: bytes) -> tuple[bytes, str | None]:
    """Return the JSON of a document as JSONB can hold it, and as it was where that differs.

    JSONB has no U+0000 in a text; U+FFFD, the sign for what cannot be shown, takes its place.
    """
    if b"\\u0000" not in body:
        return body, None
    stored = _ESCAPE.sub(lambda found: _SIGN if found[1] == b"u0000" else found[0], body)
    return (stored, body.decode()) if stored != body else (body, None)


def _as_it_is(body: bytes) -> bytes:
    """Stand for the encoder of Jsonb: a body is JSON already."""
    return body
