"""The files of a Plone object: what its fields hold as named files and images, in blobs or not."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Final

from ..host import File, content_digest

_BLOCK: Final = 1 << 20
_REMEMBERED: Final = 20_000


class Digests:
    """Digests of blobs, each made once: what a blob holds never changes under one serial.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, bytes, bytes], str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, blob: Any) -> str:
        """Return the digest of a committed blob; its content is read when it is not remembered."""
        blob._p_activate()
        key = (blob._p_jar.db().database_name, blob._p_oid, blob._p_serial)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = _digest(blob)
            with self._lock:
                self._known[key] = known
                if len(self._known) > self._most:
                    self._known.popitem(last=False)
        return known


def files_of(named: Iterable[tuple[str, Any]], digests: Digests) -> Iterator[File]:
    """Yield the files among the values of an object's fields.

    Args:
        named: Field's name and value.
        digests: Where those of blobs are remembered.
    """
    from plone.namedfile.interfaces import INamed

    taken: set[str] = set()
    for field_name, value in named:
        if not INamed.providedBy(value):
            continue
        name = value.filename or field_name
        if name in taken:
            name = f"{field_name}-{name}"
        taken.add(name)
        yield _file(name, value, digests)


def _file(name: str, value: Any, digests: Digests) -> File:
    media_type = value.contentType or "application/octet-stream"
    if isinstance(media_type, bytes):
        media_type = media_type.decode("ascii", "replace")
    blob = getattr(value, "_blob", None)
    if blob is None:
        content = bytes(value.data)
        return File(name, media_type, len(content), content_digest(content), partial(BytesIO, content))
    return File(name, media_type, value.getSize(), digests.of(blob), partial(_opened, blob))


def _opened(blob: Any) -> BinaryIO:
    stream: BinaryIO = blob.open("r")
    return stream


def _digest(blob: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with blob.open("r") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
