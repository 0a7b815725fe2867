"""What is done after a session that was given up: what it left behind is touched.

What was applied but is covered by no claim would travel under nobody's clock: its maker may have been
restored from an old copy, or never come back. A touch puts this node's own new stamp into the item's vector
and leaves content and rank as they are, so it travels under this node's clock.
"""

from __future__ import annotations

from functools import partial

from ..metadata.claims import cover
from ..metadata.clocks import descends
from ..node import Node
from ..stores.writing import touch
from . import incoming, journal

#: Items touched in one transaction.
_AT_ONCE = 1_000


def abandon(node: Node, session_id: str) -> int:
    """Give up a session that is being received, and clean; return how many items were touched."""
    store = node.store
    keys = store.read(lambda: _pages(node, session_id))
    total = 0
    for key in keys:
        total += store.run(partial(_clean_page, node, key))
    store.run(lambda: incoming.forget(node, session_id))
    return total


def _pages(node: Node, session_id: str) -> list[tuple[str, int]]:
    """Return the keys of what a session has applied; nothing when it has ended."""
    return journal.pages(node.store, session_id) if session_id in node.store.tables.incoming else []


def _clean_page(node: Node, key: tuple[str, int]) -> int:
    store = node.store
    claims = store.claims()
    covers: dict[str, dict[str, int]] = {}
    count = 0
    for item_id in dict.fromkeys(change[0] for change in journal.changed_items(store, key)):
        state = store.get(item_id)
        if state is None:
            continue
        if state.partition not in covers:
            covers[state.partition] = cover(claims, state.partition)
        if not descends(covers[state.partition], state.vector):
            touch(node, state)
            count += 1
    return count
