"""Versions of documents as pages, and as the API, show them."""

import pytest

from livesync.versions import VersionedCollection
from livesync.versions.upkeep.retention import Policy


def rows(page):
    return [" ".join(row.get_text(" ").split()) for row in page.html.select("tbody tr")]


def versions_of(visitor, collection="talks"):
    """The versions as the API gives them."""
    return visitor.desk.ask("GET", f"/collections/{collection}/versions").json["versions"]


def test_without_versions_the_page_says_how_to_begin(ada):
    assert "livesync version init" in ada.get("/history").text


def test_all_versions_are_listed_with_their_graph_and_names(ada, versions):
    page = ada.get("/history")
    found = rows(page)
    assert [row.split(" ")[0] for row in found] == ["main:2", "main:1", "side:0", "main:0"]
    lines = [one["graph"] for one in versions_of(ada)]
    assert [line[0] for line in lines] == ["*", "* |", "| *", "|/"]
    assert "main:2" in found[0]
    assert "HEAD -> main" in found[0]
    assert "tag: first" in found[3]
    assert "2 created" in found[3]
    graph = page.html.select("td.graph svg.branches")
    assert [len(svg.select("circle")) for svg in graph] == [1, 1, 1, 1]
    assert [len(svg.select("line")) for svg in graph] == [3, 4, 4, 2]


def test_a_history_of_several_collections_says_so_and_a_message_of_several_lines_is_cut(ada, desk):
    with desk.db.transaction() as connection:
        docs = VersionedCollection(connection, "catalogue", collections=["talks", "events"])
        docs.part("talks").documents["t1"] = {"n": 1}
        docs.init()
        docs.part("talks").documents["t1"] = {"n": 2}
        docs.part("events").documents["e1"] = {"n": 1}
        docs.register("first line\nsecond line")
    page = ada.get("/history")
    assert "Versions of events, talks, which catalogue holds together" in page.text
    assert "first line …" in rows(page)[0]
    assert "second line" not in page.text
    page = ada.get(page.html.select("tbody th a")[0]["href"])
    assert "first line\nsecond line" in page.html.find(class_="said").get_text()
    assert [a.get_text() for a in page.html.select("section h2 a")] == ["events:e1", "talks:t1"]
    assert "first line …" in ada.get("/history/document?collection=catalogue&document=talks:t1").text


def test_a_version_shows_what_it_changed_in_colours_and_nothing_is_taken_for_markup(ada, versions):
    page = ada.get("/history")
    link = next(a for a in page.html.select("tbody th a") if a.get_text() == "side:0")
    page = ada.get(link["href"])
    assert [tag.get_text() for tag in page.html.select("pre.diff del")] == ['-  "title": "<B>"']
    assert [tag.get_text() for tag in page.html.select("pre.diff ins")] == ['+  "title": "<i>B</i>"']
    assert "theirs & ours" in page.html.find("h1").find_next("p").get_text()
    assert page.html.find("i") is None


def test_a_documents_past_is_shown(ada, versions):
    page = ada.get("/history/document?collection=talks&document=a/1")
    titles = [heading.get_text(" ", strip=True) for heading in page.html.select("section h2")]
    assert titles == ["main:1 changed", "main:0 created"]


def test_what_was_pruned_is_said_and_nothing_else_fails(ada, versions, desk):
    with desk.db.transaction() as connection:
        docs = VersionedCollection(connection, "talks", clock=lambda: 10**9)
        for n in range(3, 8):
            docs.documents["a/1"] = {"title": "A", "n": n}
            docs.register(f"v{n}")
        assert docs.prune(Policy(newest=1)) == 5
    found = rows(ada.get("/history"))
    assert ["pruned" in row for row in found] == [False, True, True, True, True, True, False, False, False]

    def shown(name):
        link = next(a for a in ada.get("/history").html.select("tbody th a") if a.get_text() == name)
        return ada.get(link["href"]).html

    assert "this record is all that is left" in shown("main:6").get_text()
    newest = shown("main:7")
    assert "what lay between was pruned" in newest.get_text()
    assert (
        newest.find("dt", string="Compared with").find_next("dd").a["href"]
        == newest.find(
            "a", string=desk.ask("GET", "/collections/talks/versions?limit=9").json["versions"][6]["id"][:12]
        )["href"]
    )
    assert [tag.get_text() for tag in newest.select("pre.diff del")] == ['-  "n": 2', '-  "title": "<B>"']
    past = desk.ask("GET", "/collections/talks/document?document_id=a/1&limit=2").json
    assert [one["version"]["name"] for one in past["versions"]] == ["main:7", "main:1"]
    assert past["next"] == "2"


@pytest.mark.parametrize(
    "path",
    [
        "/history?collection=nope",
        "/history/document?collection=talks&document=nope",
        "/history/document",
        "/history/version/zz?collection=talks",
        f"/history/version/{'0' * 64}?collection=talks",
        f"/history/version/{'0' * 64}",
    ],
)
def test_what_is_not_there_is_not_found(ada, versions, path):
    assert "Traceback" not in ada.get(path, 404).text


def test_the_api_gives_versions_in_parts(desk, versions):
    first = desk.ask("GET", "/collections/talks/versions?limit=3").json
    rest = desk.ask("GET", f"/collections/talks/versions?limit=3&cursor={first['next']}").json
    names = [one["name"] for one in (*first["versions"], *rest["versions"])]
    assert (sorted(names), rest["next"]) == (["main:0", "main:1", "main:2", "side:0"], None)
    detail = desk.ask("GET", f"/collections/talks/versions/{first['versions'][0]['id']}").json
    assert [one["document_id"] for one in detail["changes"]] == ["b"]
    past = desk.ask("GET", "/collections/talks/document?document_id=b").json
    assert [one["change"] for one in past["versions"]] == ["changed", "created"]
    assert desk.ask("GET", "/collections").json == {"collections": ["talks"]}
