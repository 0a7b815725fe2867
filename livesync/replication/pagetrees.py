"""Trees of pages: a mapping in order of keys, whose pages are split as they become too large.

The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import accumulate, pairwise
from typing import Any, Final

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .pages import Page, Value

#: How large a page may be, in bytes; a single value may be larger.
PAGE_SIZE: Final = 8_000

#: What stands around a key and its value in a page, in bytes.
_AROUND: Final = 4

#: Pages that are read or changed one after the other, after which there is a pause.
PAUSE_PAGES: Final = 500

_ABSENT: Final = object()


class TextTree(Persistent, ABC):
    """What trees whose keys are text have in common; no value is None."""

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""

    @abstractmethod
    def keys(self, after: str | None = None) -> Iterator[str]:
        """Yield the keys that come after one, or all, in order; the tree must not change meanwhile."""

    def __getitem__(self, key: str) -> Any:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None


class PageTree(TextTree):
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

    def __setitem__(self, key: str, value: Value) -> None:
        least, page = self._place(key)
        page.set(key, value)
        if page.size > self._page_size:
            self._split(least, page, key)

    def append(self, key: str, value: Value) -> None:
        """Set a key after which, and before what follows it now, more are likely to come."""
        least, page = self._place(key)
        page.set(key, value)
        if page.size > self._page_size:
            self._split(least, page, key, is_followed=True)

    def extend(self, rows: Mapping[str, Value]) -> None:
        """Set many keys, after which more are likely to come; each page is changed once."""
        for least, page, part in list(self._by_page(rows)):
            page.set_many({key: rows[key] for key in part})
            if page.size > self._page_size:
                self._split(least, page, part[-1], is_followed=True)

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
            page.set_many({key: rows[key] for key in part}, absent >= set(part))
            if page.size > self._page_size:
                has_grown = True
                page = self._split(least, page, part[-1])
            changed.append(page)
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

    def _split(self, least: str, page: Page, newest: str, is_followed: bool = False) -> Page:
        """Let what is too much for a page go to others, and return the one that is in its place.

        What grows at its end fills its pages; where more is likely to follow the newest key, what comes after
        it goes; otherwise, each gets as much. A page that others may be changing is left empty, so that they
        are told: what they set may belong to another page now, though nothing that they know has left it.
        """
        rows = page.rows()
        page.hold(rows)
        if page.size <= self._page_size or len(rows) == 1:
            return page  # keys had been replaced
        keys = sorted(rows)
        if keys[-1] == newest:
            cuts = _full(keys, rows, self._page_size)
        elif is_followed:
            cuts = _full_until(keys, rows, bisect_left(keys, newest) + 1, self._page_size)
        else:
            cuts = _cuts(keys, rows, self._page_size)
        first = {key: rows[key] for key in keys[: cuts[0]]}
        if page._p_jar is None:
            page.hold(first)
        else:
            page.empty()
            page = self.pages[least] = Page(first)
        for begin, end in pairwise((*cuts, len(keys))):
            self.pages[keys[begin]] = Page({key: rows[key] for key in keys[begin:end]})
        return page

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

    def __len__(self) -> int:
        return sum(len(page.rows()) for page in self.pages.values())


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
