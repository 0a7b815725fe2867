"""The metadata: arguments, attributes and meanings as documented."""

import uuid
from datetime import datetime, timedelta, timezone

from livesync.replication import (
    ConflictLog,
    ConflictStatus,
    ConflictType,
    ItemChange,
    ItemChangeBatch,
    ItemVersion,
    Operation,
    SerializationResult,
    SyncSession,
    SyncSessionStatus,
    VectorClock,
    VectorClockItem,
)
from livesync.replication.metadata.conversion import change_of, state_of

T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)


def item(provider, seconds):
    return VectorClockItem(provider, T0 + timedelta(seconds=seconds))


def change(provider="a", seconds=1, operation=Operation.INSERT):
    return ItemChange(
        id=uuid.uuid4(),
        date_created=T0,
        operation=operation,
        change_vector_clock_item=item(provider, seconds),
        insert_vector_clock_item=item(provider, 0),
        serialization_result=SerializationResult("i", "thing", "{}"),
        should_ignore=True,
        is_applied=True,
        vector_clock=VectorClock(item(provider, seconds)),
    )


def test_the_status_of_a_change_is_reset_before_it_is_sent():
    one = change()
    one.reset_status()

    assert (one.should_ignore, one.is_applied, one.date_created) == (False, False, None)


def test_a_batch_resets_all_its_changes():
    batch = ItemChangeBatch([change(), change()], is_last_batch=True)
    batch.reset_status()

    assert not any(one.is_applied or one.should_ignore or one.date_created for one in batch.item_changes)


def test_the_clock_after_a_batch_has_its_newest_changes_and_the_initial_one_stays():
    initial = VectorClock(item("a", 5), item("c", 1))
    batch = ItemChangeBatch([change("a", 3), change("b", 2), change("b", 4)], is_last_batch=False)

    after = batch.get_vector_clock_after_done(initial)

    assert after == VectorClock(item("a", 5), item("b", 4), item("c", 1))
    assert initial == VectorClock(item("a", 5), item("c", 1))


def test_the_clock_of_a_version_is_that_of_its_change():
    one = change("a", 3)

    assert ItemVersion(one, "i", T0).vector_clock == one.vector_clock
    assert ItemVersion(None, "i", T0).vector_clock == VectorClock()
    assert ItemVersion(one, "i", T0, VectorClock(item("b", 1))).vector_clock == VectorClock(item("b", 1))


def test_a_change_becomes_a_state_and_a_state_a_change():
    for operation in Operation:
        one = change(operation=operation)
        state = state_of(one)

        assert state.is_live == (operation is not Operation.DELETE)
        assert state_of(change_of(state)) == state


def test_the_last_line_of_a_stack_trace_is_what_is_shown():
    log = ConflictLog(
        id=uuid.uuid4(),
        created_at=T0,
        resolved_at=None,
        item_change_loser=change(),
        item_change_winner=None,
        status=ConflictStatus.DEFERRED,
        conflict_type=ConflictType.EXCEPTION_OCCURRED,
        description="Traceback\n  File x\nValueError: no title\n",
    )

    assert log.reason == "ValueError: no title"
    assert log.query_ids == []


def test_a_session_says_who_and_when():
    session = SyncSession(uuid.uuid4(), T0, None, SyncSessionStatus.IN_PROGRESS, "a", "b", [])

    assert (session.query_id, session.reason, session.ended_at) == (None, "", None)
