"""Databases that many processes share: behind a ZEO server, and in PostgreSQL by RelStorage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.postgres_service import postgres_server
from support.waiting import LONG_S

from livesync.database import open_database

_SERVER = pytest.mark.server

#: What can be asked for: a ZEO server, RelStorage that keeps history, and one that keeps none.
SHARED = (
    "zeo", pytest.param("relstorage", marks=_SERVER), pytest.param("relstorage-free", marks=_SERVER)
)  # fmt: skip

#: Those of which most tests need no more.
EACH = SHARED[:2]


class SharedDatabase:
    """One database with nothing in it.

    Attributes:
        kind: ``zeo``, ``relstorage``, or ``relstorage-free``, which keeps no history.
        uri: Where it is, as ``--db`` takes it.
    """

    def __init__(self, kind: str, uri: str) -> None:
        self.kind = kind
        self.uri = uri

    def open(self) -> Any:
        return open_database(self.uri, create=True)

    def open_storage(self, _: object = None) -> Any:
        """Return a new storage without a DB."""
        from zodburi import resolve_uri

        return resolve_uri(self.uri)[0]()

    @property
    def socket(self) -> tuple[str, int] | str:
        """Where its server listens: host and port, or the path of a Unix socket."""
        if self.kind == "zeo":
            host, _, port = self.uri.removeprefix("zeo://").partition("?")[0].rpartition(":")
            return host, int(port)
        return f"{postgres_server().socket_directory}/.s.PGSQL.5432"

    def by_way_of(self, host: str, port: int) -> str:
        """Return its URI where it is reached at another address, through a relay."""
        if self.kind == "zeo":
            return f"zeo://{host}:{port}?{self.uri.partition('?')[2]}"
        head, _, query = self.uri.partition("?")
        rest = "&".join(part for part in query.split("&") if not part.startswith("host="))
        return f"{head.replace('@/', f'@{host}:{port}/')}?{rest}&connect_timeout=60"


@contextmanager
def shared_database(kind: str, directory: Path) -> Iterator[SharedDatabase]:
    """A new database of a kind, for the time of a ``with`` block; whatever uses it is to end before."""
    if kind == "zeo":
        import ZEO

        (host, port), stop = ZEO.server(str(directory / "Data.fs"))
        try:
            yield SharedDatabase(kind, f"zeo://{host}:{port}?wait_timeout={LONG_S:.0f}")
        finally:
            stop()
        return
    server = postgres_server()
    name = server.new_database()
    keep = "0" if kind.endswith("free") else "1"
    yield SharedDatabase(
        kind, f"postgresql://postgres@/{name}?host={server.socket_directory}&keep_history={keep}"
    )
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
