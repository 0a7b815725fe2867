import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livesync.demo.history import HistoryError
from livesync.demo.host import demo_host, demo_paths_host

A, B = "a-2001/category.json", "b-2002/category.json"
AX, AY = "a-2001/videos/x.json", "a-2001/videos/y.json"
BX, BY = "b-2002/videos/x.json", "b-2002/videos/y.json"


@pytest.fixture
def apply(world, demo):
    """Return a function that replays one line of the changes given."""
    count = iter(range(1_500_000_000, 1_600_000_000))

    def apply(*changes):
        world.replay(demo_host(), demo.line(*changes, time=next(count)))

    return apply


def test_talk_keeps_its_id_when_it_moves(world, apply):
    apply(("created", A, {}), ("created", AX, {"title": "X"}))
    before = world.uids()["a/a-2001/x"]

    apply(("moved", BY, {"title": "Y"}, AX))

    assert world.uids()["b/b-2002/y"] == before
    assert world.documents() == {A: {}, BY: {"title": "Y"}}


def test_what_is_made_where_something_was_has_an_id_of_its_own(world, apply):
    apply(("created", AX, {"title": "X"}))
    moved = world.uids()["a/a-2001/x"]
    apply(("moved", BX, {"title": "X"}, AX), ("created", AX, {"title": "X"}))
    apply(("deleted", AX))
    apply(("created", AX, {"title": "X"}))
    uids = world.uids()

    assert uids["b/b-2002/x"] == moved
    assert uids["a/a-2001/x"] != moved
    assert len(set(uids.values())) == len(uids)


def test_document_made_where_one_lies_is_a_change_of_it(world, apply):
    apply(("created", AX, {"title": "X"}))
    before = world.uids()

    apply(("created", AX, {"title": "Y"}))

    assert world.uids() == before
    assert world.documents() == {AX: {"title": "Y"}}


def test_conference_takes_its_talks_along(world, apply):
    apply(("created", A, {"title": "A"}), ("created", AX, {}), ("created", AY, {}))
    before = world.uids()

    apply(
        ("moved", B, {"title": "B"}, A),
        ("moved", BX, {}, AX),
        ("moved", "b-2002/videos/z.json", {"n": 1}, AY),
    )

    after = world.uids()
    assert after["b/b-2002"] == before["a/a-2001"]
    assert after["b/b-2002/x"] == before["a/a-2001/x"]
    assert after["b/b-2002/z"] == before["a/a-2001/y"]
    assert world.documents() == {B: {"title": "B"}, BX: {}, "b-2002/videos/z.json": {"n": 1}}


def test_conference_that_takes_its_talks_along_moves_in_one_event(world, demo):
    host = demo_host()
    world.replay(host, demo.line(("created", A, {}), ("created", AX, {}), ("created", AY, {})))
    seen = len(world.collect())

    world.replay(host, demo.line(("moved", BX, {}, AX), ("moved", BY, {}, AY), ("moved", B, {}, A)))

    uids = world.uids()
    moved = [action.object_id for action in world.collect()[seen:] if "moved" in action.actions]
    assert moved == [uids["b/b-2002"]]


def test_talks_that_are_not_moved_along_stay_in_a_conference_without_document(world, apply):
    apply(("created", A, {"title": "A"}), ("created", AX, {}), ("created", AY, {}))
    before = world.uids()

    apply(("moved", B, {"title": "A"}, A), ("moved", BX, {}, AX))

    after = world.uids()
    assert after["b/b-2002"] == before["a/a-2001"]
    assert after["a/a-2001/y"] == before["a/a-2001/y"]
    assert after["a/a-2001"] not in before.values()
    assert world.documents() == {B: {"title": "A"}, BX: {}, AY: {}}


def test_only_the_document_moves_to_a_folder_that_has_a_conference(world, apply):
    apply(("created", A, {"title": "A"}), ("created", AX, {}), ("created", BX, {}))
    before = world.uids()

    apply(("moved", B, {"title": "A"}, A))

    assert world.uids() == before
    assert world.documents() == {B: {"title": "A"}, AX: {}, BX: {}}


def test_talks_of_a_conference_may_swap_names_as_it_moves(world, apply):
    apply(("created", A, {}), ("created", AX, {"n": "x"}), ("created", AY, {"n": "y"}))
    before = world.uids()

    apply(("moved", B, {}, A), ("moved", BY, {"n": "x"}, AX), ("moved", BX, {"n": "y"}, AY))

    after = world.uids()
    assert (after["b/b-2002/y"], after["b/b-2002/x"]) == (before["a/a-2001/x"], before["a/a-2001/y"])
    assert world.documents() == {B: {}, BY: {"n": "x"}, BX: {"n": "y"}}


def test_talk_that_is_moved_onto_another_replaces_it(world, apply):
    apply(("created", AX, {"n": "x"}), ("created", BX, {"n": "old"}))
    before = world.uids()

    apply(("moved", BX, {"n": "x"}, AX))

    assert world.uids() == {
        "b": before["b"],
        "b/b-2002": before["b/b-2002"],
        "b/b-2002/x": before["a/a-2001/x"],
    }


def test_talk_that_becomes_a_conference_is_made_anew(world, apply):
    apply(("created", AX, {"n": 1}))
    before = set(world.uids().values())

    apply(("moved", B, None, AX))

    assert world.documents() == {B: {"n": 1}}
    assert before.isdisjoint(world.uids().values())


def test_conference_without_document_stays_until_its_last_talk_is_gone(world, apply):
    apply(("created", A, {"title": "A"}), ("created", AX, {}))
    before = world.uids()

    apply(("deleted", A))
    assert world.uids() == before
    assert world.documents() == {AX: {}}

    apply(("deleted", AX))
    assert world.uids() == {}


@pytest.mark.parametrize(
    "change",
    [
        ("deleted", BX),
        ("data_changed", BX, {}),
        ("moved", AX, {}, BX),
        ("deleted", B),
        ("moved", B, {}, B),
        ("data_changed", A, {}),
    ],
)
def test_nothing_of_a_line_is_applied_that_needs_what_is_not_there(world, apply, change):
    apply(("created", AX, {"n": 1}))
    before, waiting = world.uids(), len(world.collect())

    with pytest.raises(HistoryError, match=r"test\.jsonl, line 1: change 2 .* is not there"):
        apply(("created", AY, {}), change)

    assert world.uids() == before
    assert len(world.collect()) == waiting


def test_small_history_ends_with_what_a_plain_table_of_documents_has(world, demo, small_history):
    table = {}
    for line in small_history:
        demo.apply_to_table(table, line)

    world.replay(demo_host(), *small_history)

    assert len(table) == 844
    assert world.documents() == table
    world.check()


def test_two_replays_of_a_history_give_the_same_ids(world, demo, small_history):
    other = demo.World()

    world.replay(demo_host(), *small_history)
    for begin in range(0, len(small_history), 30):
        other.replay(demo_host(), *small_history[begin : begin + 30])

    assert world.index(demo_host(), "staff") == other.index(demo_host(), "staff")
    other.db.close()


FOLDERS = st.sampled_from(["a-2001", "a-2002", "data/a-2001", "b", "kyivpy"])
FILES = st.builds(
    lambda folder, rest: f"{folder}/{rest}",
    FOLDERS,
    st.sampled_from(["category.json", "category.json", "videos/x.json", "videos/y.json", "videos/x-1.json"]),
)
DOCUMENTS = st.sampled_from([{}, {"title": "T"}, {"n": 1}, {"n": True}, "ready"])
ACTIONS = st.sampled_from(["created", "data_changed", "moved", "moved", "deleted"])
WISHES = st.tuples(ACTIONS, FILES, FILES, DOCUMENTS)


def changes_for(demo, table, wishes):
    """Return the changes of a line that are possible, of those wished for; ``table`` is changed by them."""
    changes = []
    for action, file, former, document in wishes:
        data = demo.ready if document == "ready" else document
        needed = former if action == "moved" else file
        if (action != "created" and needed not in table) or (action == "moved" and former == file):
            continue
        change = (action, file, data, former)
        if action != "moved":
            change = change[: 2 if action == "deleted" else 3]
        changes.append(change)
        demo.apply_to_table(table, demo.line(change))
    return changes


def move_of_all(table, folder, to):
    """Return the changes that move everything in a folder to another."""
    return [
        ("moved", to + file.removeprefix(folder), None, file)
        for file in sorted(table)
        if file.startswith((f"{folder}/videos/", f"{folder}/category"))
    ]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.one_of(st.lists(WISHES, max_size=8), st.tuples(FOLDERS, FOLDERS)), max_size=8),
    with_paths=st.booleans(),
)
def test_any_history_ends_as_a_table_would_and_the_track_tells_all_of_it(demo, lines, with_paths):
    world, table = demo.World(), {}
    host = demo_paths_host() if with_paths else demo_host()
    mirrors = [demo.Mirror(world, host), demo.Mirror(world, host, "staff")]
    for number, wishes in enumerate(lines):
        if isinstance(wishes, tuple):
            changes = [] if wishes[0] == wishes[1] else move_of_all(table, *wishes)
            for change in changes:
                demo.apply_to_table(table, demo.line(change))
        else:
            changes = changes_for(demo, table, wishes)

        world.replay(host, demo.line(*changes, time=number))

        assert world.documents() == table
        world.check()
        for mirror in mirrors:
            assert mirror.follow() == world.index(host, mirror.audience)
    world.db.close()
