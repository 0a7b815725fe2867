"""PostgreSQL by RelStorage as the application's database: every command, undo, and what goes wrong."""

import json
import logging
import sqlite3
from contextlib import closing, contextmanager

import pytest
import transaction
import zodburi
from support.databases import shared_database
from support.postgres_service import postgres_server
from syshost import NodeHost, Site, Store, TwinAgent
from ZODB.POSException import UndoError

from livesync import SyncManager
from livesync.capture import Capture
from livesync.cli.exitcodes import ExitCode, code_of
from livesync.cli.main import main
from livesync.database import committed, connected, open_database
from livesync.delivery.access import ManagerAccess
from livesync.delivery.run import time_of_last_commit
from livesync.demo.commands import main as demo
from livesync.errors import DatabaseError
from livesync.relstorage import is_error, lost_connection

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(params=["relstorage", "relstorage-free"])
def database(request, tmp_path):
    with shared_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def keeping(tmp_path):
    """A database that keeps history, with a manager."""
    with shared_database("relstorage", tmp_path) as made:
        assert main(["--db", made.uri, "install"]) == 0
        yield made


def refused(uri, **how):
    with pytest.raises(DatabaseError) as caught:
        open_database(uri, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tables_of(uri):
    name = uri.partition("@/")[2].partition("?")[0]
    return {
        row[0]
        for row in postgres_server().execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=name
        )
    }


# -- opening -----------------------------------------------------------------------------------------


def test_what_was_written_is_read(database):
    db = open_database(database.uri, create=True)
    committed(db, lambda root: root.__setitem__("it", "is there"))
    db.close()

    db = open_database(database.uri, read_only=True)
    with connected(db) as root:
        assert root["it"] == "is there"
    db.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_without_tables_is_refused_and_left_as_it_is(database, read_only):
    assert "no tables of RelStorage" in refused(database.uri, read_only=read_only)
    assert tables_of(database.uri) == set()


def test_tables_are_not_made_by_reading(database):
    refused(database.uri, read_only=True, create=True)

    assert tables_of(database.uri) == set()


def test_the_other_kind_of_history_is_refused_and_leaves_the_tables_alone(database):
    open_database(database.uri, create=True).close()
    before = tables_of(database.uri)
    keeps = database.kind == "relstorage"
    other = database.uri.replace(f"keep_history={int(keeps)}", f"keep_history={int(not keeps)}")

    for create in True, False:
        text = refused(other, create=create)
        assert ("take keep_history=0 out" if keeps else "add keep_history=0") in text
    assert tables_of(database.uri) == before


def test_parameters_of_all_three_kinds_are_taken(database):
    open_database(database.uri, create=True).close()

    db = open_database(
        f"{database.uri}&connection_pool_size=3&cache_local_mb=1&application_name=livesync-test"
    )
    sessions = postgres_server().execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'livesync-test'"
    )
    assert db.getPoolSize() == 3
    assert db.storage._options.cache_local_mb == 1
    assert sessions[0][0] >= 1
    db.close()


def test_a_parameter_that_nobody_knows_is_named(database):
    assert "colour" in refused(f"{database.uri}&colour=red", create=True)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/db", "port 1 failed"),
        ("postgres://me:geheim@127.0.0.1:1/db", "port 1 failed"),
        ("postgresql://me:geheim@nowhere.invalid/db?connect_timeout=2", "nowhere.invalid"),
        ("postgresql://me:geheim@host:port/db", "no URI of a PostgreSQL database"),
        ("postgresql://me:ge/heim@host:5432/db", "no URI of a PostgreSQL database"),
        ("postgresql://me:geheim@127.0.0.1:1/db?demostorage=1", "other processes"),
    ],
)
def test_a_server_that_is_not_there_is_one_clear_line_without_the_password(uri, text, capsys):
    assert main(["--db", uri, "status"]) == ExitCode.DATABASE

    told = capsys.readouterr()
    assert told.out == ""
    assert text in told.err
    assert told.err.count("\n") == 1
    assert "heim" not in told.err.replace("demo", "")


def test_a_wrong_password_is_refused_and_not_shown(keeping, capsys, caplog):
    server = postgres_server()
    server.execute("DROP ROLE IF EXISTS careful")
    server.execute("CREATE ROLE careful LOGIN SUPERUSER PASSWORD 'ge heim/ß' IN ROLE with_password")
    right = keeping.uri.replace("postgres@", "careful:ge%20heim%2F%C3%9F@")
    wrong = keeping.uri.replace("postgres@", "careful:falsch-und-geheim@")
    caplog.set_level(logging.DEBUG)

    assert main(["--db", right, "status"]) == 0
    assert main(["-v", "--db", wrong, "status"]) == ExitCode.DATABASE

    told = capsys.readouterr()
    everything = told.out + told.err + caplog.text
    assert "password authentication failed" in told.err
    for secret in "falsch-und", "ge heim", "heim/ß", "%20heim":
        assert secret not in everything
    server.execute("DROP ROLE careful")


def test_the_application_can_open_it_by_the_same_uri_through_zodburi(keeping):
    factory, parameters = zodburi.resolve_uri(keeping.uri)

    with closing(factory()) as storage:
        assert storage.getName().startswith("RelStorage: <PostgreSQL ")
        assert parameters["pool_size"] == 7


# -- every command -----------------------------------------------------------------------------------


def test_every_command_works_on_it(database, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LIVESYNC_DB", database.uri)
    monkeypatch.setenv("LIVESYNC_HOST", "demo")
    index = tmp_path / "index.sqlite"

    def livesync(*args, code=0):
        capsys.readouterr()
        assert main([str(arg) for arg in args]) == code, capsys.readouterr().err
        return capsys.readouterr().out

    def documents():
        with closing(sqlite3.connect(index)) as connection:
            return {key: json.loads(text) for key, text in connection.execute(
                "SELECT object_id, document FROM documents"
            )}  # fmt: skip

    def expected():
        capsys.readouterr()
        assert demo(["dump"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line["id"]: line["document"] for line in map(json.loads, lines)}

    livesync("install", "--granularity", 1)
    assert demo(["replay", "history-small.jsonl.gz"]) == 0
    livesync("agent", "add", "index", "--type", "sqlite", "-o", f"path={index}")
    livesync("agent", "activate", "index", "--from-start")
    assert int(json.loads(livesync("--json", "status"))["status"]["waiting"]) > 90
    livesync("agent", "simulate", "index")
    livesync("run")
    assert documents() == expected()
    assert len(documents()) > 100
    livesync("agent", "verify", "index")
    livesync("status", "--check", "--max-lag", 60)
    assert "<ActionWrapper@" in livesync("list")
    with closing(sqlite3.connect(index)) as connection, connection:
        some = "SELECT object_id FROM documents LIMIT 3"
        connection.execute(f"DELETE FROM documents WHERE object_id IN ({some})")
    livesync("agent", "verify", "index", code=ExitCode.DIFFERENT)
    livesync("agent", "repair", "index")
    assert documents() == expected()
    livesync("agent", "pause", "index")
    livesync("agent", "rewind", "index", "--to", 0)
    livesync("agent", "activate", "index")
    livesync("agent", "run", "index")
    livesync("agent", "export", "index")
    livesync("prune", "--keep", 0)
    assert documents() == expected()
    livesync("upgrade")
    livesync("doctor", "--offline")
    livesync("agent", "remove", "index")
    livesync("destroy", "--yes")
    livesync("status", code=ExitCode.NOT_INSTALLED)


# -- snapshots ---------------------------------------------------------------------------------------


def test_a_snapshot_is_never_older_than_what_another_one_in_the_process_has_shown(keeping):
    db, other = open_database(keeping.uri), open_database(keeping.uri)
    with connected(db) as root:
        first = ManagerAccess(SyncManager.get(root))
    second = first.another()
    for number in range(30):
        committed(other, lambda root, number=number: root.__setitem__("number", number))
        for access in (first, second) if number % 2 else (second, first):
            with access.snapshot() as manager:
                connection = manager._p_jar
                assert connection.root()["number"] == number
                serial = connection.root()._p_serial
                # the newest transaction that the snapshot can have shown, and not what the DB says
                assert connection._storage.lastTransaction() >= serial
                assert time_of_last_commit(manager) > 0
    first.close()
    second.close()
    other.close()
    db.close()


def test_doctor_knows_the_newest_transaction_on_a_connection_that_has_long_been_open(keeping, capsys):
    assert main(["--db", keeping.uri, "--host", "demo", "--json", "doctor", "--offline"]) == 0

    clock = next(
        line for line in json.loads(capsys.readouterr().out)["findings"] if line["subject"] == "clock"
    )
    assert "newest transaction is of" in clock["text"]


# -- undo --------------------------------------------------------------------------------------------


def test_undo_of_an_older_transaction_is_the_applications_own_affair(keeping):
    """RelStorage refuses it where the application's objects have changed; livesync's do not count."""
    db = open_database(keeping.uri)
    capture = Capture(NodeHost()).install(db)
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)

    def change(note, *names):
        manager.begin()
        store = connection.root().setdefault("store", Store())
        for name in names:
            if name in store.top.children:
                store.edit(store.top.children[name], note)
            else:
                store.add(None, name, name)
        manager.get().note(note)
        manager.commit()

    change("made", "a", "b")
    for turn in range(3):
        change(f"a {turn}", "a")
        change(f"b {turn}", "b")
    tids = {entry["description"]: entry["id"] for entry in db.undoInfo(0, 100)}

    undoing = transaction.TransactionManager()
    undoing.begin()
    db.undo(tids["a 2"], undoing.get())
    undoing.commit()
    undoing.begin()
    db.undo(tids["b 0"], undoing.get())
    with pytest.raises(UndoError, match="changed by a later transaction"):
        undoing.commit()
    undoing.abort()

    manager.begin()
    sync = SyncManager.get(connection.root())
    assert connection.root()["store"].top.children["a"].title == "a 1"
    assert connection.root()["store"].top.children["b"].title == "b 2"
    sync.collect(2e9)
    newest = [(action.object_id, sorted(action.actions)) for _, action in sync.track][-1]
    assert newest == (connection.root()["store"].top.children["a"].uid, ["undone"])
    manager.abort()
    connection.close()
    capture.uninstall()
    db.close()


# -- a connection that is lost -----------------------------------------------------------------------


def test_a_lost_connection_is_a_fault_of_the_databases(keeping):
    db = open_database(keeping.uri)
    connection = db.open(transaction_manager=transaction.TransactionManager())
    name = keeping.uri.partition("@/")[2].partition("?")[0]
    postgres_server().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
    )
    connection.cacheMinimize()
    db.storage._cache.clear()

    with pytest.raises(lost_connection()) as caught:
        list(connection.root()["livesync"].track)

    assert is_error(caught.value)
    assert code_of(caught.value) is ExitCode.DATABASE
    # the next transaction has a new session
    connection.transaction_manager.begin()
    assert connection.root()["livesync"].track is not None
    connection.transaction_manager.abort()
    connection.close()
    db.close()


class CutHost(NodeHost):
    """Loses its database in the middle of making a document, once."""

    cut = None

    @contextmanager
    def at(self, connection):
        with super().at(connection) as reader:
            reader.cut = self.cut
            yield reader

    def document(self, obj, audience="public"):
        if self.cut:
            self.cut.pop()()
            connection = obj._p_jar
            connection.db().storage._cache.clear()
            connection.cacheMinimize()
        return super().document(obj, audience)


def test_a_connection_cut_in_the_middle_of_a_run_sets_nothing_aside(database, tmp_path):
    place = Site(tmp_path, host=CutHost(), open_with=database.open_storage)
    key = str(tmp_path)
    place.add_agent(TwinAgent("a", key=key, batch_size=5))
    with place.change() as store:
        for number in range(20):
            store.add(None, f"n{number}", f"Number {number}")
    name = database.uri.partition("@/")[2].partition("?")[0]
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    place.host.cut = [lambda: postgres_server().execute(end, (name,))]

    with pytest.raises(lost_connection()):
        place.run("a")
    with place.looking():
        stored = place.manager.stored("a")
        assert dict(stored.dead) == {}
        assert stored.state == "active"
        assert stored.lease.holder is None  # the failure was noted by a new session
        assert "server closed the connection" in stored.last_run["error"]
    result = place.run("a")

    assert (result.dead, result.accepted) == (0, 20)
    place.assert_equal("a")
    place.close()
