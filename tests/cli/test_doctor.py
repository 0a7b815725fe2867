"""livesync doctor."""

import socket
import time

import pytest

from livesync import ActionWrapper

TYPE = "cliplugins:CountingAgent"


@pytest.fixture
def healthy(installed, monkeypatch, tmp_path):
    """A command line where everything is in order."""
    monkeypatch.setenv("LIVESYNC_HOST", "cliplugins:ShelfHost")
    monkeypatch.setenv("SERVICE_KEY", "hunter2")
    place = tmp_path / "out" / "of" / "it.db"
    assert (
        installed(
            "agent", "add", "a", "--type", TYPE, "-o", "key=env:SERVICE_KEY", "-o", f"place={place}"
        ).code
        == 0
    )
    return installed


def problems(answer):
    return [line for line in answer.lines if line.startswith("PROBLEM")]


def test_where_all_is_in_order_it_says_so(healthy):
    answer = healthy("doctor")

    assert answer.code == 0, answer.out
    assert problems(answer) == []
    for subject in ("python", "packages", "setting db", "host", "database", "schema", "site", "agent a"):
        assert any(line.startswith(f"ok       {subject}: ") for line in answer.lines), subject
    assert "hunter2" not in answer.out


def test_a_secret_that_is_not_there_is_a_problem(healthy, monkeypatch):
    monkeypatch.delenv("SERVICE_KEY")

    answer = healthy("doctor")

    assert answer.code == 2
    (problem,) = problems(answer)
    assert "agent a, option key" in problem


def test_a_place_that_cannot_be_made_is_a_problem(healthy, tmp_path):
    (tmp_path / "out").write_text("a file")

    answer = healthy("doctor")

    assert answer.code == 2
    assert "option place" in problems(answer)[0]


def test_a_function_that_cannot_be_imported_is_a_problem(healthy):
    healthy("agent", "edit", "a", "-o", "only=no.such:function")

    answer = healthy("doctor")

    assert answer.code == 2
    assert "option only" in problems(answer)[0]


def test_a_type_that_is_gone_is_a_problem(healthy, change):
    change(lambda root: setattr(root["livesync"].stored("a"), "type_name", "gone.away:Type"))

    answer = healthy("doctor")

    assert answer.code == 3
    assert "gone.away" in problems(answer)[0]


def test_a_stopped_agent_is_a_problem_with_its_reason(healthy, change):
    def stop(root):
        stored = root["livesync"].stored("a")
        stored.state, stored.reason, stored.detail = "stopped", "failing", "nobody answers"

    change(stop)

    answer = healthy("doctor")

    assert answer.code == 1
    assert "failing: nobody answers" in problems(answer)[0]


@pytest.mark.parametrize(
    ("variable", "value", "code", "subject"),
    [
        ("LIVESYNC_HOST", "nonsense", 6, "host"),
        ("LIVESYNC_HOST", "", 2, "host"),
        ("LIVESYNC_HOST", "cliplugins:CrossHost", 6, "host"),
        ("LIVESYNC_SITE", "elsewhere", 13, "site"),
        ("LIVESYNC_DB", "file:///no/such/Data.fs", 4, "database"),
        ("LIVESYNC_DB", "", 2, "database"),
        ("LIVESYNC_DB", "gopher://user:hunter2@x", 4, "database"),
    ],
)
def test_a_setting_that_leads_nowhere_is_a_problem(healthy, monkeypatch, variable, value, code, subject):
    monkeypatch.setenv(variable, value)

    answer = healthy("doctor")

    assert answer.code == code
    assert any(line.startswith(f"PROBLEM  {subject}: ") for line in problems(answer))
    assert "hunter2" not in answer.out


def test_where_nothing_is_installed_it_says_how_to(healthy):
    healthy("destroy", "--yes")

    answer = healthy("doctor")

    assert answer.code == 11
    assert "livesync install" in problems(answer)[0]


def test_as_json_every_finding_has_its_code(healthy):
    values = healthy("doctor", "--json").get_json()

    assert {finding["code"] for finding in values["findings"]} == {0}


def finding(answer, subject):
    """Return the line of one check."""
    return next(line for line in answer.lines if line[9:].startswith(f"{subject}: "))


def test_versions_of_extras_are_told_where_they_are_installed(healthy):
    line = finding(healthy("doctor"), "packages")

    for package in ("ormsgpack", "ZEO"):
        assert f" {package} " in line
    assert "is not installed" not in line


def test_a_clock_that_is_behind_the_database_is_a_problem(healthy, change, monkeypatch):
    with monkeypatch.context() as patch:
        later = time.time() + 10 * 86400
        patch.setattr(time, "time", lambda: later)
        change(lambda root: root.__setitem__("something", 1))

    answer = healthy("doctor")

    assert answer.code == 1
    (problem,) = problems(answer)
    assert problem.startswith("PROBLEM  clock: the database's newest transaction is ")
    assert " ahead of this machine's clock: set the clocks" in problem


def test_lanes_of_processes_that_are_gone_are_counted(healthy, change):
    gone = (socket.gethostname(), 2**22 + 1, 0, "a connection")  # no process has such an id
    change(lambda root: root["livesync"]._inbox.owners.update({0: gone, 1: ("elsewhere", 1, 0, "another")}))

    line = finding(healthy("doctor"), "lanes")

    assert "16 blocks, 2 owned by connections, 1 of them of processes of this machine that are gone" in line


def test_a_reader_for_whose_sake_much_is_kept_is_a_problem(healthy, change):
    def fill(root):
        root["livesync"].add(1_000_000_000, ActionWrapper(1_000_000_000, "x", ["created"]))
        root["livesync"].track.add_pointer("livesync.replication", None)

    change(fill)

    answer = healthy("doctor")

    assert answer.code == 1
    (problem,) = problems(answer)
    assert problem.startswith("PROBLEM  track: reader livesync.replication holds back 1 action of up to ")


# -- services ------------------------------------------------------------------------------------


@pytest.fixture
def delivered(healthy, put, tmp_path):
    """The same with an agent that has delivered into an SQLite file."""
    put(a={"id": "a", "title": "A"})
    healthy("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db")
    assert healthy("agent", "export", "table").code == 0
    return healthy


SERVICE = "agent table, service"


def test_a_service_that_answers_is_told(delivered):
    answer = delivered("doctor")

    assert answer.code == 0, answer.out
    assert "1 document in" in finding(answer, SERVICE)


def test_a_service_that_is_not_asked_is_not_told(delivered, tmp_path):
    (tmp_path / "table.db").unlink()

    answer = delivered("doctor", "--offline")

    assert answer.code == 0
    assert SERVICE not in answer.out


def test_a_service_of_a_new_agent_is_not_asked(healthy, tmp_path):
    healthy("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db")

    assert SERVICE not in healthy("doctor").out
    assert not (tmp_path / "table.db").exists()


def test_a_place_where_nothing_was_delivered_yet_is_no_problem(healthy, tmp_path):
    healthy("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db")
    healthy("agent", "activate", "table", "--from-now")

    answer = healthy("doctor")

    assert answer.code == 0
    assert "the first run makes it" in finding(answer, SERVICE)
    assert not (tmp_path / "table.db").exists()


def test_a_place_that_is_gone_is_a_problem_and_is_not_made_again(delivered, tmp_path):
    (tmp_path / "table.db").unlink()

    answer = delivered("doctor")

    assert answer.code == 7
    assert "livesync agent export table" in problems(answer)[0]
    assert not (tmp_path / "table.db").exists()


def test_a_service_that_refuses_is_a_problem(delivered, tmp_path):
    (tmp_path / "table.db").write_text("this is something else entirely")

    answer = delivered("doctor")

    assert answer.code == 7
    assert SERVICE in problems(answer)[0]


def test_a_service_is_left_alone_while_a_runner_is_at_it(delivered, held_elsewhere, tmp_path):
    held_elsewhere("table")
    (tmp_path / "table.db").unlink()

    answer = delivered("doctor")

    assert answer.code == 0
    assert "not asked, a runner is at it: run by process 7 on elsewhere" in finding(answer, SERVICE)


def test_a_copy_of_the_database_leaves_the_originals_services_alone(delivered, monkeypatch, tmp_path):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")
    (tmp_path / "table.db").unlink()

    answer = delivered("doctor")

    assert answer.code == 13
    assert SERVICE not in answer.out


def test_a_service_is_not_asked_with_options_that_are_wrong(delivered, monkeypatch, tmp_path):
    options = ("-o", "url=http://127.0.0.1:9/", "-o", "token=env:NONE")
    delivered("agent", "add", "hook", "--type", "http", *options)
    delivered("agent", "activate", "hook", "--from-now")

    answer = delivered("doctor")

    assert [line.split(":")[0] for line in problems(answer)] == ["PROBLEM  agent hook, option token"]


def test_it_changes_nothing(delivered, data, tmp_path):
    before = data.read_bytes()
    names = sorted(path.name for path in tmp_path.iterdir())

    delivered("doctor")

    assert data.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


# -- notices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "code", "text"),
    [
        ('command = "logger"', 0, "are sent by: command"),
        ("max_lag_s = 5", 0, "there is no way to send them"),
        ('mail = "me"', 2, "'mail'"),
        ('webhook = "http://localhost/"\nwebhook_token = "env:NONE"', 2, "env:NONE"),
    ],
)
def test_who_is_to_be_told_is_looked_at(healthy, tmp_path, table, code, text):
    (tmp_path / "livesync.toml").write_text(f"[notices]\n{table}\n")

    answer = healthy("doctor")

    assert answer.code == code
    assert text in finding(answer, "notices")


# -- services over a network ---------------------------------------------------------------------


def test_a_service_over_http_is_asked(healthy, shop):
    answer = healthy("doctor")

    assert answer.code == 0, answer.out
    assert shop.url.rstrip("/") in finding(answer, "agent shop, service")
    assert shop.documents == {}


def test_a_service_that_does_not_answer_is_a_problem(healthy, shop):
    shop.server_close()

    answer = healthy("doctor")

    assert answer.code == 7
    (problem,) = problems(answer)
    assert problem.startswith("PROBLEM  agent shop, service: ")
