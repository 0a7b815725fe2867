"""The ledger: what each run took and what became of it; the sums hold whatever happens."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.shelf import Shelf, World

from livesync import Op, Record, Verdict
from livesync.delivery import ledger, slices
from livesync.delivery.measures import BATCH_SECONDS, Histogram
from livesync.delivery.record import LEDGER_COUNTS, Outcome, RunResult
from livesync.delivery.uploader import RecordUploader
from livesync.errors import BatchRefused, LiveSyncError, RetryLater, ServiceRefuses
from livesync.track.stored import StoredAgent


def lines(world: Any) -> list[dict[str, Any]]:
    return ledger.entries(world.stored)


def assert_balanced(world: Any) -> None:
    """Every line balances, and the totals are the sums of the lines (there are not more than are kept)."""
    totals = dict(world.stored.totals or {})
    kept = lines(world)
    for entry in kept:
        assert ledger.balance(entry) == 0
    assert ledger.balance(totals) == 0
    for name in LEDGER_COUNTS:
        assert totals.get(name, 0) == sum(entry.get(name, 0) for entry in kept)


def counts(entry: Any) -> dict[str, int]:
    """The counts of a line, or of a result, that are not 0."""
    values = entry if isinstance(entry, dict) else {name: getattr(entry, name) for name in LEDGER_COUNTS}
    return {name: values.get(name, 0) for name in LEDGER_COUNTS if values.get(name, 0)}


# lines


def test_a_run_has_a_line(world: Any) -> None:
    world.put("a")
    world.put("a", title="new")
    world.put("gone")
    world.remove("gone")

    result = world.run()

    [entry] = lines(world)
    assert counts(entry) == counts(result) == {"read": 4, "accepted": 1, "coalesced": 1, "cancelled": 2}
    assert (entry["number"], entry["kind"], entry["error"]) == (0, "run", "")
    assert (entry["began"], entry["ended"]) == (world.clock, world.clock)
    assert entry["till"] == result.till == world.pointer
    assert entry["seconds"] == result.seconds > 0
    assert (entry["batches"], entry["retried"]) == (1, 0)
    assert_balanced(world)


def test_a_run_that_finds_nothing_has_none(world: Any) -> None:
    world.put("a")
    world.run()

    world.agent.run(world.manager, world.host, now=world.clock)

    assert len(lines(world)) == 1


def test_a_run_that_fails_says_what_was_acknowledged_and_why_it_failed(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_positions(world, monkeypatch, 4)
    world.service.answer_next(lambda batch: None, lambda batch: None, ServiceRefuses("no\nrights"))

    with pytest.raises(ServiceRefuses):
        world.run()

    [entry] = lines(world)
    assert counts(entry) == {"read": 2, "accepted": 2}
    assert entry["error"] == "no rights"
    assert entry["ended"] is not None
    assert entry["till"] == 2 == world.pointer
    assert_balanced(world)


def test_the_last_lines_are_kept_newest_first(world: Any) -> None:
    for number in range(ledger.LENGTH + 7):
        world.put(f"k{number}")
        world.run()

    kept = lines(world)
    assert [entry["number"] for entry in kept] == list(range(56, 6, -1))
    assert len(world.stored.runs) == ledger.LENGTH
    assert world.stored.totals["accepted"] == ledger.LENGTH + 7
    assert all(ledger.balance(entry) == 0 for entry in kept)


def test_a_run_whose_line_was_taken_back_meanwhile_writes_over_nobodys() -> None:
    stored = StoredAgent("t", "n", "", {})
    first = ledger.begin(stored, "run", 1.0)
    for number in range(ledger.LENGTH):
        ledger.begin(stored, "export", float(number))

    ledger.note(stored, first, RunResult(read=5))

    assert first == 0
    assert ledger.entries(stored)[0]["number"] == ledger.LENGTH
    assert all("read" not in entry for entry in ledger.entries(stored))


def test_a_line_that_was_begun_and_never_noted_balances() -> None:
    stored = StoredAgent("t", "n", "", {})
    ledger.begin(stored, "run", 1.0)

    [entry] = ledger.entries(stored)

    assert entry["ended"] is None
    assert ledger.balance(entry) == 0


def test_a_balance_tells_how_much_is_missing() -> None:
    assert ledger.balance({"read": 5, "accepted": 3}) == 2
    assert ledger.balance({"read": 5, "cascaded": 1, "accepted": 3, "dead": 2, "excluded": 2}) == -1


# totals


def test_totals_add_up_over_runs_and_failures(world: Any) -> None:
    world.put("a")
    world.run()
    world.put("b")
    world.service.answer_next(RetryLater())
    with pytest.raises(RetryLater):
        world.run(world.with_uploader(world.service.uploader_type(), max_attempts=1))
    world.run()

    totals = world.stored.totals
    assert counts(totals) == {"read": 2, "accepted": 2}
    assert totals["batches"] == 2  # what came to nothing is in no total, as its records are not
    histogram = ledger.totals_histogram(totals)
    assert sum(histogram.counts) == 2
    assert histogram.seconds > 0
    assert_balanced(world)


def test_an_agent_that_never_ran_has_an_empty_histogram() -> None:
    histogram = ledger.totals_histogram({})

    assert histogram.quantile(0.5) is None
    assert len(histogram.counts) == len(BATCH_SECONDS) + 1


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.lists(st.floats(0, 100), max_size=40))
def test_histograms_add_up_and_tell_quantiles(first: list[float], second: list[float]) -> None:
    one, other = Histogram(), Histogram()
    for seconds in first:
        one.observe(seconds)
    for seconds in second:
        other.observe(seconds)

    one.add(other.counts, other.seconds)

    both = sorted([*first, *second])
    assert sum(one.counts) == len(both)
    assert one.seconds == pytest.approx(sum(both))
    for share in 0.25, 0.5, 0.99, 1.0:
        bound = one.quantile(share)
        assert bound is not None
        below = [seconds for seconds in both if seconds <= bound]
        assert len(below) >= share * len(both)


# the sum, case by case


def test_containers_count_what_is_inside_as_cascaded(world: Any) -> None:
    world.put("box")
    for number in range(4):
        world.put(f"in{number}", parent="box")
    world.run()
    world.put("in0", title="changed")
    world.put("box", "moved")

    world.run()

    # in0 has an action of its own and is sent once
    assert counts(lines(world)[0]) == {"read": 2, "cascaded": 3, "accepted": 5}
    assert_balanced(world)


def keep_back_b(record: Record) -> Record | None:
    return None if record.object_id.startswith("b") else record


def raise_at_c(record: Record) -> Record:
    if record.object_id == "c":
        raise LookupError("c")
    return record


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (keep_back_b, {"read": 4, "accepted": 3, "excluded": 1}),
        (raise_at_c, {"read": 4, "accepted": 3, "dead": 1}),
    ],
)
def test_what_a_transform_does_is_accounted_for(
    world: Any, monkeypatch: pytest.MonkeyPatch, transform: Any, expected: dict[str, int]
) -> None:
    monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: transform)
    for key in "abcd":
        world.put(key)

    result = world.run(world.agent_type("index", transform="some:function"))

    assert counts(result) == counts(lines(world)[0]) == expected
    assert_balanced(world)


def test_what_is_excluded_at_the_host_is_a_delete_and_counts_by_its_verdict(world: Any) -> None:
    world.put("a", private=True)
    world.put("b")

    result = world.run()

    assert counts(result) == {"read": 2, "accepted": 2}
    assert_balanced(world)


def test_what_dies_anywhere_is_dead_once(world: Any) -> None:
    world.put("no document", broken="raises")
    world.put("not to be encoded", extra={1})
    world.put("refused")
    world.put("well")
    world.service.answer_next(
        lambda batch: [
            Verdict(
                record.object_id, Outcome.REFUSED if record.object_id == "refused" else Outcome.ACCEPTED, "no"
            )
            for record in batch
        ]
    )

    result = world.run()

    assert counts(result) == {"read": 4, "accepted": 1, "dead": 3}
    assert len(result.dead_records) == 3
    assert_balanced(world)


def test_records_of_an_agents_own_are_accounted_for(world: Any) -> None:
    class Own(world.agent_type):  # type: ignore[misc]
        def _generate_records(self, data: Any, last_ts: int) -> Iterator[Record]:
            yield Record(Op.UPSERT, "summary", last_ts, document={"of": "all"})
            for record in super()._generate_records(data, last_ts):
                if record.object_id != "unwanted":
                    yield record
                    if record.object_id == "twice":
                        yield record

    for key in "one", "twice", "unwanted":
        world.put(key)
    world.put("one", title="new")

    result = world.run(Own("index"))

    assert counts(result) == {"read": 4, "coalesced": 1, "cancelled": 1, "cascaded": 2, "accepted": 4}
    assert_balanced(world)


def test_a_run_of_an_agents_own_that_keeps_records_back_is_accounted_for(world: Any) -> None:
    class Own(world.agent_type):  # type: ignore[misc]
        def _run(self, records: Iterable[Record], uploader: RecordUploader) -> RunResult:
            return super()._run((record for record in records if record.object_id != "b"), uploader)

    for key in "abc":
        world.put(key)

    result = world.run(Own("index"))

    assert counts(result) == {"read": 3, "excluded": 1, "accepted": 2}
    assert_balanced(world)


def test_a_run_of_an_agents_own_that_sends_more_is_accounted_for(world: Any) -> None:
    class Own(world.agent_type):  # type: ignore[misc]
        def _run(self, records: Iterable[Record], uploader: RecordUploader) -> RunResult:
            more = [Record(Op.UPSERT, f"extra{number}", 0, document={}) for number in range(2)]
            return super()._run([*records, *more], uploader)

    world.put("a")

    result = world.run(Own("index"))

    assert counts(result) == {"read": 1, "cascaded": 2, "accepted": 3}
    assert_balanced(world)


def test_a_service_that_loses_a_record_is_not_hidden(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Losing(world.service.uploader_type()):  # type: ignore[misc]
        def iterate_over(self, records: Iterable[Record]) -> RunResult:
            result = super().iterate_over(records)
            result.accepted -= 1
            return result

    world.put("a")
    world.put("b")

    world.run(world.with_uploader(Losing))

    assert ledger.balance(lines(world)[0]) == 1
    assert "the ledger does not balance: 1 not accounted for" in caplog.text


def test_parts_of_a_position_are_accounted_for_one_by_one(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_SIZE", 4)
    for number in range(10):
        world.things[str(number)] = {"id": str(number), "title": "t"}
    changes = [(str(number % 10), frozenset({"created"})) for number in range(10)]
    world.manager.record_changes(changes, "", "")
    world.tm.commit()
    seen: list[int] = []

    class Watching(world.service.uploader_type()):  # type: ignore[misc]
        def begin_slice(self, till: int) -> None:
            connection = world.db.open()
            seen.append(ledger.entries(connection.root()["livesync"].stored("index"))[0].get("read", 0))
            connection.close()
            super().begin_slice(till)

    world.run(world.with_uploader(Watching))

    assert seen == [0, 4, 8]
    assert counts(lines(world)[0]) == {"read": 10, "accepted": 10}
    assert_balanced(world)


def test_retries_are_counted_beside_the_sum(world: Any) -> None:
    for key in "abcd":
        world.put(key)
    world.service.answer_next(RetryLater(), BatchRefused("halve"), RetryLater())

    result = world.run(world.with_uploader(world.service.uploader_type(), backoff_s=0))

    assert counts(result) == {"read": 4, "accepted": 4}
    assert (result.batches, result.retried) == (5, 6)
    entry = lines(world)[0]
    assert (entry["batches"], entry["retried"]) == (5, 6)
    assert_balanced(world)


# killed


def at_positions(world: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Put something at each of so many positions, each of them a slice."""
    from livesync import ActionWrapper

    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    for position in range(1, count + 1):
        world.things[str(position)] = {"id": str(position), "title": "t"}
        world.manager.track.add(position, ActionWrapper(1.0, str(position), {"created"}))
    world.manager.track.seal(count)
    world.tm.commit()


class Killed(BaseException):
    """Stands for the end of the process: nothing of livesync may catch it."""


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_run_that_was_cut_off_has_a_line_of_exactly_what_was_acknowledged(
    world: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    at_positions(world, monkeypatch, 4)
    ended: list[int] = []

    class Dying(world.service.uploader_type()):  # type: ignore[misc]
        def end_slice(self, position: int | None) -> None:
            super().end_slice(position)  # the service has it, nobody knows
            if len(ended) == after:
                raise Killed
            ended.append(1)

    with pytest.raises(Killed):
        world.with_uploader(Dying).run(world.manager, world.host, now=0)

    [entry] = lines(world)
    assert counts(entry) == ({"read": after, "accepted": after} if after else {})
    assert entry["ended"] is None
    assert (entry.get("till") or None) == world.pointer == (after or None)
    assert_balanced(world)


def test_a_process_that_ended_at_once_has_a_line_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "host.fs")
    pid = os.fork()
    if pid == 0:
        world = World(path)
        at_positions(world, monkeypatch, 3)

        class Dying(world.service.uploader_type()):  # type: ignore[misc]
            def _upload_batch(self, batch: Any) -> Any:
                if batch[0].object_id == "3":
                    os._exit(77)  # no finally, no at-exit, no renewal
                return super()._upload_batch(batch)

        world.with_uploader(Dying).run(world.manager, world.host, now=0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)

    world = World(path)
    entries, pointer, lease = lines(world), world.pointer, world.stored.lease.holder
    another = type("NoPointer", (world.service.uploader_type(),), {"keeps_pointer": False})
    result = world.run(world.with_uploader(another))
    later, totals = lines(world), world.stored.totals
    world.close()

    assert os.waitstatus_to_exitcode(status) == 77
    assert lease[1] == pid
    assert [counts(entry) for entry in entries] == [{"read": 2, "accepted": 2}]
    assert (entries[0]["ended"], entries[0]["till"]) == (None, 2) == (None, pointer)
    assert result.read == 1
    assert [counts(entry) for entry in later] == [{"read": 1, "accepted": 1}, {"read": 2, "accepted": 2}]
    assert counts(totals) == {"read": 3, "accepted": 3}


# whatever happens

keys = st.sampled_from("abcdefgh")
acts = st.one_of(
    st.tuples(st.just("put"), keys, st.sampled_from([None, "a", "b"])),
    st.tuples(st.just("put"), keys, st.none()),
    st.tuples(st.just("remove"), keys, st.none()),
    st.tuples(st.just("hide"), keys, st.booleans()),
    st.tuples(st.just("break"), keys, st.booleans()),
    st.tuples(st.just("say moved"), keys, st.none()),
    st.tuples(st.just("enqueue"), keys, st.none()),
    st.tuples(st.just("run"), st.integers(0, 2**32), st.integers(0, 4)),
)


class Moody:
    """Answers any batch in any way; ``lies`` are the objects that it calls stale, and they are not."""

    def __init__(self, seed: int, lies: set[str]) -> None:
        self.mood = random.Random(seed)
        self.lies = lies

    def __call__(self, batch: Any) -> Any:
        kind = self.mood.random()
        if kind < 0.1:
            raise RetryLater()
        if kind < 0.2:
            raise BatchRefused("not these together")
        if kind < 0.23:
            raise ServiceRefuses("no rights")
        if kind < 0.26:
            raise Killed
        if kind < 0.6:
            return None
        verdicts = [
            Verdict(record.object_id, self.mood.choices(list(Outcome), weights=[6, 1, 2, 1])[0])
            for record in batch
        ]
        self.lies.update(verdict.object_id for verdict in verdicts if verdict.outcome is Outcome.STALE)
        return verdicts


def keep_back_some(record: Record) -> Record | None:
    if record.object_id == "h":
        raise LookupError("h")
    return None if record.object_id == "g" and record.op is Op.UPSERT else record


#: A container was hidden with what is in it, and the service knows.
BOX = [("put", "a", None), ("put", "b", "a"), ("hide", "a", True), ("run", 16, 0)]


@settings(max_examples=40, deadline=None)
@example([*BOX, ("remove", "a", None)], 1, 1)
@example([*BOX, ("remove", "b", None), ("put", "c", "b"), ("run", 16, 0), ("put", "b", "a")], 1, 1)
@example([*BOX, ("put", "c", None), ("put", "d", "c"), ("run", 16, 0), ("put", "c", "a")], 1, 1)
@given(st.lists(acts, max_size=25), st.sampled_from([1, 3, 10_000]), st.integers(1, 3))
def test_whatever_happens_the_sums_hold(story: list[Any], slice_size: int, batch_size: int) -> None:
    world = World()
    lies: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livesync.delivery.render.load_function", lambda reference: keep_back_some)
        patch.setattr(slices, "SLICE_SIZE", slice_size)
        try:
            for what, first, second in [*story, ("run", 0, 0)]:
                if what == "run":
                    _run_moodily(world, Moody(first, lies), second, batch_size)
                else:
                    _do(world, what, first, second)
            assert_balanced(world)
            kept = lines(world)
            assert len(kept) == world.stored.runs_begun
            assert_equal_in_the_end(world, lies)
        finally:
            world.close()


VERSIONS = count()


def assert_equal_in_the_end(world: World, lies: set[str]) -> None:
    """After a run that nothing disturbs the service has what the host has, but for what was set aside."""
    patient = world.with_uploader(world.service.uploader_type())
    world.service.script.clear()
    for _ in range(2):
        world.run(patient)
    left_out = {"g", "h", *world.stored.dead, *lies}  # g and h: what the transform keeps back or spoils
    host = Shelf(world.things)
    for key in (world.service.documents.keys() | world.things.keys()) - left_out:
        thing = world.things.get(key)
        expected = None if thing is None or host.is_excluded(thing) else host.document(thing)
        assert world.service.documents.get(key) == expected, key


def _do(world: World, what: str, first: Any, second: Any) -> None:
    if what == "put":
        world.put(first, title=next(VERSIONS), **({"parent": second} if second and second < first else {}))
    elif what == "enqueue":
        world.manager.enqueue("index", [first, "stranger"])
        world.tm.commit()
    elif first not in world.things:
        pass
    elif what == "remove":
        world.remove(first)
    elif what == "hide":
        world.put(first, "set_private" if second else "set_public", private=second)
    elif what == "break":
        world.put(first, broken="raises" if second else None)
    else:
        world.put(first, "moved")


def _run_moodily(world: World, moody: Moody, limit: int, batch_size: int) -> None:
    asked: list[int] = []

    class Uploader(world.service.uploader_type()):  # type: ignore[misc]
        def _upload_batch(self, batch: Any) -> Any:
            world.service.answer_next(moody)
            return super()._upload_batch(batch)

    def stop() -> bool:
        asked.append(1)
        return 0 < limit < len(asked)

    agent = world.with_uploader(
        Uploader,
        transform="some:function",
        batch_size=batch_size,
        backoff_s=0,
        max_attempts=3,
        slow_above=2,
        slow_budget=3,
    )
    world.clock += 10_000_000_000
    try:
        result = agent.run(world.manager, world.host, now=world.clock, stop=stop)
    except (LiveSyncError, Killed):
        return
    finally:
        world.tm.begin()
    assert result.balance() == 0
    assert result.sent == result.accepted + result.stale + result.dead
