"""What every destination promises, whatever it is made of."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livesync.delivery.record import (
    AttachedFile,
    Batch,
    Op,
    Outcome,
    Record,
    document_digest,
    encode_document,
)
from livesync.delivery.uploader import Delivery
from livesync.errors import LeaseLost
from livesync.host import content_digest


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


# what a service holds, told to verify

#: In the order of code points, in which UTF-16, a locale, or a case-blind order would not have them.
ORDERED_IDS = ["Z", "_", "a", "a b", "aa", "b", "z", "~", "é", "ﬀ", "\uffff", "\U0001f600"]


@pytest.fixture
def readable(destination):
    if not destination.readable:
        pytest.skip("its rows cannot be read")
    return destination


def digest(object_id, **document):
    return document_digest({"id": object_id, **document})


def rows_now(destination, *args, **kwargs):
    with destination.session(**destination.reading_options) as uploader:
        return list(uploader.rows(*args, **kwargs))


def test_the_flags_are_those_of_the_uploader(destination):
    with destination.session(**destination.reading_options) as uploader:
        said = {name: getattr(uploader, name) for name in ("keeps_pointer", "readable", "rebuilds")}
        takes_files = uploader.takes_files

    assert said == {name: getattr(destination, name) for name in said}
    assert takes_files == destination.takes_files


def test_rows_are_what_was_delivered_in_the_order_of_code_points(readable):
    readable.deliver((7, [upsert(object_id, 7, n=1) for object_id in reversed(ORDERED_IDS)]))
    readable.deliver((8, [upsert("é", 8, n=2), delete("b", 8), delete("never", 8)]))

    rows = rows_now(readable)

    living = [object_id for object_id in ORDERED_IDS if object_id != "b"]
    assert [(row.object_id, row.digest) for row in rows] == [
        (object_id, digest(object_id, n=2 if object_id == "é" else 1)) for object_id in living
    ]
    assert all(row.position in (None, 8 if row.object_id == "é" else 7) for row in rows)


def test_rows_begin_after_an_id(readable):
    readable.deliver((7, [upsert(object_id, 7) for object_id in ORDERED_IDS]))

    with readable.session(**readable.reading_options) as uploader:
        for number, after in enumerate(ORDERED_IDS, 1):
            assert [row.object_id for row in uploader.rows(after)] == ORDERED_IDS[number:]
        # after ids that are not there
        assert [row.object_id for row in uploader.rows("A")] == ORDERED_IDS
        assert [row.object_id for row in uploader.rows("a a")] == ORDERED_IDS[3:]
        assert [row.object_id for row in uploader.rows("\U0010ffff")] == []


def test_quick_rows_have_no_digests(readable):
    readable.deliver((7, [upsert("a", 7), upsert("b", 7)]))

    assert [(row.object_id, row.digest) for row in rows_now(readable, quick=True)] == [
        ("a", None), ("b", None)
    ]  # fmt: skip
    assert [row.object_id for row in rows_now(readable, "a", True)] == ["b"]


def test_rows_of_an_empty_service_are_none(readable):
    with readable.session(**readable.reading_options) as uploader:
        assert list(uploader.rows()) == []
        assert list(uploader.rows(quick=True)) == []
        assert uploader.rows_of(["a", "b"]) == []


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_rows_of_ids_are_the_living_ones_among_them(readable, count):
    ids = [f"{number:04}" for number in range(count + 100)]
    readable.deliver((7, [upsert(object_id, 7) for object_id in [*ids, *ORDERED_IDS]]), (8, [delete("b", 8)]))

    with readable.session(**readable.reading_options) as uploader:
        some = uploader.rows_of(["é", "b", "missing", "\U0001f600", "a b"])
        many = uploader.rows_of(ids[:count])
        none = uploader.rows_of([])

    assert {row.object_id: row.digest for row in some} == {
        object_id: digest(object_id) for object_id in ("é", "\U0001f600", "a b")
    }
    assert all(row.position in (None, 7) for row in some)
    assert sorted(row.object_id for row in many) == ids[:count]
    assert none == []


def test_rows_may_be_left_before_their_end_and_others_asked_for_meanwhile(readable):
    readable.deliver((7, [upsert(object_id, 7) for object_id in "abcd"]))

    with readable.session(**readable.reading_options) as uploader:
        rows = iter(uploader.rows())
        assert next(rows).object_id == "a"
        assert [row.object_id for row in uploader.rows_of(["d"])] == ["d"]
        assert next(rows).object_id == "b"
        del rows
        assert [row.object_id for row in uploader.rows("b")] == ["c", "d"]
        uploader.begin_slice(8)
        uploader.iterate_over([upsert("e", 8)])
        uploader.end_slice(8)
        assert [row.object_id for row in uploader.rows("c")] == ["d", "e"]


def test_an_altered_document_shows_in_its_digest(readable):
    if not readable.can_be_altered:
        pytest.skip("nobody can alter what it holds")
    readable.deliver((7, [upsert(object_id, 7, title="as sent") for object_id in "abc"]))

    readable.alter("b")

    expected = {object_id: digest(object_id, title="as sent") for object_id in "abc"}
    rows = {row.object_id: row.digest for row in rows_now(readable)}
    assert rows.keys() == expected.keys()
    assert [object_id for object_id in "abc" if rows[object_id] != expected[object_id]] == ["b"]
    with readable.session(**readable.reading_options) as uploader:
        [row] = uploader.rows_of(["b"])
    assert row.digest != expected["b"]


# two runners of one agent


def test_a_runner_whose_pointer_another_moved_has_lost_its_lease(destination):
    if not destination.keeps_pointer:
        pytest.skip("it keeps no pointer")
    destination.deliver((6, [upsert("a", 6)]))
    with destination.session() as slow, destination.session() as quick:
        assert slow.read_pointer() == quick.read_pointer()
        for till in (7, 8):
            quick.begin_slice(till)
            quick.iterate_over([upsert("a", till, n=till)])
            quick.end_slice(till)

        with pytest.raises(LeaseLost):
            slow_slice(slow)
        slow.abandon_slice()

        assert destination.documents() == {"a": body("a", n=8)}
        assert pointer_of(destination).position == 8
        # whoever looks again goes on from there
        slow.read_pointer()
        slow.begin_slice(9)
        slow.iterate_over([upsert("c", 9)])
        slow.end_slice(9)
    assert pointer_of(destination).position == 9


def test_the_first_pointer_of_an_agent_is_guarded_too(destination):
    if not destination.keeps_pointer:
        pytest.skip("it keeps no pointer")
    with destination.session() as slow, destination.session() as quick:
        assert slow.read_pointer() is None
        assert quick.read_pointer() is None
        quick.begin_slice(8)
        quick.iterate_over([upsert("a", 8)])
        quick.end_slice(8)

        with pytest.raises(LeaseLost):
            slow_slice(slow)
        slow.abandon_slice()

    assert destination.documents() == {"a": body("a")}
    assert pointer_of(destination).position == 8


def slow_slice(uploader):
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("b", 7)])
    uploader.end_slice(7)


# several requests at once


def test_batches_without_an_object_in_common_may_be_sent_at_once(destination):
    records = [[upsert(f"{n}-{i}", 7, n=n) for i in range(20)] for n in range(12)]
    batches = [Batch(some, [encode_document(record.document) for record in some]) for some in records]
    with destination.session() as uploader:
        if not uploader.concurrent:
            pytest.skip("one at a time")
        uploader.begin_slice(7)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(uploader._upload_batch, batches))
        uploader.end_slice(7)

    for answer in answers:
        assert answer is None or {verdict.outcome for verdict in answer} == {Outcome.ACCEPTED}
    assert destination.documents() == {
        f"{n}-{i}": body(f"{n}-{i}", n=n) for n in range(12) for i in range(20)
    }


# whether it can be reached


def test_a_probe_tells_one_line_and_changes_nothing(destination):
    destination.deliver((7, [upsert("a", 7), delete("b", 7)]))
    pointer = pointer_of(destination)

    with destination.session() as uploader:
        lines = [uploader.probe(), uploader.probe()]

    for line in lines:
        assert line.strip()
        assert len(line.splitlines()) == 1
    assert destination.documents() == {"a": body("a")}
    assert destination.tombstones() == {"b": 7}
    assert pointer_of(destination) == pointer


def test_a_probe_comes_before_anything_else_too(destination):
    with destination.session() as uploader:
        assert uploader.probe().strip()

    assert destination.documents() == {}


# files of the objects


@pytest.fixture
def filing(destination):
    if not destination.takes_files:
        pytest.skip("it takes no files")
    return destination


def attached(name, content, *, sent=True, media_type="text/plain"):
    stream = io.BytesIO(content) if sent else None
    return AttachedFile(name, media_type, len(content), content_digest(content), stream)


def with_files(object_id, position, *files):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id}, files=files)


def test_files_arrive_byte_for_byte(filing):
    big = bytes(range(256)) * 4096
    records = [
        with_files("a", 7, attached("Zürich.txt", b"\x00\xff\n"), attached("big", big, media_type="x/y")),
        with_files("b", 7, attached("empty", b"")),
        with_files("c", 7),
    ]

    result = filing.deliver((7, records), **filing.file_options)

    assert result.accepted == 3
    assert filing.files() == {"a": {"Zürich.txt": b"\x00\xff\n", "big": big}, "b": {"empty": b""}}
    assert set(filing.documents()) == {"a", "b", "c"}


def test_files_are_replaced_with_their_object_and_go_with_it(filing):
    filing.deliver(
        (7, [with_files("a", 7, attached("x", b"one"), attached("y", b"two")),
             with_files("b", 7, attached("x", b"three")), with_files("c", 7, attached("x", b"four"))]),
        (8, [with_files("a", 8, attached("y", b"newer"), attached("z", b"one")),
             with_files("b", 8), delete("c", 8)]),
        **filing.file_options,
    )  # fmt: skip

    assert filing.files() == {"a": {"y": b"newer", "z": b"one"}}


def test_files_of_an_older_record_change_nothing(filing):
    filing.deliver((8, [with_files("a", 8, attached("x", b"new"))]), **filing.file_options)

    filing.deliver((7, [with_files("a", 7, attached("x", b"old"))]), **filing.file_options)

    assert filing.files() == {"a": {"x": b"new"}}


def test_files_come_again_with_a_repeated_slice(filing):
    for _ in range(3):
        records = [with_files("a", 7, attached("x", b"one")), with_files("b", 7, attached("x", b"two"))]
        filing.deliver((7, records), **filing.file_options)

    assert filing.files() == {"a": {"x": b"one"}, "b": {"x": b"two"}}


def test_a_content_that_the_service_has_need_not_come_again(filing):
    one, two = content_digest(b"one"), content_digest(b"two")
    with filing.session(**filing.file_options) as uploader:
        uploader.begin_slice(7)
        assert uploader.missing_files({one, two}) == {one, two}
        uploader.iterate_over([with_files("a", 7, attached("x", b"one"))])
        uploader.end_slice(7)
        uploader.begin_slice(8)
        assert uploader.missing_files({one, two}) == {two}
        assert uploader.missing_files(set()) == set()
        uploader.iterate_over([with_files("b", 8, attached("y", b"one", sent=False))])
        uploader.end_slice(8)

    assert filing.files() == {"a": {"x": b"one"}, "b": {"y": b"one"}}


def test_a_file_that_was_too_large_to_send_is_known_by_name(filing):
    filing.deliver((7, [with_files("a", 7, attached("x", b"large", sent=False))]), **filing.file_options)

    assert filing.files() == {"a": {"x": None}}


def test_files_of_an_abandoned_slice_are_not_there(filing):
    if not filing.takes_back:
        pytest.skip("what was sent is sent")
    filing.deliver((7, [with_files("a", 7, attached("x", b"one"))]), **filing.file_options)

    filing.deliver((8, [with_files("a", 8, attached("x", b"two"))]), end=False, **filing.file_options)

    assert filing.files() == {"a": {"x": b"one"}}
    filing.deliver((8, [with_files("a", 8, attached("x", b"two"))]), **filing.file_options)
    assert filing.files() == {"a": {"x": b"two"}}


def test_an_agent_that_sends_no_files_needs_no_room_for_them(filing):
    filing.deliver((7, [upsert("a", 7)]))

    assert filing.files() == {}
    assert filing.documents() == {"a": body("a")}


# an export into a new place


@pytest.fixture
def rebuilding(destination):
    if not destination.rebuilds:
        pytest.skip("it cannot be rebuilt")
    return destination


def finish(destination, rebuild):
    with destination.session(rebuild=rebuild) as uploader:
        uploader.finish_rebuild()


def test_what_an_export_brings_is_not_seen_before_the_rebuild_is_finished(rebuilding):
    rebuilding.deliver((7, [upsert("gone", 7), upsert("kept", 7, n=1), delete("dead", 7)]))

    rebuilding.deliver((9, [upsert("kept", 9, n=2), upsert("new", 9)]), rebuild="one", exporting=True)
    assert rebuilding.documents() == {"gone": body("gone"), "kept": body("kept", n=1)}

    finish(rebuilding, "one")
    assert rebuilding.documents() == {"kept": body("kept", n=2), "new": body("new")}


def test_live_changes_reach_the_old_place_and_the_new(rebuilding):
    rebuilding.deliver((7, [upsert("gone", 7), upsert("a", 7)]))
    rebuilding.deliver((9, [upsert("a", 9), upsert("b", 9)]), rebuild="one", exporting=True)

    rebuilding.deliver((10, [upsert("a", 10, n=2), delete("b", 10), upsert("c", 10)]), rebuild="one")
    assert rebuilding.documents() == {"gone": body("gone"), "a": body("a", n=2), "c": body("c")}

    finish(rebuilding, "one")
    assert rebuilding.documents() == {"a": body("a", n=2), "c": body("c")}
    if rebuilding.keeps_pointer:
        assert pointer_of(rebuilding).position == 10


def test_an_export_never_overwrites_newer_live_changes_in_the_new_place(rebuilding):
    rebuilding.deliver((7, [upsert("a", 7), upsert("b", 7)]))
    with rebuilding.session(rebuild="one") as uploader:
        uploader.exporting = True
        uploader.begin_slice(9)
        uploader.end_slice(None)
        uploader.exporting = False
        uploader.begin_slice(10)
        uploader.iterate_over([upsert("a", 10, n=2), delete("b", 10)])
        uploader.end_slice(10)
        uploader.exporting = True
        uploader.begin_slice(9)
        uploader.iterate_over([upsert("a", 9, n=1), upsert("b", 9), upsert("c", 9)])
        uploader.end_slice(None)

        uploader.finish_rebuild()

    assert rebuilding.documents() == {"a": body("a", n=2), "c": body("c")}


def test_finishing_a_rebuild_twice_does_no_harm(rebuilding):
    rebuilding.deliver((7, [upsert("gone", 7)]))
    rebuilding.deliver((9, [upsert("a", 9)]), rebuild="one", exporting=True)
    with rebuilding.session(rebuild="one") as uploader:
        uploader.finish_rebuild()
        uploader.finish_rebuild()
        uploader.begin_slice(9)
        uploader.end_slice(9)
    finish(rebuilding, "one")  # as after a crash

    assert rebuilding.documents() == {"a": body("a")}
    rebuilding.deliver((10, [upsert("b", 10)]))
    assert rebuilding.documents() == {"a": body("a"), "b": body("b")}
    if rebuilding.readable:
        assert [row.object_id for row in rows_now(rebuilding)] == ["a", "b"]


def test_a_rebuild_that_broke_off_is_taken_up_again(rebuilding):
    rebuilding.deliver((7, [upsert("gone", 7)]))
    rebuilding.deliver((9, [upsert("a", 9)]), rebuild="one", exporting=True)
    rebuilding.deliver((9, [upsert("lost", 9)]), rebuild="one", exporting=True, end=False)
    rebuilding.deliver((9, [upsert("b", 9)]), rebuild="one", exporting=True)

    finish(rebuilding, "one")

    expected = {"a", "b"} if rebuilding.takes_back else {"a", "b", "lost"}
    assert set(rebuilding.documents()) == expected


def test_what_a_rebuild_brought_that_nobody_finished_is_never_seen(rebuilding):
    rebuilding.deliver((7, [upsert("gone", 7)]))
    rebuilding.deliver((8, [upsert("ghost", 8)]), rebuild="one", exporting=True)
    rebuilding.deliver((9, [upsert("a", 9)]), rebuild="two", exporting=True)

    finish(rebuilding, "two")

    assert set(rebuilding.documents()) == {"a"}
    rebuilding.deliver((10, [upsert("b", 10)]), rebuild="three", exporting=True)
    finish(rebuilding, "three")
    assert set(rebuilding.documents()) == {"b"}


# and all of it, many times over

changes = st.lists(
    st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.integers(0, 2)), max_size=6), max_size=6
)
crashes = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=4)


REPEATS = {"slices": changes, "crashes": crashes, "batch_size": st.integers(1, 3)}
ANEW = [HealthCheck.function_scoped_fixture]  # it makes a destination each time


@settings(max_examples=6, suppress_health_check=ANEW, deadline=None)
@given(**REPEATS)
def test_after_any_repeats_the_destination_equals_the_host(new_destination, slices, crashes, batch_size):
    repeated(new_destination, slices, crashes, batch_size)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=ANEW, deadline=None)
@given(**REPEATS)
def test_after_many_repeats_the_destination_equals_the_host(new_destination, slices, crashes, batch_size):
    repeated(new_destination, slices, crashes, batch_size)


def repeated(new_destination, slices, crashes, batch_size):
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
