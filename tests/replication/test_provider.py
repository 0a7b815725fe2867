"""Providers by pages of changes: the four methods that maestro documents."""

import pytest

from livesync.errors import ChangesRefused, ItemErased
from livesync.replication import (
    BaseSyncProvider,
    ChangesExecutor,
    Comparison,
    EventsManager,
    Filter,
    ItemChangeBatch,
    Operation,
    Query,
    SerializationResult,
    VectorClock,
    descends,
)


def pages(source, target, query=None):
    """Sync one way as one does without a session; return the ids of each page."""
    clock, found = target.get_vector_clock(), []
    while True:
        batch = source.download_changes(clock, query)
        batch.reset_status()
        target.upload_changes(batch, query)
        found.append([change.serialization_result.item_id for change in batch.item_changes])
        clock = batch.get_vector_clock_after_done(clock)
        if batch.is_last_batch:
            return found


@pytest.fixture
def ab(new_provider, tools):
    a, b = new_provider("a", max_num=2), new_provider("b", max_num=2)
    for number in range(5):
        tools.put(a, f"i{number}", str(number), f"F{number % 2}")
    return a, b


def test_a_provider_is_made_of_five_parts(new_store):
    store, events, executor = new_store(), EventsManager(), ChangesExecutor()
    provider = BaseSyncProvider(
        provider_id="me", data_store=store, events_manager=events, changes_executor=executor, max_num=7
    )

    assert provider.provider_id == "me"
    assert (provider.data_store, provider.events_manager) == (store, events)
    assert (provider.changes_executor, provider.max_num) == (executor, 7)
    assert provider.get_vector_clock() == VectorClock()


def test_pages_hold_max_num_changes_in_the_order_of_time_and_end(ab, tools):
    a, b = ab

    assert pages(a, b) == [["i0", "i1"], ["i2", "i3"], ["i4"]]
    assert tools.contents(b) == tools.contents(a)
    assert b.get_vector_clock() == a.get_vector_clock()
    assert pages(a, b) == [[]]
    tools.put(a, "i3", '"new"', "F1")
    assert pages(a, b) == [["i3"]]


def test_a_change_says_what_was_done_by_whom_and_what_it_had_seen(ab, tools):
    a, b = ab
    pages(a, b)
    tools.put(b, "i0", '"of b"', "F0")
    (change,) = b.download_changes(a.get_vector_clock()).item_changes

    assert change.operation is Operation.UPDATE
    assert change.change_vector_clock_item.provider_id == "b"
    assert change.insert_vector_clock_item.provider_id == "a"
    assert change.serialization_result == SerializationResult("i0", "thing", '"of b"', "F0")
    assert descends(change.vector_clock, VectorClock(change.insert_vector_clock_item))
    version = b.get_item_version("i0")
    assert version.current_item_change == change or version.current_item_change.id == change.id
    assert b.get_item_version("nothing").current_item_change is None


def test_a_clock_does_not_move_over_a_page_that_never_came(ab, tools):
    a, b = ab
    first = a.download_changes(VectorClock())
    second = a.download_changes(first.get_vector_clock_after_done(VectorClock()))
    third = a.download_changes(second.get_vector_clock_after_done(VectorClock()))
    assert third.is_last_batch

    b.upload_changes(first)
    b.upload_changes(third)
    assert b.get_vector_clock() == VectorClock()
    for batch in (first, second, second, third):
        b.upload_changes(batch)
    assert b.get_vector_clock() == a.get_vector_clock()
    assert tools.contents(b) == tools.contents(a)


def test_pages_both_ways_between_many_converge(new_provider, tools):
    providers = [new_provider(name, max_num=3) for name in "abcd"]
    for number, provider in enumerate(providers):
        for item in range(4):
            tools.put(provider, f"i{item}", f'"{number}"', f"F{item}")
    for _ in range(2):
        for one in providers:
            for other in providers:
                if one is not other:
                    pages(one, other)

    assert len({tuple(sorted(tools.contents(provider).items())) for provider in providers}) == 1
    assert len({str(provider.get_vector_clock()) for provider in providers}) == 1


def test_pages_of_a_query_move_no_clock(ab, tools):
    a, b = ab
    query = Query("thing", Filter())
    assert a.download_changes(VectorClock(), query).item_changes == []  # plain numbers are no objects
    tools.put(a, "obj", '{"n": 1}', "F0")
    tools.put(a, "other", '{"n": 2}', "F0")

    assert pages(a, b, Query("thing", Filter((Comparison("n", "<", 2),)))) == [["obj"]]
    assert b.get_vector_clock() == VectorClock()
    assert tools.contents(b) == {"obj": '{"n": 1}'}


def test_what_was_deferred_is_given_back_by_pages(new_provider, tools):
    class Refusing(ChangesExecutor):
        refuses = True

        def execute(self, store, state, object_id):
            if self.refuses:
                raise ValueError("not now")

    executor = Refusing()
    a, b = new_provider("a"), new_provider("b", changes_executor=executor, max_num=2)
    for number in range(3):
        tools.put(a, f"i{number}", str(number))
    pages(a, b)

    batch = b.get_deferred_changes(VectorClock())
    assert ([change.serialization_result.item_id for change in batch.item_changes], batch.is_last_batch) == (
        ["i0", "i1"],
        False,
    )
    rest = b.get_deferred_changes(batch.get_vector_clock_after_done(VectorClock()))
    assert [change.serialization_result.item_id for change in rest.item_changes] == ["i2"]
    assert rest.is_last_batch
    assert b.get_deferred_changes(VectorClock(), Query("thing")).item_changes == []
    executor.refuses = False
    b.prepare()
    assert b.get_deferred_changes(VectorClock()).item_changes == []


def test_a_batch_that_makes_no_sense_is_refused_as_a_whole(ab):
    a, b = ab
    batch = a.download_changes(VectorClock())
    batch.item_changes[1].serialization_result = SerializationResult("i1", "thing", "{no", "F1")

    with pytest.raises(ChangesRefused, match="no JSON"):
        b.upload_changes(batch)
    assert b.items() == []


def test_a_batch_made_by_hand_is_applied_and_moves_no_clock(ab, tools):
    a, b = ab
    batch = a.download_changes(VectorClock())
    b.upload_changes(ItemChangeBatch(batch.item_changes, is_last_batch=True))

    assert sorted(tools.contents(b)) == ["i0", "i1"]
    assert b.get_vector_clock() == VectorClock()


def test_local_changes_are_checked(ab):
    a, _ = ab
    with pytest.raises(ChangesRefused, match="needs its JSON text"):
        a.commit_item_change(Operation.INSERT, "thing", "x", None)
    with pytest.raises(ChangesRefused, match="no JSON"):
        a.commit_item_change(Operation.INSERT, "thing", "x", "{")
    with pytest.raises(ValueError, match="no partition"):
        a.commit_item_change(Operation.INSERT, "thing", "x", "{}", "a::b")
    with pytest.raises(ChangesRefused, match="no item 'x' to delete"):
        a.commit_item_change(Operation.DELETE, "thing", "x", None)
    with pytest.raises(ValueError, match="never changes"):
        a.commit_item_change(Operation.UPDATE, "thing", "i0", "{}", "F1")
    a.erase("i0")
    with pytest.raises(ItemErased):
        a.commit_item_change(Operation.UPDATE, "thing", "i0", "{}", "F0")
    assert a.get_item_version("x").current_item_change is None


def test_a_page_holds_at_least_one_change(new_store):
    with pytest.raises(ValueError, match="at least one"):
        BaseSyncProvider("a", new_store(), max_num=0)


def test_a_store_is_of_one_provider(new_store):
    store = new_store()
    BaseSyncProvider("a", store)

    with pytest.raises(ValueError, match="belongs to provider 'a'"):
        BaseSyncProvider("b", store)
    assert BaseSyncProvider(None, store).provider_id == "a"
