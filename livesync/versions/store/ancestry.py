"""What two versions have in common, along all parents."""

from __future__ import annotations

import heapq

from .contents import Contents
from .records import Record

_ONE, _OTHER, _STALE = 1, 2, 4


def merge_bases(contents: Contents, one: int, other: int) -> list[int]:
    """Return the best common ancestors of two versions: none of them is another one's ancestor.

    The newest generation first. A version is an ancestor of itself. The two are walked down by generation,
    each with a colour, as git does it.
    """
    stored = contents.stored
    records: dict[int, Record] = {}

    def record(key: int) -> Record:
        found = records.get(key)
        if found is None:
            found = records[key] = Record.unpacked(contents.records[key])
        return found

    colours = {one: _ONE}
    colours[other] = colours.get(other, 0) | _OTHER
    heap = [(-record(key).generation, key) for key in colours]
    heapq.heapify(heap)
    found = []
    while any(not colours[key] & _STALE for _, key in heap):
        _, key = heapq.heappop(heap)
        colour = colours[key]
        if colour & (_ONE | _OTHER) == _ONE | _OTHER and not colour & _STALE:
            found.append(key)
            colour |= _STALE
        for parent_id in record(key).parents:
            parent = stored.keys[parent_id]
            known = colours.get(parent)
            if known is None:
                heapq.heappush(heap, (-record(parent).generation, parent))
            colours[parent] = (known or 0) | colour
    return [key for key in found if not any(is_ancestor(contents, key, one) for one in found if one != key)]


def is_ancestor(contents: Contents, key: int, descendant: int) -> bool:
    """Tell whether a version came before another one, along any parents; each did before itself."""
    stored = contents.stored
    generation = Record.unpacked(contents.records[key]).generation
    todo, seen = [descendant], {descendant}
    while todo:
        one = todo.pop()
        if one == key:
            return True
        record = Record.unpacked(contents.records[one])
        if record.generation <= generation:
            continue
        for parent_id in record.parents:
            parent = stored.keys[parent_id]
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return False


def path_between(contents: Contents, start: int, end: int) -> list[int]:
    """Return versions of which each is a parent of the next, from after ``start`` to ``end``.

    First parents are preferred. ``start`` must be an ancestor of ``end``.
    """
    stored = contents.stored
    generation = Record.unpacked(stored.records[start]).generation
    parents: dict[int, list[int]] = {}
    generations: dict[int, int] = {}
    todo = [end]
    while todo:
        key = todo.pop()
        if key in parents:
            continue
        record = Record.unpacked(stored.records[key])
        is_above = record.generation > generation
        parents[key] = [int(stored.keys[one]) for one in record.parents] if is_above else []
        generations[key] = record.generation
        todo += parents[key]
    leading = {start}
    for key in sorted(parents, key=generations.__getitem__):
        if not leading.isdisjoint(parents[key]):
            leading.add(key)
    way = []
    while end != start:
        way.append(end)
        end = next(parent for parent in parents[end] if parent in leading)
    return way[::-1]


def all_before(contents: Contents, key: int) -> set[int]:
    """Return a version and all that came before it, along all parents."""
    stored = contents.stored
    todo, seen = [key], {key}
    while todo:
        for parent_id in Record.unpacked(contents.records[todo.pop()]).parents:
            parent = stored.keys[parent_id]
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return seen
