"""The ``file`` destination: JSON Lines files in a directory, for whoever picks them up.

A batch is a file ``<till, 12 digits>-<slice, 6>-<batch, 6>.jsonl``; ``till`` is the position of its
records. Read in the order of their names, the files tell everything in the order in which it
happened. During a slice its batches are written aside, as hidden files, and synced; the files get
their names, one after the other, when the slice is accepted. A slice that is repeated after a
crash takes the next free slice number of its position: it comes again, later in the order of
names, and never replaces what somebody may have read. (Records are upserts and deletes that carry
a position, so coming twice does no harm.)

A reader may remove files once it has read them, so nobody can tell what the directory held: it is
not ``readable``. Several agents may share a directory.

Where the agent sends the objects' files, a content is ``files/<first 2 of the digest>/<digest>``,
synced and named before the first line that speaks of it is. A content that is there is not sent
again; none is ever removed here.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any, Final

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import AttachedFile, Batch, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, FILE_OPTIONS, Delivery, RecordUploader
from ..errors import LeaseLost, RetryLater, ServiceRefuses
from ..options import Option
from ._attached import blocks, refused_files, verdicts
from ._lines import encode_lines

#: Where the contents of files are, below the directory.
_CONTENTS: Final = "files"

_DIGEST: Final = re.compile(r"[0-9a-f]{32}")

_NAME: Final = re.compile(r"(\d{12,})-(\d{6,})-\d{6,}\.jsonl")

#: What a person has to mend; everything else may pass: a full disk, a server that is away.
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})

#: How file systems without hard links answer.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class FileUploader(RecordUploader):
    """Writes records into JSON Lines files."""

    takes_files = True
    reads_documents = False

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self.directory: str = agent.values["directory"]
        self._aside: list[str] = []  #: the open slice's hidden files, in order
        self._contents: dict[str, str] = {}  #: the open slice's contents: digest -> hidden file
        self._is_clean = False  #: whether what a crash left was removed
        self._slices: dict[int, int] | None = None  #: till -> its last slice number, as far as known

    def open(self, delivery: Delivery) -> None:
        """Make the directory if only it is missing.

        Raises:
            ServiceRefuses: The directory cannot be used.
        """
        super().open(delivery)
        with self._meaning():
            if not os.path.isdir(self.directory):
                os.mkdir(self.directory)
            self._check_access()
        self._aside, self._contents = [], {}
        self._is_clean = False
        self._slices = None

    def begin_slice(self, till: int) -> None:
        """Begin a slice; nothing is written before its first batch.

        The run's first one removes what a crash left of this agent's: not before, since one that
        is only asked whether it works may be opened beside another in the middle of a slice.
        """
        super().begin_slice(till)
        self._remove_aside()
        if not self._is_clean:
            with self._meaning():
                self._remove_left(self.directory)
                if os.path.isdir(self._contents_directory):
                    self._remove_left(self._contents_directory)
            self._is_clean = True

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        refused = refused_files(batch)
        good = batch
        if refused:
            good = batch.only([i for i, record in enumerate(batch) if record.object_id not in refused])
        if good:
            with self._meaning():
                contents = self._write_contents(good)
                try:
                    path = os.path.join(self.directory, self._hidden_name(len(self._aside) + 1))
                    _write(path, [encode_lines(good)])
                except OSError:
                    for written in contents.values():
                        _remove(written)
                    raise
            self._aside.append(path)
            self._contents.update(contents)
        return verdicts(batch, set(), refused)

    def end_slice(self, position: int | None) -> None:
        """Give the slice's files their names, in order, those of contents first.

        Raises:
            LeaseLost: Another runner of this agent has begun meanwhile, and removed them.
        """
        if not self._aside:
            return
        if not all(map(os.path.exists, (*self._aside, *self._contents.values()))):
            raise LeaseLost(
                f"another runner of agent {self.agent.id!r} has removed what this one wrote into"
                f" {self.directory}: nothing of this slice was kept"
            )
        with self._meaning():
            self._name_contents()
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

    def probe(self) -> str:
        """Return how much room there is.

        Raises:
            ServiceRefuses, RetryLater: The directory cannot be written.
        """
        with self._meaning():
            self._check_access()
            free = shutil.disk_usage(self.directory).free
        return f"{free / 2**30:.1f} GiB free in {self.directory}"

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return the contents that are neither there nor in the open slice."""
        with self._meaning():
            return {
                digest
                for digest in digests
                if digest not in self._contents
                and not (_DIGEST.fullmatch(digest) and os.path.exists(self._content_path(digest)))
            }

    @property
    def _contents_directory(self) -> str:
        return os.path.join(self.directory, _CONTENTS)

    def _content_path(self, digest: str) -> str:
        return os.path.join(self._contents_directory, digest[:2], digest)

    def _hidden_name(self, number: int) -> str:
        return f".{self.agent.id}.{number:06}.tmp"

    def _remove_left(self, directory: str) -> None:
        """Remove the hidden files that a crash left of this agent's."""
        left = re.compile(rf"\.{re.escape(self.agent.id)}\.\d{{6,}}\.tmp")
        for name in os.listdir(directory):
            if left.fullmatch(name):
                os.unlink(os.path.join(directory, name))

    def _check_access(self) -> None:
        if not os.path.isdir(self.directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _write_contents(self, batch: Batch) -> dict[str, str]:
        """Write the contents that came with ``batch`` and are not there yet; return digest -> hidden file."""
        written: dict[str, str] = {}
        try:
            for file in _contents_of(batch):
                if file.digest in written or not self.missing_files({file.digest}):
                    continue
                os.makedirs(self._contents_directory, exist_ok=True)
                number = len(self._contents) + len(written) + 1
                path = os.path.join(self._contents_directory, self._hidden_name(number))
                _write(path, blocks(file))
                written[file.digest] = path
        except OSError:
            for path in written.values():
                _remove(path)
            raise
        return written

    def _name_contents(self) -> None:
        """Give the slice's contents their names, which must last before a line speaks of them."""
        if not self._contents:
            return
        touched = {self._contents_directory, self.directory}
        for digest, path in self._contents.items():
            name = self._content_path(digest)
            touched.add(os.path.dirname(name))
            os.makedirs(os.path.dirname(name), exist_ok=True)
            os.replace(path, name)  # should it be there by now, it is the same
        for directory in touched:
            _sync_directory(directory)
        self._contents = {}

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
        for path in (*self._aside, *self._contents.values()):
            _remove(path)
        self._aside, self._contents = [], {}

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


def _contents_of(batch: Batch) -> Iterator[AttachedFile]:
    for record in batch:
        for file in record.files or ():
            if file.content is not None:
                yield file


def _write(path: str, parts: Iterable[bytes]) -> None:
    """Write a file that lasts; one that cannot be written to its end is removed."""
    try:
        with open(path, "wb") as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        _remove(path)
        raise


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
        *FILE_OPTIONS,
        *DELIVERY_OPTIONS,
    )  # fmt: skip
    uploader = FileUploader
