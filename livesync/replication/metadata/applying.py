"""How two states of one item become one. Pure.

The vector is the maximum of both, always. The content is that of the greater rank, ``(hard, length,
timestamp, provider)``. It is a conflict when the winner has not met the loser's write: it is not in the
vector, or that speaks of another life of the loser's maker (:meth:`ItemState.has_met`). No new write is
made for it, since both sides come to the same state by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from .changes import ConflictType, Operation
from .clocks import merged
from .lives import FindBirth, newest_deeds, nothing_known
from .states import ItemState


@dataclass(frozen=True, slots=True)
class Merge:
    """What came of two states.

    Attributes:
        state: The one that is held from now on.
        is_new_content: The application has to be told.
        loser: The state that lost without having been seen; None: no conflict.
        conflict_type: Of what kind, as the receiver sees it; None: no conflict.
        is_impossible: The loser says that it had seen the winner: somebody wrote under an id that was in use,
            on a database that had been restored or copied. The outcome has to travel under a new stamp.
    """

    state: ItemState
    is_new_content: bool
    loser: ItemState | None = None
    conflict_type: ConflictType | None = None
    is_impossible: bool = False


def merge_states(
    local: ItemState | None,
    remote: ItemState,
    is_foreign: bool = False,
    find: FindBirth = nothing_known,
) -> Merge:
    """Return what becomes of a local state when a remote one comes in.

    Args:
        local: What is held; None: nothing.
        remote: What comes in.
        is_foreign: It has seen what somebody else wrote under the receiver's id: no clock can tell which of
            the two has seen the other, only lives can.
        find: Tells where lives begin.
    """
    if local is None:
        return Merge(remote, is_new_content=remote.is_live)
    vector = merged(local.vector, remote.vector)
    remote_wins = remote.rank > local.rank
    winner, loser = (remote, local) if remote_wins else (local, remote)
    met = newest_deeds(find, winner.own_deeds, winner.met, loser.deeds)
    state = replace(winner, vector=vector, met=met)
    is_new = remote_wins and remote.content != local.content
    impossible = is_foreign or (loser.has_seen(winner.dot) and local.content != remote.content)
    is_certain = not impossible or bool(winner.life and loser.life)
    if _say_the_same(local, remote) or local.rank == remote.rank:
        return Merge(state, is_new)
    if is_certain and winner.has_met(loser, find):
        return Merge(state, is_new, is_impossible=is_foreign)
    kind = conflict_type(operation_of(local), operation_of(remote))
    return Merge(state, is_new, loser, kind, impossible)


def _say_the_same(local: ItemState, remote: ItemState) -> bool:
    """Tell whether nothing is lost, whichever wins.

    That two deleted it at once is still worth a line, unless it is one write that was stamped anew.
    """
    one, other = ((state.length, state.dot[1], state.payload) for state in (local, remote))
    return local.content == remote.content and (local.is_live or local.hard or one == other)


def may_be_merged(local: ItemState, remote: ItemState) -> bool:
    """Tell whether a model's own merge may be asked: both are live, and neither had seen the other."""
    return local.is_live and remote.is_live and local.length == remote.length


def operation_of(state: ItemState) -> Operation:
    """Return what the write that made this content did."""
    if not state.is_live:
        return Operation.DELETE
    return Operation.INSERT if state.dot == state.inserted else Operation.UPDATE


def conflict_type(local: Operation, remote: Operation) -> ConflictType:
    """Return the kind of a conflict between two operations."""
    return ConflictType[f"LOCAL_{local.name}_REMOTE_{remote.name}"]
