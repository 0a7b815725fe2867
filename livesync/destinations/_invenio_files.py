"""The files of records in an Invenio repository: what a record is to have, and bringing it there.

A repository keeps files by record and by name. A content that another record has already need not
come from the host again: it is read from there. What a published record has is locked; files that
change come with a new version of it, which first takes over those of the version before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..delivery.record import AttachedFile
from ._attached import blocks
from ._invenio_api import FileEntry, InvenioAPI, RecordRefused
from ._invenio_mark import FileMark

_COMPLETED: Final = "completed"


@dataclass(frozen=True, slots=True)
class Holder:
    """A published record that has a content: its id, the file's name there, and its checksum."""

    record_id: str
    name: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a record is to have, and where its content comes from."""

    file: AttachedFile
    checksum: str
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What files a record is to have.

    Attributes:
        wanted: Those with a content that can be had.
        marks: All, by name; what cannot be had is only named.
    """

    wanted: tuple[Wanted, ...]
    marks: tuple[FileMark, ...]


class Upload:
    """A content on its way out, with the length that a request needs to know beforehand.

    Args:
        file: Whose content; it is read from its beginning.
    """

    def __init__(self, file: AttachedFile) -> None:
        self._size = file.size
        self._blocks = blocks(file)
        self._left = b""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, b"" at the end."""
        if not self._left:
            self._left = next(self._blocks, b"")
        part, self._left = self._left[:size], self._left[size:]
        return part


def plan_files(
    files: Sequence[AttachedFile], find_holder: Callable[[AttachedFile], Holder | None]
) -> FilePlan:
    """Return what files a record is to have.

    Args:
        files: As they came; a content that did not come is looked for in the repository.
        find_holder: Returns a record that has the content of a file.
    """
    wanted: list[Wanted] = []
    marks: list[FileMark] = []
    for file in sorted(files, key=lambda each: each.name):
        holder = None
        if file.content is not None:
            checksum = _md5(file)
        else:
            holder = find_holder(file)
            checksum = "" if holder is None else holder.checksum
        if checksum:
            wanted.append(Wanted(file, checksum, holder))
        marks.append(FileMark(file.name, file.digest, bool(checksum)))
    return FilePlan(tuple(wanted), tuple(marks))


def clear_files(api: InvenioAPI, draft_id: str) -> None:
    """Remove all files of a draft, which must be before it can be one without files."""
    for entry in api.files(draft_id, draft=True):
        api.delete_file(draft_id, entry.key)


def bring_files(api: InvenioAPI, draft_id: str, plan: FilePlan, may_import: bool) -> None:
    """Let a draft have the files of ``plan`` and no others.

    What is there already is known by its checksum, so it does not matter how far an earlier try came.

    Args:
        api: The repository.
        draft_id: The draft's, with files enabled.
        plan: Which files.
        may_import: Whether there is a version before that may have some of them.

    Raises:
        RecordRefused: What another record has is not what it was.
    """
    entries = api.files(draft_id, draft=True)
    if may_import and not entries:
        entries = _imported(api, draft_id)
    there = {entry.key: entry for entry in entries}
    wanted = {each.file.name: each for each in plan.wanted}
    for name, entry in there.items():
        if name not in wanted or not _is_there(entry, wanted[name]):
            api.delete_file(draft_id, name)
    for name, each in wanted.items():
        if name not in there or not _is_there(there[name], each):
            api.upload(draft_id, name, _content(api, each))


def _imported(api: InvenioAPI, draft_id: str) -> list[FileEntry]:
    try:
        return api.import_files(draft_id)
    except RecordRefused:  # the version before has none
        return []


def _is_there(entry: FileEntry, wanted: Wanted) -> bool:
    return entry.status == _COMPLETED and entry.checksum == wanted.checksum


def _content(api: InvenioAPI, wanted: Wanted) -> Upload | bytes:
    file, holder = wanted.file, wanted.holder
    if file.size == 0:
        return b""  # a stream of no length would be sent as one of unknown length
    if holder is None:
        return Upload(file)
    content = api.download(holder.record_id, holder.name, file.size)
    if content is None or hashlib.blake2b(content, digest_size=16).hexdigest() != file.digest:
        raise RecordRefused(
            f"the content of its file {file.name!r} was to come from the repository's record"
            f" {holder.record_id}, where it is another now"
        )
    return content


def _md5(file: AttachedFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks(file):
        digest.update(block)
    return f"md5:{digest.hexdigest()}"
