"""The track: what happened, the newest first; and dropping what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ...action import ActionWrapper
from ...errors import HostFailed, UsageError
from ...manager import SyncManager
from ...upkeep.retention import KEEP_S, held_back, prune_passed
from ...upkeep.retention import Pruned as PassedPruned
from .. import schemas
from ..context import WebContext
from ..errors import BadRequest
from .paging import PAGE, checked_limit


def list_track(
    ctx: WebContext,
    cursor: str | None = None,
    limit: int = PAGE,
    after: int | None = None,
    till: int | None = None,
) -> schemas.TrackPage:
    """Return a part of the track, the newest first.

    Args:
        ctx: Where.
        cursor: What the page before gave as ``next``; None: the newest.
        limit: Most entries.
        after, till: Only what lies in ``]after, till]``, in positions.

    Raises:
        BadRequest: The cursor or the limit is none.
        HostFailed: The host cannot be entered, to ask it for labels.
    """
    limit = checked_limit(limit)
    below = None if cursor is None else _rank(cursor)
    with ctx.reading() as manager:
        found = list(islice(manager.track.ranked(after, till, below), limit + 1))
        more = found[limit:]
        with _labels(ctx, manager) as label:
            entries = [_shown(position, action, label) for position, _, action in found[:limit]]
    following = f"{found[limit - 1][0]}.{found[limit - 1][1]}" if more else None
    return schemas.TrackPage(entries=entries, next=following)


def list_waiting(ctx: WebContext, limit: int = PAGE) -> schemas.WaitingPage:
    """Return what waits in the inbox, the oldest first.

    Raises:
        BadRequest: The limit is none.
        HostFailed: The host cannot be entered, to ask it for labels.
    """
    limit = checked_limit(limit)
    with ctx.reading() as manager:
        found = list(islice(manager.waiting(), limit + 1))
        with _labels(ctx, manager) as label:
            entries = [_shown(None, action, label) for action in found[:limit]]
    return schemas.WaitingPage(entries=entries, more=len(found) > limit)


def prune(ctx: WebContext, what: schemas.Prune) -> schemas.Pruned:
    """Drop from the track what every agent has delivered and nobody looks back at any more."""
    now = ctx.clock()
    keep_s = KEEP_S if what.keep_s is None else what.keep_s

    def change(manager: SyncManager) -> tuple[PassedPruned, list[schemas.HeldBack]]:
        try:
            pruned = prune_passed(manager, now, keep_s, what.before, what.leave_behind)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
        held = [
            schemas.HeldBack(
                agent_id=one.agent_id, days=one.days, actions=one.actions, bytes=one.bytes, text=str(one)
            )
            for one in held_back(manager, now)
        ]
        return pruned, held

    pruned, held = ctx.change(change)
    return schemas.Pruned(dropped=pruned.dropped, left_behind=pruned.left_behind, held_back=held)


def _rank(cursor: str) -> tuple[int, int]:
    position, dot, rank = cursor.partition(".")
    if not (dot and all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (position, rank))):
        raise BadRequest("cursor is what the page before gave as next")
    return int(position), int(rank)


@contextmanager
def _labels(ctx: WebContext, manager: SyncManager) -> Iterator[Callable[[str], str | None]]:
    """Give the function from an object's id to what people call it; None where the host knows none."""
    entered = ctx.host.at(manager._p_jar)
    try:
        host = entered.__enter__()
    except Exception as exc:
        raise HostFailed(f"the host raised {type(exc).__name__}: {exc}") from exc

    def label(object_id: str) -> str | None:
        try:
            obj: Any = host.get(object_id)
            return None if obj is None else host.label(obj)
        except Exception:  # noqa: BLE001 - a listing is also for finding out what is wrong with the host
            return None

    try:
        yield label
    finally:
        entered.__exit__(None, None, None)


def _shown(
    position: int | None, action: ActionWrapper, label: Callable[[str], str | None]
) -> schemas.TrackEntry:
    return schemas.TrackEntry(
        position=position,
        object_id=action.object_id,
        label=label(action.object_id),
        actions=sorted(action.actions),
        timestamp=action.timestamp,
        user=action.user,
        note=action.note,
    )
