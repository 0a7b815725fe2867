"""Columns hold what the actions say, whatever part of the pages they were read from."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livesync import ActionWrapper, ListMultiPointerTrack, PositionSealed, SetMultiPointerTrack
from livesync.track import pages
from livesync.track.changes import Changes, Commit, Part, enough_of, first_of
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


COMMITS = st.lists(
    st.builds(
        lambda step, time, user, changes: (
            step,
            Commit(b"", time, user, "", [i for i, _ in changes], [w for _, w in changes]),
        ),
        st.integers(0, 2),
        st.sampled_from([1.5, 2.0]),
        st.sampled_from(["", "ann"]),
        st.lists(st.tuples(st.sampled_from(["a", "b", "with\0nul"]), WORDS), max_size=7),
    ),
    max_size=6,
)


@st.composite
def additions(draw):
    """Return what is added to a track: commits in turn, and between them a plain value or an empty entry."""
    steps = st.one_of(
        st.tuples(st.just("commits"), COMMITS),
        st.tuples(st.just("plain"), st.one_of(st.just("no action"), ACTIONS)),
        st.tuples(st.just("prepare"), st.integers(0, 3)),
        st.tuples(st.just("back"), st.integers(0, 3)),
    )
    return draw(st.lists(steps, max_size=5))


def content(track):
    pages = [(key, page.__getstate__()) for key, page in track._pages.items()]
    return pages, len(track), list(track), list(track._prepared)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(additions(), st.sampled_from([ListMultiPointerTrack, SetMultiPointerTrack]))
def test_commits_are_added_as_their_actions_would_be_one_by_one(monkeypatch, steps, kind):
    monkeypatch.setattr(pages, "PAGE_SIZE", 4)
    if kind is SetMultiPointerTrack:
        steps = [step for step in steps if step[1] != "no action"]  # these have no order among actions
    one_by_one, at_once, position = kind(), kind(), 1
    for what, given_ in steps:
        if what == "commits":
            placed = []
            for step, commit in given_:
                position += step
                placed.append((position, commit))
            one_by_one.extend((at, action) for at, commit in placed for action in commit.actions)
            at_once.extend_commits(placed)
        else:
            for track in (one_by_one, at_once):
                if what == "plain":
                    track.add(position, given_)
                elif what == "prepare":
                    track.prepare_entry(position + given_)
            position -= given_ if what == "back" else 0
            position = max(position, 1)

    assert content(at_once) == content(one_by_one)


def test_commits_before_one_at_a_sealed_position_are_added(monkeypatch):
    track = ListMultiPointerTrack()
    track.seal(5)
    commit = Commit(b"", 1.0, "", "", ["a", "b"], [frozenset({"moved"})] * 2)

    with pytest.raises(PositionSealed):
        track.extend_commits([(6, commit), (5, commit)])

    assert [(position, action.object_id) for position, action in track] == [(6, "a"), (6, "b")]
    assert len(track) == 1
