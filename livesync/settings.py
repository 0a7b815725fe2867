"""Command line, environment and file become one frozen value: the database, the host and the site.

What is given on the command line goes before ``LIVESYNC_*`` in the environment, and that before the file:
the one of ``--config`` or ``LIVESYNC_CONFIG``, else ``./livesync.toml``, else ``/etc/livesync.toml``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .database import open_database, shown_uri, without_secrets
from .errors import UsageError
from .host import Host, load_host

__all__ = [
    "DEFAULT_FILES",
    "KEYS",
    "Settings",
    "open_database",
    "read_settings",
    "shown_uri",
    "without_secrets",
]

#: What can be set: key in the file -> what it is, for messages and documentation.
KEYS: Final[Mapping[str, str]] = {
    "db": "the database, as a zodburi",
    "host": "the application: a name, or package.module:factory",
    "site": "the name of this site",
    "users": "the file with those who may log in at the web pages",
}

#: The table of the file that says who is told when an agent stops or lags.
NOTICES: Final = "notices"

#: Where the file is looked for when none is named, in this order.
DEFAULT_FILES: Final = (Path("livesync.toml"), Path("/etc/livesync.toml"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Where livesync works, and as whom.

    Attributes:
        db: The database as a zodburi; empty when not set. It may hold a password: never print it
            but through :func:`shown_uri`.
        host: The host's name or ``package.module:factory``; empty when not set.
        site: The name of this site; empty when not set.
        users: The file with those who may log in at the web pages; empty when not set.
        notices: Who is told when an agent stops or lags: the table ``[notices]`` of the file,
            as it stands there (``upkeep/notices.py`` says what it may hold).
        sources: Key -> where its value comes from, for people.
    """

    db: str = field(default="", repr=False)
    host: str = ""
    site: str = ""
    users: str = ""
    notices: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def require_db(self) -> str:
        """Return the database's URI.

        Raises:
            UsageError: None is set.
        """
        if not self.db:
            raise UsageError(
                'no database is set: give --db URI, set LIVESYNC_DB, or write db = "…" into livesync.toml'
            )
        return self.db

    def open_database(self, read_only: bool = False, create: bool = False) -> Any:
        """Open the database and return its ``ZODB.DB``; see :func:`livesync.database.open_database`.

        Raises:
            UsageError: None is set.
            DatabaseError: It cannot be opened.
        """
        return open_database(self.require_db(), read_only=read_only, create=create)

    def load_host(self) -> Host:
        """Return the host.

        Raises:
            UsageError: None is set.
            HostNotFound: It cannot be imported.
        """
        if not self.host:
            raise UsageError(
                'no host is set: give --host HOST, set LIVESYNC_HOST, or write host = "…" into livesync.toml'
            )
        return load_host(self.host)


def read_settings(
    given: Mapping[str, str | None],
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Return the settings.

    Args:
        given: What stands on the command line: ``db``, ``host``, ``site``, ``config``; None is not given.
        environment: Instead of ``os.environ``.
        directory: Where ``livesync.toml`` is looked for; the current directory when None.

    Raises:
        UsageError: The file is missing, no TOML, has an unknown key or a value of a wrong type.
    """
    environ = os.environ if environment is None else environment
    file, contents = _read_file(given.get("config") or environ.get("LIVESYNC_CONFIG"), directory)
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for key in KEYS:
        variable = f"LIVESYNC_{key.upper()}"
        for value, source in (
            (given.get(key), f"--{key}"),
            (environ.get(variable) or None, variable),
            (contents.get(key), str(file)),
        ):
            if value is not None:
                values[key], sources[key] = value, source
                break
    return Settings(**values, notices=contents.get(NOTICES, {}), sources=sources)


def _read_file(named: str | None, directory: Path | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the settings' file, if there is one, and what stands in it."""
    if named:
        path = Path(named)
    else:
        base = directory or Path()
        found = next((base / candidate for candidate in DEFAULT_FILES if (base / candidate).is_file()), None)
        if found is None:
            return None, {}
        path = found
    try:
        contents: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"the settings file {path} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"the settings file {path} is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"the settings file {path} is not TOML: {exc}") from exc
    return path, _checked(path, contents)


def _checked(path: Path, contents: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in contents.items():
        if key == NOTICES:
            if not isinstance(value, dict):
                raise UsageError(f"the settings file {path}: [{NOTICES}] is a table")
            continue
        if key not in KEYS:
            raise UsageError(
                f"the settings file {path}: there is no key {key!r}; there are {', '.join(KEYS)}, and the"
                f" table [{NOTICES}]"
            )
        if not isinstance(value, str):
            kind = type(value).__name__
            raise UsageError(f"the settings file {path}: {key} is text in quotes ({KEYS[key]}), not {kind}")
    return dict(contents)
