"""Objects that were stored without an action: named exactly, whatever else goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZEO
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from persistent import Persistent
from persistent.mapping import PersistentMapping
from support.shelf import Shelf, World
from support.waiting import LONG_S
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync import SyncManager
from livesync.errors import HostFailed, Leased, StateForbids, UnknownAgent
from livesync.track import queue
from livesync.upkeep import announced, detect
from livesync.upkeep.detect import Detection

pytestmark = pytest.mark.usefixtures("no_fsync")


def stored_quietly(world: World, object_id: str, **fields: Any) -> None:
    """Create or change a thing in a transaction of its own that tells livesync nothing."""
    thing = world.things.get(object_id)
    if thing is None:
        thing = world.things[object_id] = PersistentMapping(id=object_id, title=object_id)
    thing.update(fields)
    world.tm.commit()


def detected(world: World, **options: Any) -> tuple[list[str], Detection]:
    """Detect for the agent, from outside any transaction; return the ids that were named, and all else."""
    world.tm.begin()
    named: list[str] = []
    options.setdefault("host", world.host)
    found = detect.detect(
        world.manager,
        "index",
        told=lambda one: named.append(one.object_id),
        **options,
    )
    world.tm.begin()
    return named, found


def queued(world: World) -> list[str]:
    return list(queue.queued_ids(world.stored))


def test_what_was_stored_without_an_action_is_named_and_nothing_else(world: World) -> None:
    for name in "abcd":
        world.put(name)
    stored_quietly(world, "b", title="B")
    stored_quietly(world, "e")

    named, found = detected(world)

    assert named == ["b", "e"]
    assert (found.checked, found.newer, found.found, found.complete) == (5, 5, 2, True)
    assert queued(world) == []


def test_one_that_was_announced_later_is_fine(world: World) -> None:
    stored_quietly(world, "a")
    world.put("a", title="A")

    assert detected(world)[0] == []


def test_an_action_on_the_track_counts_as_one_in_the_inbox_does(world: World) -> None:
    world.put("a")
    world.manager.collect()
    world.tm.commit()
    world.put("b")

    assert detected(world)[0] == []


def test_an_action_of_an_earlier_commit_is_named_with_the_object(world: World) -> None:
    world.put("a")
    world.tm.begin()
    announced_at = next(iter(world.manager.waiting())).timestamp
    stored_quietly(world, "a", title="A")
    told: list[Any] = []
    world.tm.begin()

    detect.detect(world.manager, "index", world.host, told=told.append)

    assert [(one.object_id, one.announced) for one in told] == [("a", announced_at)]
    assert told[0].stored > announced_at


def test_what_was_there_before_livesync_is_not_looked_at(tmp_path: Path) -> None:
    db = DB(FileStorage(str(tmp_path / "host.fs")))
    with db.transaction() as connection:
        things = connection.root()["things"] = PersistentMapping()
        things["old"] = PersistentMapping(id="old", title="old")
    with db.transaction() as connection:
        manager = SyncManager.install(connection.root())
        manager.register_agent(World().agent)
    with closing(db), db.transaction() as connection:
        named: list[Any] = []

        found = detect.detect(SyncManager.get(connection.root()), "index", OrderedShelf(), told=named.append)

    assert (named, found.checked, found.newer) == ([], 1, 0)
    assert found.since > 0


class OrderedShelf(Shelf):
    """One that keeps its things in a mapping without an order."""

    def at(self, connection: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext(OrderedShelf(connection.root()["things"]))

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        return (self._things[key] for key in sorted(self._things) if after is None or key > after)


def test_since_leaves_out_what_was_stored_before(world: World) -> None:
    stored_quietly(world, "a")
    world.tm.begin()
    between = detect.time_of_last_commit(world.manager)
    stored_quietly(world, "b")

    assert detected(world, since=between)[0] == ["b"]
    assert detected(world, since=0.0)[0] == ["a", "b"]


def test_what_is_pruned_is_not_looked_at_since_its_actions_are_gone(world: World) -> None:
    world.put("a")
    position = int(detect.time_of_last_commit(world.manager))
    world.manager.collect(now=position + 2.0)
    world.manager.track.move_pointer("index", world.manager.track.sealed)
    assert world.manager.prune() == 1
    world.tm.commit()

    named, found = detected(world, since=0.0)

    assert named == []
    assert found.since >= position


def test_what_is_pruned_while_it_is_at_work_is_unknown_and_named_by_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "SLICE_SIZE", 1)
    world.put("a")
    world.put("b")

    def change_deliver_and_prune(done: int) -> None:
        if done == 1:
            world.put("b", title="B")
            track = world.manager.track
            world.manager.collect(now=detect.time_of_last_commit(world.manager) + 2.0)
            track.move_pointer("index", track.sealed)
            assert world.manager.prune()
            world.tm.commit()

    named, found = detected(world, progress=change_deliver_and_prune)

    assert named == []
    assert found.unknown == 1


def test_parts_of_an_object_count_as_the_object(world: World) -> None:
    world.put("a", body=PersistentMapping(text="old"))
    world.put("b")
    world.things["a"]["body"]["text"] = "new"
    world.tm.commit()

    class WithBody(Shelf):
        def at(self, connection: Any) -> Any:
            from contextlib import nullcontext

            return nullcontext(WithBody(connection.root()["things"]))

        def stored_parts(self, obj: Any) -> Iterator[Any]:
            yield obj
            if "body" in obj:
                yield obj["body"]

    assert detected(world, since=0.0)[0] == []
    assert detected(world, since=0.0, host=WithBody())[0] == ["a"]


def test_objects_that_are_not_stored_by_themselves_are_counted(world: World) -> None:
    world.things["plain"] = {"id": "plain", "title": "a dict of the tree"}
    world.tm.commit()

    named, found = detected(world)

    assert (named, found.not_stored) == ([], 1)


def test_objects_that_are_never_synced_are_none_of_ours(world: World) -> None:
    class Choosy(Shelf):
        def at(self, connection: Any) -> Any:
            from contextlib import nullcontext

            return nullcontext(Choosy(connection.root()["things"]))

        def is_never_synced(self, obj: Any) -> bool:
            return bool(obj["id"] == "tool")

    stored_quietly(world, "tool")

    assert detected(world, host=Choosy())[0] == []


def test_an_undo_is_announced_by_livesync_itself(world: World) -> None:
    world.put("a")
    world.put("a", title="A")
    world.db.undo(world.db.undoInfo(0, 1)[0]["id"])
    transaction.commit()
    world.tm.begin()
    assert world.things["a"]["title"] == "a"

    assert detected(world)[0] == []


# -- having it sent ------------------------------------------------------------------------------


def test_what_is_found_is_queued_and_sent_by_the_next_run(world: World) -> None:
    world.put("a")
    world.run()
    stored_quietly(world, "a", title="A")
    stored_quietly(world, "b")

    _, found = detected(world, enqueue=True)

    assert found.queued == 2
    world.run()
    assert world.service.documents["a"]["title"] == "A"
    assert world.service.documents.keys() == {"a", "b"}


def test_what_lies_inside_is_queued_too_since_it_may_be_hidden_by_now(world: World) -> None:
    world.put("box")
    world.put("thing", parent="box")
    world.run()
    stored_quietly(world, "box", private=True)

    named, found = detected(world, enqueue=True)
    world.run()

    assert (named, found.queued) == (["box"], 2)
    assert world.service.documents == {}


def test_what_was_queued_is_not_found_again(world: World) -> None:
    stored_quietly(world, "a")
    detected(world, enqueue=True)
    stored_quietly(world, "b")

    assert detected(world, enqueue=True)[0] == ["b"]
    assert queued(world) == ["a", "b"]


def test_what_was_only_named_is_named_again(world: World) -> None:
    stored_quietly(world, "a")
    detected(world)

    assert detected(world)[0] == ["a"]


def test_a_detection_that_looked_at_less_does_not_stand_for_the_rest(world: World) -> None:
    stored_quietly(world, "a")
    world.tm.begin()
    detected(world, since=detect.time_of_last_commit(world.manager), enqueue=True)

    assert detected(world)[0] == ["a"]


def test_an_agent_that_has_sent_nothing_has_nothing_queued(world: World) -> None:
    world.manager.register_agent(world.agent_type("new"))
    world.tm.commit()

    with pytest.raises(StateForbids, match="agent export new"):
        detect.detect(world.manager, "new", world.host, enqueue=True)


def test_an_agent_must_be_there(world: World) -> None:
    with pytest.raises(UnknownAgent):
        detect.detect(world.manager, "nobody", world.host)


# -- in slices -----------------------------------------------------------------------------------


def test_one_that_was_stopped_goes_on_where_it_stood(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "SLICE_SIZE", 2)
    for name in "abcdef":
        stored_quietly(world, name)
    asked = iter([False, True])

    first, half = detected(world, enqueue=True, stop=lambda: next(asked))
    second, whole = detected(world, enqueue=True)

    assert (first, half.complete) == (["a", "b"], False)
    assert (second, whole.complete) == (["c", "d", "e", "f"], True)
    assert (whole.resumed, whole.checked, whole.found, whole.queued) == (2, 6, 6, 6)
    assert queued(world) == list("abcdef")


@pytest.mark.parametrize("otherwise", [{"anew": True}, {"since": 0.0}, {"enqueue": True}])
def test_one_that_is_asked_for_otherwise_begins_with_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch, otherwise: dict[str, Any]
) -> None:
    monkeypatch.setattr(detect, "SLICE_SIZE", 1)
    for name in "ab":
        stored_quietly(world, name)
    asked = iter([False, True])
    detected(world, stop=lambda: next(asked))

    named, found = detected(world, **otherwise)

    assert (named, found.resumed) == (["a", "b"], 0)


def test_two_at_once_do_not_go_on_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "SLICE_SIZE", 1)
    for name in "ab":
        stored_quietly(world, name)

    def another() -> bool:
        if not began:
            began.append(True)
            detected(world, anew=True)
        return False

    began: list[bool] = []
    with pytest.raises(Leased, match="another detection"):
        detected(world, stop=another)


def test_in_a_database_that_is_only_read_nothing_is_noted(tmp_path: Path) -> None:
    path = str(tmp_path / "host.fs")
    made = World(path)
    stored_quietly(made, "a")
    made.put("b")
    named: list[str] = []
    with closing(DB(FileStorage(path, read_only=True))) as db, db.transaction() as connection:
        manager = SyncManager.get(connection.root())

        found = detect.detect(manager, "index", Shelf(), told=lambda one: named.append(one.object_id))

    assert (named, found.complete) == (["a"], True)
    made.close()


def test_ids_that_do_not_ascend_are_the_hosts_mistake(world: World) -> None:
    class Backwards(Shelf):
        def at(self, connection: Any) -> Any:
            from contextlib import nullcontext

            return nullcontext(Backwards(connection.root()["things"]))

        def iter_objects(self, after: str | None = None) -> Iterator[Any]:
            return reversed(list(self._things.values()))

    world.put("a")
    world.put("b")

    with pytest.raises(HostFailed, match="ascending"):
        detected(world, host=Backwards())


def test_what_the_host_raises_is_said_to_be_the_hosts(world: World) -> None:
    class Broken(Shelf):
        def at(self, connection: Any) -> Any:
            from contextlib import nullcontext

            return nullcontext(Broken(connection.root()["things"]))

        def stored_parts(self, obj: Any) -> Iterator[Any]:
            raise ZeroDivisionError("by nought")

    world.put("a")

    with pytest.raises(HostFailed, match="by nought"):
        detected(world, host=Broken())


def test_an_export_stands_for_all_that_was_stored_before_it(world: World, tmp_path: Path) -> None:
    from livesync.destinations.sqlite import SQLiteAgent
    from livesync.upkeep.export import export

    stored_quietly(world, "a")
    world.manager.register_agent(SQLiteAgent("rows", path=str(tmp_path / "index.sqlite")))
    world.tm.commit()
    export(world.manager, "rows", world.host)
    stored_quietly(world, "b")
    world.tm.begin()
    named: list[str] = []

    detect.detect(world.manager, "rows", world.host, told=lambda one: named.append(one.object_id))

    assert named == ["b"]


class Payload(Persistent):
    """An object with something to load."""

    def __init__(self, object_id: str) -> None:
        self.id = object_id
        self.content = os.urandom(2_000)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_objects_or_with_the_track(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "_GATHERED", 500)
    monkeypatch.setattr(announced, "_READ", 500)
    monkeypatch.setattr(detect, "SLICE_SIZE", 200)

    def fill(count: int) -> None:
        begin = len(world.things)
        for start in range(begin, begin + count, 500):
            ids = [f"thing-{number:07}" for number in range(start, start + 500)]
            world.things.update({object_id: Payload(object_id) for object_id in ids})
            changes = [(object_id, frozenset({"created"})) for object_id in ids if object_id[-1] != "0"]
            world.manager.record_changes(changes, "", "")
            world.tm.commit()

    def peak() -> int:
        detect.detect(world.manager, "index", world.host)  # this one collects
        world.connection.cacheMinimize()
        tracemalloc.start()
        try:
            found = detect.detect(world.manager, "index", world.host)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found.found == len(world.things) // 10
        return most

    fill(1_000)
    small = peak()
    fill(3_000)

    assert peak() < small * 1.3


# -- killed, and over ZEO ------------------------------------------------------------------------

DETECTOR = """\
import sys
import transaction
from support.shelf import Shelf
from livesync import SyncManager
from livesync.database import open_database
from livesync.upkeep import detect

def waiting(done):
    print(done, flush=True)
    input()

detect.SLICE_SIZE = 5
db = open_database(sys.argv[1])
connection = db.open(transaction.TransactionManager())
manager = SyncManager.get(connection.root())
detect.detect(manager, "index", Shelf(), enqueue=True, progress=waiting)
"""


@pytest.mark.slow
def test_one_that_is_killed_goes_on_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "host.fs"
    made = World(str(path))
    for number in range(20):
        (stored_quietly if number % 2 else World.put)(made, f"{number:02}")
    made.close()
    tests = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", DETECTOR, f"file://{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "5\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "10\n"
        process.send_signal(signal.SIGKILL)
    world = World(str(path))

    named, found = detected(world, enqueue=True)

    assert named == ["11", "13", "15", "17", "19"]
    assert (found.resumed, found.checked, found.found) == (10, 20, 10)
    assert queued(world) == [f"{number:02}" for number in range(1, 20, 2)]
    world.close()


KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("announced"), KEYS),
        st.tuples(st.just("unannounced"), KEYS),
        st.tuples(st.just("both"), st.tuples(KEYS, KEYS)),
        st.tuples(st.just("aborted"), KEYS),
        st.tuples(st.just("removed"), KEYS),
        st.tuples(st.just("collect"), st.none()),
        st.tuples(st.just("undo"), st.none()),
    ),
    max_size=25,
)


class Edits:
    """Carries out edits on a database, and knows which objects were last stored without an action."""

    def __init__(self, db: Any) -> None:
        self.db = db
        self.tm = transaction.TransactionManager()
        self.connection = db.open(self.tm)
        root = self.connection.root()
        root["things"] = World().things.__class__()
        manager = SyncManager.install(root)
        manager.register_agent(World().agent)
        manager.activate("index", from_start=True)
        self.tm.commit()
        self.things, self.manager = root["things"], manager
        self.unannounced: set[str] = set()

    def take(self, step: str, subject: Any) -> None:
        self.tm.begin()
        getattr(self, f"_{step}")(subject)
        self.tm.commit()

    def _store(self, key: str) -> None:
        if key in self.things:
            self.things[key]["count"] = self.things[key].get("count", 0) + 1
        else:
            self.things[key] = PersistentMapping(id=key, title=key)

    def _tell(self, key: str, word: str = "data_changed") -> None:
        self.manager.record_changes([(key, frozenset({word}))], "", "")

    def _announced(self, key: str) -> None:
        self._store(key)
        self._tell(key)
        self.unannounced.discard(key)

    def _unannounced(self, key: str) -> None:
        self._store(key)
        self.unannounced.add(key)

    def _both(self, keys: tuple[str, str]) -> None:
        """One transaction stores two things, and tells of one."""
        told, silent = keys
        self._unannounced(silent)
        self._announced(told)

    def _aborted(self, key: str) -> None:
        """Neither the change nor the action is there afterwards."""
        self._store(key)
        self._tell(key)
        self.tm.abort()
        self.tm.begin()

    def _removed(self, key: str) -> None:
        if key in self.things:
            del self.things[key]
            self._tell(key, "deleted")
        self.unannounced.discard(key)

    def _collect(self, _: None) -> None:
        self.manager.collect()

    def _undo(self, _: None) -> None:
        """Store an announced change and undo it, which livesync announces by itself."""
        self._announced("undone")
        self.tm.commit()
        with transaction.TransactionManager() as undoing:
            self.db.undo(self.db.undoInfo(0, 1)[0]["id"], undoing)
        self.tm.begin()

    def detected(self) -> list[str]:
        self.tm.begin()
        named: list[str] = []
        detect.detect(self.manager, "index", Shelf(), told=lambda one: named.append(one.object_id))
        return named

    def close(self) -> None:
        self.tm.abort()
        self.connection.close()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
@example(steps=[("unannounced", "a"), ("undo", None), ("both", ("a", "a"))])
def test_of_any_mix_of_edits_exactly_the_unannounced_ones_are_named(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    with closing(DB(FileStorage(str(tmp_path_factory.mktemp("fs") / "host.fs")))) as db:
        edits = Edits(db)
        for step, subject in steps:
            edits.take(step, subject)

            if step == "collect":
                assert edits.detected() == sorted(edits.unannounced)
        assert edits.detected() == sorted(edits.unannounced)
        edits.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_over_zeo_exactly_the_unannounced_ones_are_named(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    address, stop = ZEO.server(str(tmp_path_factory.mktemp("zeo") / "host.fs"))
    writer, reader = ZEO.DB(address, wait_timeout=LONG_S), ZEO.DB(address, wait_timeout=LONG_S)
    try:
        edits = Edits(writer)
        for step, subject in steps:
            edits.take(step, subject)
        reader.storage.ping()
        named: list[str] = []
        with reader.transaction() as connection:
            manager = SyncManager.get(connection.root())
            detect.detect(manager, "index", Shelf(), told=lambda one: named.append(one.object_id))

        assert named == sorted(edits.unannounced)
        edits.close()
    finally:
        reader.close()
        writer.close()
        stop()
