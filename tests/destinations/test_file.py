import json
import os
import resource
from pathlib import Path

import pytest

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations import file as file_module
from livesync.destinations.file import FileAgent, FileUploader
from livesync.errors import RetryLater, ServiceRefuses


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def opened(directory: Path, agent_id="a", **options) -> FileUploader:
    uploader = FileUploader(
        FileAgent(agent_id, directory=directory, **options),
        backoff=Backoff(random=lambda: 0.0),
        sleep=lambda seconds: None,
    )
    uploader.open(Delivery(agent_id, "track", 1))
    return uploader


def deliver(directory: Path, till: int, ids: str, agent_id="a", **options) -> None:
    uploader = opened(directory, agent_id, **options)
    uploader.begin_slice(till)
    uploader.iterate_over([upsert(object_id, till) for object_id in ids])
    uploader.end_slice(till)
    uploader.close()


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def ids_in(path: Path) -> str:
    return "".join(json.loads(line)["id"] for line in path.read_text().splitlines())


def test_a_batch_is_a_file_named_by_position_slice_and_batch(tmp_path):
    deliver(tmp_path, 7, "abcde", batch_size=2)

    assert names(tmp_path) == [f"000000000007-000001-00000{batch}.jsonl" for batch in (1, 2, 3)]
    assert [ids_in(tmp_path / name) for name in names(tmp_path)] == ["ab", "cd", "e"]


def test_a_repeated_slice_comes_again_later_in_name_order(tmp_path):
    deliver(tmp_path, 7, "ab")
    deliver(tmp_path, 7, "ab")
    deliver(tmp_path, 6, "c")

    assert names(tmp_path) == [
        "000000000006-000001-000001.jsonl",
        "000000000007-000001-000001.jsonl",
        "000000000007-000002-000001.jsonl",
    ]


def test_slices_of_one_position_are_numbered_in_one_run(tmp_path):
    uploader = opened(tmp_path)
    for object_id in "abc":
        uploader.begin_slice(7)
        uploader.iterate_over([upsert(object_id)])
        uploader.end_slice(None)
    uploader.close()

    assert [ids_in(tmp_path / name) for name in names(tmp_path)] == ["a", "b", "c"]
    assert names(tmp_path)[-1] == "000000000007-000003-000001.jsonl"


def test_a_number_is_not_taken_again_while_a_later_one_is_there(tmp_path):
    deliver(tmp_path, 7, "a")
    deliver(tmp_path, 7, "b")
    (tmp_path / "000000000007-000001-000001.jsonl").unlink()

    deliver(tmp_path, 7, "c")

    assert names(tmp_path) == ["000000000007-000002-000001.jsonl", "000000000007-000003-000001.jsonl"]


def test_files_have_no_name_before_the_slice_is_accepted(tmp_path):
    uploader = opened(tmp_path, batch_size=1)
    uploader.begin_slice(7)

    uploader.iterate_over([upsert("a"), upsert("b")])

    assert names(tmp_path) == [".a.000001.tmp", ".a.000002.tmp"]
    uploader.abandon_slice()
    assert names(tmp_path) == []


def test_what_a_crash_left_is_removed_by_the_same_agent_only(tmp_path):
    crashed, other = opened(tmp_path), opened(tmp_path, "a.000001")
    for uploader in (crashed, other):
        uploader.begin_slice(7)
        uploader.iterate_over([upsert("x")])
    (tmp_path / ".a.notes").touch()

    opened(tmp_path)

    assert names(tmp_path) == [".a.000001.000001.tmp", ".a.notes"]


def test_two_agents_that_end_a_slice_of_one_position_replace_nothing(tmp_path):
    first, second = opened(tmp_path, "one"), opened(tmp_path, "two")
    for till in (7, 8):  # the second round from what each has learnt of the directory
        for uploader, object_id in ((first, "a"), (second, "b")):
            uploader.begin_slice(till)
            uploader.iterate_over([upsert(object_id, till)])
        first.end_slice(till)
        second.end_slice(till)

    assert [ids_in(tmp_path / name) for name in names(tmp_path)] == ["a", "b", "a", "b"]


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "README").write_text("hello")
    (tmp_path / "7-1-1.jsonl").touch()

    deliver(tmp_path, 7, "a")

    assert names(tmp_path) == ["000000000007-000001-000001.jsonl", "7-1-1.jsonl", "README"]


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(file_module.os, "link", no_links)

    deliver(tmp_path, 7, "a")
    deliver(tmp_path, 7, "b")
    first, second = opened(tmp_path, "one"), opened(tmp_path, "two")
    for uploader, object_id in ((first, "c"), (second, "d")):
        uploader._known_slices()
        uploader.begin_slice(7)
        uploader.iterate_over([upsert(object_id)])
    first.end_slice(7)
    second.end_slice(7)

    assert [ids_in(tmp_path / name) for name in names(tmp_path)] == ["a", "b", "c", "d"]


def test_a_missing_directory_is_made(tmp_path):
    deliver(tmp_path / "out", 7, "a")

    assert len(names(tmp_path / "out")) == 1


def test_a_directory_without_a_parent_stops_the_agent(tmp_path):
    with pytest.raises(ServiceRefuses, match=r"the directory .*out cannot be written: No such file"):
        opened(tmp_path / "missing" / "out")


def test_a_file_in_the_place_of_the_directory_stops_the_agent(tmp_path):
    (tmp_path / "out").touch()

    with pytest.raises(ServiceRefuses, match="cannot be written"):
        opened(tmp_path / "out" / "inside")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_rights_stops_the_agent(tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(ServiceRefuses, match="Permission denied"):
        opened(tmp_path)


def test_a_directory_that_vanishes_stops_the_agent(tmp_path):
    uploader = opened(tmp_path / "out")
    uploader.begin_slice(7)
    (tmp_path / "out").rmdir()

    with pytest.raises(ServiceRefuses, match="cannot be written"):
        uploader.iterate_over([upsert("a")])


def test_a_file_that_cannot_be_written_to_its_end_is_tried_again_and_leaves_nothing(tmp_path):
    uploader = opened(tmp_path, max_attempts=2)
    uploader.begin_slice(7)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RetryLater, match="File too large"):
            uploader.iterate_over([upsert("a", text="x" * 5000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert names(tmp_path) == []
