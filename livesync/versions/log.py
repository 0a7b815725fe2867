"""The log: versions as people see them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Any, NamedTuple

from .names import Names, Places
from .store.contents import Contents
from .store.entries import Entries
from .store.records import Counts, Record
from .store.tree import NO_VERSION, key_of, parent_of, stretches

_PARENTS, _MESSAGE, _AUTHOR = attrgetter("parents"), attrgetter("message"), attrgetter("author")


class LogEntry(NamedTuple):
    """A version.

    Attributes:
        version, branch: What people call it.
        message, author: What was said about it.
        prev: (number, branch) of its first parent; None of the root.
        key: How this database finds it.
        record: What is kept of it.
        merged: (number, branch) of its other parents.
        is_pruned: Its contents were pruned: the record is all that is left.
    """

    version: int
    branch: str
    message: str
    author: str
    prev: tuple[int, str] | None
    key: int
    record: Record
    merged: tuple[tuple[int, str], ...] = ()
    is_pruned: bool = False

    @property
    def timestamp(self) -> datetime.datetime:
        """When it was made, aware, in UTC."""
        return datetime.datetime.fromtimestamp(self.record.time_us / 1_000_000, datetime.UTC)

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

    @property
    def parents(self) -> tuple[tuple[int, str], ...]:
        """(number, branch) of all parents, the first one first."""
        return () if self.prev is None else (self.prev, *self.merged)

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
    for portion, records in _portions(contents, places, keys):
        low, high, base, name = places.around(portion[0])
        if low < portion[-1] <= portion[0] < high and max(map(len, map(_PARENTS, records))) == 1:
            # many that follow one another on a branch, each with one parent: the fast way
            numbers = [key - low + base for key in portion]
            prevs = [(number - 1, name) for number in numbers]
            said = map(_MESSAGE, records), map(_AUTHOR, records)
            pruned = contents.are_pruned(portion)
            fields = zip(numbers, repeat(name), *said, prevs, portion, records, repeat(()), pruned)
            yield from map(tuple.__new__, repeat(LogEntry), fields)
            continue
        for key, record in zip(portion, records):
            number, name = places[key]
            prev = _prev(contents, places, key)
            merged = () if len(record.parents) < 2 else _places(contents, places, record.parents[1:])
            said_by = record.message, record.author
            yield LogEntry(number, name, *said_by, prev, key, record, merged, contents.is_pruned(key))


def _portions(
    contents: Contents, places: Places, keys: Iterable[int]
) -> Iterator[tuple[list[int], list[Record]]]:
    """Yield what is read in portions; the first version of a branch, whose parent is elsewhere, by itself."""
    for portion, records in contents.records.read(keys):
        if len(portion) > 1 and portion[-1] == places.around(portion[-1])[0]:
            yield portion[:-1], records[:-1]
            yield portion[-1:], records[-1:]
        else:
            yield portion, records


def _prev(contents: Contents, places: Places, key: int) -> tuple[int, str] | None:
    parent = parent_of(contents.forks, key)
    return None if parent == NO_VERSION else places[parent]


def _places(contents: Contents, places: Places, ids: Iterable[bytes]) -> tuple[tuple[int, str], ...]:
    keys = contents.stored.keys
    return tuple(places[keys[one]] if one in keys else (-1, "") for one in ids)


def log_entries(contents: Contents, places: Places, key: int) -> list[LogEntry]:
    """Return the versions from ``key`` to the root along first parents, the newest first."""
    lines = stretches(contents.forks, key)
    keys = (range(key_of(line, position), key_of(line, 0) - 1, -1) for line, position in lines)
    return list(_entries(contents, places, chain.from_iterable(keys)))


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
    return list(_entries(contents, places, islice(_keys(contents, document_id, key), limit)))


def _keys(contents: Contents, document_id: str, key: int) -> Iterator[int]:
    history = contents.histories.get(document_id)
    if history is not None:
        yield from Entries(history).keys_on_way(contents.forks, key)
    if contents.first_bytes(document_id) is not None:
        *_, (line, _) = stretches(contents.forks, key)
        yield key_of(line, 0)


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
