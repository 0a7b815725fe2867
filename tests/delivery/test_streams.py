"""Several batches under way at once, with services that the tests hold up and let go."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import LONG_S

from livesync.agent import SyncAgent
from livesync.delivery.backoff import Backoff
from livesync.delivery.pace import Refusals
from livesync.delivery.record import Batch, Op, Outcome, Record, RunResult, Verdict
from livesync.delivery.streams import Streams
from livesync.delivery.uploader import DELIVERY_OPTIONS, IN_FLIGHT_OPTION, RecordUploader
from livesync.errors import BatchRefused, RetryLater, ServiceRefuses, TooManyRefused


def batch_of(ids: Iterable[str]) -> Batch:
    records = [Record(Op.UPSERT, object_id, 7, document={}) for object_id in ids]
    return Batch(records, [b"{}"] * len(records))


class Gate:
    """Delivers when it is told to: keeps which batches are under way, and lets them go one at a time."""

    def __init__(self, batches: list[str], most: int) -> None:
        self.batches = batches
        self.most = most
        self.under_way: set[int] = set()
        self.finished: list[int] = []
        self.failing: dict[int, Exception] = {}
        self.given_up = False
        self.pulled = 0
        self._let_go: set[int] = set()
        self._changed = threading.Condition()

    def source(self) -> Iterator[Batch]:
        for number, ids in enumerate(self.batches):
            self.pulled = number + 1
            yield _Numbered(number, batch_of(ids))

    def deliver(self, batch: Any, result: RunResult) -> None:
        number = batch.number
        with self._changed:
            assert number not in self.under_way
            self.under_way.add(number)
            self._changed.notify_all()
            let_go = self._changed.wait_for(lambda: number in self._let_go or self.given_up, LONG_S)
            self.under_way.remove(number)
            self.finished.append(number)
            self._changed.notify_all()
        assert let_go
        if number in self.failing:
            raise self.failing[number]
        result.accepted += len(batch)
        result.batches += 1

    def give_up(self) -> None:
        with self._changed:
            self.given_up = True
            self._changed.notify_all()

    def wait_for(self, numbers: set[int]) -> bool:
        """Wait until just these are under way."""
        with self._changed:
            return self._changed.wait_for(lambda: self.under_way == numbers, LONG_S)

    def let_go(self, number: int) -> None:
        with self._changed:
            self._let_go.add(number)
            self._changed.notify_all()


class _Numbered(Batch):
    def __init__(self, number: int, batch: Batch) -> None:
        super().__init__(batch, batch.bodies)
        self.number = number


def run_in_thread(gate: Gate) -> tuple[threading.Thread, RunResult, list[BaseException]]:
    result, raised = RunResult(), []

    def run() -> None:
        try:
            Streams(gate.deliver, gate.most, gate.give_up).run(gate.source(), result)
        except BaseException as exc:  # noqa: BLE001 - for the test to look at
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result, raised


def next_under_way(gate: Gate, under_way: set[int], begin: int) -> int:
    """Add to ``under_way`` what must leave now: in order, while there is room and nothing in common."""
    while begin < len(gate.batches) and len(under_way) < gate.most:
        if any(set(gate.batches[begin]) & set(gate.batches[other]) for other in under_way):
            break
        under_way.add(begin)
        begin += 1
    return begin


batches_of_ids = st.lists(
    st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map("".join), max_size=10
)


@settings(max_examples=60)
@given(batches_of_ids, st.integers(1, 4), st.integers(0, 2**32))
def test_as_many_as_may_be_are_under_way_and_never_two_with_an_object_in_common(batches, most, seed):
    gate = Gate(batches, most)
    mood = random.Random(seed)
    thread, result, raised = run_in_thread(gate)
    under_way: set[int] = set()
    begin = 0

    while True:
        begin = next_under_way(gate, under_way, begin)
        assert gate.wait_for(under_way)
        if not under_way:
            break
        chosen = mood.choice(sorted(under_way))
        under_way.remove(chosen)
        gate.let_go(chosen)
    thread.join(LONG_S)

    assert raised == []
    assert sorted(gate.finished) == list(range(len(batches)))
    assert (result.accepted, result.batches) == (sum(map(len, batches)), len(batches))
    for object_id in "abcdef":
        of_it = [number for number, ids in enumerate(batches) if object_id in ids]
        assert [number for number in gate.finished if number in of_it] == of_it


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 9), st.integers(0, 2**32))
def test_the_first_failure_ends_all_and_nothing_is_left_running(most, failing, seed):
    gate = Gate(list("abcdefghij"), most)
    gate.failing[failing] = ZeroDivisionError("by nought")
    mood = random.Random(seed)
    thread, _, raised = run_in_thread(gate)
    under_way: set[int] = set()
    begin = 0

    while failing not in gate.finished:
        begin = next_under_way(gate, under_way, begin)
        assert gate.wait_for(under_way)
        chosen = mood.choice(sorted(under_way))
        under_way.remove(chosen)
        gate.let_go(chosen)
        if chosen == failing:
            break
    thread.join(LONG_S)

    assert [type(exc) for exc in raised] == [ZeroDivisionError]
    assert gate.given_up
    assert gate.under_way == set()
    # none that had not left yet has left since
    assert set(gate.finished) <= set(range(begin))
    assert not [left for left in threading.enumerate() if left.name.startswith("livesync-stream")]


def test_what_cannot_be_rendered_ends_all_that_is_under_way():
    gate = Gate(["a", "b"], 3)

    def source() -> Iterator[Batch]:
        yield from gate.source()
        assert gate.wait_for({0, 1})
        raise LookupError("the host is broken")

    with pytest.raises(LookupError):
        Streams(gate.deliver, gate.most, gate.give_up).run(source(), RunResult())

    assert gate.given_up
    assert sorted(gate.finished) == [0, 1]


def test_the_next_batch_is_rendered_while_others_are_under_way():
    gate = Gate(["a", "b", "c"], 2)
    thread, _, _ = run_in_thread(gate)

    assert gate.wait_for({0, 1})
    gate.let_go(1)
    assert gate.wait_for({0, 2})
    pulled = gate.pulled
    gate.let_go(0)
    gate.let_go(2)
    thread.join(LONG_S)

    assert pulled == 3


# by way of an uploader


class StreamingAgent(SyncAgent):
    options = (*DELIVERY_OPTIONS, IN_FLIGHT_OPTION)


class StreamingUploader(RecordUploader):
    """Answers as a function says, in several threads."""

    concurrent = True

    def __init__(self, answer: Any, **options: Any) -> None:
        limits = {"batch_size": 1, **options}
        super().__init__(StreamingAgent("a", **limits), backoff=Backoff(base_s=0), sleep=lambda seconds: None)
        self._upload_batch = answer  # type: ignore[method-assign]


def upserts(ids: Iterable[str]) -> list[Record]:
    return [
        Record(Op.UPSERT, object_id, number, document={"n": number}) for number, object_id in enumerate(ids)
    ]


def test_in_flight_is_an_option_of_uploaders_that_are_concurrent():
    agent = StreamingAgent("a", in_flight=7)

    assert StreamingUploader(None).in_flight == 4
    assert type("Concurrent", (RecordUploader,), {"concurrent": True})(agent).in_flight == 7
    assert RecordUploader(agent).in_flight == 1


def test_all_the_waiting_of_a_slow_service_is_hidden():
    together = threading.Barrier(4)  # a service that answers only when four ask at once

    def answer(batch: Batch) -> None:
        together.wait(LONG_S)

    uploader = StreamingUploader(answer, in_flight=4)
    result = uploader.iterate_over(upserts(f"id{number}" for number in range(40)))

    assert (result.accepted, result.batches) == (40, 40)
    assert sum(result.timings.counts) == 40


def test_one_stream_is_no_thread():
    threads = set()
    uploader = StreamingUploader(lambda batch: threads.add(threading.current_thread()), in_flight=1)

    uploader.iterate_over(upserts("abc"))

    assert threads == {threading.current_thread()}


def test_one_that_is_refused_ends_the_waits_of_the_others():
    sent, waits = threading.Event(), threading.Event()

    def answer(batch: Batch) -> None:
        if batch[0].object_id == "b":
            sent.set()
            assert waits.wait(LONG_S)
            raise ServiceRefuses("no rights")
        assert sent.wait(LONG_S)
        raise RetryLater(after_s=600)

    uploader = StreamingUploader(answer, in_flight=2, max_attempts=0)
    uploader.sleep = None  # a real wait, of ten minutes
    hold = uploader.pace.hold
    uploader.pace.hold = lambda seconds: (hold(seconds), waits.set())  # type: ignore[method-assign]

    with pytest.raises(ServiceRefuses):
        uploader.iterate_over(upserts("abcd"))

    assert not [left for left in threading.enumerate() if left.name.startswith("livesync-stream")]


def test_after_a_failure_the_same_uploader_works_again():
    answers = [ServiceRefuses("not yet"), RetryLater(), None]
    uploader = StreamingUploader(lambda batch: _given(answers), in_flight=2)

    with pytest.raises(ServiceRefuses):
        uploader.iterate_over(upserts("a"))
    result = uploader.iterate_over(upserts("a"))

    assert (result.accepted, result.retried) == (1, 1)


def _given(answers: list[Any]) -> Any:
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_not_now_for_one_stream_is_not_now_for_all():
    told, slept = threading.Event(), []
    mine = threading.local()

    def answer(batch: Batch) -> None:
        object_id = batch[0].object_id
        if object_id == "a" and not told.is_set():
            told.set()
            raise RetryLater(after_s=30)
        if object_id == "b":
            assert told.wait(LONG_S)
            assert held.wait(LONG_S)
        if object_id == "c":
            slept.extend(mine.waits)

    held = threading.Event()

    def sleep(seconds: float) -> None:
        mine.waits = [*getattr(mine, "waits", ()), seconds]
        held.set()

    uploader = StreamingUploader(answer, in_flight=2)
    uploader.sleep = sleep
    uploader.pace._clock = lambda: 1000.0  # a clock that stands still

    uploader.iterate_over(upserts("abc"))

    assert 30 in slept


def test_what_all_streams_have_refused_is_counted_together():
    uploader = StreamingUploader(
        lambda batch: [Verdict(batch[0].object_id, Outcome.REFUSED, "no")], in_flight=3
    )
    uploader.refusals = Refusals(100, 5)

    with pytest.raises(TooManyRefused, match="6 of the last"):
        uploader.iterate_over(upserts(f"id{number}" for number in range(50)))


def test_streams_that_refuse_too_much_at_the_same_time_tell_of_the_first_that_did():
    together = threading.Barrier(3)

    def refuse(batch: Batch) -> list[Verdict]:
        together.wait(LONG_S)  # the eighth is refused before anybody looks at the sixth
        return [Verdict(batch[0].object_id, Outcome.REFUSED, "no")]

    uploader = StreamingUploader(refuse, in_flight=3)
    uploader.refusals = Refusals(100, 5, (3, 1, 2, 3))

    with pytest.raises(TooManyRefused, match="6 of the last 6"):
        uploader.iterate_over(upserts(f"id{number}" for number in range(3)))


def test_of_several_batches_that_have_failed_the_first_is_told():
    gate = Gate(["a", "b", "c"], 3)
    gate.failing = {0: RetryLater(reason="zero"), 1: RetryLater(reason="one"), 2: RetryLater(reason="two")}
    failed: list[int] = []

    def deliver(batch: Any, result: RunResult) -> None:
        try:
            gate.deliver(batch, result)
        finally:
            failed.append(batch.number)

    streams = Streams(deliver, 3, gate.give_up)
    thread_says: list[str] = []

    def run() -> None:
        try:
            streams.run(gate.source(), RunResult())
        except RetryLater as exc:
            thread_says.append(str(exc))

    thread = threading.Thread(target=run)
    thread.start()
    assert gate.wait_for({0, 1, 2})
    gate.let_go(1)
    thread.join(LONG_S)

    assert failed[0] == 1
    assert "one" in thread_says[0]


@settings(max_examples=40)
@given(
    ids=st.lists(st.sampled_from("abcdefgh"), max_size=25),
    poison=st.sets(st.sampled_from("abcdefgh"), max_size=3),
    in_flight=st.integers(2, 5),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_service_does_each_object_is_delivered_in_order_or_set_aside(
    ids, poison, in_flight, seed
):
    mood = random.Random(seed)
    taken: list[tuple[str, int]] = []
    lock = threading.Lock()

    def answer(batch: Batch) -> list[Verdict] | None:
        with lock:
            kind = mood.random()
            if kind < 0.2:
                raise RetryLater()
            found = [record.object_id for record in batch if record.object_id in poison]
            if found:
                raise BatchRefused(f"cannot take {found[0]}")
            if kind < 0.6:
                taken.extend((record.object_id, record.position) for record in batch)
                return None
            answers = []
            for record in batch:
                outcome = mood.choice([Outcome.ACCEPTED, Outcome.NOT_NOW])
                answers.append(Verdict(record.object_id, outcome))
                if outcome is Outcome.ACCEPTED:
                    taken.append((record.object_id, record.position))
            return answers

    records = upserts(ids)
    uploader = StreamingUploader(answer, in_flight=in_flight, batch_size=3, max_attempts=0)

    result = uploader.iterate_over(records)

    expected = [(record.object_id, record.position) for record in records if record.object_id not in poison]
    for object_id in set(ids):
        assert [pair for pair in taken if pair[0] == object_id] == [
            pair for pair in expected if pair[0] == object_id
        ]
    assert result.accepted == len(expected)
    assert result.dead == len(result.dead_records) == len(records) - len(expected)
