import pytest

from livesync.agent import SyncAgent
from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Outcome, Record, Verdict
from livesync.delivery.uploader import Delivery
from livesync.destinations.memory import MemoryAgent, MemoryService, MemoryUploader
from livesync.errors import BatchRefused, OptionError, RetryLater

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
