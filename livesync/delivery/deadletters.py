"""Dead letters as they are kept: one an object, the last word on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from ..track.stored import StoredAgent, StoredBody
from .record import DeadRecord

#: A longer document is kept by its size and digest only.
MAX_BODY_BYTES: Final = 64 * 1024


def store_dead(stored: StoredAgent, dead: Iterable[DeadRecord], delivered: Iterable[str], now: float) -> None:
    """Keep dead records as dead letters, and clear those of objects that were delivered since.

    A letter is a dict: ``op``, ``position``, ``reason``, ``actions`` (sorted), ``time`` and
    ``first_time`` (epoch seconds), ``attempts``; ``body`` (a StoredBody of the document's JSON, None
    where there was none or it is long), ``size`` (bytes) and ``digest`` of it.
    """
    dead = list(dead)
    for object_id in set(delivered) - {record.object_id for record in dead}:
        stored.dead.pop(object_id, None)
    for record in dead:
        known = stored.dead.get(record.object_id)
        body = record.body
        stored.dead[record.object_id] = {
            "op": record.op.value,
            "position": record.position,
            "reason": record.reason,
            "actions": tuple(sorted(record.actions)),
            "time": now,
            # one that schema 1 has kept has no first time
            "first_time": now if known is None else known.get("first_time", known["time"]),
            "attempts": 1 if known is None else known["attempts"] + 1,
            "size": 0 if body is None else len(body),
            "digest": "" if body is None else hashlib.blake2b(body, digest_size=16).hexdigest(),
            "body": StoredBody(body) if body is not None and len(body) <= MAX_BODY_BYTES else None,
        }
