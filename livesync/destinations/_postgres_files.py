"""The files of the objects in the ``postgres`` destination: rows by name, contents by digest."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import Final

from ..delivery.record import AttachedFile, Batch, Op, Record
from ._attached import blocks
from ._postgres_server import Connection
from ._postgres_tables import Tables

#: PostgreSQL holds less than a gigabyte in one value, and so in one message.
MAX_VALUE_BYTES: Final = 1_000_000_000

_ANY: Final = "SELECT EXISTS (SELECT FROM {files})"

_LACKING: Final = """
SELECT given FROM unnest(%b::text[]) AS given
WHERE NOT EXISTS (SELECT FROM {contents} WHERE digest = given)
"""

_BRING: Final = "INSERT INTO {contents} (digest, content) VALUES (%b, %b) ON CONFLICT DO NOTHING"

_REMOVE: Final = "DELETE FROM {files} WHERE object_id = ANY(%b::text[]) RETURNING digest"

_ADD: Final = """
INSERT INTO {files} (object_id, name, media_type, size, digest, position)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::bigint[])
"""

_DROP_UNUSED: Final = """
DELETE FROM {contents} AS held
WHERE held.digest = ANY(%b::text[]) AND NOT EXISTS (SELECT FROM {files} WHERE digest = held.digest)
"""

_SWEEP: Final = """
DELETE FROM {files} AS file
WHERE NOT EXISTS (SELECT FROM {documents} WHERE object_id = file.object_id)
"""

_DROP_ALL_UNUSED: Final = """
DELETE FROM {contents} AS held WHERE NOT EXISTS (SELECT FROM {files} WHERE digest = held.digest)
"""


class HeldFiles:
    """The two tables of files, for one slice after the other.

    Contents come before the rows that name them and go at the end of the slice: in between, what
    :meth:`lacking` said to be there must stay, and a content that came with a record that is
    refused may be that of the next record too.
    """

    def __init__(self, tables: Tables) -> None:
        self._any_sql = tables.sql(_ANY)
        self._lacking_sql = tables.sql(_LACKING)
        self._bring_sql = tables.sql(_BRING)
        self._remove_sql = tables.sql(_REMOVE)
        self._add_sql = tables.sql(_ADD)
        self._drop_sql = tables.sql(_DROP_UNUSED)
        self._sweep_sql = tables.sql(_SWEEP)
        self._drop_all_sql = tables.sql(_DROP_ALL_UNUSED)
        self._any = False
        self._brought: set[str] = set()
        self._loosened: set[str] = set()

    def begin(self, connection: Connection) -> None:
        """Begin a slice: what an earlier one brought may have been rolled back."""
        row = connection.execute(self._any_sql).fetchone()
        self._any = row is not None and row[0]
        self._brought, self._loosened = set(), set()

    def lacking(self, connection: Connection, digests: Set[str]) -> set[str]:
        """Return those of ``digests`` whose contents are not held."""
        return {row[0] for row in connection.execute(self._lacking_sql, (list(digests),))}

    def bring(self, connection: Connection, batch: Batch) -> None:
        """Store the contents that came with ``batch``, all or none; what they are has been checked."""
        given = {
            file.digest: file for record in batch for file in record.files or () if file.content is not None
        }
        brought = given.keys() - self._brought
        if not brought:
            return
        with connection.transaction():
            for digest in brought:
                connection.execute(self._bring_sql, (digest, b"".join(blocks(given[digest]))))
        self._brought |= brought

    def replace(self, connection: Connection, batch: Batch, written: Collection[str]) -> None:
        """Replace the rows of those objects that were ``written``; a record may say nothing of files."""
        changed = [
            record
            for record in batch
            if record.object_id in written and (record.files is not None or record.op is Op.DELETE)
        ]
        if self._any and changed:
            removed = connection.execute(self._remove_sql, ([record.object_id for record in changed],))
            self._loosened.update(row[0] for row in removed)
        rows = [_row(record, file) for record in changed for file in record.files or ()]
        if rows:
            self._any = True
            connection.execute(self._add_sql, [list(column) for column in zip(*rows, strict=True)])

    def end(self, connection: Connection) -> None:
        """End a slice: contents that nothing names any more go."""
        loose = self._brought | self._loosened
        if loose:
            connection.execute(self._drop_sql, (list(loose),))

    def sweep(self, connection: Connection) -> None:
        """Remove the files of objects that are not there, and the contents that nothing names."""
        connection.execute(self._sweep_sql)
        connection.execute(self._drop_all_sql)


def _row(record: Record, file: AttachedFile) -> tuple[str, str, str, int, str, int]:
    return record.object_id, file.name, file.media_type, file.size, file.digest, record.position


def too_large(batch: Batch) -> dict[str, str]:
    """Return the objects with contents that a value cannot hold, with the reasons: id -> reason."""
    return {
        record.object_id: f"its file {file.name!r} is larger than PostgreSQL can hold"
        for record in batch
        for file in record.files or ()
        if file.content is not None and file.size > MAX_VALUE_BYTES
    }
