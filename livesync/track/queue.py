"""The slow queue: what an agent is to send apart from the track, a part of it in each run.

Here lies what a person has asked for (``livesync agent enqueue``), and what is inside very large
containers that were moved or shown to others: so the changes after it need not wait for it. The ids
lie in pages; records made of them carry the last sealed position of the snapshot that they are
rendered from, so they never overwrite anything newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from .stored import QueuePage, StoredAgent

#: Ids of a page.
PAGE_SIZE: Final = 1_000


def pages_of(ids: Iterable[str], words: Iterable[str]) -> Iterator[QueuePage]:
    """Yield ``ids`` in pages, none of them stored yet."""
    waiting = iter(ids)
    kept = tuple(sorted(words))
    while page := tuple(islice(waiting, PAGE_SIZE)):
        yield QueuePage(page, kept)


def put(stored: StoredAgent, page: QueuePage) -> None:
    """Put a page at the end of the queue."""
    stored.queue[stored.queue.maxKey() + 1 if stored.queue else 0] = page


def first(stored: StoredAgent) -> tuple[int, QueuePage] | None:
    """Return the number and the page that comes next; None: the queue is empty."""
    for number, page in stored.queue.items():
        return number, page
    return None


def count(stored: StoredAgent) -> int:
    """Return how many ids are queued."""
    return sum(len(page.ids) for page in stored.queue.values())


def queued_ids(stored: StoredAgent) -> Iterator[str]:
    """Yield the ids that are queued, oldest first; one may come several times."""
    for page in stored.queue.values():
        yield from page.ids


def forget(stored: StoredAgent, object_id: str) -> int:
    """Take an object out of the queue; return how often it was there."""
    found = 0
    for page in stored.queue.values():
        if object_id in page.ids:
            found += page.ids.count(object_id)
            page.ids = tuple(other for other in page.ids if other != object_id)
    return found
