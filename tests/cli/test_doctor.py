"""livesync doctor."""

import pytest

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
