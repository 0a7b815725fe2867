"""Where private keys lie: a directory of files, apart from the database.

So a copy or a backup of the database, or a staging site that runs on one, cannot pass for this one. Each key
is a file of its own, named by the fingerprint of its public key and readable by its owner only; it is written
once, and never again. Where there is a passphrase, new keys are encrypted under it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..database import database_file
from ..errors import KeyUnusable, UsageError
from .keys import PrivateKey, PublicKey, is_sealed
from .randomness import Random

#: Environment variables: the directory, the passphrase, and a file whose first line is the passphrase.
KEYS_VARIABLE: Final = "LIVESYNC_PEER_KEYS"
PASSPHRASE_VARIABLE: Final = "LIVESYNC_PEER_PASSPHRASE"  # noqa: S105
PASSPHRASE_FILE_VARIABLE: Final = "LIVESYNC_PEER_PASSPHRASE_FILE"  # noqa: S105

#: What the directory beside a FileStorage's file is called, after the file.
BESIDE: Final = ".keys"

#: Bytes that a key's file has at most.
_MAX_BYTES: Final = 1_000


class KeyRing:
    """The private keys of a directory. Threads may share it.

    Args:
        directory: It need not exist yet.
        passphrase: Encrypts new keys, and opens encrypted ones; None: there is none.
    """

    def __init__(self, directory: str | Path, passphrase: str | None = None) -> None:
        self.directory = Path(directory)
        self._passphrase = passphrase
        self._lock = threading.Lock()
        self._open: dict[PublicKey, PrivateKey] = {}

    def __repr__(self) -> str:
        return f"<KeyRing {str(self.directory)!r}>"

    def _path(self, public: PublicKey) -> Path:
        return self.directory / f"{public.fingerprint}.key"

    def has(self, public: PublicKey) -> bool:
        """Tell whether the private key of ``public`` is here."""
        return public in self._open or self._path(public).is_file()

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of the keys that are here, in order."""
        return sorted(path.stem for path in self.directory.glob("*.key") if not path.name.startswith("."))

    def is_encrypted(self, public: PublicKey) -> bool:
        """Tell whether the file of a key is encrypted.

        Raises:
            KeyUnusable: It is not here, or cannot be read.
        """
        return is_sealed(self._read(public))

    def get(self, public: PublicKey) -> PrivateKey:
        """Return the private key of ``public``.

        Raises:
            KeyUnusable: It is not here, needs another passphrase, or is broken.
        """
        with self._lock:
            found = self._open.get(public)
            if found is None:
                found = PrivateKey.open(self._read(public), self._passphrase)
                if found.public != public:
                    raise KeyUnusable(f"{self._path(public)} holds another key than its name says")
                self._open[public] = found
            return found

    def _read(self, public: PublicKey) -> str:
        path = self._path(public)
        try:
            with path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise KeyUnusable(f"others may read {path}: chmod 600, if nobody has taken the key")
                return file.read(_MAX_BYTES).decode("ascii").strip()
        except FileNotFoundError:
            raise KeyUnusable(
                f"the private key {public.fingerprint} is not in {self.directory}: bring its file, or request"
                " a new certificate"
            ) from None
        except OSError as exc:
            raise KeyUnusable(f"the key in {path} cannot be read: {exc.strerror or exc}") from exc
        except UnicodeDecodeError:
            raise KeyUnusable(f"what lies in {path} is no private key") from None

    def generate(self, random: Random = os.urandom) -> PrivateKey:
        """Return a new key, which is on the disk.

        Raises:
            KeyUnusable: It cannot be written.
        """
        key = PrivateKey.generate(random)
        self.add(key)
        return key

    @contextmanager
    def new_key(self) -> Iterator[PrivateKey]:
        """Give a new key, which is on the disk; where the block raises, nothing of it is left.

        Raises:
            KeyUnusable: It cannot be written.
        """
        key = self.generate()
        try:
            yield key
        except BaseException:
            self._path(key.public).unlink(missing_ok=True)
            raise

    def add(self, key: PrivateKey) -> None:
        """Keep a key; one that is here already stays as it is.

        Raises:
            KeyUnusable: It cannot be written.
        """
        path = self._path(key.public)
        line = key.seal(self._passphrase) + "\n"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _write(path, line.encode("ascii"))
        except OSError as exc:
            raise KeyUnusable(f"the key cannot be written to {path}: {exc.strerror or exc}") from exc


def _write(path: Path, line: bytes) -> None:
    """Write a file aside and give it its name once it is on the disk."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_keyring(uri: str, environment: Mapping[str, str] | None = None) -> KeyRing:
    """Return the key ring of a database.

    Args:
        uri: The database's. Without :data:`KEYS_VARIABLE`, the keys lie beside a FileStorage's file.
        environment: Instead of ``os.environ``.

    Raises:
        UsageError: It is not said where the keys lie, or the passphrase's file cannot be read.
    """
    environ = os.environ if environment is None else environment
    named, file = environ.get(KEYS_VARIABLE), database_file(uri)
    if named:
        directory = Path(named)
    elif file is not None:
        directory = file.with_name(file.name + BESIDE)
    else:
        raise UsageError(
            f"it is not set where the private keys of this database lie: set {KEYS_VARIABLE} to a directory"
            " that only this site reads"
        )
    return KeyRing(directory, _passphrase(environ))


def _passphrase(environ: Mapping[str, str]) -> str | None:
    given, path = environ.get(PASSPHRASE_VARIABLE), environ.get(PASSPHRASE_FILE_VARIABLE)
    if given or not path:
        return given or None
    try:
        found = Path(path).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"the passphrase in {path} cannot be read: {reason}") from exc
    if not found:
        raise UsageError(f"the first line of {path} is empty: it is to be the passphrase")
    return found
