"""Ranges: an index by partition and stamp, in trees of pages.

The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .pages import Packed
from .pagetrees import PageTree

#: (partition, stamp, item id): where something lies in :class:`Ranges`.
RangeKey = tuple[str, int, str]

#: What lies within a page of :class:`Ranges`, in bytes at most.
LARGE: Final = 2_000

#: Stands in a page for what lies apart.
_APART: Final = b"\0"

_ABSENT: Final = object()


class Ranges(Persistent):
    """An index by partition and stamp, which is read and written in order: what is new goes to a range's end.

    A key is ``(partition, stamp, item id)``. What is large lies apart from its page, which is written anew
    with each of its keys that changes.

    Attributes:
        rows: All of it, by :func:`_key_text`.
        large: What lies apart, by the same keys.
    """

    def __init__(self) -> None:
        self.rows = PageTree()
        self.large = OOBTree()

    def get(self, key: RangeKey, default: Any = None) -> Any:
        """Return the bytes of a key, or ``default``."""
        text = _key_text(key)
        found = self.rows.get(text)
        return default if found is None else self._whole(text, found)

    def __getitem__(self, key: RangeKey) -> bytes:
        text = _key_text(key)
        return self._whole(text, self.rows[text])

    def pick(self, keys: Iterable[RangeKey]) -> dict[RangeKey, bytes]:
        """Return the bytes of those keys that are there; each page is read once."""
        texts = {_key_text(key): key for key in keys}
        return {texts[text]: self._whole(text, found) for text, found in self.rows.pick(texts).items()}

    def _whole(self, text: str, found: bytes) -> bytes:
        return self.large[text].data if found == _APART else found

    def __setitem__(self, key: RangeKey, value: bytes) -> None:
        text = _key_text(key)
        self.rows.append(text, self._within(text, value))

    def extend(self, rows: Mapping[RangeKey, bytes]) -> None:
        """Set many keys, each after those of its partition; each page is changed once."""
        texts = ((_key_text(key), value) for key, value in rows.items())
        self.rows.extend({text: self._within(text, value) for text, value in texts})

    def update(self, rows: Mapping[RangeKey, bytes | None]) -> None:
        """Set many keys, and take out those whose value is None; each page is changed once."""
        within: dict[str, bytes | None] = {}
        for key, value in rows.items():
            text = _key_text(key)
            if value is not None:
                within[text] = self._within(text, value)
                continue
            within[text] = None
            if self.large:
                self.large.pop(text, None)
        self.rows.update(within)

    def _within(self, text: str, value: bytes) -> bytes:
        """Return what lies in the page for a value, which lies apart where it is large."""
        if self.large:
            self.large.pop(text, None)
        if len(value) > LARGE or value == _APART:
            self.large[text] = Packed(value)
            return _APART
        return value

    def pop(self, key: RangeKey, default: Any = _ABSENT) -> Any:
        """Take a key out and return its bytes, or ``default``.

        Raises:
            KeyError: It is not there, and no default is given.
        """
        text = _key_text(key)
        found = self.rows.pop(text, default)
        return self.large.pop(text).data if found == _APART else found

    def items(self, low: RangeKey, end: str | None) -> Iterator[tuple[RangeKey, bytes]]:
        """Yield keys from ``low`` on, of partitions below ``end`` (None: all), in order, and their bytes."""
        last = None if end is None else _end_text(end)
        for text, found in self.rows.items(_key_text(low)):
            if last is not None and text >= last:
                return
            partition, stamp, item_id = text.split("\0", 2)
            yield (partition, int(stamp, 16), item_id), self._whole(text, found)


def _key_text(key: RangeKey) -> str:
    """Return a key as text; texts are in the order of the keys, since no partition holds a "\\0"."""
    return f"{key[0]}\0{key[1]:016x}\0{key[2]}"


def _end_text(end: str) -> str:
    """Return the text below which the keys of all partitions below ``end`` lie."""
    return end[:-1] + "\1" if end.endswith("\0") else end
