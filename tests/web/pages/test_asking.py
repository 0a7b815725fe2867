"""What a page asks about before it is done: export, repair, enqueue, rewind, remove, prune."""

import pytest

from livesync.database import connected
from livesync.manager import SyncManager


def pointer(desk, agent_id="index"):
    with connected(desk.db) as root:
        return SyncManager.get(root).track.get_pointer_timestamp(agent_id)


def error_of(page, name):
    field = page.html.find(attrs={"name": name})
    assert field["aria-invalid"] == "true"
    return page.html.find(id=f"f-{name}-wrong").get_text()


@pytest.fixture
def delivered(desk, ada):
    """An agent that has delivered three objects of three positions."""
    desk.add_agent()
    for object_id in ("a", "b", "c"):
        desk.put(object_id)
        desk.collect()
    ada.job(ada.post("/agent/index/run"))
    return desk


DANGEROUS = (
    "/agent/index/repair",
    "/agent/index/remove",
    "/dead-letters/discard?agent=index",
    "/track/prune",
)


@pytest.mark.parametrize("path", DANGEROUS)
def test_what_is_dangerous_says_what_it_does_and_changes_nothing_by_being_looked_at(ada, desk, path):
    desk.add_agent()
    before = desk.state()

    page = ada.get(path).html

    assert page.select(".effect.is-dangerous li")
    assert page.select_one("form button.danger") is not None
    assert desk.state() == before


def test_an_export_sends_everything(ada, delivered):
    job = ada.job(ada.post("/agent/index/export", what="initial", confirmed="yes"))

    assert (job["kind"], job["state"], job["result"]["counts"]["accepted"]) == ("export", "done", 3)


def test_some_objects_are_exported(ada, delivered):
    job = ada.job(ada.post("/agent/index/export", what="objects", objects="a\n\n b \na", confirmed="yes"))

    assert job["result"]["counts"]["read"] == 2


def test_an_object_and_what_is_inside_is_exported(ada, delivered):
    delivered.put("inner", parent="a")

    job = ada.job(ada.post("/agent/index/export", what="under", under="a", confirmed="yes"))

    assert job["result"]["counts"]["read"] == 2


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"what": "objects"}, "objects", "Name at least one object"),
        ({"what": "objects", "objects": "x" * 600}, "objects", f"{'x' * 40}… is too long for an id"),
        ({"what": "under"}, "under", "Name the object"),
        ({"what": "everything"}, "what", "Choose one of them"),
    ],
)
def test_an_export_of_nothing_is_told(ada, delivered, values, field, text):
    assert error_of(ada.post("/agent/index/export", 422, confirmed="yes", **values), field) == text


def test_an_export_that_is_refused_says_why(ada, delivered):
    page = ada.post("/agent/index/export", 303, what="initial", rebuild="yes", confirmed="yes")

    job = ada.job(page)

    assert job["state"] in ("done", "failed")
    assert ada.get(f"/job/{job['id']}").html.find(id="job-ended") is not None


def test_a_repair_mends(ada, delivered):
    job = ada.job(ada.post("/agent/index/repair", confirmed="yes", quick="yes"))

    assert (job["kind"], job["state"]) == ("repair", "done")


def test_objects_are_enqueued(ada, delivered):
    answer = ada.post("/agent/index/enqueue", objects="a\nb", confirmed="yes")

    assert ada.message(answer) == "2 objects are queued; the next runs send them"
    assert delivered.runner.woken


@pytest.mark.parametrize("objects", ["", " \n "])
def test_nothing_is_not_enqueued(ada, delivered, objects):
    page = ada.post("/agent/index/enqueue", 422, objects=objects, confirmed="yes")

    assert error_of(page, "objects") == "Name at least one object"


def test_a_new_agent_has_nothing_enqueued_and_says_so(ada, desk):
    desk.add_agent(begin=None)

    page = ada.post("/agent/index/enqueue", 409, objects="a", confirmed="yes")

    assert "no pointer" in ada.message(page)


# -- rewind --------------------------------------------------------------------------------------


def test_a_rewind_says_how_much_is_delivered_again_and_is_done_only_then(ada, delivered):
    ada.post("/agent/index/pause")
    before = pointer(delivered)

    asked = ada.post("/agent/index/rewind", 200, position="1", confirmed="yes")

    assert "3 delivered actions will be delivered again" in asked.text
    assert pointer(delivered) == before
    assert "pointer has moved" in ada.message(asked.forms["form"].submit("confirmed"))
    assert pointer(delivered) == 1


def test_a_rewind_to_a_time_is_in_utc(ada, delivered):
    ada.post("/agent/index/pause")

    asked = ada.post("/agent/index/rewind", 200, time="2001-09-09T01:46:40", confirmed="yes")
    asked.forms["form"].submit("confirmed")

    assert pointer(delivered) == 1_000_000_000


def test_moving_forward_says_what_is_never_delivered(ada, delivered):
    ada.post("/agent/index/pause")
    sealed = pointer(delivered)
    ada.post("/agent/index/rewind", 303, position="1", confirmed="yes", sure="yes")

    asked = ada.post("/agent/index/rewind", 200, position=str(sealed), confirmed="yes")

    assert "3 actions will never be delivered" in asked.text
    assert asked.html.select_one("form button.danger").get_text() == "Skip"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "time"),
        ({"time": "2001-09-09T01:46", "position": "1"}, "position"),
        ({"time": "yesterday"}, "time"),
        ({"time": "1969-01-01T00:00"}, "time"),
        ({"position": "-1"}, "position"),
        ({"position": "1e3"}, "position"),
        ({"position": "9" * 30}, "position"),
    ],
)
def test_a_place_that_is_none_is_told(ada, delivered, values, field):
    ada.post("/agent/index/pause")
    before = pointer(delivered)

    assert error_of(ada.post("/agent/index/rewind", 422, **values), field)
    assert pointer(delivered) == before


def test_a_place_beyond_what_is_sealed_is_refused(ada, delivered):
    ada.post("/agent/index/pause")

    page = ada.post("/agent/index/rewind", 422, position=str(2**60), confirmed="yes", sure="yes")

    assert "sealed" in ada.message(page)


def test_an_active_agent_is_not_rewound(ada, delivered):
    page = ada.post("/agent/index/rewind", 409, position="1", confirmed="yes", sure="yes")

    assert "only a paused agent" in ada.message(page)


# -- remove, prune -------------------------------------------------------------------------------


def test_an_agent_is_removed_by_whoever_writes_its_id(ada, delivered):
    page = ada.post("/agent/index/remove", 422, id="other", confirmed="yes")
    assert error_of(page, "id") == "Write index, and it is removed"

    answer = ada.post("/agent/index/remove", 303, id="index", confirmed="yes")

    assert ada.message(answer) == "index is removed; what its service holds stays there"
    assert delivered.state() == {}


def test_the_track_is_pruned(ada, delivered):
    delivered.clock += 60

    answer = ada.post("/track/prune", days="0", confirmed="yes")

    assert ada.message(answer).startswith("3 actions are dropped")


@pytest.mark.parametrize("days", ["", "soon", "-1", "nan", "1e9"])
def test_a_number_of_days_that_is_none_is_told(ada, delivered, days):
    page = ada.post("/track/prune", 422, days=days, confirmed="yes")

    assert error_of(page, "days") == "Give a number of days from 0 to 366"
