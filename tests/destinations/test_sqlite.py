import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations import _sqlite_file
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader, document_text, search
from livesync.errors import DeliveryError, LiveSyncError, OptionError, RetryLater, ServiceRefuses


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id, position=7):
    return Record(Op.DELETE, object_id, position)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def opened():
    uploaders = []

    def make(path, agent_id="a", **options) -> SQLiteUploader:
        uploader = SQLiteUploader(
            SQLiteAgent(agent_id, path=path, **options),
            backoff=Backoff(random=lambda: 0.0),
            sleep=lambda seconds: None,
        )
        uploaders.append(uploader)
        uploader.open(Delivery(agent_id, "track", 1))
        return uploader

    yield make
    for uploader in uploaders:
        uploader.close()


@pytest.fixture
def deliver(opened, path):
    def run(till, records, **options):
        uploader = opened(path, **options)
        uploader.begin_slice(till)
        result = uploader.iterate_over(records)
        uploader.end_slice(till)
        uploader.close()
        return result

    return run


def rows(path, select, *parameters):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(select, parameters).fetchall()


def found(path, query):
    return sorted(hit.object_id for hit in search(path, query))


def assert_tied(path):
    """The full-text index has one row a document, of the same rowid and the same words."""
    documents = rows(path, "SELECT rowid, object_id FROM documents ORDER BY rowid")
    assert rows(path, "SELECT rowid, object_id FROM documents_fts ORDER BY rowid") == documents
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO documents_fts(documents_fts) VALUES ('integrity-check')")


# the tables


def test_the_tables_are_those_that_people_build_on(path, deliver):
    deliver(7, [upsert("a", title="Hello"), delete("b")])

    assert rows(path, "SELECT * FROM documents") == [("a", 7, '{"id":"a","title":"Hello"}')]
    assert rows(path, "SELECT * FROM tombstones") == [("b", 7)]
    assert rows(path, "SELECT * FROM documents_fts") == [("a", "a\nHello")]
    assert rows(path, "SELECT agent_id, position, track_id, generation FROM pointers") == [
        ("a", 7, "track", 1)
    ]
    assert rows(path, "SELECT json_extract(document, '$.title') FROM documents") == [("Hello",)]


def test_text_is_all_strings_of_the_document_and_no_keys():
    document = {
        "key": "a",
        "n": 1,
        "b": b"raw",
        "none": None,
        "list": ["b", {"key": ["c", 2.5]}],
        "dict": {"key": "d"},
    }

    assert sorted(document_text(document).split("\n")) == ["a", "b", "c", "d"]


def test_text_of_a_deep_document_is_found_without_depth():
    document: dict = {"t": "bottom"}
    for _ in range(5000):
        document = {"d": document}

    assert document_text(document) == "bottom"


# the full-text index


def test_the_index_follows_the_documents(path, deliver):
    deliver(7, [upsert("a", title="red apple"), upsert("b", title="green apple"), upsert("c", title="pear")])
    assert found(path, "apple") == ["a", "b"]

    deliver(8, [upsert("a", 8, title="red cherry"), delete("b", 8), upsert("d", 8, title="apple pie")])

    assert found(path, "apple") == ["d"]
    assert found(path, "cherry") == ["a"]
    assert_tied(path)


def test_a_document_that_did_not_change_is_not_indexed_again(path, deliver):
    deliver(7, [upsert("a", title="apple")])
    before = rows(path, "SELECT count(*) FROM documents_fts_data")

    result = deliver(8, [upsert("a", 8, title="apple")])

    assert result.accepted == 1
    assert rows(path, "SELECT position FROM documents") == [(8,)]
    assert rows(path, "SELECT count(*) FROM documents_fts_data") == before
    assert_tied(path)


def test_ids_with_any_characters_are_kept_apart(path, deliver):
    ids = ["a", "a\x00b", "a\x00c", "A", "ä", "a\u0308", "'", "\U0001f600"]
    deliver(7, [upsert(object_id, n=1) for object_id in ids])

    deliver(8, [upsert(object_id, 8, n=2) for object_id in ids] + [delete("a\x00c", 8)])

    assert sorted(object_id for (object_id,) in rows(path, "SELECT object_id FROM documents")) == sorted(
        set(ids) - {"a\x00c"}
    )
    assert_tied(path)


@pytest.fixture
def untied(path, deliver):
    """A file whose rowids are no longer those of the index, as after a dump and a restore."""
    deliver(7, [upsert(object_id, title=f"word{object_id}") for object_id in "abcdef"])
    deliver(8, [delete("a", 8)])
    with closing(sqlite3.connect(path)) as connection, connection:
        kept = connection.execute("SELECT * FROM documents ORDER BY object_id DESC").fetchall()
        connection.execute("DELETE FROM documents")
        connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", kept)
    return path


@pytest.mark.parametrize(
    "records",
    [
        [upsert("b", 9, title="new")],
        [upsert("b", 9, title="wordb")],
        [delete("b", 9)],
        [upsert("new", 9, title="new")],
    ],
)
def test_an_index_whose_rows_moved_is_tied_again(untied, deliver, records):
    deliver(9, records)

    assert_tied(untied)
    assert found(untied, "wordc") == ["c"]


def test_a_sweep_ties_the_index_first(untied, opened, deliver):
    deliver(9, [])
    with closing(sqlite3.connect(untied)) as connection, connection:
        connection.execute("UPDATE documents SET position = 9 WHERE object_id IN ('c', 'd')")

    assert opened(untied).sweep(9) == 3

    assert_tied(untied)
    assert found(untied, "wordb OR wordc") == ["c"]


def test_a_document_without_a_row_in_the_index_gets_one(path, deliver):
    deliver(7, [upsert("a", title="apple"), upsert("b", title="pear")])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM documents_fts WHERE object_id = 'a'")

    deliver(8, [upsert("a", 8, title="apple")])

    assert_tied(path)
    assert found(path, "apple") == ["a"]


def test_vacuum_does_no_harm(path, deliver):
    deliver(7, [upsert(object_id, title=f"word{object_id}") for object_id in "abcdef"])
    deliver(8, [delete("a", 8), delete("c", 8)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")

    deliver(9, [upsert("b", 9, title="new"), delete("d", 9), upsert("g", 9, title="wordg")])

    assert_tied(path)
    assert found(path, "wordb OR wordd") == []


# searching


def test_search_gives_the_best_first_with_a_snippet(path, deliver):
    deliver(
        7, [upsert("a", title="apple"), upsert("b", title="apple apple apple"), upsert("c", title="pear")]
    )

    hits = search(path, "apple")

    assert [hit.object_id for hit in hits] == ["b", "a"]
    assert hits[0].score > hits[1].score
    assert hits[1].snippet == "a [apple]"
    assert len(search(path, "apple", limit=1)) == 1
    assert search(path, "nothing") == []


@pytest.mark.parametrize("query", ['"', "AND", "*", "", "nocolumn:x", "a ("])
def test_what_is_no_query_is_said_in_one_line(path, deliver, query):
    deliver(7, [upsert("a", title="apple")])

    with pytest.raises(ValueError, match="is no search") as caught:
        search(path, query)

    assert "\n" not in str(caught.value)


def test_search_works_beside_an_open_slice(path, opened, deliver):
    deliver(7, [upsert("a", title="apple")])
    uploader = opened(path)
    uploader.begin_slice(8)
    uploader.iterate_over([upsert("b", 8, title="apple")])

    assert found(path, "apple") == ["a"]
    uploader.end_slice(8)
    assert found(path, "apple") == ["a", "b"]


def test_search_makes_no_file(path):
    with pytest.raises(LiveSyncError, match="is not there"):
        search(path, "apple")

    assert not path.exists()


def test_search_of_an_empty_file_says_so(path):
    path.touch()

    with pytest.raises(LiveSyncError, match="is empty"):
        search(path, "apple")


def test_search_of_what_is_no_index_says_so(path):
    path.write_bytes(b"x" * 5000)

    with pytest.raises(ServiceRefuses, match="is not an SQLite database"):
        search(path, "apple")


# files that cannot be used


def test_another_applications_database_is_not_touched(path, opened):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE users(name)")
    before = path.read_bytes()

    with pytest.raises(ServiceRefuses, match="another application's database"):
        opened(path)
    with pytest.raises(ServiceRefuses, match="another application's database"):
        search(path, "apple")

    assert path.read_bytes() == before


def test_a_newer_schema_is_not_touched(path, opened, deliver):
    deliver(7, [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")

    with pytest.raises(ServiceRefuses, match="schema 2, this one has 1"):
        opened(path)


def test_a_file_that_is_no_database_is_not_touched(path, opened):
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    before = path.read_bytes()

    with pytest.raises(ServiceRefuses, match="is not an SQLite database"):
        opened(path)

    assert path.read_bytes() == before


def test_a_directory_or_a_missing_one_stops_the_agent(tmp_path, opened):
    with pytest.raises(ServiceRefuses, match="is a directory"):
        opened(tmp_path)
    with pytest.raises(ServiceRefuses, match=r"the directory .*missing is not there"):
        opened(tmp_path / "missing" / "index.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_rights_stops_the_agent(path, opened, deliver):
    deliver(7, [])
    path.chmod(0o400)

    with pytest.raises(ServiceRefuses, match="cannot be written"):
        deliver(8, [upsert("a", 8)])


def test_damage_stops_the_agent(path, opened, deliver):
    deliver(7, [upsert(f"{n:04}", title=f"word{n} " * 50) for n in range(300)])
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)

    with pytest.raises(ServiceRefuses, match="damaged"):
        deliver(8, [upsert("0001", 8)])


def test_an_empty_file_is_taken(path, deliver):
    path.touch()

    assert deliver(7, [upsert("a")]).accepted == 1


def test_the_path_is_needed():
    with pytest.raises(OptionError, match="option path is needed"):
        SQLiteAgent("a")


def test_open_comes_first(path):
    with pytest.raises(RuntimeError, match=r"open\(\) comes before"):
        SQLiteUploader(SQLiteAgent("a", path=path)).iterate_over([upsert("a")])


# trouble on the way


def test_another_writer_is_waited_for_and_then_later(path, opened, deliver, monkeypatch):
    monkeypatch.setattr(_sqlite_file, "BUSY_TIMEOUT_S", 0.01)
    deliver(7, [])
    uploader = opened(path, max_attempts=2)
    uploader.begin_slice(8)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryLater, match=r"database is locked \(given up after 2 tries\)"):
            uploader.iterate_over([upsert("a", 8)])
        other.execute("ROLLBACK")

    uploader.iterate_over([upsert("a", 8)])
    uploader.end_slice(8)
    assert rows(path, "SELECT object_id FROM documents") == [("a",)]


def fill_the_disk(uploader: SQLiteUploader, *, pages_left: int) -> None:
    pages = uploader._connection.execute("PRAGMA page_count").fetchone()[0]
    uploader._connection.execute(f"PRAGMA max_page_count = {pages + pages_left}")


def test_a_full_disk_is_tried_again_and_nothing_is_lost(path, opened, deliver):
    deliver(7, [upsert("a")])
    uploader = opened(path, max_attempts=2, batch_size=1)
    fill_the_disk(uploader, pages_left=1)
    uploader.begin_slice(8)

    with pytest.raises(DeliveryError, match="full"):
        uploader.iterate_over(upsert(f"{n}", 8, text="x" * 20_000) for n in range(5))
    uploader.abandon_slice()
    uploader.close()

    assert rows(path, "SELECT object_id, position FROM documents") == [("a", 7)]
    assert rows(path, "SELECT position FROM pointers") == [(7,)]


def test_a_slice_that_sqlite_rolled_back_is_not_ended_without_its_first_batches(path, opened):
    uploader = opened(path, batch_size=1)
    uploader.begin_slice(7)
    connection = uploader._connection

    def records():
        yield upsert("a")
        yield upsert("b")
        # what SQLite does by itself when the disk is full at a bad moment
        connection.execute("ROLLBACK")
        fill_the_disk(uploader, pages_left=0)
        yield upsert("c", text="x" * 50_000)

    with pytest.raises(DeliveryError, match="the slice was rolled back, run again"):
        uploader.iterate_over(records())


KILLED = """
import os, signal, sys
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader
path, when = sys.argv[1:]
uploader = SQLiteUploader(SQLiteAgent("a", path=path))
uploader.open(Delivery("a", "track", 1))
uploader.begin_slice(8)
uploader.iterate_over([Record(Op.UPSERT, "b", 8, document={}), Record(Op.DELETE, "a", 8)])
if when == "after":
    uploader.end_slice(8)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "pointer", "ids"), [("before", 7, ["a"]), ("after", 8, ["b"])])
def test_rows_and_pointer_agree_after_a_kill(path, deliver, when, pointer, ids):
    deliver(7, [upsert("a")])

    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), when], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert rows(path, "SELECT position FROM pointers") == [(pointer,)]
    assert [object_id for (object_id,) in rows(path, "SELECT object_id FROM documents")] == ids
    deliver(8, [upsert("b", 8), delete("a", 8)])
    assert found(path, "a") == []
    assert_tied(path)
