"""Drawings of the graph of versions: every line leads from a version to its parent."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from livesync.versions.graph import drawn, lanes


@st.composite
def graphs(draw):
    """Versions with up to three parents each, the newest first."""
    count = draw(st.integers(1, 12))
    found = []
    for number in range(count):
        older = st.integers(0, number - 1)
        parents = draw(st.lists(older, min_size=1, max_size=3, unique=True)) if number else []
        found.append((number, parents))
    return found[::-1]


@given(graphs())
def test_every_line_leads_to_the_parent_it_is_drawn_for(versions):
    rows = list(lanes(versions))
    assert len(rows) == len(versions)
    places = {version: number for number, (version, _) in enumerate(versions)}
    for number, (_, parents) in enumerate(versions):
        starts = [bottom for middle, bottom in rows[number].below if middle == rows[number].at]
        assert len(starts) == len(parents)
        for parent, column in zip(parents, starts):
            assert reached(rows, number + 1, column) == places[parent]


def reached(rows, number, column):
    """Follow a line from the top of a row down; return the row of the version that it ends at."""
    while True:
        row = rows[number]
        (column,) = [middle for top, middle in row.above if top == column]
        if column == row.at:
            return number
        (column,) = [bottom for middle, bottom in row.below if middle == column]
        number += 1


@given(graphs())
def test_rows_fit_together_and_are_as_wide_as_they_need(versions):
    rows = list(lanes(versions))
    for row, following in pairwise(rows):
        assert sorted({bottom for _, bottom in row.below}) == sorted(top for top, _ in following.above)
    for row in rows:
        columns = [row.at, *(column for pair in row.above + row.below for column in pair)]
        assert row.width == max(columns) + 1
    assert rows[-1].below == []


@given(graphs())
def test_the_marks_of_the_text_stand_in_the_same_columns(versions):
    marks = [drawing.mark.split(" ").index("*") for drawing in drawn(versions)]
    assert marks == [row.at for row in lanes(versions)]


def test_a_merge_is_two_lines_and_a_fork_joins_them():
    rows = list(lanes([(3, [2, 1]), (2, [0]), (1, [0]), (0, [])]))
    assert [(row.at, row.width) for row in rows] == [(0, 2), (0, 2), (1, 2), (0, 2)]
    assert rows[0].below == [(0, 0), (0, 1)]
    assert rows[3].above == [(0, 0), (1, 0)]
