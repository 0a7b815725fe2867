"""Records as JSON Lines: what the ``file`` and ``http`` destinations carry."""

from __future__ import annotations

from typing import Final

import msgspec

from ..delivery.record import Batch

#: The media type of a batch.
MEDIA_TYPE: Final = "application/x-ndjson"


class _Line(msgspec.Struct, gc=False):
    op: str
    id: str
    position: int
    document: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def encode_lines(batch: Batch) -> bytes:
    """Return one line a record, each ended by a line feed, UTF-8.

    ``{"op":"upsert","id":…,"position":…,"document":{…}}``, the keys in this order and the document
    byte for byte as in ``batch.bodies``; ``{"op":"delete","id":…,"position":…}``.
    """
    return _encoder.encode_lines(
        [
            _Line(
                record.op.value,
                record.object_id,
                record.position,
                msgspec.UNSET if body is None else msgspec.Raw(body),
            )
            for record, body in zip(batch, batch.bodies, strict=True)
        ]
    )
