from __future__ import annotations

import itertools
import sqlite3
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
import transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from support.shelf import Shelf, World
from support.waiting import LONG_S
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from livesync import PushSyncAgent, SyncManager
from livesync.delivery.record import Record, Verdict
from livesync.delivery.uploader import HeldRow
from livesync.destinations.file import FileAgent
from livesync.destinations.memory import MemoryService, MemoryUploader
from livesync.destinations.sqlite import SQLiteAgent
from livesync.errors import (
    BatchRefused,
    HostFailed,
    RetryLater,
    ServiceRefuses,
    StateForbids,
    UnknownAgent,
    UsageError,
)
from livesync.host import File, content_digest
from livesync.track import queue
from livesync.upkeep import expected, findings, reading, recheck
from livesync.upkeep.side_by_side import first_out_of_order, side_by_side
from livesync.upkeep.verify import Difference, Verification, repair, verify

SERVICE = MemoryService()


class TwinUploader(MemoryUploader):
    """Raises what its scripts say, if anything; calls ``between`` after rows were looked up."""

    service = SERVICE
    script: ClassVar[list[Exception]] = []  # for the second row
    look_ups: ClassVar[list[Exception]] = []
    slept: ClassVar[list[float]] = []
    between: ClassVar[list[Callable[[], None]]] = []
    backwards = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sleep = self.slept.append

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        rows = list(super().rows(after, quick))
        if self.backwards:
            rows.reverse()
        for number, row in enumerate(rows):
            if self.script and number == 1:
                raise self.script.pop()
            yield row

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        if self.look_ups:
            raise self.look_ups.pop()
        found = super().rows_of(object_ids)
        if self.between:
            self.between.pop()()
        return found


class TwinAgent(PushSyncAgent):
    uploader = TwinUploader


def without_secrets(record: Record) -> Record | None:
    """A transform: what is called "secret" is not sent, what is called "gone" is deleted."""
    title = (record.document or {}).get("title")
    if title == "secret":
        return None
    if title == "gone":
        return Record(record.op.DELETE, record.object_id, record.position)
    if title == "boom":
        raise ZeroDivisionError("by nought")
    if record.document is None:
        return record
    return Record(record.op, record.object_id, record.position, record.actions, {"only": title})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, no_fsync: None) -> None:
    # An agent is made anew from what is stored, so its type must be one that can be imported.
    monkeypatch.setitem(sys.modules, TwinAgent.__module__, sys.modules[__name__])
    SERVICE.__init__()  # type: ignore[misc]
    TwinUploader.script, TwinUploader.look_ups = [], []
    TwinUploader.slept, TwinUploader.between = [], []


class Index:
    """An agent of a world, its SQLite file, and what somebody does to that behind its back."""

    def __init__(self, world: World, directory: Path, **options: Any) -> None:
        self.world = world
        self.path = directory / "index.sqlite"
        world.manager.register_agent(SQLiteAgent("rows", path=str(self.path), **options))
        world.manager.activate("rows", from_start=True)
        world.tm.commit()

    def run(self, **kwargs: Any) -> Any:
        self.world.tm.begin()
        return self.world.run(self.world.manager.get_agent("rows"), **kwargs)

    def verify(self, **kwargs: Any) -> Verification:
        found = verify(self.world.manager, "rows", self.world.host, **kwargs)
        self.world.tm.begin()
        return found

    def differences(self, **kwargs: Any) -> list[tuple[str, str]]:
        with self.verify(**kwargs) as found:
            return [(difference.kind, difference.object_id) for difference in found]

    def repair(self, found: Verification) -> Any:
        try:
            return repair(self.world.manager, "rows", self.world.host, found)
        finally:
            self.world.tm.begin()

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            return connection.execute(statement, values).fetchall()

    def drop(self, object_id: str) -> None:
        self.sql("DELETE FROM documents WHERE object_id = ?", object_id)

    def alter(self, object_id: str) -> None:
        self.sql('UPDATE documents SET document = \'{"title":"altered"}\' WHERE object_id = ?', object_id)

    def plant(self, object_id: str, position: int = 1) -> None:
        statement = "INSERT OR REPLACE INTO documents (object_id, position, document) VALUES (?, ?, '{}')"
        self.sql(statement, object_id, position)

    def row(self, object_id: str) -> tuple[int, str]:
        (row,) = self.sql("SELECT position, document FROM documents WHERE object_id = ?", object_id)
        return row

    def put_back(self, object_id: str, row: tuple[int, str]) -> None:
        """Make a row what it was, as a service does that loses an update."""
        self.sql("UPDATE documents SET position = ?, document = ? WHERE object_id = ?", *row, object_id)


@pytest.fixture
def index(world: World, tmp_path: Path) -> Index:
    return Index(world, tmp_path)


@pytest.fixture
def twin(world: World) -> World:
    """A world whose agent "twin" delivers to :data:`SERVICE`."""
    world.manager.remove_agent("index")
    world.manager.register_agent(TwinAgent("twin"))
    world.manager.activate("twin", from_start=True)
    world.tm.commit()
    return world


def run_twin(world: World) -> Any:
    return world.run(TwinAgent("twin"))


def twin_differences(world: World, **kwargs: Any) -> list[Difference]:
    with verify(world.manager, "twin", world.host, **kwargs) as found:
        world.tm.begin()
        return list(found)


# -- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
def test_a_destination_that_equals_the_host_differs_in_nothing(index: Index, quick: bool) -> None:
    for key in "abc":
        index.world.put(key)
    index.world.put("hidden", private=True)
    index.run()

    with index.verify(quick=quick) as found:
        assert list(found) == []
        assert not found.differs
        assert (found.checked, found.expected, found.held) == (4, 3, 3)
        assert (found.missing, found.stale, found.orphaned, found.pending) == (0, 0, 0, 0)
        assert found.complete
        assert found.seconds > 0


def test_an_empty_host_and_an_empty_destination_are_equal(index: Index) -> None:
    assert index.differences() == []
    assert index.differences(quick=True) == []


def test_what_is_missing_stale_and_orphaned_is_named_with_what_is_held(index: Index) -> None:
    for key in "abcd":
        index.world.put(key)
    index.run()
    index.drop("b")
    index.alter("c")
    index.plant("x")

    with index.verify() as found:
        first, second, third = list(found)
        counts = (found.missing, found.stale, found.orphaned, found.pending)

    assert first == ("missing", "b", "the service does not hold it")
    assert second[:2] == ("stale", "c")
    assert "expected" in second.detail
    assert third == ("orphaned", "x", "the host does not have it")
    assert counts == (1, 1, 1, 0)
    assert found.differs


def test_an_excluded_object_that_is_held_is_orphaned(index: Index) -> None:
    index.world.put("a")
    index.run()
    index.world.things["a"]["private"] = True  # without telling anybody
    index.world.tm.commit()

    with index.verify() as found:
        assert list(found) == [("orphaned", "a", "it is excluded")]


def test_a_change_that_nobody_recorded_is_a_difference(index: Index) -> None:
    index.world.put("a")
    index.run()
    index.world.things["a"]["title"] = "changed without telling anybody"
    index.world.things["b"] = PersistentMapping(id="b", title="b")
    index.world.tm.commit()

    assert index.differences() == [("stale", "a"), ("missing", "b")]


def test_what_only_turns_down_is_not_expected(world: World, tmp_path: Path) -> None:
    index = Index(world, tmp_path, only=f"{__name__}:not_b")
    for key in "abc":
        world.put(key)
    index.run()
    assert index.differences() == []
    index.plant("b")

    assert index.differences() == [("orphaned", "b")]


def not_b(host: Any, obj: Any) -> bool:
    return bool(obj["id"] != "b")


def test_differences_come_in_the_order_of_code_points(index: Index) -> None:
    keys = ["\U0001f600", "\uffff", "é", "a", "Z", "a\x00b", "a b", "\uff41", "\U00010000", "a" * 512]
    for key in keys:
        index.world.put(key)
    index.run()
    for key in keys[:5]:
        index.drop(key)
    for key in keys[5:]:
        index.alter(key)

    assert [object_id for _, object_id in index.differences()] == sorted(keys)


def test_differences_may_be_read_again_and_go_with_the_verification(index: Index) -> None:
    index.world.put("a")
    index.run()
    index.drop("a")

    found = index.verify()
    assert list(found) == list(found) != []
    found.close()

    with pytest.raises(sqlite3.ProgrammingError):
        list(found)


def test_ranges_of_very_different_lengths_are_compared_rightly(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LISTED", "RENDERED"):
        monkeypatch.setattr(expected, name, 3)
    monkeypatch.setattr(reading, "_PAGE", 2)
    monkeypatch.setattr(reading, "_ASKED", 2)
    monkeypatch.setattr(recheck, "LOOKED_AT", 3)
    for number in range(20):
        index.world.put(f"k{number:02}")
    index.run()
    for number in (0, 1, 2, 3, 4, 11, 19):
        index.drop(f"k{number:02}")
    for number in range(9):
        index.plant(f"k05{number}")
    index.plant("a")
    index.plant("z")

    wanted = [("missing", f"k{number:02}") for number in (0, 1, 2, 3, 4, 11, 19)]
    wanted += [("orphaned", key) for key in ("a", "z", *(f"k05{number}" for number in range(9)))]
    wanted.sort(key=lambda pair: pair[1])
    assert index.differences() == wanted
    with index.verify(quick=True) as found:
        assert [pair[:2] for pair in found] == wanted
        assert (found.checked, found.expected, found.held) == (31, 20, 24)


# -- what is on its way --------------------------------------------------------------------------


def test_what_has_yet_to_be_delivered_is_pending(index: Index) -> None:
    for key in "abc":
        index.world.put(key)
    index.run()
    index.world.put("a", title="newer")
    index.world.remove("b")
    index.world.put("d")
    index.alter("c")

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("stale", "c")]
        assert found.pending == 3
    index.run()

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("stale", "c")]
        assert found.pending == 0


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_an_agent_that_does_not_run_may_be_verified(index: Index, state: str) -> None:
    for key in "ab":
        index.world.put(key)
    index.run()
    index.world.manager.stored("rows").state = state
    index.world.put("a", title="newer")
    index.drop("b")

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("missing", "b")]
        assert found.pending == 1


def test_a_change_that_waits_in_the_inbox_is_pending(index: Index) -> None:
    for key in "ab":
        index.world.put(key)
    index.run()
    index.drop("a")
    index.drop("b")

    with index.verify(progress=lambda done: index.world.put("a")) as found:
        assert [pair[:2] for pair in found] == [("missing", "b")]
        assert found.pending == 1


def test_a_database_that_is_open_for_reading_only_can_be_verified(index: Index, tmp_path: Path) -> None:
    for key in "abc":
        index.world.put(key)
    index.run()
    index.world.put("a", title="newer")  # it stays in the inbox
    index.alter("b")
    with closing(DB(FileStorage(str(tmp_path / "host.fs"), read_only=True))) as database:
        connection = database.open()
        found = verify(SyncManager.get(connection.root()), "rows", Shelf())
        connection.close()

    with found:
        assert [pair[:2] for pair in found] == [("stale", "b")]
        assert found.pending == 1


def test_what_is_inside_a_container_whose_change_reaches_it_is_pending(index: Index) -> None:
    world = index.world
    world.put("box")
    world.put("inner", parent="box")
    world.put("innermost", parent="inner")
    world.put("other")
    index.run()
    world.put("box", "set_private", private=True)
    index.drop("other")

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("missing", "other")]
        assert found.pending == 3
    index.run()

    assert index.differences() == [("missing", "other")]


def test_a_container_whose_change_reaches_nothing_inside_hides_no_difference(index: Index) -> None:
    index.world.put("box")
    index.world.put("inner", parent="box")
    index.run()
    index.world.put("box", title="newer")
    index.drop("inner")

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("missing", "inner")]
        assert found.pending == 1


def test_what_lies_in_the_slow_queue_is_pending(index: Index) -> None:
    for key in "abc":
        index.world.put(key)
    index.run()
    for key in "ab":
        index.drop(key)
    index.world.manager.enqueue("rows", ["b", "c"])
    index.world.tm.commit()

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("missing", "a")]
        assert found.pending == 1
    index.run()

    assert index.differences() == [("missing", "a")]


def test_what_a_cascade_has_put_into_the_slow_queue_is_pending(world: World, tmp_path: Path) -> None:
    index = Index(world, tmp_path, slow_above=1, slow_budget=1)
    world.put("box")
    for key in "abcd":
        world.put(key, parent="box")
    index.run()
    world.put("box", "set_private", private=True)
    index.run()
    left = list(queue.queued_ids(world.manager.stored("rows")))
    assert left

    with index.verify() as found:
        assert list(found) == []
        assert found.pending == len(left)


def test_a_position_that_is_not_delivered_as_a_whole_is_pending(index: Index) -> None:
    for key in "abc":
        index.world.put(key)
    index.run()
    for key in "abc":
        index.drop(key)
    index.world.put("a")
    index.world.put("b")
    index.world.manager.collect(index.world.clock)
    index.world.manager.track.move_pointer_inside("rows", 1)
    index.world.tm.commit()

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("missing", "c")]
        assert found.pending == 2


def test_a_change_that_is_delivered_and_pruned_while_it_is_looked_at_is_no_difference(twin: World) -> None:
    for key in "ab":
        twin.put(key)
    run_twin(twin)
    SERVICE._rows.clear()

    def deliver_and_prune() -> None:
        twin.put("a", title="newer")
        run_twin(twin)
        assert twin.manager.prune() > 0
        twin.tm.commit()

    TwinUploader.between = [deliver_and_prune]

    assert [pair[:2] for pair in twin_differences(twin)] == [("missing", "b")]


def test_a_rewind_while_it_is_looked_at_shows_what_is_now_on_its_way(
    twin: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recheck, "LOOKED_AT", 1)
    for key in "ab":
        twin.put(key)
    run_twin(twin)
    SERVICE._rows.clear()

    def rewind() -> None:
        twin.manager.pause("twin")
        twin.manager.rewind("twin", None)
        twin.tm.commit()

    TwinUploader.between = [rewind]

    assert [pair[:2] for pair in twin_differences(twin)] == [("missing", "a")]


def test_an_export_that_begins_meanwhile_ends_the_verification(twin: World) -> None:
    twin.put("a")
    run_twin(twin)
    SERVICE._rows.clear()

    def begin_export(done: int) -> None:
        twin.manager.stored("twin").state = "recording"
        twin.tm.commit()

    with pytest.raises(StateForbids, match="its export is not finished"):
        twin_differences(twin, progress=begin_export)


# -- documents that cannot be compared -----------------------------------------------------------


def test_a_dead_letter_stands_beside_the_difference_that_it_makes(twin: World) -> None:
    for key in "abc":
        twin.put(key)
    run_twin(twin)
    twin.put("b", title="poison")
    twin.put("d", title="poison")
    twin.remove("c")

    def refuse(batch: Any) -> list[Verdict]:
        raise BatchRefused("it is too heavy")

    SERVICE.answer_next(*[refuse] * 5)
    assert run_twin(twin).dead == 3

    found = twin_differences(twin)
    assert [pair[:2] for pair in found] == [("stale", "b"), ("orphaned", "c"), ("missing", "d")]
    assert all(difference.detail.endswith("; dead letter: it is too heavy") for difference in found)


@pytest.mark.parametrize("broken", ["no document", "raises"])
def test_an_object_without_a_document_is_not_comparable(
    index: Index, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    for key in "ab":
        index.world.put(key)
    index.run()
    index.world.put("a", broken=broken)
    index.world.put("new", broken=broken)
    index.run()
    caplog.clear()

    with index.verify() as found:
        assert list(found) == []
        assert found.not_comparable == 2
        told = list(found.not_compared())
    why = "it is blank" if broken == "no document" else "ZeroDivisionError: by nought"
    assert [each.object_id for each in told] == ["a", "new"]
    assert all(why in each.reason for each in told)
    assert "; the service holds it; dead letter: " in told[0].reason
    assert "; the service does not hold it; dead letter: " in told[1].reason
    assert caplog.records == []  # nothing became a dead letter because somebody has looked


def test_a_document_that_json_has_no_form_for_is_not_comparable(index: Index) -> None:
    index.world.put("a", title={1, 2})
    index.world.put("b", title=float("nan"))
    index.run()

    with index.verify() as found:
        assert list(found) == []
        assert [each.object_id for each in found.not_compared()] == ["a", "b"]


def test_an_object_whose_id_cannot_be_written_is_not_comparable(index: Index) -> None:
    index.world.put("a")
    index.world.put("\ud800")
    index.run()

    for quick in (False, True):
        with index.verify(quick=quick) as found:
            assert list(found) == []
            (told,) = found.not_compared()
            assert told.object_id == "\ud800"
            assert "UTF-8" in told.reason


def test_documents_are_compared_as_the_transform_makes_them(world: World, tmp_path: Path) -> None:
    index = Index(world, tmp_path, transform=f"{__name__}:without_secrets")
    world.put("a", title="plain")
    world.put("b", title="secret")
    world.put("c", title="gone")
    world.put("d", title="boom")
    index.run()
    assert index.row("a")[1] == '{"only":"plain"}'

    with index.verify() as found:
        assert list(found) == []
        assert (found.expected, found.held, found.kept_back, found.not_comparable) == (1, 1, 1, 1)
    position = index.row("a")[0]
    for key in "abcd":
        index.plant(key, position)

    with index.verify() as found:
        assert [pair[:2] for pair in found] == [("stale", "a"), ("orphaned", "c")]
    with index.verify(quick=True) as found:
        assert list(found) == []  # all ids are there, with positions that may be
    for key in "abcd":
        index.drop(key)
    with index.verify(quick=True) as found:
        assert [pair[:2] for pair in found] == [("missing", "a")]
        assert (found.expected, found.kept_back, found.not_comparable) == (1, 1, 1)


class WithFiles(Shelf):
    """Each thing has a file with its title as name and content."""

    @contextmanager
    def at(self, connection: Any) -> Iterator[Shelf]:
        yield WithFiles(connection.root()["things"])

    def files(self, obj: Any, audience: str = "public") -> list[File]:
        content = obj["title"].encode()
        return [
            File(obj["title"], "text/plain", len(content), content_digest(content), lambda: BytesIO(content))
        ]


def naming_files(record: Record) -> Record:
    """A transform: the document says what the files are called, and nothing of their contents."""
    if record.document is None:
        return record
    names = [file.name for file in record.files or ()]
    return Record(
        record.op, record.object_id, record.position, record.actions, {"files": names}, record.files
    )


def test_a_transform_sees_the_files_that_it_sees_in_a_run(world: World, tmp_path: Path) -> None:
    world.host = WithFiles()
    index = Index(world, tmp_path, files=True, transform=f"{__name__}:naming_files")
    for key in "ab":
        world.put(key)
    index.run()
    assert index.row("a")[1] == '{"files":["a"]}'
    index.drop("b")

    assert index.differences() == [("missing", "b")]
    world.things["a"]["title"] = "renamed without telling anybody"
    world.tm.commit()
    assert index.differences() == [("stale", "a"), ("missing", "b")]


# -- a quick look --------------------------------------------------------------------------------


def test_a_quick_look_finds_an_update_that_the_service_has_lost(index: Index) -> None:
    for key in "ab":
        index.world.put(key)
    index.run()
    before = index.row("a")
    index.world.put("a", title="newer")
    index.run()
    index.put_back("a", before)

    assert index.differences(quick=True) == [("stale", "a")]


@pytest.mark.parametrize("most", [1, 100_000])
def test_a_quick_look_knows_the_newest_position_of_each_object(
    index: Index, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(findings, "_GATHERED", most)
    for key in "abcd":
        index.world.put(key)
    index.run()
    before = {key: index.row(key) for key in "abcd"}
    for key in "dbcd":
        index.world.put(key, title=f"newer {key}")
    index.run()
    for key in "abd":
        index.put_back(key, before[key])

    assert index.differences(quick=True) == [("stale", "b"), ("stale", "d")]


def test_a_quick_look_does_not_see_an_altered_document_and_a_full_one_does(index: Index) -> None:
    index.world.put("a")
    index.run()
    index.alter("a")

    assert index.differences(quick=True) == []
    assert index.differences() == [("stale", "a")]


@pytest.mark.parametrize("quick", [False, True])
def test_a_position_ahead_of_all_that_was_sent_is_stale(index: Index, quick: bool) -> None:
    index.world.put("a")
    index.run()
    index.sql("UPDATE documents SET position = ?", 10**15)

    with index.verify(quick=quick) as found:
        (difference,) = found

    assert difference[:2] == ("stale", "a")
    assert "lies ahead of all that was sent" in difference.detail


def test_a_quick_look_tells_excluded_objects_from_missing_ones(index: Index) -> None:
    index.world.put("a")
    index.world.put("hidden", private=True)
    index.run()
    index.drop("a")

    with index.verify(quick=True) as found:
        assert [pair[:2] for pair in found] == [("missing", "a")]
        assert (found.checked, found.expected, found.held) == (2, 1, 0)


# -- repair --------------------------------------------------------------------------------------


def test_repair_sends_what_differs_and_nothing_else(index: Index) -> None:
    for key in "abcdef":
        index.world.put(key)
    index.run()
    index.drop("b")
    index.alter("c")
    index.plant("x")
    before = {key: index.row(key) for key in "adef"}

    with index.verify() as found:
        result = index.repair(found)

    assert (result.read, result.accepted) == (3, 3)
    assert result.balance() == 0
    assert {key: index.row(key) for key in "adef"} == before
    assert index.differences() == []
    with index.verify() as found:
        assert not found.differs
        assert index.repair(found).read == 0


def test_repair_is_a_line_of_the_ledger(index: Index) -> None:
    from livesync.delivery import ledger

    index.world.put("a")
    index.run()
    index.drop("a")
    with index.verify() as found:
        index.repair(found)

    assert "repair" in [entry["kind"] for entry in ledger.entries(index.world.manager.stored("rows"))]


damage = st.dictionaries(
    st.integers(0, 11), st.sampled_from(["drop", "alter", "plant", "orphan"]), max_size=8
)
fates = st.lists(st.sampled_from(["seen", "seen", "private", "blank", "removed"]), min_size=12, max_size=12)


@settings(max_examples=25, deadline=None)
@given(fates=fates, damage=damage, undelivered=st.sets(st.integers(0, 11), max_size=3))
def test_verify_names_exactly_the_damage_and_repair_mends_exactly_that(
    fates: list[str], damage: dict[int, str], undelivered: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory, open_world(Path(directory)) as world:
        index = Index(world, Path(directory))
        settle(index, fates)
        wanted = do_damage(index, fates, damage)
        pending = 0
        for number in undelivered:
            if key_of(number) in world.things:
                world.put(key_of(number), title="on its way")
                pending += wanted.pop(key_of(number), None) is not None or fates[number] in ("seen", "blank")

        with index.verify() as found:
            named = {difference.object_id: difference.kind for difference in found}
            assert named == wanted
            assert list(named) == sorted(named)
            assert found.pending == pending
            counts = [found.missing, found.stale, found.orphaned]
            assert counts == [list(wanted.values()).count(kind) for kind in ("missing", "stale", "orphaned")]
            with index.verify(quick=True) as quick:
                assert {(each.object_id, each.kind) for each in quick} <= set(wanted.items())
            result = index.repair(found)
        assert (result.read, result.accepted) == (len(wanted), len(wanted))

        assert index.differences() == []
        index.run()
        with index.verify() as found:
            assert not found.differs
            assert found.pending == 0
            assert found.expected == found.held - sum(
                "the service holds it" in each.reason for each in found.not_compared()
            )


def key_of(number: int) -> str:
    return f"k{number:02}"


def settle(index: Index, fates: list[str]) -> None:
    """Make an object of each fate, and deliver them."""
    how: dict[str, dict[str, Any]] = {"private": {"private": True}, "blank": {"broken": "no document"}}
    for number, fate in enumerate(fates):
        index.world.put(key_of(number), **how.get(fate, {}))
        if fate == "removed":
            index.world.remove(key_of(number))
    index.run()


def do_damage(index: Index, fates: list[str], damage: dict[int, str]) -> dict[str, str]:
    """Damage the file; return what a verification is to name: object id -> kind."""
    wanted = {}
    for number, what in damage.items():
        key, seen = key_of(number), fates[number] == "seen"
        if what == "orphan":
            key, kind = f"{key}!", "orphaned"
            index.plant(key)
        elif what == "drop":
            index.drop(key)
            kind = "missing" if seen else ""
        elif what == "plant":
            index.plant(key)
            kind = "stale" if seen else "orphaned"
        else:
            index.alter(key)
            kind = "stale" if seen else ""
        if kind and (what == "orphan" or fates[number] != "blank"):
            wanted[key] = kind
    return wanted


@contextmanager
def open_world(directory: Path) -> Iterator[World]:
    world = World(str(directory / "host.fs"))
    try:
        yield world
    finally:
        world.tm.abort()
        world.connection.close()
        world.db.close()


# -- while others are at work --------------------------------------------------------------------


def alter_at_random(world: World, number: int, until: threading.Event, errors: list[BaseException]) -> None:
    """Change things in transactions of one's own, until told to end."""
    manager = transaction.TransactionManager(explicit=True)
    connection = world.db.open(transaction_manager=manager)
    words = itertools.cycle(["edit", "remove", "edit", "hide", "edit", "add", "show"])
    try:
        for step in itertools.count(number * 7):
            if until.is_set():
                return
            with change(manager):
                alter(connection, f"{number}{step * 13 % 40:02}", next(words), step)
    except BaseException as exc:
        errors.append(exc)
        raise
    finally:
        connection.close()


@contextmanager
def change(manager: Any) -> Iterator[None]:
    manager.begin()
    try:
        yield
        manager.commit()
    except ConflictError:
        manager.abort()
    except BaseException:
        manager.abort()
        raise


def alter(connection: Any, key: str, what: str, step: int) -> None:
    things = connection.root()["things"]
    box = f"box{key[0]}"
    if what in ("hide", "show"):
        things[box]["private"] = what == "hide"
        key, word = box, "set_private" if what == "hide" else "set_public"
    elif what == "remove" and key in things:
        del things[key]
        word = "deleted"
    else:
        word = "data_changed" if key in things else "created"
        things.setdefault(key, PersistentMapping(id=key, parent=box)).update(title=f"{what} {step}")
    SyncManager.get(connection.root()).record_changes([(key, frozenset([word]))], "", "")


def run_again_and_again(world: World, until: threading.Event, errors: list[BaseException]) -> None:
    manager = transaction.TransactionManager()
    connection = world.db.open(transaction_manager=manager)
    try:
        sync = SyncManager.get(connection.root())
        while not until.is_set():
            sync.get_agent("rows").run(sync, Shelf())
            with change(manager):
                sync.prune()
    except BaseException as exc:
        errors.append(exc)
        raise
    finally:
        manager.abort()
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
def test_writers_and_a_runner_at_work_never_make_a_difference(
    index: Index, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    monkeypatch.setattr(expected, "LISTED", 30)
    monkeypatch.setattr(expected, "RENDERED", 7)
    monkeypatch.setattr(reading, "_PAGE", 10)
    monkeypatch.setattr(recheck, "LOOKED_AT", 5)
    world = index.world
    for number in range(3):
        world.put(f"box{number}")
        world.put(f"{number}!")
    world.manager.remove_agent("index")
    world.tm.commit()
    world.manager.get_agent("rows").run(world.manager, world.host)
    index.drop("1!")
    until, errors = threading.Event(), list[BaseException]()
    threads = [
        threading.Thread(target=alter_at_random, args=(world, number, until, errors)) for number in range(3)
    ]
    threads.append(threading.Thread(target=run_again_and_again, args=(world, until, errors)))
    for thread in threads:
        thread.start()
    pending = 0
    try:
        ends, latest = time.monotonic() + 2, time.monotonic() + LONG_S
        while not errors and time.monotonic() < (ends if pending else latest):
            with index.verify(quick=quick) as found:
                assert [pair[:2] for pair in found] == [("missing", "1!")]
                pending += found.pending
    finally:
        until.set()
        for thread in threads:
            thread.join()
    assert errors == []
    world.tm.begin()
    world.manager.get_agent("rows").run(world.manager, world.host)
    assert index.differences() == [("missing", "1!")]
    assert pending > 0  # there was something that could have been taken for a difference


# -- the two streams -----------------------------------------------------------------------------

some_ids = st.sets(st.text("ab\uffff\U00010000", min_size=1, max_size=3), max_size=30)


def lists_of(ids: set[str], lengths: list[int]) -> Iterator[list[str]]:
    waiting = iter(sorted(ids))
    for length in itertools.cycle(lengths):
        if not (part := list(itertools.islice(waiting, length))):
            return
        yield part


@given(
    ours=some_ids,
    theirs=some_ids,
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    other_lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_each_id_comes_once_in_order_and_in_one_range_with_its_like(
    ours: set[str], theirs: set[str], lengths: list[int], other_lengths: list[int]
) -> None:
    rows = ([(each,) for each in part] for part in lists_of(theirs, other_lengths))

    ranges = list(side_by_side(lists_of(ours, lengths), rows, id_of=str))

    assert [each for part, _ in ranges for each in part] == sorted(ours)
    assert [each for _, part in ranges for (each,) in part] == sorted(theirs)
    for (mine, its), (next_mine, next_its) in itertools.pairwise(ranges):
        assert max(*mine, *(each for (each,) in its), "") < min(
            *next_mine, *(each for (each,) in next_its), "\U0010ffff"
        )


@given(ids=st.lists(st.text("abc", max_size=2), min_size=1), after=st.none() | st.text("abc", max_size=2))
def test_the_first_id_that_does_not_ascend_is_found(ids: list[str], after: str | None) -> None:
    wrong = [
        at
        for at, (before, each) in enumerate(zip([after, *ids], ids))
        if before is not None and each <= before
    ]

    assert first_out_of_order(ids, after) == (wrong[0] if wrong else None)


# -- what stands in the way ----------------------------------------------------------------------


def test_an_agent_that_only_receives_is_told_so(world: World, tmp_path: Path) -> None:
    world.manager.register_agent(FileAgent("files", directory=str(tmp_path)))
    world.manager.activate("files", from_start=True)
    world.tm.commit()

    with pytest.raises(UsageError, match="agent 'files' only receives: what it holds cannot be read"):
        verify(world.manager, "files", world.host)


def test_an_agent_that_has_not_sent_everything_yet_is_told_what_to_do(index: Index) -> None:
    manager = index.world.manager
    manager.register_agent(SQLiteAgent("new", path=str(index.path) + "2"))
    manager.stored("rows").state = "recording"
    index.world.tm.commit()

    with pytest.raises(StateForbids, match="it has sent nothing; run first: livesync agent export new"):
        verify(manager, "new", index.world.host)
    with pytest.raises(StateForbids, match="not finished; run first: livesync agent export rows"):
        index.verify()
    manager.stored("rows").state = "paused"
    manager.stored("rows").export = {"after": None}
    index.world.tm.commit()
    with pytest.raises(StateForbids, match="not finished; run first: livesync agent export rows"):
        index.verify()


def test_an_agent_that_is_unknown_or_pushes_nothing_is_told_so(index: Index) -> None:
    with pytest.raises(UnknownAgent):
        verify(index.world.manager, "nobody", index.world.host)
    with pytest.raises(StateForbids, match=r"agent 'index' is none that pushes: .*cannot be imported"):
        verify(index.world.manager, "index", index.world.host)


class Disordered(Shelf):
    @contextmanager
    def at(self, connection: Any) -> Iterator[Shelf]:
        yield Disordered(connection.root()["things"])

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        return iter([self._things["b"], self._things["a"]])


class Failing(Disordered):
    @contextmanager
    def at(self, connection: Any) -> Iterator[Shelf]:
        yield Failing(connection.root()["things"])

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        yield self._things["a"]
        raise ZeroDivisionError("by nought")


@pytest.mark.parametrize("quick", [False, True])
def test_a_host_whose_ids_do_not_ascend_is_told_so(twin: World, quick: bool) -> None:
    for key in "ab":
        twin.put(key)

    with pytest.raises(HostFailed, match="the host lists 'a' after 'b'"):
        verify(twin.manager, "twin", Disordered(), quick=quick)
    with pytest.raises(HostFailed, match="failed to list its objects: ZeroDivisionError"):
        verify(twin.manager, "twin", Failing(), quick=quick)


@pytest.mark.parametrize("quick", [False, True])
def test_a_service_whose_rows_do_not_ascend_is_told_so(
    twin: World, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    for key in "ab":
        twin.put(key)
    run_twin(twin)
    monkeypatch.setattr(TwinUploader, "backwards", True)

    with pytest.raises(ServiceRefuses, match="the service tells of 'a' after 'b'"):
        twin_differences(twin, quick=quick)


def test_a_host_that_fails_in_the_second_look_is_told_so(index: Index) -> None:
    index.world.put("explosive")

    with pytest.raises(HostFailed, match="failed to look up 'explosive'"):
        index.verify()


def test_a_container_whose_contents_cannot_be_listed_is_told_of(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.world.put("box")
    index.run()
    index.world.put("box", "set_private", private=True)

    def fail(self: Shelf, obj: Any) -> Iterator[Any]:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(Shelf, "contents", fail)

    with pytest.raises(HostFailed, match="failed to list what is inside 'box': ZeroDivisionError"):
        index.verify()


def test_a_service_that_is_not_ready_is_asked_again(twin: World) -> None:
    for key in "abc":
        twin.put(key)
    run_twin(twin)
    del SERVICE._rows["b"]
    TwinUploader.script = [RetryLater(reason="busy")]
    TwinUploader.look_ups = [RetryLater(7.0, "very busy")]

    assert [pair[:2] for pair in twin_differences(twin)] == [("missing", "b")]
    assert len(TwinUploader.slept) == 2
    assert TwinUploader.slept[1] >= 7


def test_a_service_that_is_never_ready_ends_the_verification(twin: World) -> None:
    for key in "abc":
        twin.put(key)
    run_twin(twin)
    TwinUploader.script = [RetryLater(reason="busy") for _ in range(9)]

    with pytest.raises(RetryLater, match=r"busy \(given up after 5 tries"):
        twin_differences(twin)


def test_a_wait_for_a_service_ends_when_it_is_asked_to() -> None:
    asked = iter([False, True, True])
    began = time.monotonic()

    reading.sleeper(lambda: next(asked))(60.0)

    assert time.monotonic() - began < 30


def test_a_verification_that_is_asked_to_end_says_that_it_is_not_complete(twin: World) -> None:
    for key in "ab":
        twin.put(key)
    run_twin(twin)
    SERVICE._rows.clear()

    with verify(twin.manager, "twin", twin.host, stop=lambda: True) as found:
        assert (found.complete, list(found)) == (False, [])
    asked = iter([False, True])
    with verify(twin.manager, "twin", twin.host, stop=lambda: next(asked)) as found:
        assert (found.complete, found.checked, found.missing) == (False, 2, 0)
    TwinUploader.look_ups = [RetryLater(reason="busy")]
    with pytest.raises(RetryLater, match="stopped while it waited"):
        verify(twin.manager, "twin", twin.host, stop=lambda: bool(TwinUploader.slept))


def test_no_snapshot_is_held_while_the_service_is_asked(twin: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in "abcd":
        twin.put(key)
    run_twin(twin)
    del SERVICE._rows["b"]
    open_ones = []

    def noted(function: Any) -> Any:
        def wrapper(*args: Any) -> Any:
            open_ones.append(twin.host.open_snapshots)
            return function(*args)

        return wrapper

    monkeypatch.setattr(MemoryService, "rows", noted(MemoryService.rows))
    monkeypatch.setattr(MemoryService, "rows_of", noted(MemoryService.rows_of))

    assert len(twin_differences(twin)) == 1
    assert open_ones == [0, 0]


def test_a_client_of_zeo_asks_its_server_for_news_before_it_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeo = pytest.importorskip("ZEO")
    with open_world(tmp_path) as world:
        index = Index(world, tmp_path)
        for key in "ab":
            world.put(key)
        index.run()
        index.drop("b")
    address, stop = zeo.server(str(tmp_path / "host.fs"))
    try:
        with closing(zeo.DB(address, wait_timeout=LONG_S)) as database:
            pings = []
            ping = database.storage.ping
            monkeypatch.setattr(database.storage, "ping", lambda: pings.append(ping()))
            connection = database.open()
            with verify(SyncManager.get(connection.root()), "rows", Shelf()) as found:
                assert [pair[:2] for pair in found] == [("missing", "b")]
            connection.close()
            assert len(pings) == 1
    finally:
        stop()


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
def test_memory_does_not_grow_with_the_rows_nor_with_the_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    for module, name in (
        (expected, "LISTED"), (expected, "RENDERED"), (reading, "_PAGE"), (reading, "_ASKED"),
        (recheck, "LOOKED_AT"), (recheck, "_TAKEN"), (findings, "_GATHERED"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 200)
    peaks = []
    for count in (2_000, 20_000):
        directory = tmp_path / str(count)
        directory.mkdir()
        with open_world(directory) as world:
            index = Index(world, directory)
            for begin in range(0, count, 500):
                keys = [f"{number:06}" for number in range(begin, begin + 500)]
                for key in keys:
                    world.things[key] = PersistentMapping(id=key, title="t" * 100)
                world.manager.record_changes([(key, frozenset(["created"])) for key in keys], "", "")
                world.tm.commit()
            index.run()
            index.sql("UPDATE documents SET document = '{}', position = 0")
            world.connection.cacheMinimize()
            tracemalloc.start()
            with index.verify(quick=quick) as found:
                assert (found.held, found.stale) == (count, count)
                assert sum(1 for _ in found) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    assert peaks[1] <= 1.3 * peaks[0], peaks
