"""The log: versions as people see them."""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

from .names import Names, Places
from .store.blocks import Block, Portion
from .store.contents import Contents
from .store.entries import Entries
from .store.records import Counts, Record
from .store.tree import NO_VERSION, key_of, parent_of, stretches


class _Common(NamedTuple):
    """What versions have in common whose records lie in one block.

    Attributes:
        block: Their records, as they were when they were read.
        first: Key of the block's first one.
        branch: What people call it.
        ahead: How far their numbers are ahead of their keys.
        pruned: Keys of those whose contents were pruned.
        origins: None: each comes after the one before it; else (number, branch) of the parents of all.
    """

    block: Block
    first: int
    branch: str
    ahead: int
    pruned: Container[int]
    origins: tuple[tuple[int, str], ...] | None = None


class LogEntry(NamedTuple):
    """A version.

    Attributes:
        key: How this database finds it.
        message, author: What was said about it.
        time_us: When it was made, in microseconds of the epoch.
        common: What tells the rest, when it is asked for.
    """

    key: int
    message: str
    author: str
    time_us: int
    common: _Common

    @property
    def version(self) -> int:
        """Its number on its branch; -1 where it has no name."""
        return self.key + self.common.ahead

    @property
    def branch(self) -> str:
        """The branch that it belongs to; "" where it has no name."""
        return self.common.branch

    @property
    def parents(self) -> tuple[tuple[int, str], ...]:
        """(number, branch) of all parents, the first one first."""
        origins = self.common.origins
        return ((self.version - 1, self.branch),) if origins is None else origins

    @property
    def prev(self) -> tuple[int, str] | None:
        """(number, branch) of its first parent; None of the root."""
        return next(iter(self.parents), None)

    @property
    def merged(self) -> tuple[tuple[int, str], ...]:
        """(number, branch) of its other parents."""
        return self.parents[1:]

    @property
    def is_pruned(self) -> bool:
        """Whether its contents were pruned: the record is all that is left."""
        return self.key in self.common.pruned

    @property
    def record(self) -> Record:
        """What is kept of it.

        Raises:
            InvalidCollectionState: Its metadata are damaged.
        """
        found = self.common.block.record(self.key - self.common.first)
        assert found is not None, "what has no record gets no entry"
        return found

    @property
    def timestamp(self) -> datetime.datetime:
        """When it was made, aware, in UTC."""
        return datetime.datetime.fromtimestamp(self.time_us / 1_000_000, datetime.UTC)

    @property
    def id(self) -> str:
        """What identifies it in every database, as hexadecimal digits."""
        return self.record.id.hex()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Plain values of the application's own."""
        return self.record.metadata

    @property
    def counts(self) -> Counts:
        """How many documents it created, changed and deleted."""
        return Counts(*self.record.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogEntry):
            return NotImplemented
        return self._told() == other._told() and self.record == other.record

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._told())

    def _told(self) -> tuple[Any, ...]:
        return self.key, self.version, self.branch, self.parents, self.is_pruned

    def __str__(self) -> str:
        place = f"{self.version} ({self.branch}) " if self.branch else ""
        lines = [f"version {place}{self.id[:12]}"]
        if len(self.parents) > 1:
            ids = (parent.hex()[:12] for parent in self.record.parents)
            shown = (f"{number} ({name})" if name else one for (number, name), one in zip(self.parents, ids))
            lines.append("Merge:   " + ", ".join(shown))
        if self.author:
            lines.append(f"Author:  {self.author}")
        lines.append(f"Date:    {self.timestamp:%Y-%m-%d %H:%M:%S %z}")
        if self.is_pruned:
            lines.append("Pruned:  this record is all that is left")
        return "\n".join([*lines, "", *(f"    {line}" for line in self.message.splitlines())])


def log_entry(contents: Contents, places: Places, key: int) -> LogEntry:
    """Return one version."""
    return next(_entries(contents, places, [key]))


def _entries(contents: Contents, places: Places, keys: Iterable[int]) -> Iterator[LogEntry]:
    """Yield versions in the order of their keys; what has no record is passed over."""
    return chain.from_iterable(_many(contents, places, keys))


def _many(contents: Contents, places: Places, keys: Iterable[int]) -> Iterator[Iterable[LogEntry]]:
    for portion in _portions(contents, places, keys):
        found, at, block = portion
        first = found[0] - at[0]
        pruned = contents.pruned_of(found)
        low, high, number, name = places.around(found[0])
        if low < found[-1] <= found[0] < high and not block.has_merges(at):
            # many that follow one another on a branch: the fast way
            common = _Common(block, first, name, number - low, pruned)
            said = (map(column.__getitem__, at) for column in (block.messages, block.authors, block.times))
            yield map(tuple.__new__, repeat(LogEntry), zip(found, *said, repeat(common)))
            continue
        for key, place in zip(found, at):
            number, name = places[key]
            others = block.parents[place] or ()
            origins = (*_before(contents, places, key), *_places(contents, places, others[1:]))
            common = _Common(block, first, name, number - key, pruned, origins)
            yield (LogEntry(key, block.messages[place], block.authors[place], block.times[place], common),)


def _portions(contents: Contents, places: Places, keys: Iterable[int]) -> Iterator[Portion]:
    """Yield what is read in portions; the first version of a branch, whose parent is elsewhere, by itself."""
    for portion in contents.records.read(keys):
        found, at, block = portion
        if len(found) > 1 and found[-1] == places.around(found[-1])[0]:
            yield Portion(found[:-1], at[:-1], block)
            yield Portion(found[-1:], at[-1:], block)
        else:
            yield portion


def _before(contents: Contents, places: Places, key: int) -> tuple[tuple[int, str], ...]:
    parent = parent_of(contents.forks, key)
    return () if parent == NO_VERSION else (places[parent],)


def _places(contents: Contents, places: Places, ids: Sequence[bytes]) -> tuple[tuple[int, str], ...]:
    if not ids:
        return ()
    keys = contents.stored.keys
    return tuple(places[keys[one]] if one in keys else (-1, "") for one in ids)


def log_entries(contents: Contents, places: Places, key: int, limit: int | None = None) -> list[LogEntry]:
    """Return the versions from ``key`` to the root along first parents, the newest first.

    Only the newest ones are read where ``limit`` says how many at most.
    """
    lines = stretches(contents.forks, key)
    keys = (range(key_of(line, position), key_of(line, 0) - 1, -1) for line, position in lines)
    return list(_entries(contents, places, islice(chain.from_iterable(keys), limit)))


def documents_history(
    contents: Contents, places: Places, document_id: str, key: int, limit: int | None = None
) -> list[LogEntry]:
    """Return the versions on the way from ``key`` to the root that changed a document, the newest first.

    Only what these need is read where ``limit`` says how many at most. What a pruned version changed stands
    with the next one that has contents.

    Raises:
        VersionPruned: The contents of ``key`` were pruned.
    """
    contents.check_kept(key)
    keys = chain.from_iterable(_keys(contents, document_id, key))
    return list(_entries(contents, places, islice(keys, limit)))


def _keys(contents: Contents, document_id: str, key: int) -> Iterator[Iterable[int]]:
    history = contents.histories.get(document_id)
    if history is not None:
        yield from Entries(history).keys_on_way(contents.forks, key)
    if contents.first_bytes(document_id) is not None:
        *_, (line, _) = stretches(contents.forks, key)
        yield (key_of(line, 0),)


def names_of(names: Names) -> dict[int, list[str]]:
    """Return what points at versions, by key: HEAD, the branches whose tips they are, and tags."""
    found: dict[int, list[str]] = {}
    head_branch, head = names.head
    for name, branch in sorted(names.branches().items()):
        is_current = name == head_branch and not names.is_detached
        found.setdefault(branch.tip, []).append(f"HEAD -> {name}" if is_current else name)
    if names.is_detached:
        found.setdefault(head, []).insert(0, "HEAD")
    for name, key in sorted(names.tags.items()):
        found.setdefault(key, []).append(f"tag: {name}")
    return found
