"""The files of records, for destinations that keep contents by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from ..delivery.record import AttachedFile, Batch, Outcome, Record, Verdict

_BLOCK_BYTES: Final = 256 * 1024


def refused_files(batch: Batch) -> dict[str, str]:
    """Return the objects of ``batch`` whose files cannot be kept, with the reasons: id -> reason.

    A content that is not the one of its digest is among them: kept, it would stand for another.
    """
    refused = {}
    for record in batch:
        if record.files:
            reason = _fault(record.files)
            if reason:
                refused[record.object_id] = reason
    return refused


def _fault(files: tuple[AttachedFile, ...]) -> str:
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        return "two of its files have the same name"
    for file in files:
        try:
            f"{file.name}{file.media_type}{file.digest}".encode()
        except UnicodeEncodeError:
            return "the name of a file cannot be written as UTF-8"
        if file.content is not None and not _is_the_named(file):
            return f"the content of its file {file.name!r} is not the one that its digest and size name"
    return ""


def _is_the_named(file: AttachedFile) -> bool:
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    for block in blocks(file):
        digest.update(block)
        size += len(block)
    return (digest.hexdigest(), size) == (file.digest, file.size)


def blocks(file: AttachedFile) -> Iterator[bytes]:
    """Yield the content of ``file``, which must have come with one, block by block."""
    assert file.content is not None
    file.content.seek(0)  # it may have been read in an earlier try
    while block := file.content.read(_BLOCK_BYTES):
        yield block


def verdicts(batch: Batch, stale: set[str], refused: dict[str, str]) -> list[Verdict] | None:
    """Return a verdict for each record of ``batch``; None: all accepted."""
    if not stale and not refused:
        return None
    return [_verdict(record, stale, refused) for record in batch]


def _verdict(record: Record, stale: set[str], refused: dict[str, str]) -> Verdict:
    object_id = record.object_id
    if object_id in refused:
        return Verdict(object_id, Outcome.REFUSED, refused[object_id])
    return Verdict(object_id, Outcome.STALE if object_id in stale else Outcome.ACCEPTED)
