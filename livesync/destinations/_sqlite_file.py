"""The file of the ``sqlite`` destination: its tables, how it is opened, what its errors mean.

The tables are public: people read them with tools of their own.

- ``documents(object_id, position, document)``: the living objects, documents as JSON.
- ``tombstones(object_id, position)``: the deleted ones.
- ``documents_fts(object_id, text)``: the full-text index (FTS5) of all text in the documents.
- ``pointers(agent_id, position, track_id, generation)``: where each agent stands.

A row of ``documents_fts`` has the rowid of its document's row, since FTS5 finds its rows by
nothing else but their text. SQLite promises to keep that rowid only within a file: after a dump
and a restore the two may differ, see :func:`tie_index`.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final
from urllib.parse import quote

from ..errors import BatchRefused, DeliveryError, RetryLater, ServiceRefuses

#: Marks the file as ours ("LVSY"), so that nobody else's database is ever written into.
APPLICATION_ID: Final = 0x4C565359
SCHEMA: Final = 1

#: How long a statement waits for another writer.
BUSY_TIMEOUT_S: Final = 10.0

_TABLES: Final = (
    """CREATE TABLE documents (
        object_id TEXT NOT NULL PRIMARY KEY, position INTEGER NOT NULL, document TEXT NOT NULL)""",
    """CREATE TABLE tombstones (
        object_id TEXT NOT NULL PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE VIRTUAL TABLE documents_fts USING fts5(object_id UNINDEXED, text)",
    """CREATE TABLE pointers (
        agent_id TEXT NOT NULL PRIMARY KEY, position INTEGER, track_id TEXT, generation INTEGER)""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA}",
)

_NOT_NOW: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)


def open_for_writing(path: str) -> sqlite3.Connection:
    """Return a connection to the file at ``path``, which is made when it is not there.

    Transactions are begun by hand. They are synced to the disk when they commit: a commit that a
    power cut can take back would let the track be pruned of what this file then lacks. It costs
    one sync a slice.

    Raises:
        ServiceRefuses: The file cannot be used: the text says why, in one line.
        RetryLater: It cannot be used now.
    """
    refuse_unusable(path)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        # before anything is written, and once more in the transaction that makes the tables
        if not _is_ours(connection, path):
            _make_tables(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")  # KiB
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise delivery_error(exc, path) from exc
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def open_for_reading(path: str) -> sqlite3.Connection:
    """Return a connection that cannot write to the file at ``path``.

    Raises:
        ServiceRefuses: There is no index of livesync at ``path``.
        RetryLater: It cannot be read now.
    """
    refuse_unusable(path)
    if not os.path.exists(path):
        raise ServiceRefuses(f"{path} is not there: has an agent delivered into it?")
    connection = None
    try:
        uri = f"file:{quote(os.fsencode(path))}?mode=ro"
        connection = sqlite3.connect(uri, timeout=BUSY_TIMEOUT_S, uri=True)
        ours = _is_ours(connection, path)
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise delivery_error(exc, path) from exc
    except ServiceRefuses:
        assert connection is not None
        connection.close()
        raise
    if not ours:
        connection.close()
        raise ServiceRefuses(f"{path} is empty: has an agent delivered into it?")
    return connection


def refuse_unusable(path: str) -> None:
    """Raise ServiceRefuses for a path that cannot be a database file, in words better than SQLite's."""
    parent = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ServiceRefuses(f"{path} is a directory: give the path of a file in it")
    if not os.path.isdir(parent):
        raise ServiceRefuses(f"the directory {parent} is not there: make it, or give another path")


def refuse_unwritable(path: str) -> None:
    """Raise ServiceRefuses where this process may not write to the file, or beside it (SQLite's log)."""
    for place in (path, os.path.dirname(os.path.abspath(path))):
        if not os.access(place, os.W_OK):
            raise ServiceRefuses(f"{place} cannot be written: mend the rights on it")


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    """Tell whether the file has our tables; False when it is empty.

    Raises:
        ServiceRefuses: It is somebody else's, or a newer livesync's.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application_id or schema or tables:
            raise ServiceRefuses(f"{path} is another application's database: give a path of its own")
        return False
    if schema != SCHEMA:
        raise ServiceRefuses(
            f"{path} was made by another version of livesync (schema {schema}, this one has {SCHEMA}):"
            " upgrade livesync, or give another path and export"
        )
    return True


def _make_tables(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_ours(connection, path):
            for statement in _TABLES:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def tie_index(connection: sqlite3.Connection) -> None:
    """Give every row of the full-text index the rowid of its document's row again.

    Called within a transaction, where a row was found that is not tied.
    """
    connection.execute(
        "CREATE TEMP TABLE tied AS SELECT d.rowid AS id, f.object_id, f.text"
        " FROM documents_fts f JOIN documents d ON d.object_id = f.object_id"
    )
    connection.execute("DELETE FROM documents_fts")
    connection.execute(
        "INSERT OR REPLACE INTO documents_fts(rowid, object_id, text)"
        " SELECT id, object_id, text FROM tied ORDER BY id"
    )
    connection.execute("DROP TABLE tied")


def delivery_error(exc: sqlite3.Error, path: str) -> DeliveryError | sqlite3.Error:
    """Return what ``exc`` means for a delivery; itself when it is a mistake of ours."""
    code = getattr(exc, "sqlite_errorcode", None)
    ours = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError)
    if isinstance(exc, ours):
        return exc
    if code is None:  # Python's own: text that is none
        return ServiceRefuses(f"{path} is damaged: {exc}; remove it and export")
    primary = code & 0xFF
    if primary in _NOT_NOW:
        return RetryLater(reason=f"{path}: {exc}")
    if primary == sqlite3.SQLITE_TOOBIG:
        return BatchRefused(f"larger than SQLite can hold: {exc}")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ServiceRefuses(f"{path} cannot be written: {exc}; check the rights on it and on its directory")
    if primary == sqlite3.SQLITE_NOTADB:
        return ServiceRefuses(f"{path} is not an SQLite database: give a path of its own")
    if primary == sqlite3.SQLITE_CORRUPT:
        return ServiceRefuses(f"{path} is damaged: {exc}; remove it and export")
    return ServiceRefuses(f"{path}: {exc}")
