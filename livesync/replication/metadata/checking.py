"""What a peer sent, looked at before it is believed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ...errors import ChangesRefused, ClockAhead
from ...peering.partitions import check_partition, contained_in_any
from .clocks import Stamps, moment_of
from .lives import LIFE_END
from .states import ItemState, newest_stamp

MAX_ID_LENGTH = 512


def check_states(states: Sequence[ItemState], prefixes: Iterable[str], latest: int) -> None:
    """Make sure that states make sense, and are for this session.

    Args:
        states: What was sent.
        prefixes: The session's filter.
        latest: The newest stamp that is believed.

    Raises:
        ChangesRefused: One is outside the filter, or says nothing that can be.
        ClockAhead: One comes from the future.
    """
    prefixes = tuple(prefixes)
    partitions: set[str] = set()
    for state in states:
        if state.partition not in partitions:
            _check_partition(state, prefixes)
            partitions.add(state.partition)
        _check_item(state)
    newest = newest_stamp(states)
    if newest > latest:
        raise ClockAhead(
            f"a change of {moment_of(newest).isoformat(timespec='seconds')} lies too far in the future; set"
            " the clocks of both nodes, and sync again"
        )


def check_claims(claims: Iterable[Stamps], latest: int) -> None:
    """Make sure that nothing is claimed that lies in the future: it would speak of all that is yet to come.

    Raises:
        ClockAhead: Something does.
    """
    newest = max((stamp for clock in claims for stamp in clock.values()), default=0)
    if newest > latest:
        raise ClockAhead(
            f"the sender claims something of {moment_of(newest).isoformat(timespec='seconds')}, too far in"
            " the future; set the clocks of both nodes, and sync again"
        )


def _check_item(state: ItemState) -> None:
    if not state.item_id or len(state.item_id) > MAX_ID_LENGTH:
        raise ChangesRefused(f"an item id has 1 to {MAX_ID_LENGTH} characters: {state.item_id[:40]!r}")
    if not state.entity_name:
        raise ChangesRefused(f"item {state.item_id!r} is of no model")
    try:
        if not (state.item_id.isascii() and state.entity_name.isascii()):
            state.item_id.encode()
            state.entity_name.encode()
    except UnicodeError as exc:
        raise ChangesRefused(f"what item {state.item_id!r} or its model is called is no text: {exc}") from exc
    _check_history(state)
    _check_payload(state)


def _check_partition(state: ItemState, prefixes: tuple[str, ...]) -> None:
    try:
        check_partition(state.partition)
    except (TypeError, ValueError) as exc:
        raise ChangesRefused(f"item {state.item_id!r}: {exc}") from exc
    if not contained_in_any(prefixes, state.partition):
        raise ChangesRefused(
            f"item {state.item_id!r} lies in {state.partition!r}, outside the filter of this session"
        )


def _check_history(state: ItemState) -> None:
    if state.length < 1:
        raise ChangesRefused(f"item {state.item_id!r} was never created")
    if not state.has_seen(state.dot) or state.dot[1] < 1:
        raise ChangesRefused(f"item {state.item_id!r} has not seen the write that made it")
    if "" in state.vector or min(state.vector.values()) < 1:
        raise ChangesRefused(f"item {state.item_id!r} has an impossible clock")
    if not 0 <= state.life < LIFE_END:
        raise ChangesRefused(f"item {state.item_id!r} was made in no life")
    if state.met:
        _check_met(state)


def _check_met(state: ItemState) -> None:
    newest = max(state.vector.values())
    if not all(0 <= life < LIFE_END and 0 < stamp <= newest for life, stamp in state.met):
        raise ChangesRefused(f"item {state.item_id!r} has seen a write that its clock does not know")


def _check_payload(state: ItemState) -> None:
    if state.hard:
        if state.payload:
            raise ChangesRefused(f"item {state.item_id!r} was deleted for good, and still says something")
        return
    try:
        msgspec.json.decode(state.payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ChangesRefused(f"what item {state.item_id!r} says is no JSON: {exc}") from exc
