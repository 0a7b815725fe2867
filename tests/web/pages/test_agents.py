"""Agents: the list, one of them, adding, editing, and what is done with one by a button."""

import sqlite3

import pytest

from livesync.agent import SyncAgent
from livesync.database import connected
from livesync.manager import SyncManager
from livesync.web import operations


def stored(desk, agent_id="index"):
    with connected(desk.db) as root:
        manager = SyncManager.get(root)
        found = manager.stored(agent_id)
        return {"state": found.state, "name": found.name, "options": dict(found.options)}


def rows(page):
    return [" ".join(row.get_text(" ").split()) for row in page.html.select("tbody tr")]


def error_of(page, name):
    field = page.html.find(attrs={"name": name})
    assert field["aria-invalid"] == "true"
    return page.html.find(id=f"f-{name}-wrong").get_text()


# -- looking -------------------------------------------------------------------------------------


def test_the_list_says_how_each_agent_is_and_what_can_be_done(ada, desk):
    desk.add_agent("a")
    desk.add_agent("b", begin=None)
    desk.add_agent("c")
    desk.ask("POST", "/agents/c/pause")
    desk.put("x", "y")

    found = rows(ada.get("/agents"))

    assert [row.split()[0] for row in found] == ["a", "b", "c"]
    assert "2 waiting" in found[0]
    assert "Run now" in found[0]
    assert "Begin…" in found[1]
    assert "paused" in found[2]


def test_without_agents_the_list_leads_to_adding_one(ada):
    assert ada.get("/agents").html.select_one(".empty a")["href"] == "/agents/add"


def test_many_agents_are_listed_in_parts(ada, desk):
    desk.context.change(
        lambda manager: [manager.register_agent(SyncAgent(f"agent-{number:02}")) for number in range(51)]
    )

    first = ada.get("/agents")
    rest = ada.get(first.html.find("a", rel="next")["href"])

    assert (len(rows(first)), len(rows(rest))) == (50, 1)


@pytest.mark.parametrize(
    ("state", "offered", "missing"),
    [
        ("new", {"Begin…", "Edit", "Remove…", "Test the connection"}, {"Run now", "Pause", "Export…"}),
        ("active", {"Run now", "Pause", "Simulate", "Verify", "Export…", "Repair…"}, {"Rewind…", "Activate"}),
        ("paused", {"Activate", "Rewind…", "Export…"}, {"Run now", "Pause"}),
    ],
)
def test_an_agents_page_offers_what_its_state_allows(ada, desk, state, offered, missing):
    desk.add_agent(begin=None if state == "new" else "start")
    if state == "paused":
        desk.ask("POST", "/agents/index/pause")

    labels = {
        each.get_text() for each in ada.get("/agent/index").html.select(".deeds .button, .deeds button")
    }

    assert offered <= labels
    assert not missing & labels


def test_an_agents_page_shows_its_options_and_no_secret(ada, desk, monkeypatch):
    monkeypatch.setenv("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    options = {"url": "http://127.0.0.1:9/", "secret": "env:HOOK"}
    desk.ask("POST", "/agents", {"id": "hook", "type": "webhook", "options": options})

    page = ada.get("/agent/hook")

    assert "env:HOOK" in page.text
    assert "whsec_MfKQ" not in page.text
    assert "whsec_MfKQ" not in ada.get("/agent/hook/edit").text


def test_an_agent_whose_type_is_gone_is_shown_with_why(ada, desk):
    desk.add_agent()

    def lose(manager):
        manager.stored("index").type_name = "gone"

    desk.context.change(lose)

    page = ada.get("/agent/index")

    assert "there is no agent type 'gone'" in page.html.find("main").get_text()


# -- adding --------------------------------------------------------------------------------------


def test_every_type_that_is_installed_can_be_chosen(ada, desk):
    page = ada.get("/agents/add").html

    types = [entry["name"] for entry in desk.ask("GET", "/agent-types").json["types"]]
    assert [item.find("h2").get_text() for item in page.select(".types li")] == types
    for name in types:
        assert ada.get(f"/agents/add?type={name}").forms["form"]["o-audience"].value == "public"


def test_a_type_that_is_none_is_said(ada):
    assert "there is no agent type" in ada.get("/agents/add?type=nothing", status=422).text.lower()


def test_an_agent_is_added_and_begins_with_an_export(ada, desk):
    desk.put("a", "b")
    desk.collect()
    form = ada.get("/agents/add?type=sqlite").forms["form"]
    form["id"], form["name"], form["o-path"] = "index", "The index", str(desk.tmp_path / "x.db")

    begin = form.submit("do", value="save").follow()
    job = ada.job(begin.forms["form"].submit("confirmed"))

    assert "The index is added" in ada.message(begin)
    assert job["result"]["counts"]["accepted"] == 2
    assert stored(desk) == {
        "state": "active", "name": "The index", "options": {"path": str(desk.tmp_path / "x.db")}
    }  # fmt: skip


@pytest.mark.parametrize("where", ["now", "start"])
def test_an_agent_begins_now_or_at_the_start_of_the_track(ada, desk, where):
    desk.add_agent(begin=None)
    desk.put("a")
    desk.collect()

    ada.post("/agent/index/begin", 303, where=where)

    assert desk.ask("GET", "/agents/index").json["agent"]["lag_actions"] == {"now": 0, "start": 1}[where]


def test_an_agent_begins_nowhere_else(ada, desk):
    desk.add_agent(begin=None)

    assert error_of(ada.post("/agent/index/begin", 422, where="later"), "where") == "Choose one of them"
    assert stored(desk)["state"] == "new"


def test_wrong_values_are_told_beside_their_fields_and_kept(ada, desk):
    values = {
        "id": "no id",
        "name": "N",
        "o__url": "nowhere",
        "o__secret": "hunter2",
        "o__batch_size": "many",
    }

    page = ada.post("/agents/add?type=webhook", 422, do="save", **values)

    assert error_of(page, "id").startswith("1 to 64 letters")
    assert error_of(page, "o-url").endswith("is not http:// or https:// with a host")
    assert error_of(page, "o-batch_size") == "'many' is not a whole number"
    assert error_of(page, "o-secret").startswith("Give env:NAME or file:PATH")
    assert page.forms["form"]["name"].value == "N"
    assert page.forms["form"]["o-url"].value == "nowhere"
    assert "hunter2" not in page.text
    assert page.html.find("details").has_attr("open")
    links = [link["href"] for link in page.html.select("#problems a")]
    assert all(page.html.find(id=link[1:]) is not None for link in links)
    assert len(links) == 4
    assert desk.state() == {}


def test_an_id_that_is_taken_is_told_beside_it(ada, desk):
    desk.add_agent()

    page = ada.post("/agents/add?type=sqlite", 422, do="save", id="index", o__path="/tmp/x.db")

    assert error_of(page, "id") == "There is an agent of this id already"


@pytest.mark.parametrize("line", ["two\nlines", "x" * 1001])
def test_a_name_is_one_line(ada, desk, line):
    page = ada.post("/agents/add?type=sqlite", 422, do="save", id="index", o__path="/tmp/x.db", name=line)

    assert error_of(page, "name") == "One line of at most 1,000 characters"


def test_a_connection_is_tested_before_the_agent_is_added(ada, desk):
    path = str(desk.tmp_path / "x.db")

    page = ada.post("/agents/add?type=sqlite", 200, do="test", o__path=path, name="Kept")

    assert page.html.select_one("#job h2") is not None
    assert page.forms["form"]["name"].value == "Kept"
    (job,) = desk.ask("GET", "/jobs").json["jobs"]
    assert job["kind"] == "test"
    assert desk.state() == {}


def test_a_service_that_has_answered_at_once_is_told_at_once(ada, desk, monkeypatch):
    real = operations.try_options

    def and_wait(ctx, connection, who):
        job = real(ctx, connection, who)
        while operations.get_job(ctx, job.id).ended is None:
            pass
        return operations.get_job(ctx, job.id)

    monkeypatch.setattr(operations, "try_options", and_wait)

    page = ada.post("/agents/add?type=sqlite", 200, do="test", o__path=str(desk.tmp_path / "x.db"))

    assert "It can" in page.html.find(id="job").get_text()
    assert page.html.find(class_="live") is None


# -- editing -------------------------------------------------------------------------------------


def test_an_agent_is_edited_and_what_is_left_empty_has_its_default(ada, desk):
    desk.add_agent(batch_size=7)
    form = ada.get("/agent/index/edit").forms["form"]
    assert form["o-batch_size"].value == "7"
    form["name"], form["o-batch_size"], form["o-linger_s"] = "Other", "", "2.5"

    assert ada.message(form.submit("do", value="save")) == "Other is changed"
    assert stored(desk)["name"] == "Other"
    assert stored(desk)["options"] == {"path": str(desk.tmp_path / "index.db"), "linger_s": 2.5}


def test_a_wrong_value_changes_nothing(ada, desk):
    desk.add_agent()
    before = desk.state()

    page = ada.post("/agent/index/edit", 422, o__path="", o__batch_size="0")

    assert error_of(page, "o-path") == "This is needed"
    assert error_of(page, "o-batch_size") == "'0' is below 1"
    assert desk.state() == before


def test_another_destination_is_asked_about_first(ada, desk):
    desk.add_agent()
    other = str(desk.tmp_path / "other.db")
    form = ada.get("/agent/index/edit").forms["form"]
    form["o-path"] = other

    asked = form.submit("do", value="save")

    assert "stopped until it has been exported" in asked.text
    assert stored(desk)["options"]["path"] != other
    assert "needs an export" in ada.message(asked.forms["form"].submit("confirmed"))
    assert stored(desk) == {"state": "stopped", "name": "index", "options": {"path": other}}


# -- by a button ---------------------------------------------------------------------------------


def test_an_agent_runs_when_it_is_told_to(ada, desk):
    desk.add_agent()
    desk.put("a", "b")

    job = ada.job(ada.post("/agent/index/run"))

    assert (job["who"], job["result"]["counts"]["accepted"]) == ("operate", 2)
    page = ada.get(f"/job/{job['id']}")
    assert "2 accepted" in page.text
    assert page.html.find(id="job-ended") is not None


def test_a_pause_and_an_activation_are_told(ada, desk):
    desk.add_agent()

    assert ada.message(ada.post("/agent/index/pause")) == "index is paused; its pointer stays"
    assert stored(desk)["state"] == "paused"
    assert ada.message(ada.post("/agent/index/activate")) == "index is active"
    assert stored(desk)["state"] == "active"


@pytest.mark.parametrize("deed", ["pause", "activate"])
def test_what_the_state_forbids_is_told_on_the_agents_page(ada, desk, deed):
    desk.add_agent(begin=None)

    page = ada.post(f"/agent/index/{deed}", 409)

    assert page.html.find("h1").get_text() == "index"
    assert "new" in ada.message(page)


def test_a_simulation_shows_what_would_be_sent(ada, desk):
    desk.add_agent()
    desk.put("a", title="Hello <b>")

    job = ada.job(ada.post("/agent/index/simulate"))
    page = ada.get(f"/job/{job['id']}")

    assert "1 record" in page.text
    assert "Hello <b>" in page.html.find("pre").get_text()
    assert desk.ask("GET", "/agents/index").json["agent"]["lag_actions"] == 1


def test_a_verification_names_the_differences(ada, desk):
    desk.add_agent()
    desk.put("a")
    ada.job(ada.post("/agent/index/run"))
    with sqlite3.connect(desk.tmp_path / "index.db") as connection:
        connection.execute("DELETE FROM documents")
    connection.close()

    job = ada.job(ada.post("/agent/index/verify"))
    page = ada.get(f"/job/{job['id']}")

    assert "They differ" in page.text
    assert rows(page) == ["a missing the service does not hold it"]


def test_a_connection_that_works_is_told(ada, desk):
    desk.add_agent()
    ada.job(ada.post("/agent/index/run"))

    job = ada.job(ada.post("/agent/index/test"))

    assert "It can be delivered to" in ada.get(f"/job/{job['id']}").text


def test_a_connection_that_fails_is_told_with_why(ada, desk):
    options = {"url": "http://127.0.0.1:9/", "secret": "env:NO_SUCH_VARIABLE"}
    desk.ask("POST", "/agents", {"id": "hook", "type": "webhook", "options": options})

    page = ada.get(f"/job/{ada.job(ada.post('/agent/hook/test'))['id']}")

    assert "It cannot be delivered to" in page.text
    assert "NO_SUCH_VARIABLE" in page.text
