"""Sessions between two providers: deferred changes first, then one way, then the other."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from ...errors import BufferGap, OfferChanged, SessionTimedOut, SyncRunning, TransferEnded
from ...peering.partitions import EVERYTHING, minimal
from ..events import EventsManager, Progress
from ..metadata.changes import SyncSession, SyncSessionStatus
from ..metadata.clocks import moment_of
from ..metadata.conversion import change_of
from ..metadata.query import Query
from ..provider import BaseSyncProvider
from . import queries
from .steps import Chunk, Cursor, Offer

logger = logging.getLogger(__name__)


class BaseSyncLock(ABC):
    """Keeps two sessions from running at once."""

    @abstractmethod
    def is_running(self) -> bool:
        """Tell whether somebody holds the lock."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Return a context manager that holds the lock.

        Raises:
            SyncRunning: On entering: somebody else does.
        """


class SyncLock(BaseSyncLock):
    """A lock of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def is_running(self) -> bool:
        """Tell whether somebody holds the lock."""
        return self._lock.locked()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock for the time of a ``with`` block."""
        if not self._lock.acquire(blocking=False):
            raise SyncRunning("another session is under way: wait for its end")
        try:
            yield
        finally:
            self._lock.release()


#: After these, a session that was cut does not go on: the next one begins anew.
_NEVER_RESUMED: Final = (BufferGap, OfferChanged, TransferEnded)


@dataclass(slots=True)
class _Cut:
    """Where a session broke off."""

    offer: Offer
    number: int
    cursor: Cursor


class SyncOrchestrator:
    """Runs sessions between two providers.

    Args:
        sync_lock: Keeps two sessions from running at once.
        providers: Two.
        maximum_duration_seconds: A session that takes longer fails; the next one goes on where it was.
        clock: Returns seconds that never step back.

    Raises:
        ValueError: There are not two providers, or both have one id.
    """

    def __init__(
        self,
        sync_lock: BaseSyncLock,
        providers: Sequence[BaseSyncProvider],
        maximum_duration_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(providers) != 2:
            raise ValueError(f"a session has two providers, not {len(providers)}")
        if providers[0] is providers[1]:
            raise ValueError("a session has two providers: nobody syncs with itself")
        self.sync_lock = sync_lock
        self.providers = tuple(providers)
        self.maximum_duration_seconds = maximum_duration_seconds
        self._clock = clock
        self._cuts: dict[tuple[str, str, tuple[str, ...]], _Cut] = {}

    def run(
        self,
        initial_source_provider_id: str | None = None,
        query: Query | None = None,
        prefixes: Iterable[str] = (EVERYTHING,),
    ) -> tuple[SyncSession, SyncSession]:
        """Sync both ways, and return the two sessions.

        A session that fails has status FAILED and the reason; what it applied stays, and the other one runs
        all the same.

        Args:
            initial_source_provider_id: Who sends first; None: the first provider.
            query: Sync what it selects; None: by partitions.
            prefixes: Sync what lies under these; a remote provider takes "everything" as all that the
                certificates of both ends allow.

        Raises:
            SyncRunning: Somebody else holds the lock.
            ValueError: There is no provider of this id.
        """
        with self.sync_lock.lock():
            first, second = self.providers
            if initial_source_provider_id is not None:
                first = self._provider(initial_source_provider_id)
                second = self.providers[1] if first is self.providers[0] else self.providers[0]
            return (
                self._synchronize(first, second, query, minimal(prefixes)),
                self._synchronize(second, first, query, minimal(prefixes)),
            )

    def synchronize_providers(
        self,
        source_provider_id: str,
        target_provider_id: str,
        query: Query | None = None,
        prefixes: Iterable[str] = (EVERYTHING,),
    ) -> SyncSession:
        """Sync one way.

        Raises:
            SyncRunning: Somebody else holds the lock.
            ValueError: There is no provider of one of the ids, or both are one.
        """
        source, target = self._provider(source_provider_id), self._provider(target_provider_id)
        if source is target:
            raise ValueError("nobody syncs with itself")
        with self.sync_lock.lock():
            return self._synchronize(source, target, query, minimal(prefixes))

    def give_up(self) -> int:
        """Clean up after sessions that broke off for good; return how many items were touched."""
        self._cuts.clear()
        return sum(
            provider.abandon(session_id)
            for provider in self.providers
            for session_id in provider.unfinished()
        )

    def _provider(self, provider_id: str) -> BaseSyncProvider:
        for provider in self.providers:
            if provider.provider_id == provider_id:
                return provider
        raise ValueError(f"there is no provider {provider_id!r} here")

    def _synchronize(
        self,
        source: BaseSyncProvider,
        target: BaseSyncProvider,
        query: Query | None,
        prefixes: tuple[str, ...],
    ) -> SyncSession:
        transfer = _Transfer(source, target, self._clock() + self.maximum_duration_seconds, self._clock)
        place = ("", "", prefixes)
        try:
            transfer.meet()
            if query is not None:
                return transfer.run_query(query)
            prefixes = target.may_receive(source.may_send(prefixes))
            if not prefixes:
                return transfer.nothing()
            place = (source.provider_id, target.provider_id, prefixes)
            return transfer.run(prefixes, self._cuts, place)
        except Exception as exc:
            if isinstance(exc, _NEVER_RESUMED):
                self._cuts.pop(place, None)
            logger.warning("session with %s failed: %s", source, exc, exc_info=True)
            return transfer.failed(exc)


class _Transfer:
    """One session, one way."""

    def __init__(
        self, source: BaseSyncProvider, target: BaseSyncProvider, deadline: float, clock: Callable[[], float]
    ) -> None:
        self._source = source
        self._target = target
        self._deadline = deadline
        self._clock = clock
        self._session_id = ""
        self._begun = target.node.now()

    def meet(self) -> None:
        """Let each look whether the other knows more of it than itself."""
        if self._target.meet(self._source.introduce()):
            logger.warning("%s was restored or copied: it has a new id", self._target)
        if self._source.meet(self._target.introduce()):
            logger.warning("%s was restored or copied: it has a new id", self._source)

    def run(
        self,
        prefixes: tuple[str, ...],
        cuts: dict[tuple[str, str, tuple[str, ...]], _Cut],
        place: tuple[str, str, tuple[str, ...]],
    ) -> SyncSession:
        """Send what lies under the prefixes."""
        source, target = self._source, self._target
        self._progress("deferred", target.prepare)
        self._progress("serializing", source.prepare)
        cut = cuts.pop(place, None)
        if cut is None or not source.may_resume(cut.offer):
            for session_id in target.unfinished(source.provider_id):
                target.abandon(session_id)
            offer = source.offer(prefixes, target.get_claims(prefixes), target.provider_id)
            cut = _Cut(offer, 0, Cursor())
        self._begin(cut.offer)
        cuts[place] = cut
        self._transfer(cut)
        self._progress("finishing", lambda: source.confirm(cut.offer))
        session = target.finish(cut.offer)
        del cuts[place]
        for events in self._events():
            events.on_end_sync_session(session)
        return session

    def _begin(self, offer: Offer) -> None:
        self._session_id = offer.session_id
        self._target.begin(offer)
        for events in self._events():
            events.on_start_sync_session(self._session(SyncSessionStatus.IN_PROGRESS, ""))

    def _transfer(self, cut: _Cut) -> None:
        """Send chunk after chunk; the target says how many of them it applies at once."""
        count = items = characters = 0
        waiting: list[Chunk] = []
        self._tell(Progress("transferring", "started"))
        while True:
            try:
                self._check_time()
                chunk = self._read_after(cut, waiting)
                self._tell_sent(chunk)
            except Exception:
                self._apply(cut, waiting)  # so that the next session goes on from here
                raise
            waiting.append(chunk)
            count += len(chunk.states)
            items += len(chunk.states)
            characters += sum(len(state.payload) for state in chunk.states)
            if chunk.is_last or self._target.has_enough(items, characters):
                self._apply(cut, waiting)
                items = characters = 0
            if chunk.is_last:
                break
            self._tell(Progress("transferring", "in_progress", count))
        self._tell(Progress("transferring", "completed", count))

    def _read_after(self, cut: _Cut, waiting: list[Chunk]) -> Chunk:
        source, target = self._source, self._target
        size = source.max_num if target.takes_items is None else min(source.max_num, target.takes_items)
        number, cursor = cut.number, cut.cursor
        if waiting:
            number, cursor = waiting[-1].number + 1, waiting[-1].cursor
        return source.read(cut.offer, number, cursor, size=size, characters=target.takes_characters)

    def _apply(self, cut: _Cut, waiting: list[Chunk]) -> None:
        """Apply the chunks that wait, if there are any, and note how far the session has come."""
        if waiting:
            self._target.receive(cut.offer, *waiting)
            cut.number, cut.cursor = waiting[-1].number + 1, waiting[-1].cursor
            waiting.clear()

    def _tell_sent(self, chunk: Chunk) -> None:
        events = self._source.events_manager
        if type(events).on_item_changes_sent is not EventsManager.on_item_changes_sent:
            events.on_item_changes_sent([change_of(state) for state in chunk.states])

    def nothing(self) -> SyncSession:
        """Return the session of two between whom nothing may flow this way."""
        session = self._session(SyncSessionStatus.FINISHED, "")
        for events in self._events():
            events.on_end_sync_session(session)
        return session

    def run_query(self, query: Query) -> SyncSession:
        """Send what a query selects."""
        source, target = self._source, self._target
        self._progress("deferred", target.prepare)
        self._progress("serializing", source.prepare)
        return queries.run(source, target, query, self._check_time)

    def _check_time(self) -> None:
        if self._clock() >= self._deadline:
            raise SessionTimedOut("the session took longer than it may; the next one goes on where it was")

    def _progress(self, stage: str, step: Callable[[], object]) -> None:
        self._tell(Progress(stage, "started"))
        step()
        self._tell(Progress(stage, "completed"))

    def _tell(self, progress: Progress) -> None:
        for events in self._events():
            events.on_progress(progress)

    def _events(self) -> Iterator[EventsManager]:
        yield self._target.events_manager
        if self._source.events_manager is not self._target.events_manager:
            yield self._source.events_manager

    def failed(self, exc: BaseException) -> SyncSession:
        """Note that the session failed, and return it."""
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        session = None
        if self._session_id:
            session = self._target.fail(self._session_id, reason, self._source.provider_id)
        if session is None:
            session = self._session(SyncSessionStatus.FAILED, reason)
        for events in self._events():
            events.on_failed_sync_session(session)
        return session

    def _session(self, status: SyncSessionStatus, reason: str) -> SyncSession:
        ended = None if status is SyncSessionStatus.IN_PROGRESS else moment_of(self._target.node.now())
        return SyncSession(
            id=uuid.UUID(self._session_id) if self._session_id else uuid.UUID(self._target.node.new_id()),
            started_at=moment_of(self._begun),
            ended_at=ended,
            status=status,
            source_provider_id=self._source.provider_id,
            target_provider_id=self._target.provider_id,
            item_changes=(),
            reason=reason,
        )
