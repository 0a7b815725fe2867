"""Tombstones: deleted items are kept until every peer knows, then collected.

A tombstone may go when the claims of every known, unexpired peer for its partition cover its vector. The
clock of what was collected is kept by partition: a peer whose claims do not reach it is sent the whole
partition, in which what is missing is gone, but for what only that peer knows of. What was deleted for good
stays, without what it said: its id is closed for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..peering.partitions import contained_in_any
from .metadata.claims import is_covered
from .node import Node

#: A peer that was not heard of for so long is waited for no more.
PEER_EXPIRES_S: Final = 90 * 86_400.0

#: Tombstones looked at in one transaction.
_AT_ONCE: Final = 1_000


def collect_tombstones(node: Node, peer_expires_s: float = PEER_EXPIRES_S) -> int:
    """Drop the tombstones that every peer has passed; return how many.

    Args:
        node: Whose.
        peer_expires_s: Seconds after which a peer is waited for no more. It is sent whole partitions when it
            comes back.
    """
    store = node.store
    total = 0
    after: tuple[str, str] | None = None

    def work() -> tuple[int, tuple[str, str] | None]:
        keys = _next(store.tables.tombstones, after)
        peers = _awaited(node, peer_expires_s)
        count = sum(_collect(node, key, peers) for key in keys)
        return count, keys[-1] if keys else None

    while True:
        count, after = store.run(work)
        total += count
        if after is None:
            return total


def _next(tombstones: Any, after: tuple[str, str] | None) -> list[tuple[str, str]]:
    keys: Iterable[tuple[str, str]] = tombstones.keys(min=after, excludemin=after is not None)
    return [key for _, key in zip(range(_AT_ONCE), keys)]


def _awaited(node: Node, peer_expires_s: float) -> list[dict[str, Any]]:
    oldest = node.now() - round(peer_expires_s * 1_000_000)
    return [peer for peer in node.store.tables.peers.values() if peer["seen"] >= oldest]


def _collect(node: Node, key: tuple[str, str], peers: list[dict[str, Any]]) -> bool:
    store = node.store
    partition, item_id = key
    state = store.get(item_id)
    if state is None or item_id in store.tables.deferred:
        return False
    if not is_covered(store.claims(), partition, state.vector):
        return False
    for peer in peers:
        concerned = contained_in_any(peer["prefixes"], partition)
        if concerned and not is_covered(peer["claims"], partition, state.vector):
            return False
    store.note_collected(partition, state.vector)
    store.drop(state)
    return True
