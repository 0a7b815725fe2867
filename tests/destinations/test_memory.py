import io
import threading

import pytest
from support.waiting import LONG_S

from livesync.agent import SyncAgent
from livesync.delivery.backoff import Backoff
from livesync.delivery.record import AttachedFile, Op, Outcome, Record, Verdict, document_digest
from livesync.delivery.uploader import Delivery
from livesync.destinations.memory import MemoryAgent, MemoryService, MemoryUploader
from livesync.errors import BatchRefused, OptionError, RetryLater
from livesync.host import content_digest

NAMED = MemoryService()


def named_service():
    return NAMED


def no_service():
    return object()


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document=document)


@pytest.fixture
def service():
    return MemoryService()


@pytest.fixture
def uploader(service):
    made = service.uploader_type()(
        SyncAgent("a"), backoff=Backoff(random=lambda: 0.0), sleep=lambda seconds: None
    )
    made.open(Delivery("a", "track", 1))
    made.begin_slice(7)
    return made


def test_the_service_may_be_named_by_an_option():
    uploader = MemoryUploader(MemoryAgent("a", service=f"{__name__}:named_service"))
    uploader.open(Delivery("a", "track", 1))
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("x", n=1)])
    uploader.end_slice(7)

    assert NAMED.documents == {"x": {"n": 1}}


def test_the_option_is_needed():
    with pytest.raises(OptionError, match="option service is needed"):
        MemoryAgent("a")
    with pytest.raises(OptionError, match="option service is needed"):
        MemoryUploader(SyncAgent("a"))


def test_what_the_option_names_must_be_a_service():
    with pytest.raises(OptionError, match="returned a object, not a MemoryService"):
        MemoryUploader(MemoryAgent("a", service=f"{__name__}:no_service"))


def test_nothing_is_seen_before_the_slice_is_accepted(service, uploader):
    uploader.iterate_over([upsert("x", n=1), Record(Op.DELETE, "y", 7)])
    assert service.documents == {}

    uploader.end_slice(7)

    assert service.documents == {"x": {"n": 1}}
    assert service.positions == {"x": 7}
    assert service.tombstones == {"y": 7}
    assert service.pointers["a"].position == 7


def test_scripted_exceptions_are_raised(service, uploader):
    service.answer_next(RetryLater(), BatchRefused("x"))

    result = uploader.iterate_over([upsert("x"), upsert("y")])
    uploader.end_slice(7)

    assert result.accepted == 2
    assert [[record.object_id for record in batch] for batch in service.batches] == [
        ["x", "y"], ["x", "y"], ["x"], ["y"]
    ]  # fmt: skip


def test_scripted_verdicts_store_what_they_accept(service, uploader):
    service.answer_next([Verdict("x", Outcome.ACCEPTED), Verdict("y", Outcome.REFUSED, "no")])

    result = uploader.iterate_over([upsert("x", n=1), upsert("y")])
    uploader.end_slice(7)

    assert (result.accepted, result.dead) == (1, 1)
    assert service.documents == {"x": {"n": 1}}


def test_a_scripted_function_is_asked(service, uploader):
    seen = []
    service.answer_next(lambda batch: seen.append(len(batch)), lambda batch: [Verdict("z", Outcome.STALE)])

    result = uploader.iterate_over([upsert("x"), upsert("y")])
    result.add(uploader.iterate_over([upsert("z")]))
    uploader.end_slice(7)

    assert seen == [2]
    assert (result.accepted, result.stale) == (2, 1)
    assert set(service.documents) == {"x", "y"}


def test_stale_records_are_told_apart(service, uploader):
    uploader.iterate_over([upsert("x", 9, n=1)])

    result = uploader.iterate_over([upsert("x", 7, n=0), upsert("y", 7)])

    assert (result.accepted, result.stale) == (1, 1)


def attached(name, content, digest=None):
    return AttachedFile(
        name, "text/plain", len(content), digest or content_digest(content), io.BytesIO(content)
    )


def with_files(object_id, position, *files):
    return Record(Op.UPSERT, object_id, position, document={}, files=files)


def test_files_are_kept_by_name_and_contents_by_digest(service, uploader):
    uploader.iterate_over(
        [with_files("x", 7, attached("a", b"one")), with_files("y", 7, attached("b", b"one"))]
    )
    assert service.contents == {}
    uploader.end_slice(7)

    assert {key: [file.name for file in files] for key, files in service.files.items()} == {
        "x": ["a"], "y": ["b"]
    }  # fmt: skip
    assert service.contents == {content_digest(b"one"): b"one"}

    uploader.begin_slice(8)
    uploader.iterate_over([with_files("x", 8), Record(Op.DELETE, "y", 8)])
    uploader.end_slice(8)
    assert service.contents == {}


def test_a_record_that_says_nothing_of_files_leaves_them(service, uploader):
    uploader.iterate_over([with_files("x", 7, attached("a", b"one"))])
    uploader.iterate_over([upsert("x", 7, n=1)])
    uploader.end_slice(7)

    assert service.documents == {"x": {"n": 1}}
    assert [file.name for file in service.files["x"]] == ["a"]


def test_a_sweep_takes_the_contents_along(service, uploader):
    uploader.iterate_over([with_files("x", 7, attached("a", b"one"))])
    uploader.end_slice(7)

    assert uploader.sweep(8) == 1
    assert service.contents == {}
    assert service.tombstones == {"x": 8}


def test_a_file_that_is_not_what_its_digest_names_is_a_dead_letter(service, uploader):
    wrong = attached("a", b"one", content_digest(b"two"))

    result = uploader.iterate_over([with_files("x", 7, wrong), upsert("y")])
    uploader.end_slice(7)

    assert [dead.object_id for dead in result.dead_records] == ["x"]
    assert set(service.documents) == {"y"}
    assert service.contents == {}


def test_an_altered_document_can_be_read(service, uploader):
    uploader.iterate_over([upsert("x", n=1)])
    uploader.end_slice(7)

    service.alter("x", {"b": 1, "a": 2})

    assert service.documents == {"x": {"a": 2, "b": 1}}
    assert [tuple(row) for row in uploader.rows()] == [("x", 7, document_digest({"a": 2, "b": 1}))]


def test_rows_are_those_of_the_moment_when_the_first_was_asked_for(service, uploader):
    uploader.iterate_over([upsert("x"), upsert("y")])
    uploader.end_slice(7)
    rows = uploader.rows(quick=True)
    assert next(rows).object_id == "x"

    uploader.begin_slice(8)
    uploader.iterate_over([Record(Op.DELETE, "y", 8), upsert("z", 8)])
    uploader.end_slice(8)

    assert [row.object_id for row in rows] == ["y"]


def test_a_service_may_take_several_batches_at_once():
    service = MemoryService(concurrent=True)
    together = threading.Barrier(3, timeout=LONG_S)

    def wait_for_the_others(batch):
        together.wait()

    service.answer_next(*[wait_for_the_others] * 3)
    uploader = service.uploader_type()(SyncAgent("a"), batch_size=1, in_flight=3)
    uploader.open(Delivery("a", "track", 1))
    uploader.begin_slice(7)

    result = uploader.iterate_over([upsert(object_id) for object_id in "xyz"])
    uploader.end_slice(7)

    assert result.accepted == 3
    assert set(service.documents) == set("xyz")


def test_a_named_service_says_for_itself_whether_it_is_concurrent(monkeypatch):
    agent = MemoryAgent("a", service=f"{__name__}:named_service", in_flight=3)

    assert MemoryUploader(agent).in_flight == 1
    monkeypatch.setattr(NAMED, "concurrent", True)
    assert MemoryUploader(agent).in_flight == 3


def test_live_changes_during_a_rebuild_are_seen_at_once_and_an_exports_are_not(service):
    uploader = service.uploader_type()(SyncAgent("a"))
    uploader.open(Delivery("a", "track", 1, rebuild="new"))
    uploader.exporting = True
    uploader.begin_slice(7)
    uploader.iterate_over([upsert("x"), with_files("y", 7, attached("f", b"one"))])
    uploader.end_slice(None)
    uploader.exporting = False
    uploader.begin_slice(8)
    uploader.iterate_over([upsert("z", 8)])
    uploader.end_slice(8)

    assert set(service.documents) == {"z"}
    assert service.contents == {content_digest(b"one"): b"one"}  # for the new place
    uploader.finish_rebuild()
    assert set(service.documents) == {"x", "y", "z"}
    assert set(service.files) == {"y"}


def test_an_empty_rebuild_leaves_nothing(service, uploader):
    uploader.iterate_over([upsert("x")])
    uploader.end_slice(7)
    rebuilding = service.uploader_type()(SyncAgent("a"))
    rebuilding.open(Delivery("a", "track", 1, rebuild="new"))

    rebuilding.finish_rebuild()

    assert service.documents == {}


def test_a_probe_counts(service, uploader):
    uploader.iterate_over([upsert("x"), Record(Op.DELETE, "y", 7)])
    uploader.end_slice(7)

    assert uploader.probe() == "memory, 1 document"
