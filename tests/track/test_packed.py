"""What is packed comes back as it was."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from livesync import ActionWrapper
from livesync.track.packed import (
    pack_changes,
    pack_codes,
    pack_ids,
    pack_positions,
    pack_values,
    unpack_changes,
    unpack_codes,
    unpack_ids,
    unpack_positions,
    unpack_values,
)
from livesync.track.stored import Page

ODD_IDS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(["\0", "a\0b", "\n", "a\nb", " ", "\U0001f600", "x" * 512, "\U0001f600" * 512, ","]),
)
WORDS = st.sampled_from(["created", "data_changed", "moved", "deleted", "a.b:c-d", "élan", "x1"])
WORD_SETS = st.frozensets(WORDS, min_size=1, max_size=4)
TIMES = st.one_of(st.just(1297082086.25), st.floats(0, 1e11))
TEXTS = st.one_of(st.just(""), st.text(max_size=20))
ACTIONS = st.builds(ActionWrapper, TIMES, ODD_IDS, WORD_SETS, TEXTS, TEXTS)


def fields(action):
    return (action.timestamp, action.object_id, action.actions, action.user, action.note)


@given(st.lists(ACTIONS, min_size=1, max_size=40))
def test_actions_come_back(actions):
    packed = pickle.loads(pickle.dumps(pack_values(actions)))

    assert packed[0] == "actions"
    assert list(map(fields, unpack_values(packed))) == list(map(fields, actions))


@given(
    st.lists(st.one_of(ACTIONS, st.integers(), st.text(), st.none(), st.tuples(st.integers())), max_size=20)
)
def test_mixed_values_come_back(values):
    assert unpack_values(pickle.loads(pickle.dumps(pack_values(values)))) == values


@given(st.lists(st.tuples(ODD_IDS, WORD_SETS), min_size=1, max_size=40))
def test_changes_come_back(changes):
    assert list(zip(*unpack_changes(pickle.loads(pickle.dumps(pack_changes(changes)))))) == changes


def test_more_than_256_word_sets_users_and_notes_come_back():
    actions = [
        ActionWrapper(
            number, f"id-{number}", {f"word-{number % 300}"}, f"user {number % 270}", f"note {number % 7}"
        )
        for number in range(2000)
    ]

    assert list(map(fields, unpack_values(pack_values(actions)))) == list(map(fields, actions))


def test_exactly_256_word_sets_come_back():
    changes = [(f"id-{number}", frozenset({f"word-{number}"})) for number in range(256)]

    assert list(zip(*unpack_changes(pack_changes(changes)))) == changes


def test_a_packed_action_takes_few_bytes_beside_its_id():
    actions = [ActionWrapper(1297082086.0, f"{number:08}", {"data_changed"}) for number in range(256)]

    assert len(pickle.dumps(pack_values(actions), 3)) <= 256 * (8 + 3)


@given(st.lists(ODD_IDS, min_size=1))
def test_ids_come_back(ids):
    assert list(unpack_ids(pack_ids(ids))) == ids


@given(st.integers(1, 600), st.data())
def test_codes_come_back(size, data):
    codes = data.draw(st.lists(st.integers(0, size - 1), min_size=1))

    assert list(unpack_codes(pack_codes(codes, size), len(codes))) == codes


@given(st.lists(st.integers(0, 2**62)))
def test_positions_come_back(positions):
    assert unpack_positions(pack_positions(sorted(positions))) == sorted(positions)


def test_a_page_comes_back_from_its_state():
    page = Page([1, 1, 2], [ActionWrapper(1, "a", {"moved"}), "text", 3])
    again = Page([], [])

    again.__setstate__(pickle.loads(pickle.dumps(page.__getstate__())))

    assert again.read() == page.read()


def test_an_empty_page_comes_back():
    assert unpack_values(pack_values([])) == []
