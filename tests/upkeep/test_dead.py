"""Dead letters: listing, sending again, throwing away."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import pytest

from livesync import PushSyncAgent
from livesync.delivery import ledger
from livesync.delivery.deadletters import MAX_BODY_BYTES
from livesync.delivery.record import Batch, Outcome, Verdict, encode_document
from livesync.delivery.uploader import DELIVERY_OPTIONS
from livesync.destinations.memory import MemoryService
from livesync.errors import Leased, NotFound, StateForbids, UnknownAgent
from livesync.upkeep import sending
from livesync.upkeep.dead import discard_dead, find_dead, list_dead, retry_dead, spool_dead

# An agent is made anew from what is stored, so its type must be one that can be imported.
SERVICE = MemoryService()


class PickyAgent(PushSyncAgent):
    uploader = SERVICE.uploader_type()
    options = DELIVERY_OPTIONS


def refuse_what_is_bad(batch: Batch) -> list[Verdict]:
    """Refuse every document with something bad in it, as a service does."""
    return [
        Verdict(record.object_id, Outcome.REFUSED, f"no room for {record.document['extra']}")
        if record.document and record.document["extra"]
        else Verdict(record.object_id, Outcome.ACCEPTED)
        for record in batch
    ]


@pytest.fixture
def service(world: Any, monkeypatch: pytest.MonkeyPatch) -> MemoryService:
    monkeypatch.setitem(sys.modules, PickyAgent.__module__, sys.modules[__name__])
    SERVICE.__init__()  # type: ignore[misc]
    SERVICE.answer_next(*[refuse_what_is_bad] * 50)
    world.manager.register_agent(PickyAgent("picky"))
    world.manager.activate("picky", from_start=True)
    world.tm.commit()
    return SERVICE


@pytest.fixture
def two_dead(world: Any, service: MemoryService) -> MemoryService:
    """A service that holds ``c``, and has refused ``a`` and ``b``."""
    world.put("a", extra="ants")
    world.put("b", extra="bees")
    world.put("c")
    world.run(PickyAgent("picky"))
    return service


def dead(world: Any) -> Any:
    world.tm.begin()
    return world.manager.stored("picky").dead


def retry(world: Any, *object_ids: str, **kwargs: Any) -> Any:
    world.clock += 100
    try:
        return retry_dead(world.manager, "picky", world.host, object_ids or None, now=world.clock, **kwargs)
    finally:
        world.tm.begin()


# -- list ----------------------------------------------------------------------------------------


def test_letters_are_listed_newest_first_without_their_documents(world: Any, two_dead: MemoryService) -> None:
    world.put("a", extra="apes")
    world.run(PickyAgent("picky"))

    letters, total = list_dead(world.manager)

    assert total == 2
    assert [(one.agent_id, one.object_id, one.attempts) for one in letters] == [
        ("picky", "a", 2),
        ("picky", "b", 1),
    ]
    assert letters[0].reason == "no room for apes"
    assert letters[0].first_time < letters[0].time == world.clock
    assert all(letter.body is None and letter.size for letter in letters)


def test_a_limit_leaves_the_oldest_out_and_the_number_is_of_all(world: Any, two_dead: MemoryService) -> None:
    world.put("d", extra="dogs")
    world.run(PickyAgent("picky"))

    letters, total = list_dead(world.manager, "picky", limit=1)

    assert ([one.object_id for one in letters], total) == (["d"], 3)


def test_only_the_letters_of_the_agent_that_is_asked_for_are_listed(
    world: Any, two_dead: MemoryService
) -> None:
    assert list_dead(world.manager, "index") == ([], 0)
    with pytest.raises(UnknownAgent):
        list_dead(world.manager, "nobody")


def test_a_letter_has_everything_that_is_known(world: Any, two_dead: MemoryService) -> None:
    letter = find_dead(world.manager, "picky", "a")

    body = encode_document({"title": "a", "extra": "ants"})
    assert (letter.op, letter.actions, letter.reason) == ("upsert", ("created",), "no room for ants")
    assert (letter.body, letter.size) == (body, len(body))
    assert letter.digest == hashlib.blake2b(body, digest_size=16).hexdigest()
    assert letter.first_time == letter.time == world.clock


def test_of_a_document_that_is_too_long_size_and_digest_are_known(world: Any, service: MemoryService) -> None:
    world.put("a", extra="x" * MAX_BODY_BYTES)
    world.run(PickyAgent("picky"))

    letter = find_dead(world.manager, "picky", "a")

    assert letter.body is None
    assert letter.size > MAX_BODY_BYTES
    assert letter.digest


def test_a_letter_that_an_older_livesync_kept_can_be_looked_at_and_sent(
    world: Any, service: MemoryService
) -> None:
    world.put("a")
    kept = {"reason": "no title", "op": "upsert", "position": 3, "time": 5.0, "attempts": 2}
    world.manager.stored("picky").dead["a"] = kept
    world.tm.commit()

    letter = find_dead(world.manager, "picky", "a")
    result = retry(world)

    assert (letter.first_time, letter.actions, letter.body, letter.size) == (5.0, (), None, 0)
    assert (result.accepted, len(dead(world))) == (1, 0)


def test_a_letter_that_is_not_there_is_not_found(world: Any, two_dead: MemoryService) -> None:
    with pytest.raises(NotFound, match=r"no dead letter of 'c'.*dead list picky"):
        find_dead(world.manager, "picky", "c")


# -- retry ---------------------------------------------------------------------------------------


def test_what_is_sent_again_is_rendered_anew_and_loses_its_letter(
    world: Any, two_dead: MemoryService
) -> None:
    world.things["a"]["extra"] = None  # mended, and nobody recorded it
    world.tm.commit()

    result = retry(world, "a")

    assert (result.read, result.accepted, result.dead, result.balance()) == (1, 1, 0, 0)
    assert two_dead.documents["a"] == {"title": "a", "extra": None}
    assert list(dead(world)) == ["b"]


def test_what_dies_again_keeps_its_letter_with_one_more_attempt(world: Any, two_dead: MemoryService) -> None:
    first = dead(world)["a"]["first_time"]
    world.things["a"]["extra"] = "apes"
    world.tm.commit()

    result = retry(world, "a")

    assert (result.accepted, result.dead) == (0, 1)
    letter = find_dead(world.manager, "picky", "a")
    assert (letter.attempts, letter.reason) == (2, "no room for apes")
    assert (letter.first_time, letter.time) == (first, world.clock)


def test_all_are_sent_where_none_is_named(world: Any, two_dead: MemoryService) -> None:
    done: list[int] = []
    for key in "ab":
        world.things[key]["extra"] = None
    world.tm.commit()

    result = retry(world, progress=done.append)

    assert (result.accepted, done, len(dead(world))) == (2, [2], 0)


def test_an_object_that_is_gone_is_deleted(world: Any, two_dead: MemoryService) -> None:
    del world.things["a"]
    world.tm.commit()

    result = retry(world, "a")

    assert (result.accepted, list(dead(world))) == (1, ["b"])
    assert "a" in two_dead.tombstones


def test_one_that_has_no_letter_keeps_all_from_being_sent(world: Any, two_dead: MemoryService) -> None:
    sent = len(two_dead.batches)

    with pytest.raises(NotFound, match="'c'"):
        retry(world, "a", "c")

    assert len(two_dead.batches) == sent


def test_where_there_are_no_letters_nothing_is_sent_and_nothing_noted(
    world: Any, service: MemoryService
) -> None:
    result = retry(world)

    assert (result.read, service.batches) == (0, [])
    assert ledger.entries(world.manager.stored("picky")) == []


def test_the_pointer_stays_and_the_ledger_calls_it_a_retry(world: Any, two_dead: MemoryService) -> None:
    before = world.manager.track.get_pointer_timestamp("picky")
    world.put("later")

    retry(world)

    assert world.manager.track.get_pointer_timestamp("picky") == before
    entry = ledger.entries(world.manager.stored("picky"))[0]
    assert (entry["kind"], entry["read"], entry["dead"], ledger.balance(entry)) == ("retry", 2, 2, 0)


def test_a_retry_that_is_asked_to_stop_leaves_the_rest_of_the_letters(
    world: Any, two_dead: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_SIZE", 1)
    for key in "ab":
        world.things[key]["extra"] = None
    world.tm.commit()
    answers = iter([False, True])

    result = retry(world, stop=lambda: next(answers, True))

    assert (result.accepted, list(dead(world))) == (1, ["b"])


def test_nothing_is_sent_while_another_runner_holds_the_agent(world: Any, two_dead: MemoryService) -> None:
    lease = world.manager.stored("picky").lease
    lease.holder, lease.token, lease.until = ("elsewhere", 1, 0, "run"), lease.token + 1, world.clock + 1e6
    world.tm.commit()

    with pytest.raises(Leased, match="run by process 1 on elsewhere"):
        retry(world)

    assert len(dead(world)) == 2


def test_a_paused_agent_sends_nothing_again(world: Any, two_dead: MemoryService) -> None:
    world.manager.pause("picky")
    world.tm.commit()

    with pytest.raises(StateForbids, match="agent activate picky"):
        retry(world)


def test_more_letters_than_may_be_refused_are_sent_again_all_the_same(
    world: Any, service: MemoryService
) -> None:
    for number in range(30):
        world.put(f"{number:02}", extra="wasps")
        world.run(PickyAgent("picky"))
    world.manager.edit_agent("picky", options={"dead_threshold": 5})
    world.tm.commit()

    result = retry(world)

    assert (result.read, result.dead) == (30, 30)
    assert world.manager.stored("picky").state == "active"


# -- discard -------------------------------------------------------------------------------------


def test_what_is_thrown_away_is_gone_and_nothing_is_sent(world: Any, two_dead: MemoryService) -> None:
    sent = len(two_dead.batches)

    count = discard_dead(world.manager, "picky", ["a", "a"])
    world.tm.commit()

    assert (count, list(dead(world)), len(two_dead.batches)) == (1, ["b"], sent)


def test_all_are_thrown_away_where_none_is_named(world: Any, two_dead: MemoryService) -> None:
    assert discard_dead(world.manager, "picky") == 2
    world.tm.commit()
    assert (len(dead(world)), discard_dead(world.manager, "picky")) == (0, 0)


def test_one_that_has_no_letter_keeps_all_from_being_thrown_away(world: Any, two_dead: MemoryService) -> None:
    with pytest.raises(NotFound, match="'c'"):
        discard_dead(world.manager, "picky", ["a", "c"])

    assert set(world.manager.stored("picky").dead) == {"a", "b"}


def test_the_ids_of_all_letters_can_be_read_again_and_again(world: Any, two_dead: MemoryService) -> None:
    spool = spool_dead(world.manager, "picky")

    assert (list(spool), list(spool), spool.count) == (["a", "b"], ["a", "b"], 2)
    spool.close()
