"""Records as JSON Lines: what the ``file`` and ``http`` destinations carry."""

from __future__ import annotations

from typing import Final

import msgspec

from ..delivery.record import AttachedFile, Batch

#: The media type of a batch.
MEDIA_TYPE: Final = "application/x-ndjson"


class _FileOfLine(msgspec.Struct, gc=False):
    name: str
    media_type: str
    size: int
    digest: str


class _Line(msgspec.Struct, gc=False):
    op: str
    id: str
    position: int
    document: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    files: list[_FileOfLine] | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def encode_lines(batch: Batch) -> bytes:
    """Return one line a record, each ended by a line feed, UTF-8.

    ``{"op":"upsert","id":…,"position":…,"document":{…}}``, the keys in this order and the document
    byte for byte as in ``batch.bodies``; ``{"op":"delete","id":…,"position":…}``. A record that says
    something of files has one key more, the last:
    ``"files":[{"name":…,"media_type":…,"size":…,"digest":…},…]``.
    """
    return _encoder.encode_lines(
        [
            _Line(
                record.op.value,
                record.object_id,
                record.position,
                msgspec.UNSET if body is None else msgspec.Raw(body),
                msgspec.UNSET if record.files is None else [_file(file) for file in record.files],
            )
            for record, body in zip(batch, batch.bodies, strict=True)
        ]
    )


def _file(file: AttachedFile) -> _FileOfLine:
    return _FileOfLine(file.name, file.media_type, file.size, file.digest)
