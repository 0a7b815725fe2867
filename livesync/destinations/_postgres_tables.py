"""The tables of the ``postgres`` destination: how they are made, and told from anybody else's.

They are public: people read them with tools of their own. For the table ``documents``:

- ``documents``: the living objects, one row each. ``document`` is JSONB, ``search`` the full text
  of all its strings. ``digest`` is the document's as livesync computes it, and ``checksum`` one
  that the server took when it was written, so that a row that somebody alters shows. ``original``
  is NULL, except where JSONB cannot hold the document as it is (see :func:`storable`).
- ``documents_tombstones``: the deleted ones.
- ``documents_pointers``: where each agent stands. Its lock is that of all the tables.
- ``documents_files``, ``documents_contents``: the objects' files; a content that several share is
  held once.

A comment on each table says that it is livesync's, and of which schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from ..errors import OptionError, RetryLater, ServiceRefuses
from ._postgres_server import Connection, Server

SCHEMA: Final = 1

#: PostgreSQL cuts longer names, in bytes; two of ours could then be the same.
_MAX_NAME: Final = 63
_SUFFIXES: Final = ("_tombstones", "_pointers", "_files", "_contents")

#: Held while tables are made, so that two runners do not both begin; any number will do.
_MAKING: Final = 0x4C565359

_MARK: Final = re.compile(r"livesync schema (\d+)")

#: What each table must have; more may be there, and ``search`` is the users' to change or drop.
_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(
        {
            "object_id text", "position bigint", "document jsonb", "digest text", "checksum bytea",
            "original json",
        }
    ),
    "_tombstones": frozenset({"object_id text", "position bigint"}),
    "_pointers": frozenset({"agent_id text", "position bigint", "track_id text", "generation bigint"}),
    "_files": frozenset(
        {
            "object_id text", "name text", "media_type text", "size bigint", "digest text",
            "position bigint",
        }
    ),
    "_contents": frozenset({"digest text", "content bytea"}),
}  # fmt: skip

#: Ids are compared by their bytes, which in UTF-8 is the order of code points.
#:
#: A fifth of the rows' pages stays free: a row whose document did not change, as most do not in an
#: export, can then get its new position without a new entry in the full-text index.
#:
#: A tsvector holds a megabyte at most. A longer text is no reason to refuse a document: as much of
#: its beginning is indexed as there is room for. Only texts of more than 256 KiB are tried with
#: care, since that costs a subtransaction.
_TABLES: Final = """
CREATE FUNCTION {words}(language regconfig, document jsonb) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    texts text;
    most integer := 4194304;
BEGIN
    IF octet_length(document::text) <= 262144 THEN
        RETURN jsonb_to_tsvector(language, document, '["string"]');
    END IF;
    BEGIN
        RETURN jsonb_to_tsvector(language, document, '["string"]');
    EXCEPTION WHEN program_limit_exceeded THEN
        SELECT string_agg(string #>> '{{}}', ' ') INTO texts
        FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "string")') AS string;
    END;
    LOOP
        BEGIN
            RETURN to_tsvector(language, left(texts, most));
        EXCEPTION WHEN program_limit_exceeded THEN
            most := most / 2;
        END;
    END LOOP;
END
$$;
CREATE TABLE {documents} (
    object_id TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL,
    document JSONB NOT NULL,
    digest TEXT NOT NULL,
    checksum BYTEA NOT NULL,
    original JSON,
    search TSVECTOR GENERATED ALWAYS AS ({words}({language}::regconfig, document)) STORED
) WITH (fillfactor = 80);
CREATE INDEX ON {documents} USING gin (search);
CREATE TABLE {tombstones} (
    object_id TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL
);
CREATE TABLE {pointers} (
    agent_id TEXT PRIMARY KEY,
    position BIGINT,
    track_id TEXT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE TABLE {files} (
    object_id TEXT COLLATE "C",
    name TEXT,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    digest TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (object_id, name)
);
CREATE INDEX ON {files} (digest);
CREATE TABLE {contents} (
    digest TEXT PRIMARY KEY,
    content BYTEA NOT NULL
);
COMMENT ON TABLE {documents} IS 'livesync schema 1: what exists and may be seen';
COMMENT ON TABLE {tombstones} IS 'livesync schema 1: what was deleted';
COMMENT ON TABLE {pointers} IS 'livesync schema 1: where each agent stands';
COMMENT ON TABLE {files} IS 'livesync schema 1: the files of the objects';
COMMENT ON TABLE {contents} IS 'livesync schema 1: contents of files, by digest';
"""

_FOUND: Final = """
SELECT c.relname, coalesce(obj_description(c.oid, 'pg_class'), ''), array(
    SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY(%s)
"""

#: The configuration that the column ``search`` was made with, as PostgreSQL writes it.
_LANGUAGE: Final = """
SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM '''([^'']*)''::regconfig')
FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = 'search'
"""


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of the tables in one schema.

    Attributes:
        schema: Its name.
        table: The name of the main one.
    """

    schema: str
    table: str

    @classmethod
    def of(cls, schema: str, table: str) -> Tables:
        """Return the tables that the options name.

        Raises:
            OptionError: A name is empty or too long for PostgreSQL, or has a NUL or a percent sign.
        """
        longest = _MAX_NAME - max(map(len, _SUFFIXES))
        for option, name, most in (("schema", schema, _MAX_NAME), ("table", table, longest)):
            if not 1 <= len(name.encode("utf-8", "replace")) <= most or "\0" in name or "%" in name:
                raise OptionError(f"option {option}: a name has 1 to {most} bytes and no %, not {name!r}")
        return cls(schema, table)

    def sql(self, statement: LiteralString, **values: sql.Composable) -> bytes:
        """Return ``statement`` with the names of the tables filled in, each where it stands in braces."""
        suffixes = {"documents": "", "words": "_words", **{suffix[1:]: suffix for suffix in _SUFFIXES}}
        names = {name: sql.Identifier(self.schema, self.table + suffix) for name, suffix in suffixes.items()}
        return sql.SQL(statement).format(**names, **values).as_bytes(None)

    @property
    def names(self) -> list[str]:
        """The names of all of them, without the schema."""
        return [self.table, *(self.table + suffix for suffix in _SUFFIXES)]

    def make(self, connection: Connection, server: Server, language: str) -> None:
        """Make the tables that are not there, all of them in one transaction.

        Raises:
            psycopg.Error: They cannot be made.
            ServiceRefuses: Some are there and are not ours, not complete, of another schema or
                language.
        """
        _check_exists(connection, server, language)
        if not self._are_there(connection, server):
            self._create(connection, server, language)
        self._check_language(connection, server, language)

    def _create(self, connection: Connection, server: Server, language: str) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            if self._are_there(connection, server):
                return  # another runner was quicker
            # where it exists, "IF NOT EXISTS" would still ask for the right to make one
            if not connection.execute(
                "SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,)
            ).fetchone():
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.schema)))
            connection.execute(self.sql(_TABLES, language=sql.Literal(language)))

    def _are_there(self, connection: Connection, server: Server) -> bool:
        """Tell whether the tables are there; False when none is.

        Raises:
            ServiceRefuses: Some are, and cannot be used.
        """
        found = {row[0]: row[1:] for row in connection.execute(_FOUND, (self.schema, self.names))}
        if not found:
            return False
        for name in self.names:
            if name in found:
                self._check_mark(server, name, found[name][0])
        for name in self.names:
            lacking = _COLUMNS[name[len(self.table) :]].difference(found[name][1] if name in found else ())
            if lacking:
                what = f"column {min(lacking)}" if name in found else f"table {name}"
                raise ServiceRefuses(
                    f"{server.where}: schema {self.schema} lacks the {what} of livesync's tables:"
                    " bring it back, or drop what is left of them and export"
                )
        return True

    def _check_mark(self, server: Server, name: str, comment: str) -> None:
        mark = _MARK.match(comment)
        if mark is None:
            raise ServiceRefuses(
                f"{server.where}: {self.schema}.{name} is another application's (no comment says that it is"
                " livesync's): give another table"
            )
        if int(mark[1]) != SCHEMA:
            raise ServiceRefuses(
                f"{server.where}: {self.schema}.{name} was made by another version of livesync (schema"
                f" {mark[1]}, this one has {SCHEMA}): upgrade livesync, or give another table and export"
            )

    def _check_language(self, connection: Connection, server: Server, language: str) -> None:
        """Raise ServiceRefuses where ``search`` was made for another language than the option says."""
        row: tuple[Any, ...] | None = connection.execute(_LANGUAGE, (self.schema, self.table)).fetchone()
        if row is None or row[0] is None:
            return  # somebody has made it otherwise, or needs none
        same = connection.execute("SELECT %s::regconfig = %s::regconfig", (row[0], language)).fetchone()
        if same != (True,):
            raise ServiceRefuses(
                f"{server.where}: the full text of {self.schema}.{self.table} is in the language {row[0]}:"
                f" set language={row[0]}, or make the column search anew (docs: Keep tables in PostgreSQL)"
            )


def _check_exists(connection: Connection, server: Server, language: str) -> None:
    try:
        connection.execute("SELECT %s::regconfig", (language,))
    except psycopg.Error as exc:
        if isinstance(server.meaning(exc), RetryLater):
            raise
        raise ServiceRefuses(
            f"{server.where} has no text search configuration {language!r}:"
            " see pg_ts_config for what the option language may be"
        ) from exc
