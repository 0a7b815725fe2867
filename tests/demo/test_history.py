import gzip

import pytest

from livesync.demo.history import HistoryError, find_history, parse_line, read_history
from livesync.demo.places import Place

GOOD = b'{"time":1452132233,"changes":[{"action":"created","id":"a/category.json","data":{"title":"A"}}]}'


def test_line_says_what_was_changed():
    moved = b"""{"time": 1.5, "changes": [
        {"action": "moved", "id": "b/videos/x.json", "from": "a/videos/x.json", "data": {}}]}"""

    line = parse_line(moved, "f", 7)

    change = line.changes[0]
    assert (change.action, change.place, change.former, change.data) == (
        "moved",
        Place("b", "x"),
        Place("a", "x"),
        {},
    )


def test_line_is_known_by_what_it_says_not_by_how_it_is_written():
    spaced = b""" { "changes" : [
        {"id": "a/category.json", "data": {"title": "\\u0041"},
         "action": "created"}], "time" : 1452132233 }\n"""

    assert parse_line(spaced, "other", 9).digest == parse_line(GOOD, "f", 1).digest


def test_line_with_another_time_is_another_line():
    assert parse_line(GOOD.replace(b"33,", b"34,"), "f", 1).digest != parse_line(GOOD, "f", 1).digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"no json", "not JSON"),
        (b'{"time":1,"changes":', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not in the form"),
        (b'{"changes":[]}', "time"),
        (b'{"time":"now","changes":[]}', "time"),
        (b'{"time":-1,"changes":[]}', "epoch seconds"),
        (b'{"time":1e300,"changes":[]}', "epoch seconds"),
        (b'{"time":1}', "changes"),
        (b'{"time":1,"changes":[{"action":"renamed","id":"a/category.json"}]}', "renamed"),
        (b'{"time":1,"changes":[{"action":"created","data":{}}]}', "id"),
        (b'{"time":1,"changes":[{"action":"created","id":"a/category.json"}]}', "no data"),
        (b'{"time":1,"changes":[{"action":"created","id":"a/category.json","data":[]}]}', "data"),
        (b'{"time":1,"changes":[{"action":"moved","id":"a/category.json","data":{}}]}', "from where"),
        (b'{"time":1,"changes":[{"action":"deleted","id":"somewhere"}]}', "somewhere"),
    ],
)
def test_bad_line_is_told_with_file_and_number(text, reason):
    with pytest.raises(HistoryError, match=reason) as caught:
        parse_line(text, "edits.jsonl", 12)

    assert str(caught.value).startswith("edits.jsonl, line 12: ")
    assert "\n" not in str(caught.value)


def test_history_is_read_compressed_or_plain(tmp_path):
    plain, packed = tmp_path / "h.jsonl", tmp_path / "h.jsonl.gz"
    plain.write_bytes(GOOD + b"\n\n" + GOOD)
    packed.write_bytes(gzip.compress(GOOD + b"\n\n" + GOOD))

    for path in (plain, packed):
        assert [line.number for line in read_history(path)] == [1, 3]


def test_progress_is_told_in_bytes_of_the_file(tmp_path):
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD + b"\n" + GOOD))
    seen = []

    list(read_history(path, seen.append))

    assert len(seen) == 2
    assert seen[-1] == path.stat().st_size


def test_lines_before_the_break_of_a_broken_file_are_read(tmp_path):
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress((GOOD + b"\n") * 10_000)[:-8])
    lines = read_history(path)

    assert [next(lines).number for _ in range(5_000)] == list(range(1, 5_001))
    with pytest.raises(HistoryError, match="the compressed file is broken"):
        list(lines)


@pytest.mark.parametrize(
    "content", [b"", GOOD, gzip.compress(GOOD, mtime=0)[:20], b"\x1f\x8b and something else"]
)
def test_what_is_called_gz_and_is_none_is_refused(tmp_path, content):
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(content)

    with pytest.raises(HistoryError, match=r"h\.jsonl\.gz, line 1: "):
        list(read_history(path))


def test_bare_name_is_found_in_the_directory_of_histories_and_in_the_package(tmp_path):
    (tmp_path / "long.jsonl.gz").touch()
    environment = {"LIVESYNC_HISTORY": str(tmp_path)}

    assert find_history("long.jsonl.gz", environment) == tmp_path / "long.jsonl.gz"
    assert find_history("history-small.jsonl.gz", environment).parent.name == "demo"


def test_directory_of_histories_goes_before_the_package(tmp_path):
    (tmp_path / "history-small.jsonl.gz").touch()

    assert find_history("history-small.jsonl.gz", {"LIVESYNC_HISTORY": str(tmp_path)}).parent == tmp_path


@pytest.mark.parametrize("name", ["", "missing.jsonl.gz", "/nowhere/history-small.jsonl.gz", "."])
def test_history_that_is_not_there_is_told(name):
    with pytest.raises(HistoryError, match="no such file"):
        find_history(name, {})
