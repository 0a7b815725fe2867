"""The files of objects in the file of the ``sqlite`` destination: two tables more.

- ``files(object_id, name, media_type, size, digest, position)``: the files of the living objects.
- ``contents(digest, content)``: their contents, each once; one that was too large is not there.

They are made when an agent first sends files. The schema's number stays: a livesync that does not
know these tables reads and writes the others as before, and what it leaves behind here goes with
the next sweep.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Set
from typing import Final

from ..delivery.record import AttachedFile, Record
from ._attached import blocks
from ._sqlite_reading import looked_up

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS files (
        object_id TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
        digest TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (object_id, name)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS files_by_digest ON files(digest)",
    "CREATE TABLE IF NOT EXISTS contents (digest TEXT NOT NULL PRIMARY KEY, content BLOB NOT NULL)",
)

#: What is compared of a file, in the order of the table.
_Facts = tuple[str, str, int, str]


def make_file_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, in a transaction of their own, unless they are there."""
    if has_file_tables(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def has_file_tables(connection: sqlite3.Connection) -> bool:
    """Tell whether an agent has sent files."""
    found = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'contents')")
    return bool(found.fetchone()[0])


class FileTables:
    """The two tables during one slice; all calls are within its transaction.

    A content that no file names any more is removed at the slice's end and not before: the slice's
    later records may name it, and rely on its being there.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._let_go: set[str] = set()

    def store(self, records: Iterable[Record]) -> None:
        """Let these objects have the files of their records, where they say anything of files."""
        saying = {record.object_id: record for record in records if record.files is not None}
        known = self._known(list(saying))
        for object_id, record in saying.items():
            assert record.files is not None
            facts = [_facts(file) for file in record.files]
            before = known.get(object_id, [])
            if sorted(facts) != sorted(before):
                self._remove(object_id, before)
                self._connection.executemany(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)",
                    [(object_id, *fact, record.position) for fact in facts],
                )
            elif facts:
                self._connection.execute(
                    "UPDATE files SET position = ? WHERE object_id = ?", (record.position, object_id)
                )
            for file in record.files:
                if file.content is not None:
                    self._store_content(file)

    def remove(self, object_ids: list[str]) -> None:
        """Remove the files of these objects."""
        for object_id, facts in self._known(object_ids).items():
            self._remove(object_id, facts)

    def missing(self, digests: Set[str]) -> set[str]:
        """Return the digests whose contents are not there."""
        there = looked_up(self._connection, "SELECT digest FROM contents WHERE digest IN", list(digests))
        return set(digests) - {digest for (digest,) in there}

    def drop_unnamed(self) -> None:
        """Remove the contents that lost their last name in this slice."""
        self._connection.executemany(
            "DELETE FROM contents WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM files WHERE digest = ?1)",
            [(digest,) for digest in self._let_go],
        )
        self._let_go.clear()

    def _known(self, object_ids: list[str]) -> dict[str, list[_Facts]]:
        known = defaultdict(list)
        select = "SELECT object_id, name, media_type, size, digest FROM files WHERE object_id IN"
        for object_id, *facts in looked_up(self._connection, select, object_ids):
            known[object_id].append(tuple(facts))
        return known

    def _remove(self, object_id: str, facts: list[_Facts]) -> None:
        if facts:
            self._let_go.update(digest for _, _, _, digest in facts)
            self._connection.execute("DELETE FROM files WHERE object_id = ?", (object_id,))

    def _store_content(self, file: AttachedFile) -> None:
        """Write a content block by block, so that a large one needs no more memory than a small one."""
        added = self._connection.execute(
            "INSERT OR IGNORE INTO contents VALUES (?, zeroblob(?))", (file.digest, file.size)
        )
        if added.rowcount:
            assert added.lastrowid is not None
            with self._connection.blobopen("contents", "content", added.lastrowid) as blob:
                for block in blocks(file):
                    blob.write(block)


def sweep_files(connection: sqlite3.Connection) -> None:
    """Remove the files of objects that are not there, and the contents that nobody names."""
    connection.execute("DELETE FROM files WHERE object_id NOT IN (SELECT object_id FROM documents)")
    connection.execute("DELETE FROM contents WHERE digest NOT IN (SELECT digest FROM files)")


def _facts(file: AttachedFile) -> _Facts:
    return file.name, file.media_type, file.size, file.digest
