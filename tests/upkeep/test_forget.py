"""Erasing an object from what livesync keeps of contents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync import SyncAgent, SyncManager
from livesync.action import ActionWrapper
from livesync.delivery import ledger
from livesync.delivery.deadletters import store_dead
from livesync.delivery.record import DeadRecord, Op, RunResult
from livesync.track import queue
from livesync.upkeep.forget import ERASED, Forgotten, forget


@pytest.fixture
def manager() -> SyncManager:
    made = SyncManager()
    for agent_id in ("one", "two"):
        made.register_agent(SyncAgent(agent_id))
        made.activate(agent_id, from_start=True)
    return made


def die(manager: SyncManager, agent_id: str, object_id: str, reason: str = "refused") -> None:
    record = DeadRecord(object_id, Op.UPSERT, 5, reason, frozenset({"created"}), b'{"name":"Ada"}')
    store_dead(manager.stored(agent_id), [record], (), 100.0)


def test_dead_letters_of_all_agents_go_and_those_of_others_stay(manager: SyncManager) -> None:
    die(manager, "one", "ada")
    die(manager, "two", "ada")
    die(manager, "two", "bob")

    gone = forget(manager, "ada")

    assert gone == Forgotten("ada", 2, 0, 0, ("one", "two"))
    assert [list(manager.stored(one).dead) for one in ("one", "two")] == [[], ["bob"]]


def test_the_object_leaves_the_slow_queues_as_often_as_it_is_there(manager: SyncManager) -> None:
    manager.enqueue("one", ["ada", "bob", "ada"])
    manager.enqueue("one", ["ada"])

    gone = forget(manager, "ada")

    assert gone == Forgotten("ada", 0, 3, 0, ("one",))
    assert list(queue.queued_ids(manager.stored("one"))) == ["bob"]


def test_errors_that_named_the_object_are_erased_and_others_stay(manager: SyncManager) -> None:
    stored = manager.stored("one")
    for number, error in enumerate(("cannot render 'ada': name Ada", "no answer", "")):
        ledger.note(stored, ledger.begin(stored, "run", float(number)), RunResult(), 1.0, error)
    stored.last_run = {"error": "ada: name Ada", "read": 3}
    stored.detail = "the host failed to look up 'ada'"
    die(manager, "one", "bob", "its parent ada is missing")

    gone = forget(manager, "ada")

    assert gone == Forgotten("ada", 0, 0, 4, ("one",))
    assert [entry["error"] for entry in ledger.entries(stored)] == ["", "no answer", ERASED]
    assert stored.last_run == {"error": ERASED, "read": 3}
    assert stored.detail == ERASED
    assert stored.dead["bob"]["reason"] == ERASED
    assert stored.dead["bob"]["body"]


@pytest.mark.parametrize(
    ("text", "erased"),
    [
        ("look up 'talk-1': broken", True),
        ("talk-1", True),
        ("(talk-1)", True),
        ("talk-12 is broken", False),
        ("about talk-1-b", False),
        ("x/talk-1", False),
        ("all well", False),
    ],
)
def test_an_id_is_named_where_it_is_a_word_of_its_own(manager: SyncManager, text: str, erased: bool) -> None:
    manager.stored("one").detail = text

    assert (forget(manager, "talk-1").texts == 1) is erased
    assert (manager.stored("one").detail == text) is not erased


@given(st.text(min_size=1, max_size=20))
def test_whatever_the_id_a_text_that_quotes_it_is_erased(object_id: str) -> None:
    manager = SyncManager()
    manager.register_agent(SyncAgent("one"))
    manager.stored("one").detail = f"the host failed to look up '{object_id}': KeyError"

    assert forget(manager, object_id).texts == 1
    assert manager.stored("one").detail == ERASED


def test_the_track_and_the_agents_own_state_stay(manager: SyncManager) -> None:
    manager.add(5, ActionWrapper(5, "ada", ["deleted"]))

    assert forget(manager, "ada") == Forgotten("ada", 0, 0, 0, ())
    assert [action.object_id for _, action in manager.query("one")] == ["ada"]


def test_where_there_is_nothing_nothing_is_written(world: Any) -> None:
    world.put("ada")
    world.run()
    before = world.db.lastTransaction()

    assert forget(world.manager, "ada").agents == ()
    world.tm.commit()

    assert world.db.lastTransaction() == before


@pytest.mark.parametrize("object_id", ["", "x" * 513])
def test_what_is_no_id_is_refused(manager: SyncManager, object_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 512"):
        forget(manager, object_id)
