"""Deltas: exact in both directions for any two values, small for what people edit, and never believed."""

import datetime
import random
import struct
from contextlib import suppress
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync.errors import BrokenDelta
from livesync.versions.diffs import delta
from livesync.versions.values import CODEC

from .editing import edited
from .typed import documents, values


def check(a, b):
    """Return the encoded sizes of both deltas, having seen that they are exact."""
    encoded_a, encoded_b = CODEC.encode(a), CODEC.encode(b)
    made = delta.make(a, b, CODEC)
    if made is None:
        assert encoded_a == encoded_b
        return 0, 0
    assert encoded_a != encoded_b
    forward, backward = CODEC.encode(made.forward), CODEC.encode(made.backward)
    assert CODEC.encode(delta.apply(a, CODEC.decode(forward))) == encoded_b
    assert CODEC.encode(delta.apply(b, CODEC.decode(backward))) == encoded_a
    assert (CODEC.encode(a), CODEC.encode(b)) == (encoded_a, encoded_b)  # neither was changed
    return len(forward), len(backward)


@given(values, values)
def test_any_value_becomes_any_other_and_back(a, b):
    check(a, b)


@settings(max_examples=40)
@given(documents, documents)
def test_any_document_becomes_any_other_and_back(a, b):
    check(a, b)


@given(values)
def test_there_is_no_delta_between_equals(value):
    assert delta.make(value, CODEC.decode(CODEC.encode(value)), CODEC) is None


@settings(max_examples=40)
@given(documents, st.integers(0, 2**32), st.integers(1, 6))
def test_edits_go_forward_and_back(document, seed, count):
    mood = random.Random(seed)
    changed = document
    for _ in range(count):
        changed = edited(changed, mood)
    check(document, changed)


def typed(mood, depth=3):
    """Return a random value of any type, much quicker than a property draws one."""
    what = mood.randrange(12 if depth else 8)
    if what < 8:
        return mood.choice(SCALARS)
    items = [typed(mood, depth - 1) for _ in range(mood.randrange(6))]
    if what < 10:
        keys = mood.sample(KEYS, len(items))
        return dict(zip(keys, items))
    return items if what == 10 else tuple(items)


KEYS = [
    "a",
    "b",
    "title",
    "tags",
    "\udfff",
    1,
    True,
    2.5,
    b"x",
    None,
    (1, "x"),
    UUID(int=7),
    datetime.date(2020, 1, 1),
]
SCALARS = [
    0, 1, True, False, 1.0, 0.0, -0.0, None, 2**70, -(2**63), float("inf"), b"", b"bytes" * 20, "", "text",
    "\ud800", "long text in lines\n" * 30, " ".join(map(str, range(200))), Decimal("1.0"), Decimal(1),
    Decimal("NaN12"), UUID(int=1), {1, "x"}, frozenset([True]), 1j, datetime.date(2020, 2, 29),
    datetime.timedelta(-1, 5), datetime.datetime(2020, 1, 1, fold=1),
    datetime.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    *(struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000001, 0xFFF8000000000000)),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4, 6))
def test_thousands_of_edits_go_forward_and_back(seed):
    go_forward_and_back(seed, 80)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_thousand_edits_go_forward_and_back(seed):
    go_forward_and_back(seed, 1_000)


def go_forward_and_back(seed, times):
    """Edit random values, 25 times each."""
    mood = random.Random(seed)
    for _ in range(times):
        value = typed(mood)
        for _ in range(25):
            changed = edited(value, mood)
            check(value, changed)
            value = changed


TEXT = st.text("ab \n", max_size=40).flatmap(lambda part: st.integers(1, 40).map(lambda times: part * times))


@given(TEXT, TEXT, st.text("ab \nc", max_size=5), st.data())
def test_long_texts_go_forward_and_back(a, b, between, data):
    place = data.draw(st.integers(0, len(a)))
    for changed in (a[:place] + between + a[place:], a[:place] + b, b + a[place:], b):
        check(a, changed)
        check(a.encode(), changed.encode())


def words(mood, count):
    return [mood.choice(["alpha", "beta", "gamma"]) + str(mood.randrange(300)) for _ in range(count)]


def test_small_edits_have_small_deltas():
    mood = random.Random(7)
    talk = {
        "title": "A talk about ZODB",
        "speakers": ["Jim", "Chris"],
        "description": " ".join(words(mood, 60)),
        "tags": ["x", "y", "z"],
    }
    text = words(mood, 9000)
    word = list(text)
    word[4000] = "another"
    spread = list(text)
    for _ in range(10):
        spread[mood.randrange(len(spread))] = "changed"
    items = [{"id": number, "value": mood.random()} for number in range(1000)]
    shuffled = list(items)
    mood.shuffle(shuffled)
    one = [dict(item) for item in items]
    one[500]["value"] = 1

    assert max(check(talk, {**talk, "title": "A talk about ZODB!", "tags": ["x", "z", "w"]})) < 60
    assert max(check(" ".join(text), " ".join(word))) < 30
    assert max(check(" ".join(text), " ".join(spread))) < 300
    assert max(check(items, shuffled)) < 4_000  # the items themselves take 20,000
    assert max(check(items, items[1:] + items[:1])) < 12
    assert max(check(items, one)) < 40


def test_a_line_that_moves_is_not_written_again():
    lines = [f"line {number} of a text that is long enough\n" for number in range(60)]
    moved = [*lines[:10], *lines[40:50], *lines[10:40], *lines[50:]]

    assert max(check("".join(lines), "".join(moved))) < 60


def test_equal_keys_of_other_types_are_never_mixed_up():
    for a, b in (({1: "x"}, {True: "x"}), ({1: "x", "k": 0}, {1.0: "x", "k": 1}), ({(1,): 2}, {(True,): 2})):
        check(a, b)


def test_an_item_edited_behind_a_new_one_is_still_an_edit():
    old = [{"id": 1, "text": "a long enough text " * 10}]
    new = [{"id": 9, "text": "another"}, {"id": 1, "text": "a long enough text " * 10 + "."}]

    assert check(old, new)[0] < 80


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("behind", [0, 1, 3])
def test_one_item_of_a_list_is_edited_or_replaced_where_it_stands(ahead, behind):
    before, after = list("abc")[:ahead], list("xyz")[:behind]
    kept = [*([0, ahead] if ahead else [])], [*([ahead + 1, behind] if behind else [])]
    talk, other = {"n": 1, "text": "a text that stays"}, {"n": 2, "text": "a text that stays"}

    edited = delta.make([*before, talk, *after], [*before, other, *after], CODEC)
    replaced = delta.make([*before, 1, *after], [*before, True, *after], CODEC)

    assert edited.forward == [*kept[0], True, ahead, [[], ["n", 2]], *kept[1]]
    assert edited.backward == [*kept[0], True, ahead, [[], ["n", 1]], *kept[1]]
    assert CODEC.encode(replaced.forward) == CODEC.encode([*kept[0], [True], *kept[1]])
    check([*before, talk, *after], [*before, other, *after])
    check([*before, 1, *after], [*before, True, *after])


def test_keys_that_come_and_go_leave_the_others_in_their_order():
    for a in ("abcdef", "fbd", "xaybzc", "cba", ""):
        for b in ("abcdef", "acxe", "zyxabc", "abc", "fedcba"):
            check(dict.fromkeys(a, 1), dict.fromkeys(b, 1))
            check(dict(zip(a, a)), dict(zip(b, b.upper())))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text("ab", max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=10,
)


@given(values, JUNK)
def test_a_delta_that_does_not_fit_is_refused_and_nothing_else_happens(value, junk):
    before = CODEC.encode(value)

    with suppress(BrokenDelta):
        CODEC.encode(delta.apply(value, junk))

    assert CODEC.encode(value) == before


@pytest.mark.parametrize(
    ("value", "broken"),
    [
        ({"a": 1}, []),
        ({"a": 1}, "text"),
        ({"a": 1}, [None, 1, 2]),
        ({"a": 1}, [[], [], ["b"]]),
        ({"a": 1}, [["b", [None, 1]]]),
        ({"a": 1}, [["a"]]),
        ({"a": 1, "b": 2}, [[], [], [], [0, 1]]),
        ([1, 2], [0, 3]),
        ([1, 2], [-1, 1]),
        ([1, 2], [True, 5, [None, 1]]),
        ([1, 2], [0]),
        ([1, 2], ["x"]),
        ("x" * 60, [50, 11, ""]),
        ("x" * 60, [1, 1, b"bytes"]),
        ("x" * 60, [1, 1, [0, 99]]),
        (1, [1, 2]),
    ],
)
def test_what_does_not_fit_is_one_clear_error(value, broken):
    with pytest.raises(BrokenDelta):
        delta.apply(value, broken)
