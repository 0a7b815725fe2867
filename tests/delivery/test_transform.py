"""An agent's own function between the host's documents and its service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from livesync import Op, Record
from livesync.delivery.simulate import simulate
from livesync.errors import TooManyRefused

Transform = Callable[[Record], Any]


@pytest.fixture
def run_with(world: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the agent with a function in place of the one that its option names."""

    def run(transform: Transform, **options: Any) -> Any:
        monkeypatch.setattr("livesync.delivery.render.load_function", lambda reference: transform)
        return world.run(world.agent_type("index", transform="some:function", **options))

    return run


def with_document(record: Record, **values: Any) -> Record:
    return msgspec.structs.replace(record, document={**(record.document or {}), **values})


def test_what_the_function_makes_of_a_record_is_sent(world: Any, run_with: Any) -> None:
    world.put("a", title="a title")

    run_with(lambda record: with_document(record, title=record.document["title"].upper()))

    assert world.service.documents == {"a": {"title": "A TITLE", "extra": None}}


def test_the_function_is_named_by_an_option(world: Any) -> None:
    world.put("a")

    world.run(world.agent_type("index", transform=NAMED))

    assert world.service.documents["a"]["title"] == "by its name"


#: A function that an option can name, since it is in a module that can be imported.
NAMED = "support.shelf:renamed"


def test_none_keeps_a_record_back_and_counts_it_as_excluded(world: Any, run_with: Any) -> None:
    for key in "abc":
        world.put(key)

    result = run_with(lambda record: None if record.object_id == "b" else record)

    assert set(world.service.documents) == {"a", "c"}
    assert world.service.tombstones == {}
    assert (result.read, result.accepted, result.excluded) == (3, 2, 1)
    assert world.pointer == result.till


def test_deletes_come_by_too_and_may_be_kept_back(world: Any, run_with: Any) -> None:
    world.put("a")
    world.put("b")
    world.run()
    world.remove("a")
    world.put("b", "set_private", private=True)
    seen: list[tuple[str, Op, Any]] = []

    def keep_deletes_back(record: Record) -> Record | None:
        seen.append((record.object_id, record.op, record.document))
        return None if record.op is Op.DELETE else record

    result = run_with(keep_deletes_back)

    assert seen == [("a", Op.DELETE, None), ("b", Op.DELETE, None)]
    assert (result.excluded, result.accepted) == (2, 0)
    assert set(world.service.documents) == {"a", "b"}


def test_an_upsert_may_become_a_delete(world: Any, run_with: Any) -> None:
    world.put("a")
    world.run()
    world.put("a", title="withdrawn")

    run_with(lambda record: msgspec.structs.replace(record, op=Op.DELETE, document=None))

    assert world.service.documents == {}


def test_the_position_is_not_the_functions_to_choose(world: Any, run_with: Any) -> None:
    world.put("a")

    run_with(lambda record: msgspec.structs.replace(record, position=record.position + 10**9))

    assert world.service.positions["a"] == world.manager.track.sealed


def test_no_snapshot_is_open_while_the_function_works(world: Any, run_with: Any) -> None:
    for number in range(5):
        world.put(f"k{number}")
    open_snapshots: list[int] = []

    def look(record: Record) -> Record:
        open_snapshots.append(world.host.open_snapshots)
        return record

    run_with(look, batch_size=2)

    assert open_snapshots == [0] * 5


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda record: 1 / 0, "the transform raised ZeroDivisionError: division by zero"),
        (lambda record: {"title": "a dict"}, "something else than a record of the same id"),
        (lambda record: msgspec.structs.replace(record, object_id="another"), "of the same id"),
        (lambda record: msgspec.structs.replace(record, document=None), "an upsert without a document"),
        (lambda record: with_document(record, title={1, 2}), "builtins.set"),
        (lambda record: with_document(record, title=float("nan")), "JSON"),
    ],
)
def test_a_record_that_the_function_spoils_is_set_aside_and_the_others_go_on(
    world: Any, run_with: Any, made: Transform, reason: str
) -> None:
    for key in "abc":
        world.put(key)

    result = run_with(lambda record: made(record) if record.object_id == "b" else record)

    assert set(world.service.documents) == {"a", "c"}
    assert (result.accepted, result.dead) == (2, 1)
    letter = world.stored.dead["b"]
    assert reason in letter["reason"]
    assert (letter["op"], letter["actions"], letter["attempts"]) == ("upsert", ("created",), 1)
    assert result.balance() == 0


def test_a_dead_letter_of_a_delete_says_so(world: Any, run_with: Any) -> None:
    world.put("a")
    world.run()
    world.remove("a")

    run_with(lambda record: 1 / 0)

    assert world.stored.dead["a"]["op"] == "delete"


def test_what_it_lets_pass_later_clears_the_dead_letter(world: Any, run_with: Any) -> None:
    world.put("a")
    run_with(lambda record: 1 / 0)

    world.put("a", title="new")
    run_with(lambda record: record)

    assert dict(world.stored.dead) == {}
    assert world.service.documents == world.expected()


def test_a_function_that_spoils_everything_stops_the_agent(world: Any, run_with: Any) -> None:
    for number in range(6):
        world.put(f"k{number}")

    with pytest.raises(TooManyRefused, match="the transform raised"):
        run_with(lambda record: 1 / 0, dead_threshold=4)

    assert (world.stored.state, world.stored.reason) == ("stopped", "failing")
    assert dict(world.stored.dead) == {}
    assert world.pointer is None


def test_what_is_inside_a_container_and_what_is_queued_come_by_as_well(world: Any, run_with: Any) -> None:
    world.put("box")
    world.put("in", parent="box")
    world.put("queued")
    world.run()
    world.put("box", "moved")
    world.manager.enqueue("index", ["queued"])
    world.tm.commit()

    result = run_with(lambda record: with_document(record, extra="seen"))

    assert {key: document["extra"] for key, document in world.service.documents.items()} == {
        "box": "seen", "in": "seen", "queued": "seen",
    }  # fmt: skip
    assert result.balance() == 0


def test_simulate_shows_what_the_function_makes(world: Any) -> None:
    world.put("a")
    stored = world.manager.stored("index")
    # an agent is made anew from what is stored, so the type must be one that can be imported
    stored.type_name, stored.options = "support.shelf:PlainAgent", {"transform": NAMED}
    world.tm.commit()

    [record] = simulate(world.manager, "index", world.host, now=world.clock * 20)

    assert record.document["title"] == "by its name"
