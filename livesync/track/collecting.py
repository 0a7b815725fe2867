"""From the inbox to the track: collect places what was committed, and seals what can no longer change.

Two collectors may be at it at once. Of two that take the same, one fails with a conflict and tries again;
one that appends while the other seals fails as well, since appending claims that the track is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

from .changes import Commit
from .inbox import Taking
from .multipointer import ListMultiPointerTrack
from .stored import StoredInbox


def collect(
    track: ListMultiPointerTrack, inbox: StoredInbox, granularity: int, now: float, limit: int
) -> int:
    """Move at most ``limit`` actions in commit order, and seal; the caller commits.

    Args:
        track, inbox: Of one manager, within one connection.
        granularity: Seconds per position.
        now: Epoch seconds.
        limit: A commit of more is taken in parts, at one position.

    Returns:
        How many actions moved.
    """
    marker = inbox.collected
    taking = Taking(inbox, limit)
    track.extend_commits(_placed(track, inbox, granularity, taking))
    if taking.count and track._p_jar is not None:
        # Appending writes pages, and sealing the track itself: without this, two collectors could
        # do the one and the other at once, and an action would lie where nobody reads any more.
        track._p_jar.readCurrent(track)
    if taking.complete:
        _seal(track, inbox, granularity, now, marker.last_position if taking.count else None)
    else:
        _note_opened(track, inbox, granularity, now, marker.last_position)
    return taking.count


def _placed(
    track: ListMultiPointerTrack, inbox: StoredInbox, granularity: int, taking: Taking
) -> Iterator[tuple[int, Commit]]:
    """Yield what is taken, each commit with its position."""
    marker = inbox.collected
    position = max(track.floor + 1, marker.last_position)
    for commit in taking:
        position = max(int(commit.time // granularity), position)
        yield position, commit
    if taking.count:
        marker.last_position = position


def _seal(
    track: ListMultiPointerTrack, inbox: StoredInbox, granularity: int, now: float, opened: int | None
) -> None:
    marker = inbox.collected
    bound = int(now // granularity) - 1
    for position, since in marker.opened:
        # a clock that has stepped back starts counting anew
        if now - since >= granularity:
            bound = max(bound, position)
    if bound > track.sealed:
        track.seal(bound)
    kept = tuple((position, min(since, now)) for position, since in marker.opened if position > track.sealed)
    if kept != marker.opened:
        marker.opened = kept
    if opened is not None:
        _note_opened(track, inbox, granularity, now, opened)


def _note_opened(
    track: ListMultiPointerTrack, inbox: StoredInbox, granularity: int, now: float, position: int
) -> None:
    marker = inbox.collected
    if position <= track.sealed or any(position == known for known, _ in marker.opened):
        return
    opened = [(known, min(since, now)) for known, since in marker.opened]
    if opened and now - opened[-1][1] < granularity / 4:
        # sealing a little early is never wrong, and the list stays short
        opened[-1] = (position, opened[-1][1])
    else:
        opened.append((position, now))
    marker.opened = tuple(opened)
