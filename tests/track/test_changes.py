"""Columns hold what the actions say, whatever part of the pages they were read from."""

from hypothesis import given
from hypothesis import strategies as st

from livesync import ActionWrapper
from livesync.track.changes import Changes, Part, enough_of, first_of
from livesync.track.packed import pack_values

WORDS = st.frozensets(
    st.sampled_from(["created", "data_changed", "moved", "deleted", "host.word"]), min_size=1
)
ACTIONS = st.builds(
    ActionWrapper,
    st.sampled_from([1.5, 2.0, 3.25]),
    st.sampled_from(["a", "b", "ü", "with\0nul"]),
    WORDS,
    st.sampled_from(["", "ann"]),
    st.sampled_from(["", "a note"]),
)
PAGES = st.lists(st.tuples(st.lists(ACTIONS, min_size=1, max_size=6), st.booleans()), max_size=4)


def parts_of(pages):
    """Return each page as a part, packed or not, and all their items."""
    parts, items, position = [], [], 0
    for values, packed in pages:
        positions = list(range(position, position + len(values)))
        position += len(values)
        parts.append(Part(positions, pack_values(values) if packed else values, 0, len(values)))
        items += zip(positions, values)
    return parts, items


def columns_of(changes):
    return list(zip(changes.positions, changes.timestamps, changes.ids, changes.words))


def expected_of(items):
    return [(position, a.timestamp, a.object_id, a.actions) for position, a in items]


@given(PAGES, st.integers(0, 25))
def test_columns_and_actions_of_the_first_so_many_are_those_of_the_pages(pages, count):
    parts, items = parts_of(pages)

    changes = Changes(first_of(parts, count))

    assert columns_of(changes) == expected_of(items[:count])
    assert list(changes) == items[:count]
    assert len(changes) == min(count, len(items))


@given(PAGES, st.integers(0, 6), st.integers(0, 6))
def test_a_part_from_the_middle_of_a_page_holds_just_that(pages, begin, length):
    for part, (values, _) in zip(parts_of(pages)[0], pages):
        end = min(begin + length, len(values))
        start = min(begin, end)
        middle = Part(list(range(len(values))), part._held, start, end)

        assert middle.positions == list(range(start, end))
        assert middle.values() == values[start:end]
        assert middle.columns()[1] == [action.object_id for action in values[start:end]]
        assert middle.begin(2).values() == values[start:end][:2]


@given(PAGES)
def test_columns_are_made_of_any_items(pages):
    _, items = parts_of(pages)

    changes = Changes.of(iter(items))

    assert columns_of(changes) == expected_of(items)
    assert Changes.of(changes) is changes
    assert all(item in changes for item in items)
    assert (99, ActionWrapper(1, "z", ("moved",))) not in changes


def test_no_more_parts_are_read_than_are_needed():
    parts, _ = parts_of([([ActionWrapper(1, "a", ("moved",))] * 3, True)] * 3)
    waiting = iter(parts)

    assert len(enough_of(waiting, 4)) == 2
    assert len(list(waiting)) == 1
