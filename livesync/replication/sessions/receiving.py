"""The receiver's side of a session: states are applied, in one transaction; what cannot be is deferred.

Applying is idempotent, so they may come in any order and twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from transaction.interfaces import TransientError

from ...attempts import ATTEMPTS
from ...delivery.access import of_the_database
from ...peering.partitions import contained_in_any
from .. import untaken
from ..metadata.applying import Merge, may_be_merged, merge_states
from ..metadata.claims import Covers
from ..metadata.clocks import Stamps, descends
from ..metadata.states import ItemState, newest_stamp, written
from ..models import bases, moves
from ..models.executor import Draft
from ..node import Node
from ..stored import unpack
from ..stores import writing
from ..stores.base import BaseDataStore
from . import conflicts, newcomers, successors
from .conflicts import LogEntry


@dataclass(slots=True)
class Applied:
    """What came of a chunk.

    Attributes:
        states: What is held now of the items that changed.
        told: What the application was told of: ``(object id, existed before, exists now)``.
        conflicts: Conflicts that were settled.
        exceptions: Items that could not be applied.
    """

    states: list[ItemState] = field(default_factory=list)
    told: list[tuple[str, bool, bool]] = field(default_factory=list)
    conflicts: list[LogEntry] = field(default_factory=list)
    exceptions: list[LogEntry] = field(default_factory=list)


class CannotApply(Exception):
    """Raised where not all can be applied at once: it is again, one by one, with a savepoint for each."""


def apply_states(
    node: Node,
    states: Sequence[ItemState],
    origin: str,
    query_ids: tuple[str, ...] = (),
    after: Callable[[Applied], None] | None = None,
    mending: tuple[str, ...] = (),
    tries: int = ATTEMPTS,
    careful: bool | None = None,
) -> Applied:
    """Apply states that were checked, in one transaction; what cannot be applied is deferred.

    Args:
        node: The receiver; within a transaction of its store, this is a part of that one.
        states: In any order.
        origin: The sender, for the track.
        query_ids: The queries that brought them.
        after: Called in the same transaction, with what came of it.
        mending: Prefixes under which claims were wrong: what differs there is touched.
        tries: How often it is tried where it conflicts with what others write.
        careful: Whether each item has a savepoint: one that fails takes back nothing else then. None: first
            without, and where that fails with them; within a transaction, with them.

    Raises:
        TransientError: It has conflicted that often.
        CannotApply: The application cannot take an item; ``careful`` is False, and nothing may be committed.
    """
    ordered = sorted(states, key=lambda state: _order(node, state))
    has_application = node.executor.has_application

    def work(careful: bool) -> Applied:
        receiver = Receiver(node, careful, query_ids, mending)
        node.store.hear(ordered)
        node.store.look_up((state.item_id for state in ordered), with_application=has_application)
        receiver.receive_all(ordered)
        node.executor.record(node.store.connection, receiver.applied.told, origin)
        if after is not None:
            after(receiver.applied)
        return receiver.applied

    user = f"peer:{origin}"
    if careful is None and node.store.connection is not None:
        careful = True
    try:
        return node.store.run(lambda: work(bool(careful)), user, "two-way sync", tries)
    except CannotApply:
        if careful is not None:
            raise
        return node.store.run(lambda: work(True), user, "two-way sync", tries)


def _order(node: Node, state: ItemState) -> tuple[bool, int, int]:
    """Parents are made before their children, and removed after them."""
    depth = node.executor.depth(state.entity_name)
    return (not state.is_live, depth if state.is_live else -depth, state.dot[1])


class Receiver:
    """Takes states, within one transaction.

    Args:
        node: The receiver.
        careful: Whether each item has a savepoint of its own.
        query_ids: The queries that brought them.
        mending: Prefixes under which what differs is touched.
    """

    def __init__(
        self, node: Node, careful: bool, query_ids: tuple[str, ...] = (), mending: tuple[str, ...] = ()
    ) -> None:
        self.node = node
        self.applied = Applied()
        self._careful = careful
        self._query_ids = query_ids
        self._mending = mending
        self._covers = Covers(node.store.claims() if mending else {})
        self._me = node.store.provider_id
        self._lost = set(node.store.lost)
        self._has_application = node.executor.has_application

    def receive_all(self, ordered: Sequence[ItemState]) -> None:
        """Take states in this order; those that come first, or next, are held beforehand, at once."""
        new, newer = self._hold(ordered)
        if self._has_application:
            self._apply_all(ordered, new, newer)
        else:
            self.applied.states += [
                state for state in ordered if state.item_id in new or state.item_id in newer
            ]
            for state in ordered:
                if state.item_id not in new and state.item_id not in newer:
                    self.receive(state)

    def _apply_all(
        self, ordered: Sequence[ItemState], new: Mapping[str, ItemState], newer: Mapping[str, bool]
    ) -> None:
        """Take states in this order, with an application; neighbours that can be are applied at once."""
        names = set() if self._careful else {state.entity_name for state in new.values()}
        known = set(filter(self.node.executor.knows, names))

        def way(state: ItemState) -> str:
            if state.item_id in newer:
                return "changed"
            if state.item_id not in new:
                return "received"
            return "made" if state.is_live and state.entity_name in known else "held"

        for how, found in groupby(ordered, way):
            states = list(found)
            if how == "made":
                self._at_once(partial(self._make, newer), states)
            elif how == "changed":
                self._at_once(partial(self._change, newer), states)
            else:
                for state in states:
                    (self.receive if how == "received" else self._apply_held)(state)

    def _hold(self, ordered: Sequence[ItemState]) -> tuple[Mapping[str, ItemState], Mapping[str, bool]]:
        """Hold what comes first, and what comes next: see :mod:`.newcomers` and :mod:`.successors`."""
        tables = self.node.store.tables
        if self._query_ids or self._mending or self._lost or tables.by_query or tables.hidden:
            return {}, {}
        repeated = _repeated(ordered)
        new = newcomers.hold_new(self.node, ordered, repeated)
        if len(new) == len(ordered) or (self._has_application and self._careful):
            return new, {}
        rest = [state for state in ordered if state.item_id not in new]
        return new, successors.hold_successors(self.node, rest, repeated)

    def _apply_held(self, state: ItemState) -> None:
        """Take a first state that is held already, by itself."""
        self.applied.states.append(state)
        if state.is_live:
            self.execute(state, None)

    def _at_once(self, work: Callable[[list[ItemState]], None], states: list[ItemState]) -> None:
        """Let the application take states that are held already; all or nothing of them goes through."""
        self.applied.states += states
        try:
            work(states)
        except of_the_database():
            raise
        except Exception as exc:
            raise CannotApply from exc

    def _make(self, newer: Mapping[str, bool], states: list[ItemState]) -> None:
        """Make objects in the application of which there is none, of models that it knows."""
        for state, draft in newcomers.make_new(self.node, states, self.applied.told):
            if self.node.store.item_of(draft.object_id) in newer:
                raise CannotApply("what was there is to change, too, and may go elsewhere")
            self._bind(state, draft, None)

    def _change(self, newer: Mapping[str, bool], states: list[ItemState]) -> None:
        """Change objects of the application to what these say, which succeeds what they are."""
        store = self.node.store
        changed = [state for state in states if newer[state.item_id]]
        moved, others = successors.change(self.node, changed, self.applied.told)
        for state, draft in moved:
            if store.item_of(draft.object_id) is not None:
                raise CannotApply("an object has come to where another one was, which may have gone since")
            self._bind(state, draft, store.bound(state.item_id))
        for state in others:
            self._execute(state)

    def receive(self, remote: ItemState) -> None:
        """Take one state: compare it with what is held and what the application has, then apply it."""
        node, store = self.node, self.node.store
        local = take_local_edit(node, remote) if self._has_application else store.get(remote.item_id)
        if store.tables.by_query and not self._query_ids:
            store.hold_for_itself(remote.item_id)
        if store.tables.hidden and local is not None and remote.item_id in store.tables.hidden:
            store._remove(store.tables.hidden, remote.item_id)
            if descends(local.vector, remote.vector) and local.is_live:
                self.execute(local, local)
        is_mended = bool(self._mending) and contained_in_any(self._mending, remote.partition)
        is_foreign = self._is_foreign(remote)
        if local is not None and not is_foreign and _is_known(store, local, remote, is_mended):
            return
        union = self._merged(local, remote, is_foreign)
        state = union.state
        if self._has_to_be_touched(union, local, remote, is_mended):
            state = state.touched(store.provider_id, node.next_stamp())
        bases.keep(node, local, state.dot)
        store.put(state, local)
        if state.hard and not (local is not None and local.hard):
            writing.forget_payload(node.store, state.item_id)
        if union.loser is not None:
            entry = writing.note_conflict(node, replace(union, state=state), self._query_ids)
            if entry is not None:
                self.applied.conflicts.append(entry)
        self.applied.states.append(state)
        if self._has_application and (union.is_new_content or state.item_id in store.tables.deferred):
            self.execute(state, local)

    def _has_to_be_touched(
        self, union: Merge, local: ItemState | None, remote: ItemState, is_mended: bool
    ) -> bool:
        """Tell whether what came of two states would not reach everybody by itself."""
        if union.is_impossible or (self._lost and self._brings_lost(local, remote)):
            return True
        if not is_mended:
            return False
        return union.state != remote or descends(self._covers(remote.partition), union.state.vector)

    def _brings_lost(self, local: ItemState | None, remote: ItemState) -> bool:
        """Tell whether a state brings home what was written under an id that this node has lost."""
        known: Stamps = {} if local is None else local.vector
        return any(remote.vector.get(past, 0) > known.get(past, 0) for past in self._lost)

    def _is_foreign(self, remote: ItemState) -> bool:
        """Tell, once, whether a state has seen what somebody else wrote under this node's present id.

        Then this database was restored or copied, and what it has written to the item may not have seen that.
        """
        store, stamp = self.node.store, remote.vector.get(self._me)
        if stamp is None or store.has_written(remote.item_id, stamp):
            return False
        store.note_written(remote.item_id, stamp)
        return True

    def _merged(self, local: ItemState | None, remote: ItemState, is_foreign: bool) -> Merge:
        union = merge_states(local, remote, is_foreign, self.node.store.birth_of)
        if local is None or union.loser is None or union.is_impossible or not may_be_merged(local, remote):
            return union
        try:
            payload = self.node.executor.merge(local, remote, bases.find(self.node, local, remote))
        except TransientError:
            raise
        except Exception:  # noqa: BLE001 - a model that cannot merge these two lets the greater rank win
            payload = None
        if payload is None:
            return union
        winner = union.state
        if payload == winner.payload:
            return replace(union, loser=None, conflict_type=None)
        store = self.node.store
        store.see(newest_stamp([local, remote]))
        dot = (store.provider_id, self.node.next_stamp())
        bases.keep(self.node, remote)
        state = written(
            winner,
            winner.item_id,
            winner.entity_name,
            winner.partition,
            payload,
            dot,
            life=store.life,
            find=store.birth_of,
        )
        return Merge(state, payload != local.payload)

    def execute(self, state: ItemState, before: ItemState | None) -> None:
        """Make the application what ``state`` says; defer it where that fails."""
        if not self.node.executor.knows(state.entity_name):
            self._defer(state, before, f"this node has no model {state.entity_name!r}")
            return
        if not self._careful:
            try:
                self._execute(state)
            except TransientError:
                raise
            except Exception as exc:
                raise CannotApply from exc
            writing.settle_deferred(self.node, state.item_id)
            return
        savepoint = self.node.store.savepoint()
        try:
            self._execute(state)
        except TransientError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the application raises, the rest goes on
            savepoint.rollback()
            self._defer(state, before, writing.trace(exc))
        else:
            writing.settle_deferred(self.node, state.item_id)

    def _execute(self, state: ItemState) -> None:
        store = self.node.store
        bound = store.bound(state.item_id)
        object_id = bound[0] if bound else self.node.executor.find(store, state)
        other = moves.other_item(store, state.item_id, object_id)
        if other is not None and not moves.is_later(state, other):
            moves.displace(store, state, other)  # the object has moved: it is another item's
            return
        if not state.hard:
            untaken.check(store, object_id)
        draft = self.node.executor.execute(store, state, object_id)
        if draft is not None:
            self._bind(state, draft, bound)
            self.applied.told.append((draft.object_id, object_id is not None, True))
        elif object_id is not None:
            store.unbind(state.item_id)
            if state.hard:
                self.node.executor.erase(store, object_id)
            self.applied.told.append((object_id, True, False))

    def _bind(self, state: ItemState, draft: Draft, bound: tuple[str, bytes] | None) -> None:
        store = self.node.store
        other = moves.other_item(store, state.item_id, draft.object_id)
        if other is not None:
            moves.displace(store, other, state)
        if bound and bound[0] != draft.object_id:
            store.unbind(state.item_id)
        store.bind(state.item_id, draft.object_id, draft.digest)
        if other is not None and moves.is_later(other, state):
            # a model says what its object is called only when it is made
            moves.displace(store, state, other)
            again = self.node.executor.execute(store, other, draft.object_id)
            if again is not None:
                store.bind(other.item_id, again.object_id, again.digest)

    def _defer(self, state: ItemState, before: ItemState | None, text: str) -> None:
        open_entry = self.node.store.tables.deferred.get(state.item_id)
        base, key = before, None
        if open_entry is not None:
            key = open_entry[:2]
            base = None if open_entry[2] is None else unpack(state.item_id, open_entry[2])
        writing.defer(self.node, state, base, key, text, self._query_ids)
        if key is None:
            new = self.node.store.tables.deferred[state.item_id][:2]
            self.applied.exceptions.append(conflicts.load(self.node.store, new))


def _repeated(states: Sequence[ItemState]) -> set[str]:
    """Return the items of which there is more than one state."""
    counted = Counter([state.item_id for state in states])
    return {item_id for item_id, times in counted.items() if times > 1}


def _is_known(store: BaseDataStore, local: ItemState, remote: ItemState, is_mended: bool) -> bool:
    """Tell whether a state brings nothing: the chunk came twice, or what it says by another way."""
    if is_mended:
        return local == remote  # what vectors say is in doubt
    is_seen = local.rank >= remote.rank and descends(local.vector, remote.vector)
    return is_seen and local.has_met(remote, store.birth_of)


def take_local_edit(node: Node, remote: ItemState) -> ItemState | None:
    """Return what is held of an item, after an edit of the application's that nobody has taken yet.

    Without this, applying a change would overwrite the edit in silence.
    """
    store = node.store
    local = store.get(remote.item_id)
    bound = store.bound(remote.item_id)
    object_id = None if bound is None else bound[0]
    if bound is None and local is None:
        object_id = _found(node, remote)
    if object_id is None:
        return local
    draft, reason = _draft(node, object_id)
    if reason is not None:
        untaken.note(store, {object_id: reason})
        return local
    if draft is None:
        if bound is None or local is None or not local.is_live:
            return local
        store.unbind(remote.item_id)
        return writing.write(node, remote.item_id, local.entity_name, local.partition, None)
    if draft.item_id != remote.item_id or (bound is not None and bound[1] == draft.digest):
        return local
    if local is not None and local.hard:
        return local
    try:
        state = writing.write(node, draft.item_id, draft.entity_name, draft.partition, draft.payload)
    except ValueError as exc:  # it has left its partition
        untaken.note(store, {object_id: untaken.reason_of(exc)})
        return local
    store.bind(draft.item_id, object_id, draft.digest)
    return state


def _draft(node: Node, object_id: str) -> tuple[Draft | None, str | None]:
    """Return what the application has of an object, and why that cannot be taken."""
    try:
        draft = node.executor.draft(node.store, object_id)
    except of_the_database():
        raise
    except Exception as exc:  # noqa: BLE001 - what is there stays there, and the change is deferred
        return None, untaken.reason_of(exc)
    return draft, None if draft is None else untaken.too_long(draft.payload)


def _found(node: Node, remote: ItemState) -> str | None:
    """Return the id of the object that an item is which is new here; None: nobody knows of one."""
    try:
        return node.executor.find(node.store, remote)
    except of_the_database():
        raise
    except Exception:  # noqa: BLE001 - to apply it fails in the same way, which is noted then
        return None


def retry_deferred(node: Node) -> Applied:
    """Try again to apply what was deferred, parents first, until no more of it goes through."""
    total = Applied()
    store = node.store

    def work() -> Applied:
        receiver = Receiver(node, careful=True)
        states = [state for state in map(store.get, list(store.tables.deferred)) if state is not None]
        for state in sorted(states, key=lambda found: _order(node, found)):
            receiver.execute(state, None)
        receiver.applied.states = [state for state in states if state.item_id not in store.tables.deferred]
        node.executor.record(store.connection, receiver.applied.told, "deferred")
        return receiver.applied

    while store.read(lambda: len(store.tables.deferred)):
        once = store.run(work, "peer:deferred", "two-way sync")
        total.states += once.states
        total.told += once.told
        if not once.states:
            break
    return total
