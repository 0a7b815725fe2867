"""Several at once: one register wins, the others conflict and are tried again; nothing is lost."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync.versions import VersionedCollection


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
