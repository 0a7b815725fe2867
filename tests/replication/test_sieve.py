"""A sieve: what was put into it is found, and little else."""

import pytest
import transaction
import ZODB
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage

from livesync.replication import sieve
from livesync.replication.sieve import Sieve


def put_in(made, keys, pause=None):
    new = made.missing(keys)
    made.add(new.values(), pause)
    return new.keys()


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(st.sets(st.text(max_size=6), max_size=20), max_size=6))
def test_what_was_put_in_is_found_and_is_new_once(batches):
    made, held = Sieve(), set()
    for batch in batches:
        new = put_in(made, batch)
        assert new <= batch
        assert new.isdisjoint(held)  # what it had is never told to be new
        held |= batch
        assert made.find(held) == held
        assert made.missing(batch) == {}


def test_it_grows_and_takes_few_keys_for_others(monkeypatch):
    monkeypatch.setattr(sieve, "_BITS_A_KEY", 256)  # as if fewer keys filled it
    made = Sieve()
    for begin in range(0, 20_000, 1_000):
        put_in(made, (f"key {number}" for number in range(begin, begin + 1_000)))

    assert [len(layer.segments) for layer in made.layers] == [2, 8, 32]
    assert len(made.find(f"key {number}" for number in range(20_000))) == 20_000
    assert len(made.find(f"other {number}" for number in range(20_000))) < 20


@pytest.mark.parametrize("count", [32_768, pytest.param(100_000, marks=pytest.mark.slow)])
def test_as_full_as_it_is_made_for_it_takes_one_in_a_hundred_for_another(count):
    made = Sieve()
    for begin in range(0, count, 10_000):
        put_in(made, (f"key {number}" for number in range(begin, min(begin + 10_000, count))))

    wrong = made.find(f"other {number}" for number in range(20_000))
    assert 0 < len(wrong) < 300


def test_it_is_kept_in_a_database_and_taken_back_with_its_transaction():
    database = ZODB.DB(DemoStorage())
    with database.transaction() as connection:
        connection.root()["sieve"] = Sieve()
        put_in(connection.root()["sieve"], ["a", "b"])
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    found = connection.root()["sieve"]
    put_in(found, ["c"])
    assert found.find(["a", "b", "c", "d"]) == {"a", "b", "c"}
    manager.abort()
    assert found.find(["a", "b", "c", "d"]) == {"a", "b"}
    connection.close()
    database.close()
