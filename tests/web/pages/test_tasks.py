"""Schedules of agents, and periodic tasks."""

import pytest

from livesync.web import schemas
from livesync.web.pages.rendering import shown_schedule
from livesync.web.pages.tasks import interval, next_run, shown_interval

NOW = 1_800_000_000.0


def error_of(page, name):
    field = page.html.find(attrs={"name": name})
    assert field["aria-invalid"] == "true"
    return page.html.find(id=f"f-{name}-wrong").get_text()


def task(**values):
    made = {
        "id": "t", "kind": "prune", "options": {}, "interval_s": None, "cron": "", "zone": "",
        "next_at": None, "failures": 0, "held_until": 0.0, "holder": "",
        "schedule_problem": "", "last_run": None,
    }  # fmt: skip
    return schemas.Task(**made | values)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("90s", 90), ("5m", 300), ("5 min", 300), ("1h", 3600), ("2d", 172_800), ("1.5h", 5400),
     ("0", None), ("", None), ("often", None), ("367d", None), ("-5m", None), ("٣m", None)],
)  # fmt: skip
def test_intervals_are_read(text, seconds):
    assert interval(text) == seconds


@pytest.mark.parametrize("seconds", [1.0, 90.0, 300.0, 3600.0, 86_400.0, 2.5])
def test_an_interval_is_shown_as_it_is_read(seconds):
    assert interval(shown_interval(seconds)) == seconds


def test_schedules_are_told_in_words():
    assert shown_schedule(task()) == "by hand"
    assert shown_schedule(task(interval_s=300.0)) == "every 5 min"
    assert shown_schedule(task(cron="0 5 * * *")) == "at 0 5 * * * UTC"
    assert shown_schedule(task(cron="0 5 * * *", zone="Europe/Rome")) == "at 0 5 * * * Europe/Rome"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "when it is told to"),
        ({"next_at": NOW - 1}, "due"),
        ({"next_at": NOW + 120}, "in 2 minutes"),
        ({"next_at": NOW + 120, "held_until": NOW + 120}, "in 2 minutes since it has failed"),
        ({"holder": "run by pid 5"}, "at work now"),
        ({"schedule_problem": "no zone"}, "never: no zone"),
    ],
)
def test_what_comes_next_is_told_in_words(values, text):
    assert next_run(task(**values), NOW) == text


def test_an_agent_is_given_an_interval_and_then_a_cron_expression(ada, desk):
    desk.add_agent()

    answer = ada.post("/agent/index/schedule", every="5m")
    assert ada.message(answer).startswith("This process runs") or "every 5 min" in answer.follow().text
    page = ada.get("/agent/index/schedule")
    assert page.forms["form"]["every"].value == "5m"

    answer = ada.post("/agent/index/schedule", every="", cron="*/15 * * * *", zone="Europe/Rome")
    assert "at */15 * * * * Europe/Rome" in answer.follow().text
    assert desk.ask("GET", "/agents/index").json["agent"]["cron"] == "*/15 * * * *"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"every": "often"}, "every"),
        ({"every": "5m", "cron": "* * * * *"}, "cron"),
        ({"cron": "whenever"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * * *", "zone": "Nowhere/At-all"}, "zone"),
    ],
)
def test_a_schedule_that_is_none_is_told_beside_its_field(ada, desk, values, field):
    desk.add_agent()
    before = desk.state()

    assert error_of(ada.post("/agent/index/schedule", 422, **values), field)
    assert desk.state() == before


def test_a_task_is_added_run_and_removed(ada, desk):
    assert "prune" in ada.get("/tasks/add").text
    form = ada.get("/tasks/add?kind=prune").forms["form"]
    form["every"] = "1d"
    form["o-keep_s"] = "3600"

    page = form.submit("do", value="save").follow()
    assert "Task prune is added; it runs every 1 d" in page.text

    job = ada.job(ada.post("/task/prune/run"))
    assert (job["kind"], job["state"]) == ("task", "done")
    assert "dropped" in ada.get(f"/job/{job['id']}").text

    assert "It runs no more" in ada.get("/task/prune/remove").text
    assert "Task prune is removed" in ada.post("/task/prune/remove", confirmed="yes").follow().text
    assert desk.ask("GET", "/tasks").json["tasks"] == []


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"id": "t"}, "every"),
        ({"id": "a b", "every": "1d"}, "id"),
        ({"id": "t", "every": "1d", "o__keep_s": "-1"}, "o-keep_s"),
        ({"id": "t", "cron": "never"}, "cron"),
    ],
)
def test_a_task_with_wrong_values_is_not_added(ada, desk, values, field):
    assert error_of(ada.post("/tasks/add?kind=prune", 422, **values), field)
    assert desk.ask("GET", "/tasks").json["tasks"] == []


def test_a_task_whose_id_is_taken_or_agent_is_unknown_is_told(ada, desk):
    ada.post("/tasks/add?kind=prune", 303, id="t", every="1d")

    assert error_of(ada.post("/tasks/add?kind=prune", 422, id="t", every="1d"), "id")
    assert error_of(ada.post("/tasks/add?kind=verify", 422, id="v", every="1d", o__agent="nobody"), "o-agent")


def test_a_kind_that_is_none_is_said(ada):
    assert ada.get("/tasks/add?kind=nothing", status=422)


def test_a_task_that_is_none_is_not_found(ada):
    ada.get("/task/none/remove", status=404)
    ada.post("/task/none/run", 404)
