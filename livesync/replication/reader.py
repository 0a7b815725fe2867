"""The replication store as one reader of the track: takes the application's changes and stamps each once.

What was applied for a peer comes back on the track, and makes no new change: what the application has is
compared with what it had when the store last looked. What is not sealed yet, and what lies in the inbox, is
looked at as well, so that a session carries what was committed a moment before. The pointer stands behind the
last action that was looked at, sealed or not.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final

from ..action import CASCADING, ActionWrapper
from ..delivery.access import of_the_database
from ..errors import HostFailed, ItemErased, LiveSyncError, PositionPruned
from ..manager import COLLECT_LIMIT, SyncManager
from . import untaken
from .metadata.states import ItemState
from .models.executor import Draft
from .node import Node
from .stores import writing
from .stores.base import BaseDataStore

logger = logging.getLogger(__name__)

#: The reader's pointer on the track.
POINTER: Final = "livesync.replication"

#: Objects looked at in one transaction: those that are near one another share what is written for them.
_AT_ONCE: Final = 5_000

#: What is less than this part of what was looked at is looked at as well, rather than some other time.
_LITTLE: Final = 3

#: Characters that objects say, after which a transaction ends.
_CHARACTERS_AT_ONCE: Final = 4_000_000

#: Actions that take a while to be looked at.
_MANY: Final = 1_000

#: Later than every position of a track.
_END: Final = (1 << 63) - 1

#: Where the pointer stands: its position, and how many actions after it were looked at.
_Place = tuple[int | None, int]

#: Where a first look at everything stands: a fact of the store.
_SCAN: Final = "scanned_to"


class TrackReader:
    """Takes what changed in the application, from its track."""

    def gather(self, node: Node) -> int:
        """Stamp everything that changed since; return how many changes there were."""
        return self.gather_part(node, None)[0]

    def gather_part(self, node: Node, most: int | None) -> tuple[int, bool]:
        """Stamp what changed since, or a part of it.

        Args:
            node: Who stamps it.
            most: So many objects are looked at, about: with what is little more, too; None: all there are.

        Returns:
            How many changes there were, and whether there is more to look at.
        """
        if not self.is_behind(node):
            return 0, False
        self._collect(node)
        if node.store.read(lambda: self._needs_scan(node)):
            node.store.run(lambda: self._begin_scan(node))
        looked = 0
        again = node.store.read(lambda: list(untaken.untaken(node.store)))
        count = self._take_all(node, again)
        if node.store.read(lambda: _SCAN in node.store.facts):
            scanned, looked, more = self._scan(node, most)
            count += scanned
            if more:
                return count, True
        followed, more = self._follow(node, None if most is None else max(1, most - looked))
        return count + followed, more

    def is_far_behind(self, node: Node) -> bool:
        """Tell whether there is so much to look at that it takes a while."""

        def look() -> bool:
            manager = self._manager(node)
            if self._needs_scan(node) or _SCAN in node.store.facts:
                return True
            position, offset = self._place(manager.track)
            count = manager.track.count(position) - offset
            return count + sum(1 for _ in islice(manager.waiting(), _MANY)) >= _MANY

        return node.store.read(look)

    def is_behind(self, node: Node) -> bool:
        """Tell whether there is anything to look at."""

        def look() -> bool:
            manager = self._manager(node)
            track = manager.track
            if track.sealed < 0 or self._needs_scan(node) or _SCAN in node.store.facts:
                return True
            if untaken.untaken(node.store):
                return True  # the host may have become better at it
            position, offset = self._place(track)
            is_sealed = track.sealed > (-1 if position is None else position)
            return (
                track.count(position) > offset
                or (is_sealed and track.count(position, track.sealed) > 0)  # what is seen can be passed
                or next(manager.waiting(), None) is not None
            )

        return node.store.read(look)

    @staticmethod
    def _manager(node: Node) -> SyncManager:
        connection = node.store.connection
        assert connection is not None, "a reader needs a store in a database"
        return SyncManager.get(connection.root())

    def _collect(self, node: Node) -> None:
        """Let what waits in the inbox come onto the track; nothing is written where nothing waits."""

        def is_done() -> bool:
            manager = self._manager(node)
            return bool(manager.track.sealed >= 0) and next(manager.waiting(), None) is None

        def work() -> int:
            return self._manager(node).collect(node.clock())

        if node.store.read(is_done):
            return
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
        # what is on the track now is looked at by the scan
        track.move_pointer_inside(POINTER, track.count(now))
        node.store._set(node.store.facts, _SCAN, "")

    def _scan(self, node: Node, most: int | None) -> tuple[int, int, bool]:
        """Look at all objects there are, and at all that there were; goes on where it was.

        Returns:
            How many changes there were, how many objects were looked at, and whether there are more.
        """
        store = node.store

        def work(at_once: int) -> tuple[int, int]:
            after = store.facts[_SCAN] or None
            there = _of_host("iter_ids()", node.executor.iter_ids(store, after))
            both = merge(there, store.tables.objects.keys(after))
            ids = [object_id for object_id, _ in islice(groupby(both), at_once)]
            count, done = self._take_some(node, ids)
            if done:
                store._set(store.facts, _SCAN, ids[done - 1])
            else:
                store._remove(store.facts, _SCAN)
            return count, done

        total = looked = 0
        while most is None or looked < most:
            at_once = _AT_ONCE if most is None else min(_AT_ONCE, most - looked)
            count, done = store.run(partial(work, at_once))
            if not done:
                return total, looked, False
            total, looked = total + count, looked + done
        return total, looked, True

    # -- what changed ------------------------------------------------------------------------------

    def _follow(self, node: Node, most: int | None) -> tuple[int, bool]:
        """Look at what the track has, then at what waits; return the changes, and whether there is more."""
        store = node.store
        total = looked = 0
        left = 1
        while left:
            if most is not None and looked >= most and left > most // _LITTLE:
                return total, True
            at_once = _AT_ONCE if most is None or looked >= most else min(_AT_ONCE, most - looked)
            ids, begin, end, left = store.read(partial(self._next, node, at_once))
            looked += len(ids)
            then = partial(self._advance, node, begin, end)
            if ids:
                total += self._take_all(node, ids, then)
            elif begin != end:
                store.run(then)
        waiting = store.read(lambda: self._ids(node, self._manager(node).waiting()))
        return total + self._take_all(node, waiting), False

    def _next(self, node: Node, most: int) -> tuple[list[str], _Place, _Place, int]:
        """Return ids of at most so many actions that come next, and of what lies inside of their objects.

        Returns:
            The ids, where the pointer stands and is to stand, and how many actions there are after that.
        """
        track = self._manager(node).track
        position, offset = begin = self._place(track)
        try:
            items = track.pointer_iter_items(POINTER, _END)
        except PositionPruned:
            return [], begin, begin, 0  # the track was emptied meanwhile: everything is looked at next
        actions = [action for _, action in islice(items, most)]
        passed = offset + len(actions)
        left = max(0, track.count(position) - passed)
        sealed = track.sealed
        if sealed > (-1 if position is None else position):
            within = track.count(position, sealed)
            if (actions or within) and passed >= within:
                position, passed = sealed, passed - within
        return self._ids(node, actions), begin, (position, passed), left

    @staticmethod
    def _place(track: Any) -> _Place:
        return track.get_pointer_timestamp(POINTER), track.pointer_offset(POINTER)

    @staticmethod
    def _ids(node: Node, actions: Iterable[ActionWrapper]) -> list[str]:
        return list(dict.fromkeys(TrackReader._all_ids(node, actions)))

    @staticmethod
    def _all_ids(node: Node, actions: Iterable[ActionWrapper]) -> Iterator[str]:
        for action in actions:
            yield action.object_id
            if action.actions & CASCADING:
                inside = node.executor.inside(node.store, action.object_id)
                yield from _of_host(f"contents() of {action.object_id!r}", inside)

    def _advance(self, node: Node, begin: _Place, end: _Place) -> None:
        """Move the pointer, unless somebody else has moved it meanwhile."""
        track = self._manager(node).track
        if begin != end and self._place(track) == begin:
            track.move_pointer(POINTER, end[0])
            track.move_pointer_inside(POINTER, end[1])

    def _take_all(self, node: Node, ids: list[str], then: Callable[[], None] = lambda: None) -> int:
        """Take all of these; with the last of them is done what comes ``then``; return what changed."""
        total = 0

        def work(left: list[str]) -> tuple[int, int]:
            count, done = self._take_some(node, left[:_AT_ONCE])
            if done == len(left):
                then()
            return count, done

        while ids:
            count, done = node.store.run(partial(work, ids))
            total, ids = total + count, ids[done:]
        return total

    def _take_some(self, node: Node, ids: list[str]) -> tuple[int, int]:
        """Take the first of these, as many as one transaction may hold; return what changed, and how many."""
        store = node.store
        store.look_up_objects(ids)
        drafts, failed = _drafts(node, ids)
        found = [
            (object_id, draft)
            for object_id, draft in zip(ids, drafts, strict=False)
            if draft and object_id not in failed
        ]
        store.look_up((draft.item_id for _, draft in found), with_application=True)
        met = Counter(draft.item_id for _, draft in found)
        once = [(object_id, draft) for object_id, draft in found if met[draft.item_id] == 1]
        new, changed = _new(store, once), _changed(node, once)
        if changed:
            writing.write_newer(node, list(changed.values()))
            for object_id, (edited, _) in changed.items():
                store.bind(edited.item_id, object_id, edited.digest)
        count = len(new) + len(changed)
        for object_id, draft in zip(ids, drafts, strict=False):
            if object_id in new or object_id in changed or object_id in failed:
                continue
            try:
                count += self._take(node, object_id, draft)
            except ValueError as exc:
                failed[object_id] = untaken.reason_of(exc)
        if new:
            writing.write_new(node, list(new.values()))
            for object_id, draft in new.items():
                store.bind(draft.item_id, object_id, draft.digest)
        self._note_untaken(store, ids[: len(drafts)], failed)
        return count, len(drafts)

    @staticmethod
    def _note_untaken(store: BaseDataStore, ids: Iterable[str], failed: dict[str, str]) -> None:
        before = untaken.untaken(store)
        if not failed and not before:
            return
        untaken.note(store, {**{object_id: None for object_id in ids if object_id in before}, **failed})
        for object_id, reason in failed.items():
            if before.get(object_id) != reason:
                logger.warning("object %r cannot be taken into two-way sync: %s", object_id, reason)

    @staticmethod
    def _take(node: Node, object_id: str, draft: Draft | None) -> bool:
        """Stamp what changed of one object, within the store's transaction; tell whether it has changed."""
        store = node.store
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
        digest, bound = draft.digest, store.bound(draft.item_id)
        if bound is not None and bound == (object_id, digest):
            return changed
        if bound is None or bound[1] != digest:
            held = store.get(draft.item_id)
            if held is None or held.content != (draft.payload, True, False):
                try:
                    writing.write(node, draft.item_id, draft.entity_name, draft.partition, draft.payload)
                except ItemErased:
                    return changed  # its id is closed: what the application makes of it stays here
                changed = True
        if bound is not None and bound[0] != object_id:
            store.unbind(draft.item_id)  # it is another object now, and the other one is none of it any more
        store.bind(draft.item_id, object_id, digest)
        return changed


def _of_host(what: str, ids: Iterable[str]) -> Iterator[str]:
    """Yield ids that the host says.

    Raises:
        HostFailed: It raised: without them nobody knows what there is.
    """
    try:
        yield from ids
    except of_the_database(LiveSyncError):
        raise
    except Exception as exc:
        raise HostFailed(f"the host's {what} raised {untaken.reason_of(exc)}") from exc


def _drafts(node: Node, ids: list[str]) -> tuple[list[Draft | None], dict[str, str]]:
    """Return what the application has of the first of these, and why some cannot be taken."""
    drafts: list[Draft | None] = []
    failed: dict[str, str] = {}
    characters = 0
    while len(drafts) < len(ids) and characters <= _CHARACTERS_AT_ONCE:
        try:
            with closing(node.executor.drafts(node.store, ids[len(drafts) :])) as made:
                for draft in made:
                    size = 0 if draft is None else len(draft.payload)
                    if draft is not None and (reason := untaken.too_long(draft.payload)) is not None:
                        failed[ids[len(drafts)]] = reason
                    drafts.append(draft)
                    characters += size
                    if characters > _CHARACTERS_AT_ONCE:
                        break
        except of_the_database():
            raise
        except Exception as exc:  # noqa: BLE001 - one that cannot be taken must not stop the others
            object_id = ids[len(drafts)]
            failed[object_id] = untaken.reason_of(exc)
            drafts.append(None)
            if len(failed) > untaken.MOST:
                break  # it is not the objects
    return drafts, failed


def _new(store: BaseDataStore, drafts: list[tuple[str, Draft]]) -> dict[str, Draft]:
    """Return those, by the objects' ids, of which nothing is known here: neither object nor item.

    Args:
        store: Where that was looked up.
        drafts: Each of another item.
    """
    unwritten, deferred = store.unwritten, store.tables.deferred
    return {
        object_id: draft
        for object_id, draft in drafts
        if unwritten.objects.get(object_id) is None
        and unwritten.places.get(draft.item_id) is None
        and unwritten.bound.get(draft.item_id) is None
        and draft.item_id not in deferred
    }


def _changed(node: Node, drafts: list[tuple[str, Draft]]) -> dict[str, tuple[Draft, ItemState]]:
    """Return those, by the objects' ids, that say something else than their live items, with these.

    Args:
        node: Who has looked up what is known of them.
        drafts: Each of another item.
    """
    store, executor = node.store, node.executor
    places, deferred = store.unwritten.places, store.tables.deferred
    kept = {name for name in {draft.entity_name for _, draft in drafts} if executor.keeps_base(name)}
    found: dict[str, tuple[str, Draft, bytes]] = {}
    for object_id, draft in drafts:
        item_id, bound, where = draft.item_id, store.bound(draft.item_id), places.get(draft.item_id)
        if bound is None or where is None or bound[0] != object_id or bound[1] == draft.digest:
            continue
        if store.item_of(object_id) == item_id and draft.entity_name not in kept and item_id not in deferred:
            found[item_id] = object_id, draft, where
    held = store.all_at({item_id: where for item_id, (_, _, where) in found.items()})
    return {
        object_id: (draft, before)
        for (object_id, draft, _), before in zip(found.values(), held, strict=True)
        if before.is_live
        and (before.entity_name, before.partition) == (draft.entity_name, draft.partition)
        and before.payload != draft.payload
    }
