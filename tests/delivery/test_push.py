from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from livesync import Op, PushSyncAgent, Record, Verdict
from livesync.delivery import slices
from livesync.delivery.record import Outcome, RunResult, encode_document
from livesync.delivery.simulate import simulate
from livesync.delivery.uploader import RecordUploader, StoredPointer
from livesync.errors import (
    AgentStopped,
    BatchRefused,
    HostFailed,
    LiveSyncError,
    PositionPruned,
    RetryLater,
    ServiceRefuses,
    StateForbids,
    UnknownAgent,
)


def test_what_was_created_changed_and_deleted_arrives(world: Any) -> None:
    for key in "abc":
        world.put(key)
    world.put("a", title="another")
    world.remove("b")

    result = world.run()

    assert world.service.documents == world.expected()
    assert (result.read, result.accepted, result.coalesced, result.cancelled) == (5, 2, 1, 2)
    assert result.till == world.pointer == world.manager.track.sealed


def test_a_second_run_finds_nothing_and_writes_nothing(world: Any) -> None:
    world.put("a")
    world.run()
    size = world.db.storage.getSize()

    result = world.agent.run(world.manager, world.host, now=world.clock)

    assert (result.read, result.accepted) == (0, 0)
    assert world.db.storage.getSize() == size


def test_by_the_wall_clock_a_run_delivers_what_was_committed_just_before_it(world: Any) -> None:
    world.put("a")

    result = world.agent.run(world.manager, world.host)

    assert result.accepted == 1
    assert world.service.documents == world.expected()


def test_the_caller_sees_the_moved_pointer_without_beginning_a_transaction(world: Any) -> None:
    world.put("a")

    result = world.agent.run(world.manager, world.host)

    assert world.manager.track.get_pointer_timestamp("index") == result.till


def test_a_batch_is_rendered_from_a_snapshot_that_is_closed_before_it_is_sent(world: Any) -> None:
    for number in range(25):
        world.put(f"k{number}")
    open_during_upload: list[int] = []

    class Watching(world.service.uploader_type()):  # type: ignore[misc]
        def __init__(self, agent: Any) -> None:
            super().__init__(agent, batch_size=10)

        def _upload_batch(self, batch: Any) -> Any:
            open_during_upload.append(world.host.open_snapshots)
            return super()._upload_batch(batch)

    class Agent(PushSyncAgent):
        uploader = Watching

    before = world.host.snapshots
    agent = Agent("index")
    world.run(agent)

    assert open_during_upload == [0, 0, 0]
    assert world.host.snapshots - before == 3


def test_a_service_that_reads_no_documents_gets_their_json_alone(world: Any) -> None:
    world.put("a")
    world.put("b", title="another")
    world.put("bad", title=float("nan"))
    world.put("\udc80")  # an id that no JSON can hold
    seen: list[tuple[str, Any, Any]] = []

    class Posting(RecordUploader):
        reads_documents = False

        def _upload_batch(self, batch: Any) -> None:
            seen.extend((r.object_id, r.document, body) for r, body in zip(batch, batch.bodies))

    class Agent(PushSyncAgent):
        uploader = Posting

    result = world.run(Agent("index"))

    expected = world.expected()
    assert [(object_id, document) for object_id, document, _ in seen] == [("a", None), ("b", None)]
    assert {object_id: body for object_id, _, body in seen} == {
        object_id: encode_document(expected[object_id]) for object_id in "ab"
    }
    assert (result.accepted, result.dead) == (2, 2)
    assert sorted(record.object_id for record in result.dead_records) == ["bad", "\udc80"]


def test_an_agent_that_sends_its_own_way_gets_documents_whatever_its_service_reads(world: Any) -> None:
    world.put("a")
    seen: list[Record] = []

    class Posting(RecordUploader):
        reads_documents = False

        def _upload_batch(self, batch: Any) -> None:
            seen.extend(batch)

    class Agent(PushSyncAgent):
        uploader = Posting

        def _run(self, records: Iterable[Record], uploader: RecordUploader) -> RunResult:
            return super()._run(records, uploader)

    world.run(Agent("index"))

    assert [record.document for record in seen] == [world.expected()["a"]]


def test_the_document_is_rendered_after_the_slice_was_read(world: Any) -> None:
    world.put("a", title="old")

    class Late(PushSyncAgent):
        uploader = world.service.uploader_type()

        def _generate_records(self, data: Any, last_ts: int) -> Iterator[Record]:
            records = list(super()._generate_records(data, last_ts))
            world.put("a", title="new")
            yield from records

    world.run(Late("index"))

    assert world.service.documents["a"]["title"] == "new"


def test_included_to_excluded_is_a_delete_and_back_an_upsert(world: Any) -> None:
    world.put("a")
    world.run()

    world.put("a", "set_private", private=True)
    hidden = world.run()
    after_hiding = world.service.documents
    world.put("a", "set_public", private=False)
    world.run()

    assert after_hiding == {}
    assert (hidden.accepted, hidden.excluded) == (1, 0)  # a delete counts by its verdict
    assert world.service.documents == world.expected() != {}


def test_a_container_takes_everything_inside_along(world: Any) -> None:
    world.put("box")
    for number in range(7):
        world.put(f"in{number}", parent="box")
    world.put("inner", parent="box")
    world.put("deep", parent="inner")
    world.run()

    world.put("box", "set_private", private=True)
    hidden = world.run()
    after_hiding = world.service.documents
    world.put("box", "set_public", private=False)
    world.run()

    assert after_hiding == {}
    assert hidden.cascaded == 9
    assert hidden.read + hidden.cascaded == hidden.accepted + hidden.coalesced + hidden.cancelled
    assert world.service.documents == world.expected()
    assert len(world.service.documents) == 10


def test_a_cascade_goes_out_in_slices_of_its_own(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SIZE", 4)
    world.put("box")
    for number in range(10):
        world.put(f"in{number}", parent="box")
    world.run()
    world.service.batches.clear()

    world.put("box", "moved")
    world.run()

    assert [len(batch) for batch in world.service.batches] == [1, 4, 4, 2]


def test_each_audience_gets_what_it_may_see(world: Any) -> None:
    from livesync.destinations.memory import MemoryService

    staff_service = MemoryService()

    class Staff(PushSyncAgent):
        uploader = staff_service.uploader_type()

    world.manager.register_agent(Staff("staff", audience="staff"))
    world.manager.activate("staff", from_start=True)
    world.put("a")
    world.put("b", private=True)

    world.run()
    world.run(Staff("staff", audience="staff"))

    assert set(world.service.documents) == {"a"}
    assert staff_service.documents == world.expected("staff")
    assert set(staff_service.documents) == {"a", "b"}


def only_even(host: Any, obj: Any) -> bool:
    return int(obj["id"]) % 2 == 0


def test_what_the_only_function_turns_down_is_excluded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: only_even)
    for number in range(4):
        world.put(str(number))

    result = world.run(world.agent_type("index", only="a:b"))

    assert set(world.service.documents) == {"0", "2"}
    assert result.accepted == 4


@pytest.mark.parametrize("broken", ["no document", "raises"])
def test_a_record_without_a_document_is_set_aside_and_the_others_go_on(world: Any, broken: str) -> None:
    world.put("a")
    world.put("b", broken=broken)
    world.put("c")

    result = world.run()

    assert set(world.service.documents) == {"a", "c"}
    assert result.dead == 1
    letter = world.stored.dead["b"]
    assert ("blank" if broken == "no document" else "by nought") in letter["reason"]
    assert letter["attempts"] == 1
    assert world.pointer == result.till


def test_a_document_that_cannot_be_encoded_is_set_aside(world: Any) -> None:
    world.put("a", extra={1, 2})
    world.put("b")

    world.run()

    assert set(world.service.documents) == {"b"}
    assert "set" in world.stored.dead["a"]["reason"]


def test_an_object_that_is_delivered_well_clears_its_dead_letter(world: Any) -> None:
    world.put("a", broken="raises")
    world.run()
    world.put("a", broken="raises")
    world.run()
    attempts = world.stored.dead["a"]["attempts"]

    world.put("a", broken=None)
    world.run()

    assert attempts == 2
    assert dict(world.stored.dead) == {}
    assert world.service.documents == world.expected()


def test_pointer_is_not_moved_when_delivery_fails_and_the_next_run_mends_it(world: Any) -> None:
    world.put("a")
    world.service.answer_next(RetryLater(reason="down", after_s=0))
    agent = world.agent_type("index")
    agent_uploader = world.service.uploader_type()
    agent_type = type("Once", (PushSyncAgent,), {"uploader": lambda a: agent_uploader(a, max_attempts=1)})

    with pytest.raises(RetryLater):
        world.run(agent_type("index"))
    failed = (world.pointer, world.stored.last_run["error"], world.stored.state)
    world.run(agent)

    assert failed[0] is None
    assert "down" in failed[1]
    assert failed[2] == "active"
    assert world.service.documents == world.expected()
    assert "error" not in world.stored.last_run


def test_a_record_sent_before_a_crash_is_deleted_though_its_object_came_and_went(
    world: Any,
) -> None:
    world.put("a")

    class Crash(BaseException):
        pass

    class SendsThenCrashes(world.service.uploader_type()):  # type: ignore[misc]
        def end_slice(self, position: int | None) -> None:
            super().end_slice(None)  # the rows are there, the acknowledgement is not
            raise Crash

    class Agent(PushSyncAgent):
        uploader = SendsThenCrashes

    with pytest.raises(Crash):
        world.run(Agent("index"))
    assert set(world.service.documents) == {"a"}

    world.remove("a")
    world.run()

    assert world.service.documents == {}


def test_a_service_that_refuses_us_stops_the_agent_and_a_whole_run_starts_it_again(world: Any) -> None:
    world.put("a")
    world.service.answer_next(ServiceRefuses("who are you?"))

    with pytest.raises(ServiceRefuses):
        world.run()
    stopped = (world.stored.state, world.stored.reason, world.pointer, dict(world.stored.dead))
    world.run()

    assert stopped == ("stopped", "service_refuses", None, {})
    assert world.stored.state == "active"
    assert world.service.documents == world.expected()


def test_a_poison_record_becomes_a_dead_letter_and_the_rest_of_its_batch_is_delivered(world: Any) -> None:
    for number in range(9):
        world.put(str(number))

    def refuse_five(batch: Any) -> None:
        if any(record.object_id == "5" for record in batch):
            world.service.script.appendleft(refuse_five)
            raise BatchRefused("five is right out")
        world.service.script.appendleft(refuse_five)
        return [Verdict(record.object_id, Outcome.ACCEPTED) for record in batch]  # type: ignore[return-value]

    world.service.answer_next(refuse_five)
    result = world.run()

    assert set(world.service.documents) == set("01234678")
    assert result.dead == 1
    assert world.stored.dead["5"]["reason"] == "five is right out"


def test_a_host_that_raises_fails_the_run_and_leaves_the_pointer(world: Any) -> None:
    world.put("explosive")

    with pytest.raises(HostFailed, match="explosive"):
        world.run()

    assert world.pointer is None
    assert world.stored.state == "active"


def test_a_position_larger_than_a_slice_is_read_in_parts(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SIZE", 4)
    for number in range(10):
        world.things[str(number)] = {"id": str(number), "title": "t"}
    world.manager.record_changes([(str(number), frozenset({"created"})) for number in range(10)], "", "")
    world.tm.commit()
    offsets: list[tuple[int | None, int]] = []

    class Watching(world.service.uploader_type()):  # type: ignore[misc]
        def begin_slice(self, till: int) -> None:
            track = world.db.open().root()["livesync"].track
            offsets.append((track.get_pointer_timestamp("index"), track.pointer_offset("index")))
            super().begin_slice(till)

    class Agent(PushSyncAgent):
        uploader = Watching

    result = world.run(Agent("index"))

    assert offsets == [(None, 0), (None, 4), (None, 8)]
    assert result.accepted == 10
    assert (world.pointer, world.manager.track.pointer_offset("index")) == (world.manager.track.sealed, 0)


def test_slices_end_at_positions_and_are_acknowledged_singly(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_SIZE", 3)
    for position in range(1, 6):
        for part in range(2):
            key = f"{position}.{part}"
            world.things[key] = {"id": key, "title": "t"}
            world.manager.track.add(position, _action(key))
    world.manager.track.seal(5)
    world.tm.commit()
    tills: list[int] = []

    class Watching(world.service.uploader_type()):  # type: ignore[misc]
        def end_slice(self, position: int | None) -> None:
            tills.append(position)  # type: ignore[arg-type]
            super().end_slice(position)

    class Agent(PushSyncAgent):
        uploader = Watching

    Agent("index").run(world.manager, world.host, now=0)

    assert tills == [1, 2, 3, 4, 5]


def _action(key: str) -> Any:
    from livesync import ActionWrapper

    return ActionWrapper(1.0, key, {"created"})


def test_stop_ends_a_run_between_slices_and_the_next_goes_on(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    for position in range(1, 4):
        world.things[str(position)] = {"id": str(position), "title": "t"}
        world.manager.track.add(position, _action(str(position)))
    world.manager.track.seal(3)
    world.tm.commit()

    first = world.agent.run(world.manager, world.host, now=0, stop=lambda: len(world.service.batches) >= 1)
    second = world.agent.run(world.manager, world.host, now=0)

    assert (first.accepted, first.till) == (1, 1)
    assert (second.accepted, second.till) == (2, 3)


def test_a_rewound_agent_sends_again_with_positions_that_its_destination_takes(world: Any) -> None:
    world.put("a", title="1")
    world.run()
    world.put("a", title="2")
    world.run()
    sealed = world.manager.track.sealed
    world.manager.pause("index")
    world.manager.rewind("index", None)
    world.manager.activate("index")
    world.tm.commit()

    result = world.run()

    assert result.accepted == 1
    assert result.stale == 0
    assert world.service.positions["a"] >= sealed
    assert world.stored.catching_up_to == -1


def test_a_lost_acknowledgement_is_learned_from_the_destination(world: Any) -> None:
    world.put("a")
    world.run()
    moved_to = world.pointer
    world.manager.track.move_pointer("index", None)
    world.tm.commit()
    world.service.batches.clear()

    world.run()

    assert world.service.batches == []
    assert world.pointer == moved_to


def test_a_destination_restored_from_a_copy_is_caught_up(world: Any) -> None:
    world.put("a")
    world.run()
    pointer, rows = dict(world.service.pointers), dict(world.service._rows)
    world.put("b")
    world.run()
    world.service.pointers, world.service._rows = pointer, rows

    world.run()

    assert world.service.documents == world.expected()


def test_an_emptied_destination_stops_the_agent_and_its_pointer_stays(world: Any) -> None:
    world.put("a")
    world.run()
    before = world.pointer
    world.service.pointers.clear()
    world.put("b")

    with pytest.raises(AgentStopped, match="destination_differs"):
        world.run()

    assert world.pointer == before
    assert (world.stored.state, world.stored.reason) == ("stopped", "destination_differs")


def test_a_destination_of_another_track_stops_the_agent(world: Any) -> None:
    world.service.pointers["index"] = StoredPointer(1, "another", 1)
    world.put("a")

    with pytest.raises(AgentStopped, match="another track"):
        world.run()

    assert world.service.documents == {}


def test_what_was_pruned_before_it_was_delivered_needs_an_export(world: Any) -> None:
    world.put("a")
    world.manager.collect(now=world.clock * 10)
    world.manager.track.prune(leave_behind=True)
    world.tm.commit()

    with pytest.raises(PositionPruned):
        world.run()

    assert (world.stored.state, world.stored.reason) == ("stopped", "needs_export")
    with pytest.raises(StateForbids, match="export"):
        world.run()


@pytest.mark.parametrize("state", ["new", "recording", "paused"])
def test_an_agent_in_another_state_does_not_run_and_is_told_the_way_on(world: Any, state: str) -> None:
    world.manager.stored("index").state = state
    world.tm.commit()

    with pytest.raises(StateForbids, match="livesync agent"):
        world.run()


def test_an_agent_that_is_not_registered_does_not_run(world: Any) -> None:
    with pytest.raises(UnknownAgent):
        world.run(world.agent_type("stranger"))


def test_an_agent_without_an_uploader_can_be_queried_but_not_run(world: Any) -> None:
    world.manager.register_agent(PushSyncAgent("bare"))
    world.manager.activate("bare", from_start=True)
    world.put("a")
    world.manager.collect(now=world.clock * 10)
    world.tm.commit()

    assert [action.object_id for _, action in world.manager.query("bare")] == ["a"]
    with pytest.raises(LiveSyncError, match="names no uploader"):
        world.run(PushSyncAgent("bare"))


def test_records_and_runs_of_an_agents_own_are_used(world: Any) -> None:
    world.put("a")
    world.put("b")

    class Own(PushSyncAgent):
        uploader = world.service.uploader_type()

        def _generate_records(self, data: Any, last_ts: int) -> Iterator[Record]:
            for _, action in data:
                yield Record(Op.UPSERT, action.object_id.upper(), last_ts, document={"own": True})

        def _run(self, records: Iterable[Record], uploader: RecordUploader) -> RunResult:
            return super()._run((r for r in records if r.object_id != "B"), uploader)

    world.run(Own("index"))

    assert world.service.documents == {"A": {"own": True}}


def test_simulate_yields_what_a_run_would_send_and_changes_nothing(world: Any) -> None:
    world.put("a")
    world.put("b", private=True)
    world.put("box")
    world.put("in", parent="box")
    world.run()
    world.put("a", title="new")
    world.put("box", "moved")
    # an agent is made anew from what is stored, so the type must be one that can be imported
    world.manager.stored("index").type_name = "livesync.delivery.push:PushSyncAgent"
    world.tm.commit()
    size = world.db.storage.getSize()

    records = list(simulate(world.manager, "index", world.host, now=world.clock * 2))

    assert [(r.op, r.object_id) for r in records] == [(Op.UPSERT, "a"), (Op.UPSERT, "box"), (Op.UPSERT, "in")]
    assert records[0].document == {"title": "new", "extra": None}
    assert world.db.storage.getSize() == size


def test_a_failing_run_with_a_conflict_is_tried_again(world: Any) -> None:
    """Another runner moves another agent's pointer while this one acknowledges."""
    other = world.agent_type("other")
    world.manager.register_agent(other)
    world.manager.activate("other", from_start=True)
    world.put("a")
    seen: list[int] = []

    class Interrupted(world.service.uploader_type()):  # type: ignore[misc]
        def end_slice(self, position: int | None) -> None:
            super().end_slice(position)
            if not seen:
                seen.append(1)
                world.run(other)

    class Agent(PushSyncAgent):
        uploader = Interrupted

    world.run(Agent("index"))

    assert world.pointer == world.manager.track.get_pointer_timestamp("other") == world.manager.track.sealed
