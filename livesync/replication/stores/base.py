"""The contract of a data store, and all of it that does not depend on where the data lie.

A store holds one provider's items and everything that is known about them. Everything happens inside
:meth:`BaseDataStore.run`, in one transaction that is carried out wholly or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Set
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from BTrees.LLBTree import LLBTree

from ...attempts import ATTEMPTS
from ...peering.partitions import key_ranges
from ..layers import LayeredTree
from ..metadata.claims import absorbed
from ..metadata.clocks import Stamps, following, merged
from ..metadata.digests import Digest
from ..metadata.ids import NewId, random_id
from ..metadata.lives import Birth
from ..metadata.states import ItemState
from ..pages import PageTree, RangeKey, Ranges, Value
from ..stored import (
    StoredReplica,
    arrival_key,
    pack,
    pack_bound,
    pack_place,
    unpack,
    unpack_bound,
    unpack_place,
)
from . import lifetimes
from .unwritten import Learned, Unwritten

T = TypeVar("T")

#: (partition, stamp, item id): where an item lies in a provider's index.
IndexKey = RangeKey

#: Items that are read together.
_AT_ONCE: Final = 1_000


def _hash(item_id: str) -> int:
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "big", signed=True)


class Savepoint(Protocol):
    """A point within a transaction that can be gone back to."""

    def rollback(self) -> None:
        """Undo everything since."""


class BaseDataStore(ABC):
    """Where one provider's items lie.

    The changes after a clock are found by a scan over a range of each provider's index: the cost is that of
    what changed, whatever else there is.
    """

    # -- transactions ----------------------------------------------------------------------------

    @abstractmethod
    def run(self, work: Callable[[], T], user: str = "", note: str = "", tries: int = ATTEMPTS) -> T:
        """Carry out ``work`` in one transaction and return what it returns.

        Inside another ``run`` it is part of that one's transaction.

        Args:
            work: Called with nothing, perhaps several times; must not do I/O.
            user, note: Who the transaction says it is.
            tries: How often it is tried where it conflicts with what others write.

        Raises:
            TransientError: It has conflicted that often.
            Exception: Whatever ``work`` raised; nothing of it has happened then.
        """

    @abstractmethod
    def read(self, work: Callable[[], T]) -> T:
        """Carry out ``work``, which must not write, on one consistent state."""

    @abstractmethod
    def savepoint(self) -> Savepoint:
        """Return a point within the current transaction that can be gone back to."""

    @property
    @abstractmethod
    def tables(self) -> StoredReplica:
        """The data, within the current transaction."""

    @property
    @abstractmethod
    def unwritten(self) -> Unwritten:
        """What the current transaction has changed and not written yet."""

    @property
    def connection(self) -> Any | None:
        """The ZODB connection of the current transaction; None where the data lie in no database."""
        return None

    @abstractmethod
    def _set(self, tree: Any, key: Any, value: Any) -> None:
        """Put a value into a tree of :attr:`tables`."""

    @abstractmethod
    def _remove(self, tree: Any, key: Any) -> None:
        """Take a key out of a tree, if it is there."""

    def _extend(self, index: Ranges, rows: Mapping[IndexKey, bytes]) -> None:
        """Put many values into an index, each key after those of its partition."""
        for key in sorted(rows):
            self._set(index, key, rows[key])

    def _amend(self, index: Ranges, rows: Mapping[IndexKey, bytes | None]) -> None:
        """Put many values into an index in place of others, and take out the keys whose value is None."""
        for key in sorted(rows):
            value = rows[key]
            if value is None:
                self._remove(index, key)
            else:
                self._set(index, key, value)

    def _update(
        self,
        tree: PageTree | LayeredTree,
        rows: Mapping[str, Value | None],
        absent: Set[str] = frozenset(),
    ) -> None:
        """Put many values into a tree, and take out the keys whose value is None; some were looked for."""
        for key in sorted(rows):
            value = rows[key]
            if value is None:
                self._remove(tree, key)
            else:
                self._set(tree, key, value)

    @abstractmethod
    def _insert(self, members: Any, key: Any) -> None:
        """Put a key into a set of :attr:`tables`."""

    @abstractmethod
    def _discard(self, members: Any, key: Any) -> None:
        """Take a key out of a set, if it is there."""

    # -- who this is -----------------------------------------------------------------------------

    def begin(self, provider_id: str | None = None, new_id: NewId = random_id) -> str:
        """Make sure that this store belongs to a provider, and return its id.

        Args:
            provider_id: The id of a store that is new; None: one that is made for it.
            new_id: Makes ids.

        Raises:
            ValueError: The store is another provider's, now and in the past.
        """
        known = self.facts.get("provider_id")
        if known is None:
            self._set(self.facts, "provider_id", provider_id or new_id())
            self._set(self.facts, "database_id", new_id())
        elif provider_id is not None and provider_id != known and provider_id not in self.past:
            raise ValueError(f"this store belongs to provider {known!r}, not {provider_id!r}")
        return self.provider_id

    @property
    def facts(self) -> Any:
        """Single values by name."""
        return self.tables.facts

    @property
    def provider_id(self) -> str:
        """Who this is now."""
        return str(self.facts["provider_id"])

    @property
    def database_id(self) -> str:
        """Which database this is; a copy gets one of its own with its new provider id."""
        return str(self.facts["database_id"])

    @property
    def past(self) -> tuple[str, ...]:
        """Who this was: ids given up, oldest first."""
        return tuple(self.facts.get("past", ()))

    @property
    def lost(self) -> tuple[str, ...]:
        """Those of the past ids of which writes may be lost or doubled: others know more of them."""
        return tuple(self.facts.get("lost", ()))

    @property
    def own_stamp(self) -> int:
        """The newest stamp that was issued under the present id; 0: none."""
        return int(self.facts.get("own", 0))

    @property
    def newest_issued(self) -> int:
        """The newest stamp that was issued under any id; 0: none."""
        return self.own_stamp or int(self.facts.get("issued", 0))

    @property
    def life(self) -> int:
        """The life in which this store issues stamps (``lives.py``); 0: it has issued none."""
        return int(self.facts.get("life", 0))

    def birth_of(self, life: int) -> Birth | None:
        """Return where a life begins; None where nobody has told."""
        return lifetimes.birth_of(self, life)

    @abstractmethod
    def _found_life(self) -> int:
        """Return the life that was the store's before anything was stamped since the data were opened."""

    def next_stamp(self, now: int, new_id: NewId = random_id) -> int:
        """Issue a stamp, above all that were ever issued or seen here, whatever the wall clock says.

        The first one since the data were opened begins a new life: nobody can tell whether they are where
        that one left them, or an old copy.
        """
        return self.next_stamps(now, 1, new_id)[0]

    def next_stamps(self, now: int, count: int, new_id: NewId = random_id) -> range:
        """Issue some stamps, one after the other, each as :meth:`next_stamp` does; at least one."""
        facts = self.facts
        if self.life == self._found_life():
            lifetimes.begin(self, new_id)
        first = following(max(int(facts.get("own", 0)), int(facts.get("seen", 0))), now)
        self._set(facts, "own", first + count - 1)
        return range(first, first + count)

    def has_written(self, item_id: str, stamp: int) -> bool:
        """Tell whether this store has written to an item under the present id with this stamp."""
        issued = self.tables.issued.get(self.provider_id)
        return issued is not None and issued.get(stamp) == _hash(item_id)

    def has_issued(self, stamp: int) -> bool:
        """Tell whether this store has written anything under the present id with this stamp."""
        return stamp in self.tables.issued.get(self.provider_id, ())

    def hear(self, states: Iterable[ItemState]) -> None:
        """Note how new what was received is; what is issued from now on is above it."""
        newest: dict[str, int] = {}
        for state in states:
            for provider, stamp in state.vector.items():
                if stamp > newest.get(provider, 0):
                    newest[provider] = stamp
        for provider, stamp in newest.items():
            if stamp > self.tables.heard.get(provider, 0):
                self._set(self.tables.heard, provider, stamp)
        self.see(max(newest.values(), default=0))

    def note_written(self, item_id: str, stamp: int) -> None:
        """Note a write under the present id; of somebody else, too, so that it is no news any more."""
        self.note_all_written({stamp: item_id})

    def note_all_written(self, item_ids: Mapping[int, str]) -> None:
        """Note many writes under the present id: stamp -> item id."""
        me = self.provider_id
        issued = self.tables.issued.get(me)
        if issued is None:
            issued = LLBTree()
            self._set(self.tables.issued, me, issued)
        for stamp, item_id in item_ids.items():
            self._set(issued, stamp, _hash(item_id))

    def see(self, stamp: int) -> None:
        """Note that a stamp was seen; what is issued from now on is above it."""
        if stamp > self.facts.get("seen", 0):
            self._set(self.facts, "seen", stamp)

    def mark(self) -> None:
        """Note that the newest own stamp is being told."""
        if self.own_stamp:
            self._insert(self.tables.marks, self.own_stamp)

    def renew(self, truthful: bool, new_id: NewId = random_id) -> str:
        """Take a new provider id, and return it; the present one becomes a past one.

        Args:
            truthful: Nobody else wrote under the present id after this store was copied: what it wrote is
                claimed as it was. Otherwise nothing of it is.
            new_id: Makes ids.
        """
        old = self.provider_id
        if truthful and self.own_stamp:
            self.absorb({"": {old: self.own_stamp}})
        self.see(self.own_stamp)
        self._set(self.facts, "past", (*self.past, old))
        if not truthful:
            self._set(self.facts, "lost", (*self.lost, old))
            self._set_claims(
                {
                    prefix: {provider: stamp for provider, stamp in clock.items() if provider != old}
                    for prefix, clock in self._stored_claims().items()
                }
            )
        self._set(self.facts, "provider_id", new_id())
        self._set(self.facts, "database_id", new_id())
        self._set(self.facts, "issued", self.newest_issued)
        self._set(self.facts, "own", 0)
        self._remove(self.tables.issued, old)
        for stamp in list(self.tables.marks):
            self._discard(self.tables.marks, stamp)
        return self.provider_id

    # -- items -----------------------------------------------------------------------------------

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

    # -- claims ----------------------------------------------------------------------------------

    def claims(self) -> dict[str, dict[str, int]]:
        """Return what this provider claims; its own writes for everything."""
        own = {self.provider_id: self.own_stamp} if self.own_stamp else {}
        return absorbed(self._stored_claims(), {"": own})

    def absorb(self, more: Any) -> None:
        """Claim this too."""
        self._set_claims(absorbed(self._stored_claims(), more))

    def _stored_claims(self) -> dict[str, dict[str, int]]:
        return {prefix: dict(pairs) for prefix, pairs in self.tables.claims.items()}

    def _set_claims(self, claims: Any) -> None:
        tree = self.tables.claims
        for prefix in [known for known in tree if not claims.get(known)]:
            self._remove(tree, prefix)
        for prefix, clock in claims.items():
            pairs = tuple(sorted(clock.items()))
            if pairs and tree.get(prefix) != pairs:
                self._set(tree, prefix, pairs)

    def collected(self) -> dict[str, dict[str, int]]:
        """Return, by partition, the clock of the tombstones that are gone."""
        return {partition: dict(pairs) for partition, pairs in self.tables.collected.items()}

    def collected_in(self, partition: str) -> dict[str, int]:
        """Return the clock of the tombstones that are gone from a partition."""
        return dict(self.tables.collected.get(partition, ()))

    def note_collected(self, partition: str, vector: Stamps) -> None:
        """Note that tombstones with this clock are gone from a partition."""
        known = self.collected_in(partition)
        both = merged(known, vector)
        if both != known:
            self._set(self.tables.collected, partition, tuple(sorted(both.items())))

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
