from __future__ import annotations

from dataclasses import replace

import pytest

from livesync.agent import StopReason
from livesync.delivery.pointer import OwnPointer, reconcile
from livesync.delivery.uploader import StoredPointer

OWN = OwnPointer(
    position=50, track_id="t", generation=3, acknowledged_generation=3, attempted=100, sealed=100, pruned=20
)


def test_no_row_for_an_agent_that_never_acknowledged_leaves_its_own_pointer() -> None:
    assert reconcile(replace(OWN, acknowledged_generation=0), None).position == 50


def test_no_row_for_an_agent_that_has_acknowledged_is_another_destination() -> None:
    assert reconcile(OWN, None).reason is StopReason.DESTINATION_DIFFERS


@pytest.mark.parametrize("position", [20, 49, 50, 51, 100])
def test_of_the_same_generation_the_destinations_position_holds(position: int) -> None:
    start = reconcile(OWN, StoredPointer(position, "t", 3))

    assert (start.position, start.reason) == (position, None)


def test_an_older_generation_leaves_the_agents_own_pointer() -> None:
    start = reconcile(replace(OWN, acknowledged_generation=2), StoredPointer(90, "t", 2))

    assert (start.position, start.reason) == (50, None)


def test_an_older_generation_than_one_that_was_acknowledged_needs_an_export() -> None:
    assert reconcile(OWN, StoredPointer(90, "t", 2)).reason is StopReason.NEEDS_EXPORT


def test_a_position_that_was_never_sent_differs_even_where_it_is_sealed() -> None:
    own = replace(OWN, attempted=50)

    assert reconcile(own, StoredPointer(51, "t", 3)).reason is StopReason.DESTINATION_DIFFERS
    assert reconcile(own, StoredPointer(50, "t", 3)).reason is None


@pytest.mark.parametrize(
    "theirs", [StoredPointer(50, "another", 3), StoredPointer(101, "t", 3), StoredPointer(50, "t", 4)]
)
def test_another_track_a_position_beyond_sealed_or_a_later_generation_differs(theirs: StoredPointer) -> None:
    assert reconcile(OWN, theirs).reason is StopReason.DESTINATION_DIFFERS


def test_a_destination_behind_what_is_pruned_needs_an_export() -> None:
    assert reconcile(OWN, StoredPointer(19, "t", 3)).reason is StopReason.NEEDS_EXPORT
    assert reconcile(OWN, StoredPointer(None, "t", 3)).reason is StopReason.NEEDS_EXPORT


def test_a_destination_that_stands_before_everything_is_followed_where_nothing_is_pruned() -> None:
    assert reconcile(replace(OWN, pruned=-1), StoredPointer(None, "t", 3)).position == -1
