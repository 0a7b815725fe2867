"""What every destination promises, whatever it is made of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livesync.delivery.record import Op, Record, encode_document
from livesync.delivery.uploader import Delivery


def upsert(object_id, position, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id, position):
    return Record(Op.DELETE, object_id, position)


def body(object_id, **document):
    return encode_document({"id": object_id, **document})


def test_documents_arrive_byte_for_byte(destination):
    result = destination.deliver(
        (7, [upsert("a", 7, title='Zürich \u2028 \x00 "x"'), upsert("b/ü\n", 7, n=1.5)])
    )

    assert destination.documents() == {
        "a": body("a", title="Zürich \u2028 \x00 \"x\""),
        "b/ü\n": body("b/ü\n", n=1.5),
    }  # fmt: skip
    assert result.accepted == 2


def test_many_batches_and_slices_arrive(destination):
    slices = [
        (till, [upsert(f"{number:03}", till, n=number) for number in range(till * 10, till * 10 + 10)])
        for till in range(1, 6)
    ]

    result = destination.deliver(*slices, batch_size=3)

    assert result.accepted == 50
    assert destination.documents() == {f"{n:03}": body(f"{n:03}", n=n) for n in range(10, 60)}


def test_a_later_record_replaces_an_earlier_one(destination):
    destination.deliver(
        (7, [upsert("a", 7, n=1), upsert("b", 7)]), (8, [upsert("a", 8, n=2), delete("b", 8)])
    )

    assert destination.documents() == {"a": body("a", n=2)}
    assert destination.tombstones() == {"b": 8}


def test_a_record_of_the_same_position_replaces(destination):
    destination.deliver((7, [upsert("a", 7, n=1), upsert("a", 7, n=2), delete("b", 7), upsert("b", 7)]))

    assert destination.documents() == {"a": body("a", n=2), "b": body("b")}


def test_deleting_what_is_not_there_is_no_error(destination):
    result = destination.deliver((7, [delete("a", 7)]))

    assert result.accepted == 1
    assert destination.documents() == {}
    assert destination.tombstones() == {"a": 7}


def test_replays_do_no_harm(destination):
    first, second = (7, [upsert("a", 7, n=1), upsert("b", 7)]), (8, [upsert("a", 8, n=2), delete("b", 8)])
    destination.deliver(first, second)
    expected = destination.documents(), destination.tombstones()

    destination.deliver(second)
    assert (destination.documents(), destination.tombstones()) == expected
    destination.deliver(first, second)
    assert (destination.documents(), destination.tombstones()) == expected


def test_newer_is_not_overwritten_by_older(destination):
    destination.deliver((8, [upsert("a", 8, n=2), delete("b", 8)]))

    destination.deliver((7, [upsert("a", 7, n=1), upsert("b", 7), upsert("c", 7)]))

    assert destination.documents() == {"a": body("a", n=2), "c": body("c")}
    assert destination.tombstones() == {"b": 8}


def test_a_tombstone_gives_way_to_a_newer_document(destination):
    destination.deliver((7, [delete("a", 7)]), (8, [upsert("a", 8)]))

    assert destination.documents() == {"a": body("a")}
    assert destination.tombstones() == {}


def test_an_older_delete_removes_nothing(destination):
    destination.deliver((8, [upsert("a", 8)]), (7, [delete("a", 7)]))

    assert destination.documents() == {"a": body("a")}


def test_a_document_that_cannot_be_encoded_keeps_nobody_back(destination):
    result = destination.deliver((7, [upsert("a", 7), upsert("b", 7, wrong=object()), upsert("c", 7)]))

    assert (result.accepted, result.dead) == (2, 1)
    assert set(destination.documents()) == {"a", "c"}


def test_an_abandoned_slice_leaves_nothing_where_it_can_be_taken_back(destination):
    destination.deliver((7, [upsert("a", 7)]))

    destination.deliver((8, [upsert("a", 8, n=2), upsert("b", 8)]), batch_size=1, end=False)

    if destination.takes_back:
        assert destination.documents() == {"a": body("a")}


def test_an_empty_slice_is_no_error(destination):
    result = destination.deliver((7, []))

    assert result.accepted == 0
    assert destination.documents() == {}


def test_closing_and_abandoning_twice_is_no_error(destination):
    agent = destination.agent()
    uploader = type(agent).uploader(agent)

    uploader.abandon_slice()
    uploader.close()
    uploader.open(Delivery("a", "track", 1))
    uploader.abandon_slice()
    uploader.close()
    uploader.close()


def test_a_slice_that_nobody_ended_is_lost_at_close(destination):
    if not destination.takes_back:
        pytest.skip("what was posted is posted")
    agent = destination.agent()
    uploader = type(agent).uploader(agent)
    uploader.open(Delivery("a", "track", 1))
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("a", 7)])

    uploader.close()

    assert destination.documents() == {}


def pointer_of(destination, agent_id="a"):
    agent = destination.agent(agent_id)
    uploader = type(agent).uploader(agent)
    uploader.open(Delivery(agent_id, "track", 1))
    try:
        return uploader.read_pointer()
    finally:
        uploader.close()


def test_a_kept_pointer_moves_with_the_rows_and_only_with_them(destination):
    if not destination.keeps_pointer:
        assert pointer_of(destination) is None
        return

    assert pointer_of(destination) is None
    destination.deliver((7, [upsert("a", 7)]), generation=3)
    stored = pointer_of(destination)
    assert (stored.position, stored.track_id, stored.generation) == (7, "track", 3)

    destination.deliver((8, [upsert("b", 8)]), end=False)
    assert pointer_of(destination).position == 7

    destination.deliver((9, []), agent_id="other")
    assert pointer_of(destination).position == 7
    assert pointer_of(destination, "other").position == 9


def test_a_part_of_a_position_leaves_the_pointer_alone(destination):
    agent = destination.agent()
    uploader = type(agent).uploader(agent)
    uploader.open(Delivery("a", "track", 1))
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("a", 7)])
    uploader.end_slice(None)
    uploader.close()

    assert set(destination.documents()) == {"a"}
    assert pointer_of(destination) is None


def test_a_sweep_removes_what_an_export_did_not_bring(destination):
    destination.deliver((7, [upsert("gone", 7), upsert("kept", 7), delete("dead", 7)]))
    destination.deliver((9, [upsert("kept", 9)]))
    agent = destination.agent()
    uploader = type(agent).uploader(agent)
    uploader.open(Delivery("a", "track", 1))

    removed = uploader.sweep(9)

    uploader.close()
    if not destination.sweeps:
        assert removed is None
        assert set(destination.documents()) == {"gone", "kept"}
        return
    assert removed == 1
    assert set(destination.documents()) == {"kept"}
    destination.deliver((8, [upsert("gone", 8)]))
    assert set(destination.documents()) == {"kept"}


changes = st.lists(
    st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.integers(0, 2)), max_size=6), max_size=6
)
crashes = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=4)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(slices=changes, crashes=crashes, batch_size=st.integers(1, 3))
def test_after_any_repeats_the_destination_equals_the_host(new_destination, slices, crashes, batch_size):
    destination = new_destination()
    host: dict[str, bytes] = {}
    made = []
    for till, parts in enumerate(slices, 10):
        records = []
        for object_id, value in parts:
            if value is None:
                records.append(delete(object_id, till))
                host.pop(object_id, None)
            else:
                records.append(upsert(object_id, till, n=value))
                host[object_id] = body(object_id, n=value)
        made.append((till, records))

    for at, ended in crashes:  # a run that got as far as a slice, and perhaps was not acknowledged
        destination.deliver(*made[:at], batch_size=batch_size)
        destination.deliver(*made[at : at + 1], batch_size=batch_size, end=ended)
    destination.deliver(*made, batch_size=batch_size)

    assert destination.documents() == host
