"""What the pages and the API show of two-way sync."""

from contextlib import ExitStack

import pytest
from support.peer_serving import NetworkNode, Served
from support.peer_world import World

from livesync.errors import LiveSyncError
from livesync.replication import ZODBDataStore, untaken
from livesync.web.users import Role


@pytest.fixture
def synced(tmp_path, make_desk):
    """A web application on the database of a node that has synced twice: well, and not at all."""
    with ExitStack() as stack:
        world = World(stack, tmp_path)
        server = Served(world.app)
        home = NetworkNode(world, "home")
        world.fill(3)
        world.put("both", '"server"')
        home.put("both", '"home"')
        school = home.peer(server.url, "school")
        home.sync(school)
        server.close()
        away = home.peer(server.url, "away", pull=("F1:U1",), push=())
        with pytest.raises(LiveSyncError):
            home.sync(away)
        yield make_desk(home.db)


def page_of(desk):
    """Return the page as somebody who may only see finds it."""
    desk.users.add_user("eve", "correct horse battery", Role.SEE)
    browser = desk.browser()
    form = browser.get("/login").form
    form["name"], form["password"] = "eve", "correct horse battery"
    form.submit()
    return browser.get("/peers").text


def test_peers_sessions_and_conflicts_are_told_to_programs(synced):
    told = synced.ask("GET", "/peers", role=Role.SEE).json

    by_name = {peer["name"]: peer for peer in told["peers"]}
    assert told["provider"] == "home"
    assert (by_name["school"]["push"], by_name["away"]["push"], by_name["away"]["pull"]) == (
        None,
        [],
        ["F1:U1"],
    )
    assert by_name["school"]["outcomes"][0]["pulled"] == 4
    assert "did not answer" in by_name["away"]["outcomes"][0]["error"]
    (session,) = told["sessions"]
    assert (session["served"], session["active"]) == (False, False)
    assert {transfer["sends"] for transfer in session["transfers"]} == {True, False}
    (conflict,) = told["conflicts"]
    assert (conflict["item"], conflict["entity"]) == ("both", "note")
    assert conflict["resolved"] is not None


def test_the_page_shows_them(synced):
    page = page_of(synced)

    for text in (
        "school",
        "away",
        "4 received, 1 sent; ",
        "failed",
        "did not answer",
        "created here and there",
        "F1:U1",
        "note both",
        "provider <code>home",
    ):
        assert text in page


def test_objects_that_do_not_travel_are_named(synced):
    store = ZODBDataStore(synced.db)
    store.run(lambda: untaken.note(store, {"talk <7>": "RuntimeError: no document"}))

    page = page_of(synced)

    assert synced.ask("GET", "/peers", role=Role.SEE).json["untaken"] == [
        {"object": "talk <7>", "reason": "RuntimeError: no document"}
    ]
    assert "Objects that do not travel" in page
    assert "talk &lt;7&gt;" in page


def test_nobody_is_shown_them_without_a_login(synced):
    assert synced.ask("GET", "/peers", role=None).status_int == 401


def test_a_database_that_takes_no_part_says_how_it_begins(desk):
    assert desk.ask("GET", "/peers").json == {
        "provider": None,
        "peers": [],
        "sessions": [],
        "conflicts": [],
        "open_conflicts": 0,
        "untaken": [],
    }
    assert "livesync peer init" in page_of(desk)
