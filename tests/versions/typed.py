"""Strategies for all that a history keeps: any value, documents, and edits that people make."""

import datetime
import struct
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

text = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["", "a", "\ud800", "\U0001f40d"])

zones = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.builds(datetime.timezone, st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23))),
    st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
        st.sampled_from(["EST", "", "UTC"]),
    ),
    st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "UTC"]).map(ZoneInfo),
)


def _with_zone(moment, zone, fold):
    return moment.replace(tzinfo=zone, fold=fold)


#: Every float by its bits: NaNs of any payload, infinities, both zeros.
floats = (
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]) | st.floats()
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.integers(-(2**65), 2**65),
    st.sampled_from([1, True, 1.0, 0, False, 0.0, -0.0, Decimal(1), Decimal("1.0")]),
    floats,
    text,
    st.binary(max_size=12),
    st.builds(_with_zone, st.datetimes(), zones, st.integers(0, 1)),
    st.dates(),
    st.builds(_with_zone, st.times(), zones, st.integers(0, 1)),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
)

#: What may be a key, or a member of a set. NaN is left out: it is in no dict twice, yet never found.
hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(-(2**65), 2**65),
        st.floats(allow_nan=False),
        text,
        st.binary(max_size=5),
        st.dates(),
        st.uuids(),
    ),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(text, inner, max_size=6),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
        st.frozensets(hashable, max_size=3),
    ),
    max_leaves=8,
)

documents = st.dictionaries(st.sampled_from(["a", "b", "title", "tags", "n"]) | text, values, max_size=4)
