"""A provider: one database's side of two-way sync.

The four methods of maestro's documentation work by pages of changes after a clock. Sessions work by steps
(:meth:`~BaseSyncProvider.introduce` to :meth:`~BaseSyncProvider.finish`), each a call with values, which is
what a network carries.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from transaction.interfaces import TransientError

from ..attempts import ATTEMPTS
from ..errors import ChangesRefused, ClockAhead, OfferChanged, SyncError
from ..peering.partitions import EVERYTHING, check_partition, contained_in_any, minimal
from . import deletion, identity
from .events import EventsManager
from .metadata.changes import (
    ConflictLog,
    ItemChange,
    ItemChangeBatch,
    ItemVersion,
    Operation,
    SyncSession,
    SyncSessionStatus,
)
from .metadata.checking import check_claims, check_states
from .metadata.claims import pinned
from .metadata.clocks import Stamps, VectorClock
from .metadata.conversion import change_of, state_of
from .metadata.ids import NewId, random_id
from .metadata.query import Query
from .metadata.states import ItemState
from .models import moves
from .models.executor import ChangesExecutor
from .node import MAX_DRIFT_S, Node
from .reader import TrackReader
from .sessions import cleaning, comparing, conflicts, incoming, journal, receiving, reinstating, sending
from .sessions.steps import Chunk, Cursor, Introduction, Offer
from .stores import paging, writing
from .stores.base import BaseDataStore
from .stores.memory import MemoryDataStore
from .stores.zodbstore import ZODBDataStore

logger = logging.getLogger(__name__)

#: Items in a chunk, unless a provider says otherwise.
CHUNK_SIZE: Final = 500

#: Items that are applied in one transaction, unless a provider says otherwise.
APPLIED_AT_ONCE: Final = 50_000

#: Items that are applied in one transaction where there is an application, at most.
_OBJECTS_AT_ONCE: Final = 6_000

#: Characters of payload after which no more chunks are waited for.
_CHARACTERS_AT_ONCE: Final = 4_000_000


class BaseSyncProvider:
    """Manages the changes that are exchanged with one data store.

    Args:
        provider_id: This provider's unique id; None: the store's, a random one if it is new.
        data_store: Where its items lie.
        events_manager: Who is told what happens.
        changes_executor: What carries changes out in the application.
        max_num: Changes in a page, and items in a chunk, at most.
        reader: What takes the application's own changes from its track; None: they are written with
            :meth:`commit_item_change`.
        clock: Returns epoch seconds.
        max_drift_s: How far ahead of this clock a received timestamp may be.
        applied_at_once: Chunks of a session are gathered until they hold so many items, and applied in one
            transaction: items that come close together share what is written for them. Where there is an
            application, that is at most 6,000; and where the transaction meets one of hers, each chunk has
            one of its own.
        new_id: Makes ids: of the provider, if it has none yet, of sessions and logs.

    Raises:
        ValueError: The store is another provider's; or ``max_num`` is less than 1.
    """

    #: Items, and characters of their payloads, that it takes in one chunk at most; None: however many.
    takes_items: int | None = None
    takes_characters: int | None = None

    def __init__(
        self,
        provider_id: str | None,
        data_store: BaseDataStore,
        events_manager: EventsManager | None = None,
        changes_executor: ChangesExecutor | None = None,
        max_num: int = CHUNK_SIZE,
        *,
        reader: TrackReader | None = None,
        clock: Callable[[], float] = time.time,
        max_drift_s: float = MAX_DRIFT_S,
        applied_at_once: int = APPLIED_AT_ONCE,
        new_id: NewId = random_id,
    ) -> None:
        if max_num < 1:
            raise ValueError(f"a page holds at least one change, not {max_num!r}")
        self.data_store = data_store
        self.events_manager = events_manager or EventsManager()
        self.changes_executor = changes_executor or ChangesExecutor()
        self.max_num = max_num
        self.applied_at_once = applied_at_once
        self.reader = reader
        self.node = Node(data_store, self.changes_executor, self.events_manager, clock, max_drift_s, new_id)
        data_store.run(lambda: data_store.begin(provider_id, new_id))
        self._opened()

    def _opened(self) -> None:
        """Look at the database before anything is written to it; there is nothing to look at in memory."""

    @property
    def provider_id(self) -> str:
        """This provider's unique id; a database that was restored or copied takes a new one."""
        return self.data_store.read(lambda: self.data_store.provider_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.provider_id!r}>"

    # -- pages of changes ------------------------------------------------------------------------

    def get_vector_clock(self, query: Query | None = None) -> VectorClock:
        """Return the current clock: what this provider claims of everything.

        Args:
            query: Makes no difference: queries never move a clock.
        """
        store = self.data_store
        return store.read(lambda: VectorClock.of_stamps(store.claims().get(EVERYTHING, {})))

    def download_changes(self, vector_clock: VectorClock, query: Query | None = None) -> ItemChangeBatch:
        """Return changes that lie after a clock: one page, of at most ``max_num``.

        The next page lies after ``batch.get_vector_clock_after_done(vector_clock)``.

        Args:
            vector_clock: What the other one has.
            query: Only what it selects.
        """
        return self.data_store.run(
            lambda: paging.page_after(self.node, vector_clock.stamps(), self.max_num, query)
        )

    def upload_changes(self, item_change_batch: ItemChangeBatch, query: Query | None = None) -> None:
        """Apply changes that come from another provider.

        Its clock moves with the last page, if all pages since this provider's clock were applied.

        Args:
            item_change_batch: A page.
            query: The query that is synced; it moves no clock.

        Raises:
            ChangesRefused, ClockAhead: They make no sense; nothing is applied.
        """
        states = [state_of(change) for change in item_change_batch.item_changes]
        self._check(states, (EVERYTHING,))
        check_claims((item_change_batch.claims or {}).values(), self.node.latest())
        source = states[0].dot[0] if states else ""
        query_ids = () if query is None else (query.id,)
        follow = None if query is not None else lambda _: paging.follow(self.node, item_change_batch)
        applied = receiving.apply_states(self.node, states, source, query_ids, follow)
        self._tell(applied)

    def get_deferred_changes(self, vector_clock: VectorClock, query: Query | None = None) -> ItemChangeBatch:
        """Return changes that came earlier and could not be applied: one page.

        Args:
            vector_clock: Only those after it.
            query: Only those that it brought.
        """
        return self.data_store.read(
            lambda: paging.deferred_after(self.node, vector_clock.stamps(), self.max_num, query)
        )

    # -- local changes ---------------------------------------------------------------------------

    def commit_item_change(
        self,
        operation: Operation,
        entity_name: str,
        item_id: str,
        serialized_item: str | None,
        partition: str = EVERYTHING,
        hard: bool = False,
    ) -> ItemChange:
        """Write an item here, stamped with this provider's clock; for stores without an application.

        Args:
            operation: INSERT and UPDATE make the item what is given, DELETE takes it away.
            entity_name, item_id, partition: The item; its partition never changes.
            serialized_item: JSON text; not needed for a delete.
            hard: With DELETE: erase everything that it said, and close its id.

        Raises:
            ItemErased: It was deleted for good.
            ChangesRefused: The partition or the text has a wrong form.
        """
        payload = None if operation is Operation.DELETE else serialized_item
        if payload is None and operation is not Operation.DELETE:
            raise ChangesRefused(f"what does item {item_id!r} say? a {operation.value} needs its JSON text")
        check_partition(partition)

        def work() -> ItemState:
            state = writing.write(self.node, item_id, entity_name, partition, payload, hard)
            check_states([state], (EVERYTHING,), 1 << 62)
            return state

        return change_of(self.data_store.run(work), is_applied=True)

    def erase(self, item_id: str) -> ItemChange:
        """Delete an item for good, here and on every node that it reaches; its id is closed.

        What it said is erased from the application, the store, the conflict logs, what is deferred, and from
        the versions of it as a document, where the database keeps a history.

        Raises:
            LookupError: Nothing of this item is held.
        """
        store = self.data_store

        def work() -> ItemState:
            held = store.get(item_id)
            if held is None:
                raise LookupError(f"there is no item {item_id!r}")
            state = writing.write(self.node, item_id, held.entity_name, held.partition, None, hard=True)
            bound = store.bound(item_id)
            if bound is not None:
                self.changes_executor.execute(store, state, bound[0])
                store.unbind(item_id)
                self.changes_executor.erase(store, bound[0])
                self.changes_executor.record(store.connection, [(bound[0], True, False)], store.provider_id)
            return state

        return change_of(store.run(work, note="deleted for good"), is_applied=True)

    def get_item_version(self, item_id: str) -> ItemVersion:
        """Return the current version of an item; one without a change where nothing is held."""
        state = self.data_store.read(lambda: self.data_store.get(item_id))
        if state is None:
            return ItemVersion(None, item_id, None)
        change = change_of(state, is_applied=True)
        return ItemVersion(change, item_id, change.insert_vector_clock_item.timestamp)

    def items(self) -> list[ItemState]:
        """Return the live items that are held here, by item id; what left a query is not among them."""
        store = self.data_store
        return store.read(
            lambda: [
                state for state in store.items() if state.is_live and state.item_id not in store.tables.hidden
            ]
        )

    # -- the steps of a session --------------------------------------------------------------------

    def introduce(self) -> Introduction:
        """Return what this provider says of itself."""
        return self.data_store.read(lambda: identity.introduce(self.node))

    def meet(self, other: Introduction) -> bool:
        """Compare what another one knows of this; True: this one was restored or copied, and is renamed."""
        return identity.meet(self.node, other)

    def would_rename(self, other: Introduction) -> bool:
        """Tell whether :meth:`meet` would rename this one."""
        return self.data_store.read(lambda: identity.is_another(self.node, other))

    def may_send(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of a session's filter this provider may send: all of it, where nobody restricts it.

        Raises:
            ScopeExceeded: More was asked for than it may, by name.
        """
        return prefixes

    def may_receive(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of a session's filter it may be sent; see :meth:`may_send`."""
        return prefixes

    def prepare(self, most: int | None = None) -> bool:
        """Take the application's own changes, and try again what was deferred.

        Args:
            most: So many of its objects are looked at, about; None: all that have changed.

        Returns:
            Whether there are more to look at.
        """
        more = False
        if self.reader is not None:
            _, more = self.reader.gather_part(self.node, most)
        moves.settle(self.node)
        applied = receiving.retry_deferred(self.node)
        self._tell(applied)
        return more

    def has_much_to_prepare(self) -> bool:
        """Tell whether there are so many changes of the application's that :meth:`prepare` takes a while."""
        return self.reader is not None and self.reader.is_far_behind(self.node)

    def get_claims(self, prefixes: Iterable[str] = (EVERYTHING,)) -> dict[str, dict[str, int]]:
        """Return what this provider claims of these prefixes and below, for one that is going to send.

        Nothing is said of what is in doubt, since digests differed: that is to be sent as a whole.
        """
        store = self.data_store

        def work() -> dict[str, dict[str, int]]:
            claims = comparing.claimed(store, pinned(store.claims(), minimal(prefixes)))
            return {prefix: dict(clock) for prefix, clock in claims.items()}

        return store.read(work)

    def offer(
        self, prefixes: Iterable[str], receiver: Mapping[str, Stamps], receiver_id: str | None = None
    ) -> Offer:
        """Pin what this provider claims, and say what it will send.

        Args:
            prefixes: The session's filter.
            receiver: What the receiver claims of it.
            receiver_id: Who that is, if it is to be remembered for the collection of tombstones.
        """

        def work() -> Offer:
            offer = sending.make_offer(self.node, prefixes, receiver)
            if receiver_id is not None:
                self._note_peer(receiver_id, offer)
            return offer

        return self.data_store.run(work)

    def _note_peer(self, receiver_id: str, offer: Offer) -> None:
        store = self.data_store
        known = store.tables.peers.get(receiver_id, {})
        kept = {
            prefix: clock
            for prefix, clock in known.get("claims", {}).items()
            if not contained_in_any(offer.prefixes, prefix)
        }
        claims = {**kept, **{prefix: dict(clock) for prefix, clock in offer.receiver.items()}}
        prefixes = minimal((*known.get("prefixes", ()), *offer.prefixes))
        store._set(
            store.tables.peers,
            receiver_id,
            {"claims": claims, "seen": self.node.now(), "prefixes": prefixes},
        )

    def confirm(self, offer: Offer) -> None:
        """Make sure that what was pinned is still so: of the sender, before the receiver claims it.

        Raises:
            OfferChanged: Tombstones were collected meanwhile, or this database was restored.
        """
        if not self.may_resume(offer):
            raise OfferChanged(
                "what the sender holds has changed under this session; the next one begins anew"
            )

    def may_resume(self, offer: Offer) -> bool:
        """Tell whether a session that this provider sends may go on where it was."""
        store = self.data_store

        def work() -> bool:
            claims = pinned(store.claims(), offer.prefixes)
            collected = {
                partition: clock
                for partition, clock in store.collected().items()
                if contained_in_any(offer.prefixes, partition)
            }
            return (
                store.provider_id == offer.source
                and collected == offer.collected
                and all(
                    _reaches(pinned(claims, (prefix,)).get(prefix, {}), clock)
                    or _reaches(store.claims().get(prefix, {}), clock)
                    for prefix, clock in offer.claims.items()
                )
            )

        return store.read(work)

    def read(
        self,
        offer: Offer,
        number: int = 0,
        cursor: Cursor | None = None,
        *,
        size: int | None = None,
        characters: int | None = None,
    ) -> Chunk:
        """Return the chunk of an offer that begins at ``cursor``.

        Args:
            offer: What is sent.
            number: The chunk's.
            cursor: ``cursor`` of the chunk before; None: the first one.
            size: Items in it, at most; None: as many as this provider puts into one.
            characters: Of payload, after which it ends, too; None: however many there are.
        """
        size = self.max_num if size is None else size
        return self.data_store.read(
            lambda: sending.read_chunk(self.node, offer, number, cursor or Cursor(), size, characters)
        )

    def begin(self, offer: Offer) -> None:
        """Begin to receive what is offered; again does no harm.

        Raises:
            ChangesRefused: The offer makes no sense.
            ClockAhead: It claims what lies too far in the future.
        """
        store = self.data_store

        def work() -> None:
            is_new = offer.session_id not in store.tables.incoming
            incoming.begin(self.node, offer)
            if is_new:
                key = (store.tables.incoming[offer.session_id]["begun"], offer.session_id)
                journal.save(store, key, offer.source, store.provider_id, SyncSessionStatus.IN_PROGRESS)

        store.run(work)

    def has_enough(self, items: int, characters: int, at_once: int | None = None) -> bool:
        """Tell whether chunks of a session are to be applied before more of them are asked for.

        Args:
            items: How many they hold.
            characters: Of their payloads.
            at_once: So many items are enough, where this provider would wait for more.
        """
        most = self.applied_at_once if at_once is None else min(at_once, self.applied_at_once)
        if self.changes_executor.has_application:
            most = min(most, _OBJECTS_AT_ONCE)
        return items >= most or characters >= _CHARACTERS_AT_ONCE

    def receive(self, offer: Offer, *chunks: Chunk, also: Callable[[], None] | None = None) -> int:
        """Apply chunks, in one transaction; return how many items they changed here.

        What comes before a chunk that makes no sense is applied.

        Args:
            offer: What is sent.
            chunks: Of it.
            also: Called within the transaction, once they are applied.

        Raises:
            ChangesRefused: A chunk makes no sense, or belongs to another session; nothing of it is applied.
            ClockAhead: It comes from the future; nothing of it is applied.
        """
        good: list[Chunk] = []
        refusal: SyncError | None = None
        for chunk in chunks:
            try:
                self._check_chunk(offer, chunk)
            except (ChangesRefused, ClockAhead) as exc:
                refusal = exc
                break
            good.append(chunk)
        applied = self.apply_checked(offer, good, also) if good else 0
        if refusal is not None:
            raise refusal
        return applied

    def _check_chunk(self, offer: Offer, chunk: Chunk) -> None:
        if chunk.session_id != offer.session_id:
            raise ChangesRefused(f"chunk {chunk.number} belongs to another session")
        self._check(chunk.states, offer.prefixes)

    def check(self, states: Iterable[ItemState], prefixes: tuple[str, ...]) -> None:
        """Make sure that what a peer sent makes sense.

        Raises:
            ChangesRefused: It does not, or an item lies outside of ``prefixes``.
            ClockAhead: It comes from the future.
        """
        self._check(states, prefixes)

    def apply_checked(
        self,
        offer: Offer,
        chunks: Sequence[Chunk],
        also: Callable[[], None] | None = None,
        careful: bool | None = None,
    ) -> int:
        """Apply chunks of a session that :meth:`check` has passed; what :meth:`receive` does after it.

        Where that meets what the application writes, each chunk has a transaction of its own after all, and
        ``also`` is called in the last one.

        Raises:
            CannotApply: The application cannot take an item; ``careful`` is False, and this is a part of a
                transaction, of which nothing may be committed.
        """
        is_whole = self.data_store.connection is None  # or else a part of a transaction that others end
        if is_whole and len(chunks) > 1 and self.changes_executor.has_application:
            try:
                return self._apply(offer, chunks, also, tries=1)
            except TransientError as exc:
                logger.info("session %s: chunks are applied one by one: %s", offer.session_id, exc)
                changed = sum(self._apply(offer, [chunk], None) for chunk in chunks[:-1])
                return changed + self._apply(offer, chunks[-1:], also)
        return self._apply(offer, chunks, also, careful=careful)

    def _apply(
        self,
        offer: Offer,
        chunks: Sequence[Chunk],
        also: Callable[[], None] | None,
        tries: int = ATTEMPTS,
        careful: bool | None = None,
    ) -> int:
        def after(done: receiving.Applied) -> None:
            incoming.note_chunks(self.node, offer, chunks, done)
            if also is not None:
                also()

        states = [state for chunk in chunks for state in chunk.states]
        mending = self.data_store.read(lambda: incoming.mending(self.node, offer.session_id))
        applied = receiving.apply_states(
            self.node, states, offer.source, after=after, mending=mending, tries=tries, careful=careful
        )
        self._tell(applied)
        return len(applied.states)

    def finish(self, offer: Offer) -> SyncSession:
        """Claim what the sender claimed: the session is applied as a whole.

        Raises:
            ChangesRefused: Chunks are missing.
        """
        store = self.data_store
        self._tell(receiving.retry_deferred(self.node))

        def work() -> tuple[int, str]:
            key = self._key(offer.session_id)
            differences = incoming.finish(self.node, offer)
            journal.save(
                store,
                key,
                offer.source,
                store.provider_id,
                SyncSessionStatus.FINISHED,
                self.node.now(),
                differences=differences,
            )
            return key

        return journal.load(store, store.run(work))

    def fail(self, session_id: str, reason: str, source: str | None = None) -> SyncSession | None:
        """Note that a session broke off; it can be resumed, or given up. None: it never began here.

        Args:
            session_id: The session.
            reason: Why.
            source: Who sends: then it is noted as well that a session was refused, and never began.
        """
        store = self.data_store

        def work() -> tuple[int, str] | None:
            if session_id not in store.tables.incoming:
                return None if source is None else self._note_refused(session_id, source, reason)
            key = self._key(session_id)
            kept = store.tables.sessions[key]
            journal.save(
                store,
                key,
                kept["source"],
                kept["target"],
                SyncSessionStatus.FAILED,
                self.node.now(),
                kept["query"],
                reason,
            )
            return key

        key = store.run(work)
        return None if key is None else journal.load(store, key)

    def _note_refused(self, session_id: str, source: str, reason: str) -> tuple[int, str] | None:
        now, me = self.node.now(), self.data_store.provider_id
        if any(known == session_id for _, known in self.data_store.tables.sessions):
            return None  # it has ended
        key = (now, session_id)
        journal.save(self.data_store, key, source, me, SyncSessionStatus.FAILED, now, reason=reason)
        return key

    def abandon(self, session_id: str) -> int:
        """Give up a session that is being received, and clean; return how many items were touched."""
        return cleaning.abandon(self.node, session_id)

    def unfinished(self, source: str | None = None) -> list[str]:
        """Return the ids of the sessions that are being received, the oldest first."""
        store = self.data_store
        return store.read(
            lambda: [
                session_id
                for session_id, kept in sorted(
                    store.tables.incoming.items(), key=lambda item: (item[1]["begun"], item[0])
                )
                if source is None or kept["source"] == source
            ]
        )

    def _key(self, session_id: str) -> tuple[int, str]:
        kept = incoming.incoming_of(self.node, session_id)
        return (kept["begun"], session_id)

    def _check(self, states: Iterable[ItemState], prefixes: tuple[str, ...]) -> None:
        check_states(list(states), prefixes, self.node.latest())

    def _tell(self, applied: receiving.Applied) -> None:
        """Tell what has happened: once it is committed, where that is a part of a larger transaction."""
        connection = self.data_store.connection
        if connection is None:
            self._tell_now(applied)
            return

        def told(is_committed: bool) -> None:
            if is_committed:
                self._tell_now(applied)

        connection.transaction_manager.get().addAfterCommitHook(told)

    def _tell_now(self, applied: receiving.Applied) -> None:
        events = self.events_manager
        if type(events).on_item_change_applied is not EventsManager.on_item_change_applied:
            for state in applied.states:
                events.on_item_change_applied(change_of(state, is_applied=True))
        for entry in applied.conflicts:
            events.on_conflict_resolved(conflicts.log_of(entry))
        for entry in applied.exceptions:
            events.on_exception(conflicts.log_of(entry))

    # -- what is kept ------------------------------------------------------------------------------

    def conflict_logs(self) -> list[ConflictLog]:
        """Return all conflicts that are kept, the newest first."""
        store = self.data_store
        return store.read(lambda: [conflicts.log_of(entry) for entry in conflicts.newest_first(store)])

    def reinstate(self, log_id: str) -> ItemChange:
        """Make the loser of a conflict the item's content again: a new change, in the application too.

        Raises:
            UnknownConflict, UsageError, ItemErased: See
                :func:`~livesync.replication.sessions.reinstating.reinstate`.
        """
        return change_of(reinstating.reinstate(self.node, log_id), is_applied=True)

    def collect_tombstones(self, peer_expires_s: float = deletion.PEER_EXPIRES_S) -> int:
        """Drop the tombstones that every known peer has passed; return how many."""
        return deletion.collect_tombstones(self.node, peer_expires_s)

    def sessions(self) -> list[SyncSession]:
        """Return the sessions that this provider received, the newest first."""
        return journal.sessions(self.data_store)


def _reaches(clock: Stamps, wanted: Stamps) -> bool:
    return all(clock.get(provider, 0) >= stamp for provider, stamp in wanted.items())


class MemorySyncProvider(BaseSyncProvider):
    """A provider whose items lie in memory."""

    data_store: MemoryDataStore


class ZODBSyncProvider(BaseSyncProvider):
    """A provider whose items lie in a ZODB, beside the application's objects.

    Where that is a FileStorage of this process, a :class:`~livesync.replication.identity.Witness` lies beside
    it: a database that was restored or copied takes a new provider id when a provider is made of it, before
    anything is written. Over ZEO and RelStorage it is noticed by what peers know of it.
    """

    data_store: ZODBDataStore

    def _opened(self) -> None:
        self._witness = identity.witness_of(self.data_store.db)
        if self._witness is not None:
            before = self.provider_id
            if identity.check_witness(self.node, self._witness):
                logger.warning("this database was restored or copied: provider %s is now %s", before, self)

    def download_changes(self, vector_clock: VectorClock, query: Query | None = None) -> ItemChangeBatch:
        """Return changes that lie after a clock: see :meth:`BaseSyncProvider.download_changes`."""
        batch = super().download_changes(vector_clock, query)
        self._bear_witness()
        return batch

    def offer(
        self, prefixes: Iterable[str], receiver: Mapping[str, Stamps], receiver_id: str | None = None
    ) -> Offer:
        """Pin what this provider claims: see :meth:`BaseSyncProvider.offer`."""
        offer = super().offer(prefixes, receiver, receiver_id)
        self._bear_witness()
        return offer

    def _bear_witness(self) -> None:
        """Note what is about to be told."""
        if self._witness is not None:
            self._witness.write(self.node)
