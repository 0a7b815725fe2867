"""The lease of a run: renewed, given back, taken over, and what a runner that has lost it can still do."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.shelf import World
from support.waiting import LONG_S

from livesync import leases, process
from livesync.agent import StopReason
from livesync.delivery import ledger, slices
from livesync.delivery.hold import Hold
from livesync.delivery.record import Outcome, Verdict
from livesync.errors import (
    HostFailed,
    Leased,
    LeaseLost,
    RetryLater,
    ServiceRefuses,
    StateForbids,
    UnknownAgent,
)
from livesync.track import queue

ELSEWHERE = ("elsewhere", 1, 1)


class Clock:
    """A clock that stands still, and tells how often the thread of a lease has asked it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._asked = 0
        self._changed = threading.Condition()

    def __call__(self) -> float:
        if threading.current_thread() is not threading.main_thread():
            with self._changed:
                self._asked += 1
                self._changed.notify_all()
        return self.now

    def wait_for_a_renewal(self) -> None:
        """Wait until a renewal that begins from now on is committed: until the one after it begins."""
        with self._changed:
            seen = self._asked
            assert self._changed.wait_for(lambda: self._asked >= seen + 2, LONG_S)


@pytest.fixture
def hold(world: Any) -> Any:
    """Makes holds of the agent; all are closed at the end."""
    made: list[tuple[Hold, Any]] = []

    def make(**settings: Any) -> Hold:
        entered = world.access()
        access = entered.__enter__()
        made.append((Hold(access, "index", "run", **settings), entered))
        return made[-1][0]

    yield make
    for each, entered in made:
        each.close()
        entered.__exit__(None, None, None)


def nothing(manager: Any) -> None:
    pass


def take_over(world: Any) -> int:
    """Let a runner of another host take the agent, as if this one's lease had run out."""
    token: list[int] = []

    def change(manager: Any) -> None:
        lease = manager.stored("index").lease
        lease.until = 0.0
        token[:] = [leases.take("index", lease, ELSEWHERE, "run", time.time(), 1000.0)]

    world.change(change)
    return token[0]


def state(world: Any) -> dict[str, Any]:
    """What a run notes, as it stands."""
    stored = world.stored
    return {
        "pointer": world.manager.track.get_pointer_timestamp("index"),
        "offset": world.manager.track.pointer_offset("index"),
        "state": (stored.state, stored.reason, stored.detail),
        "dead": {key: dict(letter) for key, letter in stored.dead.items()},
        "queue": [page.ids for page in stored.queue.values()],
        "ledger": ledger.entries(stored),
        "totals": stored.totals,
        "refusals": stored.refusals,
        "last_run": stored.last_run,
        "acknowledged": (stored.acknowledged, stored.acknowledged_generation),
        "lease": (stored.lease.holder, stored.lease.token),
    }


def uploader_that(world: Any, base: Any = None, **steps: Any) -> Any:
    """An uploader class of the service, or of ``base``, that does something before its own methods."""

    def wrapped(name: str, step: Any) -> Any:
        def method(self: Any, *args: Any) -> Any:
            step()
            return getattr(super(made, self), name)(*args)

        return method

    made = type(
        "Watched",
        (base or world.service.uploader_type(),),
        {name: wrapped(name, step) for name, step in steps.items()},
    )
    return made


# held and renewed


def test_what_is_held_is_renewed(world: Any, hold: Any) -> None:
    clock = Clock()
    held = hold(lease_s=0.03, clock=clock)
    held.take(nothing)
    first = world.stored.lease.until

    clock.now = 5000.0
    clock.wait_for_a_renewal()

    assert first == pytest.approx(1000.03)
    assert world.stored.lease.until == pytest.approx(5000.03)
    assert (
        leases.holder(world.stored.lease, 5000)
        == f"run by process {os.getpid()} on {process.this_process()[0]}"
    )


def test_what_is_closed_is_given_back_and_renewed_no_more(world: Any, hold: Any) -> None:
    held = hold(lease_s=0.03, clock=Clock())
    held.take(nothing)

    held.close()

    assert world.stored.lease.holder is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("livesync-lease")]
    held.close()  # again does nothing


def test_what_was_given_back_already_is_left_alone(world: Any, hold: Any) -> None:
    held = hold()
    held.take(nothing)
    held.change(lambda manager: held.release(manager) or True, "release")
    token = take_over(world)

    held.close()

    assert world.stored.lease.holder[:3] == ELSEWHERE
    assert world.stored.lease.token == token


def test_the_renewal_finds_out_that_another_has_taken_over(world: Any, hold: Any) -> None:
    held = hold(lease_s=0.03)
    held.take(nothing)

    take_over(world)
    held._thread.join(LONG_S)

    assert held.lost
    assert not held._thread.is_alive()
    held.close()
    assert world.stored.lease.holder[:3] == ELSEWHERE


def test_a_storage_that_is_away_for_a_moment_does_not_end_the_renewal(
    world: Any, hold: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    held = hold(lease_s=0.03, clock=clock)
    failing = iter([OSError("no route"), OSError("no route")])
    renew = leases.renew

    def renew_or_fail(*args: Any) -> None:
        exc = next(failing, None)
        if exc is not None:
            raise exc
        renew(*args)

    monkeypatch.setattr(leases, "renew", renew_or_fail)
    held.take(nothing)
    clock.now = 7000.0
    for _ in range(4):
        clock.wait_for_a_renewal()

    assert world.stored.lease.until == pytest.approx(7000.03)
    assert caplog.text.count("could not be renewed") == 2
    assert not held.lost


def test_what_goes_with_taking_it_happens_with_it_or_not_at_all(world: Any, hold: Any) -> None:
    held = hold()

    def also(manager: Any) -> None:
        manager.stored("index").detail = "noted"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        held.take(also)

    assert world.stored.detail == ""
    assert world.stored.lease.holder is None
    assert held.token == 0


def test_two_threads_of_a_process_do_not_hold_it_together(hold: Any) -> None:
    hold().take(nothing)

    with pytest.raises(Leased):
        hold().take(nothing)


def test_changes_are_made_only_while_it_is_held(world: Any, hold: Any) -> None:
    held = hold()
    held.take(nothing)
    take_over(world)

    with pytest.raises(LeaseLost):
        held.change(lambda manager: manager.advance("index", 0) or True, "never")

    assert held.lost
    assert world.pointer is None


def test_an_agent_that_was_made_anew_under_its_id_is_another_one(world: Any, hold: Any) -> None:
    held = hold()
    held.take(nothing)

    def anew(manager: Any) -> None:
        manager.remove_agent("index")
        manager.register_agent(world.agent)
        manager.activate("index", from_start=True)

    world.change(anew)
    other = hold()
    other.take(nothing)

    assert other.token == held.token  # tokens are counted anew
    with pytest.raises(LeaseLost, match="removed"):
        held.change(lambda manager: manager.advance("index", 0) or True, "never")
    held.close()
    assert world.stored.lease.holder is not None


# who may run


def test_a_run_is_refused_while_another_holds_the_agent_and_leaves_no_trace(world: Any, hold: Any) -> None:
    world.put("a")
    hold().take(nothing)
    before = state(world)

    with pytest.raises(Leased, match="'index' is held: run by process"):
        world.run()

    assert state(world) == before
    assert world.service.batches == []


def test_a_run_of_a_live_process_of_this_host_is_taken_over_at_once_when_it_is_killed(world: Any) -> None:
    world.put("a")
    inlet, outlet = os.pipe()
    pid = os.fork()
    if pid == 0:  # a runner that is at work, and never ends by itself
        os.close(outlet)
        os.read(inlet, 1)
        os._exit(0)
    host = process.this_process()[0]
    identity = (host, pid, process._started(pid))
    world.change(
        lambda manager: leases.take(
            "index", manager.stored("index").lease, identity, "run", time.time(), 1000.0
        )
    )

    with pytest.raises(Leased, match=f"process {pid} "):
        world.run()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(inlet)
    os.close(outlet)
    result = world.run()

    assert result.accepted == 1
    assert world.stored.lease.token == 2


def test_a_process_id_that_is_used_again_is_another_process(world: Any) -> None:
    world.put("a")
    host, pid, started = process.this_process()
    world.change(
        lambda manager: leases.take(
            "index", manager.stored("index").lease, (host, pid, started - 1), "run", time.time(), 1000.0
        )
    )

    assert world.run().accepted == 1


def test_a_runner_of_another_host_is_taken_over_only_when_its_lease_has_run_out(world: Any) -> None:
    world.put("a")
    take_over(world)

    with pytest.raises(Leased, match="process 1 on elsewhere"):
        world.run()
    world.change(lambda manager: setattr(manager.stored("index").lease, "until", time.time()))
    result = world.run()

    assert result.accepted == 1


def test_a_run_gives_the_lease_back_however_it_ends(world: Any) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupt

    world.put("a")
    holders = []
    with pytest.raises(Interrupt):
        world.run(world.with_uploader(uploader_that(world, _upload_batch=interrupt)))
    holders.append(world.stored.lease.holder)
    world.service.answer_next(RetryLater())
    with pytest.raises(RetryLater):
        world.run(world.with_uploader(world.service.uploader_type(), max_attempts=1))
    holders.append(world.stored.lease.holder)
    world.service.answer_next(ServiceRefuses("no"))
    with pytest.raises(ServiceRefuses):
        world.run()
    holders.append(world.stored.lease.holder)
    world.run()
    holders.append(world.stored.lease.holder)

    assert holders == [None] * 4
    assert world.stored.lease.token == 4


# idle runs


def test_a_run_that_finds_nothing_takes_no_lease_and_writes_nothing(world: Any) -> None:
    world.put("a")
    world.run()
    token, size = world.stored.lease.token, world.db.storage.getSize()

    for _ in range(3):
        world.agent.run(world.manager, world.host, now=world.clock)

    assert world.stored.lease.token == token == 1
    assert world.db.storage.getSize() == size


def test_a_run_that_finds_nothing_is_not_refused_while_another_holds_the_agent(world: Any, hold: Any) -> None:
    world.put("a")
    world.run()
    hold().take(nothing)

    result = world.agent.run(world.manager, world.host, now=world.clock)

    assert (result.read, result.till) == (0, world.pointer)


def test_a_run_on_a_schedule_that_finds_nothing_notes_when_it_was(world: Any) -> None:
    world.manager.set_interval("index", 60)
    world.tm.commit()
    world.put("a")
    world.run()

    world.agent.run(world.manager, world.host, now=world.clock + 0.25)

    assert world.stored.last_run["time"] == world.clock + 0.25
    assert world.stored.lease.token == 1
    assert len(ledger.entries(world.stored)) == 1


# lost in the middle


def poison(batch: Any) -> list[Verdict]:
    return [Verdict(record.object_id, Outcome.REFUSED, "poison") for record in batch]


@pytest.mark.parametrize("step", ["begin_slice", "_upload_batch", "end_slice"])
def test_a_run_that_loses_its_lease_leaves_no_trace_of_what_came_after(world: Any, step: str) -> None:
    world.put("dead", broken="raises")
    world.run()
    world.put("dead", broken=None)  # would clear its dead letter
    world.put("a")
    before: list[dict[str, Any]] = []

    def lose() -> None:
        if not before:
            take_over(world)
            before.append(state(world))

    world.service.answer_next(poison)
    with pytest.raises(LeaseLost):
        world.run(world.with_uploader(uploader_that(world, **{step: lose})))

    assert state(world) == before[0]
    assert before[0]["lease"] == ((*ELSEWHERE, "run"), 3)


def test_a_run_that_has_lost_its_lease_stops_nobody(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    world.put("a")
    world.service.answer_next(ServiceRefuses("no rights"))

    with pytest.raises(ServiceRefuses):
        world.run(world.with_uploader(uploader_that(world, _upload_batch=lambda: take_over(world))))

    assert (world.stored.state, world.stored.last_run) == ("active", None)
    assert [record.levelname for record in caplog.records if "taken from this runner" in record.message] == [
        "WARNING"
    ]


def test_a_runner_that_wakes_up_renders_nothing_more(world: Any) -> None:
    """What it would show may be gone again before the one that has taken over comes to it."""
    for number in range(9):
        world.put(str(number))
    lost: list[int] = []

    def lose() -> None:
        if not lost:
            lost.append(take_over(world))

    agent = world.with_uploader(uploader_that(world, _upload_batch=lose), batch_size=3)
    with pytest.raises(LeaseLost):
        world.run(agent)

    assert len(world.service.batches) == 1


def test_a_runner_that_wakes_up_does_not_set_the_destinations_pointer_back(world: Any) -> None:
    world.put("a")
    ended: list[Any] = []

    def sleep_and_be_overtaken() -> None:
        if ended:
            return
        world.change(lambda manager: setattr(manager.stored("index").lease, "until", 0.0))
        world.put("b")
        ended.append(world.run())

    wrong: list[int] = []
    frozen = uploader_that(world, _upload_batch=sleep_and_be_overtaken, end_slice=lambda: wrong.append(1))
    with pytest.raises(LeaseLost):
        world.run(world.with_uploader(frozen))

    assert wrong == []  # not every destination would notice by itself
    assert world.service.pointers["index"].position == world.pointer == ended[0].till
    assert world.service.documents == world.expected()
    assert set(world.service.documents) == {"a", "b"}
    assert [entry["ended"] is None for entry in ledger.entries(world.stored)] == [False, True]


def test_the_renewal_ends_a_wait_of_a_run_that_has_lost_its_lease(world: Any) -> None:
    world.put("a")
    world.service.answer_next(*[RetryLater(after_s=600)] * 3)
    agent = world.with_uploader(uploader_that(world, _upload_batch=lambda: take_over(world)), max_attempts=0)

    with pytest.raises(LeaseLost):
        world.run(agent, lease_s=0.03)

    assert world.stored.lease.holder[:3] == ELSEWHERE
    assert world.stored.last_run is None


def test_an_agent_removed_while_it_is_run_ends_the_run(world: Any) -> None:
    world.put("a")
    agent = world.with_uploader(
        uploader_that(
            world, _upload_batch=lambda: world.change(lambda manager: manager.remove_agent("index"))
        )
    )

    with pytest.raises(LeaseLost, match="removed"):
        world.run(agent)

    with pytest.raises(UnknownAgent):
        assert world.stored


# what may be done while a run is under way


def positions(world: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Put something at each of so many positions, each of them a slice."""
    from livesync import ActionWrapper

    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    for position in range(1, count + 1):
        world.things[str(position)] = {"id": str(position), "title": "t"}
        world.manager.track.add(position, ActionWrapper(1.0, str(position), {"created"}))
    world.manager.track.seal(count)
    world.tm.commit()


def run_at_0(world: Any, agent: Any, **settings: Any) -> Any:
    result = agent.run(world.manager, world.host, now=0, **settings)
    world.tm.begin()
    return result


def test_a_pause_ends_a_run_after_its_slice_and_loses_nothing(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions(world, monkeypatch, 4)
    count: list[int] = []

    def pause() -> None:
        count.append(1)
        if len(count) == 2:
            world.change(lambda manager: manager.pause("index"))

    result = run_at_0(world, world.with_uploader(uploader_that(world, _upload_batch=pause)))
    paused = (world.stored.state, world.pointer, set(world.service.documents))
    world.manager.activate("index")
    world.tm.commit()
    run_at_0(world, world.agent)

    assert (result.accepted, result.till) == (2, 2)
    assert paused == ("paused", 2, {"1", "2"})
    assert set(world.service.documents) == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [
        (lambda manager: manager.pause("index"), ("paused", "", "no rights")),
        (
            lambda manager: manager.stop_agent(
                "index", StopReason.NEEDS_EXPORT, "it names another destination"
            ),
            ("stopped", "needs_export", "it names another destination"),
        ),
    ],
)
def test_what_somebody_has_decided_meanwhile_holds_although_the_run_fails(
    world: Any, meanwhile: Any, expected: tuple[str, str, str]
) -> None:
    world.put("a")
    world.service.answer_next(ServiceRefuses("no rights"))
    agent = world.with_uploader(uploader_that(world, _upload_batch=lambda: world.change(meanwhile)))

    with pytest.raises(ServiceRefuses):
        world.run(agent)

    assert (world.stored.state, world.stored.reason, world.stored.detail) == expected
    assert world.stored.last_run["error"] == "no rights"
    with pytest.raises(StateForbids):
        world.run()


def test_a_paused_agent_is_rewound_only_when_its_run_has_ended(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions(world, monkeypatch, 3)
    refused: list[str] = []

    def pause_and_rewind() -> None:
        if not refused:
            world.change(lambda manager: manager.pause("index"))
            with pytest.raises(Leased) as caught:
                world.change(lambda manager: manager.rewind("index", None))
            refused.append(str(caught.value))

    run_at_0(world, world.with_uploader(uploader_that(world, _upload_batch=pause_and_rewind)))
    world.manager.rewind("index", None)
    world.tm.commit()

    assert "is held: run by process" in refused[0]
    assert world.pointer is None


def test_nobody_moves_the_pointer_beside_a_run(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    positions(world, monkeypatch, 2)
    refused: list[str] = []

    def advance() -> None:
        with pytest.raises(Leased) as caught:
            world.change(lambda manager: manager.advance("index", 2))
        refused.append(str(caught.value))

    run_at_0(world, world.with_uploader(uploader_that(world, _upload_batch=advance)))
    world.manager.advance("index", 1)
    world.tm.commit()

    assert len(refused) == 2
    assert world.pointer == 1


def test_an_acknowledge_of_an_agents_own_moves_the_pointer_without_naming_the_token(world: Any) -> None:
    acknowledged: list[int] = []

    class Own(world.agent_type):  # type: ignore[misc]
        def acknowledge(self, manager: Any, till: int) -> None:
            manager.advance(self.id, till)
            acknowledged.append(till)

    world.put("a")
    result = world.run(Own("index"))

    assert acknowledged == [result.till]
    assert world.pointer == result.till


def test_a_run_that_was_asked_to_end_does_not_make_a_stopped_agent_active(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions(world, monkeypatch, 3)
    world.service.answer_next(ServiceRefuses("no"))
    with pytest.raises(ServiceRefuses):
        run_at_0(world, world.agent)

    run_at_0(world, world.agent, stop=lambda: True)
    asked = world.stored.state
    run_at_0(world, world.agent, stop=lambda: len(world.service.documents) > 1)
    asked_later = world.stored.state
    run_at_0(world, world.agent)

    assert (asked, asked_later, world.stored.state) == ("stopped", "stopped", "active")


def test_what_a_failed_run_notes_says_where_the_pointer_stands(world: Any) -> None:
    world.put("a")
    before = world.run().till
    world.put("explosive")

    with pytest.raises(HostFailed):
        world.run()

    assert world.stored.last_run["till"] == before == ledger.entries(world.stored)[0]["till"]


def test_logs_name_the_agent_when_the_lease_is_lost(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "livesync")
    world.put("a")

    with pytest.raises(LeaseLost):
        world.run(world.with_uploader(uploader_that(world, _upload_batch=lambda: take_over(world))))

    assert "agent index: agent 'index' was taken from this runner" in caplog.text


# frozen anywhere, while anything happens

changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "hide", "show", "move", "enqueue"]),
        st.sampled_from("abcdef"),
    ),
    max_size=8,
)


class Changes:
    """Changes the host as it is told; each title is another one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.version = 0

    def __call__(self, story: list[tuple[str, str]]) -> None:
        world = self.world
        world.tm.begin()
        for what, key in story:
            self.version += 1
            if what == "put":
                world.put(key, title=self.version, parent="a" if key > "d" else None)
            elif what == "enqueue":
                world.manager.enqueue("index", [key])
                world.tm.commit()
            elif key not in world.things:
                pass
            elif what == "remove":
                world.remove(key)
            elif what == "move":
                world.put(key, "moved", title=self.version)
            else:
                world.put(key, "set_private" if what == "hide" else "set_public", private=what == "hide")


def rows_at_once(world: World) -> Any:
    """A service without transactions and without pointers: what is sent is there at once."""

    class AtOnce(world.service.uploader_type()):  # type: ignore[misc]
        keeps_pointer = False

        def _upload_batch(self, batch: Any) -> Any:
            verdicts = super()._upload_batch(batch)
            super().end_slice(None)
            return verdicts

    return AtOnce


@settings(max_examples=40, deadline=None)
@example([("put", "a")], [("hide", "a")], [("remove", "a")], 0, 1, False, 1)
@example([("hide", "a")] * 3, [], [("hide", "a")] * 5, 0, 1, False, 1)
@given(
    changes, changes, changes,
    st.integers(0, 12), st.sampled_from([1, 2, 10_000]), st.booleans(), st.sampled_from([1, 100]),
)  # fmt: skip
def test_a_runner_that_was_frozen_at_any_step_does_no_harm_when_it_wakes_up(
    before: Any,
    meanwhile: Any,
    afterwards: Any,
    when: int,
    slice_size: int,
    at_once: bool,
    slow_above: int,
) -> None:
    world = World()
    change = Changes(world)
    steps: list[int] = []

    def be_frozen() -> None:
        steps.append(1)
        if len(steps) == when + 1:
            world.change(lambda manager: setattr(manager.stored("index").lease, "until", 0.0))
            change(meanwhile)
            world.run(other)
            change(afterwards)

    if at_once:
        plain = rows_at_once(world)
        frozen = uploader_that(
            world, plain, **dict.fromkeys(("begin_slice", "_upload_batch", "end_slice"), be_frozen)
        )
    else:
        plain = world.service.uploader_type()
        frozen = uploader_that(world, plain, begin_slice=be_frozen, _upload_batch=be_frozen)
    options = {"batch_size": 2, "slow_above": slow_above, "slow_budget": 3}
    other = world.with_uploader(plain, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "SLICE_SIZE", slice_size)
        try:
            change([("put", key) for key in "abcdef"])
            world.run(other)
            change(before)
            with suppress(LeaseLost):
                world.run(world.with_uploader(frozen, **options))
            for _ in range(20):  # the queue goes out bit by bit: each change of 24 may put two objects there
                world.run(other)
                if queue.count(world.stored) == 0:
                    break

            assert queue.count(world.stored) == 0
            assert world.service.documents == world.expected()
            assert all(ledger.balance(entry) == 0 for entry in ledger.entries(world.stored))
        finally:
            world.close()
