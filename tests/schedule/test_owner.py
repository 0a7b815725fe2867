"""The file that says who has a database's file open."""

import json
import os
import stat

import pytest

from livesync.process import this_process
from livesync.schedule.owner import Owner, new_token, owner_path, read_owner, remove_owner, write_owner

URL = "http://127.0.0.1:5000/api/v1/commands"


@pytest.fixture
def path(tmp_path):
    return owner_path(tmp_path / "Data.fs")


@pytest.fixture
def written(path):
    return write_owner(path, URL, new_token())


def test_it_lies_beside_the_database_and_only_its_owner_can_read_it(path, written):
    assert path.name == "Data.fs.livesync"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_what_is_written_is_read(path, written):
    assert read_owner(path) == written
    assert written.process == this_process()
    assert written.is_alive()
    assert written.token not in repr(written)


def test_no_two_tokens_are_alike():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 40


def test_what_a_former_process_said_is_replaced(path, written):
    again = write_owner(path, URL, new_token())

    assert read_owner(path) == again


def test_it_is_taken_back_only_by_who_has_written_it(path, written):
    remove_owner(path, new_token())
    assert path.exists()

    remove_owner(path, written.token)
    assert not path.exists()
    remove_owner(path, written.token)


def test_a_process_that_has_ended_or_is_of_another_machine_is_not_alive():
    host, pid, started = this_process()
    child = os.fork()
    if not child:
        os._exit(0)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT) is None:
        pass

    assert not Owner(URL, "t", host, child, 0).is_alive()  # nobody has asked about its end yet
    os.waitpid(child, 0)
    assert not Owner(URL, "t", host, child, 0).is_alive()
    assert not Owner(URL, "t", host, pid, started + 1).is_alive()
    assert not Owner(URL, "t", "elsewhere", pid, started).is_alive()


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604, 0o660])
def test_one_that_others_can_read_or_write_is_not_trusted(path, written, mode):
    path.chmod(mode)

    assert read_owner(path) is None


def test_one_that_is_a_link_is_not_trusted(path, written, tmp_path):
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    assert read_owner(path) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 2}', "\0" * 20_000, "[" * 9_000]
)
def test_one_that_holds_something_else_is_not_trusted(path, written, content):
    path.write_text(content)

    assert read_owner(path) is None


@pytest.mark.parametrize(("name", "value"), [("pid", "7"), ("token", None), ("url", 1), ("started", 0.5)])
def test_one_with_a_wrong_value_is_not_trusted(path, written, name, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    assert read_owner(path) is None


def test_nobody_who_is_not_there_is_read(path):
    assert read_owner(path) is None
