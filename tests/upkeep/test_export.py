from __future__ import annotations

from typing import Any

import pytest

from livesync import PushSyncAgent
from livesync.destinations.memory import MemoryService
from livesync.errors import HostFailed, ServiceRefuses, StateForbids
from livesync.upkeep import export as exporting
from livesync.upkeep.export import ExportProgress, export

# An agent is made anew from what is stored, so its type must be one that can be imported.
SERVICE = MemoryService()


class BackfillAgent(PushSyncAgent):
    uploader = SERVICE.uploader_type()


@pytest.fixture
def service(world: Any) -> MemoryService:
    SERVICE.__init__()  # type: ignore[misc]
    world.manager.register_agent(BackfillAgent("new"))
    world.tm.commit()
    return SERVICE


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, BackfillAgent.__module__, sys.modules[__name__])


def run_export(world: Any, **kwargs: Any) -> Any:
    world.clock += 10_000_000_000
    try:
        return export(world.manager, "new", world.host, now=world.clock, **kwargs)
    finally:
        world.tm.begin()


def test_everything_visible_is_sent_and_the_agent_goes_live(world: Any, service: MemoryService) -> None:
    for key in "abc":
        world.put(key)
    world.put("hidden", private=True)

    result = run_export(world)

    assert service.documents == world.expected()
    assert (result.read, result.accepted) == (4, 4)
    assert world.manager.stored("new").state == "active"


def test_what_changes_during_an_export_is_delivered_afterwards(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    for key in "abcdef":
        world.put(key)

    def meddle(progress: ExportProgress) -> None:
        if progress.done == 2:
            world.put("a", title="changed")
            world.remove("b")
            world.remove("f")
            world.put("g")

    run_export(world, progress=meddle)
    world.run(BackfillAgent("new"))

    assert service.documents == world.expected()
    assert service.documents["a"]["title"] == "changed"


def test_an_object_that_an_export_sent_is_deleted_though_it_came_and_went_within_a_slice(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 1)
    world.put("a")

    def meddle(progress: ExportProgress) -> None:
        if progress.done == 1:
            world.put("b")  # created after the pointer was placed, and sent by the export

    run_export(world, progress=meddle)
    assert "b" in service.documents
    world.remove("b")
    world.run(BackfillAgent("new"))

    assert service.documents == world.expected()


def test_an_export_that_broke_off_goes_on_where_it_stood(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    for key in "abcde":
        world.put(key)
    stops = iter([False, True])

    run_export(world, stop=lambda: next(stops))
    broken_off = (world.manager.stored("new").state, sorted(service.documents))
    seen: list[int] = []
    run_export(world, progress=lambda progress: seen.append(progress.done))

    assert broken_off == ("recording", ["a", "b"])
    assert seen == [4, 5]
    assert service.documents == world.expected()


def test_while_an_export_is_broken_off_the_agent_does_not_run(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a")
    run_export(world, stop=lambda: True)

    with pytest.raises(StateForbids, match="finish its export"):
        world.run(BackfillAgent("new"))
    with pytest.raises(StateForbids, match="unfinished export"):
        world.manager.activate("new")


def test_an_export_removes_what_the_host_no_longer_has(world: Any, service: MemoryService) -> None:
    world.put("a")
    world.put("orphan")
    run_export(world)
    del world.things["orphan"]  # without telling anybody
    world.put("a", title="new")

    run_export(world)

    assert service.documents == world.expected()
    assert set(service.documents) == {"a"}


def test_progress_counts_up_to_the_number_of_objects(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    for key in "abcde":
        world.put(key)
    seen: list[tuple[int, int]] = []

    run_export(world, progress=lambda progress: seen.append((progress.done, progress.total)))

    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_a_service_that_refuses_leaves_the_export_to_be_resumed(world: Any, service: MemoryService) -> None:
    world.put("a")
    service.answer_next(ServiceRefuses("no"))

    with pytest.raises(ServiceRefuses):
        run_export(world)
    state = (world.stored, world.manager.stored("new").state, world.manager.stored("new").last_run["error"])
    run_export(world)

    assert state[1:] == ("recording", "no")
    assert service.documents == world.expected()


def test_a_host_that_raises_leaves_the_export_to_be_resumed(world: Any, service: MemoryService) -> None:
    world.put("explosive")

    with pytest.raises(HostFailed):
        run_export(world)

    assert world.manager.stored("new").state == "recording"


def test_an_export_on_a_track_where_nothing_ever_happened(world: Any, service: MemoryService) -> None:
    world.things["a"] = {"id": "a", "title": "t"}
    world.tm.commit()

    run_export(world)

    assert set(service.documents) == {"a"}


def test_a_paused_agent_is_not_exported(world: Any, service: MemoryService) -> None:
    world.manager.activate("new", from_start=True)
    world.manager.pause("new")
    world.tm.commit()

    with pytest.raises(StateForbids, match="paused"):
        run_export(world)
