"""The first version: of few documents or many, wholly or not at all."""

import random
import tracemalloc

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.errors import UnkeptValue
from livesync.versions import VersionedCollection
from livesync.versions.diffs.threeway import ABSENT
from livesync.versions.store import writing
from livesync.versions.stored import ROOT_KEY
from livesync.versions.working import MappingCopy


class Listed(MappingCopy):
    """Documents that are read one by one."""

    def __init__(self, documents):
        super().__init__({"docs": documents}, "docs")


class Made(dict):
    """Documents that are made when they are read."""

    def __init__(self, count, size):
        super().__init__()
        self.count, self.size = count, size

    def __iter__(self):
        return (f"d{number:04}" for number in range(self.count))

    def get(self, document_id, default=None):
        return made(int(document_id[1:]), self.size)


@pytest.fixture
def connection(tmp_path):
    with_manager = transaction.TransactionManager()
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")), cache_size=100)
    connection = db.open(transaction_manager=with_manager)
    yield connection
    with_manager.abort()
    connection.close()
    db.close()


@pytest.fixture(autouse=True)
def small_breaths(monkeypatch):
    monkeypatch.setattr(writing, "_BREATH_BYTES", 100_000)


def made(number, size=2_000):
    chance = random.Random(number)
    return {"number": number, "body": chance.randbytes(size)}


def test_it_holds_all_documents_wherever_memory_was_freed(connection):
    documents = {f"d{number:04}": made(number, 50 if number % 3 else 4_000) for number in range(900)}
    docs = VersionedCollection(connection, "docs", working=Listed(documents))
    docs.init("first")
    connection.transaction_manager.commit()
    connection.cacheMinimize()

    assert dict(docs.read_all()) == documents
    assert docs.check() == []
    assert docs.get_log()[0].record.counts == (900, 0, 0)


def test_it_is_the_same_version_as_without_freeing(connection, monkeypatch):
    documents = {f"d{number:04}": made(number) for number in range(300)}
    clock = lambda: 1_900_000_000.0  # noqa: E731
    docs = VersionedCollection(connection, "docs", working=Listed(documents), clock=clock)
    docs.init("first", author="ada")
    monkeypatch.setattr(writing, "_BREATH_BYTES", 1 << 40)
    again = VersionedCollection({}, "docs", working=Listed(documents), clock=clock)
    again.init("first", author="ada")
    assert docs.get_log()[0].id == again.get_log()[0].id


@pytest.mark.slow
def test_memory_does_not_grow_with_the_documents(connection):
    docs = VersionedCollection(connection, "docs", working=Listed(Made(2_000, 20_000)))
    tracemalloc.start()
    try:
        docs.init()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000 / 2
    assert docs.read("d1999") == made(1_999, 20_000)


def test_what_cannot_be_kept_takes_all_back_but_what_was_written_before(connection):
    documents = {f"d{number:04}": made(number) for number in range(400)}
    documents["d0399"] = {"cannot": object()}
    docs = VersionedCollection(connection, "docs", working=Listed(documents))
    connection.root()["before"] = 1

    with pytest.raises(UnkeptValue, match="'d0399'"):
        docs.init()

    assert not docs.is_tracked
    connection.transaction_manager.commit()
    assert connection.root()["before"] == 1
    assert ROOT_KEY not in connection.root()
    assert sum(1 for each in connection.db().storage.iterator() for _ in each) == 2  # the root, twice

    del documents["d0399"]
    assert docs.init()
    assert len(dict(docs.read_all())) == 399


def test_without_a_database_nothing_stays_of_it_either():
    root = {}
    docs = VersionedCollection(root, "docs", working=Listed({"a": {"cannot": object()}}))
    with pytest.raises(UnkeptValue):
        docs.init()
    assert not docs.is_tracked


def test_documents_that_are_listed_and_gone_are_passed_over(connection):
    documents = {f"d{number:04}": made(number) if number % 2 else ABSENT for number in range(300)}
    docs = VersionedCollection(connection, "docs", working=Listed(documents))
    docs.init()
    assert sorted(dict(docs.read_all())) == [one for one, value in documents.items() if value is not ABSENT]


def test_how_many_objects_a_version_writes_depends_on_its_changes_alone(tmp_path):
    def written(documents, changes):
        db = ZODB.DB(FileStorage(str(tmp_path / f"{documents}.fs")))
        manager = transaction.TransactionManager()
        connection = db.open(transaction_manager=manager)
        working = Listed({f"d{number:05}": {"n": number} for number in range(documents)})
        docs = VersionedCollection(connection, "docs", working=working)
        docs.init()
        manager.commit()
        numbers = []
        for turn, count in enumerate(changes):
            for number in range(count):
                working.documents[f"d{number * (documents // count):05}"] = {"n": -turn - 1}
            assert docs.register(f"turn {turn}")
            manager.commit()
            numbers.append([sum(1 for _ in each) for each in db.storage.iterator()][-1])
        manager.abort()
        connection.close()
        db.close()
        return numbers

    few, many = written(400, [1, 20, 1, 20]), written(4_000, [1, 20, 1, 20])
    assert few == many
    assert many[1] <= 20 + 8
    assert many[2] <= 1 + 8
