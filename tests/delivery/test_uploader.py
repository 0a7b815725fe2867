import logging
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.agent import SyncAgent
from livesync.delivery import sender
from livesync.delivery.backoff import Backoff
from livesync.delivery.pace import Refusals
from livesync.delivery.record import Batch, Op, Outcome, Record, Verdict
from livesync.delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader
from livesync.errors import BatchRefused, RetryLater, ServiceRefuses, TooManyRefused

Answer = Exception | Callable[[Batch], Iterable[Verdict] | None] | list[Verdict] | None


class TunedAgent(SyncAgent):
    options = DELIVERY_OPTIONS


class ScriptedUploader(RecordUploader):
    """Answers the batches as it is told, then with None; keeps what it was sent and how long it waited."""

    def __init__(self, *answers: Answer, agent: SyncAgent | None = None, **kwargs):
        self.waits: list[float] = []
        kwargs.setdefault("backoff", Backoff(base_s=1, random=lambda: 1.0))
        super().__init__(agent or SyncAgent("a"), sleep=self.waits.append, **kwargs)
        self.answers = list(answers)
        self.sent: list[list[Record]] = []
        self.bodies: list[list[bytes | None]] = []

    def _upload_batch(self, batch):
        self.sent.append(list(batch))
        self.bodies.append(list(batch.bodies))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer(batch) if callable(answer) else answer

    @property
    def ids(self) -> list[str]:
        """The ids of each batch that was sent, joined."""
        return ["".join(record.object_id for record in batch) for batch in self.sent]


def upsert(object_id: str, position: int = 7, **document) -> Record:
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id: str, position: int = 7) -> Record:
    return Record(Op.DELETE, object_id, position)


def upserts(ids: str) -> list[Record]:
    return [upsert(object_id) for object_id in ids]


def verdicts(**outcomes: Outcome) -> list[Verdict]:
    return [
        Verdict(object_id, outcome, f"{object_id} {outcome.value}") for object_id, outcome in outcomes.items()
    ]


# cutting


def test_no_records_send_nothing():
    uploader = ScriptedUploader()

    result = uploader.iterate_over([])

    assert uploader.sent == []
    assert (result.accepted, result.stale, result.dead) == (0, 0, 0)


def test_batches_are_cut_by_count():
    uploader = ScriptedUploader(batch_size=2)

    result = uploader.iterate_over(upserts("abcde"))

    assert uploader.ids == ["ab", "cd", "e"]
    assert result.accepted == 5


def test_batches_are_cut_by_bytes():
    uploader = ScriptedUploader(max_batch_bytes=1000)

    uploader.iterate_over(upsert(object_id, text="x" * 300) for object_id in "abcde")

    assert uploader.ids == ["ab", "cd", "e"]


def test_a_record_larger_than_a_batch_is_sent_alone():
    uploader = ScriptedUploader(max_batch_bytes=1000)

    uploader.iterate_over([upsert("a"), upsert("b", text="x" * 2000), upsert("c"), upsert("d")])

    assert uploader.ids == ["a", "b", "cd"]


def test_an_id_that_comes_twice_begins_another_batch():
    uploader = ScriptedUploader()

    uploader.iterate_over([upsert("a", n=1), upsert("b"), delete("a"), upsert("c"), upsert("a", n=2)])

    assert uploader.ids == ["ab", "ac", "a"]


def test_bodies_are_the_documents_and_none_for_deletes():
    uploader = ScriptedUploader()

    uploader.iterate_over([upsert("a", z=1), delete("b")])

    assert uploader.bodies == [[b'{"id":"a","z":1}', None]]


def test_records_are_pulled_a_batch_at_a_time():
    pulled = []

    def source():
        for object_id in "abcde":
            pulled.append(object_id)
            yield upsert(object_id)

    seen = []
    uploader = ScriptedUploader(*[lambda batch: seen.append("".join(pulled))] * 3, batch_size=2)

    uploader.iterate_over(source())

    assert seen == ["ab", "abcd", "abcde"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 400)), max_size=40), st.integers(1, 5))
def test_batches_hold_every_record_in_order_within_the_limits(made, batch_size):
    records = [upsert(object_id, text="x" * length) for object_id, length in made]
    uploader = ScriptedUploader(batch_size=batch_size, max_batch_bytes=600)

    uploader.iterate_over(records)

    assert [record for batch in uploader.sent for record in batch] == records
    for batch, bodies in zip(uploader.sent, uploader.bodies, strict=True):
        assert 1 <= len(batch) <= batch_size
        assert len({record.object_id for record in batch}) == len(batch)
        assert len(batch) == 1 or sum(map(len, bodies)) <= 600


# documents


def test_a_document_that_cannot_be_encoded_is_set_aside_and_the_others_go_on():
    uploader = ScriptedUploader()

    result = uploader.iterate_over([upsert("a"), upsert("b", wrong={1, 2}), upsert("c")])

    assert uploader.ids == ["ac"]
    assert (result.accepted, result.dead) == (2, 1)
    [dead] = result.dead_records
    assert (dead.object_id, dead.op, dead.position) == ("b", Op.UPSERT, 7)
    assert "builtins.set" in dead.reason


def test_an_id_that_is_no_unicode_is_set_aside():
    uploader = ScriptedUploader()

    result = uploader.iterate_over([delete("\ud800"), upsert("é")])

    assert uploader.ids == ["é"]
    assert "UTF-8" in result.dead_records[0].reason


def test_an_upsert_without_a_document_is_a_mistake_of_the_agent():
    uploader = ScriptedUploader()

    with pytest.raises(ValueError, match="'a' has no document"):
        uploader.iterate_over([Record(Op.UPSERT, "a", 7)])


# verdicts


def test_verdicts_are_counted_and_refused_records_set_aside():
    answer = verdicts(a=Outcome.ACCEPTED, b=Outcome.STALE, c=Outcome.REFUSED)
    uploader = ScriptedUploader(answer)

    result = uploader.iterate_over(upserts("abc"))

    assert (result.accepted, result.stale, result.dead) == (1, 1, 1)
    assert [(dead.object_id, dead.reason) for dead in result.dead_records] == [("c", "c refused")]
    assert uploader.waits == []


def test_only_what_was_not_now_is_sent_again():
    answer = verdicts(a=Outcome.ACCEPTED, b=Outcome.NOT_NOW, c=Outcome.STALE, d=Outcome.NOT_NOW)
    uploader = ScriptedUploader(answer)

    result = uploader.iterate_over(upserts("abcd"))

    assert uploader.ids == ["abcd", "bd"]
    assert uploader.bodies[1] == [b'{"id":"b"}', b'{"id":"d"}']
    assert (result.accepted, result.stale) == (3, 1)
    assert uploader.waits == [1]


def test_a_record_without_a_verdict_is_not_now():
    uploader = ScriptedUploader(verdicts(a=Outcome.ACCEPTED))

    uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab", "b"]


def test_a_verdict_on_a_record_that_was_not_sent_is_nothing():
    uploader = ScriptedUploader(verdicts(a=Outcome.ACCEPTED, stranger=Outcome.REFUSED))

    result = uploader.iterate_over(upserts("a"))

    assert (result.accepted, result.dead) == (1, 0)


def test_verdicts_may_be_generated():
    def answer(batch):
        yield Verdict("a", Outcome.ACCEPTED)
        raise RetryLater(reason="cut off")

    uploader = ScriptedUploader(answer)

    result = uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab", "ab"]
    assert result.accepted == 2


def test_the_next_batch_waits_until_the_one_before_is_settled():
    uploader = ScriptedUploader(
        verdicts(a=Outcome.ACCEPTED),
        RetryLater(),
        BatchRefused("no"),
        verdicts(b=Outcome.NOT_NOW),
        batch_size=2,
    )

    result = uploader.iterate_over([upsert("a"), upsert("b", n=1), upsert("b", n=2)])

    assert uploader.ids == ["ab", "b", "b", "b", "b"]
    assert uploader.bodies[2] == [b'{"id":"b","n":1}']
    assert [dead.object_id for dead in result.dead_records] == ["b"]
    assert uploader.bodies[-1] == [b'{"id":"b","n":2}']


# trying again


def test_retry_later_sends_the_batch_again_after_a_growing_wait():
    uploader = ScriptedUploader(RetryLater(), RetryLater(), RetryLater())

    result = uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab"] * 4
    assert uploader.waits == [1, 2, 4]
    assert result.accepted == 2


def test_the_service_says_how_long_to_wait():
    uploader = ScriptedUploader(RetryLater(after_s=30))

    uploader.iterate_over(upserts("a"))

    assert uploader.waits == [30]


def test_a_run_gives_up_after_max_attempts_with_the_last_reason():
    uploader = ScriptedUploader(
        RetryLater(reason="one"),
        RetryLater(reason="two"),
        RetryLater(reason="three", after_s=9),
        max_attempts=3,
    )

    with pytest.raises(RetryLater, match=r"^three \(given up after 3 tries\)$") as caught:
        uploader.iterate_over(upserts("ab"))

    assert caught.value.after_s == 9
    assert uploader.waits == [1, 2]
    assert uploader.answers == []


def test_records_that_stay_not_now_make_the_run_give_up():
    not_now = verdicts(b=Outcome.NOT_NOW)
    uploader = ScriptedUploader(
        verdicts(a=Outcome.ACCEPTED, b=Outcome.NOT_NOW), not_now, not_now, max_attempts=3
    )

    with pytest.raises(RetryLater, match="1 of 1 record not now: b not_now"):
        uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab", "b", "b"]


def test_progress_starts_the_count_anew():
    answers = [
        RetryLater(),
        RetryLater(),
        verdicts(a=Outcome.ACCEPTED),
        RetryLater(),
        verdicts(b=Outcome.ACCEPTED),
        RetryLater(),
    ]
    uploader = ScriptedUploader(*answers, max_attempts=3)

    result = uploader.iterate_over(upserts("abc"))

    assert uploader.ids == ["abc", "abc", "abc", "bc", "bc", "c", "c"]
    assert uploader.waits == [1, 2, 1, 2, 1, 2]
    assert result.accepted == 3


def test_one_try_is_one_try():
    uploader = ScriptedUploader(RetryLater(reason="no"), max_attempts=1)

    with pytest.raises(RetryLater):
        uploader.iterate_over(upserts("a"))

    assert uploader.waits == []


def test_with_max_attempts_0_the_same_records_are_sent_until_they_are_taken():
    uploader = ScriptedUploader(*[RetryLater()] * 500, max_attempts=0)

    result = uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab"] * 501
    assert result.accepted == 2
    assert (result.batches, result.retried) == (501, 1000)
    assert uploader.waits[-1] == 60  # and never longer, however often


def test_unlimited_tries_end_when_the_run_is_to_end():
    uploader = ScriptedUploader(*[RetryLater(reason="busy")] * 50, max_attempts=0)
    uploader.stop = lambda: len(uploader.sent) == 7

    with pytest.raises(RetryLater, match=r"^busy \(the run was stopped while it waited\)$"):
        uploader.iterate_over(upserts("a"))

    assert len(uploader.sent) == 7


def test_a_stop_ends_a_wait_that_is_under_way(monkeypatch):
    monkeypatch.setattr(sender, "_STOP_EVERY_S", 0.001)
    uploader = ScriptedUploader(RetryLater(after_s=600))
    uploader.sleep = None  # a real wait, of ten minutes
    asked = []

    def stop():
        asked.append(None)
        return len(asked) >= 3

    uploader.stop = stop
    with pytest.raises(RetryLater, match="stopped while it waited"):
        uploader.iterate_over(upserts("a"))

    assert len(asked) >= 3
    assert uploader.ids == ["a"]


def test_a_wait_without_a_stop_lasts_as_long_as_it_is_to():
    uploader = ScriptedUploader(RetryLater(), backoff=Backoff(base_s=0.01, random=lambda: 1.0))
    uploader.sleep = None

    result = uploader.iterate_over(upserts("a"))

    assert result.accepted == 1


def test_the_backoff_is_as_the_options_say():
    agent = TunedAgent("a", backoff_s="2", backoff_cap_s=5)
    uploader = ScriptedUploader(*[RetryLater()] * 4, agent=agent, backoff=None)

    assert (uploader.backoff.base_s, uploader.backoff.cap_s) == (2, 5)
    uploader.iterate_over(upserts("a"))
    assert len(uploader.waits) == 4
    assert all(0 <= wait <= most for wait, most in zip(uploader.waits, [2, 4, 5, 5]))


def test_what_was_sent_again_and_how_often_is_counted():
    answer = verdicts(a=Outcome.ACCEPTED, b=Outcome.NOT_NOW, c=Outcome.NOT_NOW)
    uploader = ScriptedUploader(answer, RetryLater(), BatchRefused("no"))

    result = uploader.iterate_over(upserts("abc"))

    assert uploader.ids == ["abc", "bc", "bc", "b", "c"]
    assert (result.batches, result.retried, result.accepted) == (5, 4, 3)
    assert sum(result.timings.counts) == 5


@pytest.mark.parametrize("error", [ServiceRefuses("no rights"), ZeroDivisionError("a mistake")])
def test_other_errors_go_through_at_once(error):
    uploader = ScriptedUploader(None, error, batch_size=1)

    with pytest.raises(type(error)):
        uploader.iterate_over(upserts("abc"))

    assert uploader.ids == ["a", "b"]


# halving


def refusing(*poison: str) -> Callable[[Batch], None]:
    """A service that refuses every batch with one of these ids in it."""

    def answer(batch):
        found = [record.object_id for record in batch if record.object_id in poison]
        if found:
            raise BatchRefused(f"cannot take {found[0]}")

    return answer


def test_a_refused_batch_is_halved_until_the_poison_is_alone():
    uploader = ScriptedUploader(*[refusing("c")] * 20)

    result = uploader.iterate_over(upserts("abcd"))

    assert uploader.ids == ["abcd", "ab", "cd", "c", "d"]
    assert result.accepted == 3
    assert [(dead.object_id, dead.reason) for dead in result.dead_records] == [("c", "cannot take c")]
    assert uploader.waits == []


def test_a_batch_refused_to_the_last_record_needs_no_depth():
    records = [upsert(f"{number:04}") for number in range(3000)]
    uploader = ScriptedUploader(*[BatchRefused("no")] * 6000, batch_size=3000)
    uploader.refusals = Refusals(3000, 3000)

    result = uploader.iterate_over(records)

    assert [dead.object_id for dead in result.dead_records] == [record.object_id for record in records]
    assert len(uploader.sent) == 2 * 3000 - 1


def test_a_half_that_was_refused_after_a_retry_is_halved_on():
    uploader = ScriptedUploader(RetryLater(), BatchRefused("x"), RetryLater(), BatchRefused("poison"))

    result = uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab", "ab", "a", "a", "b"]
    assert [dead.object_id for dead in result.dead_records] == ["a"]
    assert result.accepted == 1


@given(
    ids=st.lists(st.sampled_from("abcdef"), max_size=20),
    poison=st.sets(st.sampled_from("abcdef"), max_size=3),
    seed=st.integers(0, 2**32),  # and not a random(): each of its numbers would be a part of the example
)
def test_whatever_the_service_does_each_object_is_delivered_in_order_or_set_aside(ids, poison, seed):
    taken: list[tuple[str, int]] = []
    mood = random.Random(seed)

    def answer(batch):
        kind = mood.random()
        if kind < 0.2:
            raise RetryLater()
        refusing(*poison)(batch)
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

    records = [upsert(object_id, number) for number, object_id in enumerate(ids)]
    uploader = ScriptedUploader(batch_size=4, max_attempts=10**6)
    uploader._upload_batch = answer

    result = uploader.iterate_over(records)

    expected = [(record.object_id, record.position) for record in records if record.object_id not in poison]
    for object_id in set(ids):
        assert [pair for pair in taken if pair[0] == object_id] == [
            pair for pair in expected if pair[0] == object_id
        ]
    assert result.accepted == len(expected)
    assert result.dead == len(records) - len(expected)


# reasons and logs


def test_a_reason_is_one_line_of_bounded_length():
    uploader = ScriptedUploader([Verdict("a", Outcome.REFUSED, "one\n two\t" + "x" * 5000)])

    [dead] = uploader.iterate_over(upserts("a")).dead_records

    assert dead.reason.startswith("one two x")
    assert len(dead.reason) == 500


def test_an_empty_reason_is_said_to_be_one():
    uploader = ScriptedUploader([Verdict("a", Outcome.REFUSED)])

    [dead] = uploader.iterate_over(upserts("a")).dead_records

    assert dead.reason == "no reason given"


def test_logs_tell_retries_and_dead_letters_and_no_payload(caplog):
    caplog.set_level(logging.DEBUG, "livesync")
    uploader = ScriptedUploader(
        RetryLater(reason="busy"), [Verdict("a", Outcome.REFUSED, "bad title: secret words")]
    )
    uploader.begin_slice(7)

    uploader.iterate_over([upsert("a", title="secret words")])

    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING", "INFO", "ERROR"]
    assert "agent a: till 7: 1 records not accepted, try 1 of 5, again in 1.0 s: busy" in caplog.text
    assert "'a' at 7 set aside" in caplog.text
    assert "secret" not in caplog.text


# too much of it refused


def test_more_refused_than_the_threshold_is_not_the_records_fault():
    agent = TunedAgent("a", batch_size=1, dead_window=10, dead_threshold=2)
    refused = [[Verdict(object_id, Outcome.REFUSED, f"no {object_id}")] for object_id in "abc"]
    uploader = ScriptedUploader(None, *refused, agent=agent)

    with pytest.raises(TooManyRefused, match=r"3 of the last 4 records .* the last: no c"):
        uploader.iterate_over(upserts("zabcd"))

    assert uploader.ids == ["z", "a", "b", "c"]


def test_as_many_as_the_threshold_may_be_refused():
    agent = TunedAgent("a", batch_size=1, dead_window=4, dead_threshold=1)
    refusals = [Verdict("x", Outcome.REFUSED)]
    answers = [refusals if number % 4 == 0 else None for number in range(12)]
    uploader = ScriptedUploader(*answers, agent=agent)
    records = [upsert("x" if number % 4 == 0 else f"id{number}") for number in range(12)]

    result = uploader.iterate_over(records)

    assert (result.accepted, result.dead) == (9, 3)


def test_documents_that_cannot_be_encoded_count_as_refused():
    uploader = ScriptedUploader(agent=TunedAgent("a", dead_threshold=3))

    with pytest.raises(TooManyRefused, match=r"builtins\.set"):
        uploader.iterate_over(upsert(object_id, wrong={1}) for object_id in "abcde")


def test_what_is_stale_or_sent_again_is_not_refused():
    agent = TunedAgent("a", dead_threshold=0)
    stale = verdicts(a=Outcome.STALE, b=Outcome.NOT_NOW)
    uploader = ScriptedUploader(RetryLater(), stale, agent=agent)

    result = uploader.iterate_over(upserts("ab"))

    assert (result.accepted, result.stale) == (1, 1)
    assert uploader.refusals.state() == (2,)


# requests a second


class Ticking:
    """A clock that goes on by what is waited."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_requests_leave_as_many_a_second_as_the_option_says():
    clock = Ticking()
    agent = TunedAgent("a", batch_size=1, requests_per_second="4")
    uploader = ScriptedUploader(agent=agent, clock=clock)
    uploader.sleep = clock.sleep
    left = []
    uploader._upload_batch = lambda batch: left.append(clock.now)

    uploader.iterate_over(upserts("abcde"))

    assert left == [50, 50.25, 50.5, 50.75, 51]


def test_requests_that_are_repeated_count_too():
    clock = Ticking()
    agent = TunedAgent("a", requests_per_second=1, backoff_s=0)
    uploader = ScriptedUploader(RetryLater(), BatchRefused("no"), agent=agent, backoff=None, clock=clock)
    uploader.sleep = clock.sleep

    uploader.iterate_over(upserts("ab"))

    assert uploader.ids == ["ab", "ab", "a", "b"]
    assert clock.now == 53


def test_a_stop_ends_the_wait_for_ones_turn():
    clock = Ticking()
    agent = TunedAgent("a", batch_size=1, requests_per_second=0.01)
    uploader = ScriptedUploader(agent=agent, clock=clock)
    uploader.stop = lambda: len(uploader.sent) > 0

    with pytest.raises(RetryLater, match="stopped while it waited"):
        uploader.iterate_over(upserts("abc"))

    assert uploader.ids == ["a"]


# linger: by way of a run


def lingering(world, **options):
    """An agent that lets changes get 60 s old, and one that runs it at a time after the newest change."""
    uploader = world.service.uploader_type()
    agent = world.with_uploader(uploader, linger_s=60, batch_size=3, **options)

    def run(after_s):
        with world.access() as access, access.snapshot() as manager:
            items = [action for _, action in manager.track] or list(manager.waiting())
            newest = max(action.timestamp for action in items)
        result = agent.run(world.manager, world.host, now=newest + after_s)
        world.tm.begin()
        return result

    return run


def test_a_run_with_too_little_waits_until_the_oldest_change_is_old_enough(world):
    run = lingering(world)
    world.put("a")

    early = [run(2), run(30), run(59.9)]
    waiting = dict(world.service.documents)
    late = run(60.1)

    assert [result.read for result in early] == [0, 0, 0]
    assert waiting == {}
    assert late.read == 1
    assert world.service.documents == world.expected() != {}


def test_what_fills_a_batch_does_not_wait(world):
    run = lingering(world)
    for key in "abc":
        world.put(key)

    assert run(2).read == 3


def test_a_run_that_lingers_takes_no_lease_and_writes_nothing(world):
    run = lingering(world)
    world.put("a")
    run(2)
    size = world.db.storage.getSize()

    run(3)

    assert world.db.storage.getSize() == size
    assert world.stored.lease.token == 0


def test_nothing_lingers_while_the_slow_queue_is_sent(world):
    run = lingering(world)
    world.put("a")
    world.put("b")
    world.manager.enqueue("index", ["b"])
    world.tm.commit()

    result = run(2)

    assert (result.read, result.cascaded) == (0, 1)
    assert set(world.service.documents) == {"b"}


def test_a_stopped_agent_is_not_made_active_by_a_run_that_lingers(world):
    run = lingering(world)
    world.put("a")
    world.service.answer_next(ServiceRefuses("no"))
    with pytest.raises(ServiceRefuses):
        run(61)

    result = run(2)

    assert result.read == 1  # it has shown that the service takes it
    assert world.stored.state == "active"


# settings and the rest of the contract


def test_limits_have_defaults():
    uploader = RecordUploader(SyncAgent("a"))

    assert (uploader.batch_size, uploader.max_batch_bytes, uploader.max_attempts) == (
        1000,
        5 * 1024 * 1024,
        5,
    )


def test_limits_come_from_the_agents_options():
    uploader = RecordUploader(TunedAgent("a", batch_size="7", max_batch_bytes=8, max_attempts=9))

    assert (uploader.batch_size, uploader.max_batch_bytes, uploader.max_attempts) == (7, 8, 9)


def test_limits_that_are_given_hold_over_the_options():
    assert RecordUploader(TunedAgent("a", batch_size=7), 1000).batch_size == 1000


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size is at least 1"):
        RecordUploader(SyncAgent("a"), 0)
    with pytest.raises(ValueError, match="max_attempts is at least 0"):
        RecordUploader(SyncAgent("a"), max_attempts=-1)


def test_a_destination_must_say_how_a_batch_is_sent():
    with pytest.raises(NotImplementedError, match="must define _upload_batch"):
        RecordUploader(SyncAgent("a")).iterate_over(upserts("a"))


def test_everything_else_has_a_default():
    uploader = RecordUploader(SyncAgent("a"))
    delivery = Delivery("a", "track", 3)

    uploader.open(delivery)
    uploader.begin_slice(12)

    assert uploader.delivery is delivery
    assert uploader.till == 12
    assert uploader.keeps_pointer is False
    assert uploader.read_pointer() is None
    assert uploader.sweep(12) is None
    uploader.end_slice(12)
    uploader.abandon_slice()
    uploader.close()
