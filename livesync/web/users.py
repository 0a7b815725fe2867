"""Who may log in: a file with names, roles and hashed passwords, and hashed tokens for programs.

Passwords are hashed with scrypt, each with a salt of its own. A token is ``livesync_ID_SECRET``, the
secret 32 random bytes, so its SHA-256 is enough. The file is JSON, readable by its owner only; it is
written aside and renamed, and read again when it has changed. This module needs nothing but the standard
library.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from ..errors import NotFound, UsageError

#: Cost of scrypt: 2**15 blocks of 1 KiB each is 32 MiB and about 80 ms a login.
SCRYPT_N: Final = 2**15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
_MAX_MEMORY: Final = 128 * SCRYPT_N * SCRYPT_R * 2

#: The least length of a password.
SHORTEST_PASSWORD: Final = 10
LONGEST_PASSWORD: Final = 1024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
_TOKEN: Final = re.compile(r"livesync_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Role(Enum):
    """What somebody may do: look at everything, or also change it."""

    SEE = "see"
    OPERATE = "operate"

    def includes(self, other: Role) -> bool:
        """Tell whether this role may do what ``other`` may."""
        return self is Role.OPERATE or other is Role.SEE


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in; ``mark`` changes with the password, so that older logins end."""

    name: str
    role: Role
    mark: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows in place of a login; ``created`` in epoch seconds."""

    id: str
    name: str
    role: Role
    created: float


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Return ``scrypt$N$r$p$salt$hash`` of a password, with a new salt unless one is given."""
    salt = secrets.token_bytes(16) if salt is None else salt
    made = _scrypt(password, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    return _joined(salt, made)


def _joined(salt: bytes, made: bytes) -> str:
    return "$".join(("scrypt", str(SCRYPT_N), str(SCRYPT_R), str(SCRYPT_P), _text(salt), _text(made)))


def is_password(password: str, hashed: str) -> bool:
    """Tell whether ``hashed`` is of ``password``, in a time that does not depend on it."""
    _, n, r, p, salt, kept = hashed.split("$")
    made = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(made, base64.b64decode(kept))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def check_password(password: str) -> str:
    """Return ``password``.

    Raises:
        UsageError: It is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UsageError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    return password


def check_name(name: str) -> str:
    """Return ``name``.

    Raises:
        UsageError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no user name: up to 64 letters, digits, - _ . @ or +, no sign first")
    return name


class Users:
    """The users and tokens of a file, or of nobody; and tokens that live as long as this process.

    It may be used by several threads and, for changes, by several processes.

    Args:
        path: The file; it need not exist yet. None: nobody but tokens of this process.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int], dict[str, Any]] | None = None
        self._own_tokens: dict[str, tuple[Token, str]] = {}
        # a wrong name costs as much as a wrong password
        self._decoy = _joined(secrets.token_bytes(16), secrets.token_bytes(32))

    @property
    def path(self) -> Path | None:
        """The file."""
        return self._path

    # -- asking ----------------------------------------------------------------------------------

    def user(self, name: str) -> User | None:
        """Return the user of this name, None: there is none (any more).

        Raises:
            UsageError: The file cannot be used.
        """
        kept = self._contents()["users"].get(name)
        return None if kept is None else _user(name, kept)

    def known(self, name: str) -> User:
        """Return the user of this name.

        Raises:
            NotFound: There is no such user.
            UsageError: The file cannot be used.
        """
        return _user(name, self._known(self._contents(), name))

    def names(self) -> list[User]:
        """Return the users by name.

        Raises:
            UsageError: The file cannot be used.
        """
        return [_user(name, kept) for name, kept in sorted(self._contents()["users"].items())]

    def login(self, name: str, password: str) -> User | None:
        """Return the user of this name and password; None: one of the two is wrong.

        A name that does not exist takes as long as a wrong password.

        Raises:
            UsageError: The file cannot be used.
        """
        kept = self._contents()["users"].get(name)
        right = is_password(password, self._decoy if kept is None else kept["password"])
        return _user(name, kept) if kept is not None and right else None

    def token(self, shown: str) -> Token | None:
        """Return the token that was shown; None: it is none (any more).

        Raises:
            UsageError: The file cannot be used.
        """
        match = _TOKEN.fullmatch(shown)
        if match is None:
            return None
        token_id, hashed = match[1], _token_hash(match[2])
        own = self._own_tokens.get(token_id)
        if own is not None:
            return own[0] if hmac.compare_digest(own[1], hashed) else None
        kept = self._contents()["tokens"].get(token_id)
        if kept is None or not hmac.compare_digest(kept["hash"], hashed):
            return None
        return _token(token_id, kept)

    def tokens(self) -> list[Token]:
        """Return the tokens of the file, the oldest first; none can be read back, only known again.

        Raises:
            UsageError: The file cannot be used.
        """
        kept = self._contents()["tokens"]
        return sorted((_token(token_id, each) for token_id, each in kept.items()), key=lambda t: t.created)

    # -- changing --------------------------------------------------------------------------------

    def process_token(self, name: str, role: Role) -> str:
        """Return a new token that holds as long as this process and is kept nowhere."""
        token_id, secret, shown = _new_token()
        self._own_tokens[token_id] = (Token(token_id, name, role, 0.0), _token_hash(secret))
        return shown

    def add_user(self, name: str, password: str, role: Role) -> None:
        """Add a user.

        Raises:
            UsageError: The name or the password has another form, there is one of this name already, or
                the file cannot be used.
        """
        check_name(name)
        hashed = hash_password(check_password(password))
        with self._changing() as contents:
            if name in contents["users"]:
                raise UsageError(
                    f"there is a user {name!r} already; livesync user password {name} sets a new one"
                )
            contents["users"][name] = {"role": role.value, "password": hashed}

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password; whoever is logged in by the old one no longer is.

        Raises:
            NotFound: There is no such user.
            UsageError: The password has another form, or the file cannot be used.
        """
        hashed = hash_password(check_password(password))
        with self._changing() as contents:
            self._known(contents, name)["password"] = hashed

    def set_role(self, name: str, role: Role) -> None:
        """Give a user another role, at once.

        Raises:
            NotFound: There is no such user.
            UsageError: The file cannot be used.
        """
        with self._changing() as contents:
            self._known(contents, name)["role"] = role.value

    def remove_user(self, name: str) -> None:
        """Remove a user, who is logged out at once.

        Raises:
            NotFound: There is no such user.
            UsageError: The file cannot be used.
        """
        with self._changing() as contents:
            self._known(contents, name)
            del contents["users"][name]

    def add_token(self, name: str, role: Role, now: float) -> str:
        """Return a new token; it is shown this once and never again.

        Args:
            name: What it is for.
            role: What it may do.
            now: Epoch seconds.

        Raises:
            UsageError: The name has another form, or the file cannot be used.
        """
        check_name(name)
        token_id, secret, shown = _new_token()
        with self._changing() as contents:
            contents["tokens"][token_id] = {
                "name": name, "role": role.value, "created": now, "hash": _token_hash(secret)
            }  # fmt: skip
        return shown

    def remove_token(self, token_id: str) -> None:
        """Remove a token, which holds no more at once.

        Raises:
            NotFound: There is no such token.
            UsageError: The file cannot be used.
        """
        with self._changing() as contents:
            if token_id not in contents["tokens"]:
                raise NotFound(f"there is no token {token_id!r}; livesync user list shows those there are")
            del contents["tokens"][token_id]

    # -- the file --------------------------------------------------------------------------------

    @staticmethod
    def _known(contents: dict[str, Any], name: str) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = contents["users"][name]
        except KeyError:
            raise NotFound(f"there is no user {name!r}; livesync user list shows those there are") from None
        return kept

    def _contents(self) -> dict[str, Any]:
        """Return what stands in the file, read again if it has changed."""
        if self._path is None:
            return _empty()
        with self._lock:
            try:
                found = os.stat(self._path)
            except FileNotFoundError:
                self._read = None
                return _empty()
            except OSError as exc:
                raise UsageError(f"the users' file {self._path} cannot be read: {exc.strerror}") from exc
            _check_mode(self._path, found)
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is None or self._read[0] != version:
                self._read = (version, _read(self._path))
            return self._read[1]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Give what stands in the file to be changed; it is written then, unless something is raised."""
        if self._path is None:
            raise UsageError(
                'no users\' file is set: give --users FILE, set LIVESYNC_USERS, or write users = "…" into'
                " livesync.toml"
            )
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as exc:
            raise UsageError(f"the users' file {self._path} cannot be written: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            contents = json.loads(json.dumps(self._contents()))
            yield contents
            _write(self._path, contents)
        finally:
            os.close(descriptor)


def _empty() -> dict[str, Any]:
    return {"format": 1, "users": {}, "tokens": {}}


def _check_mode(path: Path, found: os.stat_result) -> None:
    """Make sure that nobody else reads or writes the file.

    Raises:
        UsageError: Somebody may.
    """
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"the users' file {path} can be used by others: chmod 600 {path}")


def _read(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text("utf-8"))
        if contents["format"] != 1:
            raise UsageError(f"the users' file {path} is of a newer livesync")
        for name, kept in contents["users"].items():
            _user(name, kept)
        for token_id, kept in contents["tokens"].items():
            _token(token_id, kept)
    except OSError as exc:
        raise UsageError(f"the users' file {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        if isinstance(exc, UsageError):
            raise
        raise UsageError(f"the users' file {path} is none: livesync user add writes one") from exc
    return dict(contents)


def _write(path: Path, contents: dict[str, Any]) -> None:
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(contents, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as exc:
        aside.unlink(missing_ok=True)
        raise UsageError(f"the users' file {path} cannot be written: {exc.strerror}") from exc


def _user(name: str, kept: Mapping[str, Any]) -> User:
    scheme, *_ = kept["password"].split("$")
    if scheme != "scrypt" or kept["password"].count("$") != 5:
        raise ValueError(name)
    mark = hashlib.sha256(kept["password"].encode()).hexdigest()[:16]
    return User(name, Role(kept["role"]), mark)


def _token(token_id: str, kept: Mapping[str, Any]) -> Token:
    return Token(token_id, kept["name"], Role(kept["role"]), float(kept["created"]))


def _new_token() -> tuple[str, str, str]:
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return token_id, secret, f"livesync_{token_id}_{secret}"


def _token_hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
