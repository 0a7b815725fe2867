"""The canonical encoding: every value comes back to the bit, and equal bytes mean equal values."""

import datetime
import enum
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping

from livesync.errors import BrokenValue, UnkeptValue
from livesync.versions.values import CODEC, FIRST_FREE_CODE, Codec, Kind, shown_path

from .typed import values

ALIKE = [
    1, True, 1.0, -0.0, 0.0, 0, False, None, "1", b"1", Decimal(1), Decimal("1.0"), (1,), [1], {1},
    frozenset([1]),
    {1: 2}, {True: 2}, {1.0: 2}, {"1": 2}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, (), [], {}, "", b"", 1 + 0j,
    datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, fold=1), datetime.date(2026, 1, 1),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(0), "UTC")),
    datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    datetime.time(1), datetime.time(1, tzinfo=datetime.UTC), datetime.timedelta(1), "\ud800", "?",
]  # fmt: skip


class Name(str):
    __slots__ = ()


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def shown(value):
    """Return the repr of a value in which a set's items are sorted: their own order means nothing."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(shown, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[shown(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict{[(shown(key), shown(item)) for key, item in value.items()]}"
    return repr(value)


@given(values)
def test_every_value_comes_back_to_the_bit(value):
    encoded = CODEC.encode(value)
    back = CODEC.decode(encoded)

    assert type(back) is type(value)
    assert CODEC.encode(back) == encoded
    assert CODEC.equal(CODEC.decode_foreign(encoded), value)
    # repr tells types, order and zones apart; it does not tell the bits of NaNs, which the bytes do
    assert shown(back) == shown(value)


def test_what_python_takes_for_equal_has_bytes_of_its_own():
    encoded = [CODEC.encode(value) for value in ALIKE]

    assert len(set(encoded)) == len(ALIKE)


@given(st.lists(st.integers(), unique=True), st.randoms(use_true_random=False))
def test_a_set_is_the_same_in_whatever_order_it_was_filled(members, random):
    shuffled = list(members)
    random.shuffle(shuffled)

    assert CODEC.encode(set(members)) == CODEC.encode(set(shuffled))


@pytest.mark.parametrize(
    ("value", "path", "shown"),
    [
        (object(), (), "builtins.object"),
        ({"talks": [{"title": Name("x")}]}, ("talks", 0, "title"), r"talks\[0\].title"),
        ({"a": PersistentMapping()}, ("a",), "PersistentMapping at a"),
        ([Colour.RED], (0,), r"Colour at \[0\]"),
        ({Colour.RED: 1}, (), "a key at document"),
        ({"n": {1: range(3)}}, ("n", 1), r"range at n\[1\]"),
        ((1, [lambda: 0]), (1, 0), r"\[1\]\[0\]"),
    ],
)
def test_what_cannot_be_given_back_is_refused_with_the_path_to_it(value, path, shown):
    with pytest.raises(UnkeptValue, match=shown) as raised:
        CODEC.encode(value)

    assert raised.value.path == path


def test_a_value_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(UnkeptValue, match="too deep"):
        CODEC.encode(endless)


def test_bytes_like_objects_come_back_as_bytes():
    assert CODEC.decode(CODEC.encode([bytearray(b"a"), memoryview(b"b")])) == [b"a", b"b"]


@given(st.binary(max_size=40))
def test_foreign_bytes_are_a_value_or_one_clear_error(encoded):
    try:
        value = CODEC.decode_foreign(encoded)
    except BrokenValue:
        return
    assert CODEC.encode(value) == encoded


@given(values, st.data())
def test_a_flipped_byte_never_passes_for_the_same_value(value, data):
    encoded = bytearray(CODEC.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))

    try:
        other = CODEC.decode_foreign(bytes(encoded))
    except BrokenValue:
        return
    assert not CODEC.equal(other, value)


def test_bytes_that_are_not_canonical_are_refused_from_outside():
    with pytest.raises(BrokenValue, match="canonical"):
        CODEC.decode_foreign(b"\xcd\x00\x01")  # 1, in three bytes


@given(st.lists(values, max_size=6))
def test_many_values_are_decoded_at_once_as_one_by_one(some):
    encoded = [CODEC.encode(value) for value in some]

    assert [CODEC.encode(value) for value in CODEC.decode_all(encoded)] == encoded


def test_what_is_broken_among_many_values_is_told_as_it_is_of_one():
    with pytest.raises(BrokenValue, match="extension type 99"):
        CODEC.decode_all([CODEC.encode("a"), b"\xd4\x63\x00", CODEC.encode("b")])


def test_an_extension_that_nobody_knows_is_named():
    with pytest.raises(BrokenValue, match="extension type 99"):
        CODEC.decode(b"\xd4\x63\x00")


def test_a_host_keeps_types_of_its_own():
    codec = Codec([Kind(FIRST_FREE_CODE, Point, lambda point: (point.x, point.y), lambda pair: Point(*pair))])

    back = codec.decode(codec.encode({"at": Point(1, 2.5)}))["at"]

    assert (type(back), back.x, back.y) == (Point, 1, 2.5)
    with pytest.raises(UnkeptValue, match="Point at at"):
        CODEC.encode({"at": Point(1, 2)})


@pytest.mark.parametrize("code", [1, 63, 128])
def test_the_codes_of_livesync_are_not_for_hosts(code):
    with pytest.raises(ValueError, match="free extension code"):
        Codec([Kind(code, Point, vars, Point)])


@pytest.mark.parametrize("kind", [str, dict, Decimal])
def test_a_type_that_is_kept_anyway_is_refused(kind):
    with pytest.raises(ValueError, match="kept already"):
        Codec([Kind(FIRST_FREE_CODE, kind, str, kind)])


def test_content_hashes_have_sixteen_bytes_and_tell_types_apart():
    hashes = {CODEC.content_hash(value) for value in ALIKE}

    assert {len(digest) for digest in hashes} == {16}
    assert len(hashes) == len(ALIKE)


def test_paths_read_well():
    assert shown_path(("speakers", 0, "full name", 3)) == "speakers[0]['full name'][3]"
