"""The files of objects: which contents are read, when, and how much of them is held at once."""

from __future__ import annotations

import gc
import io
import tempfile
from collections.abc import Callable, Set
from typing import Any

import pytest

from livesync.delivery import render
from livesync.delivery.record import AttachedFile, Batch, Outcome, Verdict
from livesync.delivery.uploader import RecordUploader
from livesync.errors import HostFailed, LiveSyncError, NoDocument, RetryLater, ServiceRefuses
from livesync.host import content_digest


class Archive:
    """A service that holds documents with their files, each content once."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.files: dict[str, dict[str, str]] = {}
        self.contents: dict[str, bytes] = {}
        self.asked: list[Set[str]] = []
        self.uploads: list[list[str]] = []
        self.attached: list[AttachedFile] = []
        self.script: list[Any] = []
        #: What happens, once each, when it is asked what it lacks: between two snapshots.
        self.meanwhile: list[Callable[[], object]] = []

    def uploader(self) -> type[RecordUploader]:
        archive = self

        class Uploader(RecordUploader):
            takes_files = True

            def missing_files(self, digests: Set[str]) -> Set[str]:
                archive.asked.append(set(digests))
                if archive.meanwhile:
                    archive.meanwhile.pop()()
                return {digest for digest in digests if digest not in archive.contents}

            def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
                return archive.receive(batch)

        return Uploader

    def receive(self, batch: Batch) -> list[Verdict] | None:
        self.uploads.append([record.object_id for record in batch])
        if self.script:
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                for record in batch:
                    for file in record.files or ():
                        if file.content is not None:
                            file.content.read(3)  # a request that broke off
                raise answer
        for record in batch:
            self.documents.pop(record.object_id, None)
            self.files.pop(record.object_id, None)
            if record.document is not None:
                self.documents[record.object_id] = record.document
                self.files[record.object_id] = {file.name: file.digest for file in record.files or ()}
            for file in record.files or ():
                self.attached.append(file)
                if file.content is not None:
                    content = file.content.read()
                    assert (len(content), content_digest(content)) == (file.size, file.digest)
                    self.contents[file.digest] = content
        return [Verdict(record.object_id, Outcome.ACCEPTED) for record in batch]

    def held(self) -> dict[str, dict[str, bytes | None]]:
        return {
            object_id: {name: self.contents.get(digest) for name, digest in files.items()}
            for object_id, files in self.files.items()
            if files
        }


@pytest.fixture
def archive() -> Archive:
    return Archive()


def run(world: Any, archive: Archive, **options: Any) -> Any:
    return world.run(world.with_uploader(archive.uploader(), **{"files": True, **options}))


def test_the_files_of_an_object_come_with_it(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"1" * 10, "two.txt": b""})
    world.put("b")

    result = run(world, archive)

    assert archive.held() == {"a": {"one.txt": b"1" * 10, "two.txt": b""}}
    [one, two] = archive.attached
    assert (one.name, one.media_type, one.size, one.digest) == (
        "one.txt", "text/plain", 10, content_digest(b"1" * 10),
    )  # fmt: skip
    assert (two.name, two.size) == ("two.txt", 0)
    assert result.accepted == 2


@pytest.mark.parametrize("takes", [True, False])
def test_without_the_option_or_a_service_that_takes_them_no_file_is_looked_at(
    world: Any, archive: Archive, takes: bool
) -> None:
    world.put("a", files={"lost.txt": None})
    uploader = archive.uploader()
    uploader.takes_files = takes

    world.run(world.with_uploader(uploader, files=not takes))

    assert archive.attached == []
    assert archive.asked == []
    assert set(archive.documents) == {"a"}


def test_only_contents_that_the_service_lacks_are_read(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"one", "same.txt": b"same"})
    run(world, archive)
    world.host.opened.clear()
    world.put("a", title="new")
    world.put("b", files={"copy.txt": b"same", "two.txt": b"two"})

    run(world, archive)

    assert world.host.opened == ["two.txt"]
    assert archive.held() == {
        "a": {"one.txt": b"one", "same.txt": b"same"},
        "b": {"copy.txt": b"same", "two.txt": b"two"},
    }
    assert [file.content is None for file in archive.attached[-4:]] == [True, True, True, False]


def test_where_nothing_is_missing_no_second_snapshot_is_opened(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"one"})
    run(world, archive)
    world.put("a", title="new")
    before = world.host.snapshots

    run(world, archive)

    assert world.host.snapshots - before == 1


def test_a_service_is_asked_between_two_snapshots(world: Any, archive: Archive) -> None:
    open_snapshots: list[int] = []
    uploader = archive.uploader()
    ask = uploader.missing_files

    def missing_files(self: Any, digests: Set[str]) -> Set[str]:
        open_snapshots.append(world.host.open_snapshots)
        return ask(self, digests)

    uploader.missing_files = missing_files  # type: ignore[method-assign]
    world.put("a", files={"one.txt": b"one"})

    world.run(world.with_uploader(uploader, files=True))

    assert open_snapshots == [0]


def test_a_file_larger_than_the_limit_is_named_and_its_content_left_out(world: Any, archive: Archive) -> None:
    world.put("a", files={"large.txt": b"x" * 11, "small.txt": b"y" * 10})

    run(world, archive, max_file_bytes=10)

    assert archive.asked == [{content_digest(b"y" * 10)}]
    assert world.host.opened == ["small.txt"]
    large = next(file for file in archive.attached if file.name == "large.txt")
    assert (large.size, large.digest, large.content) == (11, content_digest(b"x" * 11), None)
    assert archive.held() == {"a": {"large.txt": None, "small.txt": b"y" * 10}}


def test_an_object_that_is_excluded_or_gone_has_no_files(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"one"})
    world.put("b", files={"two.txt": b"two"})
    run(world, archive)
    world.put("a", "set_private", private=True)
    world.remove("b")

    run(world, archive)

    assert archive.held() == {}
    assert archive.documents == {}


# between the two snapshots


def test_what_is_read_is_what_the_files_are_then(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"old", "two.txt": b"two"})
    archive.meanwhile.append(lambda: world.put("a", files={"one.txt": b"newer", "three.txt": b"three"}))

    run(world, archive)

    assert archive.held() == {"a": {"one.txt": b"newer", "three.txt": b"three"}}
    run(world, archive)
    assert archive.held() == {"a": {"one.txt": b"newer", "three.txt": b"three"}}


def test_an_object_that_goes_away_in_between_comes_without_files_and_is_deleted_next(
    world: Any, archive: Archive
) -> None:
    world.put("a", files={"one.txt": b"one"})
    archive.meanwhile.append(lambda: world.remove("a"))

    run(world, archive)
    first = (set(archive.documents), archive.held())
    run(world, archive)

    assert first == ({"a"}, {})
    assert archive.documents == {}


def test_a_file_that_grows_beyond_the_limit_in_between_is_left_out(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"1"})
    archive.meanwhile.append(lambda: world.put("a", files={"one.txt": b"1" * 100}))

    run(world, archive, max_file_bytes=10)

    assert archive.held() == {"a": {"one.txt": None}}
    assert archive.attached[0].size == 100


# what goes wrong


def test_a_file_that_the_host_cannot_list_sets_its_object_aside(world: Any, archive: Archive) -> None:
    world.put("a", files={"lost.txt": None})
    world.put("b", files={"one.txt": b"one"})

    result = run(world, archive)

    assert (result.accepted, result.dead) == (1, 1)
    assert "files() raised LookupError: lost.txt is lost" in world.stored.dead["a"]["reason"]
    assert archive.held() == {"b": {"one.txt": b"one"}}


def test_a_content_that_cannot_be_read_sets_its_object_aside_and_the_others_go_on(
    world: Any, archive: Archive
) -> None:
    world.put("a", files={"fine.txt": b"fine", "poison.txt": b"unreadable"})
    world.put("b", files={"one.txt": b"one"})

    result = run(world, archive)

    assert (result.accepted, result.dead, result.balance()) == (1, 1, 0)
    assert "reading its files raised OSError" in world.stored.dead["a"]["reason"]
    assert archive.held() == {"b": {"one.txt": b"one"}}
    assert world.pointer == result.till


def test_a_host_that_says_that_there_is_no_document_while_its_files_are_read_is_heard(
    world: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", files={"one.txt": b"one"})

    def refuse(self: Any, name: str, content: bytes) -> io.BytesIO:
        raise NoDocument("its file is in quarantine")

    monkeypatch.setattr(type(world.host), "_open", refuse)
    run(world, archive)

    assert world.stored.dead["a"]["reason"] == "its file is in quarantine"


def test_a_host_that_cannot_look_an_object_up_fails_the_run(world: Any, archive: Archive) -> None:
    world.put("a", files={"one.txt": b"one"})

    def break_it(host: Any, object_id: str) -> Any:
        raise RuntimeError("the application is broken")

    with pytest.MonkeyPatch.context() as patch:
        archive.meanwhile.append(lambda: patch.setattr(type(world.host), "get", break_it))
        with pytest.raises(HostFailed, match="'a'"):
            run(world, archive)

    assert dict(world.stored.dead) == {}
    assert world.pointer is None


def test_no_room_for_contents_fails_the_run_and_sets_nothing_aside(
    world: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def write(self, *args: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Full)
    world.put("a", files={"one.txt": b"one"})

    with pytest.raises(LiveSyncError, match="No space left on device; make room in"):
        run(world, archive)

    assert dict(world.stored.dead) == {}
    assert world.stored.state == "active"


def test_a_batch_that_is_sent_again_brings_its_contents_from_the_beginning(
    world: Any, archive: Archive
) -> None:
    world.put("a", files={"one.txt": b"the whole of it"})
    archive.script = [RetryLater(), RetryLater()]

    run(world, archive, backoff_s=0)

    assert archive.uploads == [["a"]] * 3
    assert archive.held() == {"a": {"one.txt": b"the whole of it"}}


# how much is held


class Counting(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
    """Tells how many contents are open."""

    made: list[Counting]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Counting.made.append(self)

    @classmethod
    def open_now(cls) -> int:
        return sum(not content.closed for content in cls.made)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    Counting.made = []
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Counting)
    monkeypatch.setattr(render, "_FILE_IN_MEMORY", 100)
    return Counting


def test_contents_are_held_for_a_chunk_and_a_batch_and_closed_when_they_were_sent(
    world: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch, counting: type[Counting]
) -> None:
    monkeypatch.setattr(render, "_CHUNK_WITH_FILES", 5)
    for number in range(60):
        world.put(f"k{number:02}", files={"one.txt": b"%d" % number * 200})
    held: list[int] = []
    uploader = archive.uploader()
    upload = uploader._upload_batch

    def watched(self: Any, batch: Batch) -> Any:
        held.append(counting.open_now())
        return upload(self, batch)

    uploader._upload_batch = watched  # type: ignore[method-assign]
    world.run(world.with_uploader(uploader, files=True, batch_size=3))

    assert len(counting.made) == 60
    assert max(held) <= 5 + 3
    assert counting.open_now() == 0
    assert len(archive.contents) == 60


def test_a_batch_holds_no_more_bytes_of_contents_than_its_limit(world: Any, archive: Archive) -> None:
    for number in range(6):
        world.put(f"k{number}", files={"one.txt": b"%d" % number * 1000})

    run(world, archive, max_batch_bytes=2500)

    assert [len(ids) for ids in archive.uploads] == [2, 2, 2]


@pytest.mark.parametrize("how", ["refused", "kept back"])
def test_contents_that_nobody_sends_are_closed_too(
    world: Any, archive: Archive, counting: type[Counting], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for number in range(8):
        world.put(f"k{number}", files={"one.txt": b"%d" % number * 200})
    options: dict[str, Any] = {"batch_size": 2}
    if how == "refused":
        archive.script = [None, ServiceRefuses("no")]
    else:
        monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: lambda record: None)
        options["transform"] = "some:function"

    if how == "refused":
        with pytest.raises(ServiceRefuses):
            run(world, archive, **options)
    else:
        run(world, archive, **options)

    assert len(counting.made) >= 4
    assert counting.open_now() == 0
    gc.collect()  # a file that was left open would be told of here, and be an error
