"""The slow queue, and how an agent that has nothing to do keeps up all the same."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from livesync import Op, SyncAgent
from livesync.delivery import ledger
from livesync.delivery.simulate import simulate
from livesync.errors import StateForbids, UnknownAgent
from livesync.track import queue
from livesync.track.stored import StoredAgent


@pytest.fixture
def pages_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "PAGE_SIZE", 3)


def queued(world: Any) -> list[str]:
    return list(queue.queued_ids(world.stored))


def sent(world: Any) -> list[str]:
    """The ids that were sent, in order; and from then on they are forgotten."""
    ids = [record.object_id for batch in world.service.batches for record in batch]
    world.service.batches.clear()
    return ids


def enqueue(world: Any, *ids: str, words: tuple[str, ...] = ("data_changed",)) -> int:
    count: int = world.manager.enqueue("index", ids, words)
    world.tm.commit()
    return count


# the queue itself


def test_pages_are_put_at_the_end_and_taken_from_the_beginning(pages_of_3: None) -> None:
    stored = StoredAgent("t", "n", "", {})
    for ids in "abcde", "fg":
        for page in queue.pages_of(ids, ["moved", "acl_changed"]):
            queue.put(stored, page)

    assert [page.ids for page in stored.queue.values()] == [("a", "b", "c"), ("d", "e"), ("f", "g")]
    found = queue.first(stored)
    assert found is not None
    assert (found[0], found[1].ids, found[1].words) == (0, ("a", "b", "c"), ("acl_changed", "moved"))
    assert queue.count(stored) == 7
    assert list(queue.queued_ids(stored)) == list("abcdefg")


def test_an_empty_queue_has_nothing() -> None:
    stored = StoredAgent("t", "n", "", {})

    assert queue.first(stored) is None
    assert queue.count(stored) == 0
    assert queue.forget(stored, "a") == 0


def test_an_object_is_forgotten_wherever_it_is(pages_of_3: None) -> None:
    stored = StoredAgent("t", "n", "", {})
    for page in queue.pages_of("abacada", ()):
        queue.put(stored, page)

    assert queue.forget(stored, "a") == 4
    assert list(queue.queued_ids(stored)) == ["b", "c", "d"]


# enqueued by somebody


def test_what_is_enqueued_is_sent_as_it_is_then(world: Any) -> None:
    for key in "abc":
        world.put(key)
    world.run()
    sent(world)
    world.things["b"]["title"] = "changed without telling anybody"
    world.tm.commit()

    count = enqueue(world, "b", "c", words=("moved",))
    result = world.run()

    assert count == 2
    assert (result.read, result.cascaded, result.accepted) == (0, 2, 2)
    assert [record.actions for record in world.service.batches[0]] == [{"moved"}, {"moved"}]
    assert sent(world) == ["b", "c"]
    assert world.service.documents == world.expected()
    assert queued(world) == []
    assert ledger.balance(ledger.entries(world.stored)[0]) == 0


def test_unknown_deleted_and_excluded_objects_are_sent_as_deletes(world: Any) -> None:
    world.put("deleted")
    world.put("hidden")
    world.put("shown", private=True)
    world.run()
    # nobody is told of any of this
    del world.things["deleted"]
    world.things["hidden"]["private"] = True
    world.things["shown"]["private"] = False
    world.tm.commit()

    enqueue(world, "unknown", "deleted", "hidden", "shown")
    world.run()

    assert {record.object_id: record.op for record in world.service.batches[-1]} == {
        "unknown": Op.DELETE,
        "deleted": Op.DELETE,
        "hidden": Op.DELETE,
        "shown": Op.UPSERT,
    }
    assert world.service.documents == world.expected()


def test_one_that_is_queued_several_times_is_sent_once_a_page(world: Any, pages_of_3: None) -> None:
    world.put("a")
    world.run()
    sent(world)

    enqueue(world, "a", "a", "a", "a")
    result = world.run()

    assert sent(world) == ["a", "a"]
    assert result.cascaded == 2


def test_a_queued_object_that_cannot_be_delivered_is_a_dead_letter_and_leaves_the_queue(world: Any) -> None:
    world.put("a")
    world.put("b")
    world.run()
    world.things["a"]["broken"] = "raises"
    world.tm.commit()

    enqueue(world, "a", "b")
    result = world.run()

    assert (result.cascaded, result.accepted, result.dead) == (2, 1, 1)
    assert list(world.stored.dead) == ["a"]
    assert queued(world) == []


def test_a_queued_object_that_is_delivered_clears_its_dead_letter(world: Any) -> None:
    world.put("a", broken="raises")
    world.run()
    world.things["a"]["broken"] = None
    world.tm.commit()

    enqueue(world, "a")
    world.run()

    assert dict(world.stored.dead) == {}


def test_what_makes_no_sense_is_not_queued(world: Any) -> None:
    world.manager.register_agent(SyncAgent("new"))
    with pytest.raises(StateForbids, match="no pointer"):
        world.manager.enqueue("new", ["a"])
    with pytest.raises(UnknownAgent):
        world.manager.enqueue("stranger", ["a"])
    with pytest.raises(ValueError, match="id"):
        world.manager.enqueue("index", [""])
    with pytest.raises(ValueError, match="action"):
        world.manager.enqueue("index", ["a"], ["no such thing\n"])


# large containers


def box(world: Any, count: int) -> None:
    world.put("box")
    for number in range(count):
        world.put(f"in{number}", parent="box")
    world.run()
    sent(world)


def test_a_container_with_more_inside_than_slow_above_goes_to_the_queue(world: Any, pages_of_3: None) -> None:
    box(world, 5)
    agent = world.agent_type("index", slow_above=4, slow_budget=3)
    world.put("box", "set_private", private=True)

    first = world.run(agent)
    left = queued(world)
    after_one = sent(world)
    second = world.run(agent)

    assert after_one == ["box", "in0", "in1", "in2"]
    assert (first.read, first.cascaded, first.accepted) == (1, 3, 4)
    assert left == ["in3", "in4"]
    assert (second.read, second.cascaded) == (0, 2)
    assert world.service.documents == world.expected() == {}
    assert all(ledger.balance(entry) == 0 for entry in ledger.entries(world.stored))


def test_one_with_no_more_inside_does_not(world: Any) -> None:
    box(world, 5)
    world.put("box", "moved")

    result = world.run(world.agent_type("index", slow_above=5))

    assert (result.cascaded, queued(world)) == (5, [])


def test_the_records_of_a_queued_container_say_what_led_to_them(world: Any) -> None:
    box(world, 2)
    world.put("box", "moved")
    world.record("box", "acl_changed")

    world.run(world.agent_type("index", slow_above=1))

    inside = [record for batch in world.service.batches for record in batch if record.object_id != "box"]
    assert [record.actions for record in inside] == [{"moved", "acl_changed"}] * 2


# the budget


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 7, 100])
def test_no_run_sends_more_of_the_queue_than_its_budget(world: Any, pages_of_3: None, budget: int) -> None:
    ids = [f"k{number}" for number in range(8)]
    for key in ids:
        world.put(key)
    world.run()
    sent(world)
    enqueue(world, *ids)
    agent = world.agent_type("index", slow_budget=budget)

    counts = []
    while queued(world):
        counts.append(world.run(agent).cascaded)

    assert counts == [min(budget, 8 - done) for done in range(0, 8, budget)]
    assert sent(world) == ids


def test_changes_go_before_the_queue(world: Any) -> None:
    for key in "abc":
        world.put(key)
    world.run()
    sent(world)
    enqueue(world, "a", "b")
    world.put("c", title="new")

    world.run()

    assert sent(world) == ["c", "a", "b"]


def test_a_pause_or_a_stop_ends_the_queue_too(world: Any, pages_of_3: None) -> None:
    ids = [f"k{number}" for number in range(9)]
    enqueue(world, *ids)
    world.run(world.agent, stop=lambda: bool(world.service.batches))
    left = queued(world)

    class Pausing(world.service.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.change(lambda manager: manager.pause("index"))
            return super()._upload_batch(batch)

    world.run(world.with_uploader(Pausing))

    assert left == ids[3:]
    assert queued(world) == ids[6:]
    assert world.stored.state == "paused"


def test_a_stopped_agent_that_was_asked_to_end_within_its_queue_stays_stopped(
    world: Any, pages_of_3: None
) -> None:
    enqueue(world, *"abcdef")
    world.manager.stop_agent("index", _failing(), "to try")
    world.tm.commit()

    world.run(world.agent, stop=lambda: bool(world.service.batches))
    stopped = world.stored.state
    world.run()

    assert (stopped, world.stored.state) == ("stopped", "active")


def _failing() -> Any:
    from livesync.agent import StopReason

    return StopReason.FAILING


# crashes


class Killed(BaseException):
    """Stands for the end of the process: nothing of livesync may catch it."""


def test_a_crash_between_the_pages_and_the_acknowledgement_loses_nothing(
    world: Any, pages_of_3: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    box(world, 7)
    put = queue.put

    def put_two(stored: Any, page: Any) -> None:
        if len(stored.queue) == 2:
            raise Killed
        put(stored, page)

    agent = world.agent_type("index", slow_above=1)
    world.put("box", "set_private", private=True)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "put", put_two)
        with pytest.raises(Killed):
            world.run(agent)
    crashed = (queued(world), world.pointer == world.manager.track.sealed)

    world.run(agent)

    assert crashed == ([f"in{number}" for number in range(6)], False)
    assert queued(world) == []
    assert world.service.documents == world.expected() == {}


def test_a_crash_after_a_page_was_sent_sends_it_again(world: Any, pages_of_3: None) -> None:
    for key in "abcd":
        world.put(key)
    world.run()
    enqueue(world, *"abcd")
    sent(world)

    class Dying(world.service.uploader_type()):  # type: ignore[misc]
        def end_slice(self, position: int | None) -> None:
            super().end_slice(position)
            raise Killed

    with pytest.raises(Killed):
        world.run(world.with_uploader(Dying))
    left = queued(world)
    world.run()

    assert left == list("abcd")
    assert sent(world) == ["a", "b", "c", "a", "b", "c", "d"]


@pytest.mark.parametrize("dies", [False, True], ids=["acknowledged", "killed"])
def test_what_was_sent_from_the_queue_is_deleted_though_it_came_and_went_within_a_slice(
    world: Any, dies: bool
) -> None:
    enqueue(world, "a")

    class Watched(world.service.uploader_type()):  # type: ignore[misc]
        def begin_slice(self, till: int) -> None:
            super().begin_slice(till)
            world.put("a")  # after the run has delivered what there was

        def end_slice(self, position: int | None) -> None:
            super().end_slice(position)
            if dies:
                raise Killed

    with pytest.raises(Killed) if dies else nullcontext():
        world.run(world.with_uploader(Watched))
    assert set(world.service.documents) == {"a"}
    world.remove("a")
    world.run()

    assert world.service.documents == {}


# positions


def test_a_queued_object_never_overwrites_what_is_newer(world: Any) -> None:
    """Another runner, who has taken over, delivers a change while an old page is on its way."""
    world.put("a", title="old")
    world.run()
    enqueue(world, "a")

    class Overtaken(world.service.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.put("a", title="new")
            world.change(lambda manager: setattr(manager.stored("index").lease, "until", 0.0))
            world.run()
            answer = world.service.receive(batch, self._staged)
            verdicts.extend(answer)
            return answer

    verdicts: list[Any] = []
    with pytest.raises(Exception, match="taken from this runner"):
        world.run(world.with_uploader(Overtaken))

    assert [verdict.outcome.value for verdict in verdicts] == ["stale"]
    assert world.service.documents == world.expected()
    assert world.service.documents["a"]["title"] == "new"


def test_what_was_queued_is_newer_than_what_lay_before_it(world: Any) -> None:
    world.put("a")
    world.run()
    before = world.service.positions["a"]
    world.put("b")
    enqueue(world, "a")

    world.run()

    assert before < world.service.positions["a"] == world.manager.track.sealed


def test_a_page_that_was_emptied_and_filled_anew_is_not_taken_out_unsent(world: Any) -> None:
    enqueue(world, "a")

    def empty_and_fill(manager: Any) -> None:
        stored = manager.stored("index")
        stored.queue.clear()
        for page in queue.pages_of(["a", "b"], ()):
            queue.put(stored, page)

    class Watched(world.service.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.change(empty_and_fill)
            return super()._upload_batch(batch)

    world.run(world.with_uploader(Watched, slow_budget=1))
    left = queued(world)
    world.run()

    assert left == ["a", "b"]
    assert sent(world) == ["a", "a", "b"]


def test_what_is_forgotten_while_its_page_is_sent_stays_forgotten(world: Any) -> None:
    enqueue(world, "a", "b", "c")

    class Watched(world.service.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.change(lambda manager: queue.forget(manager.stored("index"), "b"))
            return super()._upload_batch(batch)

    world.run(world.with_uploader(Watched, slow_budget=1))

    assert queued(world) == ["c"]


# simulate


def test_simulate_shows_what_is_queued_as_far_as_a_run_would_send_it(world: Any, pages_of_3: None) -> None:
    for key in "abcdef":
        world.put(key)
    world.run()
    world.put("a", title="new")
    enqueue(world, *"bcdef", words=("moved",))
    # an agent is made anew from what is stored, so the type must be one that can be imported
    world.manager.stored("index").type_name = "support.shelf:PlainAgent"
    world.manager.stored("index").options = {"slow_budget": 4}
    world.tm.commit()

    records = list(simulate(world.manager, "index", world.host, now=world.clock * 2))

    assert [record.object_id for record in records] == list("abcde")
    assert [record.actions for record in records[1:]] == [{"moved"}] * 4
    assert queued(world) == list("bcdef")


# heartbeats


def two_agents(world: Any) -> SyncAgent:
    """Add another agent, which has a service of its own."""
    from livesync.destinations.memory import MemoryService

    service = MemoryService()
    other = type("Other", (world.agent_type,), {"uploader": service.uploader_type()})("other")
    world.manager.register_agent(other)
    world.manager.activate("other", from_start=True)
    world.tm.commit()
    return other


def test_an_idle_agents_pointer_reaches_what_is_sealed_here_and_at_its_destination(world: Any) -> None:
    world.put("a")
    world.run()
    world.manager.collect(world.clock + 1_000_000)
    world.tm.commit()
    sealed = world.manager.track.sealed
    before = world.pointer

    result = world.agent.run(world.manager, world.host, now=world.clock)

    assert before < sealed
    assert (result.read, result.till) == (0, sealed)
    assert world.pointer == sealed == world.service.pointers["index"].position


def test_an_idle_agent_does_not_keep_the_track_from_being_pruned(world: Any) -> None:
    other = two_agents(world)
    world.put("a")
    world.run()
    world.run(other)
    for number in range(3):
        world.put(f"k{number}")
        world.run()
    held_back = world.manager.track.count()
    world.run(other)

    dropped = world.manager.prune()
    world.tm.commit()

    assert held_back == 4
    assert dropped == 4
    assert world.manager.track.count() == 0


def nothing_for_it(host: Any, obj: Any) -> bool:
    return False


def test_an_agent_for_which_everything_is_turned_down_keeps_up(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: nothing_for_it)
    world.put("a")
    world.put("b")

    result = world.run(world.agent_type("index", only="some:function"))

    assert world.service.documents == {}
    assert world.pointer == world.manager.track.sealed == result.till


def test_a_transform_that_keeps_everything_back_lets_the_pointer_go_on(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: lambda record: None)
    world.put("a")

    result = world.run(world.agent_type("index", transform="some:function"))

    assert (result.read, result.excluded, result.accepted) == (1, 1, 0)
    assert world.service.batches == []
    assert world.pointer == world.manager.track.sealed == world.service.pointers["index"].position
