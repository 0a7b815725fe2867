"""Finding what was stored without being announced: no event, no ``record_action``, no capture attached.

The host is walked by ascending ids, some hundred objects to a snapshot. Of each object the newest
stored serial of its parts (:meth:`~livesync.Host.stored_parts`) is the time of the commit that last
stored it; and a commit that livesync heard of lies on the track, or waits in the inbox, with the
very same time. Both are read in one snapshot, so nothing can come between. An object is named where
no action on it is as new as what is stored of it.

How far it has come is noted with the agent, together with what was queued, so one that was killed
goes on where it stood. What it cannot see is said in :data:`CANNOT_SEE`.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from persistent.timestamp import TimeStamp
from ZODB.utils import z64

from ..action import DATA_CHANGED
from ..delivery.access import ManagerAccess, collect_all, of_the_database
from ..delivery.push import bring_up_to_date
from ..delivery.render import spool_contents
from ..delivery.run import time_of_last_commit
from ..delivery.work import Stop
from ..errors import HostFailed, Leased, LiveSyncError
from ..host import Host
from ..manager import SyncManager
from ..track import queue
from ..track.stored import StoredAgent
from ..words import plural
from .announced import Announced
from .sending import Counted, check_has_begun

#: Objects looked at in one snapshot.
SLICE_SIZE: Final = 1_000

#: Objects after which the snapshot's cache is brought back to its size.
_LOADED: Final = 100

#: What no stored serial tells, for people.
CANNOT_SEE: Final = (
    "objects that are gone (verify finds what services still hold of them)",
    "objects that are not stored by themselves, and parts that Host.stored_parts does not name",
    "a change that another, announced one to the same object has followed: that one brings it along",
    "what an object's document takes from other objects, such as the path of what it lies in",
    "what was stored before livesync was installed, or at a place of the track that is pruned",
)


class Unannounced(NamedTuple):
    """One object that was stored without an action.

    Attributes:
        object_id: Which.
        stored: When it was last stored: epoch seconds, the time of that commit.
        announced: The time of the newest action on it that is known; None: there is none.
    """

    object_id: str
    stored: float
    announced: float | None


@dataclass(slots=True)
class Detection:
    """What a detection came to.

    Attributes:
        since: Commits after this time were looked at; epoch seconds.
        checked: Objects looked at, those of an attempt that broke off included.
        newer: Of these, stored after ``since``.
        found: Of these, stored without an action.
        not_stored: Objects of which nothing with a serial is stored in this database.
        unknown: Objects stored at a place of the track that was pruned meanwhile.
        queued: Ids put into the agent's slow queue: what was found, and what lies inside.
        resumed: How many were looked at by an attempt that broke off.
        complete: Whether it came to its end; False where it was stopped.
        seconds: How long it took.
    """

    since: float = 0.0
    checked: int = 0
    newer: int = 0
    found: int = 0
    not_stored: int = 0
    unknown: int = 0
    queued: int = 0
    resumed: int = 0
    complete: bool = False
    seconds: float = 0.0


#: What of a detection is noted, to go on from.
_NOTED: Final = frozenset(field.name for field in fields(Detection)) - {"resumed", "complete", "seconds"}


def detect(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    since: float | None = None,
    enqueue: bool = False,
    anew: bool = False,
    told: Callable[[Unannounced], None] | None = None,
    progress: Counted | None = None,
    stop: Stop | None = None,
    now: float | None = None,
) -> Detection:
    """Name the objects that were stored without being announced.

    Call it between transactions. One that broke off, or that ``stop`` ended, goes on where it stood
    when it is called again in the same way; what it had told by then is not told again. Where the
    database is open for reading only, nothing is noted and it always begins with the first object.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: The agent that it is done for.
        host: The application.
        since: Look at commits after this time only, epoch seconds. None: after the last complete
            detection that queued all it found, the last whole export, or the installation,
            whichever is newest. What was pruned from the track is never looked at.
        enqueue: Have the agent send what is found, with everything inside, with its next runs.
        anew: Begin with the first object, although one that broke off could go on.
        told: Called with each object that is found, by ascending ids.
        progress: Told after each slice how many objects were looked at.
        stop: Asked between slices; True ends it for now.
        now: Epoch seconds; None: the wall clock.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: The agent has not sent everything yet, and ``enqueue`` is asked for.
        Leased: Another detection for this agent has begun meanwhile.
        HostFailed: The host raised, or its ids do not ascend.
    """
    began = time.perf_counter()
    access = ManagerAccess(manager)
    try:
        if enqueue:
            check_has_begun(access, agent_id)
        walk = _Walk(access, agent_id, host, enqueue, told)
        if walk.writes:
            # what waits in the inbox is read again and again: let it be little
            collect_all(access, time.time() if now is None else now)
        walk.begin(since, anew)
        walk.run(progress, stop)
    finally:
        access.close()
    bring_up_to_date(manager)
    walk.result.seconds = time.perf_counter() - began
    return walk.result


@dataclass(slots=True)
class _Slice:
    """What was seen of some objects in one snapshot."""

    last: str = ""
    count: int = 0
    newer: int = 0
    not_stored: int = 0
    unknown: int = 0
    found: list[Unannounced] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)


class _Walk:
    """One detection at work."""

    def __init__(
        self,
        access: ManagerAccess,
        agent_id: str,
        host: Host,
        enqueue: bool,
        told: Callable[[Unannounced], None] | None,
    ) -> None:
        self._access = access
        self._agent_id = agent_id
        self._host = host
        self._enqueue = enqueue
        self._told = told
        self._token = uuid.uuid4().hex
        self._after: str | None = None
        self._began = 0.0  # time of the newest commit when the first slice began
        self.writes = not access.database.storage.isReadOnly()
        self.result = Detection()

    # -- where it begins -------------------------------------------------------------------------

    def begin(self, since: float | None, anew: bool) -> None:
        """Take up a detection that broke off, or begin with the first object."""
        with self._access.snapshot() as manager:
            stored = manager.stored(self._agent_id)
            known = None if anew else self._to_go_on_with(stored, since)
            bound = _end_of_position(manager.track.pruned, manager.granularity)
            self._granularity = manager.granularity
            if known is None:
                chosen = _since(manager, stored) if since is None else since
                self._began = time_of_last_commit(manager)
                self._asked, self.result.since = since, max(chosen, bound)
            else:
                self._go_on(known)
                self.result.since = max(self.result.since, bound)
        if self.writes:
            self._access.change(self._take, f"detection for {self._agent_id}")

    def _to_go_on_with(self, stored: StoredAgent, since: float | None) -> dict[str, Any] | None:
        """Return what is noted of a detection that broke off and was asked for in the same way."""
        known = stored.detection
        if known is None or known["asked"] != since or known["enqueue"] != self._enqueue:
            return None
        return known

    def _go_on(self, known: dict[str, Any]) -> None:
        self._after, self._began, self._asked = known["after"], known["began"], known["asked"]
        for name in _NOTED:
            setattr(self.result, name, known[name])
        self.result.resumed = self.result.checked

    def _take(self, manager: SyncManager) -> bool:
        manager.stored(self._agent_id).detection = self._noted()
        return True

    def _noted(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "after": self._after,
            "began": self._began,
            "asked": self._asked,
            "enqueue": self._enqueue,
            **{name: getattr(self.result, name) for name in sorted(_NOTED)},
        }

    # -- the walk --------------------------------------------------------------------------------

    def run(self, progress: Counted | None, stop: Stop | None) -> None:
        """Look at all objects that are left, or until ``stop`` says True."""
        result = self.result
        with closing(Announced(result.since, self._granularity)) as announced:
            while stop is None or not stop():
                part = self._look(announced)
                if not part.count:
                    result.complete = True
                    break
                self._settle(part)
                if progress is not None:
                    progress(result.checked)
        if result.complete and self.writes:
            self._access.change(self._end, f"detection for {self._agent_id}: done")

    def _look(self, announced: Announced) -> _Slice:
        """Look at the next objects, and at what is announced, in one snapshot."""
        part = _Slice()
        with self._access.host_snapshot(self._host) as (manager, host):
            stored = self._stored_after(manager, host, part)
            part.newer = len(stored)
            ids = list(stored)
            known = announced.newest(ids)
            if any(known.get(object_id, -1.0) < at for object_id, at in stored.items()):
                announced.read(manager)
                known = announced.newest(ids)
            for object_id, at in stored.items():
                if known.get(object_id, -1.0) >= at:
                    continue
                if at // self._granularity <= manager.track.pruned:
                    part.unknown += 1
                    continue
                part.found.append(Unannounced(object_id, at, known.get(object_id)))
                if self._enqueue and _holds_something(host, object_id):
                    part.containers.add(object_id)
        return part

    def _stored_after(self, manager: SyncManager, host: Host, part: _Slice) -> dict[str, float]:
        """Return when the next objects were stored, of those that were after ``since``, by id."""
        connection = manager._p_jar
        stored = {}
        last = self._after
        with _host_at_work(f"tell what is stored after {last!r}"):
            for obj in islice(host.iter_objects(self._after), SLICE_SIZE):
                object_id = host.object_id(obj)
                if last is not None and object_id <= last:
                    raise HostFailed(
                        f"the host lists {object_id!r} after {last!r}: iter_objects must go by ascending ids"
                    )
                last = part.last = object_id
                part.count += 1
                if not host.is_never_synced(obj):
                    at = _stored_at(host.stored_parts(obj), connection)
                    if at is None:
                        part.not_stored += 1
                    elif at > self.result.since:
                        stored[object_id] = at
                if part.count % _LOADED == 0:
                    connection.cacheGC()
        return stored

    # -- what becomes of a slice -----------------------------------------------------------------

    def _settle(self, part: _Slice) -> None:
        """Tell what was found, queue it where that is asked for, and note how far we are."""
        result = self.result
        if self._told is not None:
            for found in part.found:
                self._told(found)
        for object_id in sorted(part.containers):
            result.queued += self._queue_contents(object_id)
        result.checked += part.count
        result.newer += part.newer
        result.not_stored += part.not_stored
        result.unknown += part.unknown
        result.found += len(part.found)
        if self._enqueue:
            result.queued += len(part.found)
        self._after = part.last
        if self.writes:
            self._access.change(
                partial(self._note, [found.object_id for found in part.found]),
                f"detection for {self._agent_id}: {plural(result.checked, 'object')}",
            )

    def _queue_contents(self, object_id: str) -> int:
        """Queue what is inside: nobody knows what was changed, and it may be who can see it all.

        A crash in the middle queues some of it twice, which does no harm.
        """
        with closing(spool_contents(self._access, self._host, object_id, set())) as spool:
            for page in queue.pages_of(spool, (DATA_CHANGED,)):
                self._access.change(partial(self._put, page), f"detection for {self._agent_id}: queue")
            return spool.count

    def _put(self, page: Any, manager: SyncManager) -> bool:
        queue.put(manager.stored(self._agent_id), page)
        return True

    def _note(self, found: list[str], manager: SyncManager) -> bool:
        stored = manager.stored(self._agent_id)
        self._check_ours(stored)
        if self._enqueue and found:
            manager.enqueue(self._agent_id, found)
        stored.detection = self._noted()
        return True

    def _end(self, manager: SyncManager) -> bool:
        stored = manager.stored(self._agent_id)
        self._check_ours(stored)
        stored.detection = None
        nothing_is_left = self._enqueue or not self.result.found
        if nothing_is_left and not self.result.unknown and self.result.since <= _since(manager, stored):
            stored.accounted = max(stored.accounted, self._began)
        return True

    def _check_ours(self, stored: StoredAgent) -> None:
        if stored.detection is None or stored.detection["token"] != self._token:
            raise Leased(
                f"another detection for agent {self._agent_id!r} has begun meanwhile; this one ends here",
                agent_id=self._agent_id,
                holder="",
            )


def _since(manager: SyncManager, stored: StoredAgent) -> float:
    """Return the commit time up to which nothing need be looked at, epoch seconds."""
    pruned = _end_of_position(manager.track.pruned, manager.granularity)
    return max(manager.installed_at, stored.accounted, pruned)


def _end_of_position(position: int, granularity: int) -> float:
    """Return the last moment that belongs to a position, epoch seconds; 0 where that is before the first."""
    return math.nextafter((position + 1) * float(granularity), 0.0) if position >= 0 else 0.0


def _stored_at(parts: Iterator[Any], connection: Any) -> float | None:
    """Return when any of these was last stored, epoch seconds; None: none of them is stored here."""
    newest = z64
    for part in parts:
        if getattr(part, "_p_jar", None) is not connection:
            continue  # not stored by itself, or in another database, which has a track of its own
        part._p_activate()  # a ghost does not know its serial
        newest = max(newest, part._p_serial)
    return None if newest == z64 else float(TimeStamp(newest).timeTime())


def _holds_something(host: Host, object_id: str) -> bool:
    with _host_at_work(f"tell what is inside {object_id!r}"):
        obj = host.get(object_id)
        return obj is not None and next(iter(host.contents(obj)), None) is not None


@contextmanager
def _host_at_work(doing: str) -> Iterator[None]:
    """Say of what the host raises what it was asked for.

    Raises:
        HostFailed: It raised.
    """
    try:
        yield
    except of_the_database(LiveSyncError):
        raise
    except Exception as exc:
        raise HostFailed(f"the host failed to {doing}: {type(exc).__name__}: {exc}") from exc
