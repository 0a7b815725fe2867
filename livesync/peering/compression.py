"""Bodies, packed and unpacked: zstd or gzip, never further than a limit."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Final

import zstandard

from ..errors import BodyTooLarge, BodyUnreadable

#: What bodies may be packed with, the better one first.
ENCODINGS: Final = ("zstd", "gzip")

#: Bytes below which packing a body is not worth the while.
MIN_BYTES: Final = 400

#: What zstd may ask for, in bytes, to unpack: a body names it, so it has a limit of its own.
_MAX_WINDOW: Final = 8 * 1024 * 1024

#: Bytes that gzip unpacks at once.
_PIECE: Final = 256 * 1024

#: What a frame of zstd says where it does not say how much is in it.
_UNKNOWN: Final = 2**64 - 1

_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_LEVELS: Final = {"zstd": 1, "gzip": 5}


def pack(body: bytes, encoding: str) -> bytes:
    """Return a body packed.

    Raises:
        ValueError: There is no such encoding; see :data:`ENCODINGS`.
    """
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=_LEVELS["zstd"]).compress(body)
    if encoding == "gzip":
        packer = zlib.compressobj(_LEVELS["gzip"], zlib.DEFLATED, _GZIP_BITS)
        return packer.compress(body) + packer.flush()
    raise ValueError(f"there is no encoding {encoding!r}; there are {', '.join(ENCODINGS)}")


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body unpacked.

    Args:
        body: As it travelled.
        encoding: ``Content-Encoding``: one of :data:`ENCODINGS`, or "" or ``identity``.
        limit: Bytes that it may have, unpacked; no more than that is ever unpacked.

    Raises:
        BodyTooLarge: It has more.
        BodyUnreadable: It is not packed so, broken off, or something follows it.
        ValueError: There is no such encoding.
    """
    if encoding in ("", "identity"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if encoding == "zstd":
        return _unpack_zstd(body, limit)
    if encoding == "gzip":
        return _unpack_gzip(body, limit)
    raise ValueError(f"there is no encoding {encoding!r}; there are {', '.join(ENCODINGS)}")


def _unpack_zstd(body: bytes, limit: int) -> bytes:
    try:
        said = zstandard.get_frame_parameters(body)
        if said.content_size not in (_UNKNOWN, 0) and said.content_size > limit:
            raise _too_large(limit)
        if said.window_size > max(_MAX_WINDOW, limit):
            raise BodyUnreadable("the body asks for too much memory to unpack (zstd)")
        found = zstandard.ZstdDecompressor().decompress(
            body, max_output_size=limit + 1, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        if _is_longer(body, limit):
            raise _too_large(limit) from exc
        raise BodyUnreadable(f"the body cannot be unpacked (zstd): {exc}") from exc
    if len(found) > limit:
        raise _too_large(limit)
    return found


def _is_longer(body: bytes, limit: int) -> bool:
    """Tell whether what can be unpacked of a broken or endless body is more than the limit."""
    with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(body) as reader:
        try:
            return len(reader.read(limit + 1)) > limit
        except zstandard.ZstdError:
            return False


def _unpack_gzip(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_BITS)
    found = bytearray()
    try:
        for begin in range(0, len(body), _PIECE):
            piece = body[begin : begin + _PIECE]
            while piece and not unpacker.eof:
                found += unpacker.decompress(piece, _PIECE)
                piece = unpacker.unconsumed_tail
                if len(found) > limit:
                    found.clear()  # or else who holds the error holds it all
                    raise _too_large(limit)
            if piece:
                raise BodyUnreadable("the body goes on after its end (gzip)")
        found += unpacker.flush()
    except zlib.error as exc:
        raise BodyUnreadable(f"the body cannot be unpacked (gzip): {exc}") from exc
    if len(found) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise BodyUnreadable("the body breaks off, or goes on after its end (gzip)")
    return bytes(found)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {limit:,} bytes, unpacked")


def choose(accepted: str | None, usable: Collection[str] = ENCODINGS) -> str:
    """Return the encoding to answer with; "" for none.

    Args:
        accepted: ``Accept-Encoding`` of the request (RFC 9110, 12.5.3).
        usable: What this end can do.
    """
    refused: set[str] = set()
    wanted: set[str] = set()
    for part in (accepted or "").split(","):
        name, _, quality = part.partition(";")
        name = name.strip().lower()
        (refused if quality.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") else wanted).add(name)
    for encoding in ENCODINGS:
        if encoding in usable and (encoding in wanted or ("*" in wanted and encoding not in refused)):
            return encoding
    return ""
