"""Persistent classes for what is kept by scattered keys: pages of a few KB in key order.

Items come in an order that is not that of their ids, so each of them changes another place of a tree by id.
What such a change costs is the object that is written anew. A bucket of a BTree is pickled key by key; a page
is one bytes object, MessagePack, so it costs a fraction of that to write and to read, and its size is bounded
in bytes, not in keys. The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

import ormsgpack
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.POSException import ConflictError

#: How large a page may be, in bytes; a single value may be larger.
PAGE_SIZE: Final = 4_000

#: What lies in a page.
Value = bytes | str

_ABSENT: Final = object()


class Ranges(OOBTree):
    """An index that is read and written in order: nearly all that comes goes to the end of a range.

    What a session of many items costs is, beside the items, the number of objects that are loaded and written
    for them. So a bucket holds more than is usual; ``python -m bench sync`` shows what it is worth.
    """

    max_leaf_size = 60  # more would take more memory than it is worth


class Packed(Persistent):
    """One bytes object, written apart from the tree that it lies in.

    Attributes:
        data: The bytes; they never change.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __getstate__(self) -> bytes:
        return self.data

    def __setstate__(self, state: bytes) -> None:
        self.data = state


class Page(Persistent):
    """Some keys of a :class:`PageTree`, one after the other.

    Attributes:
        packed: All of them with their values, MessagePack; it stays so in memory, where it takes a fifth of
            what a dict does.
        changes: What was set since, or taken out (None).
        size: Of all of it, in bytes; more than it is where keys were replaced.
    """

    def __init__(self, rows: dict[str, Value]) -> None:
        self.hold(rows)

    def hold(self, rows: dict[str, Value]) -> None:
        """Hold just these."""
        self.packed = ormsgpack.packb(rows)
        self.changes: dict[str, Value | None] = {}
        self.size = len(self.packed)

    def __getstate__(self) -> bytes:
        if self.changes:
            packed = self._with_new_keys() or ormsgpack.packb(self.rows())
            # not through __setattr__, which would mark the object as changed
            self.__dict__.update(packed=packed, changes={}, size=len(packed))
        return self.packed

    def __setstate__(self, state: bytes) -> None:
        self.packed, self.changes, self.size = state, {}, len(state)

    def _with_new_keys(self) -> bytes | None:
        """Return all of it packed, where keys have only come: then what is packed already stays as it is.

        None: some were replaced or taken out.
        """
        for key, value in self.changes.items():
            if value is None or ormsgpack.packb(key) in self.packed:
                return None
        count, body = _opened_map(self.packed)
        more, new_body = _opened_map(ormsgpack.packb(self.changes))
        return _map_header(count + more) + body + new_body

    def rows(self) -> dict[str, Value]:
        """Return all keys and values, in no order."""
        rows: dict[str, Value] = ormsgpack.unpackb(self.packed)
        for key, value in self.changes.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return rows

    def get(self, key: str) -> Value | None:
        """Return the value of a key; None: it is not there."""
        if key in self.changes:
            return self.changes[key]
        if ormsgpack.packb(key) not in self.packed:
            return None  # most that is asked for is new: what is packed need not be unpacked for that
        found: Value | None = ormsgpack.unpackb(self.packed).get(key)
        return found

    def set(self, key: str, value: Value | None) -> None:
        """Set the value of a key; None takes it out."""
        self.changes[key] = value
        self.size += len(key) + len(value or "")  # marks the object as changed, too

    def _p_resolveConflict(self, old: bytes, committed: bytes, new: bytes) -> bytes:  # noqa: N802
        """Unite two changes that concern different keys, and took none away.

        Raises:
            ConflictError: They concern the same, or keys were deleted or moved to another page.
        """
        before, theirs, mine = (ormsgpack.unpackb(state) for state in (old, committed, new))
        if not (before.keys() <= theirs.keys() and before.keys() <= mine.keys()):
            raise ConflictError("keys have left a page that both transactions changed")
        for key, value in mine.items():
            if before.get(key) == value:
                continue
            if theirs.get(key) != before.get(key):
                raise ConflictError("both transactions changed the same key")
            theirs[key] = value
        return ormsgpack.packb(theirs)


class PageTree(Persistent):
    """A mapping of text to bytes or text, in order of keys, kept in pages.

    Attributes:
        pages: The least key that a page may hold -> the page. There is always one for "".
    """

    def __init__(self) -> None:
        self.pages = OOBTree({"": Page({})})

    def _place(self, key: str) -> tuple[str, Page]:
        least = self.pages.maxKey(key)
        return least, self.pages[least]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        found = self._place(key)[1].get(key)
        return default if found is None else found

    def __getitem__(self, key: str) -> Any:
        found = self._place(key)[1].get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: str) -> bool:
        return self._place(key)[1].get(key) is not None

    def __setitem__(self, key: str, value: Value) -> None:
        page = self._place(key)[1]
        page.set(key, value)
        if page.size > PAGE_SIZE:
            self._split(page, key)

    def _split(self, page: Page, newest: str) -> None:
        """Let the upper half go to a page of its own; of what grows at its end, only the newest key."""
        rows = page.rows()
        page.hold(rows)
        if page.size <= PAGE_SIZE or len(rows) == 1:
            return  # keys had been replaced
        keys = sorted(rows)
        cut = len(keys) - 1 if keys[-1] == newest else _middle(keys, rows)
        page.hold({key: rows[key] for key in keys[:cut]})
        self.pages[keys[cut]] = Page({key: rows[key] for key in keys[cut:]})

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Take a key out and return its value, or ``default``.

        Raises:
            KeyError: It is not there, and no default is given.
        """
        least, page = self._place(key)
        value = page.get(key)
        if value is None:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        page.set(key, None)
        if least and not page.rows():
            del self.pages[least]
        return value

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield keys and values, in order of keys; the tree must not change meanwhile."""
        for page in self.pages.values():
            yield from sorted(page.rows().items())

    def keys(self, after: str | None = None) -> Iterator[str]:
        """Yield the keys that come after one, or all, in order; the tree must not change meanwhile."""
        least = None if after is None else self.pages.maxKey(after)
        for page in self.pages.values(least):
            yield from sorted(key for key in page.rows() if after is None or key > after)

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return sum(len(page.rows()) for page in self.pages.values())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None


def _opened_map(packed: bytes) -> tuple[int, bytes]:
    """Return how many keys a packed map has, and what follows its header (MessagePack, map format family)."""
    first = packed[0]
    if first <= 0x8F:
        return first & 0x0F, packed[1:]
    length = 2 if first == 0xDE else 4
    return int.from_bytes(packed[1 : 1 + length], "big"), packed[1 + length :]


def _map_header(count: int) -> bytes:
    if count <= 15:
        return bytes([0x80 | count])
    return b"\xde" + count.to_bytes(2, "big") if count <= 0xFFFF else b"\xdf" + count.to_bytes(4, "big")


def _middle(keys: list[str], rows: dict[str, Value]) -> int:
    """Return how many of these keys make up half of what they all take; never none, never all."""
    sizes = list(accumulate(len(key) + len(rows[key]) for key in keys))
    return min(max(bisect_left(sizes, sizes[-1] / 2), 1), len(keys) - 1)
