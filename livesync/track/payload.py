"""What a lane holds of a transaction: a payload.

- ``bytes``: the changes of most transactions, encoded (``small_payload``), since a lane that is
  rewritten with every commit of its connection must be quickly pickled;
- ``(user, note, None, pages)``: those of a very large one, in pages beside the lane;
- ``(user, note, ids, table, codes)``: those that cannot be encoded (an id with lone surrogates);
- ``(mark, payload)``, ``(mark, span)``: what an undo left (``undo.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from persistent import Persistent

from .packed import pack_changes
from .stored import InboxPage

Changes = Sequence[tuple[str, frozenset[str]]]
Payload = Any

#: Marks what an undo took away, and what was recorded while one came in between.
UNDONE_MARK: Final = "undone"
REDONE_MARK: Final = "redone"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, str | tuple[str, ...], tuple[str, ...], bytes]).decode


def small_payload(changes: Changes, user: str, note: str) -> Payload:
    """Return what a lane keeps of a transaction's changes."""
    plain = (user, note, *pack_changes(changes))
    try:
        return _encode(plain)
    except UnicodeEncodeError:
        return plain


def paged_payload(pages: Iterable[InboxPage], user: str, note: str) -> Payload:
    """Return what a lane keeps of a very large transaction, whose changes are in ``pages``."""
    return (user, note, None, tuple(pages))


def decoded(payload: Payload) -> tuple[Any, ...]:
    """Return ``(user, note, ids, table, codes)``, or ``(user, note, None, pages)``."""
    return _decode(payload) if isinstance(payload, bytes) else payload


def payload_size(payload: Payload) -> int:
    """Return about how many bytes a payload takes in its lane."""
    payload = plain(payload)
    if isinstance(payload, bytes):
        return 16 + len(payload)
    if is_span(payload) or payload[2] is None:
        return 1_000_000  # not that much, but such a transaction is the last in its lane
    return 64 + sum(map(len, payload[2]))


def mark_of(payload: Payload) -> str:
    """Return a payload's mark, "" for what was simply recorded."""
    return payload[0] if isinstance(payload, tuple) and len(payload) == 2 else ""


def plain(payload: Payload) -> Payload:
    """Return a payload without its mark."""
    return payload[1] if mark_of(payload) else payload


def is_span(payload: Payload) -> bool:
    """Tell whether a payload is a span: ``(low, high, payloads)``.

    An undo went from the state that had replaced ``low`` to that which had replaced ``high``, or back;
    ``payloads`` are what the newer of the two had brought, for when the history is packed away.
    """
    return isinstance(payload, tuple) and len(payload) == 3


def identity(payload: Payload) -> Any:
    """Return what identifies a payload among those of its lane (persistent objects by their oid)."""
    if isinstance(payload, bytes):
        return payload
    if mark_of(payload):
        return (payload[0], identity(payload[1]))
    if is_span(payload) or payload[2] is not None:
        return payload
    return payload[:3] + tuple(_oid(page) for page in payload[3])


def _oid(page: Any) -> Any:
    """Return a page's oid without loading the page, which may have been undone."""
    # while a conflict is resolved, persistent objects are stubs that only know their oid
    return page._p_oid if isinstance(page, Persistent) else page.oid


def missing(these: Iterable[Payload], those: Iterable[Payload]) -> list[Payload]:
    """Return the payloads of ``these`` that are not in ``those``, each counted as often as it is there."""
    rest = [identity(payload) for payload in those]
    found = []
    for payload in these:
        try:
            rest.remove(identity(payload))
        except ValueError:
            found.append(payload)
    return found
