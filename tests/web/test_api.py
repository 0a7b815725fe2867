"""What each operation of the API does, on a real database."""

import sqlite3

import pytest

from livesync.web.users import Role


def documents(desk, agent="index"):
    with sqlite3.connect(desk.tmp_path / f"{agent}.db") as connection:
        found = {row[0] for row in connection.execute("SELECT object_id FROM documents")}
    connection.close()
    return found


def test_status_tells_where_everything_stands(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()
    desk.put("c")

    status = desk.ask("GET", "/status").json

    assert (status["actions"], status["waiting"], status["site_matches"]) == (2, 1, True)
    assert [(agent["id"], agent["state"], agent["lag_actions"]) for agent in status["agents"]] == [
        ("index", "active", 3)
    ]
    assert status["runner"] == "running"


def test_a_run_delivers_and_its_job_tells_what_it_came_to(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()

    job = desk.finished(desk.ask("POST", "/agents/index/run"))

    assert (job["state"], job["kind"], job["who"]) == ("done", "run", "token operate")
    assert job["result"]["counts"]["accepted"] == 2
    assert documents(desk) == {"a", "b"}


def test_a_failed_run_says_why(desk):
    desk.add_agent()
    desk.ask("POST", "/agents/index/pause")

    job = desk.finished(desk.ask("POST", "/agents/index/run"))

    assert (job["state"], job["error"]["code"]) == ("failed", "state_forbids")
    assert "paused" in job["error"]["message"]


def test_the_track_is_listed_in_pages_newest_first(desk):
    names = [f"thing-{number:03}" for number in range(600)]
    desk.put(*names)
    desk.collect()
    desk.put("later")

    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = desk.ask("GET", f"/track?limit=250{cursor and f'&cursor={cursor}'}").json
        seen += [entry["object_id"] for entry in page["entries"]]
        cursor, pages = page["next"], pages + 1
        desk.put(f"more-{pages}")
        desk.collect()

    assert seen == names[::-1]
    assert pages == 3
    assert desk.ask("GET", "/waiting").json == {"entries": [], "more": False}


def test_what_lies_in_an_interval_is_listed(desk):
    desk.put("a")
    desk.collect()
    position = desk.ask("GET", "/track").json["entries"][0]["position"]

    assert desk.ask("GET", f"/track?after={position}").json == {"entries": [], "next": None}
    assert len(desk.ask("GET", f"/track?till={position}").json["entries"]) == 1
    assert desk.ask("GET", f"/track?till={position - 1}").json["entries"] == []


@pytest.mark.parametrize("role", [Role.SEE, None])
def test_changing_something_takes_the_role(desk, role):
    desk.add_agent()
    before = desk.state()

    answers = [
        desk.ask("POST", "/agents", {"id": "x", "type": "memory"}, role),
        desk.ask("DELETE", "/agents/index", role=role),
        desk.ask("PATCH", "/agents/index", {"name": "Y"}, role),
        desk.ask("POST", "/agents/index/pause", role=role),
        desk.ask("POST", "/agents/index/run", role=role),
    ]

    assert {answer.status_int for answer in answers} == {401 if role is None else 403}
    assert {answer.json["error"]["code"] for answer in answers} == {
        "not_logged_in" if role is None else "role_forbids"
    }
    assert desk.state() == before
