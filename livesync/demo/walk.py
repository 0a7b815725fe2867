"""Everything in the catalogue by its path, in the order of the paths as plain text.

That is not the order of the tree: ``a-b`` comes before ``a/x``, as a hyphen does before a slash, so what
lies in ``a`` is to be merged with what comes after ``a``. The walk holds as many places of the
tree at once as there are names that begin with one another, and loads what it yields.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from .model import Catalogue, Container, Entry

# Paths differ, so neither entries nor walks are ever compared.
_Step = tuple[str, Entry, Iterator[tuple[str, Entry]]]


def by_path(catalogue: Catalogue, after: str | None = None) -> Iterator[Entry]:
    """Yield every entry whose path comes after ``after`` (None: all), in the order of the paths."""
    for _path, entry in _walk(catalogue, "", after):
        yield entry


def _walk(container: Catalogue | Container, prefix: str, after: str | None) -> Iterator[tuple[str, Entry]]:
    """Yield ``(path, entry)`` for what lies below ``container``, whose paths begin with ``prefix``."""
    inside: list[_Step] = []  # a heap of the walks through children that have been passed
    for name, child in _children_from(container, prefix, after):
        path = prefix + name
        yield from _steps_before(inside, path)
        if after is None or path > after:
            yield path, child
        if isinstance(child, Container):
            _push(inside, _walk(child, f"{path}/", after))
    yield from _steps_before(inside, None)


def _steps_before(heap: list[_Step], limit: str | None) -> Iterator[tuple[str, Entry]]:
    """Take from ``heap``, and yield in order, what comes before ``limit`` (None: everything)."""
    while heap and (limit is None or heap[0][0] < limit):
        path, entry, walk = heapq.heappop(heap)
        yield path, entry
        _push(heap, walk)


def _push(heap: list[_Step], walk: Iterator[tuple[str, Entry]]) -> None:
    step = next(walk, None)
    if step is not None:
        heapq.heappush(heap, (*step, walk))


def _children_from(
    container: Catalogue | Container, prefix: str, after: str | None
) -> Iterator[tuple[str, Any]]:
    """Yield names and children, by name, that come after ``after`` or may hold something that does."""
    if after is None or after < prefix:
        yield from container.items()
        return
    rest = after[len(prefix) :] if after.startswith(prefix) else None
    if rest is None:
        return  # after lies beyond everything with this prefix
    # What lies in a child that comes before `after` comes before it too, unless the child's own name is
    # the beginning of `after`.
    for end in range(1, len(rest)):
        child = container.get(rest[:end])
        if child is not None:
            yield rest[:end], child
    yield from container.items(rest)
