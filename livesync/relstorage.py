"""The database of an application that keeps its objects in PostgreSQL, by RelStorage, from a URI.

``postgresql://user:password@host:port/database?keep_history=0``: as libpq reads it, so that what is not
given comes from where PostgreSQL's own programs take it (``PGPASSWORD``, ``~/.pgpass``, ``PGSERVICE``).
Parameters are RelStorage's options, those of ZODB's DB as zodburi calls them, and libpq's. RelStorage's own
resolver knows ``postgres://`` only, wants every part of it, and takes percent signs for characters.

A connection that is cut is noticed within half a minute, and a server that is not there within seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import DatabaseError

#: Of libpq, unless the URI says otherwise: how long to wait for a connection, and for a silent server.
DEFAULTS: Final[Mapping[str, str]] = {
    "connect_timeout": "8",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

_MISSING: Final = (
    "postgresql:// databases need RelStorage and psycopg2: pip install 'zodb-livesync[relstorage]'"
)


def lost_connection() -> tuple[type[Exception], ...]:
    """Return what psycopg2 raises where RelStorage lets a lost connection through; for ``except``.

    Nothing is imported for it: whoever has not imported psycopg2 cannot have had it raised.
    """
    module = sys.modules.get("psycopg2")
    return () if module is None else (module.OperationalError, module.InterfaceError)


def is_error(error: BaseException) -> bool:
    """Tell whether ``error`` is the PostgreSQL server's, or psycopg2's, as RelStorage lets it through."""
    module = sys.modules.get("psycopg2")
    return module is not None and isinstance(error, module.Error)


def resolver(uri: str) -> tuple[Callable[[], Any], dict[str, str]]:
    """Return what makes the storage, and the parameters for ``ZODB.DB``: a resolver of zodburi's.

    The storage makes the tables that it lacks, as RelStorage does by itself.

    Raises:
        DatabaseError: Something is not installed, or the URI says what nobody understands.
    """
    way = _Way(uri)
    return way.storage, way.for_db


def open_storage(uri: str, read_only: bool, create: bool) -> tuple[Any, dict[str, str]]:
    """Open the storage; return it, with the parameters for ``ZODB.DB``.

    Args:
        uri: As above.
        read_only: Nothing is to be written.
        create: Make RelStorage's tables in a database that has none; otherwise that is refused, since a
            typing error must not fill somebody else's database.

    Raises:
        DatabaseError: It cannot be opened; the text holds no password.
    """
    way = _Way(uri)
    try:
        way.check_tables(create and not read_only)
        return way.storage(), way.for_db
    except lost_connection() as exc:
        raise DatabaseError(f"the PostgreSQL server cannot be used: {exc}") from exc


class _Way:
    """The way into one database, as its URI says.

    Attributes:
        for_db: The parameters for ``ZODB.DB``, as text.
    """

    def __init__(self, uri: str) -> None:
        try:
            from relstorage.adapters.postgresql import PostgreSQLAdapter
            from relstorage.options import Options
            from relstorage.zodburi_resolver import Resolver, postgresql_resolver
        except ImportError as exc:
            raise DatabaseError(_MISSING) from exc
        parts, given = _parts(uri)
        # which of the parameters are RelStorage's is its own knowledge, and so is how they are written
        known: Any = postgresql_resolver
        options, rest = Resolver.interpret_kwargs(known, given)
        if options.pop("demostorage", False):
            raise DatabaseError("demostorage has no meaning here: other processes must see what is written")
        self.for_db = {
            key: rest.pop(key) for key in [*rest] if key.startswith(("connection_", "database_name"))
        }
        dsn = _dsn({**DEFAULTS, **parts, **rest})

        class Adapter(PostgreSQLAdapter):
            """RelStorage's own, which does not show its dsn in logs: it may hold a password."""

            def __str__(self) -> str:
                kind = "history preserving" if self.options.keep_history else "history free"
                return f"<PostgreSQL {parts.get('host', '')}/{parts.get('dbname', '')}, {kind}>"

            __repr__ = __str__

        self._options = Options(**options)
        self._adapter = Adapter(dsn=dsn, options=self._options)

    def storage(self) -> Any:
        from relstorage.storage import RelStorage

        return RelStorage(adapter=self._adapter, options=self._options)

    def check_tables(self, create: bool) -> None:
        """Check that RelStorage's tables are there, of the kind that the URI says, or may be made.

        Raises:
            DatabaseError: They are not.
        """
        tables = set(self._adapter.connmanager.open_and_call(self._list_tables))
        if "object_state" not in tables:
            if create:
                return
            raise DatabaseError(
                "it has no tables of RelStorage: name the application's database; `livesync install` makes"
                " the tables in an empty one"
            )
        self._options.create_schema = False
        if self._options.keep_history == ("transaction" in tables):
            return
        raise DatabaseError(
            "it keeps no history: add keep_history=0 to the URI, as in the application's"
            if self._options.keep_history
            else "it keeps history: take keep_history=0 out of the URI, as in the application's"
        )

    def _list_tables(self, connection: Any, cursor: Any) -> list[str]:
        found: list[str] = self._adapter.schema.list_tables(cursor)
        return found


def _parts(uri: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what stands before the question mark by libpq's names, and the parameters behind it."""
    try:
        split = urlsplit(uri)
        named = {
            "user": unquote(split.username or ""),
            "password": unquote(split.password or ""),
            "host": unquote(split.hostname or ""),
            "port": str(split.port or ""),
            "dbname": unquote(split.path.removeprefix("/")),
        }
    except ValueError as exc:
        raise DatabaseError(
            "it is no URI of a PostgreSQL database: write postgresql://user@host:5432/database, and in a"
            " password %40 for @, %2F for /, %3F for ? and %23 for #"
        ) from exc
    return {key: value for key, value in named.items() if value}, dict(parse_qsl(split.query))


def _dsn(parts: Mapping[str, str]) -> str:
    import psycopg2
    from psycopg2.extensions import make_dsn

    try:
        return str(make_dsn(**parts))
    except psycopg2.ProgrammingError as exc:
        # the message names what libpq does not know
        raise DatabaseError(" ".join(str(exc).split())) from exc
