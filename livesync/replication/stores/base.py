"""A data store, but for where its data lie: what is held is found here, on top of what holds it.

A store holds one provider's items and everything that is known about them. Everything happens inside
:meth:`BaseDataStore.run`, in one transaction that is carried out wholly or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import Final

from ...peering.partitions import key_ranges
from ..metadata.states import ItemState
from ..pagetrees import PageTree
from ..ranges import Ranges
from ..stored import (
    unpack,
    unpack_place,
)
from .contract import IndexKey
from .holding import HoldingStore

#: Items that are read together.
_AT_ONCE: Final = 1_000


class BaseDataStore(HoldingStore):
    """Where one provider's items lie.

    The changes after a clock are found by a scan over a range of each provider's index: the cost is that of
    what changed, whatever else there is.
    """

    def scan(
        self,
        provider: str,
        prefix: str,
        after: int | Callable[[str], int],
        exact: bool = False,
        start: IndexKey | None = None,
    ) -> Iterator[IndexKey]:
        """Yield where the items lie whose vector says more than ``after`` of a provider, in order.

        Args:
            provider: Whose writes.
            prefix: Under which prefix.
            after: The stamp that is left out, with all below; or a function that tells it by partition.
            exact: Only directly in the partition ``prefix``.
            start: Begin after this key; None: from the beginning.
        """
        for key, _ in self._scan(provider, prefix, after, exact, start):
            yield key

    def scan_states(
        self,
        provider: str,
        prefix: str,
        after: int | Callable[[str], int],
        exact: bool = False,
        start: IndexKey | None = None,
    ) -> Iterator[tuple[IndexKey, ItemState]]:
        """Yield the same as :meth:`scan`, each with its item's state."""
        for key, packed in self._scan(provider, prefix, after, exact, start):
            state = unpack(key[2], packed) if packed else self.get(key[2])
            assert state is not None, "the index names an item that is not held"
            yield key, state

    def _scan(
        self,
        provider: str,
        prefix: str,
        after: int | Callable[[str], int],
        exact: bool,
        start: IndexKey | None,
    ) -> Iterator[tuple[IndexKey, bytes]]:
        ranges: Ranges | None = self.tables.index.get(provider)
        if ranges is None:
            return
        limit = after if callable(after) else lambda _: after
        for first, end in key_ranges(prefix)[: 1 if exact else None]:
            low: IndexKey | None = (first, 0, "")
            if start is not None and start >= (first, 0, ""):
                low = (start[0], start[1], start[2] + "\0")
            if exact and not prefix:
                end = "\0"
            while low is not None:
                low = yield from self._scan_from(ranges, low, end, limit)

    @staticmethod
    def _scan_from(
        ranges: Ranges, low: IndexKey, end: str | None, after: Callable[[str], int]
    ) -> Generator[tuple[IndexKey, bytes], None, IndexKey | None]:
        """Yield what lies from ``low`` on; return where to go on, past what lies too early in a partition."""
        partition, bound = "\0", 0  # no partition is called that
        for found in ranges.items(low, end):
            key = found[0]
            if key[0] != partition:
                partition, bound = key[0], after(key[0])
            if key[1] <= bound:
                return (partition, bound + 1, "")
            yield found
        return None

    def providers(self) -> list[str]:
        """Return all providers that any vector names."""
        return list(self.tables.index)

    def partition_items(self, partition: str) -> list[str]:
        """Return the ids of all that is held directly in a partition, in ascending order."""
        return self.items_under(partition, exact=True)

    def items_under(self, prefix: str, exact: bool = False) -> list[str]:
        """Return the ids of all that is held under a prefix, in ascending order."""
        return sorted(
            {key[2] for provider in self.providers() for key in self.scan(provider, prefix, 0, exact)}
        )

    def items(self) -> Iterator[ItemState]:
        """Yield all states, by item id."""
        self._settle()
        return self._get_all(iter(self.tables.items))

    def items_of(self, entity_name: str) -> Iterator[ItemState]:
        """Yield the states of one model's items, in the order in which they came; others cost nothing."""
        self._settle()
        tree: PageTree | None = self.tables.entities.get(entity_name)
        return iter(()) if tree is None else self._get_all(item_id for _, item_id in tree.items())

    def _get_all(self, item_ids: Iterator[str]) -> Iterator[ItemState]:
        while batch := list(islice(item_ids, _AT_ONCE)):
            yield from self._get_many(batch)

    def _get_many(self, item_ids: list[str]) -> Iterator[ItemState]:
        found = self.tables.items.pick(item_ids)
        return self.all_at({item_id: found[item_id] for item_id in item_ids})

    def all_at(self, places: Mapping[str, bytes]) -> Iterator[ItemState]:
        """Yield the states of items of which it is known where they lie; each page is read once.

        Args:
            places: Item id -> packed place, as in ``items``.
        """
        tables = self.tables
        keys: dict[str, list[IndexKey]] = {}
        homes = {}
        for item_id, where in places.items():
            number, stamp, _ = unpack_place(where)
            provider, partition = tables.places[number]
            key = (partition, stamp, item_id)
            homes[item_id] = provider, key
            keys.setdefault(provider, []).append(key)
        found = {provider: tables.index[provider].pick(wanted) for provider, wanted in keys.items()}
        for item_id, (provider, key) in homes.items():
            yield unpack(item_id, found[provider][key])
