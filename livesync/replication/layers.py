"""A tree for what comes in an order that is not that of its keys, however much of it there is.

Where keys are scattered, as ids are, what is set in one transaction lies in as many pages as the tree has, or
as there are keys: the larger the tree, the more is written for each key. So what is new lies apart, in a tree
that stays small, and all of it goes down into the large one when it has become much: each page of that one
is written once for what many transactions have set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from heapq import merge
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final

from . import pagetrees
from .pages import Page, Value
from .pagetrees import PageTree, TextTree
from .sieve import Sieve

#: Pages of what is recent, at most: more of them go down.
MOST_RECENT: Final = 400

#: Pages of what is recent that go down together.
_TOGETHER: Final = 50

#: Pages of what is settled, beyond which there is a sieve: to read fewer of them takes no longer.
SIEVED: Final = 400

#: Keys that are put into a new sieve together.
_AT_ONCE: Final = 10_000

#: How many times as large as others the pages are that are seldom written.
_TIMES: Final = 4

#: Stands for what was taken out, in what is recent.
_GONE: Final = b""

_ABSENT: Final = object()


class LayeredTree(TextTree):
    """A mapping of text to bytes or text that is not empty, in order of keys.

    What is read is looked for in what is recent, and then in what is settled; a sieve tells of most keys that
    they are not there. Whoever lets what is recent go down writes each of its pages, so that nobody else sets
    anything in one of them meanwhile.

    Attributes:
        recent: What was set last; nothing stands for what was taken out.
        settled: All else; None: there is nothing.
        sieve: Has at least the keys of ``settled``; None: that is small.
        hides: Whether anything in ``recent`` was taken out.
    """

    def __init__(self) -> None:
        self.recent = PageTree()
        self.settled: PageTree | None = None
        self.sieve: Sieve | None = None
        self.hides = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        found = self.recent.get(key)
        if found is None and self.settled is not None and self._sifted((key,)):
            found = self.settled.get(key)
        return default if found is None or found == _GONE else found

    def pick(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those keys that are there; each page is read once."""
        wanted = list(keys)
        found = self.recent.pick(wanted)
        if self.settled is not None:
            found |= self.settled.pick(self._sifted([key for key in wanted if key not in found]))
        return {key: value for key, value in found.items() if value != _GONE} if self.hides else found

    def _sifted(self, keys: Collection[str]) -> Collection[str]:
        """Return those keys that may be settled."""
        return keys if self.sieve is None else self.sieve.find(keys)

    def __setitem__(self, key: str, value: Value) -> None:
        self.update({key: value})

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Take a key out and return its value, or ``default``.

        Raises:
            KeyError: It is not there, and no default is given.
        """
        found = self.get(key)
        if found is not None:
            self.update({key: None})
            return found
        if default is _ABSENT:
            raise KeyError(key)
        return default

    def update(
        self,
        rows: Mapping[str, Value | None],
        pause: Callable[[], object] | None = None,
        absent: Set[str] = frozenset(),
    ) -> None:
        """Set many keys, and take out those whose value is None; each page is changed once.

        Args:
            rows: What is set; nothing is empty.
            pause: Called after some pages: may let go of those that were changed.
            absent: Keys of which the transaction knows that they are not there.
        """
        if 2 * _size(rows) > MOST_RECENT * pagetrees.PAGE_SIZE:
            self._settle(pause, rows, absent)
            return
        if self.settled is not None:
            removed = [key for key, value in rows.items() if value is None]
            gone = self._sifted(removed) if removed else ()
            if gone:
                # what is taken out is kept nowhere; that it was is told to whoever sets it at the same time
                self.settled.update(dict.fromkeys(gone), pause)
                rows = {**rows, **dict.fromkeys(gone, _GONE)}
                if not self.hides:
                    self.hides = True
        has_grown = self.recent.update(rows, pause, frozenset() if self.hides else absent)
        if has_grown and len(self.recent.pages) > MOST_RECENT:
            self._settle(pause)

    def _settle(
        self,
        pause: Callable[[], object] | None,
        news: Mapping[str, Value | None] = MappingProxyType({}),
        absent: Set[str] = frozenset(),
    ) -> None:
        """Let all that is recent go down, and ``news`` with it, of which some is known not to be there."""
        if self.settled is None:
            self.settled = PageTree(_TIMES)
        numbers, coming = list[int](), sorted(news)
        for part, until in _parts(list(self.recent.pages)):
            rows = self._taken(part)
            end = len(coming) if until is None else bisect_left(coming, until)
            rows.update((key, news[key]) for key in coming[:end])
            del coming[:end]
            if self.sieve is not None:
                new = self.sieve.missing(rows)
                numbers += new.values()
                absent = new.keys()
            self.settled.update(rows, pause, absent)
        if self.hides:
            self.hides = False
        if self.sieve is not None:
            self.sieve.add(numbers, pause)
        elif len(self.settled.pages) > SIEVED:
            self.sieve = Sieve()
            keys = iter(self.settled)
            while some := list(islice(keys, _AT_ONCE)):
                self.sieve.add(self.sieve.missing(some).values(), pause)

    def _taken(self, leasts: list[str]) -> dict[str, Value | None]:
        """Take all out of some pages of what is recent, and return it, but for what says that a key is gone.

        Each of the pages is written, whatever it held, so that nobody sets anything there meanwhile.
        """
        rows: dict[str, Value | None] = {}
        for least in leasts:
            page = self.recent.pages[least]
            rows.update(page.rows())
            page.empty()
            if least:
                del self.recent.pages[least]
            else:
                self.recent.pages[least] = Page({})  # what is set later in this transaction lies in another
        return {key: value for key, value in rows.items() if value != _GONE} if self.hides else rows

    def items(self, low: str = "") -> Iterator[tuple[str, Any]]:
        """Yield keys from ``low`` on and their values, in order; the tree must not change meanwhile."""
        if self.settled is None:
            yield from self.recent.items(low)
            return
        last = None
        # what is recent comes first, where both have a key
        for key, value in merge(self.recent.items(low), self.settled.items(low), key=itemgetter(0)):
            if key != last:
                last = key
                if value != _GONE:
                    yield key, value

    def keys(self, after: str | None = None) -> Iterator[str]:
        """Yield the keys that come after one, or all, in order; the tree must not change meanwhile."""
        for key, _ in self.items(after or ""):
            if after is None or key > after:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _size(rows: Mapping[str, Value | None]) -> int:
    return sum(map(len, rows)) + sum(map(len, filter(None, rows.values())))


def _parts(leasts: list[str]) -> Iterator[tuple[list[str], str | None]]:
    """Yield some keys of pages after the other, and the one that comes next; None: there is none."""
    for begin in range(0, len(leasts), _TOGETHER):
        end = begin + _TOGETHER
        yield leasts[begin:end], leasts[end] if end < len(leasts) else None
