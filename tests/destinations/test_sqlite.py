import datetime
import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_disk import run_on_small_disk

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import AttachedFile, Op, Record, document_digest, encode_document
from livesync.delivery.uploader import Delivery, StoredPointer
from livesync.destinations import _sqlite_file, _sqlite_reading
from livesync.destinations import sqlite as sqlite_module
from livesync.destinations._text import document_text, is_in_step
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader, search
from livesync.errors import (
    DeliveryError,
    LeaseLost,
    LiveSyncError,
    OptionError,
    RetryLater,
    ServiceRefuses,
)
from livesync.host import content_digest


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


def test_text_comes_in_the_order_of_keys():
    assert document_text({"b": "2", "a": "1", "c": {"z": "5", "y": "4"}, "d": "3"}) == "1\n2\n3\n4\n5"


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


def test_tables_that_do_not_fit_on_the_disk_are_made_when_they_do(path, opened, deliver, monkeypatch):
    deliver(7, [upsert("a")])
    open_for_writing = _sqlite_file.open_for_writing

    def opened_on_a_full_disk(path):
        connection = open_for_writing(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_module, "open_for_writing", opened_on_a_full_disk)
        with pytest.raises(RetryLater, match="full"):
            opened(path, files=True)
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'files'") == []

    deliver(8, [with_files("a", 8, attached("x", b"one"))], files=True)
    assert contents(path) == {b"one"}


def test_a_slice_that_cannot_begin_leaves_no_transaction_behind(untied, opened, deliver):
    with closing(sqlite3.connect(untied)) as connection, connection:
        connection.execute("DELETE FROM documents WHERE object_id = 'b'")  # the last row: tied at once
    uploader = opened(untied, max_attempts=1)
    fill_the_disk(uploader, pages_left=0)
    uploader._connection.execute("PRAGMA temp_store = FILE")
    uploader._connection.execute("PRAGMA temp.max_page_count = 1")
    uploader.begin_slice(9)

    with pytest.raises(RetryLater, match="full"):
        uploader.iterate_over([upsert("g", 9, title="wordg")])

    assert not uploader._connection.in_transaction
    uploader.close()
    deliver(9, [upsert("g", 9, title="wordg")])
    assert_tied(untied)


FULL = """
import sqlite3
from contextlib import closing
from io import BytesIO
from livesync.delivery.record import AttachedFile, Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader
from livesync.errors import DeliveryError, RetryLater
from livesync.host import content_digest

path = os.path.join(disk, "index.db")

def records(till):
    for number in range(12):
        content = bytes([number]) * 9_000
        files = (AttachedFile("f", "x/y", len(content), content_digest(content), BytesIO(content)),)
        yield Record(Op.UPSERT, str(number), till, document={"n": till, "text": "word " * 2000}, files=files)

def deliver(till, sleep, early=False):
    uploader = SQLiteUploader(SQLiteAgent("a", path=path, files=True, batch_size=4), sleep=sleep)
    try:
        uploader.open(Delivery("a", "track", 1))
        if early:  # the disk is written to in the middle of a batch, and not at the end of the slice
            uploader._connection.execute("PRAGMA cache_size = 4")
        uploader.begin_slice(till)
        uploader.iterate_over(records(till))
        uploader.end_slice(till)
    finally:
        uploader.close()

def state():
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("INSERT INTO documents_fts(documents_fts) VALUES ('integrity-check')")
        documents = connection.execute("SELECT object_id, position FROM documents").fetchall()
        contents = connection.execute("SELECT digest, content FROM contents").fetchall()
        assert all(content_digest(content) == digest for digest, content in contents)
        pointers = connection.execute("SELECT position FROM pointers").fetchall()
        return sorted(documents), len(contents), pointers

deliver(1, None)
till, failed, went_on = 1, 0, 0
for number, room in enumerate(sorted((*range(0, 280, 20), *range(2, 280, 20)))):
    before = state()
    early = number % 2 == 1
    fill(room)
    try:
        deliver(till + 1, lambda seconds: None, early)
    except DeliveryError as exc:
        failed += 1
        assert path in str(exc), exc
        assert "full" in str(exc) or "disk I/O error" in str(exc), exc
        empty()
        assert state() == before
        # there is room again: in the middle of a run, or before the next one
        fill(room)
        try:
            deliver(till + 1, lambda seconds: empty(), early)
            went_on += 1
        except DeliveryError:
            empty()
            assert state() == before
            deliver(till + 1, None)
    empty()
    till += 1
    documents, contents, pointers = state()
    assert documents == sorted((str(number), till) for number in range(12)), documents
    assert (contents, pointers) == (12, [(till,)])
print(failed, went_on)
assert failed > 5 and went_on
"""


def test_a_disk_that_is_really_full_loses_nothing_and_works_again_when_there_is_room(tmp_path):
    run_on_small_disk(tmp_path, 1600, FULL)


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


# reading back


@pytest.fixture
def read(opened, path):
    def run(**kwargs):
        return list(opened(path).rows(**kwargs))

    return run


def test_rows_are_read_in_pages(path, deliver, read, monkeypatch):
    monkeypatch.setattr(_sqlite_reading, "PAGE", 3)
    monkeypatch.setattr(_sqlite_reading, "LOOK_UP", 2)
    ids = [f"{number:02}" for number in range(10)]
    deliver(7, [upsert(object_id) for object_id in ids])

    assert [row.object_id for row in read()] == ids
    assert [row.object_id for row in read(after="03", quick=True)] == ids[4:]


def test_rows_read_no_transaction_of_their_own(path, deliver, opened, monkeypatch):
    monkeypatch.setattr(_sqlite_reading, "PAGE", 2)
    deliver(7, [upsert(object_id) for object_id in "abcdef"])
    rows = opened(path).rows()
    assert next(rows).object_id == "a"

    deliver(8, [upsert("e", 8, n=2), delete("d", 8)])

    assert [(row.object_id, row.position) for row in rows] == [("b", 7), ("c", 7), ("e", 8), ("f", 7)]


@pytest.fixture
def altered(path):
    def run(*statement):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(*statement)

    return run


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM documents_fts WHERE object_id = 'b'",
        "UPDATE documents_fts SET text = 'b\npear' WHERE object_id = 'b'",
        "UPDATE documents_fts SET text = 'b' WHERE object_id = 'b'",
        "UPDATE documents_fts SET text = x'ff' WHERE object_id = 'b'",
        "UPDATE documents_fts SET object_id = 'x' WHERE object_id = 'b'",
        "UPDATE documents SET document = '{\"id\":\"b\"' WHERE object_id = 'b'",
        "UPDATE documents SET document = x'ff00' WHERE object_id = 'b'",
    ],
)
def test_what_a_search_would_not_find_shows_and_is_mended_by_sending_it_again(
    path, deliver, read, altered, statement
):
    records = [upsert(object_id, 7, title="apple") for object_id in "abc"]
    deliver(7, records)
    sound = read()
    assert [row.digest for row in sound] == [document_digest(record.document) for record in records]

    altered(statement)
    assert [(row.object_id, row.digest) for row in read()] == [
        ("a", sound[0].digest), ("b", ""), ("c", sound[2].digest)
    ]  # fmt: skip
    assert [row.digest for row in read(quick=True)] == [None, None, None]

    deliver(8, [upsert("b", 8, title="apple")])
    assert [row.digest for row in read()] == [row.digest for row in sound]
    assert found(path, "apple") == ["a", "b", "c"]
    assert_tied(path)


def test_an_index_whose_rows_moved_shows(untied, read):
    assert {row.digest for row in read()} == {""}


def test_an_altered_position_is_none(path, deliver, read, altered):
    deliver(7, [upsert("a"), upsert("b")])
    altered("UPDATE documents SET position = 'x' WHERE object_id = 'a'")

    assert [row.position for row in read()] == [None, 7]
    assert [row.position for row in read(quick=True)] == [None, 7]


def test_an_id_that_is_no_text_is_said_in_one_line(path, deliver, read, altered):
    deliver(7, [upsert("a")])
    altered("UPDATE documents SET object_id = CAST(x'ff61' AS TEXT)")

    with pytest.raises(ServiceRefuses, match="damaged"):
        read()


def test_text_of_earlier_versions_in_the_order_of_the_host_is_in_step(path, deliver, read, altered):
    document = {"title": "apple", "id": "a", "on": datetime.date(2017, 6, 1), "b": b"xyz"}
    deliver(7, [Record(Op.UPSERT, "a", 7, document=document)])
    altered("UPDATE documents_fts SET text = 'apple\na'")

    assert read()[0].digest == document_digest(document)


values = st.recursive(
    st.text()
    | st.sampled_from(["", "a\nb", "2017-06-01", "AAAA", "1.5"])
    | st.integers(-(2**60), 2**60)
    | st.none()
    | st.booleans()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.just(datetime.timezone.utc))
    | st.decimals()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=5))
def test_the_text_of_every_document_is_in_step_with_it(document):
    assert is_in_step(encode_document(document), document_text(document).encode())


@given(st.lists(st.sampled_from(["one", "two", "three"])), st.lists(st.sampled_from(["one", "two", "three"])))
def test_other_words_are_not_in_step(words, others):
    in_step = is_in_step(encode_document({"words": words}), "\n".join(others).encode())

    assert in_step == (sorted(words) == sorted(others))


def test_decimals_and_ids_are_text_in_json_only():
    document = {
        "a": [Decimal("1E+5"), Decimal("-NaN"), Decimal("sNaN12"), Decimal("-Infinity")],
        "b": UUID(int=7),
        "c": datetime.datetime(2017, 6, 1, 12, 0, 0, 7, datetime.timezone.utc),
    }

    assert is_in_step(encode_document(document), b"")
    assert not is_in_step(encode_document({**document, "d": "word!"}), b"")


# whether it can be reached


def test_a_probe_names_the_version_and_counts(path, opened, deliver):
    deliver(7, [upsert("a"), upsert("b")])

    assert opened(path).probe() == f"SQLite {sqlite3.sqlite_version}, 2 documents in {path}"


def test_a_probe_of_a_file_without_rights_says_so(path, opened, monkeypatch):
    uploader = opened(path)
    # as it is for anybody but root
    monkeypatch.setattr(_sqlite_file.os, "access", lambda place, mode: os.path.isdir(place))

    with pytest.raises(ServiceRefuses, match=r"index\.sqlite cannot be written: mend the rights"):
        uploader.probe()


def test_a_probe_waits_for_no_slice(path, opened):
    slice_of_another = opened(path)
    slice_of_another.begin_slice(7)
    slice_of_another.iterate_over([upsert("a")])

    assert "0 documents" in opened(path).probe()


# the pointer's guard


def test_a_lost_lease_rolls_everything_back_and_stays_lost_until_the_pointer_is_read(path, opened, altered):
    uploader = opened(path)
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("a")])
    uploader.end_slice(7)
    altered("UPDATE pointers SET generation = 2")

    for _ in range(2):
        uploader.begin_slice(8)
        uploader.iterate_over([upsert("b", 8)])
        with pytest.raises(LeaseLost, match="another runner of agent 'a' has written to"):
            uploader.end_slice(8)
        uploader.abandon_slice()
    assert rows(path, "SELECT object_id FROM documents") == [("a",)]

    assert uploader.read_pointer() == StoredPointer(7, "track", 2)
    uploader.begin_slice(8)
    uploader.end_slice(8)
    assert rows(path, "SELECT position, generation FROM pointers") == [(8, 1)]


def test_slices_that_leave_the_pointer_alone_mind_no_other_runner(path, opened, altered):
    uploader = opened(path)
    uploader.read_pointer()
    altered("INSERT INTO pointers VALUES ('a', 9, 'track', 1)")

    uploader.begin_slice(7)
    uploader.iterate_over([upsert("a")])
    uploader.end_slice(None)

    assert rows(path, "SELECT object_id FROM documents") == [("a",)]


# files of the objects


def attached(name, content, sent=True, **facts):
    made = {"size": len(content), "digest": content_digest(content), **facts}
    return AttachedFile(
        name, "text/plain", made["size"], made["digest"], io.BytesIO(content) if sent else None
    )


def with_files(object_id, position, *files):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id}, files=files)


def contents(path):
    return {content for (content,) in rows(path, "SELECT content FROM contents")}


def test_the_tables_of_files_are_made_when_they_are_needed(path, deliver):
    deliver(7, [upsert("a")])
    before = rows(path, "PRAGMA user_version")
    assert rows(path, "SELECT name FROM sqlite_master WHERE name IN ('files', 'contents')") == []

    deliver(8, [with_files("a", 8, attached("x", b"one"))], files=True)

    assert rows(path, "SELECT * FROM files") == [("a", "x", "text/plain", 3, content_digest(b"one"), 8)]
    assert rows(path, "SELECT * FROM contents") == [(content_digest(b"one"), b"one")]
    assert rows(path, "PRAGMA user_version") == before  # so that older code goes on with the file


def test_a_content_is_kept_once_and_as_long_as_a_file_names_it(path, deliver):
    deliver(7, [with_files(i, 7, attached("x", b"one")) for i in "ab"], files=True)
    assert rows(path, "SELECT count(*) FROM contents") == [(1,)]

    deliver(8, [delete("a", 8)], files=True)
    assert contents(path) == {b"one"}
    deliver(9, [with_files("b", 9, attached("x", b"two"))], files=True)
    assert contents(path) == {b"two"}


def test_a_content_that_a_later_record_of_the_slice_relies_on_stays(path, opened, deliver):
    deliver(7, [with_files("a", 7, attached("x", b"one"))], files=True)
    uploader = opened(path, files=True, batch_size=1)
    uploader.begin_slice(8)

    assert uploader.missing_files({content_digest(b"one")}) == set()
    uploader.iterate_over([delete("a", 8), with_files("b", 8, attached("y", b"one", sent=False))])
    uploader.end_slice(8)

    assert contents(path) == {b"one"}


def test_files_that_did_not_change_are_left_alone_but_for_the_position(path, deliver):
    deliver(7, [with_files("a", 7, attached("x", b"one"), attached("y", b"two"))], files=True)

    deliver(8, [with_files("a", 8, attached("y", b"two", False), attached("x", b"one", False))], files=True)

    assert rows(path, "SELECT name, position FROM files") == [("x", 8), ("y", 8)]
    assert contents(path) == {b"one", b"two"}


def test_an_agent_that_says_nothing_of_files_leaves_them_and_removes_them_with_their_object(path, deliver):
    deliver(7, [with_files(i, 7, attached("x", i.encode())) for i in "ab"], files=True)

    deliver(8, [upsert("a", 8), delete("b", 8)])

    assert rows(path, "SELECT object_id, name FROM files") == [("a", "x")]
    assert contents(path) == {b"a"}


def test_a_sweep_takes_the_files_along_and_what_older_code_left(path, opened, deliver, altered):
    deliver(7, [with_files(i, 7, attached("x", i.encode())) for i in "abc"], files=True)
    deliver(8, [with_files("a", 8, attached("x", b"a"))], files=True)
    altered("DELETE FROM documents WHERE object_id = 'c'")

    uploader = opened(path, files=True)
    uploader.sweep(8)

    assert rows(path, "SELECT object_id FROM files") == [("a",)]
    assert contents(path) == {b"a"}


def test_a_file_that_is_not_what_its_digest_names_is_a_dead_letter_and_stops_nobody(path, deliver):
    result = deliver(
        7,
        [
            with_files("a", 7, attached("x", b"good")),
            with_files("b", 7, attached("x", b"other", digest=content_digest(b"good"))),
            with_files("c", 7, attached("x", b"long", size=2)),
            with_files("d", 7, attached("x", b"1"), attached("x", b"2")),
            with_files("e", 7, attached("\udc80", b"1")),
            upsert("f"),
        ],
        files=True,
    )

    assert result.accepted == 2
    assert {dead.object_id: dead.reason.partition(" ")[0] for dead in result.dead_records} == {
        "b": "the", "c": "the", "d": "two", "e": "the"
    }  # fmt: skip
    assert [object_id for (object_id,) in rows(path, "SELECT object_id FROM documents")] == ["a", "f"]
    assert contents(path) == {b"good"}


def test_a_content_larger_than_sqlite_can_hold_is_a_dead_letter(path, deliver, opened):
    uploader = opened(path, files=True)
    uploader._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
    uploader.begin_slice(7)

    result = uploader.iterate_over(
        [with_files("a", 7, attached("x", bytes(60_000))), with_files("b", 7, attached("x", b"1"))]
    )
    uploader.end_slice(7)

    assert [dead.reason.partition(":")[0] for dead in result.dead_records] == ["larger than SQLite can hold"]
    assert contents(path) == {b"1"}


def test_a_batch_that_failed_halfway_is_tried_again_as_a_whole(path, opened):
    uploader = opened(path, files=True)
    uploader.begin_slice(7)
    connection = uploader._connection
    fill_the_disk(uploader, pages_left=3)

    def make_room(seconds):
        connection.execute("PRAGMA max_page_count = 1000000")

    uploader.sleep = make_room
    big = bytes(range(256)) * 400
    result = uploader.iterate_over(
        [with_files("a", 7, attached("x", b"small"), attached("y", big)), upsert("b", text="z" * 9000)]
    )
    uploader.end_slice(7)

    assert (result.accepted, result.retried) == (2, 2)
    assert contents(path) == {b"small", big}
    assert_tied(path)
