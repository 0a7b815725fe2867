"""Dead letters, runs, the track and jobs as pages list them."""

import pytest
from support.waiting import LONG_S

from livesync.web import schemas
from livesync.web.pages.lists import lately, of_ledger


def rows(page):
    return [" ".join(row.get_text(" ").split()) for row in page.html.select("tbody tr")]


# -- dead letters --------------------------------------------------------------------------------


def test_dead_letters_are_listed_with_their_reasons(ada, dead):
    found = rows(ada.get("/dead-letters"))

    assert len(found) == 2
    assert all("it is blank" in row for row in found)


def test_a_letter_whose_id_has_a_slash_is_found(ada, dead):
    link = next(a for a in ada.get("/dead-letters?agent=index").html.select("tbody th a") if "a/1" in a.text)

    page = ada.get(link["href"])

    assert page.html.find("dd").get_text() == "a/1"
    assert "it is blank" in ada.message(page)


def test_one_letter_is_sent_again(ada, dead):
    dead.put("a/1", broken="")

    answer = ada.post("/dead-letters/retry", agent="index", object="a/1", confirmed="yes")

    assert ada.job(answer)["result"]["counts"]["accepted"] == 1
    assert len(rows(ada.get("/dead-letters"))) == 1


def test_all_letters_are_sent_again_and_those_that_die_again_stay(ada, dead):
    dead.put("a/1", broken="")

    ada.job(ada.post("/dead-letters/retry", agent="index", confirmed="yes"))

    assert len(rows(ada.get("/dead-letters"))) == 1


def test_one_letter_and_then_all_are_thrown_away(ada, dead):
    answer = ada.post("/dead-letters/discard", agent="index", object="a/1", confirmed="yes")
    assert ada.message(answer) == "1 dead letter is gone"

    answer = ada.post("/dead-letters/discard", agent="index", confirmed="yes")
    assert ada.message(answer) == "1 dead letter is gone"
    assert "There is no dead letter" in ada.get("/dead-letters").text


@pytest.mark.parametrize("path", ["/dead-letters/retry", "/dead-letters/discard"])
def test_letters_of_nobody_are_not_found(ada, dead, path):
    ada.post(path, 404, agent="nobody", confirmed="yes")
    ada.post(path, 404, agent="index", object="none", confirmed="yes")

    assert len(dead.state()["index"][-1]) == 2


def test_many_letters_are_listed_in_parts(ada, desk):
    desk.add_agent(dead_threshold=1000, dead_window=1000)
    desk.put(*(f"thing-{number:03}" for number in range(120)), broken="no document")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))

    seen, page = [], ada.get("/dead-letters?agent=index")
    while True:
        seen += rows(page)
        older = page.html.find("a", rel="next")
        if older is None:
            break
        page = ada.get(older["href"])

    assert len(seen) == len(set(seen)) == 120


# -- runs ----------------------------------------------------------------------------------------


def test_the_ledger_is_shown_of_all_agents_or_of_one(ada, dead):
    dead.add_agent("other")
    ada.job(ada.post("/agent/other/run"))

    assert len(rows(ada.get("/runs"))) == 2
    (row,) = rows(ada.get("/runs?agent=index"))
    assert "run" in row


def test_a_failed_run_says_why(ada, desk):
    options = {"url": "http://127.0.0.1:9/", "secret": "env:NO_SUCH_VARIABLE"}
    desk.ask("POST", "/agents", {"id": "hook", "type": "webhook", "options": options})
    desk.ask("POST", "/agents/hook/activate", {"begin": "start"})
    desk.put("a")
    ada.job(ada.post("/agent/hook/run"))

    page = ada.get("/runs?agent=hook")

    assert "NO_SUCH_VARIABLE" in page.html.select_one("tr.is-bad").get_text()


def run(number, ended, accepted, seconds, till):
    return schemas.Run(
        agent_id="a", number=number, kind="run", began=ended - seconds, ended=ended, seconds=seconds,
        till=till, error="", balance=0, counts=schemas.Counts(accepted=accepted),
    )  # fmt: skip


def test_the_ledger_is_drawn_as_speed_and_as_lag():
    runs = [run(1, 200.0, 50, 10.0, 139), run(0, 100.0, 30, 10.0, 98)]

    (_, speed), (_, lag) = of_ledger(runs, 1, 1000.0)

    assert speed.words == "Records a second, of each run: 5 at the end, between 3 and 5 over 2 points"
    assert lag.words.endswith("1 min at the end, between 1 s and 1 min over 2 points")


def test_no_run_is_drawn_as_nothing():
    assert [drawn.line for _, drawn in of_ledger([], 1, 1000.0)] == ["", ""]


def test_what_was_looked_at_lately_is_drawn_of_one_agent_or_all_together():
    samples = [
        schemas.StatusSample(
            time=time,
            waiting=0,
            agents=[
                schemas.LagSample(agent_id="a", lag_actions=1, lag_seconds=time, delivered=int(time)),
                schemas.LagSample(agent_id="b", lag_actions=1, lag_seconds=5.0, delivered=2 * int(time)),
            ],
        )
        for time in (10.0, 20.0)
    ]

    (_, all_rates), (_, furthest) = lately(samples, None, 20.0)
    (_, rate), (_, behind) = lately(samples, "b", 20.0)

    assert (all_rates.latest, rate.latest, furthest.latest, behind.latest) == ("3", "2", "20 s", "5 s")
    assert lately(samples[:1], None, 20.0) == []
    assert lately(samples, "c", 20.0) == []


# -- the track -----------------------------------------------------------------------------------


def test_the_track_is_listed_newest_first_below_what_waits(ada, desk):
    desk.put("apple")
    desk.collect()
    desk.put("bee")

    waiting, entries = ada.get("/track").html.find_all("tbody")

    assert "bee" in waiting.get_text()
    assert "apple" in entries.get_text()


def test_what_an_agent_has_yet_to_deliver_is_listed(ada, desk):
    desk.put("a")
    desk.collect()
    desk.add_agent(begin="now")
    desk.put("b")
    desk.collect()

    assert ["b" in row for row in rows(ada.get("/track?agent=index"))] == [True]


def test_a_long_track_is_listed_in_parts(ada, desk):
    desk.put(*(f"thing-{number:03}" for number in range(120)))
    desk.collect()

    first = ada.get("/track")
    second = ada.get(first.html.find("a", rel="next")["href"])

    assert not set(rows(first)) & set(rows(second))
    assert "Newest" in second.text


# -- jobs ----------------------------------------------------------------------------------------


def test_what_was_asked_for_is_listed(ada, dead):
    (row,) = rows(ada.get("/jobs"))

    assert row.startswith("Run index done")


def test_a_job_that_has_ended_is_not_ended_again(ada, dead):
    job_id = dead.ask("GET", "/jobs").json["jobs"][0]["id"]

    assert ada.message(ada.post(f"/job/{job_id}/cancel")) == "It had ended already"


def test_a_job_at_work_shows_how_far_it_is_and_ends_when_it_is_asked_to(ada, desk):
    desk.add_agent()
    started = desk.app.context.jobs.start("export", "index", "ada", lambda control: control.progress(3, 9) or
                                          (control._stop.wait(LONG_S) and None))  # fmt: skip
    page = ada.get(f"/job/{started.id}")

    assert "3 of 9 done" in page.text or "waits for its turn" in page.text
    assert page.html.find(class_="live")["data-until"] == "#job-ended"
    assert ada.message(ada.post(f"/job/{started.id}/cancel")) == "It was asked to end"
    found = desk.ask("GET", f"/jobs/{started.id}")
    found.status_int = 202
    assert desk.finished(found)["state"] == "cancelled"
