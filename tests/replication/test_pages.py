"""Pages: a mapping in a database whose writes cost little wherever they fall."""

import ormsgpack
import pytest
import transaction
import ZODB
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError

from livesync.replication import pagetrees
from livesync.replication import ranges as ranges_module
from livesync.replication.pages import Packed, Page
from livesync.replication.pagetrees import PageTree
from livesync.replication.ranges import Ranges


@pytest.fixture
def db():
    made = ZODB.DB(DemoStorage())
    with made.transaction() as connection:
        connection.root()["tree"] = PageTree()
    yield made
    made.close()


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(pagetrees, "PAGE_SIZE", 60)


def contents(db):
    with db.transaction() as connection:
        return dict(connection.root()["tree"].items())


KEYS = st.text("abc", max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("set", "append")), KEYS, st.binary(max_size=30)),
        st.tuples(
            st.sampled_from(("update", "update after looking")),
            st.none(),
            st.dictionaries(KEYS, st.none() | st.binary(max_size=30)),
        ),
        st.tuples(st.just("extend"), st.none(), st.dictionaries(KEYS, st.binary(max_size=30))),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.sampled_from(("commit", "abort", "savepoint")), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, size=st.sampled_from((20, 60, 4_000)))
def test_a_tree_of_pages_is_a_mapping_in_the_order_of_keys(steps, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pagetrees, "PAGE_SIZE", size)
        made = ZODB.DB(DemoStorage())
        manager = transaction.TransactionManager()
        connection = made.open(manager)
        tree = connection.root()["tree"] = PageTree()
        manager.commit()
        model, committed = {}, {}
        for what, key, value in steps:
            if what == "set":
                tree[key] = model[key] = value
            elif what == "append":
                tree.append(key, value)
                model[key] = value
            elif what in ("update", "update after looking", "extend"):
                looked = {"absent": value.keys() - model.keys()} if what == "update after looking" else {}
                getattr(tree, what.split()[0])(value, **looked)
                for each, news in value.items():
                    model.pop(each, None) if news is None else model.__setitem__(each, news)
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
            low = key or ""
            assert list(tree.items(low)) == sorted(pair for pair in model.items() if pair[0] >= low)
            wanted = ["a", "ab", "b", "ba", "c", low]
            assert tree.pick(wanted) == {each: model[each] for each in wanted if each in model}
            assert all(page.rows() for least, page in tree.pages.items() if least)
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
        assert sizes[-2] <= pagetrees.PAGE_SIZE
        assert len(held) < 2_000 * 27 / (pagetrees.PAGE_SIZE / 3)


def test_keys_that_come_in_order_fill_their_pages(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for number in range(2_000):
            tree[f"{number:04d}"] = b"x" * 20
        sizes = [len(page.__getstate__()) for page in tree.pages.values()]

    assert min(sizes[:-1]) > 0.9 * pagetrees.PAGE_SIZE


def test_ranges_that_grow_at_their_ends_fill_their_pages(db):
    with db.transaction() as connection:
        ranges = connection.root()["ranges"] = Ranges()
        for number in range(2_000):
            ranges[(f"F{number % 5}", number, "i")] = b"x" * 20
        sizes = [len(page.__getstate__()) for page in ranges.rows.pages.values()]

    full = [size for size in sizes if size > 0.9 * pagetrees.PAGE_SIZE]
    assert len(full) >= len(sizes) - 5 - 1


def test_ranges_that_grow_by_many_at_once_fill_their_pages(db):
    with db.transaction() as connection:
        ranges = connection.root()["ranges"] = Ranges()
        for begin in range(0, 2_000, 250):
            ranges.extend({(f"F{n % 5}", n, "i"): b"x" * 20 for n in range(begin, begin + 250)})
        sizes = [len(page.__getstate__()) for page in ranges.rows.pages.values()]
        assert len(list(ranges.items(("", 0, ""), None))) == 2_000

    assert max(sizes) <= pagetrees.PAGE_SIZE
    assert sum(sizes) / len(sizes) > 0.65 * pagetrees.PAGE_SIZE


def test_many_keys_that_come_at_once_change_each_page_once(db, monkeypatch):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree.update({f"{number:05d}": b"x" * 20 for number in range(3_000)})
        count = len(tree.pages)
        held = {least: page.packed for least, page in tree.pages.items()}
        assert min(map(len, list(held.values())[:-1])) > 0.9 * pagetrees.PAGE_SIZE
        unpacked = []
        monkeypatch.setattr(Page, "rows", lambda page, rows=Page.rows: unpacked.append(page) or rows(page))
        assert len(tree.pick(f"{number:05d}" for number in range(0, 3_000, 5))) == 600
        assert len(unpacked) == count


RANGE_KEYS = st.tuples(st.sampled_from(("", "F1", "F1:U1", "F10", "F2")), st.integers(1, 2**62), KEYS)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(RANGE_KEYS, st.none() | st.just(b"\0") | st.binary(max_size=30)), max_size=40),
    many=st.dictionaries(RANGE_KEYS, st.just(b"\0") | st.binary(max_size=30)),
    low=RANGE_KEYS,
    end=st.sampled_from((None, "\0", "F1", "F1\0", "F1;", "F10", "F3")),
)
def test_ranges_are_in_the_order_of_partitions_stamps_and_ids(steps, many, low, end):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pagetrees, "PAGE_SIZE", 100)
        patch.setattr(ranges_module, "LARGE", 20)
        ranges, model = Ranges(), {}
        for key, value in steps:
            if value is None:
                assert ranges.pop(key, None) == model.pop(key, None)
            else:
                ranges[key] = model[key] = value
            assert ranges.get(key) == model.get(key)
        ranges.extend(many)
        model.update(many)
        expected = sorted(pair for pair in model.items() if end is None or pair[0][0] < end)
        assert list(ranges.items(("", 0, ""), end)) == expected
        assert list(ranges.items(low, end)) == [pair for pair in expected if pair[0] >= low]
        assert ranges.pick([*many, *(key for key, _ in steps)]) == model
        assert len(ranges.large) == sum(len(value) > 20 or value == b"\0" for value in model.values())
        with pytest.raises(KeyError):
            ranges[("F3", 1, "")]


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


@pytest.mark.parametrize("is_split_first", [True, False])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_key_that_belongs_to_another_page_since_conflicts_though_none_has_left(
    db, small_pages, is_split_first, goes_on
):
    with db.transaction() as connection:
        connection.root()["tree"].update(dict.fromkeys("ab", b"x" * 20))

    def split(tree):
        tree["p"] = b"x" * 20
        assert list(tree.pages) == ["", "p"]
        if goes_on:
            savepoint(tree)()
            tree["c"] = b""

    changes = [split, lambda tree: tree.__setitem__("q", b"1")]
    with pytest.raises(ConflictError):
        both(db, *(changes if is_split_first else reversed(changes)))

    found = contents(db)
    assert sorted(found) == (["a", "b", *("c" * goes_on), "p"] if is_split_first else ["a", "b", "q"])
    with db.transaction() as connection:
        assert all(connection.root()["tree"].get(key) == value for key, value in found.items())


def test_a_key_set_in_a_page_that_was_emptied_meanwhile_conflicts(db, small_pages):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for key in "kp":
            tree[key] = b"x" * 40
        assert len(tree.pages) == 2

    with pytest.raises(ConflictError):
        both(db, lambda tree: tree.pop("p"), lambda tree: tree.__setitem__("q", b"1"))

    assert sorted(contents(db)) == ["k"]


def savepoint(tree):
    return lambda: tree._p_jar.transaction_manager.savepoint(optimistic=True)


def test_what_is_written_early_is_written_with_the_rest_or_not_at_all(db, small_pages, monkeypatch):
    monkeypatch.setattr(pagetrees, "PAUSE_PAGES", 2)
    rows = {f"{number:03}": b"x" * 10 for number in range(60)}
    with db.transaction() as connection:
        connection.root()["tree"].update(rows)
    changed = {key: b"y" if int(key) % 3 else None for key in rows}

    def change(fault):
        with db.transaction() as connection:
            tree = connection.root()["tree"]
            tree.update(changed, savepoint(tree))
            assert dict(tree.items()) == {key: value for key, value in changed.items() if value}
            assert 1 / fault

    with pytest.raises(ZeroDivisionError):
        change(0)
    assert contents(db) == rows

    change(1)
    assert contents(db) == {key: value for key, value in changed.items() if value}


def test_what_is_written_early_and_what_another_transaction_set_are_both_kept(db, small_pages, monkeypatch):
    monkeypatch.setattr(pagetrees, "PAUSE_PAGES", 1)
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree.update({f"{number:02}": b"x" * 10 for number in range(40)})
        free = [least for least, page in tree.pages.items() if page.size < 40]
    assert free

    both(
        db,
        lambda tree: tree.update({f"{least}a": b"1" for least in free}),
        lambda tree: tree.update({f"{least}b": b"2" for least in free}, savepoint(tree)),
    )

    found = contents(db)
    assert [found[f"{least}a"] for least in free] == [b"1"] * len(free)
    assert [found[f"{least}b"] for least in free] == [b"2"] * len(free)


def test_few_pages_are_in_memory_at_once_however_many_are_read_and_changed(small_pages, monkeypatch):
    monkeypatch.setattr(pagetrees, "PAUSE_PAGES", 10)
    database = ZODB.DB(DemoStorage(), cache_size=20)
    rows = {f"{number:04}": b"x" * 10 for number in range(2_000)}
    with database.transaction() as connection:
        connection.root()["tree"] = PageTree()
        connection.root()["tree"].update(rows)
    held = []

    def noted(page, *arguments, method):
        held.append(
            sum(
                found._p_changed is not None
                for _, found in page._p_jar._cache.lru_items()
                if type(found) is Page
            )
        )
        return method(page, *arguments)

    for name in ("pick", "set_many"):
        method = getattr(Page, name)
        monkeypatch.setattr(Page, name, lambda *arguments, method=method: noted(*arguments, method=method))
    with database.transaction() as connection:
        connection.cacheMinimize()
        tree = connection.root()["tree"]
        assert tree.pick(rows) == rows
        tree.update(dict.fromkeys(rows, b"y"), savepoint(tree))

    assert len(held) > 500
    assert max(held) <= 40
    assert contents(database) == dict.fromkeys(rows, b"y")
    database.close()


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


#: Few keys, one the end of another; values that hold what keys and their values are packed as.
_ALIKE = [
    ormsgpack.packb("a"),
    ormsgpack.packb("a") + ormsgpack.packb(b"x"),
    b"x",
    b"",
    "a",
    "aa",
    "",
    b"y" * 40,
]


@given(
    st.dictionaries(st.sampled_from(("a", "aa", "b", "ab", "c", "d", "e")), st.sampled_from(_ALIKE)),
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(("a", "aa", "b", "ab", "c", "d", "e")), unique=True),
            st.dictionaries(
                st.sampled_from(("a", "aa", "b", "ab", "c")), st.none() | st.sampled_from(_ALIKE)
            ),
            st.booleans(),
        ),
        max_size=6,
    ),
)
def test_a_page_is_written_with_just_what_it_holds_whatever_was_looked_up_before(rows, steps):
    page, expected = Page(dict(rows)), dict(rows)
    for keys, changes, is_written in steps:
        assert page.pick(keys) == {key: expected[key] for key in keys if key in expected}
        page.set_many(changes)
        expected.update(changes)
        expected = {key: value for key, value in expected.items() if value is not None}
        assert page.rows() == expected
        assert page.size >= len(ormsgpack.packb(expected)) - 5 * len(expected)
        if is_written:
            assert ormsgpack.unpackb(page.__getstate__()) == expected
            assert page.size == len(page.__getstate__())


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 17, 65_535, 65_536])
def test_a_page_of_any_number_of_keys_grows_by_new_ones(count):
    rows = {f"k{number}": b"v" for number in range(count)}
    page = Page(rows)
    page.set("new", b"w")

    assert ormsgpack.unpackb(page.__getstate__()) == {**rows, "new": b"w"}


def test_keys_that_are_known_to_be_new_are_written_without_a_look_at_the_others(db, monkeypatch):
    with db.transaction() as connection:
        connection.root()["tree"].update({f"{number:03}": b"x" for number in range(100)})
    unpacked, rows = [], Page.rows
    monkeypatch.setattr(Page, "rows", lambda page: unpacked.append(page) or rows(page))
    new = {f"{number:03}+": b"y" for number in range(0, 100, 5)}

    with db.transaction() as connection:
        connection.cacheMinimize()
        connection.root()["tree"].update(new, absent=new.keys())
    assert unpacked == []

    with db.transaction() as connection:
        (page,) = connection.root()["tree"].pages.values()
        assert ormsgpack.unpackb(page.packed) == {f"{number:03}": b"x" for number in range(100)} | new


@pytest.mark.parametrize("later", [{"b": b"2"}, {"a": b"2"}, {"new": b"2"}, {"new": None}, {"a": None}])
def test_a_page_that_takes_new_keys_and_others_is_written_with_each_key_once(later):
    page = Page({"a": b"1", "b": b"1"})
    page.set_many({"new": b"1", "more": b"1"}, are_new=True)
    page.set_many(later)

    expected = {"a": b"1", "b": b"1", "new": b"1", "more": b"1"} | later
    written = page.__getstate__()
    assert ormsgpack.unpackb(written) == {key: value for key, value in expected.items() if value is not None}
    assert written[0] & 0x0F == len(ormsgpack.unpackb(written))
