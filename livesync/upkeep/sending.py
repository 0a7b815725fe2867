"""Sending some objects apart from the track: a part of what exists, or what failed.

The agent stays in the state that it is in, and its pointer where it is. Records carry the last
sealed position of the snapshot that they are rendered from, so they never overwrite what is newer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from ..agent import MissingAgent, State
from ..delivery.access import ManagerAccess, collect_all, of_the_database
from ..delivery.push import bring_up_to_date
from ..delivery.record import Op, Record, RunResult
from ..delivery.render import Renderer, Spool, spool_contents
from ..delivery.run import ANYTHING, time_of_last_commit
from ..delivery.uploader import Delivery, RecordUploader
from ..delivery.work import Stop, Work
from ..errors import (
    HostFailed,
    LiveSyncError,
    StateForbids,
    UnknownAgentType,
    UnknownObject,
    UsageError,
)
from ..host import Host
from ..leases import LEASE_S
from ..manager import SyncManager
from ..track.stored import StoredAgent
from . import export
from .export import NEEDS_EVERYTHING, ids_after, prepared

#: Objects of a slice.
CHUNK_SIZE: Final = 1_000

#: Told how many objects are done.
Counted = Callable[[int], None]


def send_some(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    ids: Iterable[str],
    kind: str = "export",
    progress: Counted | None = None,
    stop: Stop | None = None,
    now: float | None = None,
    lease_s: float = LEASE_S,
) -> RunResult:
    """Send these objects to an agent's service as they are now: upserts, or deletes of what is gone.

    Call it between transactions. Dead letters of what is delivered are cleared.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: Which agent; it must have a pointer, and no export under way.
        host: The application.
        ids: The objects; read once, in chunks, with nothing of the database open.
        kind: What the ledger calls it: ``export``, ``repair`` or ``retry``.
        progress: Told after each chunk.
        stop: Asked between chunks.
        now: Epoch seconds; None: the wall clock.
        lease_s: How long the agent stays ours if we are not heard of any more, in seconds.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: Its state does not allow it.
        Leased, LeaseLost, ServiceRefuses, TooManyRefused, RetryLater, HostFailed: As in a run.
    """
    access = ManagerAccess(manager)
    try:
        check_has_begun(access, agent_id)
        agent, uploader = prepared(access, agent_id)
        work = Work(agent, access, host, uploader, kind, stop, now, lease_s)
        collect_all(access, work.clock())
        try:
            # What is sent may lie after the pointer and be gone before a run comes to it: until it is
            # known what was shown, no run may take it for something that nobody has seen.
            work.begin(_note_anything_shown)
            _send_all(work, ids, progress)
        finally:
            work.close()
    finally:
        access.close()
    bring_up_to_date(manager)
    return work.result


def _send_all(work: Work, ids: Iterable[str], progress: Counted | None) -> None:
    try:
        work.open()
        waiting = iter(ids)
        while not work.must_end() and (chunk := list(dict.fromkeys(islice(waiting, CHUNK_SIZE)))):
            part = work.send(chunk)
            part.read += len(chunk)
            forbidden = work.settle(part, chunk, partial(_forbidden, work), f"{work.kind} of {work.agent.id}")
            if progress is not None:
                progress(work.result.read)
            if forbidden is not None:
                raise forbidden
        work.finish(_note_shown)
    except Exception as exc:
        work.fail(exc, _note_shown)
        raise


def _forbidden(work: Work, manager: SyncManager, stored: StoredAgent) -> StateForbids | None:
    """Return why no more is to be sent, if somebody has seen to that meanwhile."""
    if stored.state != State.PAUSED.value and stored.reason not in NEEDS_EVERYTHING:
        return None
    why = f" ({stored.reason})" if stored.reason else ""
    return StateForbids(
        f"agent {work.agent.id!r} was {stored.state}{why} meanwhile: the rest is not sent",
        agent_id=work.agent.id,
        state=stored.state,
    )


def _note_anything_shown(manager: SyncManager, stored: StoredAgent) -> None:
    stored.shown = ANYTHING


def _note_shown(manager: SyncManager, stored: StoredAgent) -> None:
    stored.shown = time_of_last_commit(manager)


def check_has_begun(access: ManagerAccess, agent_id: str) -> None:
    """Make sure that something may be sent to an agent apart from its track.

    Raises:
        UnknownAgent: There is none of this id.
        StateForbids: It is new, or needs a whole export, as one whose destination is another one does.
    """
    with access.snapshot() as manager:
        stored = manager.stored(agent_id)
        unfinished = stored.state in (State.NEW.value, State.RECORDING.value)
        if unfinished or stored.reason in NEEDS_EVERYTHING:
            why = f" ({stored.reason})" if stored.reason else ""
            raise StateForbids(
                f"agent {agent_id!r} is {stored.state}{why}: send it everything first:"
                f" livesync agent export {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )


def copy_to(
    manager: SyncManager,
    agent_id: str,
    host: Host,
    uploader: RecordUploader,
    ids: Iterable[str] | None = None,
    progress: Counted | None = None,
    stop: Stop | None = None,
) -> RunResult:
    """Send what an agent would hold to another place, such as files; nothing of the agent changes.

    Args:
        manager: The manager that the agent is registered with.
        agent_id: For whose audience, with whose options.
        host: The application.
        uploader: Takes the records; it is opened and closed here.
        ids: Which objects; None: all there are.
        progress: Told after each chunk.
        stop: Asked between chunks.

    Raises:
        UnknownAgent: There is none of this id.
        ServiceRefuses, RetryLater, HostFailed: As in a run.
    """
    access = ManagerAccess(manager)
    result = RunResult()
    try:
        with access.snapshot() as at:
            agent = at.get_agent(agent_id)
            if isinstance(agent, MissingAgent):
                # without its type nobody knows for whom its documents are made
                raise UnknownAgentType(f"agent {agent_id!r} cannot be copied: {agent.missing}")
            delivery = Delivery(agent_id, at.track_id, at.stored(agent_id).generation)
        uploader.open(delivery)
        for chunk in _chunks(access, host, ids):
            if stop is not None and stop():
                break
            _copy(access, host, Renderer(access, host, agent, uploader.batch_size), uploader, chunk, result)
            if progress is not None:
                progress(result.read)
    finally:
        uploader.close()
        access.close()
    return result


def _chunks(access: ManagerAccess, host: Host, ids: Iterable[str] | None) -> Iterator[list[str]]:
    if ids is not None:
        waiting = iter(ids)
        while chunk := list(dict.fromkeys(islice(waiting, CHUNK_SIZE))):
            yield chunk
        return
    after = None
    while chunk := ids_after(access, host, after, export.CHUNK_SIZE):
        yield chunk
        after = chunk[-1]


def _copy(
    access: ManagerAccess,
    host: Host,
    renderer: Renderer,
    uploader: RecordUploader,
    chunk: list[str],
    result: RunResult,
) -> None:
    with access.snapshot() as manager:
        position = max(manager.track.sealed, 0)
    uploader.begin_slice(position)
    try:
        records = (Record(Op.UPSERT, object_id, position) for object_id in chunk)
        result.add(uploader.iterate_over(renderer.render(records, at_sealed=True)))
        uploader.end_slice(None)
    except BaseException:
        uploader.abandon_slice()
        raise
    result.read += len(chunk)
    result.dead += len(renderer.dead)
    result.dead_records += renderer.dead
    result.excluded += renderer.excluded


def ids_under(manager: SyncManager, host: Host, object_id: str) -> Spool:
    """Return the id of an object and those of everything below it, as they are now; close it when done.

    Raises:
        UnknownObject: It does not exist now.
        HostFailed: The host raised.
    """
    access = ManagerAccess(manager)
    try:
        with access.host_snapshot(host) as (_, at):
            try:
                exists = at.get(object_id) is not None
            except of_the_database(LiveSyncError):
                raise
            except Exception as exc:
                raise HostFailed(
                    f"the host failed to look up {object_id!r}: {type(exc).__name__}: {exc}"
                ) from exc
        if not exists:
            raise UnknownObject(object_id)
        spool = spool_contents(access, host, object_id, {object_id})
    finally:
        access.close()
    spool.put(object_id)
    return spool


def ids_of_file(path: str) -> Iterator[str]:
    """Yield the ids in a file: one a line, or a JSON string a line; empty lines are left out.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                text = line.rstrip("\r\n")
                if text.startswith('"'):
                    text = json.loads(text)
                if text:
                    yield str(text)
    except (OSError, ValueError) as exc:
        raise UsageError(f"the ids in {os.fspath(path)} cannot be read: {exc}") from exc
