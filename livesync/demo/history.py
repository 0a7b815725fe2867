"""Recorded edits: finding a history, reading it line by line, and checking what it says.

A history is JSON Lines, compressed with gzip or plain, oldest first. A line is what one transaction
changed: ``{"time": EPOCH_SECONDS, "changes": [...]}``; a change is ``{"action": "created" |
"data_changed" | "moved" | "deleted", "id": FILE, "data": {...}, "from": FILE}``, where ``data`` is
missing for deletes and ``from`` is there for moves.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from ..errors import UsageError
from .places import Place, parse_file

#: Environment variable: a directory in which histories are looked for by their bare names.
DIRECTORY_VARIABLE: Final = "LIVESYNC_HISTORY"

_GZIP_MAGIC = b"\x1f\x8b"

#: Epoch seconds that no date can show any more.
_YEAR_10000 = 253_402_300_800

Action = Literal["created", "data_changed", "moved", "deleted"]


class HistoryError(UsageError):
    """Raised when a history cannot be read or replayed; the text names the file and the line."""

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}" if line else f"{file}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what was done to the document at ``place``.

    Attributes:
        action: ``created``, ``data_changed``, ``moved`` or ``deleted``.
        place: Where the document lies (after a move).
        data: The document after the change. None for deletes, and for a move that left it as it was.
        former: Where it lay before a move; None for everything else.
    """

    action: Action
    place: Place
    data: Mapping[str, Any] | None = None
    former: Place | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What one transaction changed.

    Attributes:
        time: When, in epoch seconds.
        changes: In the order in which they were made.
        digest: What the line is known by: BLAKE2b-128 of its JSON, keys sorted, without spaces.
        file: The name of the file it stands in, for messages.
        number: Its number there, from 1, for messages.
    """

    time: float
    changes: tuple[Change, ...]
    digest: bytes
    file: str
    number: int

    def error(self, reason: str) -> HistoryError:
        """Return an error that names this line."""
        return HistoryError(self.file, self.number, reason)


def find_history(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """Return the history that ``name`` stands for.

    It is a path, or the bare name of a file in the directory that ``LIVESYNC_HISTORY`` names, or of
    one that comes with this package.

    Raises:
        HistoryError: There is no such file.
    """
    path = Path(name)
    candidates = [path]
    if name and path.name == name:
        directory = (os.environ if environment is None else environment).get(DIRECTORY_VARIABLE)
        candidates += [Path(directory) / name] if directory else []
        candidates.append(Path(__file__).parent / name)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        where = ", ".join(str(candidate) for candidate in candidates) if name else "no name is given"
        raise HistoryError(name or "history", None, f"there is no such file (looked at: {where})")
    return found


def read_history(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[Line]:
    """Yield the lines of a history, oldest first, each as soon as it is read.

    Args:
        path: The file, gzip or plain.
        progress: Called before each line with the number of bytes of the file read so far.

    Raises:
        HistoryError: The file cannot be read, or a line is not in the form of a history.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            for number, text in enumerate(_uncompressed(raw, path), 1):
                if progress is not None:
                    progress(raw.tell())
                if text.strip():
                    yield parse_line(text, path.name, number)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise HistoryError(path.name, number + 1, f"the compressed file is broken here: {exc}") from exc
    except OSError as exc:
        raise HistoryError(path.name, number + 1, f"the file cannot be read: {exc.strerror or exc}") from exc


def _uncompressed(raw: BinaryIO, path: Path) -> BinaryIO:
    is_gzip = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    raw.seek(0)
    if not is_gzip and path.suffix == ".gz":
        raise gzip.BadGzipFile("it is no gzip file")
    return io.BufferedReader(gzip.GzipFile(fileobj=raw)) if is_gzip else raw


def parse_line(text: bytes, file: str, number: int) -> Line:
    """Return a line of a history.

    Args:
        text: The line's JSON.
        file: The name of its file, for messages.
        number: Its number in the file, for messages.

    Raises:
        HistoryError: It is not JSON, or not in the form of a history.
    """
    try:
        decoded = msgspec.json.decode(text)
        raw = msgspec.convert(decoded, _RawLine)
        if not 0 <= raw.time < _YEAR_10000:
            raise ValueError(f"its time, {raw.time:g}, is not epoch seconds")
        changes = tuple(_parse_change(change, index) for index, change in enumerate(raw.changes))
        canonical = msgspec.json.encode(decoded, order="deterministic")
    except msgspec.ValidationError as exc:
        raise HistoryError(file, number, f"it is not in the form of a history: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise HistoryError(file, number, f"it is not JSON: {exc}") from exc
    except ValueError as exc:
        raise HistoryError(file, number, str(exc)) from exc
    return Line(raw.time, changes, hashlib.blake2b(canonical, digest_size=16).digest(), file, number)


class _RawChange(msgspec.Struct, rename={"file": "id", "former": "from"}):
    action: Action
    file: str
    data: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    former: str | msgspec.UnsetType = msgspec.UNSET


class _RawLine(msgspec.Struct):
    time: float
    changes: list[_RawChange]


def _parse_change(raw: _RawChange, index: int) -> Change:
    """Return a change in its own types; ``index`` is its number in the line, from 0."""
    data = None if raw.data is msgspec.UNSET else raw.data
    if data is None and raw.action in ("created", "data_changed"):
        raise ValueError(f"change {index + 1} ({raw.action} {raw.file}) has no data")
    if raw.action != "moved":
        return Change(raw.action, parse_file(raw.file), None if raw.action == "deleted" else data)
    if raw.former is msgspec.UNSET:
        raise ValueError(f"change {index + 1} (moved {raw.file}) does not say from where")
    return Change(raw.action, parse_file(raw.file), data, parse_file(raw.former))
