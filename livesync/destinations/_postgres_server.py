"""The server of the ``postgres`` destination: its address, how it is reached, what its errors mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ..errors import BatchRefused, DeliveryError, OptionError, RetryLater, ServiceRefuses

Connection = psycopg.Connection[TupleRow]

#: The oldest server that has generated columns.
_OLDEST_VERSION: Final = 12

#: Parameters of libpq that an address may override. A server that vanished without a word is
#: noticed within two minutes or so, not after the hours that operating systems allow.
_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "livesync",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 90_000,  # milliseconds
}

_SECRETS: Final = re.compile("password|secret|scram_(client|server)_key")

#: What a server or libpq says when it will never let us in as we are. A connection that fails has
#: no SQLSTATE, so there is nothing but the text to tell by; what is not recognised (a server may
#: speak another language) is tried again, which loses nothing.
_NEVER: Final = re.compile(
    r"authentication failed|no password supplied|role .* does not exist|is not permitted to log in"
    r"|database .* does not exist|is not currently accepting connections|permission denied for database"
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects|authentication method .* (failed|not supported)"
    r"|certificate|server does not support SSL|does not match host name|SSL error"
    r"|invalid response to SSL negotiation|expected authentication request"
    r"|invalid .* value|invalid port number|could not match \d+ port|definition of service .* not found"
)

#: SQLSTATEs (by class, or whole) that another try may mend: connections, rollbacks, full disks and
#: memory, shutdowns, the system underneath; locks and time-outs.
_NOT_NOW: Final = frozenset({"08", "40", "53", "57", "58", "25P03", "25P04", "55006", "55P03"})

#: Those that speak of the rows that were sent: values, constraints, limits, what triggers raise,
#: and the internal errors that values of an absurd size come to.
_OF_THE_ROWS: Final = frozenset({"21", "22", "23", "38", "39", "44", "54", "P0", "XX000"})

_REMEDIES: Final = {
    "25006": "it takes no writing: name a primary in dsn, and see default_transaction_read_only",
    "28": "check the role and its password",
    "3D": "check dbname in dsn",
    "3F": "check the option schema",
    "42501": "grant the role what it needs (docs: Keep tables in PostgreSQL)",
    "42": "the tables are not as livesync made them: mend them, or give another table and export",
    "XX": "the database is damaged: restore it, or give another and export",
}

_MAX_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class Server:
    """Where the database is.

    Attributes:
        dsn: The connection string, without a password.
        where: The same in words for people, without the user.
    """

    dsn: str
    where: str

    @classmethod
    def of(cls, dsn: str) -> Server:
        """Return what the option ``dsn`` names.

        Raises:
            OptionError: It is no connection string, or has something secret in it. The text never
                holds any part of it, since that may be the secret.
        """
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise OptionError(
                'option dsn: give key=value pairs ("host=db dbname=site user=sync") or'
                " postgresql://user@host/dbname"
            ) from None
        secret = next((name for name in given if _SECRETS.search(name)), None)
        if secret is not None:
            raise OptionError(
                f"option dsn: no {secret} in it; use the option password=env:NAME, or libpq's password file"
            )
        return cls(dsn, _place(given))

    def connect(self, password: str | None, timeout_s: int) -> Connection:
        """Return a connection that commits each statement by itself.

        It prepares no statements and sets nothing for the session, so a pooler that gives each
        transaction another connection does no harm.

        Raises:
            RetryLater: The server cannot be reached, or is not ready.
            ServiceRefuses: It does not let us in, or is none that can be used.
        """
        given = {**_DEFAULTS, "connect_timeout": timeout_s, **conninfo_to_dict(self.dsn)}
        given["client_encoding"] = "UTF8"
        if password is not None:
            given["password"] = password
        try:
            connection = psycopg.connect("", autocommit=True, prepare_threshold=None, **given)
        except psycopg.Error as exc:
            raise self._no_connection(exc) from exc
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _no_connection(self, exc: psycopg.Error) -> DeliveryError:
        text = str(exc)
        said = _one_line(text)
        needs_password = exc.pgconn is not None and exc.pgconn.needs_password
        if needs_password or _NEVER.search(text):
            return ServiceRefuses(f"{self.where} refuses us: {said}")
        return RetryLater(reason=f"{self.where} cannot be reached: {said}")

    def _check(self, connection: Connection) -> None:
        version = connection.info.server_version // 10000
        if version < _OLDEST_VERSION:
            raise ServiceRefuses(
                f"{self.where} is PostgreSQL {version}: {_OLDEST_VERSION} or newer is needed"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            raise ServiceRefuses(
                f"{self.where} has the encoding {encoding}, which does not hold every text:"
                " make a database with ENCODING 'UTF8'"
            )
        try:
            row = connection.execute(
                "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
            ).fetchone()
        except psycopg.Error as exc:
            raise self.meaning(exc) from exc
        assert row is not None
        if row[0]:
            # it may be the new primary in a moment: a failover is no reason to stop the agent
            raise RetryLater(
                reason=f"{self.where} is a standby, which takes no writing: if it is to stay one,"
                " name the primary in dsn"
            )
        if row[1]:
            raise ServiceRefuses(f"{self.where}: {_REMEDIES['25006']}")

    def meaning(self, exc: psycopg.Error) -> DeliveryError | psycopg.Error:
        """Return what ``exc`` means for a delivery; itself when it is a mistake of ours."""
        state = exc.sqlstate
        if state is None:
            return self._meaning_without_state(exc)
        # the detail may quote the document, so it stays where it is
        said = _one_line(exc.diag.message_primary or type(exc).__name__)
        if _listed(state, _NOT_NOW):
            return RetryLater(reason=f"{self.where}: {said}")
        if _listed(state, _OF_THE_ROWS):
            return BatchRefused(f"{said} (SQLSTATE {state})")
        remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2]) or f"SQLSTATE {state}"
        return ServiceRefuses(f"{self.where}: {said}; {remedy}")

    def _meaning_without_state(self, exc: psycopg.Error) -> DeliveryError | psycopg.Error:
        if isinstance(exc, psycopg.DataError):
            return BatchRefused(_one_line(str(exc)))
        if isinstance(exc, psycopg.OperationalError):
            return RetryLater(reason=f"{self.where}: {_one_line(str(exc))}")
        return exc


def _listed(state: str, states: frozenset[str]) -> bool:
    return state in states or state[:2] in states


def _place(given: dict[str, Any]) -> str:
    """Return the database of these parameters for people."""
    host = given.get("host") or given.get("hostaddr")
    place = host or (f"service {given['service']}" if given.get("service") else "the default host")
    port = f":{given['port']}" if given.get("port") else ""
    name = f", database {given['dbname']}" if given.get("dbname") else ""
    return f"PostgreSQL at {place}{port}{name}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_MESSAGE]
