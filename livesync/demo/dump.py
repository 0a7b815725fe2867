"""What an index of a database must hold: every document that an audience may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ..delivery.record import encode_document
from ..errors import NoDocument
from ..host import PUBLIC, Host

#: Objects after which the connection's cache is emptied, so that memory does not grow with the database.
_OBJECTS_IN_CACHE: Final = 5_000


def dump(
    host: Host,
    connection: Any,
    audience: str = PUBLIC,
    set_aside: Callable[[str, str], None] | None = None,
) -> Iterator[bytes]:
    """Yield a line ``{"id": …, "document": …}`` for everything that ``audience`` may see, by id.

    A document has the very bytes that a destination holds.

    Args:
        host: The application; the one from its factory.
        connection: A ZODB connection, within a transaction.
        audience: For whom.
        set_aside: Called with the id of, and the reason why, an object that has no document.
    """
    with host.at(connection) as bound:
        for number, obj in enumerate(bound.iter_objects(), 1):
            if not bound.is_excluded(obj, audience):
                object_id = bound.object_id(obj)
                try:
                    body = encode_document(bound.document(obj, audience))
                except NoDocument as exc:
                    if set_aside is not None:
                        set_aside(object_id, exc.reason)
                else:
                    yield b'{"id":%b,"document":%b}\n' % (msgspec.json.encode(object_id), body)
            if number % _OBJECTS_IN_CACHE == 0:
                connection.cacheMinimize()
