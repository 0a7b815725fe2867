"""ActionWrapper: a value that says what was done to one object."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync import ActionWrapper
from livesync.action import ACTION_WORDS, trusted_action

ACTIONS = st.builds(
    ActionWrapper,
    st.sampled_from([0, 1.5, 1297082086.25]),
    st.sampled_from(["a", "b", "a\0b", "\U0001f600"]),
    st.frozensets(st.sampled_from(sorted(ACTION_WORDS)), min_size=1, max_size=3),
    st.sampled_from(["", "ada"]),
    st.sampled_from(["", "note"]),
)


def test_it_holds_what_it_was_given():
    action = ActionWrapper(1297082086, "talk-1", ["moved", "moved", "created"], "ada", "a note")

    assert action.timestamp == 1297082086.0
    assert isinstance(action.timestamp, float)
    assert action.object_id == "talk-1"
    assert action.actions == frozenset({"moved", "created"})
    assert (action.user, action.note) == ("ada", "a note")


def test_it_is_shown_as_documented():
    action = ActionWrapper(1297082086.9, "talk-1", ["title_changed", "data_changed"])

    assert str(action) == f"<ActionWrapper@{id(action):#x} (talk-1) [data_changed,title_changed] 1297082086>"
    assert repr(action) == str(action)
    assert "(A talk)" in action.describe("A talk")


@pytest.mark.parametrize("object_id", ["", "x" * 513])
def test_an_id_has_1_to_512_characters(object_id):
    with pytest.raises(ValueError, match="1 to 512"):
        ActionWrapper(0, object_id, ["moved"])


def test_the_longest_id_is_taken():
    assert len(ActionWrapper(0, "\U0001f600" * 512, ["moved"]).object_id) == 512


@pytest.mark.parametrize("object_id", [None, 3, b"bytes"])
def test_an_id_is_text(object_id):
    with pytest.raises(TypeError):
        ActionWrapper(0, object_id, ["moved"])


@pytest.mark.parametrize("words", [[], [""], ["two words"], ["a,b"], ["a\0"], ["moved", "x\n"]])
def test_actions_are_words_and_at_least_one(words):
    with pytest.raises(ValueError, match="action"):
        ActionWrapper(0, "a", words)


@pytest.mark.parametrize("words", ["moved", [3], [None], [b"moved"]])
def test_actions_are_a_collection_of_texts(words):
    with pytest.raises(TypeError):
        ActionWrapper(0, "a", words)


def test_a_host_may_have_words_of_its_own():
    assert ActionWrapper(0, "a", ["x.y:published-2"]).actions == {"x.y:published-2"}


@pytest.mark.parametrize("name", ["timestamp", "object_id", "actions", "anything"])
def test_it_cannot_be_changed(name):
    action = ActionWrapper(0, "a", ["moved"])

    with pytest.raises(AttributeError):
        setattr(action, name, 1)
    with pytest.raises(AttributeError):
        delattr(action, name)


def test_it_is_ordered_by_time_then_id_then_actions():
    in_order = [
        ActionWrapper(1, "b", ["moved"]),
        ActionWrapper(2, "a", ["created", "moved"]),
        ActionWrapper(2, "a", ["moved"]),
        ActionWrapper(2, "a", ["moved"], "ada"),
        ActionWrapper(2, "b", ["created"]),
    ]

    shuffled = [in_order[at] for at in (3, 0, 4, 2, 1)]
    assert sorted(shuffled) == in_order


def test_it_is_not_compared_with_other_things():
    action = ActionWrapper(0, "a", ["moved"])

    assert action != ("a", 0)
    for compare in ("__lt__", "__gt__"):
        assert getattr(action, compare)(3) is NotImplemented
    with pytest.raises(TypeError):
        _ = action < 3
    with pytest.raises(TypeError):
        _ = action >= 3
    with pytest.raises(TypeError):
        _ = action <= 3


@given(ACTIONS, ACTIONS)
def test_the_order_is_total_and_agrees_with_equality(one, other):
    assert (one < other) + (one == other) + (one > other) == 1
    assert (one <= other) == (one < other or one == other)
    assert (one >= other) == (other <= one)
    if one == other:
        assert hash(one) == hash(other)


@given(ACTIONS)
def test_it_comes_back_from_a_pickle(action):
    again = pickle.loads(pickle.dumps(action))

    assert again == action
    assert hash(again) == hash(action)
    assert (again.user, again.note) == (action.user, action.note)


@given(ACTIONS)
def test_the_quick_way_makes_the_same(action):
    quick = trusted_action(action.timestamp, action.object_id, action.actions, action.user, action.note)

    assert quick == action


def test_it_looks_up_its_object_only_when_asked():
    class Host:
        def get(self, object_id):
            return ("object", object_id)

    assert ActionWrapper(0, "a", ["moved"]).get_object(Host()) == ("object", "a")
