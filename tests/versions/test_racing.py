"""Several at once: one register wins, the others conflict and are tried again; nothing is lost."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync.versions import VersionedCollection
from livesync.versions.upkeep.retention import Policy


@pytest.fixture
def new_copy(tmp_path, no_fsync):
    """Opens the same collection anew each time, through a connection of its own."""
    db = ZODB.DB(FileStorage(str(tmp_path / "a.fs")), pool_size=20)
    opened = []

    def make():
        manager = transaction.TransactionManager()
        connection = db.open(transaction_manager=manager)
        opened.append((connection, manager))
        return VersionedCollection(connection, "docs"), manager

    first, manager = make()
    first.documents.update({f"d{number}": {"n": 0} for number in range(40)})
    first.init()
    manager.commit()
    yield make
    for connection, manager in opened:
        manager.abort()
        connection.close()
    db.close()


@pytest.mark.parametrize("document_id", ["d1", "d30"])
def test_of_two_registers_at_once_one_wins_and_the_other_is_tried_again(new_copy, document_id):
    (one, first), (other, second) = new_copy(), new_copy()
    first.begin()
    second.begin()
    one.documents["d1"] = {"n": "one"}
    other.documents[document_id] = {"n": "other"}
    assert one.register("one")
    assert other.register("other")
    first.commit()
    with pytest.raises(ConflictError):
        second.commit()
    second.abort()

    assert [entry.message for entry in other.get_log()] == ["one", "Initial collection."]
    other.documents[document_id] = {"n": "other"}
    assert other.register("other")
    second.commit()
    first.begin()
    assert [entry.message for entry in one.get_log()] == ["other", "one", "Initial collection."]
    assert one.changed((1, "main"), (2, "main")) == [document_id]
    assert (one.check(), one.has_changes) == ([], False)


def test_an_edit_that_is_committed_meanwhile_is_registered_now_or_next(new_copy):
    """The edit is not seen by the register that began before it; either that one fails, or it waits."""
    (one, first), (other, second) = new_copy(), new_copy()
    first.begin()
    second.begin()
    one.documents["d1"] = {"n": 1}
    assert one.register("one")
    other.documents["d2"] = {"n": 2}
    second.commit()
    try:
        first.commit()
    except ConflictError:
        first.abort()
        one.documents["d1"] = {"n": 1}
        assert one.register("one")
        first.commit()
    first.begin()
    one.register("two")
    first.commit()
    assert (one.read("d1"), one.read("d2"), one.has_changes) == ({"n": 1}, {"n": 2}, False)


def test_threads_that_register_all_the_time_lose_nothing(new_copy):
    each, threads = 6, 4
    copies = [new_copy() for _ in range(threads)]

    def work(number):
        docs, manager = copies[number]
        for turn in range(each):
            for attempt in manager.attempts(200):
                with attempt:
                    docs.documents[f"d{number}"] = {"n": turn + 1}
                    docs.documents[f"new{number}-{turn}"] = {"n": turn}
                    assert docs.register(f"{number}: {turn}", author=str(number))

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, range(threads))) == [None] * threads
    docs, manager = new_copy()
    manager.begin()
    messages = {entry.message for entry in docs.get_log()}
    assert messages == {
        "Initial collection.",
        *(f"{number}: {turn}" for number in range(threads) for turn in range(each)),
    }
    assert [docs.read(f"d{number}") for number in range(threads)] == [{"n": each}] * threads
    assert len(docs.history("d0")) == each + 1
    assert (docs.check(), docs.has_changes) == ([], False)


@pytest.fixture
def grown(new_copy):
    docs, manager = new_copy()
    for n in range(1, 9):
        docs.documents["d1"] = {"n": n}
        docs.register(f"v{n}")
    docs.create_branch("side")
    docs.documents["d2"] = {"n": "side"}
    docs.register("side")
    docs.checkout(branch="main")
    docs.documents["d3"] = {"n": "main"}
    docs.register("main")
    manager.commit()
    return docs


def test_a_version_that_gets_a_tag_meanwhile_is_not_pruned(new_copy, grown):
    (one, first), (other, second) = new_copy(), new_copy()
    first.begin()
    second.begin()
    assert one.prune(Policy(newest=1)) == 7
    other.tag("here", 4)
    second.commit()
    with pytest.raises(ConflictError):
        first.commit()
    first.abort()

    assert one.prune(Policy(newest=1)) == 6
    first.commit()
    assert one.read("d1", 4) == {"n": 4}
    assert one.check() == []


def test_a_version_that_is_led_to_meanwhile_is_no_garbage(new_copy, grown):
    (one, first), (other, second) = new_copy(), new_copy()
    first.begin()
    tip = one.names.branch("side").tip
    one.names.drop_branch("side")
    first.commit()
    second.begin()
    first.begin()
    assert one.collect_garbage() == 1
    other.tag_key("found-again", tip)
    second.commit()
    with pytest.raises(ConflictError):
        first.commit()
    first.abort()

    assert one.collect_garbage() == 0
    assert one.contents.value("d2", tip) == {"n": "side"}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_version_that_is_made_while_others_are_pruned_reads_as_it_was_made(new_copy, grown, is_first):
    (one, first), (other, second) = new_copy(), new_copy()
    first.begin()
    second.begin()

    def prune():
        assert one.prune(Policy(newest=1)) >= 7

    def register():
        other.documents["d1"] = {"n": "new"}
        assert other.register("new")

    prune()
    register()
    winner, loser, again = (first, second, register) if is_first else (second, first, prune)
    winner.commit()
    try:
        loser.commit()
    except ConflictError:
        loser.abort()
        again()
        loser.commit()
    for manager in (first, second):
        manager.begin()
    assert one.read("d1") == other.read("d1") == {"n": "new"}
    assert one.read("d1", 8) == {"n": 8}
    assert (one.check(), one.has_changes) == ([], False)


def test_packing_gives_back_what_was_pruned(tmp_path, no_fsync):
    path = tmp_path / "b.fs"
    db = ZODB.DB(FileStorage(str(path)))
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    docs = VersionedCollection(connection, "docs")
    docs.documents.update({f"d{number}": {"n": 0} for number in range(20)})
    docs.init()
    for turn in range(60):
        for number in range(20):
            text = hashlib.sha256(b"%d %d" % (turn, number)).hexdigest()
            docs.documents[f"d{number}"] = {"n": turn, "text": text}
        docs.register(f"v{turn}")
        manager.commit()
    db.pack(time.time() + 1)
    whole, objects = path.stat().st_size, db.objectCount()

    while docs.prune(Policy(newest=3)):
        manager.commit()
    db.pack(time.time() + 1)

    assert path.stat().st_size < whole / 3
    assert db.objectCount() < objects
    assert docs.check() == []
    connection.close()
    db.close()
