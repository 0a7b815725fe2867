"""Opening databases, and the many ways in which that fails."""

import os
import socket

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync.database import committed, connected, missing_file, open_database, shown_uri, without_secrets
from livesync.errors import DatabaseError, DatabaseLocked


@pytest.fixture
def data(tmp_path):
    """A database file with something in it, closed."""
    path = tmp_path / "Data.fs"
    db = open_database(f"file://{path}", create=True)
    committed(db, lambda root: root.__setitem__("it", "is there"))
    db.close()
    return path


def refused(uri, **how):
    with pytest.raises(DatabaseError) as caught:
        open_database(uri, **how)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_was_written_is_read(data):
    db = open_database(f"file://{data}")
    with connected(db) as root:
        assert root["it"] == "is there"
    db.close()


def test_a_database_can_be_read_while_another_has_it_open(data):
    holder = FileStorage(str(data))

    db = open_database(f"file://{data}", read_only=True)
    with connected(db) as root:
        assert root["it"] == "is there"
    db.close()
    holder.close()


def test_a_database_that_another_has_open_is_locked_for_writing(data):
    holder = FileStorage(str(data))

    error = refused(f"file://{data}")
    holder.close()

    assert isinstance(error, DatabaseLocked)
    assert str(data) in str(error)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_missing_is_refused_and_not_made(tmp_path, read_only):
    error = refused(f"file://{tmp_path}/typo.fs", read_only=read_only)

    assert "typo.fs" in str(error)
    assert os.listdir(tmp_path) == []


def test_a_file_is_not_made_by_reading(tmp_path):
    refused(f"file://{tmp_path}/Data.fs", read_only=True, create=True)

    assert os.listdir(tmp_path) == []


def test_an_empty_file_is_a_database_only_where_one_may_be_made(tmp_path):
    path = tmp_path / "Data.fs"
    path.touch()

    assert "empty" in str(refused(f"file://{path}"))
    open_database(f"file://{path}", create=True).close()
    open_database(f"file://{path}").close()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("content", [b"%PDF-1.4 something else", b"FS", b"x"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path, content, create):
    path = tmp_path / "Data.fs"
    path.write_bytes(content)

    assert "no FileStorage" in str(refused(f"file://{path}", create=create))
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["Data.fs"]


def test_a_directory_is_refused(tmp_path):
    assert "is a directory" in str(refused(f"file://{tmp_path}"))


def test_a_directory_that_is_missing_is_named():
    assert "/no/such/place" in str(refused("file:///no/such/place/Data.fs", create=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(data):
    data.chmod(0)

    assert "Permission denied" in str(refused(f"file://{data}"))


def test_a_parameter_that_would_empty_the_file_is_refused(data):
    before = data.read_bytes()

    assert "create=" in str(refused(f"file://{data}?create=1"))
    assert data.read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("Data.fs", "no database URI"),
        ("/srv/Data.fs", "no database URI"),
        ("file:Data.fs", "no database URI"),
        ("gopher://host/Data.fs", "gopher"),
        ("zconfig:///no/such/file.conf", "cannot be opened"),
        ("demo:nonsense", "cannot be opened"),
        ("memory://x?colour=red", "cannot be opened"),
        ("file:///tmp/nul\0l.fs", "cannot be opened"),
    ],
)
def test_a_uri_that_leads_nowhere_is_refused(uri, text):
    assert text in str(refused(uri))


def test_unknown_parameters_are_named(data):
    assert "colour" in str(refused(f"file://{data}?colour=red"))


def test_a_zeo_server_that_does_not_answer_is_not_waited_for_long():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]

        error = refused(f"zeo://localhost:{port}?wait_timeout=1")

    assert f"zeo://localhost:{port} does not answer" in str(error)


def test_a_database_behind_a_zeo_server(tmp_path):
    import ZEO

    address, stop = ZEO.server(str(tmp_path / "Data.fs"))
    try:
        db = open_database(f"zeo://{address[0]}:{address[1]}")
        committed(db, lambda root: root.__setitem__("it", 1))
        db.close()
        db = open_database(f"zeo://{address[0]}:{address[1]}", read_only=True)
        with connected(db) as root:
            assert root["it"] == 1
        db.close()
    finally:
        stop()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("file:///srv/Data.fs", "file:///srv/Data.fs"),
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun/te@r2@host/db", "postgresql://me:***@host/db"),
        (
            "zeo://host:9991?username=me&password=hunter2&wait=1",
            "zeo://host:9991?username=me&password=***&wait=1",
        ),
    ],
)
def test_passwords_are_not_shown(uri, shown):
    assert shown_uri(uri) == shown


def test_passwords_are_taken_out_of_messages_quoted_or_not():
    uri = "postgresql://me:hunter%212@host/db"

    assert without_secrets("no entry for hunter!2, hunter%212", uri) == "no entry for ***, ***"


def test_passwords_are_not_in_errors():
    for uri in ("gopher://me:hunter2@host", "memory://me:hunter2@x?colour=red", "//me:hunter2@host"):
        assert "hunter2" not in str(refused(uri))


def test_which_file_is_missing(data, tmp_path):
    assert missing_file(f"file://{data}?x=1") is None
    assert missing_file(f"file://{tmp_path}/other.fs") == tmp_path / "other.fs"
    assert missing_file("zeo://localhost") is None


@pytest.fixture
def memory():
    db = ZODB.DB(None)
    yield db
    db.close()


def test_a_change_that_conflicts_is_tried_again(memory):
    tries = []

    def change(root):
        tries.append(1)
        root["tries"] = len(tries)
        if len(tries) < 3:
            raise ConflictError("somebody was faster")
        return "done"

    assert committed(memory, change) == "done"
    with connected(memory) as root:
        assert root["tries"] == 3


def test_a_change_that_always_conflicts_is_given_up_and_nothing_is_left(memory, monkeypatch):
    monkeypatch.setattr("livesync.attempts.pause", lambda failed: None)

    def change(root):
        root["it"] = 1
        raise ConflictError("busy")

    with pytest.raises(ConflictError):
        committed(memory, change)
    with connected(memory) as root:
        assert "it" not in root


def test_nothing_is_committed_by_reading(memory):
    with connected(memory) as root:
        root["it"] = 1
    with connected(memory) as root:
        assert "it" not in root


def test_the_callers_own_transaction_is_left_alone(memory):
    before = transaction.get()

    committed(memory, lambda root: root.__setitem__("it", 1))

    assert transaction.get() is before
