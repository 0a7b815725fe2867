"""Settings: what goes before what, and what is refused."""

from pathlib import Path

import pytest

from livesync.errors import HostNotFound, UsageError
from livesync.settings import Settings, read_settings


@pytest.fixture
def here(tmp_path):
    """A directory, and a function that writes a settings file into it."""

    def write(text, name="livesync.toml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def read(tmp_path, given=None, **environment):
    return read_settings(given or {}, environment, tmp_path)


def test_without_anything_nothing_is_set(tmp_path):
    settings = read(tmp_path)

    assert (settings.db, settings.host, settings.site) == ("", "", "")


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path, here):
    here('db = "file:///from/file"\nhost = "filehost"\nsite = "filesite"\n')

    settings = read(
        tmp_path,
        {"db": "file:///from/line", "host": None},
        LIVESYNC_DB="file:///from/environment",
        LIVESYNC_HOST="environmenthost",
    )

    assert (settings.db, settings.host, settings.site) == ("file:///from/line", "environmenthost", "filesite")
    assert settings.sources["db"] == "--db"
    assert settings.sources["host"] == "LIVESYNC_HOST"
    assert settings.sources["site"].endswith("livesync.toml")


def test_an_empty_variable_is_not_set(tmp_path, here):
    here('site = "filesite"')

    assert read(tmp_path, LIVESYNC_SITE="").site == "filesite"


def test_a_named_file_is_read_instead_of_the_one_that_is_there(tmp_path, here):
    here('site = "there"')
    other = here('site = "named"', "other.toml")
    third = here('site = "on the line"', "third.toml")

    assert read(tmp_path, LIVESYNC_CONFIG=str(other)).site == "named"
    assert read(tmp_path, {"config": str(third)}, LIVESYNC_CONFIG=str(other)).site == "on the line"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 'red'", "no key 'colour'"),
        ("db = 5", "db is text"),
        ("site = ['a']", "site is text"),
        ("[livesync]\ndb = 'x'", "no key 'livesync'"),
        ("db = ", "not TOML"),
        ("db", "not TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(tmp_path, here, text, told):
    here(text)

    with pytest.raises(UsageError, match=told) as caught:
        read(tmp_path)

    assert "livesync.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path, {"config": str(tmp_path / "missing.toml")})


def test_a_file_of_other_bytes_is_refused(tmp_path):
    (tmp_path / "livesync.toml").write_bytes(b"site = '\xff'")

    with pytest.raises(UsageError, match="UTF-8"):
        read(tmp_path)


def test_what_is_needed_and_not_set_is_named():
    with pytest.raises(UsageError, match="--db"):
        Settings().require_db()
    with pytest.raises(UsageError, match="--host"):
        Settings().load_host()


def test_a_host_that_is_not_there():
    with pytest.raises(HostNotFound):
        Settings(host="nonsense").load_host()


def test_the_database_is_no_part_of_what_is_shown():
    assert "hunter2" not in repr(Settings(db="zeo://user:hunter2@localhost"))


def test_the_current_directory_is_where_the_file_is_looked_for(here, monkeypatch, tmp_path):
    here('site = "here"')
    monkeypatch.chdir(tmp_path)

    assert read_settings({}, {}).site == "here"
    assert Path("livesync.toml").exists()
