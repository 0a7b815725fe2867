"""A school and its city exchange the history of an application's documents, in processes of their own."""

import json
from contextlib import ExitStack

import pytest
from support.faulty_proxy import FaultyProxy
from support.school_sites import PROFILE, Site
from support.waiting import LONG_S

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCOPE = {
    "id": "history",
    "profile": PROFILE,
    "version": 1,
    "read_write_filter_template": "version:$collection",
}


@pytest.fixture
def sites(tmp_path):
    with ExitStack() as stack:
        made = []
        for name in ("city", "school"):
            site = Site(tmp_path, name)
            stack.callback(site.kill)
            site.livesync("install", "--site", name)
            made.append(site)
        city, school = made
        (tmp_path / "scopes.json").write_text(json.dumps(SCOPE))
        city.livesync("peer", "init", "--root", PROFILE)
        city.livesync("peer", "scope", "add", str(tmp_path / "scopes.json"))
        school.livesync("peer", "init")
        there, back = str(tmp_path / "request.json"), str(tmp_path / "chain.json")
        school.livesync(
            *("peer", "cert", "request", "--profile", PROFILE, "--scope", "history"),
            *("-p", "collection=documents", "--to", there),
        )
        city.livesync("peer", "cert", "sign", there, "--to", back)
        school.livesync("peer", "cert", "import", back, "--trust-root")
        yield city, school


def log(site):
    return [one["id"] for one in site.json("version", "log")["versions"]]


def test_versions_of_an_applications_documents_go_there_and_back(sites, tmp_path):
    city, school = sites
    school.edit([("a", "F1", "algebra"), ("b", "F1", "botany")])
    school.livesync("version", "init", "-m", "as it began")
    school.edit([("a", "F1", "algebra II")])
    school.livesync("version", "register", "-m", "harder")
    url = city.serve()
    proxy = FaultyProxy(city.port, 1, share=0)
    try:
        school.livesync("peer", "add", "city", proxy.url, "--profile", PROFILE, "--insecure-http")
        proxy.hold_at("POST", "/historychunks", 1)
        pushing = school.start("version", "push", "city")
        assert proxy.is_holding.wait(LONG_S)
        city.kill()
        city.serve()
        proxy.upstream = city.port
        proxy.go_on()
        out, err = pushing.communicate(timeout=LONG_S)
        assert (pushing.returncode, out) == (0, "To city\n * [new branch]     main\n"), err
    finally:
        proxy.close()
    city.stop()

    assert log(city) == log(school)
    assert city.records() == school.records() == {"a": ("F1", "algebra II"), "b": ("F1", "botany")}
    city.edit([("b", "F1", "biology"), ("c", "F1", "chemistry")])
    city.livesync("version", "register", "-m", "from the city")
    url = city.serve()
    school.livesync("peer", "remove", "city")
    out = school.livesync("version", "pull", url, "--insecure-http")
    assert out.startswith(f"From {url}\n")
    city.stop()
    assert log(city) == log(school)
    assert school.records() == city.records()
    for site in sites:
        assert "nothing is wrong" in site.livesync("version", "fsck")
        assert "nothing has changed" in site.livesync("version", "status")
