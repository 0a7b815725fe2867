"""A world of providers that edit, sync, fail and are restored at random, and what has to hold in it."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace

from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.errors import ItemErased
from livesync.peering.partitions import contained_in_any, contains, minimal
from livesync.replication import layers, pagetrees
from livesync.replication.metadata.changes import ConflictType, Operation
from livesync.replication.metadata.digests import Digest, digest_of
from livesync.replication.metadata.states import written
from livesync.replication.models.executor import ChangesExecutor
from livesync.replication.provider import BaseSyncProvider
from livesync.replication.sessions import conflicts
from livesync.replication.sessions.steps import Cursor
from livesync.replication.stored import ROOT_KEY, unpack
from livesync.replication.stores.base import BaseDataStore
from livesync.replication.stores.memory import MemoryDataStore
from livesync.replication.stores.zodbstore import ZODBDataStore

PARTITIONS = ("F1", "F1:U1", "F1:U2", "F2", "F2:U1", "F10")
RIGHTS = (("",), ("",), ("F1",), ("F1:U1",), ("F2",), ("F1:U1", "F2"), ("F10", "F1:U2"))
EPOCH = 1_700_000_000


def memory_store(image: bytes | None = None) -> BaseDataStore:
    store = MemoryDataStore()
    if image is not None:
        store._tables = pickle.loads(image)
    return store


def zodb_store(image: bytes | None = None) -> BaseDataStore:
    db = DB(DemoStorage())
    if image is not None:
        with db.transaction() as connection:
            connection.root()[ROOT_KEY] = pickle.loads(image)
    return ZODBDataStore(db)


STORES = {"memory": memory_store, "zodb": zodb_store}


def make_layers_small(patch) -> None:
    """Let what is new by id go down into the large trees with nearly every transaction."""
    patch.setattr(pagetrees, "PAGE_SIZE", 150)
    patch.setattr(layers, "MOST_RECENT", 1)
    patch.setattr(layers, "SIEVED", 1)


def image_of(store: BaseDataStore) -> bytes:
    """Return a copy of all that a store holds."""
    return store.read(lambda: pickle.dumps(store.tables))


def content_of(state) -> tuple:
    """Return what tells contents apart, whoever stamped them: no two writes say the same."""
    return (state.item_id, state.payload, state.length, state.hard)


class FlakyApplication(ChangesExecutor):
    """An application that is a dict, and raises now and then."""

    def __init__(self, rng: random.Random, failures: float) -> None:
        self.rng = rng
        self.failures = failures
        self.has: dict[str, str] = {}

    def execute(self, store, state, object_id):
        if self.failures and self.rng.random() < self.failures:
            raise RuntimeError("the application does not like this one")
        if state.is_live:
            self.has[state.item_id] = state.payload
        else:
            self.has.pop(state.item_id, None)


class SimulatedNode:
    """A provider with rights, and a clock that is wrong."""

    def __init__(self, world: World, name: str, rights: tuple[str, ...]) -> None:
        self.world, self.name, self.rights = world, name, rights
        self.offset = world.rng.choice((0, 0, world.rng.randint(-36_000, 36_000)))
        self.pending: list[str] = []
        self.images: list[tuple[bytes, dict[str, str], int]] = []
        self.application = FlakyApplication(world.rng, world.failures)
        self._open(None, name)

    def _open(self, image: bytes | None, name: str | None) -> None:
        self.store = self.world.new_store(image)
        self.provider = BaseSyncProvider(
            name,
            self.store,
            changes_executor=self.application,
            max_num=self.world.rng.choice((1, 2, 5)),
            clock=lambda: EPOCH + self.world.ticks + self.offset,
            max_drift_s=1e9,
            new_id=self.world.new_id,
        )

    def save_image(self) -> None:
        self.images.append((image_of(self.store), dict(self.application.has), len(self.world.writes)))

    def restore(self) -> None:
        image, has, _ = self.world.rng.choice(self.images)
        self.application.has = dict(has)
        self.pending.clear()
        self._open(image, None)
        self.pending = self.provider.unfinished()

    def states(self):
        return {state.item_id: state for state in self.store.read(lambda: list(self.store.items()))}

    def state(self, item_id: str):
        return self.store.read(lambda: self.store.get(item_id))

    def may_hold(self, partition: str) -> bool:
        return contained_in_any(self.rights, partition)


class World:
    """Some nodes, the first of which may hold everything."""

    def __init__(
        self,
        seed: int,
        kind: str = "memory",
        nodes: int | None = None,
        restores: bool = False,
        failures: float = 0.0,
        hard: bool = True,
        digests: bool = True,
        dense: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.ids = random.Random(f"{seed} ids")
        self.seed, self.new_store = seed, STORES[kind]
        self.ticks = 0
        #: Few items, many restores, news by way of others: what happens to what two lives have written.
        self.dense = dense
        self.partitions = ("F1", "F1:U1") if dense else PARTITIONS
        self.names = 1 if dense else 4
        self.failures, self.restores, self.digests = failures, restores, digests
        self.hard = hard and not dense
        self.writes: list[tuple] = []  # (item id, dot, payload or None, vector, hard)
        self.causes: dict[tuple, set[int]] = {}  # content -> numbers of the writes that its maker knew
        self.gone: set[int] = set()  # writes that nobody has any more, or a log of, since a restore
        count = nodes or self.rng.randint(4 if dense else 2, 5)
        possible = RIGHTS[:3] if dense else RIGHTS
        rights = [("",), *(self.rng.choice(possible) for _ in range(count - 1))]
        self.nodes = [SimulatedNode(self, f"n{number}", right) for number, right in enumerate(rights)]
        self.restored = False

    def new_id(self) -> str:
        return f"{self.ids.getrandbits(128):032x}"

    # -- steps -----------------------------------------------------------------------------------

    def run(self, steps: int) -> World:
        for _ in range(steps):
            self.step()
        return self

    def step(self) -> None:
        rng = self.rng
        self.ticks += rng.choice((0, 0, 1, 5))
        node = rng.choice(self.nodes)
        draw = rng.random() * (1.2 if self.dense else 1)
        if draw < 0.44:
            for _ in range(rng.choice((1, 1, 12)) if self.dense else 1):
                self.edit(node)
        elif draw < 0.5:
            self.move(node)
        elif draw < 0.9:
            self.sync(node, rng.choice(self._others(node)))
        elif draw < 0.94:
            node.offset = rng.randint(-36_000, 36_000)
        elif self.restores:
            if draw < (1.06 if self.dense else 0.98) or not node.images:
                node.save_image()
            else:
                self.restore(node)

    def _others(self, node: SimulatedNode) -> list[SimulatedNode]:
        """Return with whom a node syncs: with everybody, or with its neighbours."""
        if not self.dense:
            return [found for found in self.nodes if found is not node]
        place = self.nodes.index(node)
        return [found for found in self.nodes if abs(self.nodes.index(found) - place) == 1]

    def restore(self, node: SimulatedNode) -> None:
        """Restore a node from one of its images; note what nobody else had."""
        before = self.held_writes()
        for loser in self.losers(node):
            self.gone |= self.causes_of(loser)  # its log goes with the database, and was there
        erased = {state.item_id for state in node.states().values() if state.hard}
        self.gone |= {number for number, found in enumerate(self.writes) if found[0] in erased}
        node.restore()
        self.ticks += 1  # that takes a while
        self.gone |= before - self.held_writes()
        self.restored = True

    def edit(self, node: SimulatedNode) -> None:
        rng = self.rng
        partition = rng.choice([found for found in self.partitions if node.may_hold(found)])
        item_id = f"{partition}/{rng.randint(0, self.names - 1)}"
        held = node.state(item_id)
        draw = rng.random()
        if held is not None and held.is_live and draw < 0.25:
            hard = self.hard and draw < 0.03
            self._commit(node, Operation.DELETE, item_id, None, partition, hard)
        else:
            payload = json.dumps({"n": len(self.writes), "by": node.name})
            self._commit(node, Operation.UPDATE, item_id, payload, partition, False)

    def move(self, node: SimulatedNode) -> bool:
        """Move a live item to another partition: deleted there, made here, under the same name."""
        rng = self.rng
        live = [state for state in node.states().values() if state.is_live and node.may_hold(state.partition)]
        if not live:
            return False
        state = rng.choice(sorted(live, key=lambda found: found.item_id))
        places = [found for found in self.partitions if node.may_hold(found) and found != state.partition]
        if not places:
            return False
        partition, name = rng.choice(places), state.item_id.rpartition("/")[2]
        self._commit(node, Operation.DELETE, state.item_id, None, state.partition, False)
        # unlike any other, so that it can be told whether it got lost
        payload = json.dumps({**json.loads(state.payload), "moved": len(self.writes)})
        self._commit(node, Operation.UPDATE, f"{partition}/{name}", payload, partition, False)
        return True

    def delete(self, node: SimulatedNode, hard: bool) -> bool:
        """Delete a live item."""
        return self._change_one(node, lambda state: state.is_live, Operation.DELETE, hard)

    def revive(self, node: SimulatedNode) -> bool:
        """Write to an item that was deleted."""
        return self._change_one(node, lambda state: state.is_tombstone, Operation.UPDATE, False)

    def _change_one(self, node, is_one, operation, hard) -> bool:
        found = [
            state for state in node.states().values() if is_one(state) and node.may_hold(state.partition)
        ]
        if not found:
            return False
        state = self.rng.choice(sorted(found, key=lambda one: one.item_id))
        payload = None if operation is Operation.DELETE else json.dumps({"n": len(self.writes)})
        self._commit(node, operation, state.item_id, payload, state.partition, hard)
        return True

    def _commit(self, node, operation, item_id, payload, partition, hard) -> None:
        before = node.state(item_id)
        base = self._base(node, item_id, payload, before)
        try:
            change = node.provider.commit_item_change(operation, "thing", item_id, payload, partition, hard)
        except ItemErased:
            return
        state = node.state(item_id)
        if item_id not in node.store.read(lambda: set(node.store.tables.deferred)):
            node.application.has.pop(item_id, None)
            if state.is_live:
                node.application.has[item_id] = state.payload
        item = change.change_vector_clock_item
        dot = (node.store.read(lambda: node.store.provider_id), node.store.read(lambda: node.store.own_stamp))
        seen = dict(before.vector) if before is not None else {}
        if item.provider_id != dot[0] or item.stamp != dot[1]:
            seen = None  # it was concurrent with what was deferred here
        self._note_cause(item_id, payload, base, hard)
        self.writes.append((item_id, dot, payload, seen, hard))

    @staticmethod
    def _base(node: SimulatedNode, item_id: str, payload: str | None, before):
        """Return what a writer sees: not what is deferred at his node, but for a delete, which means all."""
        open_entry = node.store.read(lambda: node.store.tables.deferred.get(item_id))
        if open_entry is None or payload is None:
            return before
        return None if open_entry[2] is None else unpack(item_id, open_entry[2])

    def _note_cause(self, item_id: str, payload: str | None, base, hard: bool) -> None:
        made = written(base, item_id, "thing", "", payload, ("", 0), hard)
        known = self.causes_of(base) if base is not None else set()
        self.causes.setdefault(content_of(made), set()).update(known, {len(self.writes)})

    def causes_of(self, state) -> set[int]:
        """Return the numbers of the writes that whoever made this content had seen."""
        return self.causes.get(content_of(state), set())

    def held_writes(self) -> set[int]:
        """Return the numbers of all writes that somebody still has, or a log of."""
        found: set[int] = set()
        for node in self.nodes:
            for state in (*node.states().values(), *self.losers(node)):
                found |= self.causes_of(state)
        return found

    @staticmethod
    def losers(node: SimulatedNode):
        """Return the losers that a node has logged."""
        logs = node.store.read(lambda: list(conflicts.newest_first(node.store)))
        return [log.loser for log in logs if log.conflict_type is not ConflictType.EXCEPTION_OCCURRED]

    def common(self, one: SimulatedNode, other: SimulatedNode) -> tuple[str, ...]:
        found = [mine for mine in one.rights for theirs in other.rights if contains(theirs, mine)]
        found += [theirs for theirs in other.rights for mine in one.rights if contains(mine, theirs)]
        return minimal(found)

    def sync(
        self,
        source: SimulatedNode,
        target: SimulatedNode,
        narrow: bool | None = None,
        is_cut: bool | None = None,
    ) -> None:
        """One direction, over a random filter, perhaps cut, with edits meanwhile."""
        rng = self.rng
        prefixes = self.common(source, target)
        if rng.random() < 0.4 if narrow is None else narrow:
            narrow = [found for found in self.partitions if contained_in_any(prefixes, found)]
            prefixes = minimal(rng.sample(narrow, min(len(narrow), 2))) if narrow else ()
        if not prefixes:
            return
        for session in list(target.pending):
            if rng.random() < 0.5:
                target.provider.abandon(session)
                target.pending.remove(session)
        self.meet(source, target)
        target.provider.prepare()
        offer = self._offer(source, target, prefixes)
        chunks = self._read(offer, source, target)
        if rng.random() < 0.3:
            chunks += rng.sample(chunks, rng.randint(0, len(chunks)))
            rng.shuffle(chunks)
        is_cut = rng.random() < 0.25 if is_cut is None else is_cut
        cut = rng.randint(0, len(chunks)) if is_cut else None
        waiting, at_once = chunks[:cut], len(self.writes) % 3 + 1
        while waiting:
            self.receive(target, offer, *waiting[:at_once])
            del waiting[:at_once]
        if cut is None:
            source.provider.confirm(offer)
            target.provider.finish(offer)
        elif rng.random() < 0.5:
            target.provider.abandon(offer.session_id)
        else:
            target.pending.append(offer.session_id)

    def _offer(self, source: SimulatedNode, target: SimulatedNode, prefixes: tuple[str, ...]):
        claims = target.provider.get_claims(prefixes)
        offer = source.provider.offer(prefixes, claims, target.provider.provider_id)
        if not self.digests:
            offer = replace(offer, digests={})
        target.provider.begin(offer)
        return offer

    def receive(self, target: SimulatedNode, offer, *chunks) -> None:
        """Apply chunks; nothing in them may be new to its maker."""
        me = target.store.read(lambda: target.store.provider_id)
        for state in (state for chunk in chunks for state in chunk.states if not self.restored):
            if state.dot[0] == me:
                held = target.state(state.item_id)
                is_known = held is not None and held.has_seen(state.dot) and held.rank >= state.rank
                assert is_known, f"seed {self.seed}: {state.item_id} comes back to {target.name} as new"
        target.provider.receive(offer, *chunks)

    def _read(self, offer, source: SimulatedNode, target: SimulatedNode):
        """Return all chunks; both nodes go on editing meanwhile."""
        chunks, cursor = [], Cursor()
        while not (chunks and chunks[-1].is_last):
            chunks.append(source.provider.read(offer, len(chunks), cursor))
            cursor = chunks[-1].cursor
            if self.rng.random() < 0.2:
                self.edit(self.rng.choice((source, target)))
        return chunks

    @staticmethod
    def meet(source: SimulatedNode, target: SimulatedNode) -> None:
        target.provider.meet(source.provider.introduce())
        source.provider.meet(target.provider.introduce())

    def full_sync(self, source: SimulatedNode, target: SimulatedNode) -> int:
        """Sync all that both may hold; return how many items were sent, and places are in doubt."""
        prefixes = self.common(source, target)
        if not prefixes:
            return 0
        self.meet(source, target)
        target.provider.prepare()
        offer = self._offer(source, target, prefixes)
        number, cursor, sent = 0, Cursor(), 0
        while True:
            chunk = source.provider.read(offer, number, cursor)
            self.receive(target, offer, chunk)
            sent += len(chunk.states)
            number, cursor = number + 1, chunk.cursor
            if chunk.is_last:
                break
        source.provider.confirm(offer)
        target.provider.finish(offer)
        return sent + sum(
            key[0] == offer.source and kept["doubt"] != "mended"
            for key, kept in target.store.read(lambda: list(target.store.tables.differences.items()))
        )

    def exchange(self) -> None:
        """Let everybody sync with everybody until nothing is sent, and nothing is in doubt."""
        for node in self.nodes:
            node.application.failures = 0.0
            for session in node.pending:
                node.provider.abandon(session)
            node.pending.clear()
        for _ in range(3 * len(self.nodes) + 3):
            sent = sum(
                self.full_sync(source, target)
                for source in self.nodes
                for target in self.nodes
                if source is not target
            )
            if not sent:
                return
        raise AssertionError(f"seed {self.seed}: there is always something more to send")

    # -- what has to hold --------------------------------------------------------------------------

    def check(self) -> None:
        """Assert everything that has to hold after a full exchange."""
        where = f"seed {self.seed}"
        full = self.nodes[0].states()
        for node in self.nodes:
            expected = {key: state for key, state in full.items() if node.may_hold(state.partition)}
            found = node.states()
            assert found.keys() == expected.keys(), f"{where}: {node.name} holds other items"
            for key, state in found.items():
                assert state == expected[key], f"{where}: {node.name} {key}: {state} {expected[key]}"
            live = {key: state.payload for key, state in found.items() if state.is_live}
            assert node.application.has == live, f"{where}: the application of {node.name} differs"
            self.check_digests(node)
            deferred = node.store.read(lambda node=node: list(node.store.tables.deferred))
            assert not deferred, f"{where}: {deferred} is still deferred at {node.name}"
        if not self.restored:
            self.check_writes(full)
        self.check_causes(full)

    def check_digests(self, node: SimulatedNode) -> None:
        """Assert that the digests that are kept are those of what is held."""
        store = node.store

        def work() -> None:
            for prefix in store.tables.digests:
                held = [store.get(item_id) for item_id in store.items_under(prefix)]
                dead = sum(digest_of(state) for state in held if state.is_tombstone)
                rest = sum(digest_of(state) for state in held if not state.is_tombstone)
                assert store.digest(prefix) == Digest() + Digest(rest, dead), f"seed {self.seed}: {prefix!r}"

        store.read(work)

    def check_causes(self, full) -> None:
        """Assert that every write that somebody still had is behind what is held, or behind a logged loser.

        Who had seen what is what happened, and not what clocks say. An id that was closed for good keeps
        nothing.
        """
        found: set[int] = set()
        for state in (*full.values(), *(loser for node in self.nodes for loser in self.losers(node))):
            found |= self.causes_of(state)
        for number, (item_id, dot, payload, *_) in enumerate(self.writes):
            if number in self.gone or number in found:
                continue
            assert full[item_id].hard, f"seed {self.seed}: {item_id}: {dot} {payload} vanished in silence"

    def check_writes(self, full) -> None:
        """Assert that no write is lost: it is the content, was seen by what beat it, or is in a log."""
        where = f"seed {self.seed}"
        logged = set()
        for node in self.nodes:
            for entry in node.store.read(lambda node=node: list(conflicts.newest_first(node.store))):
                logged.add((entry.item_id, entry.loser.dot))
                if full[entry.item_id].hard:
                    assert not entry.loser.payload, f"{where}: an erased payload is in a log"
        for item_id, dot, _payload, _seen, hard in self.writes:
            state = full[item_id]
            assert state.has_seen(dot), f"{where}: {item_id} has not seen {dot}"
            if state.dot == dot or (item_id, dot) in logged or hard:
                continue  # (of two that delete for good, either does)
            if state.is_tombstone and (_payload, state.dot[1]) == (None, dot[1]):
                continue  # two that deleted the same in the same moment
            overwritten = any(
                other[0] == item_id and other[3] is not None and other[3].get(dot[0], 0) >= dot[1]
                for other in self.writes
            )
            assert overwritten, f"{where}: {item_id}: {dot} vanished in silence"
        for state in full.values():
            assert not state.hard or not state.payload
