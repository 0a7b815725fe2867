"""livesync list."""

import re

import pytest

from livesync.action import ActionWrapper


@pytest.fixture
def track(installed, change):
    """A command line on a track with five actions at positions 10 to 30."""
    told = [
        (10, "a", ["created"]),
        (20, "b", ["created"]),
        (20, "a", ["data_changed", "title_changed"]),
        (30, "line\nend\x1b[31m", ["deleted"]),
        (30, "b", ["moved"]),
    ]

    def fill(root):
        for position, object_id, actions in told:
            root["livesync"].add(position, ActionWrapper(position + 0.5, object_id, actions))

    change(fill)
    return installed


def positions(answer):
    assert answer.code == 0, answer.err
    return [line.split()[0] for line in answer.lines]


def test_an_empty_track_is_an_empty_list(installed):
    answer = installed("list")

    assert (answer.code, answer.out) == (0, "")


def test_the_newest_comes_first(track):
    assert positions(track("list")) == ["30", "30", "20", "20", "10"]


def test_a_line_is_position_object_actions_and_time(track):
    line = track("list", "--to", "20").lines[0]

    assert re.fullmatch(r"20 <ActionWrapper@0x[0-9a-f]+ \(a\) \[data_changed,title_changed\] 20>", line)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "10"], ["30", "30", "20", "20"]),
        (["--from", "9"], ["30", "30", "20", "20", "10"]),
        (["--to", "20"], ["20", "20", "10"]),
        (["--to", "19"], ["10"]),
        (["--from", "10", "--to", "20"], ["20", "20"]),
        (["--from", "20", "--to", "20"], []),
        (["--from", "30"], []),
        (["--from", "1970-01-01T00:00:10Z", "--to", "1970-01-01T01:00:20+01:00"], ["20", "20"]),
    ],
)
def test_the_interval_leaves_out_its_beginning_and_holds_its_end(track, arguments, expected):
    assert positions(track("list", *arguments)) == expected


def test_a_time_is_counted_in_the_tracks_granularity(cli, change):
    cli("install", "--granularity", "100")
    change(lambda root: root["livesync"].add(12970819 * 100, ActionWrapper(1297081920, "a", ["created"])))

    assert positions(cli("list", "--from", "2011-02-07T12:30:00Z", "--to", "2011-02-07T12:33:20Z")) == [
        "12970819"
    ]


def test_line_ends_and_control_characters_in_labels_are_escaped(track):
    line = track("list", "--from", "20").lines[1]

    assert "(line\\nend\\x1b[31m)" in line


def test_what_waits_in_the_inbox_comes_first_without_a_position(track, change):
    for object_id in ("older", "newer"):
        change(lambda root, it=object_id: root["livesync"].record([ActionWrapper(0, it, ["created"])]))

    answer = track("list")

    assert positions(answer)[:3] == ["-", "-", "30"]
    assert "(newer)" in answer.lines[0]
    assert "(older)" in answer.lines[1]
    assert positions(track("list", "--to", "30"))[0] == "30"


def test_listing_collects_nothing(track, change):
    change(lambda root: root["livesync"].record([ActionWrapper(0, "x", ["created"])]))

    track("list")

    assert track("status", "--json").get_json()["status"]["waiting"] == 1


def test_after_an_agents_pointer(track, change):
    track("agent", "add", "s", "--type", "cliplugins:CountingAgent")
    track("agent", "activate", "s", "--from-start")
    assert len(positions(track("list", "--pointer", "s"))) == 5

    change(lambda root: (root["livesync"].track.seal(25), root["livesync"].advance("s", 20)))

    assert positions(track("list", "--pointer", "s")) == ["30", "30"]


def test_a_pointer_that_is_not_there(track):
    assert track("list", "--pointer", "nobody").code == 3
    track("agent", "add", "s", "--type", "cliplugins:CountingAgent")

    answer = track("list", "--pointer", "s")

    assert answer.code == 2
    assert "no pointer" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "20", "--to", "10"],
        ["--from", "x"],
        ["--to", "2026-11-05"],
        ["--to", "2026-11-05T10:00:00"],
        ["--from=-3"],
        ["--from", "1.5"],
        ["--from", "1969-12-31T00:00:00Z"],
        ["--to", "99999999999999999999"],
        ["--to", ""],
    ],
)
def test_an_interval_that_makes_no_sense_is_refused(track, arguments):
    answer = track("list", *arguments)

    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1


def test_labels_come_from_the_host_where_it_can_load_the_object(track, change):
    change(lambda root: root.__setitem__("shelf", {"a": {"id": "a", "title": "A tale of\ntwo cities"}}))

    lines = track("list", "--host", "cliplugins:ShelfHost", "--to", "20").lines

    assert "(A tale of\\ntwo cities)" in lines[0]
    assert "(b)" in lines[1]


def test_a_host_that_cannot_load_objects_does_not_stop_the_list(track):
    assert "(b)" in track("list", "--host", "cliplugins:BlindHost").lines[0]


@pytest.mark.parametrize(
    "host",
    ["nonsense", "no.such:host", "cliplugins:missing", "cliplugins:no_host", "cliplugins:broken_factory"],
)
def test_a_host_that_cannot_be_had_is_an_error(track, host):
    answer = track("list", "--host", host)

    assert answer.code == 6
    assert host in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_host_that_raises_at_once_is_an_error(track):
    answer = track("list", "--host", "cliplugins:CrossHost")

    assert answer.code == 6
    assert "the shelf has fallen down" in answer.err


def test_as_json_it_is_one_object_with_everything(track):
    values = track("list", "--json", "--from", "10", "--to", "20").get_json()

    assert values["format"] == 1
    assert [entry["id"] for entry in values["entries"]] == ["a", "b"]
    assert values["entries"][0]["actions"] == ["data_changed", "title_changed"]
    assert values["entries"][0]["timestamp"] == 20.5


def test_as_json_an_empty_list_is_one_object_too(installed):
    assert installed("list", "--json").get_json() == {"format": 1, "entries": []}
