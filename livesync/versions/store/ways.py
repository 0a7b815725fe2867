"""From one version to another: what differs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from operator import ne, not_
from typing import Any

from .contents import Contents
from .tree import way_between


def changed_ids(contents: Contents, start: int, end: int) -> list[str]:
    """Return the ids of the documents that differ between two versions, in order.

    What was changed and changed back is none of them: whole hashes decide.

    Raises:
        VersionPruned: The contents of one of the two were pruned.
    """
    contents.check_kept(start)
    contents.check_kept(end)
    way = way_between(contents.forks, start, end)
    pages = [(after, before) for key in way.up for before, after in contents.shorts(key)]
    pages += [page for key in way.down for page in contents.shorts(key)]
    last: dict[str, int] = {}
    for _, ends in pages:
        last |= ends
    first = last.copy()  # for the order of the ids: both have the same one
    for starts, _ in reversed(pages):
        first |= starts
    # what has other short hashes differs; of the few that have the same ones, the whole hashes are asked
    is_other = [*map(ne, last.values(), first.values())]
    found = [*compress(last, is_other)]
    if len(found) < len(last):
        found += [
            document_id
            for document_id in compress(last, map(not_, is_other))
            if contents.hash(document_id, start) != contents.hash(document_id, end)
        ]
    found.sort()
    return found


def net_rows(contents: Contents, start: int, end: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield (id, document before, document after) of what differs between two versions."""
    for document_id in changed_ids(contents, start, end):
        yield document_id, contents.value(document_id, start), contents.value(document_id, end)
