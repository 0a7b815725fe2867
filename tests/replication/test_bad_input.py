"""What makes no sense: refused or deferred with a reason, the store as it was, and the session says so."""

from contextlib import closing
from dataclasses import replace

import pytest
import ZODB
from msgspec import structs
from support.school import School
from ZODB.DemoStorage import DemoStorage

from livesync import SyncManager
from livesync.database import committed, connected
from livesync.errors import ClockAhead
from livesync.replication import (
    ConflictStatus,
    HostExecutor,
    Operation,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)
from livesync.replication.metadata.clocks import stamp_of_epoch
from livesync.replication.metadata.states import written
from livesync.replication.models.documents import document_payload
from livesync.replication.models.executor import ChangesExecutor
from livesync.replication.models.model import calculate_item_id

FUTURE = stamp_of_epoch(1_900_000_000)


def state(**changes):
    made = written(None, "bad", "thing", "F1", "1", ("elsewhere", 5))
    return structs.replace(made, **changes)


@pytest.fixture
def ab(new_provider, tools):
    a, b = new_provider("a", max_num=1), new_provider("b", max_num=1, applied_at_once=1)
    tools.put(b, "mine", '"kept"')
    tools.put(a, "1", "1")
    tools.put(a, "2", "2")
    return a, b


def run(a, b):
    """Sync from a to b, in F1 alone."""
    orchestrator = SyncOrchestrator(SyncLock(), [a, b], 3600)
    return orchestrator.synchronize_providers("a", "b", prefixes=("F1",))


def everything(provider):
    store = provider.data_store
    return store.read(lambda: (list(store.items()), store.claims(), provider.conflict_logs()))


def answering(provider, change):
    """Let a sender's chunks be what ``change`` makes of them."""
    read = provider.read
    provider.read = lambda *args, **options: change(read(*args, **options))


def adding(bad):
    return lambda chunk: replace(chunk, states=(bad, *chunk.states))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (adding(state(payload="{no json")), "is no JSON"),
        (adding(state(partition="F2")), "outside the filter"),
        (adding(state(dot=("elsewhere", FUTURE), vector={"elsewhere": FUTURE})), "too far in the future"),
        (adding(state(vector={"b": 1})), "has not seen the write that made it"),
        (lambda chunk: replace(chunk, session_id="0" * 32), "another session"),
    ],
    ids=["no JSON", "outside the filter", "from the future", "impossible clock", "of another session"],
)
def test_a_batch_that_makes_no_sense_fails_the_session_and_changes_nothing(ab, tools, change, reason):
    a, b = ab
    before = everything(b)
    answering(a, change)
    session = run(a, b)

    assert session.status is SyncSessionStatus.FAILED
    assert reason in session.reason
    assert "\n" not in session.reason
    assert everything(b) == before
    (stored,) = b.sessions()
    assert (stored.id, stored.status, stored.reason) == (session.id, SyncSessionStatus.FAILED, session.reason)
    assert (stored.source_provider_id, len(stored.item_changes)) == ("a", 0)
    del a.read
    assert run(a, b).status is SyncSessionStatus.FINISHED
    assert tools.contents(b) == {"mine": '"kept"', "1": "1", "2": "2"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"claims": {"F2": {"elsewhere": 5}}}, "outside the filter"),
        ({"claims": {"F1": {"elsewhere": FUTURE}}}, "too far in the future"),
        ({"collected": {"F1": {"elsewhere": FUTURE}}}, "too far in the future"),
    ],
    ids=["claims outside the filter", "claims from the future", "tombstones from the future"],
)
def test_an_offer_that_makes_no_sense_fails_a_session_that_never_begins(ab, changes, reason):
    a, b = ab
    before = everything(b)
    offer = a.offer
    a.offer = lambda *args: replace(offer(*args), **changes)
    session = run(a, b)

    assert session.status is SyncSessionStatus.FAILED
    assert reason in session.reason
    assert everything(b) == before
    assert [(found.id, found.reason) for found in b.sessions()] == [(session.id, session.reason)]
    assert b.unfinished() == []


def test_a_batch_that_is_missing_leaves_everything_unclaimed(ab):
    a, b = ab
    before = b.get_claims()
    answering(a, lambda chunk: replace(chunk, number=chunk.number + 1))
    session = run(a, b)

    assert session.status is SyncSessionStatus.FAILED
    assert "lacks some of its chunks" in session.reason
    assert b.get_claims() == before
    assert b.sessions()[0].reason == session.reason


def test_batches_out_of_order_and_twice_are_applied_once(ab, tools):
    a, b = ab
    offer = a.offer(("F1",), b.get_claims(("F1",)), "b")
    b.begin(offer)
    first = a.read(offer)
    second = a.read(offer, 1, first.cursor)
    changed = [b.receive(offer, chunk) for chunk in (second, second, first, second, first)]
    session = b.finish(offer)

    assert changed == [1, 0, 1, 0, 0]
    assert session.status is SyncSessionStatus.FINISHED
    assert len(session.item_changes) == 2
    assert tools.contents(b) == {"mine": '"kept"', "1": "1", "2": "2"}


class Things(ChangesExecutor):
    """An application that knows one model."""

    def knows(self, entity_name):
        return entity_name == "thing"


def test_an_item_of_an_unknown_model_is_deferred_with_its_reason_and_the_rest_goes_on(new_provider, tools):
    a, b = new_provider("a"), new_provider("b", changes_executor=Things())
    tools.put(a, "1", "1")
    tools.put(a, "2", "2", entity="alien")
    session = run(a, b)

    assert session.status is SyncSessionStatus.FINISHED
    assert len(session.item_changes) == 2
    (log,) = b.conflict_logs()
    assert log.status is ConflictStatus.DEFERRED
    assert log.reason == "this node has no model 'alien'"
    assert log.item_change_loser.serialization_result.item_id == "2"


def test_a_page_that_claims_the_future_is_refused_as_a_whole(ab):
    a, b = ab
    a.max_num = 10
    batch = a.download_changes(b.get_vector_clock())
    before = everything(b)
    batch.claims = {"": {"elsewhere": FUTURE}}

    with pytest.raises(ClockAhead, match="too far in the future"):
        b.upload_changes(batch)
    assert everything(b) == before


def test_refusals_fill_the_list_of_sessions_no_more_than_sessions_do(ab, clock):
    a, b = ab
    offer = a.offer
    a.offer = lambda *args: replace(offer(*args), claims={"F2": {"elsewhere": 5}})
    for _ in range(205):
        clock.now += 1
        run(a, b)

    assert len(b.sessions()) == 200


@pytest.mark.parametrize(
    "payload",
    [
        '"x"',
        "{}",
        "[]",
        "null",
        '{"id":5}',
        '{"id":"a","document":7}',
        '{"id":"a","document":{"id":"a","partition":"F1"},"exact":"!"}',
    ],
)
def test_a_document_that_is_none_is_deferred_and_the_others_are_applied(payload, new_provider):
    with closing(ZODB.DB(DemoStorage())) as db:
        committed(db, SyncManager.install)
        school = ZODBSyncProvider(
            "school", ZODBDataStore(db), changes_executor=HostExecutor(School()), reader=TrackReader()
        )
        sender = new_provider("sender")
        good = {"id": "good", "partition": "F1", "says": "fine"}
        item_id = calculate_item_id("F1", "good", "document")
        for id_, text in ("bad", payload), (item_id, document_payload("good", good)):
            sender.commit_item_change(Operation.INSERT, "document", id_, text, "F1")

        sessions = SyncOrchestrator(SyncLock(), [sender, school], 3600).run()

        assert [each.reason for each in sessions] == ["", ""]
        (log,) = school.conflict_logs()
        assert log.status is ConflictStatus.DEFERRED
        with connected(db) as root:
            assert {key: dict(found) for key, found in root["records"].items()} == {"good": good}
