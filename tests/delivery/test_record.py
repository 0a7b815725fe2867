import base64
import datetime
import decimal
import enum
import json
import math
import uuid

import msgspec
import ormsgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livesync.delivery import record as record_module
from livesync.delivery.record import (
    Batch,
    DeadRecord,
    Op,
    Record,
    RunResult,
    document_digest,
    encode_document,
)
from livesync.errors import NoDocument

UTC = datetime.timezone.utc
CEST = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (2**64, "18446744073709551616"),
        (-(2**63), "-9223372036854775808"),
        (1.5, "1.5"),
        ("é\u2028\x00", '"é\u2028\\u0000"'),
        (b"\xff\x00", '"/wA="'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), '"2020-01-02T03:04:05Z"'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, 60, tzinfo=CEST), '"2020-01-02T01:04:05.000060Z"'),
        (datetime.date(2020, 1, 2), '"2020-01-02"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ([1, [2, {}]], "[1,[2,{}]]"),
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1},"b":1}'),
    ],
)
def test_every_type_that_a_document_may_hold_has_one_form(value, written):
    assert encode_document({"v": value}) == f'{{"v":{written}}}'.encode()


def _shown(value):
    """Return what a test is called by: the same in every process, so no addresses."""
    return str(value).partition(" at 0x")[0][:20]


class Text(str):
    __slots__ = ()


class Word(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Mapping(dict):
    pass


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        datetime.datetime(2020, 1, 2),
        datetime.time(1, 2),
        datetime.timedelta(1),
        (1, 2),
        {1, 2},
        frozenset(),
        bytearray(b"x"),
        memoryview(b"x"),
        ormsgpack.Ext(1, b"x"),
        msgspec.Raw(b"1"),
        Text("x"),
        Word.A,
        Number.ONE,
        Mapping(),
        1j,
        object(),
        {1: "key"},
        {None: "key"},
        {Text("x"): "key"},
        10**5000,
        "\ud800",
        {"\ud800": 1},
    ],
    ids=lambda value: f"{type(value).__name__} {_shown(value)!a}" if not isinstance(value, int) else "int",
)
@pytest.mark.parametrize(
    "wrapped", [lambda v: v, lambda v: [1, {"deep": v}], lambda v: {"n": 1.5, "v": v, "b": b"x"}]
)
def test_anything_else_has_no_document(value, wrapped):
    with pytest.raises(NoDocument):
        encode_document({"v": wrapped(value)})


def test_a_structure_that_contains_itself_has_no_document():
    document: dict = {}
    document["self"] = [document]

    with pytest.raises(NoDocument):
        encode_document(document)


@pytest.mark.parametrize("document", [None, [], "text", Mapping()])
def test_a_document_is_a_dict(document):
    with pytest.raises(NoDocument, match="a document is a dict"):
        encode_document(document)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(CEST)),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.just(bytearray(b"x")),
    st.just((1,)),
    st.just(Word.A),
    st.sampled_from(["null", "č", "\xcb", "\ud800"]),
)
documents = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=4) | st.integers() | st.just(Text("x")), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def by_the_walk(document):
    """What the encoding is by definition: every value looked at, one by one."""
    try:
        return record_module._encoder.encode(record_module._plain(document))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError, NoDocument):
        return NoDocument


@given(documents)
@example({"v": [1.5, math.nan]})
@example({"v": {"x": [math.inf, None]}})
@example({"v": bytearray(b"x" * 300)})
@example({"v": memoryview(b"x" * 70_000)})
@example({"v": datetime.datetime.max.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-1)))})
def test_the_fast_way_and_the_walk_agree(document):
    try:
        encoded = encode_document(document)
    except NoDocument:
        encoded = NoDocument

    assert encoded == by_the_walk(document)


@given(st.dictionaries(st.text(max_size=4), st.text() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False), max_size=5))  # fmt: skip # noqa: E501
def test_json_reads_back_what_was_written(document):
    encoded = encode_document(document)

    assert json.loads(encoded) == document


def test_the_digest_depends_on_the_value_and_not_on_the_order_of_keys():
    assert document_digest({"a": 1, "b": 2}) == document_digest({"b": 2, "a": 1})
    assert document_digest({"a": 1}) != document_digest({"a": "1"})
    assert len(document_digest({})) == 32


def test_bytes_of_any_length_are_base64():
    for length in (0, 1, 255, 256, 65_535, 65_536):
        value = b"\xcb" * length

        encoded = encode_document({"v": value, "n": 0.5})

        assert json.loads(encoded)["v"] == base64.b64encode(value).decode()


def batch_of(ids: str) -> Batch:
    return Batch(
        [Record(Op.DELETE, object_id, 1) for object_id in ids], [object_id.encode() for object_id in ids]
    )


def ids_of(batch: Batch) -> str:
    assert b"".join(batch.bodies).decode() == "".join(record.object_id for record in batch)
    return b"".join(batch.bodies).decode()


def test_a_batch_is_a_list_of_records_with_their_bodies():
    batch = batch_of("abc")

    assert len(batch) == 3
    assert [record.object_id for record in batch] == ["a", "b", "c"]
    assert batch.bodies == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("ids", "first", "second"), [("abcd", "ab", "cd"), ("abc", "a", "bc"), ("ab", "a", "b")]
)
def test_halves_hold_everything_in_order_and_are_never_empty(ids, first, second):
    halves = batch_of(ids).halves()

    assert [ids_of(half) for half in halves] == [first, second]


def test_some_records_of_a_batch_are_a_batch():
    assert ids_of(batch_of("abcd").only([0, 3])) == "ad"
    assert ids_of(batch_of("abcd").only([])) == ""


def test_results_add_up_except_where_and_how_long():
    result = RunResult(read=1, accepted=2, till=5, seconds=1.0)

    result.add(RunResult(read=10, accepted=20, stale=3, dead=1, till=9, seconds=4.0, dead_records=[
        DeadRecord("a", Op.DELETE, 1, "why")
    ]))  # fmt: skip

    assert (result.read, result.accepted, result.stale, result.dead) == (11, 22, 3, 1)
    assert (result.till, result.seconds) == (5, 1.0)
