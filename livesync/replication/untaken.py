"""Objects of the application that cannot be taken into two-way sync: named, tried again, never overwritten.

One that has no document, or no item that can travel, does not keep the others from theirs. What is held of
it stays as it was. What a peer changed of it meanwhile is deferred: what the application has would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import HostFailed
from .stores.base import BaseDataStore

#: Under this fact of the store lie pairs of an object's id and the reason.
_FACT: Final = "untaken"

#: So many are named. Where there are more, it is not the objects.
MOST: Final = 100

#: What an item says has so many characters at most, since it travels in one piece.
MAX_CHARACTERS: Final = 8_000_000

_REASON: Final = 300


def untaken(store: BaseDataStore) -> dict[str, str]:
    """Return the ids of the objects that cannot be taken, in order, with the reasons; in a transaction."""
    return read(store.facts)


def read(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the same from the facts of a store."""
    return dict(facts.get(_FACT, ()))


def reason_of(exc: BaseException) -> str:
    """Return why an object cannot be taken, in one line."""
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:_REASON]


def too_long(payload: str) -> str | None:
    """Return why what an object says cannot travel; None: it can."""
    size = len(payload)
    return f"it says {size:,} characters; {MAX_CHARACTERS:,} can travel" if size > MAX_CHARACTERS else None


def note(store: BaseDataStore, found: Mapping[str, str | None]) -> None:
    """Note which objects could not be taken, and which could (None), within a transaction.

    Raises:
        HostFailed: There are too many of them.
    """
    before = untaken(store)
    after = {**before, **found}
    now = {object_id: reason for object_id, reason in sorted(after.items()) if reason is not None}
    if len(now) > MOST:
        first = next(iter(now))
        raise HostFailed(
            f"more than {MOST} objects of the application cannot be taken into two-way sync;"
            f" {first!r}: {now[first]}"
        )
    if now == before:
        return
    if now:
        store._set(store.facts, _FACT, tuple(now.items()))
    else:
        store._remove(store.facts, _FACT)


def check(store: BaseDataStore, object_id: str | None) -> None:
    """Make sure that the application has nothing of an object that could not be taken, within a transaction.

    Raises:
        HostFailed: It has.
    """
    if object_id is not None and _FACT in store.facts and object_id in (held := untaken(store)):
        raise HostFailed(
            f"what the application has of {object_id!r} cannot be taken, and is not overwritten:"
            f" {held[object_id]}"
        )
