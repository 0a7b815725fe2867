"""Pages: a mapping in a database whose writes cost little wherever they fall."""

import ormsgpack
import pytest
import transaction
import ZODB
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError

from livesync.replication import pages
from livesync.replication.pages import Packed, Page, PageTree


@pytest.fixture
def db():
    made = ZODB.DB(DemoStorage())
    with made.transaction() as connection:
        connection.root()["tree"] = PageTree()
    yield made
    made.close()


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(pages, "PAGE_SIZE", 60)


def contents(db):
    with db.transaction() as connection:
        return dict(connection.root()["tree"].items())


KEYS = st.text("abc", max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.binary(max_size=30)),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.sampled_from(("commit", "abort", "savepoint")), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, size=st.sampled_from((20, 60, 4_000)))
def test_a_tree_of_pages_is_a_mapping_in_the_order_of_keys(steps, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_SIZE", size)
        made = ZODB.DB(DemoStorage())
        manager = transaction.TransactionManager()
        connection = made.open(manager)
        tree = connection.root()["tree"] = PageTree()
        manager.commit()
        model, committed = {}, {}
        for what, key, value in steps:
            if what == "set":
                tree[key] = model[key] = value
            elif what == "pop":
                assert tree.pop(key, None) == model.pop(key, None)
            elif what == "commit":
                manager.commit()
                committed = dict(model)
                connection.cacheMinimize()
            elif what == "abort":
                manager.abort()
                model = dict(committed)
            else:
                manager.savepoint()
                connection.cacheMinimize()
            assert key is None or tree.get(key) == model.get(key)
            assert list(tree.items()) == sorted(model.items())
        assert (list(tree), len(tree), bool(tree)) == (sorted(model), len(model), bool(model))
        for after in {"", "b", "abc", *model}:
            assert list(tree.keys(after)) == sorted(key for key in model if key > after)
        manager.abort()
        connection.close()
        made.close()


def test_a_savepoint_takes_back_what_was_set_in_pages(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree["a"] = b"1"
        point = connection.transaction_manager.savepoint()
        tree["a"] = b"2"
        tree["b"] = b"3"
        point.rollback()

    assert contents(db) == {"a": b"1"}


def test_a_page_holds_no_more_than_its_size_and_one_large_value(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for number in range(2_000):
            tree[f"{number * 7919 % 2_000:04d}"] = b"x" * 20
        tree["0500"] = b"y" * 50_000

    with db.transaction() as connection:
        held = list(connection.root()["tree"].pages.values())
        sizes = sorted(len(page.__getstate__()) for page in held)
        assert sizes[-1] > 50_000
        assert sizes[-2] <= pages.PAGE_SIZE
        assert len(held) < 2_000 * 27 / (pages.PAGE_SIZE / 3)


def test_keys_that_come_in_order_fill_their_pages(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for number in range(2_000):
            tree[f"{number:04d}"] = b"x" * 20
        sizes = [len(page.__getstate__()) for page in tree.pages.values()]

    assert min(sizes[:-1]) > 0.9 * pages.PAGE_SIZE


def test_missing_keys_are_missing(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree["a"] = b"1"

        assert "a" in tree
        assert "b" not in tree
        with pytest.raises(KeyError):
            tree["b"]
        with pytest.raises(KeyError):
            tree.pop("b")


def both(db, one, other):
    """Change the tree in two transactions at once, and commit both; the second may conflict."""
    managers = transaction.TransactionManager(), transaction.TransactionManager()
    connections = [db.open(manager) for manager in managers]
    try:
        for connection, change in zip(connections, (one, other), strict=True):
            change(connection.root()["tree"])
        for manager in managers:
            manager.commit()
    finally:
        for manager, connection in zip(managers, connections, strict=True):
            manager.abort()
            connection.close()


def test_two_transactions_that_set_different_keys_of_a_page_are_both_kept(db):
    both(db, lambda tree: tree.__setitem__("a", b"1"), lambda tree: tree.__setitem__("b", b"2"))

    assert contents(db) == {"a": b"1", "b": b"2"}


def test_two_transactions_that_set_the_same_key_conflict(db):
    with pytest.raises(ConflictError):
        both(db, lambda tree: tree.__setitem__("a", b"1"), lambda tree: tree.__setitem__("a", b"2"))

    assert contents(db) == {"a": b"1"}


def test_a_key_set_in_a_page_that_was_split_meanwhile_conflicts(db, small_pages):
    with db.transaction() as connection:
        connection.root()["tree"]["k"] = b"x" * 20
        connection.root()["tree"]["p"] = b"x" * 20

    def split(tree):
        tree["a"] = b"x" * 20
        assert len(tree.pages) == 2

    with pytest.raises(ConflictError):
        both(db, split, lambda tree: tree.__setitem__("q", b""))

    assert sorted(contents(db)) == ["a", "k", "p"]


def test_a_key_set_in_a_page_that_was_emptied_meanwhile_conflicts(db, small_pages):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for key in "kp":
            tree[key] = b"x" * 40
        assert len(tree.pages) == 2

    with pytest.raises(ConflictError):
        both(db, lambda tree: tree.pop("p"), lambda tree: tree.__setitem__("q", b"1"))

    assert sorted(contents(db)) == ["k"]


def test_packed_bytes_are_what_was_packed(db):
    with db.transaction() as connection:
        connection.root()["packed"] = Packed(b"abc")

    with db.transaction() as connection:
        connection.cacheMinimize()
        assert connection.root()["packed"].data == b"abc"


@given(
    st.dictionaries(st.text(), st.binary() | st.text(), max_size=40),
    st.lists(st.tuples(st.text(), st.none() | st.binary() | st.text()), max_size=40),
)
def test_a_page_is_written_with_just_what_it_holds_whatever_came_or_went(rows, changes):
    page = Page(dict(rows))
    expected = dict(rows)
    for key, value in changes:
        page.set(key, value)
        expected.pop(key, None) if value is None else expected.__setitem__(key, value)

    state = page.__getstate__()

    assert ormsgpack.unpackb(state) == expected
    assert page.rows() == expected


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 17, 65_535, 65_536])
def test_a_page_of_any_number_of_keys_grows_by_new_ones(count):
    rows = {f"k{number}": b"v" for number in range(count)}
    page = Page(rows)
    page.set("new", b"w")

    assert ormsgpack.unpackb(page.__getstate__()) == {**rows, "new": b"w"}
