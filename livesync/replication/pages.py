"""Persistent classes for what there is one of for each item: pages of a few KB in key order.

Items come in an order that is not that of their ids, so each of them changes another place of a tree by id.
What such a change costs is the object that is written anew. A bucket of a BTree is pickled key by key; a page
is one bytes object, MessagePack, so it costs a fraction of that to write, to read and to keep in memory, and
its size is bounded in bytes, not in keys. The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import accumulate, pairwise
from typing import Any, Final

import ormsgpack
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.POSException import ConflictError

#: How large a page may be, in bytes; a single value may be larger.
PAGE_SIZE: Final = 8_000

#: What lies in a page.
Value = bytes | str

#: (partition, stamp, item id): where something lies in :class:`Ranges`.
RangeKey = tuple[str, int, str]

#: What lies within a page of :class:`Ranges`, in bytes at most.
LARGE: Final = 2_000

#: What stands around a key and its value in a page, in bytes.
_AROUND: Final = 4

#: Pages that are read or changed one after the other, after which there is a pause.
PAUSE_PAGES: Final = 500

#: To look for so many keys in what is packed takes longer than to unpack it.
_MANY: Final = 3

#: Of so many keys that are looked up in a page together, it is remembered what they have there.
_FEW: Final = 6

#: An empty map, written in another way than MessagePack's shortest.
_EMPTIED: Final = b"\xde\x00\x00"

#: Stands in a page for what lies apart.
_APART: Final = b"\0"

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
        packed: All of them with their values, MessagePack; it stays so in memory, where it takes a fifth of
            what a dict does.
        changes: What was set since, or taken out (None).
        only_new: All of that are keys that ``packed`` is known not to have; False: nobody has looked.
        size: Of all of it, in bytes; more than it is where keys were replaced.
        _v_found: What a few keys have in ``packed``, that were looked up there last.
    """

    _v_found: dict[str, Value] | None = None

    def __init__(self, rows: dict[str, Value]) -> None:
        self.hold(rows)

    def hold(self, rows: dict[str, Value]) -> None:
        """Hold just these."""
        self.packed = ormsgpack.packb(rows)
        self.changes: dict[str, Value | None] = {}
        self.only_new = False
        self.size = len(self.packed)
        self._v_found = None

    def empty(self) -> None:
        """Hold nothing, since all of it went elsewhere; whoever changes the page meanwhile conflicts."""
        self.hold({})
        self.packed = _EMPTIED

    def __getstate__(self) -> bytes:
        if self.changes:
            packed = self._with_changes() or ormsgpack.packb(self.rows())
            # not through __setattr__, which would mark the object as changed
            self.__dict__.update(packed=packed, changes={}, only_new=False, size=len(packed), _v_found=None)
        return self.packed

    def __setstate__(self, state: bytes) -> None:
        self.packed, self.changes, self.only_new, self.size = state, {}, False, len(state)
        self._v_found = None

    def _with_changes(self) -> bytes | None:
        """Return all of it packed, where keys have only come, or have another value than was looked up.

        Then what is packed already stays as it is, but for those values. None: it is to be packed anew.
        """
        packed, found = self.packed, self._v_found or {}
        new: dict[str, Value] = {}
        if self.only_new:
            new = {key: value for key, value in self.changes.items() if value is not None}
        elif len(self.changes) >= _MANY and not self.changes.keys() <= found.keys():
            return None
        for key, value in () if self.only_new else self.changes.items():
            packed_key = ormsgpack.packb(key)
            if value is None:
                return None
            if key in found:
                was = packed_key + ormsgpack.packb(found[key])
                place = packed.rfind(was)
                if place < 0 or packed.rfind(was, 0, place + len(was) - 1) >= 0:
                    return None  # the same bytes are within another value
                packed = packed[:place] + packed_key + ormsgpack.packb(value) + packed[place + len(was) :]
            elif self.packed.rfind(packed_key) < 0:
                new[key] = value
            else:
                return None
        if not new:
            return packed
        count, body = _opened_map(packed)
        more, new_body = _opened_map(ormsgpack.packb(new))
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

    def is_filled(self) -> bool:
        """Tell whether it holds anything."""
        gone = list(self.changes.values()).count(None)
        return gone < _count_of_map(self.packed) or bool(self.rows())

    def get(self, key: str) -> Value | None:
        """Return the value of a key; None: it is not there."""
        if key in self.changes:
            return self.changes[key]
        if self.packed.rfind(ormsgpack.packb(key)) < 0:  # takes half as long as "in", with ids
            return None  # most that is asked for is new: what is packed need not be unpacked for that
        found: Value | None = ormsgpack.unpackb(self.packed).get(key)
        if found is not None:
            known = self._v_found or {}
            self._v_found = {**known, key: found} if len(known) < _FEW else {key: found}
        return found

    def pick(self, keys: list[str]) -> dict[str, Value]:
        """Return the values of those keys that are there."""
        if len(keys) < _MANY:
            found = {key: self.get(key) for key in keys}
            return {key: value for key, value in found.items() if value is not None}
        rows = self.rows()
        picked = {key: rows[key] for key in keys if key in rows}
        if len(keys) <= _FEW and not self.changes:
            self._v_found = picked
        return picked

    def set(self, key: str, value: Value | None) -> None:
        """Set the value of a key; None takes it out."""
        self.set_many({key: value})

    def set_many(self, rows: Mapping[str, Value | None], are_new: bool = False) -> None:
        """Set the values of many keys; None takes one out.

        Args:
            rows: What is set.
            are_new: The transaction has looked, and none of them is there: nobody need look again.
        """
        self.only_new = are_new and (self.only_new or not self.changes)
        size = sum(map(len, rows)) + sum(map(len, filter(None, rows.values())))
        for key, value in (self._v_found or {}).items():
            if key in rows and key not in self.changes:
                size -= len(key) + len(value)
        self.changes.update(rows)
        self.size += size  # marks the object as changed, too

    def _p_resolveConflict(self, old: bytes, committed: bytes, new: bytes) -> bytes:  # noqa: N802
        """Unite two changes that concern different keys, and took none away.

        Raises:
            ConflictError: They concern the same, or keys were deleted or moved to another page.
        """
        if _EMPTIED in (committed, new):
            raise ConflictError("all that lay in a page has left it, as another transaction changed it")
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
        times: How many times as large as others its pages may be: what is seldom written, and then in many
            places at once, lies in fewer.
    """

    times: int = 1

    def __init__(self, times: int = 1) -> None:
        self.pages = OOBTree({"": Page({})})
        if times != 1:
            self.times = times

    @property
    def _page_size(self) -> int:
        return PAGE_SIZE * self.times

    @property
    def _pause_pages(self) -> int:
        return max(1, PAUSE_PAGES // self.times)

    def _place(self, key: str) -> tuple[str, Page]:
        least = self.pages.maxKey(key)
        return least, self.pages[least]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        page = self._place(key)[1]
        found = page.get(key)
        self._let_go(page)
        return default if found is None else found

    def __getitem__(self, key: str) -> Any:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: str, value: Value) -> None:
        page = self._place(key)[1]
        page.set(key, value)
        if page.size > self._page_size:
            self._split(page, key)

    def append(self, key: str, value: Value) -> None:
        """Set a key after which, and before what follows it now, more are likely to come."""
        page = self._place(key)[1]
        page.set(key, value)
        if page.size > self._page_size:
            self._split(page, key, is_followed=True)

    def extend(self, rows: Mapping[str, Value]) -> None:
        """Set many keys, after which more are likely to come; each page is changed once."""
        for _, page, part in list(self._by_page(rows)):
            page.set_many({key: rows[key] for key in part})
            if page.size > self._page_size:
                self._split(page, part[-1], is_followed=True)

    def pick(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those keys that are there; each page is read once."""
        found: dict[str, Any] = {}
        for number, (_, page, part) in enumerate(self._by_page(keys), 1):
            found.update(page.pick(part))
            self._let_go(page)
            if number % self._pause_pages == 0 and self._p_jar is not None:
                self._p_jar.cacheGC()
        return found

    def update(
        self,
        rows: Mapping[str, Value | None],
        pause: Callable[[], object] | None = None,
        absent: Set[str] = frozenset(),
    ) -> bool:
        """Set many keys, and take out those whose value is None; each page is changed once.

        The last page comes first: it is the one that was read last, and most likely still in memory.

        Args:
            rows: What is set.
            pause: Called after every ``PAUSE_PAGES`` pages: may let go of those that were changed.
            absent: Keys of which the transaction knows that they are not there.

        Returns:
            Whether a page has become too large, so that there may be more of them.
        """
        has_grown = False
        changed: list[Page] = []
        for number, (least, page, part) in enumerate(reversed(list(self._by_page(rows))), 1):
            if pause is not None and number % self._pause_pages == 0:
                self._write_early(changed, pause)
            changed.append(page)
            page.set_many({key: rows[key] for key in part}, absent >= set(part))
            if page.size > self._page_size:
                has_grown = True
                self._split(page, part[-1])
            if least and not page.is_filled():
                del self.pages[least]
        if pause is not None and self.times > 1:
            self._write_early(changed, pause)
        return has_grown

    def _write_early(self, changed: list[Page], pause: Callable[[], object]) -> None:
        pause()
        for page in changed:
            self._let_go(page)
        changed.clear()

    def _let_go(self, page: Page) -> None:
        """Take a large page out of memory, unless it is changed and not written yet."""
        if self.times > 1:
            page._p_deactivate()

    def _by_page(self, keys: Iterable[str]) -> Iterator[tuple[str, Page, list[str]]]:
        """Yield the pages that these keys lie in, or would, with what is the least that each may hold."""
        wanted = sorted(keys)
        begin = 0
        while begin < len(wanted):
            least = self.pages.maxKey(wanted[begin])
            following = iter(self.pages.keys(least, excludemin=True))
            end = next(following, None)
            after = len(wanted) if end is None else bisect_left(wanted, end, begin)
            yield least, self.pages[least], wanted[begin:after]
            begin = after

    def _split(self, page: Page, newest: str, is_followed: bool = False) -> None:
        """Let what is too much for a page go to others.

        What grows at its end fills its pages; where more is likely to follow the newest key, what comes after
        it goes; otherwise, each gets as much.
        """
        rows = page.rows()
        page.hold(rows)
        if page.size <= self._page_size or len(rows) == 1:
            return  # keys had been replaced
        keys = sorted(rows)
        if keys[-1] == newest:
            cuts = _full(keys, rows, self._page_size)
        elif is_followed:
            cuts = _full_until(keys, rows, bisect_left(keys, newest) + 1, self._page_size)
        else:
            cuts = _cuts(keys, rows, self._page_size)
        page.hold({key: rows[key] for key in keys[: cuts[0]]})
        for begin, end in pairwise((*cuts, len(keys))):
            self.pages[keys[begin]] = Page({key: rows[key] for key in keys[begin:end]})

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
        if least and not page.is_filled():
            del self.pages[least]
        return value

    def items(self, low: str = "") -> Iterator[tuple[str, Any]]:
        """Yield keys from ``low`` on and their values, in order; the tree must not change meanwhile."""
        for page in self.pages.values(self.pages.maxKey(low)):
            rows = sorted(page.rows().items())
            yield from rows[bisect_left(rows, (low,)) :] if low else rows

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


def _count_of_map(packed: bytes) -> int:
    """Return how many keys a packed map has."""
    first = packed[0]
    return first & 0x0F if first <= 0x8F else int.from_bytes(packed[1 : 3 if first == 0xDE else 5], "big")


def _opened_map(packed: bytes) -> tuple[int, bytes]:
    """Return how many keys a packed map has, and what follows its header (MessagePack, map format family)."""
    first = packed[0]
    return _count_of_map(packed), packed[1 if first <= 0x8F else 3 if first == 0xDE else 5 :]


def _map_header(count: int) -> bytes:
    if count <= 15:
        return bytes([0x80 | count])
    return b"\xde" + count.to_bytes(2, "big") if count <= 0xFFFF else b"\xdf" + count.to_bytes(4, "big")


def _cuts(keys: list[str], rows: dict[str, Value], most: int) -> list[int]:
    """Return where to cut these keys into as few parts as fit into pages, of one size; never at an end."""
    sizes = list(accumulate(_sizes(keys, rows)))
    parts = max(2, -(-sizes[-1] // most))
    found = (bisect_left(sizes, sizes[-1] * part / parts) for part in range(1, parts))
    return sorted({min(max(cut, 1), len(keys) - 1) for cut in found})


def _full(keys: list[str], rows: dict[str, Value], most: int) -> list[int]:
    """Return where to cut these keys into pages that are full, but for the last; never at an end."""
    return _filled(keys, rows, most) or [len(keys) - 1]


def _full_until(keys: list[str], rows: dict[str, Value], end: int, most: int) -> list[int]:
    """Return where to cut these keys, so that those before ``end`` fill pages, and what follows is apart."""
    return [*_filled(keys[:end], rows, most), end]


def _filled(keys: list[str], rows: dict[str, Value], most: int) -> list[int]:
    found, size = [], 0
    for number, own in enumerate(_sizes(keys, rows)):
        size += own
        if number and size > most:
            found.append(number)
            size = own
    return found


def _sizes(keys: list[str], rows: dict[str, Value]) -> list[int]:
    return [len(key) + len(rows[key]) + _AROUND for key in keys]
