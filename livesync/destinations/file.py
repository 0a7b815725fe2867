"""The ``file`` destination: JSON Lines files in a directory, for whoever picks them up.

A batch is a file ``<till, 12 digits>-<slice, 6>-<batch, 6>.jsonl``; ``till`` is the position of its
records. Read in the order of their names, the files tell everything in the order in which it
happened. During a slice its batches are written aside, as hidden files, and synced; the files get
their names, one after the other, when the slice is accepted. A slice that is repeated after a
crash takes the next free slice number of its position: it comes again, later in the order of
names, and never replaces what somebody may have read. (Records are upserts and deletes that carry
a position, so coming twice does no harm.)

A reader may remove files once it has read them. Several agents may share a directory.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader
from ..errors import RetryLater, ServiceRefuses
from ..options import Option
from ._lines import encode_lines

_NAME: Final = re.compile(r"(\d{12,})-(\d{6,})-\d{6,}\.jsonl")

#: What a person has to mend; everything else may pass: a full disk, a server that is away.
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})

#: How file systems without hard links answer.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class FileUploader(RecordUploader):
    """Writes records into JSON Lines files."""

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self.directory: str = agent.values["directory"]
        self._aside: list[str] = []  #: the open slice's hidden files, in order
        self._slices: dict[int, int] | None = None  #: till -> its last slice number, as far as known

    def open(self, delivery: Delivery) -> None:
        """Make the directory if only it is missing; remove what a crash left of this agent's.

        Raises:
            ServiceRefuses: The directory cannot be used.
        """
        super().open(delivery)
        with self._meaning():
            if not os.path.isdir(self.directory):
                os.mkdir(self.directory)
            left = re.compile(rf"\.{re.escape(self.agent.id)}\.\d{{6,}}\.tmp")
            for name in os.listdir(self.directory):
                if left.fullmatch(name):
                    os.unlink(os.path.join(self.directory, name))
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._aside = []
        self._slices = None

    def begin_slice(self, till: int) -> None:
        """Begin a slice; nothing is written before its first batch."""
        super().begin_slice(till)
        self._remove_aside()

    def _upload_batch(self, batch: Batch) -> None:
        path = os.path.join(self.directory, f".{self.agent.id}.{len(self._aside) + 1:06}.tmp")
        with self._meaning():
            try:
                with open(path, "wb") as stream:
                    stream.write(encode_lines(batch))
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError:
                _remove(path)
                raise
        self._aside.append(path)

    def end_slice(self, position: int | None) -> None:
        """Give the slice's files their names, in order."""
        if not self._aside:
            return
        with self._meaning():
            number = self._name_first()
            for index, path in enumerate(self._aside[1:], 2):
                _give_name(path, self._path(number, index))
            _sync_directory(self.directory)
        self._aside = []

    def abandon_slice(self) -> None:
        """Remove the slice's files, none of which has a name yet."""
        self._remove_aside()

    def close(self) -> None:
        """Remove the files of a slice that was not ended."""
        self._remove_aside()

    def _name_first(self) -> int:
        """Name the first file of the slice, which claims the number; return the number."""
        while True:
            slices = self._known_slices()
            number = slices.get(self.till, 0) + 1
            try:
                _give_name(self._aside[0], self._path(number, 1))
            except FileExistsError:  # another agent was here meanwhile: look again
                self._slices = None
                continue
            slices[self.till] = number
            return number

    def _known_slices(self) -> dict[int, int]:
        """Return the last slice number by position; the directory is listed once a run, if it can be."""
        if self._slices is None:
            self._slices = {}
            for name in os.listdir(self.directory):
                match = _NAME.fullmatch(name)
                if match:
                    till, number = int(match[1]), int(match[2])
                    self._slices[till] = max(number, self._slices.get(till, 0))
        return self._slices

    def _path(self, number: int, index: int) -> str:
        return os.path.join(self.directory, f"{self.till:012}-{number:06}-{index:06}.jsonl")

    def _remove_aside(self) -> None:
        for path in self._aside:
            _remove(path)
        self._aside = []

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """Raise what an error of the file system means for the delivery."""
        try:
            yield
        except OSError as exc:
            why = exc.strerror or str(exc)
            if exc.errno in _REFUSALS:
                raise ServiceRefuses(
                    f"the directory {self.directory} cannot be written: {why};"
                    " make it, or mend the rights on it"
                ) from exc
            raise RetryLater(reason=f"{self.directory}: {why}") from exc


def _give_name(path: str, name: str) -> None:
    """Move a file to ``name``, never replacing another (a rename would).

    Raises:
        FileExistsError: There is a file of that name.
    """
    try:
        os.link(path, name)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(path, name)
    else:
        os.unlink(path)


def _remove(path: str) -> None:
    """Remove a hidden file if it can be: one that stays is removed when the agent runs again."""
    try:
        os.unlink(path)
    except OSError:
        return


def _sync_directory(directory: str) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # a system whose directories cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileAgent(PushSyncAgent):
    """Writes JSON Lines files into a directory, a file a batch."""

    options = (
        Option(
            "directory", "path", help="where the files are written; made when it is not there",
            required=True, identifies=True,
        ),
        *DELIVERY_OPTIONS,
    )  # fmt: skip
    uploader = FileUploader
