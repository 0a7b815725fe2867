"""A tree in layers: what is new lies apart until it is much."""

import pytest
import transaction
import ZODB
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync.replication import layers, pagetrees
from livesync.replication.layers import LayeredTree
from livesync.replication.pagetrees import PageTree

KEYS = st.text("abc", max_size=4)
VALUES = st.binary(min_size=1, max_size=30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(
            st.sampled_from(("update", "update after looking")),
            st.none(),
            st.dictionaries(KEYS, st.none() | VALUES),
        ),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.sampled_from(("commit", "abort", "savepoint")), st.none(), st.none()),
    ),
    max_size=60,
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pagetrees, "PAGE_SIZE", 100)
    monkeypatch.setattr(layers, "MOST_RECENT", 2)
    monkeypatch.setattr(layers, "SIEVED", 2)


@pytest.fixture
def db(small):
    made = ZODB.DB(DemoStorage())
    with made.transaction() as connection:
        tree = connection.root()["tree"] = LayeredTree()
        tree.update({f"{number:03d}": b"x" * 10 for number in range(0, 100, 2)})
    with made.transaction() as connection:
        assert connection.root()["tree"].sieve is not None
    yield made
    made.close()


def contents(db):
    with db.transaction() as connection:
        return dict(connection.root()["tree"].items())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    size=st.sampled_from((20, 60, 4_000)),
    most=st.sampled_from((0, 1, 3)),
    together=st.sampled_from((1, 100)),
    sieved=st.sampled_from((0, 2, 400)),
)
def test_a_tree_in_layers_is_a_mapping_in_the_order_of_keys(steps, size, most, together, sieved):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pagetrees, "PAGE_SIZE", size)
        patch.setattr(layers, "MOST_RECENT", most)
        patch.setattr(layers, "_TOGETHER", together)
        patch.setattr(layers, "SIEVED", sieved)
        made = ZODB.DB(DemoStorage())
        manager = transaction.TransactionManager()
        connection = made.open(manager)
        tree = connection.root()["tree"] = LayeredTree()
        manager.commit()
        model, committed = {}, {}
        for what, key, value in steps:
            if what == "set":
                tree[key] = model[key] = value
            elif what in ("update", "update after looking"):
                looked = {"absent": value.keys() - model.keys()} if what == "update after looking" else {}
                tree.update(value, manager.savepoint, **looked)
                for each, news in value.items():
                    model.pop(each, None) if news is None else model.__setitem__(each, news)
            elif what == "pop":
                assert tree.pop(key, None) == model.pop(key, None)
                with pytest.raises(KeyError):
                    tree.pop(key)
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
            assert [each in tree for each in wanted] == [each in model for each in wanted]
            assert len(tree.recent.pages) <= max(most, 1) or tree.settled is None
        assert (list(tree), len(tree), bool(tree)) == (sorted(model), len(model), bool(model))
        for after in {"", "b", "abc", *model}:
            assert list(tree.keys(after)) == sorted(key for key in model if key > after)
        manager.abort()
        connection.close()
        made.close()


def test_what_is_missing_is_a_key_error(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        with pytest.raises(KeyError):
            tree["001"]
        assert tree["002"] == b"x" * 10


def test_a_savepoint_takes_back_what_went_down(db):
    before = contents(db)
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        point = connection.transaction_manager.savepoint()
        tree.update(
            {f"{number:03d}": b"y" * 10 for number in range(1, 200, 2)},
            connection.transaction_manager.savepoint,
        )
        assert not list(tree.recent)
        point.rollback()
        assert dict(tree.items()) == before
        tree["001"] = b"z"

    assert contents(db) == before | {"001": b"z"}


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.__setitem__("003", b"theirs"),
        lambda tree: tree.__setitem__("999", b"theirs"),
        lambda tree: tree.pop("000"),
        lambda tree: tree.__setitem__("000", b"theirs"),
    ],
    ids=["the same", "new", "taken out", "newer"],
)
@pytest.mark.parametrize("goes_down_first", [True, False])
def test_who_sets_something_while_all_goes_down_is_told_so(db, change, goes_down_first):
    def go_down(tree):
        tree.update({f"{number:03d}": b"y" * 10 for number in range(1, 200, 2)})
        assert not list(tree.recent)

    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    first, second = (connection.root()["tree"] for connection in connections)
    (go_down if goes_down_first else change)(first)
    (change if goes_down_first else go_down)(second)
    managers[0].commit()
    with pytest.raises(ConflictError):
        managers[1].commit()
    managers[1].abort()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("goes_on", [True, False])
def test_who_sets_much_at_once_and_who_sets_the_same_do_not_both_go_through(db, goes_on):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree.update({f"{number:03d}": b"y" * 10 for number in range(1, 200, 2)})
        assert not list(tree.recent)
    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    connections[0].root()["tree"].update({f"{number:03d}": b"z" * 10 for number in range(200)})
    if goes_on:
        managers[0].savepoint()
        connections[0].root()["tree"]["999"] = b"mine"
    connections[1].root()["tree"]["003"] = b"theirs"
    managers[0].commit()
    with pytest.raises(ConflictError):
        managers[1].commit()
    managers[1].abort()
    for connection in connections:
        connection.close()


def test_two_who_set_different_keys_are_both_heard(db):
    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    for number, connection in enumerate(connections):
        connection.root()["tree"][f"00{2 * number + 1}"] = b"new"
    for manager in managers:
        manager.commit()
    for connection in connections:
        connection.close()

    found = contents(db)
    assert (found["001"], found["003"]) == (b"new", b"new")


def test_what_is_taken_out_is_told_to_who_sets_it_at_the_same_time(db):
    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    connections[0].root()["tree"].pop("000")
    connections[1].root()["tree"]["000"] = b"new"
    managers[0].commit()
    with pytest.raises(ConflictError):
        managers[1].commit()
    managers[1].abort()
    for connection in connections:
        connection.close()


def test_what_was_taken_out_is_in_no_page_any_more(db):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        tree["000"] = b"once more"
        assert tree.pop("000") == b"once more"

    with db.transaction() as connection:
        tree = connection.root()["tree"]
        assert "000" not in tree
        held = [page.rows() for part in (tree.recent, tree.settled) for page in part.pages.values()]
        assert [rows["000"] for rows in held if "000" in rows] == [b""]


def test_what_is_set_again_after_it_was_taken_out_is_there_once(db):
    with db.transaction() as connection:
        connection.root()["tree"].pop("000")
    with db.transaction() as connection:
        connection.root()["tree"].update({"000": b"again"}, absent={"000"})

    with db.transaction() as connection:
        tree = connection.root()["tree"]
        assert tree["000"] == b"again"
        tree.update({f"{number:03d}": b"y" * 10 for number in range(1, 200, 2)})
        assert (tree["000"], list(tree.recent)) == (b"again", [])
    assert len(contents(db)) == 150


def test_much_less_is_written_than_to_a_tree_of_pages_where_keys_come_in_no_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pagetrees, "PAGE_SIZE", 400)
    monkeypatch.setattr(layers, "MOST_RECENT", 40)
    numbers = [number * 7919 % 10_007 for number in range(10_000)]
    sizes, found = [], []
    for made in (PageTree, LayeredTree):
        database = ZODB.DB(FileStorage(str(tmp_path / f"{made.__name__}.fs")))
        with database.transaction() as connection:
            connection.root()["tree"] = made()
        for begin in range(0, 10_000, 200):
            part = {f"{number:05d}": b"x" for number in numbers[begin : begin + 200]}
            with database.transaction() as connection:
                connection.root()["tree"].update(part)
        sizes.append(database.storage.getSize())
        found.append(contents(database))
        database.close()

    assert found[0] == found[1]
    assert sizes[1] < sizes[0] / 2
