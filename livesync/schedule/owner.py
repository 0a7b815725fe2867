"""Who owns a FileStorage's file: an address for the command line, beside the file.

A process that has a FileStorage open is the only one that can write to it. Where it takes commands,
``Data.fs.livesync`` says how they reach it: the URL, a token, and which process it is, so that what a
process that died has left is known for what it is. The file is readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ..process import ProcessIdentity, is_dead, this_process

#: What is added to the name of the database's file.
SUFFIX: Final = ".livesync"

_FORMAT: Final = 1
_MOST_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has a database's file open, and the way to it.

    Attributes:
        url: Commands are posted there; on this machine.
        token: Proves that the sender may read the file.
        host, pid, started: Which process it is.
    """

    url: str
    token: str = field(repr=False)
    host: str
    pid: int
    started: int

    @property
    def process(self) -> ProcessIdentity:
        """Which process it is."""
        return self.host, self.pid, self.started

    def is_alive(self) -> bool:
        """Tell whether it is a process of this machine that lives, as far as can be known."""
        return self.host == this_process()[0] and not is_dead(self.process)


def owner_path(database_file: str | os.PathLike[str]) -> Path:
    """Return where the owner of a database's file says how to reach it."""
    return Path(f"{os.fspath(database_file)}{SUFFIX}")


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(32)


def write_owner(path: Path, url: str, token: str) -> Owner:
    """Say that this process takes commands for a database's file; what another one said is replaced.

    Raises:
        OSError: It cannot be written.
    """
    host, pid, started = this_process()
    owner = Owner(url, token, host, pid, started)
    aside = path.with_name(f"{path.name}.{pid}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, **asdict(owner)}, file)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return owner


def read_owner(path: Path) -> Owner | None:
    """Return what the file at ``path`` says; None: there is none that can be trusted.

    A file that others than its owner can read or write, or that is neither ours nor root's, is not
    trusted: a command's contents are not for whoever put it there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if about.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(about.st_mode) & 0o077:
            return None
        content = file.read(_MOST_BYTES)
    try:
        return _decoded(json.loads(content))
    except (ValueError, RecursionError):
        return None


def _decoded(values: Any) -> Owner | None:
    kinds = {"url": str, "token": str, "host": str, "pid": int, "started": int}
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        return None
    if any(not isinstance(values.get(name), kind) for name, kind in kinds.items()):
        return None
    return Owner(**{name: values[name] for name in kinds})


def remove_owner(path: Path, token: str) -> None:
    """Take back what :func:`write_owner` has said, unless another process has said something since."""
    owner = read_owner(path)
    if owner is not None and owner.token == token:
        path.unlink(missing_ok=True)
