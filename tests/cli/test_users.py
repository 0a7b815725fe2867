"""livesync user: who may log in at the web pages."""

import getpass
import os
import re
import stat

import pytest

from livesync.web.users import Role, Users

PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "users.json"
    monkeypatch.setenv("LIVESYNC_USERS", str(path))
    return path


@pytest.fixture
def terminal(monkeypatch):
    """Answers to what is asked for at a terminal, in order."""
    answers = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    return answers


def test_a_user_is_added_and_only_a_hash_is_kept(cli, file, terminal):
    terminal += [PASSWORD, PASSWORD]

    answer = cli("user", "add", "anna", "--role", "operate")

    assert (answer.code, answer.lines) == (0, ["user anna may operate"])
    assert Users(file).login("anna", PASSWORD).role is Role.OPERATE
    assert Users(file).login("anna", PASSWORD + "x") is None
    assert PASSWORD not in file.read_text()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert sorted(path.name for path in file.parent.glob("users*")) == ["users.json", "users.json.lock"]


def test_the_password_can_come_from_a_file(cli, file, tmp_path):
    (tmp_path / "secret").write_text(f"{PASSWORD}\r\nsomething else\n")

    assert cli("user", "add", "wall", "--role", "see", "--password-file", str(tmp_path / "secret")).code == 0
    assert Users(file).login("wall", PASSWORD) is not None


def test_password_role_and_removal_hold_at_once(cli, file, terminal):
    users = Users(file)
    users.add_user("anna", PASSWORD, Role.SEE)
    terminal += [PASSWORD * 2, PASSWORD * 2]

    assert cli("user", "password", "anna").code == 0
    assert (users.login("anna", PASSWORD), users.login("anna", PASSWORD * 2).role) == (None, Role.SEE)
    assert cli("user", "role", "anna", "--role", "operate").code == 0
    assert users.user("anna").role is Role.OPERATE
    assert cli("user", "remove", "anna").code == 0
    assert users.user("anna") is None


def test_a_token_is_shown_once_and_can_be_removed(cli, file):
    answer = cli("user", "add_token", "grafana", "--role", "see")
    (token,) = answer.lines

    assert Users(file).token(token).role is Role.SEE
    assert token.rpartition("_")[2] not in file.read_text()
    listed = cli("user", "list", "--json").get_json()
    assert [(one["name"], one["role"]) for one in listed["tokens"]] == [("grafana", "see")]
    shown = cli("user", "list").out
    assert listed["tokens"][0]["id"] in shown
    assert token not in shown
    assert cli("user", "remove_token", listed["tokens"][0]["id"]).code == 0
    assert Users(file).token(token) is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["password", "nobody"], 3, "no user 'nobody'"),
        (["role", "nobody", "--role", "see"], 3, "no user 'nobody'"),
        (["remove", "nobody"], 3, "no user 'nobody'"),
        (["remove_token", "00ff"], 3, "no token '00ff'"),
        (["add", "-x", "--role", "see"], 2, "the following arguments are required|expected|unrecognized"),
        (["add", "a b", "--role", "see"], 2, "is no user name"),
        (["add", "anna", "--role", "god"], 2, "invalid choice"),
        (["add", "anna"], 2, "--role"),
        (["add", "anna", "--role", "see"], 2, "no terminal to ask"),
        (["add", "anna", "--role", "see", "--password-file", "nowhere"], 2, "cannot be read"),
        (["add", "anna", "--role", "see", "--password-file", "/dev/null"], 2, "10 to 1024"),
    ],
)
def test_wrong_input_gets_one_clear_line(cli, file, arguments, code, words):
    answer = cli("user", *arguments)

    assert answer.code == code
    assert re.search(words, answer.err)
    assert len(answer.err.splitlines()) == 1
    assert not file.exists()


def test_a_name_is_added_once_and_two_passwords_that_differ_change_nothing(cli, file, terminal):
    terminal += [PASSWORD, PASSWORD, PASSWORD, PASSWORD, PASSWORD, "something else entirely"]
    cli("user", "add", "anna", "--role", "see")
    before = file.read_text()

    assert "already" in cli("user", "add", "anna", "--role", "operate").err
    answer = cli("user", "password", "anna")

    assert (answer.code, "differ" in answer.err) == (2, True)
    assert file.read_text() == before


def test_a_file_that_others_can_use_or_that_is_none_is_refused(cli, file):
    Users(file).add_user("anna", PASSWORD, Role.SEE)
    file.chmod(0o640)
    answer = cli("user", "list")
    assert (answer.code, "chmod 600" in answer.err) == (2, True)

    file.chmod(0o600)
    for text in ("", "[]", "{}", '{"format": 1, "users": {"a": {}}, "tokens": {}}', '{"format": 2}'):
        file.write_text(text)
        answer = cli("user", "list")
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 1


def test_without_a_file_it_says_how_to_name_one(cli):
    answer = cli("user", "list")

    assert (answer.code, "LIVESYNC_USERS" in answer.err) == (2, True)
