"""What each operation of the API does, on a real database."""

import sqlite3
import threading
import time

import pytest
from support.waiting import LONG_S

from livesync.database import committed
from livesync.manager import SyncManager
from livesync.web.errors import SameAtWork, TooBusy
from livesync.web.jobs import Jobs
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
    assert status["readers"] == []


def test_status_tells_of_readers_that_are_no_agents(desk):
    desk.put("a", "b")
    desk.collect()
    committed(desk.db, lambda root: SyncManager.get(root).track.add_pointer("livesync.replication", None))

    (reader,) = desk.ask("GET", "/status").json["readers"]

    assert (reader["id"], reader["position"], reader["lag_actions"]) == ("livesync.replication", None, 2)


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


def test_agents_are_listed_shown_edited_and_removed(desk):
    for name in ("a", "b", "c"):
        desk.add_agent(name, begin=None)

    first = desk.ask("GET", "/agents?limit=2").json
    rest = desk.ask("GET", f"/agents?limit=2&cursor={first['next']}").json
    assert [agent["id"] for page in (first, rest) for agent in page["agents"]] == ["a", "b", "c"]
    assert rest["next"] is None

    edited = desk.ask("PATCH", "/agents/a", {"name": "Shop", "options": {"batch_size": 7}}).json
    assert (edited["agent"]["name"], edited["needs_export"]) == ("Shop", False)
    shown = desk.ask("GET", "/agents/a").json
    assert (shown["options"]["batch_size"], shown["given"]) == (7, ["batch_size", "path"])
    desk.ask("PATCH", "/agents/a", {"options": {"batch_size": None}})
    assert desk.ask("GET", "/agents/a").json["given"] == ["path"]

    assert desk.ask("DELETE", "/agents/b").status_int == 204
    assert desk.ask("GET", "/agents/b").json["error"]["code"] == "no_such_agent"


def test_another_destination_needs_an_export(desk):
    desk.add_agent()

    edited = desk.ask("PATCH", "/agents/index", {"options": {"path": str(desk.tmp_path / "new.db")}}).json

    assert edited["needs_export"] is True
    assert (edited["agent"]["state"], edited["agent"]["reason"]) == ("stopped", "needs_export")


def test_a_new_agent_is_told_where_it_begins(desk):
    desk.put("old")
    desk.collect()
    desk.add_agent("late", begin=None)

    refused = desk.ask("POST", "/agents/late/activate", {})
    begun = desk.ask("POST", "/agents/late/activate", {"begin": "now"})

    assert (refused.status_int, refused.json["error"]["code"]) == (409, "state_forbids")
    assert (begun.json["agent"]["state"], begun.json["agent"]["lag_actions"]) == ("active", 0)
    assert desk.runner.woken == 1


def test_a_paused_agent_is_rewound_and_sends_again(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    assert desk.ask("POST", "/agents/index/rewind", {"position": 0}).status_int == 409

    assert desk.ask("POST", "/agents/index/pause").json["agent"]["state"] == "paused"
    rewound = desk.ask("POST", "/agents/index/rewind", {"time": "2001-01-01T00:00:00+01:00"}).json
    desk.ask("POST", "/agents/index/activate", {})
    job = desk.finished(desk.ask("POST", "/agents/index/run"))

    assert rewound["position"] == 978303600
    assert job["result"]["counts"]["read"] == 2
    beyond = desk.ask("POST", "/agents/index/pause") and desk.ask(
        "POST", "/agents/index/rewind", {"position": 2**60}
    )
    assert (beyond.status_int, beyond.json["error"]["code"]) == (422, "usage")


def test_queued_objects_are_sent_with_the_next_run(desk):
    desk.put("a", "b")
    desk.collect()
    desk.add_agent(begin="now")

    assert desk.ask("POST", "/agents/index/enqueue", {"object_ids": ["b"]}).json == {"queued": 1}
    assert desk.ask("GET", "/agents/index").json["agent"]["queued"] == 1
    desk.finished(desk.ask("POST", "/agents/index/run"))

    assert documents(desk) == {"b"}


def test_an_export_sends_everything_and_goes_live_or_some_objects_only(desk):
    desk.put("a", "b", "c")
    desk.collect()
    desk.add_agent(begin=None)

    job = desk.finished(desk.ask("POST", "/agents/index/export", {}))
    assert (job["result"]["state"], job["result"]["complete"]) == ("active", True)
    assert (job["done"], job["total"]) == (3, 3)
    assert documents(desk) == {"a", "b", "c"}

    some = desk.finished(desk.ask("POST", "/agents/index/export", {"object_ids": ["a", "a", "b"]}))
    assert some["result"]["counts"]["accepted"] == 2
    wrong = desk.ask("POST", "/agents/index/export", {"object_ids": ["a"], "rebuild": True})
    assert (wrong.status_int, wrong.json["error"]["code"]) == (422, "usage")


def test_a_difference_is_found_and_mended(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    with sqlite3.connect(desk.tmp_path / "index.db") as connection:
        connection.execute("DELETE FROM documents WHERE object_id = 'a'")
    connection.close()

    found = desk.finished(desk.ask("POST", "/agents/index/verify", {}))["result"]
    mended = desk.finished(desk.ask("POST", "/agents/index/repair", {}))["result"]
    again = desk.finished(desk.ask("POST", "/agents/index/verify", {"quick": True}))["result"]

    assert (found["kind"], found["differs"], found["missing"]) == ("verify", True, 1)
    assert [(one["kind"], one["object_id"]) for one in found["differences"]] == [("missing", "a")]
    assert mended["repaired"]["counts"]["accepted"] == 1
    assert again["differs"] is False
    assert documents(desk) == {"a", "b"}


def test_a_simulation_shows_what_would_be_sent_and_changes_nothing(desk):
    desk.add_agent()
    desk.put("a", "b", "c")
    before = desk.state()

    job = desk.finished(desk.ask("POST", "/agents/index/simulate", {"documents": True, "limit": 2}))

    result = job["result"]
    assert result["more"] is True
    assert [(one["op"], one["object_id"]) for one in result["records"]] == [("upsert", "a"), ("upsert", "b")]
    assert result["records"][0]["document"] == {"title": "a", "extra": None}
    assert desk.state() == before
    assert not (desk.tmp_path / "index.db").exists()


@pytest.fixture
def dead(desk):
    """A desk where three objects could not be delivered."""
    desk.add_agent()
    desk.put("x", "y", "z", broken="no document")
    desk.put("good")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    return desk


def test_dead_letters_are_listed_shown_retried_and_discarded(dead):
    first = dead.ask("GET", "/dead-letters?limit=2").json
    rest = dead.ask("GET", f"/dead-letters?agent=index&limit=2&cursor={first['next']}").json
    listed = [letter["object_id"] for page in (first, rest) for letter in page["dead_letters"]]
    assert (sorted(listed), first["total"], rest["next"]) == (["x", "y", "z"], 3, None)

    shown = dead.ask("GET", "/agents/index/dead-letter?object_id=x").json
    assert (shown["dead_letter"]["reason"], shown["document"]) == ("it is blank", None)
    assert dead.ask("GET", "/agents/index/dead-letter?object_id=good").status_int == 404

    dead.put("x", broken="")
    job = dead.finished(dead.ask("POST", "/agents/index/dead-letters/retry", {"all": True}))
    assert (job["result"]["counts"]["accepted"], job["result"]["counts"]["dead"]) == (1, 2)
    assert dead.ask("POST", "/agents/index/dead-letters/discard", {"object_ids": ["y"]}).json == {
        "discarded": 1
    }
    assert dead.ask("POST", "/agents/index/dead-letters/discard", {"object_ids": ["y"]}).status_int == 404
    assert dead.ask("POST", "/agents/index/dead-letters/discard", {}).status_int == 422
    assert dead.state()["index"][4] == ["z"]


def test_the_ledger_is_listed_in_pages(dead):
    for name in ("m", "n"):
        dead.put(name)
        dead.collect()
        dead.finished(dead.ask("POST", "/agents/index/run"))

    first = dead.ask("GET", "/runs?limit=2").json
    rest = dead.ask("GET", f"/runs?agent=index&limit=2&cursor={first['next']}").json

    numbers = [run["number"] for page in (first, rest) for run in page["runs"]]
    assert numbers == [2, 1, 0]
    assert {run["balance"] for run in (*first["runs"], *rest["runs"])} == {0}
    assert rest["runs"][0]["counts"]["dead"] == 3
    assert dead.ask("GET", "/runs?agent=nobody").status_int == 404


def test_agents_and_tasks_are_put_on_a_schedule(desk):
    desk.add_agent()

    every = desk.ask("PUT", "/agents/index/schedule", {"interval_s": 300}).json
    assert (every["interval_s"], every["next_at"] is not None) == (300, True)
    off = desk.ask("PUT", "/agents/index/schedule", {}).json
    assert (off["interval_s"], off["cron"], off["next_at"]) == (None, "", None)

    new = {"id": "tidy", "kind": "prune", "interval_s": 3600}
    assert desk.ask("POST", "/tasks", new).json["kind"] == "prune"
    assert {kind["name"] for kind in desk.ask("GET", "/task-kinds").json["kinds"]} >= {"prune", "verify"}
    job = desk.finished(desk.ask("POST", "/tasks/tidy/run"))
    assert (job["state"], job["kind"], job["result"]["kind"]) == ("done", "task", "task")
    listed = desk.ask("GET", "/tasks").json["tasks"]
    assert [(task["id"], task["last_run"]["error"]) for task in listed] == [("tidy", "")]
    assert desk.ask("DELETE", "/tasks/tidy").status_int == 204
    assert desk.ask("DELETE", "/tasks/tidy").json["error"]["code"] == "no_such_task"


@pytest.mark.parametrize(
    ("schedule", "status"),
    [
        ({"cron": "every day"}, 422),
        ({"cron": "99 * * * *"}, 422),
        ({"cron": "0 3 * * *", "zone": "Mars/Olympus"}, 422),
        ({"cron": "0 3 * * *", "interval_s": 60}, 422),
        ({"zone": "Europe/Rome", "interval_s": 60}, 422),
        ({"interval_s": 0}, 400),
        ({"interval_s": -5}, 400),
        ({"interval_s": "5m"}, 400),
        ({"cron": "0 3 * * *", "zone": "../etc/passwd"}, 400),
    ],
)
def test_a_wrong_schedule_changes_nothing(desk, schedule, status):
    desk.add_agent()
    desk.ask("PUT", "/agents/index/schedule", {"interval_s": 300})
    before = desk.state()

    answers = [
        desk.ask("PUT", "/agents/index/schedule", schedule),
        desk.ask("POST", "/tasks", {"id": "tidy", "kind": "prune", **schedule}),
    ]

    assert [answer.status_int for answer in answers] == [status, status]
    assert all(len(answer.json["error"]["message"].splitlines()) == 1 for answer in answers)
    assert desk.state() == before
    assert desk.ask("GET", "/tasks").json["tasks"] == []


def test_what_everybody_has_passed_is_pruned(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()
    assert desk.ask("POST", "/track/prune", {"keep_s": 0}).json["dropped"] == 0
    desk.finished(desk.ask("POST", "/agents/index/run"))

    assert desk.ask("POST", "/track/prune", {"keep_s": 0}).json["dropped"] == 2
    assert desk.ask("GET", "/track").json["entries"] == []


def test_types_come_with_their_options(desk):
    types = {one["name"]: one for one in desk.ask("GET", "/agent-types").json["types"]}

    options = {option["name"]: option for option in types["http"]["options"]}
    assert options["url"]["required"] is True
    assert options["token"]["type"] == "secret"
    assert types["sqlite"]["help"]
    assert ":class:" not in str(types)


def test_a_connection_is_tested_before_an_agent_is_added_and_after(desk):
    path = str(desk.tmp_path / "there.db")
    sqlite3.connect(path).close()

    asked = {"type": "sqlite", "options": {"path": path}}
    missing = {"type": "sqlite", "options": {"path": str(desk.tmp_path / "no" / "way.db")}}
    good = desk.finished(desk.ask("POST", "/connection-tests", asked))["result"]
    wrong = desk.ask("POST", "/connection-tests", {"type": "sqlite", "options": {}})
    absent = desk.finished(desk.ask("POST", "/connection-tests", missing))["result"]

    assert good["ok"] is True
    assert "SQLite" in good["text"]
    assert wrong.status_int == 422
    assert "not there yet" in absent["text"]
    desk.add_agent()
    assert desk.finished(desk.ask("POST", "/agents/index/test"))["result"]["kind"] == "test"
    assert not (desk.tmp_path / "index.db").exists()


def test_a_job_can_be_asked_for_listed_and_ended(desk):
    begun, go_on = threading.Event(), threading.Event()

    def work(control):
        control.progress(3, 10)
        begun.set()
        assert go_on.wait(LONG_S)
        return

    job = desk.context.jobs.start("export", "slow", "anna", work)
    assert begun.wait(LONG_S)
    again = desk.ask("GET", f"/jobs/{job.id}").json
    assert (again["state"], again["done"], again["total"], again["who"]) == ("running", 3, 10, "anna")
    with pytest.raises(SameAtWork):
        desk.context.jobs.start("export", "slow", "anna", work)

    assert desk.ask("POST", f"/jobs/{job.id}/cancel").status_int == 200
    go_on.set()
    deadline = time.monotonic() + LONG_S
    while desk.ask("GET", f"/jobs/{job.id}").json["ended"] is None:
        assert time.monotonic() < deadline
    assert [(one["id"], one["state"]) for one in desk.ask("GET", "/jobs").json["jobs"]] == [
        (job.id, "cancelled")
    ]
    assert desk.ask("GET", f"/jobs/{'0' * 16}").json["error"]["code"] == "no_such_job"


def test_no_more_jobs_are_taken_than_can_wait_and_old_ones_are_forgotten():
    jobs = Jobs(workers=1, waiting=1, remembered=2)
    go_on = threading.Event()
    jobs.start("run", "a", "", lambda _: go_on.wait(LONG_S))
    jobs.start("run", "b", "", lambda _: None)
    with pytest.raises(TooBusy):
        jobs.start("run", "c", "", lambda _: None)
    go_on.set()
    deadline = time.monotonic() + LONG_S
    while any(job.ended is None for job in jobs.all()):
        assert time.monotonic() < deadline
    for name in ("c", "d", "e"):
        jobs.start("run", name, "", lambda _: None)
        while any(job.ended is None for job in jobs.all()):
            assert time.monotonic() < deadline
    jobs.close()

    assert len(jobs.all()) <= 3
    with pytest.raises(TooBusy):
        jobs.start("run", "f", "", lambda _: None)


def test_a_copy_of_a_database_pushes_nothing(desk):
    desk.add_agent()
    desk.put("a")
    committed(desk.db, lambda root: SyncManager.get(root).adopt("elsewhere"))

    for path in ("run", "export", "verify", "repair", "dead-letters/retry"):
        body = {"all": True} if "dead" in path else {} if path != "run" else None
        answer = desk.ask("POST", f"/agents/index/{path}", body)
        assert (answer.status_int, answer.json["error"]["code"]) == (409, "site_differs")
    assert desk.ask("GET", "/status").json["site_matches"] is False
    assert not (desk.tmp_path / "index.db").exists()


def test_samples_tell_how_far_everybody_was(desk):
    desk.add_agent()
    desk.ask("GET", "/status")
    desk.put("a")
    desk.clock += 6
    desk.ask("GET", "/status")
    desk.clock += 1
    desk.ask("GET", "/status")

    samples = desk.ask("GET", "/samples").json["samples"]

    assert [sample["waiting"] for sample in samples] == [0, 1]
    assert samples[1]["agents"][0]["lag_actions"] == 1
