"""One command at work: its arguments, its settings, what it says, and its way into the database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..database import committed, connected
from ..errors import LiveSyncError, OptionError, UsageError
from ..settings import Settings
from .output import Output

if TYPE_CHECKING:
    from ..host import Host
    from ..manager import SyncManager
    from ..options import Option

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """What a command is given.

    Attributes:
        args: Its parsed arguments.
        settings: Where livesync works, and as whom.
        out: What it says goes here.
        directory: Relative paths are below it; "": the current one.
    """

    args: argparse.Namespace
    settings: Settings
    out: Output
    directory: str = ""

    @property
    def is_hosted(self) -> bool:
        """Whether another process has sent this command to the one that has the database open."""
        return False

    @contextmanager
    def database(self, read_only: bool = False, create: bool = False) -> Iterator[Any]:
        """Open the database, and close it in the end.

        Raises:
            UsageError: None is set.
            DatabaseError: It cannot be opened.
        """
        db = self.settings.open_database(read_only=read_only, create=create)
        try:
            yield db
        finally:
            db.close()

    @contextmanager
    def reading(self) -> Iterator[SyncManager]:
        """Open the database only to read, and give its manager; all is closed in the end.

        Raises:
            UsageError: No database is set.
            DatabaseError: It cannot be opened.
            NotInstalled: It has no manager.
            UpgradeNeeded: Its data are of another schema.
        """
        from ..manager import SyncManager

        with self.database(read_only=True) as db, connected(db) as root:
            yield SyncManager.get(root)

    def write(self, change: Callable[[MutableMapping[str, Any]], T], create: bool = False) -> T:
        """Open the database and carry out ``change`` in one transaction, again where it conflicts.

        Args:
            change: Called with the database's root, perhaps several times; must not do I/O.
            create: Make the file of a FileStorage that does not exist.

        Raises:
            UsageError: No database is set.
            DatabaseLocked: Another process has it open.
            DatabaseError: It cannot be opened.
        """
        with self.database(create=create) as db:
            return committed(db, change)

    def change_manager(self, change: Callable[[SyncManager], T]) -> T:
        """Carry out ``change`` on the manager, as :meth:`write` does.

        Raises:
            NotInstalled: There is none.
        """
        from ..manager import SyncManager

        return self.write(lambda root: change(SyncManager.get(root)))

    def optional_host(self) -> Host | None:
        """Return the host, or None where none is set.

        Raises:
            HostNotFound: One is set that cannot be imported.
        """
        return self.settings.load_host() if self.settings.host else None


def as_usage(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; a ``ValueError`` it raises is the user's mistake, and reported as one.

    Raises:
        UsageError: In place of a ``ValueError`` that is not livesync's own.
    """
    try:
        return call()
    except LiveSyncError:
        raise
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def given_options(
    declared: Iterable[Option], pairs: list[tuple[str, str]], directory: str = ""
) -> dict[str, str]:
    """Return the options of ``-o KEY=VALUE``.

    Args:
        declared: Those there are.
        pairs: As given.
        directory: Relative paths are below it; "": the current one.

    Raises:
        OptionError: One of them is none of the type's, or is given twice.
    """
    types = {option.name: option.type for option in declared}
    given: dict[str, str] = {}
    for key, value in pairs:
        if key not in types:
            raise OptionError(f"there is no option {key!r}; there are: {', '.join(sorted(types))}")
        if key in given:
            raise OptionError(f"option {key} is given twice")
        is_path = types[key] == "path" and bool(value)
        given[key] = os.path.join(directory, os.path.expanduser(value)) if is_path else value
    return given
