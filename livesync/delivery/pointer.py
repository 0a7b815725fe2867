"""Where a run begins: the agent's pointer and the one that its destination keeps, compared. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..agent import StopReason
from .uploader import StoredPointer


@dataclass(frozen=True, slots=True)
class OwnPointer:
    """What the database knows of an agent's place.

    Attributes:
        position: The pointer; -1 for before everything.
        track_id: The track's id.
        generation: The agent's.
        acknowledged_generation: The generation in which it last acknowledged in this track; 0: never.
        attempted: Highest position that it may have sent; -1: none.
        sealed: The last sealed position.
        pruned: The highest pruned position; -1: none.
    """

    position: int
    track_id: str
    generation: int
    acknowledged_generation: int
    attempted: int
    sealed: int
    pruned: int


@dataclass(frozen=True, slots=True)
class Start:
    """The outcome: begin at ``position``, or do not begin and stop with ``reason``."""

    position: int
    reason: StopReason | None = None
    detail: str = ""


def reconcile(own: OwnPointer, theirs: StoredPointer | None) -> Start:
    """Return where to begin, given what a destination that keeps a pointer says (None: no row)."""
    differs = _difference(own, theirs)
    if differs:
        return Start(own.position, StopReason.DESTINATION_DIFFERS, differs)
    if theirs is None or theirs.generation < own.generation:
        if own.acknowledged_generation < own.generation:
            return Start(own.position)
        return Start(
            own.position,
            StopReason.NEEDS_EXPORT,
            "the destination was restored from a copy made before the last export, rewind or reset",
        )
    position = -1 if theirs.position is None else theirs.position
    if position < own.pruned:
        return Start(
            own.position,
            StopReason.NEEDS_EXPORT,
            f"the destination stands at {position}, and the track is pruned up to {own.pruned}",
        )
    # ahead: our acknowledgement was lost; behind: the destination was restored from a copy
    return Start(position)


def _difference(own: OwnPointer, theirs: StoredPointer | None) -> str:
    if theirs is None:
        return "the destination has lost this agent's pointer: it is another one, or was emptied" * (
            own.acknowledged_generation > 0
        )
    if theirs.track_id != own.track_id:
        return f"the destination follows another track ({theirs.track_id})"
    if theirs.generation > own.generation:
        return "the destination knows a later generation of this agent: the database was restored from a copy"
    if theirs.generation == own.generation and theirs.position is not None:
        if theirs.position > own.sealed:
            return f"the destination stands at {theirs.position}, beyond what is sealed here ({own.sealed})"
        # A position is noted here before anything of it is sent, so this is no lost acknowledgement.
        # (What is sealed does not tell: a database that was restored goes on sealing.)
        sent = max(own.attempted, own.position)
        if theirs.position > sent:
            return (
                f"the destination stands at {theirs.position}, and this database has sent nothing beyond"
                f" {sent}: it was restored from a copy"
            )
    return ""
