"""What a store holds: items one by one, and all that is kept beside each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..layers import LayeredTree
from ..metadata.clocks import Stamps
from ..metadata.digests import Digest
from ..metadata.states import ItemState
from ..pagetrees import PageTree
from ..ranges import Ranges
from ..stored import (
    arrival_key,
    pack,
    pack_bound,
    pack_place,
    unpack,
    unpack_bound,
    unpack_place,
)
from .claiming import ClaimingStore
from .unwritten import Learned


class HoldingStore(ClaimingStore):
    """A store that holds items."""

    def get(self, item_id: str) -> ItemState | None:
        """Return the state of an item; None where nothing of it is held."""
        where = self._where(item_id)
        return None if where is None else self._at(where, item_id)

    def _where(self, item_id: str) -> bytes | None:
        return self.unwritten.places.look_up(self.tables.items, item_id)

    def place_of(self, item_id: str) -> bytes:
        """Return the packed place of an item that is held."""
        where = self._where(item_id)
        assert where is not None, "the item is held"
        return where

    def look_up(self, item_ids: Iterable[str], with_application: bool = False) -> None:
        """Find out at once where these items lie, which are asked for one by one in this transaction.

        Args:
            item_ids: The items.
            with_application: What the application has of them, too.
        """
        wanted = list(item_ids)
        self.unwritten.places.learn(self.tables.items, wanted)
        if with_application:
            self.unwritten.bound.learn(self.tables.local, wanted)

    def look_up_objects(self, object_ids: Iterable[str]) -> None:
        """Find out at once which items these objects of the application are."""
        self.unwritten.objects.learn(self.tables.objects, object_ids)

    def _at(self, where: bytes, item_id: str) -> ItemState:
        number, stamp, _ = unpack_place(where)
        provider, partition = self.tables.places[number]
        return unpack(item_id, self.tables.index[provider][(partition, stamp, item_id)])

    def put(self, state: ItemState, before: ItemState | None) -> None:
        """Hold a state in place of ``before``, which is what is held of the item now.

        It lies where the provider that made its content has it in its range: what comes after a clock is
        read in order, and what is new is written at the end of a range.
        """
        tables, item_id, partition = self.tables, state.item_id, state.partition
        old = {} if before is None else before.vector
        for provider, known in old.items():
            if state.vector.get(provider) != known:
                self._remove(tables.index[provider], (partition, known, item_id))
        home, old_home = state.dot[0], None if before is None else before.dot[0]
        for provider, stamp in state.vector.items():
            if provider == home:
                self._set(self.index_of(provider), (partition, stamp, item_id), pack(state))
            elif old.get(provider) != stamp or provider == old_home:
                self._set(self.index_of(provider), (partition, stamp, item_id), b"")
        old_where = None if before is None else self._where(item_id)
        arrival = self.next_arrivals(1)[0] if old_where is None else unpack_place(old_where)[2]
        where = pack_place(self.place_number(home, partition), state.vector[home], arrival)
        if old_where != where:
            self.unwritten.places.set(item_id, where)
        self._note_own(state, old)
        self._note_model(state, before, arrival)
        if before is not None:
            self.count(before, -1)
        self.count(state, 1)
        was, now = before is not None and before.is_tombstone, state.is_tombstone
        if now and not was:
            self._insert(tables.tombstones, (partition, item_id))
        elif was and not now:
            self._discard(tables.tombstones, (partition, item_id))

    def _note_own(self, state: ItemState, old: Stamps) -> None:
        mine = state.vector.get(self.provider_id)
        if mine is not None and mine != old.get(self.provider_id):
            self.note_written(state.item_id, mine)

    def _note_model(self, state: ItemState, before: ItemState | None, arrival: int) -> None:
        key = arrival_key(arrival)
        if before is not None:
            if before.entity_name == state.entity_name:
                return
            self.unwritten.note_entity(before.entity_name, key, None)
        self.unwritten.note_entity(state.entity_name, key, state.item_id)

    def next_arrivals(self, count: int) -> range:
        """Return the numbers of the items that arrive next in this store."""
        unwritten = self.unwritten
        known = unwritten.arrived
        first = int(self.facts.get("arrived", 0)) if known is None else known
        unwritten.arrived = first + count
        return range(first, first + count)

    def drop(self, state: ItemState) -> None:
        """Hold nothing of an item any more; ``state`` is what is held."""
        tables = self.tables
        self.count(state, -1)
        arrival = unpack_place(self.place_of(state.item_id))[2]
        self.unwritten.places.set(state.item_id, None)
        self.unwritten.note_entity(state.entity_name, arrival_key(arrival), None)
        for provider, stamp in state.vector.items():
            self._remove(tables.index[provider], (state.partition, stamp, state.item_id))
        self._discard(tables.tombstones, (state.partition, state.item_id))
        for tree in (tables.deferred, tables.by_query, tables.hidden, tables.bases):
            self._remove(tree, state.item_id)
        self.unbind(state.item_id)

    def index_of(self, provider: str) -> Ranges:
        """Return the index of a provider; a new one where there is none."""
        found: Ranges | None = self.tables.index.get(provider)
        if found is None:
            found = Ranges()
            self._set(self.tables.index, provider, found)
        return found

    def place_number(self, provider: str, partition: str) -> int:
        """Return the number that stands for a provider and a partition."""
        tables = self.tables
        number: int | None = tables.place_numbers.get((provider, partition))
        if number is None:
            number = tables.places.maxKey() + 1 if tables.places else 0
            self._set(tables.places, number, (provider, partition))
            self._set(tables.place_numbers, (provider, partition), number)
        return number

    # -- digests ---------------------------------------------------------------------------------

    def digest(self, prefix: str) -> Digest:
        """Return the digest of what is held under a prefix, but for what is here for a query only."""
        self._settle()
        return Digest.unpack(self.tables.digests.get(prefix, b""))

    def count(self, state: ItemState, sign: int) -> None:
        """Count a state in the digests that is held from now on (``sign`` 1), or no longer (-1)."""
        if state.item_id not in self.tables.by_query:
            self.unwritten.tally.count(state, sign)

    def _settle(self) -> None:
        """Write what the transaction has not written yet: before it ends, and before a savepoint."""
        tree, unwritten = self.tables.digests, self.unwritten
        for prefix, news in unwritten.tally.take():
            self._set(tree, prefix, (Digest.unpack(tree.get(prefix, b"")) + news).pack())
        for entity_name, rows in unwritten.take_entities().items():
            self._update(self._entities(entity_name), rows)
        if unwritten.arrived is not None:
            self._set(self.facts, "arrived", unwritten.arrived)
            unwritten.arrived = None
        self._write(self.tables.items, unwritten.places)
        self._write(self.tables.local, unwritten.bound)
        self._write(self.tables.objects, unwritten.objects)

    def hold_entities(self, entity_name: str, rows: Mapping[str, str | None]) -> None:
        """Let new items be among those of their model: their ids, by :func:`arrival_key`.

        They lie together, and are written at once.
        """
        waiting = self.unwritten.entities.get(entity_name)
        if waiting is None:
            self._update(self._entities(entity_name), rows)
        else:
            waiting.update(rows)

    def _write(self, tree: LayeredTree, learned: Learned[Any]) -> None:
        changed, absent = learned.take()
        if changed:
            self._update(tree, changed, absent)

    def _entities(self, entity_name: str) -> PageTree:
        found: PageTree | None = self.tables.entities.get(entity_name)
        if found is None:
            found = PageTree()
            self._set(self.tables.entities, entity_name, found)
        return found

    def hold_for_query(self, state: ItemState, query_id: str) -> None:
        """Note that an item is here for a query and nothing else."""
        self.count(state, -1)
        self._set(self.tables.by_query, state.item_id, query_id)

    def hold_for_itself(self, item_id: str) -> None:
        """Note that an item is here for more than a query."""
        if item_id in self.tables.by_query:
            self._remove(self.tables.by_query, item_id)
            state = self.get(item_id)
            if state is not None:
                self.count(state, 1)

    # -- what the application has ----------------------------------------------------------------

    def bind(self, item_id: str, object_id: str, digest: bytes) -> None:
        """Note what the application has of an item, under which id of its own."""
        packed, unwritten = pack_bound(object_id, digest), self.unwritten
        if unwritten.bound.look_up(self.tables.local, item_id) != packed:
            unwritten.bound.set(item_id, packed)
            unwritten.objects.set(object_id, item_id)

    def unbind(self, item_id: str) -> None:
        """Note that the application has nothing of an item."""
        known = self.bound(item_id)
        if known is not None:
            self.unwritten.bound.set(item_id, None)
            if self.item_of(known[0]) == item_id:
                self.unwritten.objects.set(known[0], None)

    def bound(self, item_id: str) -> tuple[str, bytes] | None:
        """Return ``(object id, digest)`` of what the application has of an item."""
        packed = self.unwritten.bound.look_up(self.tables.local, item_id)
        return None if packed is None else unpack_bound(packed)

    def item_of(self, object_id: str) -> str | None:
        """Return the item that an object of the application is."""
        return self.unwritten.objects.look_up(self.tables.objects, object_id)
