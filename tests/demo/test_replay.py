import threading

import pytest
from transaction.interfaces import TransientError
from ZODB.FileStorage import FileStorage

from livesync.demo.history import HistoryError
from livesync.demo.host import demo_host, demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.replay import ReplayResult, describe, prepare, replay
from livesync.errors import UsageError
from livesync.manager import SyncManager

FILE = "a-2001/videos/x.json"


def test_line_that_has_been_applied_is_skipped_wherever_it_stands(world, small_history):
    host = demo_host()
    world.replay(host, *small_history[:20])
    before = world.documents()

    result = world.replay(host, *reversed(small_history[:20]))

    assert result == ReplayResult(applied=0, skipped=20, changes=0)
    assert world.documents() == before


def test_limit_counts_the_lines_applied(world, demo, small_history):
    host, other = demo_host(), demo.World()
    results = []
    while not results or results[-1].applied:
        results.append(world.replay(host, *small_history, limit=40))
    other.replay(host, *small_history)

    assert [(result.applied, result.skipped) for result in results] == [(40, 0), (40, 40), (13, 80), (0, 93)]
    assert sum(result.changes for result in results) == 2583
    assert world.index(host, "staff") == other.index(host, "staff")
    other.db.close()


def test_limit_of_nothing_applies_nothing(world, small_history):
    assert world.replay(demo_host(), *small_history, limit=0) == ReplayResult()


def test_replay_broken_off_by_a_bad_line_goes_on_when_it_is_mended(world, demo):
    host = demo_host()
    good = demo.line(("created", FILE, {"n": 1}))
    bad = demo.line(("created", "a-2001/category.json", {}), ("deleted", "b/videos/x.json"))

    with pytest.raises(HistoryError):
        world.replay(host, good, bad)
    result = world.replay(host, good, demo.line(("created", "a-2001/category.json", {})))

    assert (result.applied, result.skipped) == (1, 1)
    assert world.documents() == {FILE: {"n": 1}, "a-2001/category.json": {}}


def test_document_nested_too_deeply_is_an_error_of_its_line(world, demo):
    deep = []
    for _ in range(5_000):
        deep = [deep]
    line = demo.line(("created", FILE, {}))
    line.changes[0].data["deep"] = deep

    with pytest.raises(HistoryError, match=r"line 1: .*nested too deeply"):
        world.replay(demo_host(), line)

    assert world.documents() == {}


def test_progress_is_told_after_each_line(world, small_history):
    seen = []

    world.replay(demo_host(), *small_history[:3], *small_history[:1], progress=seen.append)

    assert [(result.applied, result.skipped) for result in seen] == [(1, 0), (2, 0), (3, 0), (3, 1)]


def test_replay_ends_after_the_line_at_which_it_is_told_to(world, small_history):
    answers = iter([False, True])

    result = world.replay(demo_host(), *small_history, stop=lambda: next(answers))

    assert result.applied == 2


def test_transaction_says_who_and_what():
    class Change:
        def __init__(self, action):
            self.action = action

    class Line:
        time = 1452132233
        changes = [Change("created"), Change("data_changed"), Change("created")]  # noqa: RUF012

    assert describe(Line) == "edits of 2016-01-07 02:03:53 UTC: 2 created, 1 data changed"


def test_track_tells_what_changed_who_did_it_and_in_which_edits(world, demo):
    host = demo_host()
    world.replay(
        host,
        demo.line(("created", "a-2001/category.json", {"title": "A"}), ("created", FILE, {"title": "X"})),
        demo.line(("data_changed", FILE, {**demo.ready, "title": "X"})),
        demo.line(("data_changed", FILE, {**demo.ready, "title": "Y"})),
        demo.line(("moved", "b/videos/y.json", None, FILE)),
        demo.line(("deleted", "a-2001/category.json")),
    )

    actions = world.collect()

    talk = world.uids()["b/b/y"]
    assert [sorted(action.actions) for action in actions if action.object_id == talk] == [
        ["created"],
        ["data_changed", "set_public"],
        ["data_changed", "title_changed"],
        ["moved"],
    ]
    assert {action.user for action in actions} == {"replay"}
    assert actions[0].note == "edits of 2017-07-14 02:40:00 UTC: 2 created"
    assert sorted(actions[-1].actions) == ["deleted"]


def test_track_tells_a_move_as_delete_and_creation_where_ids_are_paths(world, demo):
    host = demo_paths_host()
    world.replay(host, demo.line(("created", "a-2001/category.json", {}), ("created", FILE, {})))
    seen = len(world.collect())

    world.replay(
        host,
        demo.line(
            ("moved", "b/category.json", None, "a-2001/category.json"),
            ("moved", "b/videos/x.json", None, FILE),
        ),
    )

    told = {(action.object_id, *sorted(action.actions)) for action in world.collect()[seen:]}
    assert told == {
        ("a", "deleted"),
        ("a/a-2001", "deleted"),
        ("a/a-2001/x", "deleted"),
        ("b", "created"),
        ("b/b", "created"),
        ("b/b/x", "created"),
    }


@pytest.mark.parametrize("factory", [demo_host, demo_paths_host])
@pytest.mark.parametrize("audience", ["public", "staff"])
def test_index_that_follows_the_track_equals_the_catalogue(world, demo, small_history, factory, audience):
    host = factory()
    mirror = demo.Mirror(world, host, audience)

    for begin in range(0, len(small_history), 16):
        world.replay(host, *small_history[begin : begin + 16])
        assert mirror.follow() == world.index(host, audience)


def test_edits_of_the_small_history_make_talks_private_and_public(world, small_history):
    world.replay(demo_host(), *small_history)

    actions = world.collect()

    assert sum("set_private" in action.actions for action in actions) > 50
    assert sum("set_public" in action.actions for action in actions) > 50


def test_what_is_there_is_left_alone_by_preparing(world, small_history):
    world.replay(demo_host(), *small_history[:2])
    with world.root() as root:
        track_id = SyncManager.get(root).track_id

    prepare(world.db, "elsewhere")

    with world.root() as root:
        assert SyncManager.get(root).track_id == track_id
        assert SyncManager.get(root).site == ""
        assert len(root[ROOT_KEY].replayed) == 2


def test_new_manager_belongs_to_the_site(world):
    with world.change() as root:
        del root["livesync"]

    prepare(world.db, "office")

    with world.root() as root:
        assert SyncManager.get(root).site == "office"


def test_database_of_another_application_is_left_alone(world):
    with world.change() as root:
        root[ROOT_KEY] = "a library"

    with pytest.raises(UsageError, match="another application"):
        prepare(world.db)


def test_two_replays_at_once_apply_each_line_once(tmp_path, demo):
    world = demo.World(FileStorage(str(tmp_path / "Data.fs")))
    lines = [demo.line(("created", f"a-20{n:02}/videos/x.json", {"n": n}), time=n) for n in range(60)]
    results, start = [], threading.Barrier(2)

    def run():
        start.wait()
        # more conflicts in a row than a replay retries are possible here, and only here
        while True:
            try:
                results.append(replay(world.db, lines))
                return
            except TransientError:
                continue

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.documents() == {f"a-20{n:02}/videos/x.json": {"n": n} for n in range(60)}
    world.check()
    world.db.close()
