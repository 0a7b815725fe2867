from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.shelf import World

from livesync import PushSyncAgent, Verdict, leases
from livesync.agent import State, StopReason
from livesync.delivery import ledger, slices
from livesync.delivery.record import Outcome
from livesync.delivery.uploader import DELIVERY_OPTIONS, FILE_OPTIONS, StoredPointer
from livesync.delivery.work import Work
from livesync.destinations.memory import MemoryService
from livesync.errors import (
    HostFailed,
    Leased,
    LeaseLost,
    RetryLater,
    ServiceRefuses,
    StateForbids,
    TooManyRefused,
    UnknownAgent,
    UsageError,
)
from livesync.upkeep import export as exporting
from livesync.upkeep.export import ExportProgress, Mode, export

# An agent is made anew from what is stored, so its type must be one that can be imported.
SERVICE = MemoryService()


class BackfillAgent(PushSyncAgent):
    options = (*DELIVERY_OPTIONS, *FILE_OPTIONS)
    uploader = SERVICE.uploader_type()


@pytest.fixture
def service(world: Any) -> MemoryService:
    SERVICE.__init__()  # type: ignore[misc]
    world.manager.register_agent(BackfillAgent("new"))
    world.tm.commit()
    return SERVICE


@pytest.fixture
def chunks_of_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)


class Killed(BaseException):
    """Stands for the end of the process: nothing of livesync may catch it."""


def stored(world: Any) -> Any:
    world.tm.begin()
    return world.manager.stored("new")


def state(world: Any) -> tuple[str, str]:
    found = stored(world)
    return found.state, found.reason


def watching(monkeypatch: pytest.MonkeyPatch, step: Callable[[str], object]) -> None:
    """Let ``step`` be called with its name at each step of an uploader, before and after it ends a slice."""

    class Watched(SERVICE.uploader_type()):  # type: ignore[misc]
        def begin_slice(self, till: int) -> None:
            step("begin")
            super().begin_slice(till)

        def _upload_batch(self, batch: Any) -> Any:
            step("upload")
            return super()._upload_batch(batch)

        def end_slice(self, position: int | None) -> None:
            step("end")
            super().end_slice(position)
            step("ended")

        def sweep(self, before: int) -> int | None:
            step("sweep")
            return super().sweep(before)

        def finish_rebuild(self) -> None:
            step("finish")
            super().finish_rebuild()
            step("finished")

    monkeypatch.setattr(BackfillAgent, "uploader", Watched)


def ticking(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let ten seconds pass whenever an export or a run looks at its clock, so that positions are sealed."""

    def clock(work: Work) -> float:
        world.clock += 10
        return world.clock

    monkeypatch.setattr(Work, "clock", clock)


def at_the_first(wanted: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Do something at the first step of this name."""
    done: list[str] = []

    def step(name: str) -> None:
        if name == wanted and not done:
            done.append(name)
            act()

    return step


def raising(exc: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise exc

    return act


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


# modes


def test_a_whole_export_goes_live_and_says_what_it_did(world: Any, service: MemoryService) -> None:
    for key in "abc":
        world.put(key)
    world.put("broken", broken="raises")

    result = run_export(world, mode=Mode.INITIAL)

    assert state(world) == ("active", "")
    assert (result.read, result.accepted, result.dead, result.balance()) == (4, 3, 1, 0)
    [entry] = ledger.entries(stored(world))
    assert (entry["kind"], entry["read"], entry["dead"], ledger.balance(entry)) == ("export", 4, 1, 0)
    assert list(stored(world).dead) == ["broken"]
    assert result.till == service.pointers["new"].position


def test_an_initial_export_only_pauses_and_an_activation_loses_nothing(
    world: Any, service: MemoryService
) -> None:
    world.put("a")

    run_export(world, mode=Mode.INITIAL_ONLY)
    paused = (state(world), stored(world).detail, set(service.documents))
    world.put("b")
    with pytest.raises(StateForbids, match="paused"):
        world.run(BackfillAgent("new"))
    world.manager.activate("new")
    world.tm.commit()
    world.run(BackfillAgent("new"))

    assert paused == (("paused", ""), "paused after its export, as it was asked for", {"a"})
    assert service.documents == world.expected()


@pytest.mark.parametrize("first", [Mode.INITIAL, Mode.INITIAL_ONLY])
@pytest.mark.parametrize("second", [Mode.INITIAL, Mode.INITIAL_ONLY])
def test_one_that_was_to_pause_in_the_end_does_so_although_it_broke_off(
    world: Any, service: MemoryService, chunks_of_2: None, first: Mode, second: Mode
) -> None:
    for key in "abc":
        world.put(key)
    stops = iter([False, True])
    run_export(world, mode=first, stop=lambda: next(stops))

    result = run_export(world, mode=second)

    assert result.read == 1
    assert state(world)[0] == ("paused" if Mode.INITIAL_ONLY in (first, second) else "active")


def test_one_that_is_begun_anew_sends_all_of_it(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abc":
        world.put(key)
    stops = iter([False, True])
    run_export(world, stop=lambda: next(stops))

    result = run_export(world, anew=True)

    assert result.read == 3
    assert service.documents == world.expected()
    assert state(world) == ("active", "")


def test_the_mode_none_sends_nothing_and_goes_live_from_now(world: Any, service: MemoryService) -> None:
    world.put("before")

    result = run_export(world, mode=Mode.NONE)
    world.put("after")
    world.run(BackfillAgent("new"))

    assert (result.read, service.batches[0][0].object_id) == (0, "after")
    assert state(world) == ("active", "")
    assert set(service.documents) == {"after"}


def test_the_mode_none_is_for_new_agents(world: Any, service: MemoryService) -> None:
    run_export(world)

    with pytest.raises(UsageError, match="is active: the mode none is for a new agent"):
        run_export(world, mode=Mode.NONE)


@pytest.mark.parametrize("how", ["new", "broken off", "left behind", "emptied", "another track"])
def test_when_it_is_needed_everything_is_sent(
    world: Any, service: MemoryService, chunks_of_2: None, how: str
) -> None:
    for key in "abcde":
        world.put(key)
    if how == "broken off":
        stops = iter([False, True])
        run_export(world, stop=lambda: next(stops))
    elif how != "new":
        run_export(world)
    if how == "left behind":
        world.put("f")
        world.manager.collect(world.clock * 10)
        world.manager.prune(leave_behind=True)
        world.tm.commit()
    elif how == "emptied":
        service.__init__()  # type: ignore[misc]
    elif how == "another track":
        service.pointers["new"] = StoredPointer(1, "another", 1)

    result = run_export(world, mode=Mode.WHEN_NEEDED)

    assert result.read == (3 if how == "broken off" else len(world.things))
    assert service.documents == world.expected()
    assert state(world) == ("active", "")


def test_when_it_is_not_needed_nothing_is_sent(world: Any, service: MemoryService) -> None:
    world.put("a")
    run_export(world)
    service.batches.clear()
    before = stored(world).generation

    result = run_export(world, mode=Mode.WHEN_NEEDED)

    assert (result.read, service.batches) == (0, [])
    assert stored(world).generation == before
    assert state(world) == ("active", "")


def test_an_agent_that_lacks_nothing_goes_live_whatever_had_stopped_it(
    world: Any, service: MemoryService
) -> None:
    run_export(world)
    world.manager.stop_agent("new", StopReason.FAILING, "a bad day")
    world.tm.commit()

    run_export(world, mode=Mode.WHEN_NEEDED)

    assert state(world) == ("active", "")
    assert service.batches == []


# what forbids it


def test_an_agent_that_is_held_is_not_exported(world: Any, service: MemoryService) -> None:
    world.put("a")
    process = ("elsewhere", 1, 1)
    world.change(
        lambda manager: leases.take("new", manager.stored("new").lease, process, "run", time.time(), 1000.0)
    )

    with pytest.raises(Leased, match="run by process 1 on elsewhere"):
        run_export(world)

    assert state(world) == ("new", "")
    assert service.batches == []


def test_unknown_agents_and_such_as_do_not_push_are_not_exported(world: Any, service: MemoryService) -> None:
    from livesync import SyncAgent

    world.manager.register_agent(SyncAgent("reader"))
    world.tm.commit()

    with pytest.raises(StateForbids, match="none that pushes"):
        export(world.manager, "reader", world.host)
    with pytest.raises(UnknownAgent):
        export(world.manager, "stranger", world.host)


def test_a_service_that_cannot_be_rebuilt_is_not(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackfillAgent.uploader, "rebuilds", False)

    with pytest.raises(UsageError, match="cannot be rebuilt beside itself"):
        run_export(world, rebuild=True)

    assert state(world) == ("new", "")


# what fails


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (ServiceRefuses("who are you?"), ServiceRefuses, "who are you?"),
        (RetryLater(reason="asleep"), RetryLater, "asleep (given up after 1 tries)"),
        (
            lambda batch: [Verdict(record.object_id, Outcome.REFUSED, "no") for record in batch],
            TooManyRefused,
            "1 of the last 3 records were refused",
        ),
        (ZeroDivisionError("a mistake"), ZeroDivisionError, "a mistake"),
    ],
)
def test_an_export_that_fails_stays_recording_and_says_why(
    world: Any, service: MemoryService, chunks_of_2: None, answer: Any, error: type, text: str
) -> None:
    for key in "abcd":
        world.put(key)
    stored(world).options = {"max_attempts": 1, "batch_size": 1, "dead_threshold": 0}
    world.tm.commit()
    service.answer_next(lambda batch: None, lambda batch: None, answer)

    with pytest.raises(error):
        run_export(world)
    failed = (state(world), stored(world).last_run["error"], ledger.entries(stored(world))[0])
    held, dead = stored(world).lease.holder, dict(stored(world).dead)
    run_export(world)

    assert failed[0] == ("recording", "")
    assert text in failed[1]
    assert text in failed[2]["error"]
    assert failed[2]["accepted"] == 2  # a whole chunk
    assert (held, dead) == (None, {})
    assert state(world) == ("active", "")
    assert service.documents == world.expected()
    assert all(ledger.balance(entry) == 0 for entry in ledger.entries(stored(world)))


def test_why_a_service_refuses_an_export_is_in_the_detail(world: Any, service: MemoryService) -> None:
    world.put("a")
    service.answer_next(ServiceRefuses("who are you?"))

    with suppress(ServiceRefuses):
        run_export(world)

    assert stored(world).detail == "who are you?"


@pytest.mark.parametrize("when", ["upload", "everything is sent"])
def test_an_export_that_loses_its_lease_notes_nothing_and_sweeps_nothing(
    world: Any, service: MemoryService, chunks_of_2: None, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    for key in "abcd":
        world.put(key)
    swept: list[str] = []
    exported: list[Any] = []

    def overtaken() -> None:
        """Another runner goes on with the export, and ends it."""
        world.change(lambda manager: setattr(manager.stored("new").lease, "until", 0.0))
        monkeypatch.undo()
        monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
        exported.append(run_export(world))

    def progress(progress: ExportProgress) -> None:
        if progress.done == 4:
            step("everything is sent")

    step = at_the_first(when, overtaken)
    watching(monkeypatch, lambda name: (swept.append(name) if name == "sweep" else None, step(name)))
    with pytest.raises(LeaseLost):
        run_export(world, progress=progress)

    assert swept == []
    assert exported[0].read == (4 if when == "upload" else 0)
    assert state(world) == ("active", "")
    assert stored(world).last_run is None
    assert service.documents == world.expected()
    assert service.pointers["new"].position == world.manager.track.get_pointer_timestamp("new")


# what comes between


def test_a_pause_ends_an_export_and_it_goes_on_when_it_is_activated(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)

    def pause(progress: ExportProgress) -> None:
        if progress.done == 2:
            world.change(lambda manager: manager.pause("new"))

    with pytest.raises(
        StateForbids, match="was paused in the middle of its export; to go on: livesync agent"
    ):
        run_export(world, progress=pause)
    paused = (state(world), sorted(service.documents))
    world.manager.activate("new")
    world.tm.commit()
    activated = state(world)
    seen: list[int] = []
    run_export(world, progress=lambda progress: seen.append(progress.done))

    assert activated == ("recording", "")  # it lacks the rest of it still
    assert paused == (("paused", ""), list("abcd"))
    assert seen == [5]
    assert state(world) == ("active", "")
    assert service.documents == world.expected()


def test_a_pause_at_the_end_of_an_export_is_not_undone_by_it(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a")
    pause = at_the_first("sweep", lambda: world.change(lambda manager: manager.pause("new")))
    watching(monkeypatch, pause)

    run_export(world)

    assert state(world) == ("paused", "")
    assert stored(world).export is None
    assert service.documents == world.expected()


def test_an_agent_that_names_another_destination_meanwhile_is_not_taken_for_exported(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)

    def edit(progress: ExportProgress) -> None:
        if progress.done == 2:
            world.change(
                lambda manager: manager.stop_agent(
                    "new", StopReason.NEEDS_EXPORT, "it names another destination"
                )
            )

    with pytest.raises(StateForbids, match=r"was stopped \(needs_export\) in the middle"):
        run_export(world, progress=edit)
    stopped = state(world)
    service.__init__()  # type: ignore[misc]  # the other destination
    result = run_export(world)

    assert stopped == ("stopped", "needs_export")
    assert result.read == 5  # from the beginning: nothing of it is there
    assert service.documents == world.expected()
    assert state(world) == ("active", "")


def test_one_that_broke_off_and_was_left_behind_since_begins_anew(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)
    stops = iter([False, True])
    run_export(world, stop=lambda: next(stops))
    world.remove("a")  # which it has sent
    world.put("b", title="changed")
    world.manager.collect(world.clock * 10)
    world.manager.prune(leave_behind=True)
    world.tm.commit()
    behind = state(world)

    result = run_export(world)

    assert behind == ("stopped", "needs_export")
    assert result.read == 4
    assert service.documents == world.expected()


def test_a_reset_in_the_middle_is_not_undone(world: Any, service: MemoryService, chunks_of_2: None) -> None:
    for key in "abcd":
        world.put(key)

    def reset(progress: ExportProgress) -> None:
        if progress.done == 2:
            world.change(lambda manager: manager.reset())

    with pytest.raises(StateForbids, match="needs_export"):
        run_export(world, progress=reset)
    after = (state(world), stored(world).export)
    run_export(world)

    assert after == (("stopped", "needs_export"), None)
    assert service.documents == world.expected()


def test_a_stop_while_changes_are_delivered_leaves_the_export_to_be_resumed(
    world: Any, service: MemoryService, chunks_of_2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("box")
    for number in range(4):
        world.put(f"in{number}", parent="box")
    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    ticking(monkeypatch, world)
    stopping: list[int] = []

    def touch(name: str) -> None:
        if name == "end" and not stopping:
            stopping.append(1)
            world.put("box", "moved")  # delivered after this chunk, with what is inside
        elif name == "upload" and stopping:
            stopping.append(1)

    watching(monkeypatch, touch)
    result = run_export(world, stop=lambda: len(stopping) > 2)
    broken_off = state(world)
    run_export(world)

    assert broken_off == ("recording", "")
    assert result.balance() == 0
    assert service.documents == world.expected()
    assert all(ledger.balance(entry) == 0 for entry in ledger.entries(stored(world)))


# an agent that was behind


@pytest.mark.parametrize("slice_size", [1, 3, 10_000])
def test_an_export_of_an_agent_that_was_behind_sweeps_what_is_gone_and_nothing_else(
    world: Any, service: MemoryService, chunks_of_2: None, monkeypatch: pytest.MonkeyPatch, slice_size: int
) -> None:
    for key in "abcdef":
        world.put(key)
    run_export(world)
    # a backlog at many positions, older than the export that comes
    for round_ in range(3):
        for key in "adf":
            world.put(key, title=f"{key}{round_}")
        world.manager.collect(world.clock + 10 * (round_ + 1))
        world.tm.commit()
    world.remove("b")
    world.put("g")
    del world.things["e"]  # without telling anybody
    world.tm.commit()
    monkeypatch.setattr(slices, "SLICE_SIZE", slice_size)
    service.batches.clear()

    result = run_export(world)

    assert service.documents == world.expected()
    assert set(service.documents) == set("acdfg")
    assert world.manager.track.get_pointer_timestamp("new") == world.manager.track.sealed
    assert service.pointers["new"].position == world.manager.track.sealed
    assert result.balance() == 0


def test_positions_of_an_export_are_those_of_its_snapshots(
    world: Any, service: MemoryService, chunks_of_2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(monkeypatch, world)
    for key in "abcd":
        world.put(key)
    begun: list[int] = []

    def meddle(progress: ExportProgress) -> None:
        begun.append(progress.position)
        if progress.done == 2:
            world.put("b", title="newer")

    run_export(world, progress=meddle)

    assert service.positions["a"] >= begun[0]
    assert service.positions["a"] <= service.positions["c"] < service.positions["b"]
    assert service.documents == world.expected()


# whatever comes between

objects = st.sampled_from("abcdefgh")
meddling = st.lists(
    st.tuples(st.integers(0, 25), st.sampled_from(["put", "put", "remove", "hide", "show", "move"]), objects),
    max_size=20,
)


class Meddler:
    """Changes the host at the steps that were chosen, and looks whether the service ever goes back."""

    def __init__(self, world: World, story: list[tuple[int, str, str]]) -> None:
        self.world = world
        self.story = story
        self.steps = 0
        self.version = 0
        self.seen: dict[str, int] = {}

    def __call__(self, name: str) -> None:
        for when, what, key in self.story:
            if when == self.steps:
                self.act(what, key)
        self.steps += 1
        if name == "ended":
            self.look()

    def look(self) -> None:
        for key, document in SERVICE.documents.items():
            assert document["title"] >= self.seen.get(key, 0), f"{key} has gone back"
            self.seen[key] = document["title"]

    def act(self, what: str, key: str) -> None:
        world = self.world
        self.version += 1
        if what == "put":
            world.put(key, title=self.version, parent="a" if key > "e" else None)
        elif key not in world.things:
            pass
        elif what == "remove":
            world.remove(key)
        elif what == "move":
            world.put(key, "moved", title=self.version)
        else:
            world.put(key, "set_private" if what == "hide" else "set_public", private=what == "hide")


@settings(max_examples=40, deadline=None)
@given(meddling, st.integers(1, 3), st.sampled_from([1, 2, 10_000]), st.booleans(), st.booleans())
@example([(4, "hide", "a"), (13, "remove", "a")], 2, 2, False, True)
def test_whatever_changes_between_any_two_steps_the_service_never_goes_back(
    story: list[Any], chunk_size: int, slice_size: int, rebuild: bool, was_behind: bool
) -> None:
    world = World()
    SERVICE.__init__()  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "CHUNK_SIZE", chunk_size)
        patch.setattr(slices, "SLICE_SIZE", slice_size)
        ticking(patch, world)
        meddler = Meddler(world, story)
        try:
            world.manager.register_agent(BackfillAgent("new", batch_size=2))
            world.tm.commit()
            for key in "abcdefgh":
                meddler.act("put", key)
            if was_behind:
                run_export(world)
                for key in "bdg":
                    meddler.act("put", key)
                meddler.act("remove", "c")
                del world.things["e"]  # without telling anybody
                world.tm.commit()
            watching(patch, meddler)
            run_export(world, rebuild=rebuild)
            meddler.story = []
            meddler.look()
            world.run(BackfillAgent("new"))

            meddler.look()
            assert SERVICE.documents == world.expected()
            assert all(ledger.balance(entry) == 0 for entry in ledger.entries(stored(world)))
        finally:
            world.close()


# killed


@pytest.mark.parametrize("rebuild", [False, True])
def test_an_export_killed_at_any_step_goes_on_and_ends_complete(
    monkeypatch: pytest.MonkeyPatch, rebuild: bool
) -> None:
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 2)
    step = 0
    while True:
        step += 1
        world = World()
        SERVICE.__init__()  # type: ignore[misc]
        world.manager.register_agent(BackfillAgent("new", batch_size=1))
        world.tm.commit()
        for key in "abcde":
            world.put(key)
        run_export(world)
        world.put("orphan")
        run_export(world)
        del world.things["orphan"]  # without telling anybody
        world.put("b", title="changed")
        passed: list[str] = []

        def die(name: str, step: int = step, world: World = world, passed: list[str] = passed) -> None:
            passed.append(name)
            if len(passed) == 4:
                world.put("a", title="changed")  # which has been sent
            if len(passed) == step:
                raise Killed

        with monkeypatch.context() as patch:
            watching(patch, die)
            try:
                run_export(world, rebuild=rebuild)
                killed = False
            except Killed:
                killed = True
        before = dict(SERVICE.documents)
        world.remove("d")
        world.put("f")
        if state(world)[0] == State.RECORDING.value:
            run_export(world, rebuild=rebuild)
        world.run(BackfillAgent("new"))

        assert SERVICE.documents == world.expected(), f"killed at step {step}: {passed}"
        assert state(world) == ("active", "")
        if rebuild and killed and "finished" not in passed:
            assert set(before) >= set("abcde")  # the old place was whole all the time
        world.close()
        if not killed:
            break

    assert step > 15
    assert passed[-1] == "ended"


# into a new place


def test_a_rebuild_keeps_the_old_place_up_to_date_until_the_new_one_is_complete(
    world: Any, service: MemoryService, chunks_of_2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(monkeypatch, world)
    for key in "abcdef":
        world.put(key)
    run_export(world)
    del world.things["f"]  # without telling anybody
    world.put("e", title="changed")
    looks: list[dict[str, Any]] = []

    def meddle(progress: ExportProgress) -> None:
        if progress.done == 2:
            world.put("a", title="changed")  # which is in the new place already
            world.remove("d")
        looks.append(dict(service.documents))

    run_export(world, rebuild=True, progress=meddle)

    # at every moment somebody finds everything, the changes included
    assert [sorted(look) for look in looks] == [list("abcdef"), list("abcef")]
    assert looks[0]["e"]["title"] == "changed"
    assert looks[1]["a"]["title"] == "changed"
    assert service.documents == world.expected()
    assert set(service.documents) == set("abce")
    assert stored(world).export is None


def test_a_rebuild_that_broke_off_goes_on_in_the_same_new_place(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)
    stops = iter([False, True])
    run_export(world, rebuild=True, stop=lambda: next(stops))
    name = stored(world).export["rebuild"]
    before = dict(service.documents)
    seen: list[int] = []

    run_export(world, progress=lambda progress: seen.append(progress.done))

    assert name == f"g{stored(world).generation}"
    assert before == {}
    assert seen == [4, 5]
    assert service.documents == world.expected()


def test_a_rebuild_that_is_asked_for_after_a_plain_export_broke_off_begins_anew(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)
    stops = iter([False, True])
    run_export(world, stop=lambda: next(stops))
    seen: list[int] = []

    run_export(world, rebuild=True, progress=lambda progress: seen.append(progress.done))

    assert seen == [2, 4, 5]
    assert service.documents == world.expected()


# progress


def test_progress_tells_what_earlier_attempts_have_done(
    world: Any, service: MemoryService, chunks_of_2: None
) -> None:
    for key in "abcde":
        world.put(key)
    stops = iter([False, True])
    run_export(world, stop=lambda: next(stops))
    seen: list[tuple[int, int, int]] = []

    run_export(
        world, progress=lambda progress: seen.append((progress.done, progress.total, progress.earlier))
    )

    assert seen == [(4, 5, 2), (5, 5, 2)]


def test_a_host_whose_ids_do_not_ascend_is_told_so(
    world: Any, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(world.host), "iter_ids", lambda self, after=None: iter(["b", "a"]))

    with pytest.raises(HostFailed, match="iter_objects must go by ascending ids"):
        run_export(world)


def test_an_export_that_delivers_an_object_clears_its_dead_letter(world: Any, service: MemoryService) -> None:
    world.put("a", broken="raises")
    run_export(world)
    dead = list(stored(world).dead)
    world.things["a"]["broken"] = None
    world.tm.commit()

    run_export(world)

    assert (dead, list(stored(world).dead)) == (["a"], [])
