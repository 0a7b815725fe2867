"""What a receiver does about digests that differ: it notes where, asks for all of it, and mends.

Where two nodes claim the same and their digests stay different, claims speak of writes that one of them
never saw, and no session would ever send these. When a pair of digests is seen for the second time (at first
it may be news that is under way) the receiver claims nothing of that prefix in its next session. So it is
sent all that the other one holds there; what differs, and what the other one lacks, is touched, and travels
to everybody under this node's own clock. Once for each pair of digests: a peer that lies, or holds back what
it claims, is not asked again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice
from typing import Any, Final

from ...peering.partitions import EVERYTHING, contained_in_any, contains, key_ranges
from ..metadata.claims import Claims, cover, pinned
from ..metadata.clocks import Stamps
from ..metadata.digests import MOST_TOLD, deepest, differ, is_claimed_alike, lessened
from ..node import Node
from ..stores import writing
from ..stores.base import BaseDataStore
from .steps import Offer

logger = logging.getLogger(__name__)

#: Whole sessions with others after which what one peer has shown is waited for no more.
_MOST_TRIES: Final = 5


class Doubt(Enum):
    """Where a difference stands."""

    SUSPECTED = "suspected"
    OPEN = "open"
    MENDED = "mended"


def told(store: BaseDataStore, wanted: Iterable[str]) -> dict[str, str]:
    """Return the digests that a sender tells: of a filter's prefixes, and of those below if they are few."""
    found = {}
    for prefix in wanted:
        known = _below(store, prefix, MOST_TOLD + 1)
        for each in (prefix, *(known if len(known) <= MOST_TOLD else ())):
            found[each] = store.digest(each).text(not _has_collected(store, each))
    return found


def _below(store: BaseDataStore, prefix: str, most: int | None = None) -> list[str]:
    found: list[str] = []
    for first, end in key_ranges(prefix):
        keys = store.tables.digests.keys(first, end, excludemax=end is not None)
        found += islice(keys, None if most is None else most - len(found))
    return found


def _has_collected(store: BaseDataStore, prefix: str) -> bool:
    return any(contains(prefix, partition) for partition in store.tables.collected)


def note_differences(store: BaseDataStore, offer: Offer) -> list[str]:
    """Compare with what a sender told, when all that it claimed is claimed here; return where it differs.

    Where one of the two claims more than the other, nothing can be said.
    """
    claims = pinned(store.claims(), offer.prefixes)
    all_alike = claims == offer.claims
    found: dict[str, tuple[str, str]] = {}
    agreed: list[str] = []
    for prefix, theirs in sorted(offer.digests.items(), key=lambda item: len(item[0])):
        if contained_in_any(agreed, prefix):
            continue
        if not all_alike and not is_claimed_alike(prefix, claims, offer.claims):
            continue
        mine = store.digest(prefix).text(not _has_collected(store, prefix))
        if differ(mine, theirs):
            found[prefix] = (mine, theirs)
        else:
            agreed.append(prefix)
    _settle(store, offer.source, agreed)
    return [prefix for prefix in deepest(found) if _note(store, offer, prefix, *found[prefix])]


def _settle(store: BaseDataStore, source: str, agreed: list[str]) -> None:
    """Forget what differed from what a provider holds, and does no more."""
    tree = store.tables.differences
    for key in list(tree.keys((source,), (source + "\0",), excludemax=True)):
        if contained_in_any(agreed, key[1]):
            store._remove(tree, key)


def _note(store: BaseDataStore, offer: Offer, prefix: str, mine: str, theirs: str) -> bool:
    """Note a difference; tell whether it was seen before."""
    tree, key = store.tables.differences, (offer.source, prefix)
    known = tree.get(key)
    seen = known is not None and (known["mine"], known["theirs"]) == (mine, theirs)
    if seen and known["doubt"] != Doubt.SUSPECTED.value:
        return True
    doubt = Doubt.OPEN if seen else Doubt.SUSPECTED
    kept = {"session": offer.session_id, "mine": mine, "theirs": theirs, "doubt": doubt.value, "tries": 0}
    store._set(tree, key, kept)
    if seen:
        logger.warning(
            "what is held under %r is not what provider %r holds, though both claim the same; session %s",
            prefix,
            offer.source,
            offer.session_id,
        )
    return seen


def in_doubt(store: BaseDataStore) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """Return the differences that are still to be mended."""
    return [
        (key, kept) for key, kept in store.tables.differences.items() if kept["doubt"] == Doubt.OPEN.value
    ]


def claimed(store: BaseDataStore, claims: Claims) -> Mapping[str, Stamps]:
    """Return what a receiver tells of its claims: nothing about what is in doubt."""
    doubts = [key[1] for key, _ in in_doubt(store)]
    return lessened(claims, doubts, _below(store, EVERYTHING)) if doubts else claims


def mended_by(store: BaseDataStore, offer: Offer) -> tuple[str, ...]:
    """Return the prefixes in doubt that a session from a sender that differs brings as a whole."""
    return tuple(
        prefix
        for (source, prefix), _ in in_doubt(store)
        if source == offer.source and _comes_whole(offer, prefix)
    )


def _comes_whole(offer: Offer, prefix: str) -> bool:
    return contained_in_any(offer.prefixes, prefix) and not cover(offer.receiver, prefix)


def finish_mending(node: Node, offer: Offer, mending: Iterable[str]) -> None:
    """Touch what the sender lacks of what was mended, and note that it is; within the store's transaction."""
    store = node.store
    for prefix in mending:
        for item_id in store.items_under(prefix):
            is_here_for_query = item_id in store.tables.by_query
            if not is_here_for_query and (offer.session_id, item_id) not in store.tables.incoming_items:
                state = store.get(item_id)
                assert state is not None, "the index names an item that is not held"
                writing.touch(node, state)
    for (source, prefix), kept in in_doubt(store):
        if _comes_whole(offer, prefix):
            tries = kept["tries"] + 1
            is_over = source == offer.source or tries >= _MOST_TRIES
            doubt = Doubt.MENDED if is_over else Doubt.OPEN
            store._set(
                store.tables.differences, (source, prefix), {**kept, "tries": tries, "doubt": doubt.value}
            )
