"""Opening the database that a URI names, with one clear line for each way in which that fails.

And the two kinds of transaction in an open one: to read, and to change and commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlencode

from .attempts import attempts
from .errors import DatabaseError, DatabaseLocked
from .relcache import forget_replaced_states
from .zeoclient import forget_ids_at_reconnection

T = TypeVar("T")

#: How long a ZEO server may take to answer, unless the URI has a ``wait_timeout`` of its own.
ZEO_WAIT_S: Final = 8

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_SECRETS: Final = (
    # all up to the last @, since a password may hold anything
    re.compile(r"(?<=//)(?P<before>[^:@/?]*:)(?P<secret>.+)(?=@)"),
    re.compile(
        r"(?P<before>\b(?:password|passwd|pwd|passphrase|secret|token)=)(?P<secret>[^&#)\s]+)", re.IGNORECASE
    ),
)
_MAGIC: Final = (b"FS21", b"FS30")


def shown_uri(uri: str) -> str:
    """Return ``uri`` as it may be shown: passwords are replaced by asterisks."""
    for pattern in _SECRETS:
        uri = pattern.sub(r"\g<before>***", uri)
    return uri


def without_secrets(text: str, uri: str) -> str:
    """Return ``text`` (a message, a traceback) without the passwords that ``uri`` holds."""
    found = {match["secret"] for pattern in _SECRETS for match in pattern.finditer(uri)}
    for secret in sorted({*found, *map(unquote, found)}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def open_database(uri: str, read_only: bool = False, create: bool = False) -> Any:
    """Open the database that ``uri`` names and return its ``ZODB.DB``, which the caller closes.

    Args:
        uri: A zodburi: ``file://``, ``zeo://``, ``postgresql://``, …
        read_only: Only to read. A FileStorage is then opened without its lock, so that this works while
            another process has it open; other storages are opened as usual, and nothing is to be written.
        create: A FileStorage's file that does not exist is made; otherwise it is refused, since a typing
            error must not make an empty database.

    Raises:
        DatabaseLocked: Another process has the FileStorage's file open, and ``read_only`` is False.
        DatabaseError: Anything else that keeps it from being opened; the text holds no password.
    """
    match = _SCHEME.match(uri)
    if match is None:
        raise DatabaseError(
            f"{shown_uri(uri)!r} is no database URI: write file:///path/to/Data.fs, zeo://host:port or the"
            " like"
        )
    scheme = match[1]
    opener = _OPENERS.get(scheme.lower(), _open_any)
    try:
        db = opener(uri, read_only, create)
    except DatabaseError:
        raise
    except Exception as exc:
        raise _failure(uri, scheme, exc) from exc
    mend_storage(db)
    return db


def mend_storage(db: Any) -> None:
    """Make good what storages do wrong, for as long as ``db`` is open; the second time nothing happens."""
    forget_replaced_states(db)
    forget_ids_at_reconnection(db)


def _failure(uri: str, scheme: str, exc: Exception) -> DatabaseError:
    """Return the error for what resolving or opening ``uri`` raised."""
    import zodburi

    where = f"the database {shown_uri(uri)}"
    if isinstance(exc, zodburi.NoResolverForScheme):
        return DatabaseError(
            f"no installed package opens {scheme}:// databases (zodburi knows file, zeo, zconfig, memory,"
            " demo; postgresql, mysql, oracle and sqlite come with RelStorage)"
        )
    if isinstance(exc, zodburi.UnknownDatabaseKeywords):
        return DatabaseError(f"{where} cannot be opened: {', '.join(exc.args)}")
    detail = " ".join(without_secrets(str(exc), uri).split())
    return DatabaseError(f"{where} cannot be opened: {type(exc).__name__}{': ' if detail else ''}{detail}")


def _open_any(uri: str, read_only: bool, create: bool) -> Any:
    import zodburi
    from ZODB.DB import DB

    factory, options = zodburi.resolve_uri(uri)
    storage = factory()
    try:
        return DB(storage, **options)
    except BaseException:
        storage.close()
        raise


def _open_postgresql(uri: str, read_only: bool, create: bool) -> Any:
    import zodburi
    from ZODB.DB import DB

    from .relstorage import open_storage

    try:
        storage, parameters = open_storage(uri, read_only, create)
    except DatabaseError as exc:
        detail = " ".join(without_secrets(str(exc), uri).split())
        raise DatabaseError(f"the database {shown_uri(uri)} cannot be opened: {detail}") from exc
    try:
        # how the DB's own parameters are written is zodburi's to say, whatever the storage
        return DB(storage, **zodburi.resolve_uri(f"memory://?{urlencode(parameters)}")[1])
    except BaseException:
        storage.close()
        raise


def _open_zeo(uri: str, read_only: bool, create: bool) -> Any:
    from ZEO.Exceptions import ClientDisconnected

    if "wait_timeout=" not in uri:
        uri = _with_query(uri, f"wait_timeout={ZEO_WAIT_S}")
    try:
        return _open_any(uri, read_only, create)
    except ClientDisconnected as exc:
        where = shown_uri(uri.partition("?")[0])
        raise DatabaseError(
            f"the ZEO server {where} does not answer; is it running, and is the port right?"
        ) from exc


def _open_file(uri: str, read_only: bool, create: bool) -> Any:
    import zc.lockfile

    if not uri.lower().startswith("file://"):
        raise DatabaseError(f"{uri!r} is no database URI: write file:///path/to/Data.fs")
    location, _, query = uri[len("file://") :].partition("?")
    if "create=" in query:
        # FileStorage means by it: empty the file that is there
        raise DatabaseError("take create= out of the database's URI: it would empty a file that exists")
    path = Path(location)
    _check_file(path, create and not read_only)
    try:
        return _open_any(
            _with_query(f"file://{location}?{query}", "read_only=1") if read_only else uri, read_only, create
        )
    except zc.lockfile.LockError as exc:
        raise DatabaseLocked(
            f"another process has {path} open: let livesync's runner run in that process"
            " (livesync.runner = thread), share the database through ZEO or RelStorage, or stop that process"
            " and run this again"
        ) from exc
    except OSError as exc:
        raise DatabaseError(f"the database file {path} cannot be opened: {exc.strerror or exc}") from exc


def _check_file(path: Path, create: bool) -> None:
    """Check that ``path`` is a FileStorage's file, before an attempt to open it leaves files beside it.

    Raises:
        DatabaseError: It is missing (and ``create`` is False), a directory, unreadable, or something else.
    """
    try:
        with path.open("rb") as file:
            start = file.read(5)
    except FileNotFoundError as exc:
        if not path.parent.is_dir():
            raise DatabaseError(f"there is no directory {path.parent} for the database file {path}") from exc
        if create:
            return
        raise DatabaseError(f"there is no database file {path}; `livesync install` makes one") from exc
    except IsADirectoryError as exc:
        raise DatabaseError(
            f"{path} is a directory; name the database file in it, such as {path}/Data.fs"
        ) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise DatabaseError(f"the database file {path} cannot be opened: {reason}") from exc
    if not create and start in (b"", *_MAGIC):
        raise DatabaseError(f"the database file {path} is empty; `livesync install` makes a database of it")
    if start and start[:4] not in _MAGIC:
        raise DatabaseError(f"{path} is no FileStorage file: it begins with something else")


def _with_query(uri: str, parameter: str) -> str:
    separator = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return f"{uri}{separator}{parameter}"


_OPENERS: Final[dict[str, Callable[[str, bool, bool], Any]]] = {
    "file": _open_file,
    "zeo": _open_zeo,
    "postgres": _open_postgresql,
    "postgresql": _open_postgresql,
}


@contextmanager
def usable(db: Any) -> Iterator[Any]:
    """Give an open ``ZODB.DB`` as it is, or what a function opens, which is closed in the end."""
    if not callable(db):
        yield db
        return
    opened = db()
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def connected(db: Any) -> Iterator[MutableMapping[str, Any]]:
    """Give the root of ``db`` in a transaction of its own that is aborted in the end: only to read."""
    from transaction import TransactionManager

    manager = TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(transaction_manager=manager)
    try:
        yield connection.root()
    finally:
        manager.abort()
        connection.close()


def committed(db: Any, change: Callable[[MutableMapping[str, Any]], T]) -> T:
    """Carry out ``change`` on the root of ``db`` and commit it, again where it conflicts.

    Args:
        db: An open ``ZODB.DB``.
        change: Called with the root, perhaps several times; must not do I/O.

    Returns:
        What ``change`` returned at the attempt that was committed.
    """
    from transaction import TransactionManager

    manager = TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    try:
        for attempt in attempts(manager):
            with attempt:
                result = change(connection.root())
        return result
    finally:
        connection.close()


def missing_file(uri: str) -> Path | None:
    """Return the path of a FileStorage's file that does not exist yet; None for anything else."""
    if not uri.lower().startswith("file://"):
        return None
    path = Path(uri[len("file://") :].partition("?")[0])
    return None if path.exists() else path


def is_same_database(one: str, other: str) -> bool:
    """Tell whether two URIs name one database, as far as that is seen without opening it."""
    paths = database_file(one), database_file(other)
    if paths[0] is None or paths[1] is None:
        return one.partition("?")[0] == other.partition("?")[0]
    return paths[0].resolve() == paths[1].resolve()


def database_file(uri: str) -> Path | None:
    """Return the path of the FileStorage's file that a URI names; None for anything else."""
    if not uri.lower().startswith("file://"):
        return None
    return Path(uri[len("file://") :].partition("?")[0])
