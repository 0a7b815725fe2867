"""livesync agent detect: what was stored without an action, on a shelf whose things are persistent."""

import json

import pytest
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

SHELF = '''
from contextlib import contextmanager
from persistent.mapping import PersistentMapping
from cliplugins import ShelfHost


class Thing(PersistentMapping):
    """A thing that is stored by itself."""


class StoredShelf(ShelfHost):
    pass
'''


@pytest.fixture
def live(installed, change, tmp_path, monkeypatch):
    """A command line, and an agent that has been exported before anything was stored."""
    (tmp_path / "plugins" / "storedshelf.py").write_text(SHELF)
    monkeypatch.setenv("LIVESYNC_HOST", "storedshelf:StoredShelf")
    installed("agent", "add", "table", "--type", "sqlite", "-o", f"path={tmp_path}/table.db")
    assert installed("agent", "export", "table").code == 0
    return installed


@pytest.fixture
def quietly(change):
    """Store things and tell livesync nothing."""

    def carry_out(*names):
        from storedshelf import Thing

        def alter(root):
            root["shelf"] = {**root.get("shelf", {}), **{name: Thing(id=name) for name in names}}

        change(alter)

    return carry_out


def test_where_everything_was_announced_it_is_said_and_what_cannot_be_seen(live):
    answer = live("agent", "detect", "table")

    assert answer.code == 0
    assert answer.lines[0].startswith("table: 0 checked, 0 stored since ")
    assert answer.lines[1].startswith("it does not see: objects that are gone")
    assert all(line.startswith("it does not see: ") for line in answer.lines[1:])


def test_every_object_found_is_a_line_and_the_code_says_so(live, quietly):
    quietly("cup", "plate")

    answer = live("agent", "detect", "table")

    assert answer.code == 1
    assert [line.split()[:2] for line in answer.lines[:2]] == [["cup", "stored"], ["plate", "stored"]]
    assert answer.lines[0].endswith("; no action")
    assert "2 checked, 2 stored since" in answer.lines[2]
    assert "2 of them unannounced" in answer.lines[2]


def test_as_json_they_are_a_list_and_the_counts_an_object(live, quietly):
    quietly("cup")

    answer = live("agent", "detect", "table", "--json")

    values = answer.get_json()
    assert (values["format"], values["agent"]) == (1, "table")
    assert [one["id"] for one in values["unannounced"]] == ["cup"]
    assert values["unannounced"][0]["position"] == int(values["unannounced"][0]["stored"])
    assert values["detection"]["found"] == 1
    assert values["detection"]["complete"] is True
    assert len(values["cannot_see"]) >= 4


def test_as_json_nothing_found_is_an_empty_list(live):
    assert live("agent", "detect", "table", "--json").get_json()["unannounced"] == []


def test_what_is_found_is_sent_by_the_next_run(live, quietly, tmp_path):
    quietly("cup")

    answer = live("agent", "detect", "table", "--enqueue")

    assert answer.code == 1
    assert "1 queued" in answer.out
    assert "livesync agent run table" in answer.out
    assert live("agent", "run", "table").code == 0
    assert live("agent", "verify", "table").code == 0
    assert live("agent", "detect", "table").code == 0


def test_since_takes_a_position_or_a_time(live, quietly):
    quietly("cup")

    assert live("agent", "detect", "table", "--since", "2001-01-01T00:00:00Z").code == 1
    assert live("agent", "detect", "table", "--since", "100").code == 1
    assert live("agent", "detect", "table", "--since", "9000000000").code == 0
    wrong = live("agent", "detect", "table", "--since", "yesterday")
    assert wrong.code == 2
    assert "neither a position" in wrong.err


def test_no_more_are_named_than_asked_for(live, quietly):
    quietly("a", "b", "c")

    answer = live("agent", "detect", "table", "--limit", "1")

    assert answer.lines[0].startswith("a ")
    assert answer.lines[1].startswith("no more than 1 are named")
    assert live("agent", "detect", "table", "--limit", "0", "--anew").lines[2].startswith("c ")


def test_an_agent_or_a_host_that_is_not_there_is_said(live, monkeypatch):
    assert live("agent", "detect", "nobody").code == 3
    monkeypatch.delenv("LIVESYNC_HOST")
    assert live("agent", "detect", "table").code == 2


def test_nothing_is_queued_for_an_agent_that_has_sent_nothing(live, tmp_path):
    live("agent", "add", "new", "--type", "sqlite", "-o", f"path={tmp_path}/new.db")

    answer = live("agent", "detect", "new", "--enqueue")

    assert answer.code == 2
    assert "livesync agent export new" in answer.err


def test_while_the_application_has_the_file_open_it_is_read_and_nothing_queued(live, quietly, locked):
    quietly("cup")
    locked()

    answer = live("agent", "detect", "table")

    assert answer.code == 1
    assert answer.lines[0].startswith("cup ")
    assert "open elsewhere" in answer.err
    assert live("agent", "detect", "table", "--enqueue").code == 5


def test_a_copy_is_left_alone(live, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert live("agent", "detect", "table").code == 13


def test_an_interrupted_one_says_that_the_same_command_goes_on(live, quietly, monkeypatch):
    from livesync.cli import detecting
    from livesync.upkeep import detect

    quietly("a", "b")
    monkeypatch.setattr(detect, "SLICE_SIZE", 1)
    answers = iter([False, True])
    monkeypatch.setattr(detecting, "stopping", lambda: _Stopping(lambda: next(answers)))

    first = live("agent", "detect", "table", "--json")

    assert first.code == 130
    assert [one["id"] for one in json.loads(first.out)["unannounced"]] == ["a"]
    assert "the same command goes on" in first.err
    monkeypatch.setattr(detecting, "stopping", lambda: _Stopping(lambda: False))
    second = live("agent", "detect", "table")
    assert second.lines[0].startswith("b ")
    assert "the first 1 object was looked at" in second.out


class _Stopping:
    """Signals that come when a test says so."""

    def __init__(self, stop):
        self._stop = stop

    def __enter__(self):
        return self._stop

    def __exit__(self, *_):
        return None


def test_the_file_is_free_again_afterwards(live, quietly, data):
    quietly("cup")
    live("agent", "detect", "table")

    DB(FileStorage(str(data))).close()
