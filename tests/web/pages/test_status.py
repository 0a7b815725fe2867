"""The status page."""

import re

from livesync import SyncManager
from livesync.database import committed


def tiles(page):
    return {
        tile.find("dt").get_text(): tile.find(class_="value").get_text()
        for tile in page.html.find_all(class_="tile")
    }


def test_it_shows_the_track_and_each_agent_on_it(ada, desk):
    desk.add_agent()
    desk.add_agent("other", begin=None)
    desk.put("a", "b")
    desk.collect()
    desk.put("c")

    page = ada.get("/")

    assert tiles(page)["On the track"] == "2"
    assert tiles(page)["In the inbox"] == "1"
    assert tiles(page)["In the last hour"] == "3"
    lanes = [svg["aria-label"] for svg in page.html.select(".lanes svg[role=img]")]
    assert re.fullmatch(r"pointer at before everything, 3 actions waiting, .* behind", lanes[0])
    assert lanes[1:] == ["no pointer yet"]
    assert page.html.find(id="summary").get_text() == "Agents: 1 with changes waiting, 1 new"


def test_the_part_that_is_live_is_what_the_page_shows(ada, desk):
    desk.add_agent()
    desk.put("a")

    page, part = ada.get("/"), ada.get("/?part=live")

    assert "<html" not in part.text
    assert {each["id"] for each in part.html.select("[data-live]")} == {
        each["id"] for each in page.html.select("[data-live]")
    }
    assert part.html.find(id="tiles") == page.html.find(id="tiles")


def test_each_scale_is_chosen_by_a_link(ada, desk):
    desk.add_agent()
    desk.put("a")

    for scale in ("recent", "hour", "day", "all"):
        page = ada.get(f"/?scale={scale}").html
        (chosen,) = page.select(".tabs a[aria-current]")
        assert chosen["href"].endswith(f"scale={scale}")
        assert f"scale={scale}" in page.find(class_="live")["data-live-source"]


def test_a_scale_that_is_none_is_the_usual_one(ada):
    assert "scale=recent" in ada.get("/?scale=<b>").html.find(class_="live")["data-live-source"]


def test_without_an_agent_it_says_what_to_do(ada):
    page = ada.get("/").html

    assert page.select_one(".empty a")["href"] == "/agents/add"
    assert page.find(id="summary").get_text() == "There is no agent yet"


def test_a_copy_of_the_database_says_that_nothing_is_sent(ada, desk):
    committed(desk.db, lambda root: SyncManager.get(root).adopt("elsewhere"))

    page = ada.get("/").html

    assert "belongs to site “elsewhere”" in page.find(id="site").get_text()


def test_names_are_text_and_never_markup(ada, desk):
    path = str(desk.tmp_path / "x.db")
    name = "<img src=x onerror=alert(1)>"
    body = {"id": "index", "type": "sqlite", "name": name, "description": name, "options": {"path": path}}
    desk.ask("POST", "/agents", body)

    for address in ("/", "/agents", "/agent/index", "/tasks", "/runs"):
        page = ada.get(address)
        assert "<img" not in page.text
        assert name in page.html.get_text() or address == "/runs"


def test_a_rate_is_told_once_something_was_delivered(ada, desk):
    desk.add_agent()
    ada.get("/")
    desk.put(*(f"thing-{number}" for number in range(50)))
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    desk.clock += 10

    page = ada.get("/")

    assert "5 records a second" in page.html.select_one(".lanes .lag").get_text()
