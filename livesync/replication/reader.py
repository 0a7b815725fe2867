"""The replication store as one reader of the track: takes the application's changes and stamps each once.

What was applied for a peer comes back on the track, and makes no new change: what the application has is
compared with what it had when the store last looked. The pointer follows what is sealed; what lies beyond,
in the inbox too, is looked at as well, so that a session carries what was committed a moment before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from ..action import CASCADING, ActionWrapper
from ..errors import ItemErased
from ..manager import COLLECT_LIMIT, SyncManager
from . import writing
from .node import Node

#: The reader's pointer on the track.
POINTER: Final = "livesync.replication"

#: Objects looked at in one transaction.
_AT_ONCE: Final = 500

#: Where a first look at everything stands: a fact of the store.
_SCAN: Final = "scanned_to"


class TrackReader:
    """Takes what changed in the application, from its track."""

    def gather(self, node: Node) -> int:
        """Stamp everything that changed since; return how many changes there were."""
        self._collect(node)
        count = 0
        if node.store.read(lambda: self._needs_scan(node)):
            node.store.run(lambda: self._begin_scan(node))
        if node.store.read(lambda: _SCAN in node.store.facts):
            count += self._scan(node)
        count += self._follow(node)
        return count

    @staticmethod
    def _manager(node: Node) -> SyncManager:
        connection = node.store.connection
        assert connection is not None, "a reader needs a store in a database"
        return SyncManager.get(connection.root())

    def _collect(self, node: Node) -> None:
        def work() -> int:
            return self._manager(node).collect(node.clock())

        while node.store.run(work) >= COLLECT_LIMIT:
            pass

    # -- everything, once --------------------------------------------------------------------------

    def _needs_scan(self, node: Node) -> bool:
        track = self._manager(node).track
        if not track.has_pointer(POINTER):
            return True
        position = track.get_pointer_timestamp(POINTER)
        # before everything: the track was emptied, and nobody knows of what
        return position is None or bool(track.pruned > position)

    def _begin_scan(self, node: Node) -> None:
        track = self._manager(node).track
        now = track.sealed if track.sealed >= 0 else None
        if track.has_pointer(POINTER):
            track.move_pointer(POINTER, now)
        else:
            track.add_pointer(POINTER, now)
        node.store._set(node.store.facts, _SCAN, "")

    def _scan(self, node: Node) -> int:
        """Look at all objects there are, and at all that there were; goes on where it was."""
        store = node.store

        def work() -> tuple[int, bool]:
            after = store.facts[_SCAN]
            ids = list(islice(node.executor.iter_ids(store, after or None), _AT_ONCE))
            count = sum(self.take(node, object_id) for object_id in ids)
            if ids:
                store._set(store.facts, _SCAN, ids[-1])
            return count, bool(ids)

        total, more = 0, True
        while more:
            count, more = store.run(work)
            total += count
        known = store.read(lambda: list(store.tables.objects))
        total += self._take_all(node, known)
        store.run(lambda: store._remove(store.facts, _SCAN))
        return total

    # -- what changed ------------------------------------------------------------------------------

    def _follow(self, node: Node) -> int:
        total = 0
        place: tuple[int, int] | None = None
        while True:
            ids, place, sealed = node.store.read(lambda place=place: self._next(node, place))  # type: ignore[misc]
            total += self._take_all(node, ids)
            if place is None:
                break
        node.store.run(lambda: self._advance(node, sealed))
        waiting = node.store.read(lambda: list(dict.fromkeys(self._ids(node, self._unsealed(node, sealed)))))
        return total + self._take_all(node, waiting)

    def _next(
        self, node: Node, place: tuple[int, int] | None
    ) -> tuple[list[str], tuple[int, int] | None, int]:
        """Return ids from the sealed part, where to go on (None: nowhere), and what is sealed."""
        track = self._manager(node).track
        position, skip = place or (-1, 0)
        if place is None:
            known = track.get_pointer_timestamp(POINTER)
            position = -1 if known is None else known
        items = track.iterate(position - 1 if place else position, track.sealed)
        taken = list(islice(items, skip, skip + _AT_ONCE))
        ids = list(dict.fromkeys(self._ids(node, (action for _, action in taken))))
        if len(taken) < _AT_ONCE:
            return ids, None, track.sealed
        last = taken[-1][0]
        inside = sum(1 for found, _ in taken if found == last)
        return ids, (last, inside + (skip if last == position and place else 0)), track.sealed

    def _unsealed(self, node: Node, sealed: int) -> Iterator[ActionWrapper]:
        manager = self._manager(node)
        for _, action in manager.track.iterate(sealed):
            yield action
        yield from manager.waiting()

    @staticmethod
    def _ids(node: Node, actions: Iterable[ActionWrapper]) -> Iterator[str]:
        for action in actions:
            yield action.object_id
            if action.actions & CASCADING:
                yield from node.executor.inside(node.store, action.object_id)

    def _advance(self, node: Node, sealed: int) -> None:
        track = self._manager(node).track
        known = track.get_pointer_timestamp(POINTER)
        if sealed > (-1 if known is None else known):
            track.move_pointer(POINTER, sealed)

    def _take_all(self, node: Node, ids: list[str]) -> int:
        total = 0
        for begin in range(0, len(ids), _AT_ONCE):
            part = ids[begin : begin + _AT_ONCE]
            total += node.store.run(
                lambda part=part: sum(self.take(node, object_id) for object_id in part)  # type: ignore[misc]
            )
        return total

    @staticmethod
    def take(node: Node, object_id: str) -> bool:
        """Stamp what changed of one object, within the store's transaction; tell whether it has."""
        store = node.store
        draft = node.executor.draft(store, object_id)
        known = store.item_of(object_id)
        changed = False
        if known is not None and (draft is None or draft.item_id != known):
            # gone, or moved: a partition never changes, so a move makes another item
            store.unbind(known)
            state = store.get(known)
            if state is not None and state.is_live:
                writing.write(node, known, state.entity_name, state.partition, None)
                changed = True
        if draft is None:
            return changed
        bound = store.bound(draft.item_id)
        if bound is not None and bound == (object_id, draft.digest):
            return changed
        if bound is None or bound[1] != draft.digest:
            held = store.get(draft.item_id)
            if held is None or held.content != (draft.payload, True, False):
                try:
                    writing.write(node, draft.item_id, draft.entity_name, draft.partition, draft.payload)
                except ItemErased:
                    return changed  # its id is closed: what the application makes of it stays here
                changed = True
        store.bind(draft.item_id, object_id, draft.digest)
        return changed
