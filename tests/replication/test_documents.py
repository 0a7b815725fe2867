"""Documents of no model: what JSON has no form for arrives as it was, and the text says it all the same."""

import datetime
import enum
import json
import math
import uuid
from base64 import b64encode
from contextlib import closing
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mapped import Application

from livesync.errors import BrokenValue
from livesync.replication import (
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
)
from livesync.replication.models.documents import document_of, document_payload
from livesync.values import CODEC

ZONED = datetime.datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Rome"))
ODD = {
    "at": datetime.datetime(2026, 11, 27, 6, 34, 28, 5, datetime.UTC),
    "zoned": ZONED,
    "day": datetime.date(2026, 11, 27),
    "price": Decimal("12.50"),
    "token": uuid.UUID(int=5),
    "raw": b"\x00\xff",
    "nested": [{"when": [datetime.date(1, 1, 1)]}, "2026-11-27", 5],
    "large": 2**70,
    "none": None,
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)

#: What Host.document may hold.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=6)
    | st.datetimes(timezones=st.sampled_from([datetime.UTC, ZoneInfo("Europe/Rome")]))
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def same(one, other):
    """Equal, types included; dicts whatever the order of their keys."""
    if type(one) is dict and type(other) is dict:
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return CODEC.equal(one, other)


@settings(max_examples=50)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_any_document_comes_back_value_for_value(document):
    object_id, found = document_of(document_payload("talk-1", document))

    assert object_id == "talk-1"
    assert same(found, document)
    backwards = dict(reversed(document.items()))
    assert document_payload("talk-1", backwards) == document_payload("talk-1", document)


def test_the_text_says_what_people_and_queries_read_and_plain_documents_are_as_before():
    said = json.loads(document_payload("x", ODD))

    assert said["document"]["price"] == "12.50"
    assert said["document"]["at"].startswith("2026-11-27T06:34:28")
    assert json.loads(document_payload("x", {"title": "A", "n": [1, 1.5, None, True]})) == {
        "id": "x",
        "document": {"title": "A", "n": [1, 1.5, None, True]},
    }


def test_numbers_that_are_none_and_containers_that_json_lacks_arrive():
    document = {"inf": -math.inf, "pair": (1, "a"), "tags": {"a", "b"}}

    assert same(document_of(document_payload("x", document))[1], document)


class _OtherZone(datetime.tzinfo):
    def utcoffset(self, when):
        return datetime.timedelta(hours=2)

    def dst(self, when):
        return None


class _Word(enum.Enum):
    A = "a"


def test_a_zone_of_another_librarys_leaves_the_moment_and_an_unknown_type_its_text():
    at = datetime.datetime(2026, 11, 27, 6, 34, tzinfo=_OtherZone())

    found = document_of(document_payload("x", {"at": at, "word": _Word.A}))[1]

    assert found["at"] == at
    assert found["at"].utcoffset() == datetime.timedelta(hours=2)
    assert found["word"] == "a"


def exact(value):
    return b64encode(CODEC.encode(value)).decode()


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        (5, "is base64"),
        ("?", "no base64"),
        (b64encode(b"\xc1").decode(), "no encoded value"),
        (exact({"a": 1}), "places and values"),
        (exact([[[], 1]]), "places and values"),
        (exact([[["b"], 1]]), "which is not there"),
        (exact([[["a", 0, "c"], 1]]), "which is not there"),
        (exact([[["a", 7], 1]]), "which is not there"),
    ],
)
def test_what_makes_no_sense_beside_a_document_is_refused(beside, text):
    payload = msgspec.json.encode({"id": "x", "document": {"a": [1]}, "exact": beside}).decode()

    with pytest.raises(BrokenValue, match=text):
        document_of(payload)


def test_an_application_gets_what_the_other_one_gave_and_nothing_echoes():
    storable = {key: value for key, value in ODD.items() if key != "zoned"}  # ZODB stores no ZoneInfo
    with closing(Application("office")) as office, closing(Application("boat")) as boat:
        orchestrator = SyncOrchestrator(SyncLock(), [office.provider, boat.provider], 60)
        office.write("a", **storable)
        boat.write("b", at=ZONED.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))))
        sessions = orchestrator.run()

        assert [session.status for session in sessions] == [SyncSessionStatus.FINISHED] * 2
        assert same(office.holds(), boat.holds())
        assert same(boat.holds()["a"], {"id": "a", **storable})
        assert sum(len(session.item_changes) for session in orchestrator.run()) == 0
        boat.write("a", at=datetime.date(2026, 1, 1))
        orchestrator.run()
        assert same(office.holds()["a"], {"id": "a", "at": datetime.date(2026, 1, 1)})
