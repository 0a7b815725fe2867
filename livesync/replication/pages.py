"""Persistent classes for what is kept by scattered keys: pages of a few KB in key order.

Items come in an order that is not that of their ids, so each of them changes another place of a tree by id.
What such a change costs is the object that is written anew. A bucket of a BTree is pickled key by key; a page
is one bytes object, MessagePack, so it costs a fraction of that to write and to read, and its size is bounded
in bytes, not in keys. The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import ormsgpack
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.POSException import ConflictError

#: What a page may hold, in bytes of values and characters of keys; a single value may be larger.
PAGE_SIZE: Final = 4_000

#: What lies in a page.
Value = bytes | str

_ABSENT: Final = object()


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
        rows: Key -> value.
        size: Of all of them.
    """

    def __init__(self, rows: dict[str, Value]) -> None:
        self._hold(rows)

    def _hold(self, rows: dict[str, Value]) -> None:
        self.rows = rows
        self.size = sum(map(len, rows)) + sum(map(len, rows.values()))

    def __getstate__(self) -> bytes:
        return ormsgpack.packb(self.rows)

    def __setstate__(self, state: bytes) -> None:
        self._hold(ormsgpack.unpackb(state))

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
        pages = self.pages
        return pages[pages.maxKey(key)].rows.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self._place(key)[1].rows[key]

    def __contains__(self, key: str) -> bool:
        return key in self._place(key)[1].rows

    def __setitem__(self, key: str, value: Value) -> None:
        _, page = self._place(key)
        before = page.rows.get(key)
        page.size += len(value) + (len(key) if before is None else -len(before))
        page.rows[key] = value
        page._p_changed = True
        if page.size > PAGE_SIZE and len(page.rows) > 1:
            self._split(page, key)

    def _split(self, page: Page, newest: str) -> None:
        """Let the upper half go to a page of its own; of what grows at its end, only the newest key."""
        rows = page.rows
        keys = sorted(rows)
        cut = len(keys) - 1
        if keys[-1] != newest:
            kept = 0
            for cut, key in enumerate(keys):
                kept += len(key) + len(rows[key])
                if kept > page.size // 2:
                    break
            cut = min(max(cut, 1), len(keys) - 1)
        page._hold({key: rows[key] for key in keys[:cut]})
        self.pages[keys[cut]] = Page({key: rows[key] for key in keys[cut:]})

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Take a key out and return its value, or ``default``.

        Raises:
            KeyError: It is not there, and no default is given.
        """
        least, page = self._place(key)
        if key not in page.rows:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        value = page.rows.pop(key)
        page.size -= len(key) + len(value)
        page._p_changed = True
        if not page.rows and least:
            del self.pages[least]
        return value

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield keys and values, in order of keys; the tree must not change meanwhile."""
        for page in self.pages.values():
            yield from sorted(page.rows.items())

    def __iter__(self) -> Iterator[str]:
        for page in self.pages.values():
            yield from sorted(page.rows)

    def __len__(self) -> int:
        return sum(len(page.rows) for page in self.pages.values())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None
