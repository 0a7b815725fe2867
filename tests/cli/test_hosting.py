"""A runner within the process that has the database open, and commands that find the way to it."""

import os
import threading

import pytest
import ZODB
from support.runners import SERVICES, Place
from support.waiting import eventually
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage

from livesync.cli.hosting import HostRunner, storage_file
from livesync.errors import UsageError
from livesync.schedule.owner import owner_path, read_owner

SERVICE = "service=support.runners:good"


@pytest.fixture
def place(data, no_fsync):
    SERVICES.clear()
    db = ZODB.DB(FileStorage(str(data)))
    yield Place(db)
    db.close()
    SERVICES.clear()


@pytest.fixture
def runner(place):
    one = HostRunner(place.db, place.host)
    one.start()
    yield one
    assert one.stop(30)


def test_commands_are_carried_out_on_the_open_database(cli, place, runner):
    place.put("cup", "saucer")

    assert cli("agent", "add", "good", "--type", "memory", "-o", SERVICE).out.startswith(
        "agent good is added"
    )
    exported = cli("agent", "export", "good", "--json").get_json()

    assert exported["agent"] == "good"
    assert SERVICES["good"].documents.keys() == {"cup", "saucer"}
    assert cli("agent", "pause", "good").code == 0
    assert place.agent()["state"] == "paused"
    assert cli("run").out == "no agent is active\n"


def test_what_fails_has_the_same_line_and_code(cli, runner):
    answer = cli("agent", "activate", "nobody", "--from-now")

    assert answer.code == 3
    assert answer.err == "livesync: there is no agent 'nobody'; `livesync agent list` shows those there are\n"
    assert cli("agent", "add", "x", "--type", "nothing").code == 3
    assert cli("agent", "add", "x", "--type", "sqlite").code == 2


def test_the_applications_own_host_is_used_whatever_is_said_here(cli, place, runner):
    place.put("cup")
    cli("agent", "add", "good", "--type", "memory", "-o", SERVICE)

    assert cli("agent", "export", "good", "--host", "no.such:host").code == 0
    assert cli("agent", "verify", "good").out.startswith("good: 1 checked, 1 expected, 1 held, 0 missing")


def test_wrong_arguments_are_told_here_and_reach_nobody(cli, runner):
    answer = cli("agent", "pause")

    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1


def test_what_reads_is_done_here(cli, place, runner):
    place.put("cup")

    assert "cup" in cli("list").out
    assert cli("status").code == 0


def test_it_cannot_be_served_twice(cli, runner, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "support.runners:things_host")

    assert cli("serve", "--no-web").code == 5


def test_users_are_no_matter_of_the_application(cli, runner, tmp_path):
    assert cli("user", "list", "--users", tmp_path / "users").code == 0


def test_it_begins_once_and_takes_the_file_away_when_it_ends(place, data):
    one = HostRunner(place.db, place.host)
    one.start()
    owner = read_owner(owner_path(data))
    one.start()
    assert read_owner(owner_path(data)) == owner
    assert owner.pid == os.getpid()
    assert one.is_alive()

    assert one.stop(30)

    assert not owner_path(data).exists()
    assert not one.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name == "livesync-runner"]
    one.start()
    assert read_owner(owner_path(data)).token != owner.token
    assert one.stop(30)


def test_a_change_wakes_it(place, runner):
    service = place.add_agent()
    place.has_run()

    place.put("cup")

    eventually(lambda: "cup" in service.documents)


def test_where_the_file_cannot_be_written_it_runs_all_the_same(place, data, caplog):
    owner_path(data).mkdir()
    one = HostRunner(place.db, place.host)
    one.start()

    service = place.add_agent()
    place.put("cup")

    eventually(lambda: "cup" in service.documents)
    assert "the command line cannot find the way to this process" in caplog.text
    assert one.stop(30)


def test_another_storage_needs_no_way_here(memory_db, data):
    assert storage_file(memory_db) is None
    assert storage_file(ZODB.DB(DemoStorage())) is None


def test_notices_that_make_no_sense_are_refused(place):
    with pytest.raises(UsageError, match="there is no key 'mailto'"):
        HostRunner(place.db, place.host, notices={"mailto": "a@b.example"})


def test_versions_are_made_and_carried_away_beside_the_application(cli, place, runner, tmp_path, monkeypatch):
    place.put("cup")
    monkeypatch.chdir(tmp_path)

    assert cli("version", "init", "-m", "begun").out.endswith("] begun\n 1 created\n")
    place.put("saucer")
    assert cli("version", "register", "-m", "one more").code == 0
    assert cli("version", "export", "some.bundle").out == f"2 versions written to {tmp_path}/some.bundle\n"

    assert (tmp_path / "some.bundle").exists()
    assert cli("version", "import", "some.bundle").out == "Everything up-to-date\n"
    own = f"file://{place.db.storage.getName()}"
    assert cli("version", "pull", own).err == f"livesync: {own} is this database itself: name another one\n"
    assert cli("version", "fsck").out == "2 versions: nothing is wrong\n"
