"""Sending a part of what exists, and copying it to another place."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from livesync import PushSyncAgent, Record, leases
from livesync.agent import SyncAgent
from livesync.delivery import ledger
from livesync.delivery.uploader import DELIVERY_OPTIONS
from livesync.destinations.memory import MemoryService
from livesync.errors import (
    AgentStopped,
    HostFailed,
    Leased,
    LeaseLost,
    RetryLater,
    ServiceRefuses,
    StateForbids,
    UnknownAgent,
    UnknownObject,
    UsageError,
)
from livesync.upkeep import export as exporting
from livesync.upkeep import sending
from livesync.upkeep.export import export
from livesync.upkeep.sending import copy_to, ids_of_file, ids_under, send_some

# An agent is made anew from what is stored, so its type must be one that can be imported.
SERVICE = MemoryService()


class SomeAgent(PushSyncAgent):
    options = DELIVERY_OPTIONS
    uploader = SERVICE.uploader_type()


class Killed(BaseException):
    """Stands for the end of the process: nothing of livesync may catch it."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, SomeAgent.__module__, sys.modules[__name__])


@pytest.fixture
def service(world: Any) -> MemoryService:
    SERVICE.__init__()  # type: ignore[misc]
    world.manager.register_agent(SomeAgent("some"))
    world.manager.activate("some", from_start=True)
    world.tm.commit()
    return SERVICE


def send(world: Any, ids: Any, **settings: Any) -> Any:
    world.clock += 10_000_000_000
    try:
        return send_some(world.manager, "some", world.host, ids, now=world.clock, **settings)
    finally:
        world.tm.begin()


def run(world: Any) -> Any:
    return world.run(SomeAgent("some"))


def stored(world: Any) -> Any:
    world.tm.begin()
    return world.manager.stored("some")


def silently(world: Any, **titles: str | None) -> None:
    """Change or remove things without telling anybody."""
    for key, title in titles.items():
        if title is None:
            del world.things[key]
        else:
            world.things[key]["title"] = title
    world.tm.commit()


def sent_ids(service: MemoryService) -> list[str]:
    return [record.object_id for batch in service.batches for record in batch]


# some


def test_what_is_named_is_sent_as_it_is_now_and_nothing_else(world: Any, service: MemoryService) -> None:
    for key in "abcd":
        world.put(key)
    run(world)
    silently(world, a="new", b=None, c="new")
    service.batches.clear()

    result = send(world, ["a", "b", "stranger"])

    assert sent_ids(service) == ["a", "b", "stranger"]
    assert service.documents["a"]["title"] == "new"
    assert service.documents["c"]["title"] == "c"
    assert set(service.documents) == set("acd")
    assert (result.read, result.accepted, result.balance()) == (3, 3, 0)


def test_the_agent_stays_as_it_is_and_its_pointer_where_it_is(world: Any, service: MemoryService) -> None:
    world.put("a")
    run(world)
    world.put("b")
    before = (stored(world).state, world.manager.track.get_pointer_timestamp("some"), stored(world).last_run)
    kept = service.pointers["some"]

    send(world, ["a"])

    assert before == (
        stored(world).state, world.manager.track.get_pointer_timestamp("some"), stored(world).last_run,
    )  # fmt: skip
    assert service.pointers["some"] == kept
    run(world)
    assert service.documents == world.expected()


def test_what_is_sent_carries_the_last_sealed_position_so_it_is_never_older_than_what_is_there(
    world: Any, service: MemoryService
) -> None:
    world.put("a")
    world.put("b")
    run(world)
    world.put("b", title="new")

    send(world, ["a", "b"])

    assert service.positions == {"a": world.manager.track.sealed, "b": world.manager.track.sealed}
    result = run(world)  # the change itself comes after it, and is not newer
    assert service.documents == world.expected()
    assert result.accepted == 1


@pytest.mark.parametrize("kind", ["export", "repair", "retry"])
def test_the_ledger_has_a_line_of_its_kind(world: Any, service: MemoryService, kind: str) -> None:
    world.put("a")
    run(world)

    send(world, ["a"], kind=kind)

    entry = ledger.entries(stored(world))[0]
    assert (entry["kind"], entry["read"], entry["accepted"]) == (kind, 1, 1)
    assert entry["ended"] is not None
    assert ledger.balance(entry) == 0
    assert stored(world).totals["read"] == 2


def test_ids_are_read_once_in_chunks_with_no_snapshot_open(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_SIZE", 2)
    for key in "abcde":
        world.put(key)
    run(world)
    service.batches.clear()
    open_snapshots: list[int] = []
    done: list[int] = []

    def ids() -> Any:
        for key in "abcde":
            open_snapshots.append(world.host.open_snapshots)
            yield key

    send(world, ids(), progress=done.append)

    assert open_snapshots == [0] * 5
    assert [len(batch) for batch in service.batches] == [2, 2, 1]
    assert done == [2, 4, 5]


def test_an_id_that_comes_twice_in_a_chunk_is_sent_once(world: Any, service: MemoryService) -> None:
    result = send(world, ["a", "b", "a"])

    assert sent_ids(service) == ["a", "b"]
    assert (result.read, result.balance()) == (2, 0)


def test_no_ids_send_nothing(world: Any, service: MemoryService) -> None:
    result = send(world, [])

    assert (result.read, service.batches) == (0, [])
    assert stored(world).lease.holder is None


def test_a_stop_ends_it_between_chunks(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_SIZE", 2)

    result = send(world, "abcde", stop=lambda: len(service.batches) == 1)

    assert result.read == 2
    assert ledger.entries(stored(world))[0]["ended"] is not None


def test_what_failed_is_sent_again_and_its_dead_letter_cleared(world: Any, service: MemoryService) -> None:
    for key in "abc":
        world.put(key, broken="raises" if key < "c" else None)
    run(world)
    dead = sorted(stored(world).dead)
    world.things["a"]["broken"] = None
    world.tm.commit()

    result = send(world, dead, kind="retry")

    assert dead == ["a", "b"]
    assert (result.read, result.accepted, result.dead) == (2, 1, 1)
    assert list(stored(world).dead) == ["b"]
    letter = stored(world).dead["b"]
    assert letter["attempts"] == 2
    assert letter["first_time"] < letter["time"]
    assert "a" in service.documents


def test_what_is_below_an_object_and_itself(world: Any, service: MemoryService) -> None:
    world.put("box")
    world.put("in1", parent="box")
    world.put("inner", parent="box")
    world.put("in2", parent="inner")
    world.put("beside")
    run(world)
    silently(world, box="new", in2="new", beside="new")

    ids = ids_under(world.manager, world.host, "box")
    try:
        result = send(world, ids)
    finally:
        ids.close()

    assert sorted(ids_sent := sent_ids(service)[-4:]) == ["box", "in1", "in2", "inner"]
    assert len(ids_sent) == result.read == 4
    assert service.documents["beside"]["title"] == "beside"
    assert service.documents["in2"]["title"] == "new"


def test_what_is_below_nothing_is_a_mistake(world: Any, service: MemoryService) -> None:
    with pytest.raises(UnknownObject, match="no object 'nothing' now"):
        ids_under(world.manager, world.host, "nothing")


def test_a_host_that_raises_while_it_is_asked_what_is_below_is_named(
    world: Any, service: MemoryService
) -> None:
    world.put("explosive")

    with pytest.raises(HostFailed, match="look up 'explosive'"):
        ids_under(world.manager, world.host, "explosive")


def test_ids_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text('one\r\n\n"two\\n\\u00e9"\n  three \n"a \\"quoted\\" one"\nfour', encoding="utf-8")

    assert list(ids_of_file(str(path))) == ["one", "two\né", "  three ", 'a "quoted" one', "four"]


@pytest.mark.parametrize("content", [b'"not closed\n', b"\xff\xfe\n", None])
def test_a_file_that_holds_no_ids_is_told_by_its_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=r"ids\.txt cannot be read"):
        list(ids_of_file(str(path)))


def test_ids_that_cannot_be_read_to_the_end_fail_it_and_what_was_sent_is_noted(
    world: Any, service: MemoryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_SIZE", 1)
    path = tmp_path / "ids.txt"
    path.write_text('a\n"b\n')

    with pytest.raises(UsageError):
        send(world, ids_of_file(str(path)))

    entry = ledger.entries(stored(world))[0]
    assert (entry["read"], "cannot be read" in entry["error"]) == (1, True)
    assert stored(world).lease.holder is None


# what was shown too early


@pytest.mark.parametrize("how", ["ended", "failed", "killed"])
def test_an_object_that_was_sent_before_its_creation_is_deleted_though_it_came_and_went(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The run that comes later finds its creation and its deletion in one slice."""
    monkeypatch.setattr(sending, "CHUNK_SIZE", 1)
    world.put("a")
    ids: Any = ["a"]
    if how == "failed":
        ids = ["a", "a"]
        service.answer_next(lambda batch: None, RetryLater())
        stored(world).options = {"max_attempts": 1}
        world.tm.commit()
        with pytest.raises(RetryLater):
            send(world, ids)
    elif how == "killed":

        class Dying(SERVICE.uploader_type()):  # type: ignore[misc]
            def end_slice(self, position: int | None) -> None:
                super().end_slice(position)
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(SomeAgent, "uploader", Dying)
            with pytest.raises(Killed):
                send(world, ids)
    else:
        send(world, ids)
    assert set(service.documents) == {"a"}
    world.remove("a")

    run(world)

    assert service.documents == {}


def test_later_comings_and_goings_are_left_out_again(world: Any, service: MemoryService) -> None:
    world.put("a")
    send(world, ["a"])
    world.put("b")
    world.remove("b")

    result = run(world)

    assert result.cancelled == 2
    assert stored(world).shown < math.inf


def test_after_one_that_was_killed_a_run_finds_out_what_may_have_been_shown(
    world: Any, service: MemoryService
) -> None:
    world.put("a")
    run(world)
    world.change(lambda manager: setattr(manager.stored("some"), "shown", math.inf))
    world.put("b")
    world.remove("b")
    first = run(world)
    world.put("c")
    world.remove("c")
    second = run(world)

    assert (first.cancelled, second.cancelled) == (0, 2)


# what forbids it


def test_a_new_agent_is_sent_everything_first(world: Any, service: MemoryService) -> None:
    world.manager.register_agent(SomeAgent("fresh"))
    world.tm.commit()

    with pytest.raises(StateForbids, match="is new: send it everything first: livesync agent export fresh"):
        send_some(world.manager, "fresh", world.host, ["a"])


def test_so_is_one_whose_export_is_not_finished(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a")
    export(world.manager, "some", world.host, stop=lambda: True)

    with pytest.raises(StateForbids, match="is recording: send it everything first"):
        send(world, ["a"])


@pytest.mark.parametrize("reason", ["needs_export", "destination_differs"])
def test_so_is_one_that_lacks_everything(world: Any, service: MemoryService, reason: str) -> None:
    from livesync.agent import StopReason

    world.manager.stop_agent("some", StopReason(reason))
    world.tm.commit()

    with pytest.raises(StateForbids, match=rf"is stopped \({reason}\): send it everything first"):
        send(world, ["a"])
    assert service.batches == []


def test_a_stopped_agent_is_sent_what_is_named_and_stays_stopped(world: Any, service: MemoryService) -> None:
    from livesync.agent import StopReason

    world.put("a")
    run(world)
    world.manager.stop_agent("some", StopReason.FAILING)
    world.tm.commit()
    silently(world, a="new")

    send(world, ["a"])

    assert service.documents["a"]["title"] == "new"
    assert stored(world).state == "stopped"


def test_a_paused_agent_is_sent_nothing(world: Any, service: MemoryService) -> None:
    world.manager.pause("some")
    world.tm.commit()

    with pytest.raises(StateForbids, match="is paused; run first: livesync agent activate some"):
        send(world, ["a"])


@pytest.mark.parametrize("how", ["paused", "needs_export"])
def test_one_that_is_paused_or_lacks_everything_meanwhile_is_sent_no_more(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from livesync.agent import StopReason

    monkeypatch.setattr(sending, "CHUNK_SIZE", 2)

    def meanwhile(done: int) -> None:
        if done == 2 and how == "paused":
            world.change(lambda manager: manager.pause("some"))
        elif done == 2:
            world.change(lambda manager: manager.stop_agent("some", StopReason.NEEDS_EXPORT))

    with pytest.raises(StateForbids, match="meanwhile: the rest is not sent"):
        send(world, "abcdef", progress=meanwhile)

    assert sent_ids(service) == list("abcd")
    assert how in (stored(world).state, stored(world).reason)
    assert stored(world).lease.holder is None
    assert ledger.entries(stored(world))[0]["read"] == 4


def test_neither_is_one_that_somebody_holds(world: Any, service: MemoryService) -> None:
    process = ("elsewhere", 1, 1)
    world.change(
        lambda manager: leases.take("some", manager.stored("some").lease, process, "run", time.time(), 1000.0)
    )

    with pytest.raises(Leased):
        send(world, ["a"])
    assert stored(world).shown == 0.0


def test_nor_one_that_is_not_there_or_pushes_nothing(world: Any, service: MemoryService) -> None:
    world.manager.register_agent(SyncAgent("reader"))
    world.manager.activate("reader", from_start=True)
    world.tm.commit()

    with pytest.raises(UnknownAgent):
        send_some(world.manager, "stranger", world.host, ["a"])
    with pytest.raises(StateForbids, match="none that pushes"):
        send_some(world.manager, "reader", world.host, ["a"])


def test_a_service_that_refuses_stops_the_agent(world: Any, service: MemoryService) -> None:
    service.answer_next(ServiceRefuses("no rights"))

    with pytest.raises(ServiceRefuses):
        send(world, ["a"])

    assert (stored(world).state, stored(world).reason) == ("stopped", "service_refuses")
    assert stored(world).last_run["error"] == "no rights"


def test_one_that_loses_its_lease_notes_nothing(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", broken="raises")
    run(world)
    world.things["a"]["broken"] = None
    world.tm.commit()
    process = ("elsewhere", 1, 1)

    def take(manager: Any) -> None:
        lease = manager.stored("some").lease
        lease.until = 0.0
        leases.take("some", lease, process, "run", time.time(), 1000.0)

    class Overtaken(SERVICE.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.change(take)
            return super()._upload_batch(batch)

    monkeypatch.setattr(SomeAgent, "uploader", Overtaken)
    with pytest.raises(LeaseLost):
        send(world, ["a"])

    assert list(stored(world).dead) == ["a"]
    assert service.documents == {}
    assert stored(world).lease.holder[:3] == process


# to another place


class Place:
    """Another place than the agent's service."""

    def __init__(self) -> None:
        self.service = MemoryService()

    def uploader(self, agent_id: str = "some", **options: Any) -> Any:
        return self.service.uploader_type()(SomeAgent(agent_id, **options))


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_copy_is_what_the_agent_would_hold(
    world: Any, service: MemoryService, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    for key in "abcde":
        world.put(key)
    world.put("hidden", private=True)
    world.put("broken", broken="raises")
    done: list[int] = []
    size = world.db.storage.getSize()

    result = copy_to(world.manager, "some", world.host, place.uploader(), progress=done.append)

    assert set(place.service.documents) == set("abcde")
    assert (result.read, result.accepted, result.dead, result.balance()) == (7, 6, 1, 0)
    assert done == [2, 4, 6, 7]
    assert world.db.storage.getSize() == size
    assert service.batches == []


def test_a_copy_may_be_of_some(world: Any, service: MemoryService, place: Place) -> None:
    for key in "abc":
        world.put(key)

    result = copy_to(world.manager, "some", world.host, place.uploader(), ["c", "a", "c", "stranger"])

    assert set(place.service.documents) == {"a", "c"}
    assert (result.read, result.balance()) == (3, 0)


def test_a_copy_is_made_with_the_agents_transform(
    world: Any, service: MemoryService, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep_b_back(record: Record) -> Record | None:
        return None if record.object_id == "b" else record

    monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: keep_b_back)
    stored(world).options = {"transform": "some:function"}
    world.tm.commit()
    for key in "abc":
        world.put(key)

    result = copy_to(world.manager, "some", world.host, place.uploader())

    assert set(place.service.documents) == {"a", "c"}
    assert (result.excluded, result.balance()) == (1, 0)


@pytest.mark.parametrize("state", ["new", "paused", "held", "stopped"])
def test_an_agent_in_any_state_can_be_copied(
    world: Any, service: MemoryService, place: Place, state: str
) -> None:
    from livesync.agent import StopReason

    world.put("a")
    if state == "new":
        world.manager.register_agent(SomeAgent("fresh"))
    elif state == "paused":
        world.manager.pause("some")
    elif state == "held":
        leases.take("some", stored(world).lease, ("elsewhere", 1, 1), "run", time.time(), 1000.0)
    else:
        world.manager.stop_agent("some", StopReason.NEEDS_EXPORT)
    world.tm.commit()
    agent_id = "fresh" if state == "new" else "some"

    copy_to(world.manager, agent_id, world.host, place.uploader(agent_id))

    assert set(place.service.documents) == {"a"}


def test_a_copy_that_fails_closes_the_place_and_leaves_the_agent_alone(
    world: Any, service: MemoryService, place: Place
) -> None:
    closed: list[int] = []
    world.put("a")
    place.service.answer_next(ServiceRefuses("the disk is full"))
    uploader = place.uploader()
    uploader.close = lambda: closed.append(1)

    with pytest.raises(ServiceRefuses):
        copy_to(world.manager, "some", world.host, uploader)

    assert closed == [1]
    assert place.service.documents == {}
    assert (stored(world).state, stored(world).last_run) == ("active", None)


def test_a_copy_can_be_stopped_between_chunks(
    world: Any, service: MemoryService, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    for key in "abcde":
        world.put(key)

    result = copy_to(
        world.manager, "some", world.host, place.uploader(), stop=lambda: len(place.service.batches) == 1
    )

    assert result.read == 2
    assert set(place.service.documents) == {"a", "b"}


def test_a_copy_is_refused_for_an_agent_that_is_not_there(world: Any, place: Place) -> None:
    with pytest.raises(UnknownAgent):
        copy_to(world.manager, "stranger", world.host, place.uploader())


# a place that keeps pointers


def test_sending_some_leaves_a_destination_that_has_lost_its_pointer_without_one(
    world: Any, service: MemoryService
) -> None:
    """So that the next run finds out."""
    world.put("a")
    run(world)
    del service.pointers["some"]

    send(world, ["a"])

    assert service.pointers == {}
    with pytest.raises(AgentStopped, match="destination_differs"):
        run(world)
