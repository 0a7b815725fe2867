"""Stories: what people do to an application and its destinations, until the two agree again."""

import os
import shutil
import uuid

import pytest
from syshost import (
    Crash,
    IndexAgent,
    PathHost,
    RowsAgent,
    TwinAgent,
    documents_at,
    faults,
    rows_of_sqlite,
)

from livesync.cli.main import main
from livesync.delivery.slices import SLICE_SIZE
from livesync.errors import AgentStopped, PositionPruned, ServiceRefuses, StateForbids


@pytest.fixture
def key():
    """A key that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def index(tmp_path, key):
    """The agent of an SQLite destination, not registered yet."""
    return IndexAgent("index", key=key, path=str(tmp_path / "index.sqlite"))


@pytest.fixture
def plain(site, index):
    """A site with some nodes, and the index up to date."""
    place = site()
    place.add_agent(index)
    with place.change() as store:
        series = store.add(None, "series", "A series")
        talk = store.add(series, "talk", "A talk")
        store.add(talk, "video", "A video")
        store.add(None, "other", "Another")
    place.run("index")
    return place


def node(store, path):
    found = store.top
    for name in path.split("/"):
        found = found.children[name]
    return found


# -- undo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("collected", [False, True], ids=["waiting", "delivered"])
@pytest.mark.parametrize("what", ["edit", "add", "remove", "move", "private", "public"])
def test_an_undo_of_the_last_transaction_is_delivered(plain, what, collected):
    with plain.change() as store:
        store.set_private(node(store, "other"), True)
    plain.run("index")
    with plain.change() as store:
        plain.transactions.get().note("the last")
        alter(store, what)
    if collected:
        plain.run("index")

    plain.undo(plain.undoable("the last")[0])
    plain.run("index")

    plain.assert_equal("index")


@pytest.mark.parametrize("collected", [False, True], ids=["waiting", "delivered"])
@pytest.mark.parametrize("what", ["edit", "add", "move", "private", "public"])
def test_an_undo_of_an_older_transaction_is_delivered(plain, what, collected):
    with plain.change() as store:
        store.set_private(node(store, "other"), True)
    plain.run("index")
    with plain.change() as store:
        store.add(None, "box", "For what comes later")
    with plain.change() as store:
        plain.transactions.get().note("an older one")
        alter(store, what)
    for title in "one", "two", "three":
        with plain.change() as store:
            store.edit(node(store, "box"), title)
    if collected:
        plain.run("index")
        with plain.change() as store:
            store.edit(node(store, "box"), "four")

    plain.undo(plain.undoable("an older one")[0])
    plain.run("index")

    plain.assert_equal("index")


def alter(store, what):
    if what == "edit":
        store.edit(node(store, "series/talk"), "Edited")
    elif what == "add":
        store.add(node(store, "series/talk"), "slides", "Slides")
    elif what == "remove":
        store.remove(node(store, "series"))
    elif what == "move":
        store.move(node(store, "series/talk"), node(store, "other"), "moved")
    elif what == "private":
        store.set_private(node(store, "series"), True)
    else:
        store.set_private(node(store, "other"), False)


def test_an_undo_of_an_undo_is_delivered(plain):
    with plain.change() as store:
        plain.transactions.get().note("an edit")
        store.edit(node(store, "series/talk"), "Edited")
    plain.run("index")
    plain.undo(plain.undoable("an edit")[0], note="its undo")
    plain.run("index")

    plain.undo(plain.undoable("its undo")[0])
    plain.run("index")

    plain.assert_equal("index")
    assert "Edited" in [document["title"] for document in plain.expected().values()]


# -- who may see what ----------------------------------------------------------------------------


def test_a_public_talk_made_private_goes_and_comes_back(plain):
    with plain.looking():
        talk_id = node(plain.store, "series/talk").uid

    with plain.change() as store:
        store.set_private(node(store, "series/talk"), True)
    plain.run("index")
    gone = talk_id not in documents_at(plain.agent("index"))
    plain.assert_equal("index")
    with plain.change() as store:
        store.set_private(node(store, "series/talk"), False)
    plain.run("index")

    assert gone
    plain.assert_equal("index")
    assert talk_id in documents_at(plain.agent("index"))


def test_a_container_excluded_and_included_again_takes_its_contents_along(plain):
    with plain.change() as store:
        store.set_hidden(node(store, "series"), True)
    plain.run("index")
    left = documents_at(plain.agent("index"))
    plain.assert_equal("index")
    with plain.change() as store:
        store.set_hidden(node(store, "series"), False)
    plain.run("index")

    assert len(left) == 1
    assert len(documents_at(plain.agent("index"))) == 4
    plain.assert_equal("index")


def test_each_audience_has_its_own(plain, key, tmp_path):
    staff = IndexAgent("staff", key=key, path=str(tmp_path / "staff.sqlite"), audience="staff")
    plain.add_agent(staff)

    with plain.change() as store:
        store.set_private(node(store, "series/talk"), True)
    for agent_id in "index", "staff":
        plain.run(agent_id)

    plain.assert_equal("index", "staff")
    assert plain.expected("staff").keys() > plain.expected().keys()


# -- ids that are paths --------------------------------------------------------------------------


def test_a_container_whose_ids_are_paths_is_moved_with_its_contents(site, index):
    place = site(host=PathHost())
    place.add_agent(index)
    with place.change() as store:
        series = store.add(None, "series", "A series")
        store.add(store.add(series, "talk", "A talk"), "video", "A video")
        store.add(None, "archive", "The archive")
    place.run("index")

    with place.change() as store:
        store.move(node(store, "series"), node(store, "archive"), "old")
    place.run("index")
    moved = documents_at(place.agent("index"))
    place.assert_equal("index")
    with place.change() as store:
        store.move(node(store, "archive/old"), None, "series")
    place.run("index")

    assert set(moved) == {"archive", "archive/old", "archive/old/talk", "archive/old/talk/video"}
    place.assert_equal("index")


# -- what a snapshot shows that its slice does not hold ------------------------------------------


def test_what_a_cascade_has_sent_ahead_of_its_time_is_deleted_all_the_same(plain, key):
    """Given a container that was changed, and inside it something made after the run collected,
    the cascade's snapshot shows it and sends it; when it is removed before the next run, it goes.
    """

    def meanwhile(batch):
        with plain.change() as store:
            store.add(node(store, "series"), "short-lived", "Soon gone")

    with plain.change() as store:
        store.set_hidden(node(store, "series"), False)
    faults(key).plan(("batch", meanwhile))
    plain.run("index")
    seen_early = "Soon gone" in [
        document["title"] for document in documents_at(plain.agent("index")).values()
    ]

    with plain.change() as store:
        store.remove(node(store, "series/short-lived"))
    plain.run("index")

    assert seen_early
    plain.assert_equal("index")


def test_what_came_back_under_its_old_id_before_it_was_sent_is_deleted_all_the_same(site, index, key):
    """A path that is left and taken again: rendered as living in the slice that says deleted."""
    place = site(host=PathHost())
    place.add_agent(index)
    with place.change() as store:
        store.add(None, "a", "A talk")
    place.run("index")

    def meanwhile(batch):
        with place.change() as store:
            store.move(node(store, "b"), None, "a")

    with place.change() as store:
        store.move(node(store, "a"), None, "b")
    faults(key).plan(("beginning", meanwhile))
    place.run("index")
    seen_early = "a" in documents_at(place.agent("index"))

    with place.change() as store:
        store.move(node(store, "a"), None, "c")
    place.run("index")

    assert seen_early
    place.assert_equal("index")


# -- crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["sent", "ending", "ended"])
@pytest.mark.parametrize("kind", ["index", "twin", "rows"])
def test_created_and_sent_then_killed_then_deleted_is_gone_after_a_rerun(site, tmp_path, key, kind, point):
    place = site()
    agent = {
        "index": lambda: IndexAgent("a", key=key, path=str(tmp_path / "i.sqlite")),
        "twin": lambda: TwinAgent("a", key=key),
        "rows": lambda: RowsAgent("a", key=key),
    }[kind]()
    place.add_agent(agent)
    with place.change() as store:
        store.add(None, "kept", "Kept")
        store.add(None, "gone", "Gone")

    faults(key).plan((point, Crash()))
    with pytest.raises(Crash):
        place.run("a")
    with place.change() as store:
        store.remove(node(store, "gone"))
    place.run("a")

    place.assert_equal("a")


def test_a_dead_letter_survives_a_crash_after_the_destination_has_committed(plain, key):
    with plain.change() as store:
        broken = store.add(None, "broken", "Has no document")
        broken.broken = True
        store.add(None, "well", "Well")
        broken_id = broken.uid

    faults(key).plan(("ended", Crash()))
    with pytest.raises(Crash):
        plain.run("index")
    plain.run("index")

    plain.assert_equal("index")
    with plain.looking():
        assert list(plain.manager.dead_letters("index")) == [broken_id]


def test_the_first_position_larger_than_a_slice_goes_on_where_it_broke_off(site, index):
    """Parts of a position are accepted before the destination has any pointer to keep."""
    place = site()
    place.add_agent(index)
    with place.change() as store:
        series = store.add(None, "series", "A series")
        for number in range(SLICE_SIZE + 500):
            store.add(series, f"talk-{number:06}", "A talk")
    asked = []

    place.run("index", stop=lambda: asked.append(True) or len(asked) > 1)
    begun = len(documents_at(place.agent("index")))
    place.run("index")

    assert 0 < begun < SLICE_SIZE + 501
    place.assert_equal("index")


# -- large things --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_container_of_100_000_removed_at_once_is_gone(child, tmp_path):
    ended = child("remove_many.py", tmp_path, 100_000)

    assert ended.returncode == 0, ended.stderr
    left, least_kb, most_kb = map(int, ended.stdout.split())
    assert left == 1  # the one beside the container
    assert most_kb - least_kb < 80_000


# -- rewinding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["index", "rows"])
def test_a_rewind_delivers_again(site, tmp_path, key, kind):
    place = site()
    agent = (
        IndexAgent("a", key=key, path=str(tmp_path / "i.sqlite"))
        if kind == "index"
        else RowsAgent("a", key=key)
    )
    place.add_agent(agent)
    for number in range(3):
        with place.change() as store:
            store.add(None, f"n{number}", "A node")
        place.run("a", now=2_000_000_000 + 10 * number)
    with place.change() as store:
        store.remove(node(store, "n1"))
        store.edit(node(store, "n2"), "Edited")
    place.run("a", now=2_000_000_100)
    before = documents_at(place.agent("a"))

    with place.change():
        place.manager.pause("a")
        place.manager.rewind("a", None)
        place.manager.activate("a")
    result = place.run("a", now=2_000_000_200)

    assert result.read == 5
    assert documents_at(place.agent("a")) == before
    place.assert_equal("a")


# -- copies --------------------------------------------------------------------------------------


def copy_of(place, tmp_path, name="Copy.fs"):
    """Copy the database's file while it is quiet, as a restore from a backup does."""
    path = tmp_path / name
    shutil.copy(place.path, path)
    return path


def test_a_copied_database_does_nothing_and_once_adopted_refuses_the_old_destination(
    site, index, tmp_path, monkeypatch, capsys
):
    place = site(name="production")
    place.add_agent(index)
    with place.change() as store:
        store.add(None, "n", "A node")
    place.run("index")
    with place.change() as store:
        store.edit(node(store, "n"), "Edited")
    copied = copy_of(place, tmp_path)
    before = rows_of_sqlite(index.values["path"])
    for name in "LIVESYNC_CONFIG", "LIVESYNC_SITE":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVESYNC_DB", f"file://{copied}")
    monkeypatch.setenv("LIVESYNC_HOST", "syshost:NodeHost")

    monkeypatch.setenv("LIVESYNC_SITE", "staging")
    refused = [main(["run"]), main(["agent", "run", "index"]), main(["agent", "export", "index"])]
    adopted = main(["adopt", "--site", "staging"])
    paused = main(["run", "index"])
    activated = main(["agent", "activate", "index"])
    differs = main(["agent", "run", "index"])
    capsys.readouterr()
    main(["--json", "status"])

    assert [int(code) for code in refused] == [13, 13, 13]
    assert (int(adopted), int(paused), int(activated), int(differs)) == (0, 2, 0, 7)
    assert "destination_differs" in capsys.readouterr().out
    assert rows_of_sqlite(index.values["path"]) == before


def test_a_restored_destination_catches_up(plain, index, tmp_path):
    path = index.values["path"]
    shutil.copy(path, tmp_path / "backup.sqlite")
    for number in range(3):
        with plain.change() as store:
            store.add(None, f"later-{number}", "Later")
            store.edit(node(store, "other"), f"Edited {number}")
        plain.run("index", now=2_000_000_000 + number * 10)
    with plain.change() as store:
        store.remove(node(store, "series"))
    plain.run("index", now=2_000_000_100)

    restore_sqlite(tmp_path / "backup.sqlite", path)
    plain.run("index", now=2_000_000_200)

    plain.assert_equal("index")


def restore_sqlite(backup, path):
    for ending in "-wal", "-shm":
        if os.path.exists(f"{path}{ending}"):
            os.unlink(f"{path}{ending}")
    shutil.copy(backup, path)


def test_a_destination_restored_from_before_an_export_does_not_pass_for_complete(plain, index, tmp_path):
    path = index.values["path"]
    shutil.copy(path, tmp_path / "backup.sqlite")
    with plain.change() as store:
        store.add(None, "later", "Later")
    plain.export("index", now=2_000_000_000)
    plain.run("index", now=2_000_000_010)

    restore_sqlite(tmp_path / "backup.sqlite", path)
    try:
        plain.run("index", now=2_000_000_020)
    except AgentStopped:
        plain.export("index", now=2_000_000_030)
        plain.run("index", now=2_000_000_040)

    plain.assert_equal("index")


@pytest.mark.parametrize("changed_since", [False, True], ids=["untouched", "in use again"])
def test_a_restored_database_stops_at_a_destination_that_is_newer(site, index, tmp_path, changed_since):
    place = site()
    place.add_agent(index)
    with place.change() as store:
        store.add(None, "n", "A node")
    place.run("index", now=2_000_000_000)
    copied = copy_of(place, tmp_path)
    with place.change() as store:
        store.edit(node(store, "n"), "Lost by the restore")
        store.add(None, "lost", "Lost by the restore")
    place.run("index", now=2_000_000_100)
    place.close()

    restored = site(copied.name)
    if changed_since:
        with restored.change() as store:
            store.add(None, "new", "After the restore")
    with pytest.raises(AgentStopped):
        restored.run("index", now=2_000_000_200)
    stopped = restored.state("index")
    restored.export("index", now=2_000_000_300)
    restored.run("index", now=2_000_000_310)

    assert stopped == ("stopped", "destination_differs")
    restored.assert_equal("index")


def test_an_emptied_destination_stops_the_agent(plain, index, tmp_path):
    for ending in "", "-wal", "-shm":
        (tmp_path / f"index.sqlite{ending}").unlink(missing_ok=True)
    with plain.change() as store:
        store.add(None, "later", "Later")

    with pytest.raises(AgentStopped):
        plain.run("index")
    stopped = plain.state("index")
    plain.export("index")
    plain.run("index")

    assert stopped == ("stopped", "destination_differs")
    plain.assert_equal("index")


# -- left behind ---------------------------------------------------------------------------------


def test_an_agent_left_behind_needs_an_export_which_sweeps_what_is_gone(plain, key):
    plain.add_agent(TwinAgent("fast", key=key))
    plain.run("fast")
    with plain.change() as store:
        store.remove(node(store, "series"))
        store.edit(node(store, "other"), "Edited")
    plain.run("fast")
    with plain.change():
        plain.manager.prune(leave_behind=True)
    stopped = plain.state("index")
    with pytest.raises((StateForbids, PositionPruned)):
        plain.run("index")

    plain.export("index")
    with plain.change() as store:
        store.add(None, "later", "Later")
    plain.run("index")
    plain.run("fast")

    assert stopped == ("stopped", "needs_export")
    plain.assert_equal("index", "fast")


def test_a_reset_loses_a_deletion_and_the_export_sweeps_it_even_within_the_same_second(plain):
    now = 2_000_000_000
    plain.run("index", now=now)
    with plain.change() as store:
        store.edit(node(store, "series/talk"), "So that its position is the last sealed one")
    plain.run("index", now=now)
    plain.run("index", now=now + 1)
    with plain.change() as store:
        store.remove(node(store, "series"))
    with plain.change():
        plain.manager.reset()

    plain.export("index", now=now)
    plain.run("index", now=now + 10)

    plain.assert_equal("index")


def test_a_service_that_refuses_us_stops_the_agent_and_a_run_that_ends_well_starts_it(plain, key):
    with plain.change() as store:
        store.add(None, "later", "Later")

    faults(key).plan(("batch", ServiceRefuses("401 Unauthorized")))
    with pytest.raises(ServiceRefuses):
        plain.run("index")
    stopped = plain.state("index")
    plain.run("index")

    assert stopped == ("stopped", "service_refuses")
    assert plain.state("index") == ("active", "")
    plain.assert_equal("index")


def test_what_a_cascade_has_shown_is_known_after_a_crash_between_the_service_and_the_pointer(site, tmp_path):
    place = site()
    key = str(tmp_path)
    place.add_agent(IndexAgent("a", key=key, path=str(tmp_path / "index.sqlite")))
    with place.change() as store:
        store.add(None, "box", "A box")
        store.add(None, "shelf", "A shelf")
    place.run("a")
    with place.change() as store:
        store.move(store.top.children["box"], store.top.children["shelf"], "box")

    # When the box's contents are sent, something has just come into it; then the runner is gone
    def put_something_in(batch):
        with place.change() as store:
            store.add(store.top.children["shelf"].children["box"], "late", "It came late")

    ends = [("ended", lambda batch: None), ("ended", lambda batch: None), ("ended", RuntimeError("killed"))]
    faults(key).plan(("batch", put_something_in), *ends)
    with pytest.raises(RuntimeError, match="killed"):
        place.run("a")
    with place.looking():
        [late] = [node.uid for node in place.store.by_uid.values() if node.title == "It came late"]
        before = place.manager.track.get_pointer_timestamp("a")
    assert late in documents_at(place.agent("a"))  # which the pointer does not know of

    # Then it goes again, before anything else is delivered
    with place.change() as store:
        store.remove(store.top.children["shelf"].children["box"].children["late"])
    place.run("a")

    with place.looking():
        assert place.manager.track.get_pointer_timestamp("a") > before
    place.assert_equal("a")
